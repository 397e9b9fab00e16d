"""Configuration files: TOML, read in one way and with one set of complaints."""

from __future__ import annotations

from typing import Any

from img_core.spec.errors import UsageError

__all__ = ["read_toml"]


def read_toml(path: str, *, skip_unreadable: bool = False) -> dict[str, Any]:  # Any: TOML
    """Return the document at *path*, empty if there is no such file. Raises UsageError that names the file and the place.

    With *skip_unreadable* a file that this user may not read is one that is not there: other programs' files may be so.
    """
    try:
        with open(path, "rb") as file:  # pathlib costs 10 ms at start-up
            import tomllib

            return tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as err:
        if skip_unreadable and isinstance(err, PermissionError):
            return {}
        raise UsageError(f"cannot read configuration file {path}: {err.strerror}") from err
    except ValueError as err:  # TOMLDecodeError and UnicodeDecodeError
        raise UsageError(f"configuration file {path} is not valid TOML: {err}") from err
