"""The core of img: contracts, plugin loading, solver, store and the bricks they share."""

__version__ = "0.1.0"
