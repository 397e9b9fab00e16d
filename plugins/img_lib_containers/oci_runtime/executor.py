"""The builder's side: write the bundle, have the runtime started under supervision, translate what it says."""

from __future__ import annotations

import json
import os
import tempfile
from abc import abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from img_core.files import fs
from img_core.linux import mounts, syscalls
from img_core.linux.binfmt import is_native_32_bits
from img_core.spec.errors import HostError, Unsupported
from img_core.spec.executor import ExitStatus, Process, StepIO
from img_lib_containers.containers import (
    APT_CONFIG,
    APT_CONFIG_PATH,
    own,
    parents_first,
    prepared_mounts,
    root_mount,
    standard_input,
    wait_or_kill,
)
from img_lib_containers.oci_runtime._config import BoundMount, Surroundings, runtime_config
from img_lib_containers.owner_supervisor import OwnerSupervisor
from img_lib_containers.socket_supervisor import SocketSupervisor
from img_lib_containers.spawning import SpawningExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Host, Spawner
    from img_core.spec.snapshotter import Rootfs

_ENTRY: Final = "img_lib_containers.oci_runtime._supervisor:main"
_PROBE: Final = "img_lib_containers.oci_runtime._supervisor:probe"
_PRIVATE: Final = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP

_NOT_FOUND: Final = 127
_CANNOT_EXECUTE: Final = 126


class OciRuntimeExecutor(SpawningExecutor):
    """Runs steps with an OCI runtime; a subclass says with which one."""

    @classmethod
    @abstractmethod
    def find_runtime(cls, host: Host, options: Mapping[str, Any]) -> str:
        """Return the path of the runtime; raise `Unsupported` with the reason if there is none to be used."""

    @classmethod
    def probe(cls, host: Host, options: Mapping[str, Any] | None = None) -> None:
        """Need the program, and the right to mount a fresh /proc (a container with a masked one has not)."""
        if host.mapping == "none":
            raise Unsupported(f"`{cls.name}` needs to run inside a user namespace (or as root)")
        if host.mapping in ("container", "fake"):
            raise Unsupported(f"`{cls.name}` needs namespaces of its own, which this container may not make")
        cls.find_runtime(host, options or {})
        if host.spawner is None:
            return
        spawned = host.spawner.spawn(_PROBE, {}, flags=_PRIVATE)
        try:
            if spawned.wait() != 0:
                raise Unsupported(
                    f"`{cls.name}` needs a fresh /proc, which this container (masked /proc) may not mount"
                )
        finally:
            spawned.close()

    def run_step(self, spawner: Spawner, process: Process, rootfs: Rootfs, io: StepIO, stack: ExitStack) -> ExitStatus:
        """Run *process* with the runtime."""
        runtime = self.find_runtime(self.host, self.options)
        bundle = _Bundle.make(self.host.run_directory, stack)
        ordered = parents_first(process.mounts)
        detached = [*stack.enter_context(prepared_mounts(rootfs.fd, ordered))]
        targets = [mount.target for mount in ordered]
        readonly = [mount.readonly and mount.kind == "bind" for mount in ordered]
        apt_config = ""
        if self.host.mapping == "single" and _wants_apt_config(process, rootfs):
            apt_config = APT_CONFIG_PATH
            detached.append(own(stack, bundle.apt_config()))
            targets.append(apt_config)
            readonly.append(True)
        sources = [f"{bundle.stage}/{number}" for number in range(len(targets))]
        around = Surroundings(
            root=bundle.root,
            system=bundle.system,
            mounts=[BoundMount(*place) for place in zip(sources, targets, readonly, strict=True)],
            single=self.host.mapping == "single",
            # Without control groups, and crun takes nodev from the root file system; in a user namespace the kernel keeps it.
            devices_open=self.host.mapping == "root" and _is_crun(runtime),
            with_32_bits=is_native_32_bits(rootfs.fd, process),
            apt_config=apt_config,
            terminal=os.get_terminal_size(io.stdin) if io.terminal else None,
        )
        bundle.write("config.json", json.dumps(runtime_config(process, around)).encode())
        return self._run(spawner, runtime, process, rootfs, io, bundle, sources, detached, stack)

    def _run(
        self,
        spawner: Spawner,
        runtime: str,
        process: Process,
        rootfs: Rootfs,
        io: StepIO,
        bundle: _Bundle,
        sources: Sequence[str],
        detached: Sequence[int],
        stack: ExitStack,
    ) -> ExitStatus:
        owners = sockets = None
        if self.host.mapping == "single":
            owners = stack.enter_context(OwnerSupervisor(spawner, rootfs.fd, process))
        elif process.security != "insecure" and is_native_32_bits(
            rootfs.fd, process
        ):  # others may run no such programs
            sockets = stack.enter_context(SocketSupervisor(spawner))
        supervisor = owners or sockets
        request = {
            "command": bundle.command(runtime),
            "makes_groups": self.host.mapping == "root" or not _does_without_groups(runtime),
            "stage": bundle.stage,
            "root": bundle.root,
            "system": bundle.system,
            "sources": sources,
            "cwd": process.cwd,
            "uid": process.uid,
            "gid": process.gid,
            "groups": process.groups,
            "single": self.host.mapping == "single",
            "insecure": process.security == "insecure",
            "network": process.network,
            "watches_sockets": sockets is not None,
            "cgroups": len(process.cgroup_fds),
            "terminal": io.terminal,
        }
        # Anything will do where there is no supervisor: the container closes it unused.
        supervisor_fd = io.stderr if supervisor is None else supervisor.container_fd
        root_fd = own(stack, root_mount(rootfs.fd, process))
        network_fd = process.network_fd if process.network == "private" else io.stderr
        stdio = (standard_input(stack, io), io.stdout, io.stderr)
        fds = [supervisor_fd, network_fd, *stdio, root_fd, *process.cgroup_fds, *detached]
        spawned = spawner.spawn(_ENTRY, request, fds=fds, flags=_PRIVATE)
        stack.callback(spawned.close)
        code, canceled = wait_or_kill(spawned, io.cancel_fd, sockets)
        if spawned.error:
            raise HostError(f"cannot set up the container: {spawned.error}")
        if code and not canceled:
            code = _judge(code, bundle.log(), process.args[0], io.stderr)
        return ExitStatus(code, canceled, owners.finish() if owners else ())


class _Bundle:
    """The directory of one run: configuration, mount points, the runtime's state and log. Removed afterwards."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.stage = f"{path}/stage"  #: where the supervisor attaches everything
        self.root = f"{self.stage}/root"
        self.system = f"{self.stage}/sys"

    @classmethod
    def make(cls, run_directory: str, stack: ExitStack) -> _Bundle:
        path = tempfile.mkdtemp(prefix="runc-", dir=run_directory)
        stack.callback(fs.remove_tree, path)
        bundle = cls(path)
        fs.mkdir(bundle.stage, 0o700)
        return bundle

    def write(self, name: str, content: bytes) -> str:
        path = f"{self._path}/{name}"
        with fs.disk_errors(path), open(path, "xb") as stream:
            stream.write(content)
        return path

    def apt_config(self) -> int:
        """Return a mount of the configuration for apt."""
        return mounts.bind(self.write("apt.conf", APT_CONFIG), attributes=syscalls.MOUNT_ATTR_RDONLY)

    def command(self, runtime: str) -> list[str]:
        """Return the command line that runs the bundle. Its state stays with us; a runtime directory need not exist."""
        options = ["--root", f"{self._path}/state", "--log", f"{self._path}/log", "--log-format", "json"]
        if _is_crun(runtime):
            options += ["--cgroup-manager", "disabled"]
        return [runtime, *options, "run", "--bundle", self._path, os.path.basename(self._path)]

    def log(self) -> list[str]:
        """Return the errors that the runtime has logged."""
        try:
            with open(f"{self._path}/log", "rb") as stream:
                lines = stream.read(1 << 20).splitlines()
        except FileNotFoundError:
            return []
        records = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [str(record.get("msg", "")) for record in records if record.get("level", "error") == "error"]


def _judge(code: int, errors: Sequence[str], program: str, stderr: int) -> int:
    """Tell the failure of *program* from that of the runtime, which has logged something then."""
    if not errors:
        return code
    message = errors[-1]
    code = _code_of(message)
    if program not in message:
        os.write(stderr, f"exec `{program}`: {message}\n".encode(errors="surrogateescape"))
    return code


def _code_of(message: str) -> int:
    original, message = message, message.lower()
    if "exec" in message and ("not found" in message or "no such file" in message):
        return _NOT_FOUND
    if message.startswith("open executable") or "exec format error" in message:
        return _CANNOT_EXECUTE
    if "exec: " in message and ("permission denied" in message or "is a directory" in message):
        return _CANNOT_EXECUTE
    raise HostError(f"the runtime could not start the container: {original}")


def _is_crun(runtime: str) -> bool:
    return _name(runtime).startswith("crun")


def _does_without_groups(runtime: str) -> bool:
    """Tell whether *runtime* is known to go on in a user namespace where it cannot make a control group."""
    return _name(runtime).startswith(("crun", "runc"))


def _name(runtime: str) -> str:
    return os.path.basename(os.path.realpath(runtime))


def _wants_apt_config(process: Process, rootfs: Rootfs) -> bool:
    if any(name == "APT_CONFIG" for name, _ in process.env):
        return False
    try:
        os.close(syscalls.openat2(rootfs.fd, "etc/apt", os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True
