"""Bricks for credential stores: files in Docker's format, helper programs, and what servers are called in them."""

from __future__ import annotations

from img_lib_credentials._file import AuthFile, load_object
from img_lib_credentials._helper import Helper
from img_lib_credentials._keys import hub_name_key, hub_url_key, keys_of, server_of

__all__ = ["AuthFile", "Helper", "hub_name_key", "hub_url_key", "keys_of", "load_object", "server_of"]
__version__ = "1.0"
