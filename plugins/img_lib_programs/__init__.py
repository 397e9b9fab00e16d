"""What makes plugins of programs in any language: each kind's driver, and a listener, that ask a program."""

__all__ = ["drivers"]
__version__ = "1.0"
