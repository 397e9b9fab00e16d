"""What plugins that show progress share: texts that are safe on a terminal, a writer that never fails, and what is known of each step."""

__all__ = ["steps", "text", "writer"]
__version__ = "1.0"
