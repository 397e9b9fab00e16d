"""``python -m img_core`` is ``img``."""

from img_core.cli import main

main()
