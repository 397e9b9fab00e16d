"""``--progress=tty``: a block of lines that is redrawn while the build goes on."""
