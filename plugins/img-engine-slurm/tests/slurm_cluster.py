"""A Slurm cluster of two nodes on this machine, of processes of this user, with ``auth/none``."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from harness.ports import free_ports

__all__ = ["SlurmCluster", "program"]

_CONFIGURATION = """\
ClusterName=img
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={control}
SrunPortRange=0-0
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
ReturnToService=2
KillWait=2
SlurmdParameters=config_overrides
{plugins}
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 Features=linux-amd64 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1 Features=linux-arm64 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def program(*names: str) -> str:
    """Return the path of the first of the programs *names* that is installed; empty: none is."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return next((found for name in names if (found := shutil.which(name, path=path))), "")


class SlurmCluster:
    """Runs until `close`. *environment* has to be that of whoever uses it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "state").mkdir()
        import pwd

        user = pwd.getpwuid(os.getuid()).pw_name
        host = socket.gethostname().partition(".")[0]
        control, first, second = free_ports(3)
        extra = os.environ.get("SLURM_PLUGIN_DIR", "")
        text = _CONFIGURATION.format(
            host=host, user=user, directory=directory, control=control, first=first, second=second,
            plugins=f"PluginDir={extra}" if extra else "",
        )  # fmt: skip
        (directory / "slurm.conf").write_text(text)
        self.environment = {"SLURM_CONF": str(directory / "slurm.conf")}
        stepd = program("slurmstepd-wlm", "slurmstepd")
        step = ("-d", stepd) if stepd else ()
        self._processes = [self._start(program("slurmctld", "slurmctld-wlm"), "-D")]
        slurmd = program("slurmd", "slurmd-wlm")
        self._processes += [self._start(slurmd, "-D", *step, "-N", name) for name in ("one", "two")]
        self._wait()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._directory / "output.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + 90
        while self._idle() < 2:
            assert time.monotonic() < deadline, f"the nodes of Slurm do not come up: {self.log()}"
            time.sleep(0.1)

    def _idle(self) -> int:
        done = subprocess.run(
            [program("sinfo"), "--noheader", "--Node", "--responding", "--format=%N %t"], capture_output=True, text=True,
            env={**os.environ, **self.environment}, check=False, timeout=60,
        )  # fmt: skip
        return sum(line.split()[-1] == "idle" for line in done.stdout.splitlines())

    def log(self) -> str:
        """Return what the daemons said."""
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self._directory.glob("*.log")))

    def close(self) -> None:
        """End the daemons."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
