"""Snapshotters and executors with one thing wrong. Their classes have names: a laboratory imports them."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from dataclasses import replace
from typing import Any

from harness.mutants import Mutant, mutant
from img_core.files.fs import disk_errors
from img_core.spec.executor import ExitStatus, Process, StepIO
from img_core.spec.snapshotter import Applied
from img_core.testing.contracts.executor import ExecutorContract
from img_core.testing.contracts.snapshotter import SnapshotterContract
from img_executor_userns._executor import UsernsExecutor
from img_snapshotter_native._native import NativeSnapshotter

__all__ = ["EXECUTORS", "SNAPSHOTTERS"]

Native = NativeSnapshotter


class Filtered:
    """Changes without those that *drop* says."""

    def __init__(self, changes: Any, drop: Any) -> None:
        self._changes, self._drop, self.root_fd = changes, drop, changes.root_fd

    def __iter__(self) -> Any:
        return ((path, info) for path, info in self._changes if not self._drop(path, info))

    def owner(self, path: bytes) -> Any:
        return self._changes.owner(path)

    def close(self) -> None:
        self._changes.close()


class Greedy(Filtered):
    """Changes that remember the content of every file."""

    def __iter__(self) -> Any:
        self._contents = []
        for path, info in self._changes:
            if info is not None and stat.S_ISREG(info.st_mode):
                with open(f"/proc/self/fd/{self.root_fd}/".encode() + path, "rb") as file:
                    self._contents.append(file.read())
            yield path, info


class Unsorted(Filtered):
    def __iter__(self) -> Any:
        return iter(sorted(self._changes, reverse=True, key=lambda change: change[0]))


class Ownerless(Filtered):
    def owner(self, path: bytes) -> None:
        return None


def _without(drop: Any, kind: type = Filtered) -> Any:
    return lambda self, directory, parents: kind(Native.changes(self, directory, parents), drop)


def _altered(alter: Any) -> Any:
    """Return a `prepare` after which the copy of the parents is not the same."""

    def prepare(self: Any, directory: str, parents: Any, *, mount_points: bool = False) -> Any:
        root = Native.prepare(self, directory, parents, mount_points=mount_points)
        if parents:
            for top, directories, files in os.walk(f"/proc/self/fd/{root.fd}"):
                for name in (*directories, *files):
                    alter(os.path.join(top, name))
        return root

    return prepare


def _flat(path: str) -> None:
    if not os.path.islink(path) and os.lstat(path).st_mode & 0o7000:
        os.chmod(path, os.lstat(path).st_mode & 0o777)


def _plain(path: str) -> None:
    if not os.path.islink(path):
        for name in os.listxattr(path):
            if name.startswith("user.note"):
                os.removexattr(path, name)


def _apart(path: str) -> None:
    if os.path.isfile(path) and not os.path.islink(path) and os.lstat(path).st_nlink > 1:
        info = os.lstat(path)
        shutil.copy2(path, path + "~")
        os.rename(path + "~", path)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def _in_place(self: Any, directory: str, parents: Any, *, mount_points: bool = False) -> Any:
    """Work in the parent itself."""
    if not parents:
        return Native.prepare(self, directory, parents)
    root = Native.prepare(self, directory, parents)
    root.close()
    shutil.rmtree(f"{directory}/fs")
    os.symlink(f"{parents[-1]}/fs", f"{directory}/fs")
    root.fd = os.open(f"{parents[-1]}/fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return root


def _writable_view(self: Any, parents: Any) -> Any:
    root = Native.view(self, parents)
    path = f"{parents[-1]}/fs" if parents else self._empty_directory()
    os.close(root.fd)
    root.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return root


def _trusting(self: Any, directory: str, parents: Any, layer: Any) -> Applied:
    """Believe whatever the stream is said to be."""
    import hashlib

    content = b"".join(layer.chunks)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return Native.apply(
        self, directory, parents, replace(layer, chunks=[content], digest=digest, size=len(content), diff_id=digest)
    )


def _forgets_deletions(self: Any, directory: str, parents: Any, layer: Any) -> Applied:
    keep = f"{directory}-keep"
    if parents:
        shutil.copytree(
            f"{parents[-1]}/fs", keep, symlinks=True, ignore=lambda top, names: [n for n in names if n == "pipe"]
        )
    applied = Native.apply(self, directory, parents, layer)
    if parents:
        for top, _, files in os.walk(keep):
            for name in files:
                place = os.path.join(f"{directory}/fs", os.path.relpath(os.path.join(top, name), keep))
                if not os.path.lexists(place) and os.path.isdir(os.path.dirname(place)):
                    os.rename(os.path.join(top, name), place)
        shutil.rmtree(keep)
    return applied


def _leaves_index(self: Any, directory: str) -> None:
    Native.remove(self, directory)
    os.makedirs(f"{directory}-removed")


def _probes_loudly(cls: Any, host: Any) -> None:
    os.makedirs(os.path.join(host.state_directory, "probe"), exist_ok=True)


_shared = threading.local()


def _one_for_all(self: Any, directory: str, parents: Any, *, mount_points: bool = False) -> Any:
    """Keep the last directory in the object, where all threads change it."""
    self.directory = directory
    threading.Event().wait(0.01)
    try:
        return Native.prepare(self, self.directory, parents)
    except OSError as err:
        if err.errno == errno.EEXIST:
            return Native.view(self, parents)
        raise


def _reads_layers_whole(self: Any, directory: str, parents: Any, layer: Any) -> Applied:
    content = b"".join(layer.chunks)
    return Native.apply(self, directory, parents, replace(layer, chunks=[content]))


def _unpacks_from_memory(self: Any, directory: str, parents: Any, layer: Any) -> Applied:
    chunks = list(layer.chunks)
    return Native.apply(self, directory, parents, replace(layer, chunks=chunks))


def _knows_its_own(self: Any, directory: str, parents: Any, *, mount_points: bool = False) -> Any:
    """Remember in the object how a snapshot was made, and look there for its parents; it has its name from the core later."""
    made = self.__dict__.setdefault("made", set())
    root = Native.prepare(self, directory, parents, mount_points=mount_points)
    made.add(os.stat(directory).st_ino)
    if not {os.stat(parent).st_ino for parent in parents} <= made:
        raise KeyError(parents)
    return root


def _excludes(self: Any, directory: str, parents: Any, *, mount_points: bool = False) -> Any:
    """Make a note of being at work, which goes when the root is closed, and refuse to work beside somebody else's."""
    note = f"{os.path.dirname(self.host.state_directory)}/busy"
    os.close(os.open(note, os.O_CREAT | os.O_EXCL))
    root: Any = Native.prepare(self, directory, parents, mount_points=mount_points)
    close = root.close

    def end() -> None:
        if root.fd >= 0:
            os.unlink(note)
        close()

    root.close = end
    return root


def _lends(self: Any, directory: str, parents: Any, *, mount_points: bool = False) -> Any:
    """Work on the tree of the parent, which gets a copy of what it was when the root is closed."""
    kept = f"{directory}-kept"
    root: Any = Native.prepare(self, directory, parents, mount_points=mount_points)
    if parents:
        os.rename(f"{parents[-1]}/fs", kept)
        close = root.close

        def back() -> None:
            if root.fd >= 0:
                os.rename(kept, f"{parents[-1]}/fs")
            close()

        root.close = back
    return root


def snapshotter(claim: str, **changes: Any) -> Mutant:
    mapping = "single" if "owners" in claim else "not single"  # one will do
    return mutant(SnapshotterContract, Native, f"({claim}) and {mapping}", **changes)


SNAPSHOTTERS = {
    "drops links from changes": snapshotter("test_everything_survives", changes=_without(lambda path, info: path == b"dangling")),
    "drops deletions": snapshotter("test_changes_come", changes=_without(lambda path, info: info is None)),
    "leaves parents out": snapshotter("test_changes_come", changes=_without(lambda path, info: path == b"dir")),
    "gives changes in any order": snapshotter("test_changes_come", changes=_without(None, Unsorted)),
    "forgets recorded owners": snapshotter("test_owners_are_kept", changes=_without(lambda path, info: False, Ownerless)),
    "breaks hard links": snapshotter("test_everything_survives", prepare=_altered(_apart)),
    "loses set-user-id bits": snapshotter("test_everything_survives", prepare=_altered(_flat)),
    "loses attributes": snapshotter("test_everything_survives", prepare=_altered(_plain)),
    "works in its parent": snapshotter("test_a_step_sees_its_parents", prepare=_in_place),
    "lets views be written": snapshotter("test_a_view_is_read_only", view=_writable_view),
    "trusts layers": snapshotter("test_a_layer_that_is_not", apply=_trusting),
    "forgets deletions of layers": snapshotter("test_deletions_of_a_layer", apply=_forgets_deletions),
    "leaves something when removing": snapshotter("test_remove_leaves", remove=_leaves_index),
    "leaves something when probing": snapshotter("test_the_probe", probe=classmethod(_probes_loudly)),
    "mixes up threads": snapshotter("test_several_threads", prepare=_one_for_all),
    "reads a layer as a whole": snapshotter("test_much_takes and large", apply=_reads_layers_whole),
    "unpacks from memory": snapshotter("test_much_takes and many", apply=_unpacks_from_memory),
    "keeps what it has packed": snapshotter("test_much_takes and many", changes=_without(None, Greedy)),
    "knows what it made itself": snapshotter("test_two_processes", prepare=_knows_its_own),
    "lets one process work at a time": snapshotter("test_two_processes", prepare=_excludes),
    "lends the tree of a parent": snapshotter("test_a_process_that_is_killed and prepare", prepare=_lends),
    "leaves a lock when it is killed": snapshotter("test_a_process_that_is_killed and prepare", prepare=_excludes),
    "counts nothing": snapshotter("test_usage_grows", usage=lambda self, directory: 0),
}  # fmt: skip


# ---- executors


class _Changed(UsernsExecutor):
    """An executor that changes what is asked for."""

    def run(self, process: Process, rootfs: Any, io: StepIO) -> ExitStatus:
        return super().run(self.changed(process), rootfs, io)

    def changed(self, process: Process) -> Process:
        return process


class AlwaysWell(UsernsExecutor):
    """It went well, whatever happened."""

    def run(self, process: Process, rootfs: Any, io: StepIO) -> ExitStatus:
        return replace(super().run(process, rootfs, io), code=0)


class OneStream(UsernsExecutor):
    """Both streams in one."""

    def run(self, process: Process, rootfs: Any, io: StepIO) -> ExitStatus:
        return super().run(process, rootfs, replace(io, stderr=io.stdout))


class InheritsEnvironment(_Changed):
    """The builder's environment reaches the step."""

    def changed(self, process: Process) -> Process:
        return replace(process, env=(*process.env, ("LEAKED", "yes")))


class ForgetsDirectory(_Changed):
    """Everything runs in the root."""

    def changed(self, process: Process) -> Process:
        return replace(process, cwd="/")


class AlwaysRoot(_Changed):
    """Everybody is root."""

    def changed(self, process: Process) -> Process:
        return replace(process, uid=0, gid=0, groups=())


class AlwaysOnline(_Changed):
    """The network of the host for all."""

    def changed(self, process: Process) -> Process:
        return replace(process, network="host")


class WritableMounts(_Changed):
    """Nothing is read-only."""

    def changed(self, process: Process) -> Process:
        return replace(process, mounts=tuple(replace(mount, readonly=False) for mount in process.mounts))


class NoLimits(_Changed):
    """Limits are not set."""

    def changed(self, process: Process) -> Process:
        return replace(process, ulimits=())


class AlwaysInsecure(_Changed):
    """No sandbox."""

    def changed(self, process: Process) -> Process:
        return replace(process, security="insecure")


class NeverCancels(UsernsExecutor):
    """Nobody looks at the descriptor that asks to stop, for twelve seconds."""

    def run(self, process: Process, rootfs: Any, io: StepIO) -> ExitStatus:
        late, writer = os.pipe()
        timer = threading.Timer(12, os.write, (writer, b"!"))
        timer.start()
        try:
            return super().run(process, rootfs, replace(io, cancel_fd=late))
        finally:
            timer.cancel()


class LeaksDescriptors(UsernsExecutor):
    """One descriptor stays open per run."""

    def run(self, process: Process, rootfs: Any, io: StepIO) -> ExitStatus:
        os.dup(io.cancel_fd)
        return super().run(process, rootfs, io)


class ForgetsUmask(_Changed):
    """Its own umask."""

    def changed(self, process: Process) -> Process:
        return replace(process, umask=0o027)


class Slow(UsernsExecutor):
    """Half a second for nothing."""

    def run(self, process: Process, rootfs: Any, io: StepIO) -> ExitStatus:
        threading.Event().wait(0.5)
        return super().run(process, rootfs, io)


class _WritesNotes(UsernsExecutor):
    """An executor that writes what it is about to do into a file first."""

    def run(self, process: Process, rootfs: Any, io: StepIO) -> ExitStatus:
        path = os.path.join(self.host.run_directory, "step")
        self.note(path, repr(process))
        os.unlink(path)
        return super().run(process, rootfs, io)

    def note(self, path: str, text: str) -> None:
        raise NotImplementedError


class LeavesNotes(_WritesNotes):
    """What does not fit stays as far as it came."""

    def note(self, path: str, text: str) -> None:
        with disk_errors(path), open(path, "w") as file:
            file.write(text)


class RawErrors(_WritesNotes):
    """The error of the system, as it is."""

    def note(self, path: str, text: str) -> None:
        try:
            with open(path, "w") as file:
                file.write(text)
        except OSError:
            os.unlink(path)
            raise


class CollectsOutput(UsernsExecutor):
    """All of the output at once, at the end."""

    def run(self, process: Process, rootfs: Any, io: StepIO) -> ExitStatus:
        reader, writer = os.pipe()
        told: list[ExitStatus] = []

        def run() -> None:
            told.append(super(CollectsOutput, self).run(process, rootfs, replace(io, stdout=writer)))
            os.close(writer)

        thread = threading.Thread(target=run)
        thread.start()
        with os.fdopen(reader, "rb") as output:
            content = output.read()
        thread.join()
        while content:
            content = content[os.write(io.stdout, content[: 1 << 20]) :]
        return told[0]


def executor(driver: type, claim: str) -> Mutant:
    return Mutant(ExecutorContract, driver, UsernsExecutor, f"({claim}) and full")


EXECUTORS = {
    "says that all went well": executor(AlwaysWell, "test_exit_code or test_missing_program"),
    "mixes the streams": executor(OneStream, "test_output_and_errors"),
    "inherits the environment": executor(InheritsEnvironment, "test_environment_is"),
    "forgets the directory": executor(ForgetsDirectory, "test_working_directory and not leaked"),
    "makes everybody root": executor(AlwaysRoot, "test_user_and_groups"),
    "is always online": executor(AlwaysOnline, "test_private_network"),
    "mounts for writing": executor(WritableMounts, "test_bind_mounts"),
    "sets no limits": executor(NoLimits, "test_resource_limits"),
    "has no sandbox": executor(AlwaysInsecure, "test_capabilities_are or test_system_calls"),
    "does not stop": executor(NeverCancels, "test_cancel_ends"),
    "leaks descriptors": executor(LeaksDescriptors, "test_descriptors_do_not"),
    "forgets the umask": executor(ForgetsUmask, "test_umask"),
    "leaves what did not fit on the disk": executor(LeavesNotes, "test_a_full_disk"),
    "has an error of the system": executor(RawErrors, "test_a_full_disk"),
    "keeps output until the end": executor(CollectsOutput, "test_output_takes"),
    "is slow": executor(Slow, "test_start_to_end"),
}
