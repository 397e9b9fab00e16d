"""What cache backends share: the document that holds records, how those of several writers become one, signatures."""

__all__ = ["backend", "document", "envelope", "objects", "options", "places", "saving", "segments", "signing", "union"]
__version__ = "1.2"
