"""RUN: from a planned process to an executor's call."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from img_core.files import fs, ownership, passwd
from img_core.files.ownership import Owners
from img_core.linux.network.names import hosts_file, resolver_file
from img_core.linux.pipes import captured
from img_core.linux.spans import span
from img_core.solver.keys import digest_of
from img_core.solver.mounts import RunMounts
from img_core.solver.secrets import Secrets
from img_core.spec.errors import Canceled, HostError, ImgError, StepError
from img_core.spec.executor import Mount, Process, StepIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.files.passwd import RunUser
    from img_core.linux.cgroups.groups import StepGroups
    from img_core.linux.network.private import PrivateNetwork
    from img_core.solver.failure import StepFailure
    from img_core.solver.scope import BuildScope
    from img_core.solver.trees import Trees
    from img_core.solver.work import StepPlace, Task
    from img_core.spec.executor import Executor, ExitStatus
    from img_core.spec.graph import RunOp
    from img_core.spec.snapshotter import Rootfs

__all__ = ["Runner", "last_of_each"]

DEFAULT_SHM_SIZE = 64 * 1024 * 1024


class Runner:
    """Runs the RUN steps of one build. The executor is asked for when the first step really runs."""

    def __init__(self, scope: BuildScope, trees: Trees) -> None:
        self._scope = scope
        self._host = scope.host
        drivers = scope.drivers
        mounts = scope.host.mapping not in ("container", "fake")
        self._secrets = Secrets(
            scope.host.run_directory, drivers.secrets, drivers.agents, mounts=mounts, owners=Owners(scope.host.mapping)
        )
        self._mounts = RunMounts(scope, trees, self._secrets)
        self._name_files_lock = threading.Lock()  #: guards the making of files that steps share

    @property
    def cache_mounts(self) -> Mapping[str, str]:
        """The cache mounts that steps may have changed, see `CacheMounts.used`."""
        return self._mounts.caches.used

    def close(self) -> None:
        """Forget the secrets."""
        self._secrets.close()

    def run(self, task: Task[RunOp], place: StepPlace) -> None:
        """Run the process of *task* in *place*. Raises StepError if it fails."""
        with self._prepared(task, place.rootfs) as (process, group):
            status = self._captured(process, place.rootfs, task.vertex.digest)
            failure = _failure(task.op, status, killed=group is not None and group.was_killed())
            if failure is not None and self._scope.drivers.on_failure is not None:
                self._scope.drivers.on_failure(self._entrance(task, process, place.rootfs, failure))
        if self._scope.records_owners:
            with suppress(*(() if failure is None else (ImgError, OSError))):
                self._record_owners(status, place, process.uid, process.gid)
        if failure is not None:
            raise failure

    def enter(self, task: Task[RunOp], rootfs: Rootfs, message: str, use: Callable[[StepFailure], None]) -> None:
        """Prepare *rootfs* for *task*, which failed earlier for the reason *message*, and let *use* enter it."""
        with self._prepared(task, rootfs) as (process, _group):
            use(self._entrance(task, process, rootfs, StepError(message)))

    def _entrance(self, task: Task[RunOp], process: Process, rootfs: Rootfs, error: StepError) -> StepFailure:
        from img_core.solver.failure import StepFailure, shell_of

        def enter(args: Sequence[str], io: StepIO) -> int:
            entered = replace(process, args=tuple(args))
            return self._execute(entered, rootfs, replace(io, cancel_fd=self._scope.cancellation.fd)).code

        return StepFailure(task.vertex.digest, task.vertex.name, error.message, shell_of(task.op.args), enter)

    def _captured(self, process: Process, rootfs: Rootfs, step: str) -> ExitStatus:
        with captured(partial(self._scope.events.log, step)) as (out, err), span("step", "execute"):
            step_io = StepIO(out, err, self._scope.cancellation.fd)
            return self._execute(process, rootfs, step_io)

    def _execute(self, process: Process, rootfs: Rootfs, step_io: StepIO) -> ExitStatus:
        executor = self._scope.drivers.executor()
        _check_options(process, executor)
        status = executor.run(process, rootfs, step_io)
        if status.canceled:
            raise Canceled(signum=self._scope.cancellation.signum)
        return status

    @contextmanager
    def _prepared(self, task: Task[RunOp], rootfs: Rootfs) -> Iterator[tuple[Process, StepGroups | None]]:
        """Give the process of *task* as the executor gets it, and its control groups; in the block all that it needs is there."""
        vertex, op, events = task.vertex, task.op, self._scope.events
        user = passwd.resolve_run_user(rootfs.fd, op.user)
        self._ensure_directory(rootfs.fd, op.cwd, user)
        executor, check = self._scope.drivers.executor(), self._scope.cancellation.check
        with ExitStack() as opened:
            if executor.alone:  # from before what a step locks, for whoever waits for that is not done before
                opened.enter_context(self._scope.company.alone(check))
                opened.enter_context(executor.turn(check))
            mode, private = self._network_of(op, opened)
            group = self._group(opened)
            process = Process(
                args=op.args,
                env=_environment(op, user.home, dict(self._mounts.environment(op))),
                cwd=op.cwd,
                uid=user.uid,
                gid=user.gid,
                groups=user.groups,
                hostname=op.hostname,
                network=mode,
                network_fd=private.namespace_fd if private else -1,
                cgroup_fds=group.procs_fds if group else (),
                security=op.security,
                mounts=last_of_each(
                    *self._name_files(opened, op, private),
                    *self._mounts.open(
                        opened,
                        op,
                        task.inputs,
                        use_cache=vertex.use_cache,
                        note=lambda text: events.status(vertex.digest, text),
                    ),
                ),
                shm_size=op.shm_size or DEFAULT_SHM_SIZE,
                ulimits=op.ulimits,
                options=op.options,
            )
            yield process, group

    def _ensure_directory(self, root_fd: int, path: str, user: RunUser) -> None:
        """Make the working directory for *user* if the image names one that it does not have, as BuildKit does."""
        if path.startswith(("/proc/", "/sys/", "/dev/")):
            return  # the executor mounts something there
        # With a single id the owner of what the step makes is recorded afterwards.
        owner = (-1, -1) if self._scope.records_owners else (user.uid, user.gid)
        os.close(fs.make_directories(root_fd, path.encode("utf-8", "surrogateescape"), 0o755, *owner))

    def _record_owners(self, status: ExitStatus, place: StepPlace, uid: int, gid: int) -> None:
        if not status.owners and not uid and not gid:
            return
        changes = self._scope.drivers.snapshotter.changes(place.directory, place.parents)
        try:
            recorded = ownership.resolve(status.owners, changes, place.rootfs.fd)
            if self._host.mapping == "single":  # else the executor has noted who made what
                with self._parent_view(place) as parent_fd:
                    recorded = {**ownership.default_owner(changes, parent_fd, uid, gid), **recorded}
        finally:
            changes.close()
        self._scope.drivers.snapshotter.record_owners(place.directory, recorded)

    @contextmanager
    def _parent_view(self, place: StepPlace) -> Iterator[int | None]:
        if not place.parents:
            yield None
            return
        view = self._scope.drivers.snapshotter.view(place.parents)
        try:
            yield view.fd
        finally:
            view.close()

    # ------------------------------------------------------------------------------------------------------ network

    def _network_of(self, op: RunOp, opened: ExitStack) -> tuple[str, PrivateNetwork | None]:
        """Return what the executor is to be told, and the step's own network if it has one; that ends with *opened*."""
        if op.network in ("none", "host") or (op.network == "default" and not self._shielded):
            return ("none" if op.network == "none" else "host"), None
        from img_core.linux.network.private import private_network

        if self._host.spawner is None:
            raise HostError("this command cannot start processes")
        network = private_network(
            self._scope.drivers.network, self._host.spawner, self._host.environment, self._scope.cancellation.fd
        )
        try:
            return "private", opened.enter_context(network)
        except Canceled:
            raise Canceled(signum=self._scope.cancellation.signum) from None
        except HostError:
            if op.network != "default":
                raise
            self._shielded = (
                False  # nobody asked for it, and the host's network works; `img doctor` tells what that means
            )
            return "host", None

    @cached_property
    def _shielded(self) -> bool:
        """Whether steps that name no network get one of their own: on the host's they would reach its abstract sockets."""
        from img_core.linux.network.private import shields_default

        return shields_default(self._host.environment)

    def _group(self, opened: ExitStack) -> StepGroups | None:
        """Return the control groups of the step, if its use of the machine is limited; they end with *opened*."""
        if not self._scope.drivers.limits:
            return None
        from img_core.linux.cgroups.groups import limited_group

        return opened.enter_context(limited_group(self._scope.drivers.limits))

    def _name_files(self, opened: ExitStack, op: RunOp, private: PrivateNetwork | None) -> Iterator[Mount]:
        others = zip(op.extra_hosts, op.extra_host_addresses, strict=True)
        hosts = hosts_file(op.hostname, others, gateway=private.gateway if private else "127.0.0.1")
        resolver = resolver_file(private.name_server if private else "")
        yield Mount("/etc/hosts", source_fd=self._file(opened, "hosts", hosts))
        yield Mount("/etc/resolv.conf", source_fd=self._file(opened, "resolv.conf", resolver))

    def _file(self, opened: ExitStack, name: str, content: bytes) -> int:
        """Return a descriptor of a file with *content*, shared by the steps of this build that want the same."""
        path = os.path.join(self._host.run_directory, f"{name}-{digest_of(content.hex())[:16]}")
        with self._name_files_lock:  # the kernel mounts no file that another step has replaced meanwhile
            if not os.path.exists(path):
                fs.replace_file(path, content, 0o644)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        return descriptor


def _check_options(process: Process, executor: Executor) -> None:
    """Raise StepError for an option that *executor* would leave out: what somebody asks for is done, or refused."""
    for name, _ in (*process.options, *(option for mount in process.mounts for option in mount.options)):
        if name not in executor.understands:
            raise StepError(f"the executor `{executor.name}` does not know the option `{fs.show(name)}` of this step")


def _failure(op: RunOp, status: ExitStatus, *, killed: bool) -> StepError | None:
    """Return the error of a process that did not end well; *killed* tells that the kernel ended it for want of memory."""
    if not status.code:
        return None
    shown = fs.show(" ".join(op.args))
    return StepError(
        f'process "{shown}" did not complete successfully: exit code: {status.code}',
        status=status.code,
        hint="the kernel killed it for want of memory; give it more with `--memory`" if killed else None,
    )


def _environment(op: RunOp, home: str, secrets: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    values = {**dict(op.env), **dict(op.proxy_env), **secrets}
    return tuple({**values, "HOME": values.get("HOME") or home}.items())


def last_of_each(*mounts: Mount) -> tuple[Mount, ...]:
    """Return *mounts* without those that another one at the same place replaces, as BuildKit does."""
    return tuple({mount.target: mount for mount in mounts}.values())
