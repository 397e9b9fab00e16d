"""``python -m img_core`` is ``img``, by the interpreter and with the environment that the caller chose."""

from img_core.cli import main

main(isolated=False)
