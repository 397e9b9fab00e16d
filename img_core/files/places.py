"""Where files of a user belong, by the XDG Base Directory Specification. Cheap to import: every command does."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["base_directory"]


def base_directory(environment: Mapping[str, str], variable: str, otherwise: str) -> str:
    """Return the directory that *variable* (``XDG_CONFIG_HOME``) names, else *otherwise* (``.config``) in the home directory.

    Relative values are ignored, as the specification demands. The home is HOME, else that of the password database, else a directory of
    our own below /tmp.
    """
    value = environment.get(variable, "")
    return value if os.path.isabs(value) else os.path.join(_home(environment), otherwise)


def _home(environment: Mapping[str, str]) -> str:
    home = environment.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        # A fixed name such as /tmp/img could be prepared by somebody else on a shared machine.
        return f"/tmp/img-{os.getuid()}"  # noqa: S108
