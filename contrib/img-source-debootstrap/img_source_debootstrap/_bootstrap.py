"""Make the root file system by mmdebstrap, as one archive that is the same whenever the mirror is."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.linux.programs import Programs
from img_core.spec import HostError, IntegrityError

from img_source_debootstrap._address import Address, architecture

if TYPE_CHECKING:
    from img_core.spec import Platform
    from img_core.spec.source import SourceContext

    from img_source_debootstrap._release import Release

__all__ = ["bootstrap", "command_line"]

_PROGRAM = "mmdebstrap"
_MARK = "img-release"
#: What it may know of the builder's environment: the way to the network.
_PASSED_ON = (
    "PATH",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)


def command_line(address: Address, platform: Platform, mapping: str) -> list[str]:
    """Return the command that writes the archive to its standard output, and which document it used to its standard error."""
    # Our process is root of a user namespace, so it may do what root does; with one id there is none to give files to but by pretending.
    mode = {"full": "root", "root": "root", "container": "root", "single": "fakechroot"}.get(mapping, "auto")
    options = [
        *([f"signed-by={address.keyring}"] if address.keyring else []),
        *(["trusted=yes"] if address.unsigned else []),
    ]
    # Packages of `file:` would be used where they are, which no program in the new root can do.
    mirror = address.mirror.replace("file:", "copy:", 1) if address.mirror.startswith("file:") else address.mirror
    line = " ".join(
        filter(None, ["deb", f"[{' '.join(options)}]" if options else "", mirror, address.suite, *address.components])
    )
    # mmdebstrap removes the lists in the end; what apt used, and checked the signature of, has to be what the base is named by.
    check = f'echo "{_MARK} $(cat "$1"/var/lib/apt/lists/*Release | sha256sum)" >&2'
    return [
        _PROGRAM, "--quiet", f"--mode={mode}", f"--variant={address.variant}", f"--architectures={architecture(platform)}",
        f"--components={','.join(address.components)}", *([f"--include={','.join(address.include)}"] if address.include else []),
        *([f"--keyring={address.keyring}"] if address.keyring else []), "--format=tar", "--skip=output/dev",
        # Its own user could not reach our directory, which is private; "root" is nobody special here.
        '--aptopt=APT::Sandbox::User "root"',
        f"--extract-hook={check}", address.suite, "-", line,
    ]  # fmt: skip


def bootstrap(address: Address, platform: Platform, release: Release, context: SourceContext, path: str) -> None:
    """Write the archive to the file *path*. Raises HostError without mmdebstrap, ImgError with what it says, IntegrityError, Canceled."""
    given = context.host.environment
    environment = {name: given[name] for name in _PASSED_ON if name in given}
    environment.setdefault("PATH", os.defpath)
    # It has to find the programs of administrators, too: ldconfig, start-stop-daemon.
    environment["PATH"] += ":/usr/sbin:/sbin"
    environment |= {"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(release.date)}
    if context.host.mapping != "none":  # else it makes a namespace, whose root cannot reach what is private
        environment["TMPDIR"] = os.path.dirname(path)
    programs = Programs(context.host, context.cancel_fd, together=True)
    with fs.disk_errors(path), open(path, "wb") as file:
        done = programs.start(
            command_line(address, platform, context.host.mapping),
            environment=environment, directory="/", output=file.fileno(),
        )  # fmt: skip
        with done:
            finished = done.wait(context.check)
    try:
        finished.check()
    except HostError as err:
        raise HostError(err.message, hint="`sudo apt-get install mmdebstrap`") from None
    used = re.search(rf"^{_MARK} ([0-9a-f]{{64}})".encode(), finished.errors, re.MULTILINE)
    digest = used[1].decode() if used else ""
    if digest != release.digest:
        raise IntegrityError(f"`{address.release}` changed while the base was made", hint="try again")
