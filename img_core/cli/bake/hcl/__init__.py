"""HashiCorp's configuration language, as files of bake are written in it: blocks of attributes, and the values of expressions.

What the language has and this does not know is refused in one line that names it and its place.
"""

from __future__ import annotations

from img_core.cli.bake.hcl._functions import FUNCTIONS
from img_core.cli.bake.hcl._json import read_json
from img_core.cli.bake.hcl._parser import read_hcl
from img_core.cli.bake.hcl._values import Block, Expression, HclError, Names, as_boolean, as_number, as_text, kind_of

__all__ = [
    "FUNCTIONS",
    "Block",
    "Expression",
    "HclError",
    "Names",
    "as_boolean",
    "as_number",
    "as_text",
    "kind_of",
    "read_hcl",
    "read_json",
]
