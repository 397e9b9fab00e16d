"""The builder's side: prepare the tree, have the zygote start the step, see to it that everything is back afterwards."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from img_core.files import fs, rootlock
from img_core.files.locks import UNDO
from img_core.linux.parallel import once
from img_core.spec.errors import Canceled, HostError, StepError, Unsupported
from img_core.spec.executor import ExitStatus, Process, StepIO
from img_executor_swap import _probe
from img_executor_swap._fake import read_log
from img_executor_swap._place import HOME, SYSTEM, RootPlace, turn
from img_executor_swap._quiet import Quiet
from img_lib_containers import seccomp
from img_lib_containers.containers import (
    check_target,
    check_without_namespaces,
    mounted_sockets,
    own,
    parents_first,
    request_of,
    standard_input,
    wait_or_kill,
)
from img_lib_containers.covers import Covers, check_canceled
from img_lib_containers.spawning import SpawningExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from img_core.spec.host import Host, Spawner
    from img_core.spec.snapshotter import Rootfs

__all__ = ["SwapExecutor"]

_quiet: Final = once(Quiet)
_ENTRY: Final = "img_executor_swap._step:main"
_DEVICES: Final = "/dev/"
_KILLED: Final = 128 + 9
_LONGEST_WAIT: Final = 600  # seconds
_PAUSE: Final = 0.05  # seconds between two looks whether a step that waits for its turn is canceled


class SwapExecutor(SpawningExecutor):
    """Runs a step with its tree in the place of the container's own root directory, one step at a time."""

    name = "swap"
    refuse = staticmethod(check_without_namespaces)
    alone: ClassVar[bool] = True
    lends: ClassVar[bool] = True
    schema: ClassVar[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

    @classmethod
    def probe(cls, host: Host) -> None:
        """Need the root of a container, all of img below `/.img`, and a root directory in which names can be moved, or below which."""
        if host.mapping not in ("container", "fake"):
            raise Unsupported("`swap` is for the root of a container that can make no namespace")
        if host.mapping == "fake" and seccomp.fake_root_program() is None:
            raise Unsupported("`swap` has no filter for who has no capabilities, on this architecture")
        if reason := _probe.reason_against(host.state_directory, host.run_directory):
            raise Unsupported(f"`swap` {reason}")

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(host, options)
        self._turn = threading.Lock()  #: guards the note and the root directory, which serve one step at a time
        self._is_given = False  #: whoever runs steps has taken the turn for them

    def run_step(self, spawner: Spawner, process: Process, rootfs: Rootfs, io: StepIO, stack: ExitStack) -> ExitStatus:
        """Run *process* with its tree in the place of `/`."""
        if not self._is_given:
            try:
                stack.enter_context(self._own_turn(partial(check_canceled, io.cancel_fd)))
            except Canceled:
                return ExitStatus(_KILLED, canceled=True)
        covers = stack.enter_context(
            Covers(
                rootfs.fd,
                self.host.run_directory,
                hands_out=False,
                cancel_fd=io.cancel_fd,
                keeper=spawner.pid,
            )
        )
        devices = None
        for mount in parents_first(process.mounts):
            _check_target(mount.target)
            if not mount.target.startswith(_DEVICES):
                covers.put(mount)
                continue
            if mount.target == process.args[0] and not os.access(_DEVICES, os.W_OK):
                program = _elsewhere(stack, mount.source_fd, self.host.run_directory)
                process = replace(process, args=(program, *process.args[1:]))
                continue
            devices = devices or _covers_of_devices(stack)
            devices.put(replace(mount, target=mount.target.removeprefix(_DEVICES)))
        log = own(stack, os.memfd_create("img-owners"))
        code, canceled = self._run(spawner, process, rootfs.fd, io, log)
        return ExitStatus(code, canceled, read_log(log))

    @contextmanager
    def turn(self, check: Callable[[], None]) -> Iterator[None]:
        """Wait until no other command looks at the root directory, and keep those that come waiting."""
        with self._own_turn(check):
            self._is_given = True
            try:
                yield
            finally:
                self._is_given = False

    @contextmanager
    def _own_turn(self, check: Callable[[], None]) -> Iterator[None]:
        """Wait for other steps of this build, too; *check* raises to give up."""
        while not self._turn.acquire(timeout=_PAUSE):
            check()
        try:
            with rootlock.alone(_patience(check)):
                yield
        finally:
            self._turn.release()

    def _run(self, spawner: Spawner, process: Process, root: int, io: StepIO, log: int) -> tuple[int, bool]:
        tree, note = os.readlink(f"/proc/self/fd/{root}"), os.path.join(self.host.run_directory, UNDO)
        place = RootPlace(tree, note, below=_probe.is_below())
        with ExitStack() as stack:
            stdio = [standard_input(stack, io), io.stdout, io.stderr]
            payload = {**_payload(process, place), "terminal": io.terminal, "fake": self.host.mapping == "fake"}
            stack.enter_context(_quiet().during())
            stack.callback(_bring_back, place)  # if the process that does it was killed
            spawned = spawner.spawn(_ENTRY, payload, fds=[log, *stdio, *process.cgroup_fds])
            stack.callback(spawned.close)
            code, canceled = wait_or_kill(spawned, io.cancel_fd)
            if spawned.error and not canceled:
                raise HostError(f"cannot run the step: {spawned.error}")
            return code, canceled


def _patience(check: Callable[[], None]) -> Callable[[], bool]:
    """Return what calls *check* for a step that waits for other commands, and raises HostError when they take too long."""
    end = time.monotonic() + _LONGEST_WAIT

    def wait() -> bool:
        if time.monotonic() > end:
            minutes = _LONGEST_WAIT // 60
            raise HostError(
                f"another command of img has run in this container for {minutes} minutes, and a step needs `/` alone",
                hint="end that command, or let it run in a container of its own",
            )
        check()
        return False

    return wait


def _bring_back(place: RootPlace) -> None:
    if os.path.exists(place.note):
        with turn(place.root):
            place.leave()


def _check_target(target: str) -> None:
    check_target(target)
    if os.path.normpath(target).split("/")[1] not in (*SYSTEM, HOME):
        return
    if target.startswith(_DEVICES) and (not os.path.lexists(target) or stat.S_ISREG(os.lstat(target).st_mode)):
        return  # such as the program of a here-document
    raise StepError(
        f"cannot mount at `{target}`: the executor `swap` leaves `/proc`, `/sys` and what is in `/dev` to the container"
    )


def _elsewhere(stack: ExitStack, source_fd: int, directory: str) -> str:
    """Return a place below `HOME` for the program of a here-document, which has none in a /dev that is another user's."""
    path = os.path.join(directory, f"program-{os.urandom(8).hex()}")
    with open(f"/proc/self/fd/{source_fd}", "rb") as source:
        fs.replace_file(path, source.read(), 0o755)
    stack.callback(fs.unlink, path)
    return path


def _covers_of_devices(stack: ExitStack) -> Covers:
    """Return the places in the container's own /dev, which stays where it is, until *stack* ends."""
    directory = os.open(_DEVICES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, directory)
    try:
        aside = tempfile.mkdtemp(prefix=".img-", dir=_DEVICES)
    except PermissionError as err:
        raise StepError("cannot mount in `/dev`: it is the container's, where this user may not write") from err
    stack.callback(fs.remove_tree, aside)
    return stack.enter_context(Covers(directory, aside, hands_out=False))


def _payload(process: Process, place: RootPlace) -> dict[str, Any]:  # Any: JSON
    return {
        **request_of(process),
        "single": False,
        "tree": place.tree,
        "note": place.note,
        "below": place.below,
        "sockets": mounted_sockets(process.mounts),
    }
