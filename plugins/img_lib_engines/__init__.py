"""What engines share that do parts of builds: which parts there are, who does them, and an engine of processes for tests."""

__all__ = ["cut", "pool", "processes", "ready", "sharing", "version_1"]
__version__ = "1.0"
