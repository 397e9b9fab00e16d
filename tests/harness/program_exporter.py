"""An exporter that leaves all of its work to a program: what it writes is seen by no counter of ours."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from img_core.files.output import check_output
from img_core.linux import syscalls
from img_core.spec.errors import ImgError, UsageError
from img_core.spec.exporter import Exporter, ExportProgress, Result

__all__ = ["ProgramExporter"]


#: of a child process: to be killed when we are
_DIE_WITH_US = partial(syscalls.prctl, syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


class ProgramExporter(Exporter):
    """Calls tar(1)."""

    name = "program"
    needs_layers = False
    schema: ClassVar[Mapping[str, Any] | None] = {
        "type": "object",
        "properties": {
            "dest": {"type": "string", "description": "file"},
            "program": {"type": "string", "description": "what to call"},
        },
        "required": ["dest", "program"],
        "additionalProperties": False,
    }

    def check(self) -> None:
        check_output(self.options["dest"], self.name)

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        if len(result.images) != 1:
            raise UsageError("type=program writes one platform only")
        progress.status("calling a program")
        with result.images[0].tree() as tree:
            self.write(tree.fd, self.options["dest"], progress)
        return {}

    def write(self, root: int, dest: str, progress: ExportProgress) -> None:
        """Write beside *dest* and rename; whatever goes wrong, nothing stays."""
        temporary = os.path.join(os.path.dirname(dest), f".program-{os.getpid()}-{os.urandom(4).hex()}")
        try:
            self.call(root, temporary)
            progress.status("renaming")
            os.rename(temporary, dest)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise

    def call(self, root: int, output: str) -> None:
        words = [
            "--sort=name",
            "--mtime=@0",
            "--numeric-owner",
            "--format=gnu",
            "-cf",
            output,
            "--",
            *sorted(os.listdir(f"/proc/self/fd/{root}")),
        ]
        done = subprocess.run(
            [self.options["program"], *words], stderr=subprocess.PIPE, text=True, errors="replace", check=False,
            cwd=f"/proc/self/fd/{root}", pass_fds=[root], preexec_fn=_DIE_WITH_US, env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode:
            last = " ".join(done.stderr.split()) or f"status {done.returncode}"
            raise ImgError(f"`{self.options['program']}` failed: {last[-200:]}")
