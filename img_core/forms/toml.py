"""Configuration files: TOML, read in one way and with one set of complaints."""

from __future__ import annotations

from typing import Any

from img_core.spec.errors import UsageError

__all__ = ["read_toml"]

_BARE = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
)  #: letters of names without quotes


def read_toml(path: str, *, skip_unreadable: bool = False) -> dict[str, Any]:  # Any: TOML
    """Return the document at *path*, empty if there is no such file. Raises UsageError that names the file and the place.

    With *skip_unreadable* a file that this user may not read is one that is not there: other programs' files may be so.
    """
    try:
        with open(path, "rb") as file:  # pathlib costs 10 ms at start-up
            text = file.read().decode()
        document = _plain(text)
        if document is None:
            import tomllib  # 7 ms

            document = tomllib.loads(text)
        return document
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as err:
        if skip_unreadable and isinstance(err, PermissionError):
            return {}
        raise UsageError(f"cannot read configuration file {path}: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise UsageError(f"configuration file {path} is not valid TOML: it is no text in UTF-8") from err
    except RecursionError as err:
        raise UsageError(f"configuration file {path} is nested too deeply") from err
    except ValueError as err:  # TOMLDecodeError, and numbers that are too long for Python
        raise UsageError(f"configuration file {path} is not valid TOML: {err}") from err


def _plain(text: str) -> dict[str, Any] | None:  # Any: TOML
    """Return the document if it is comments, ``[table]`` and ``"name" = "text"`` only, as podman's lists of aliases; None for any other."""
    document: dict[str, Any] = {}
    table = document
    for line in map(_stripped, text.split("\n")):
        if line is None:
            return None
        if not line or line.startswith("#"):
            continue
        heading = line[1:-1] if line.startswith("[") and line.endswith("]") else ""
        if _is_bare(heading) and heading not in document:
            table = document[heading] = {}
            continue
        name, value = _pair(line)
        if name is None or name in table:
            return None
        table[name] = value
    return document


def _stripped(line: str) -> str | None:
    """Return *line* without space around it, None for what only a parser understands."""
    return line.strip(" \t") if line.isascii() and line.replace("\t", " ").isprintable() and "\\" not in line else None


def _pair(line: str) -> tuple[str | None, str]:
    """Return name and text of ``name = "text"``, the name None if *line* is something else."""
    match line.split('"'):
        case ["", name, between, value, ""] if between.strip(" \t") == "=":
            return name, value
        case [start, value, ""] if start.rstrip(" \t").endswith("="):
            name = start.rstrip(" \t")[:-1].rstrip(" \t")
            return name if _is_bare(name) else None, value
    return None, ""


def _is_bare(name: str) -> bool:
    return bool(name) and _BARE.issuperset(name)
