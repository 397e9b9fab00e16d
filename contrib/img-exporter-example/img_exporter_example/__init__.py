"""An exporter for img that writes the list of files of an image."""
