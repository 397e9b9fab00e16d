"""The zygote: a small single-threaded process that starts every container and helper process.

It is forked right after the entry into the user namespace, while the process is small and has no threads, because a fork of
the grown builder costs several times more, a raw ``clone`` is only safe without threads, and the parent-death signal of a
child fires when the *thread* that made it ends.

It is the first process of a pid namespace of its own: when the builder dies, however, the kernel kills the zygote and with it
everything it ever started, also what has escaped into another session or changed its ids. Process ids seen in there are
numbers of that namespace; the builder holds pidfds. Where no such namespace can be made, the zygote inherits what its processes leave
behind and ends it, and when the builder is gone, it ends them all (`img_core.linux.children`).

Protocol, over SEQPACKET sockets (one shared for requests, one per request for its answers)::

    request   {"entry": "module:name", "flags": n, "payload": {…}}   + [reply socket, fds…]
              the payload travels in a memfd (first of the fds) when it is large: {"large": true}
    answers   {"started": pid} + [pidfd] | {"refused": "why"}
              {"error": "text"}      the entry raised, see `ZygoteProcess.error`
              {"status": n}          the last message
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import signal
import socket
import sys
from _thread import RLock  # `threading` is for who works in threads
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

from img_core.linux import children, stdout, syscalls, userns
from img_core.spec.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Entry = Callable[[Mapping[str, Any], Sequence[int]], int | None]

__all__ = ["RAISED_STATUS", "Zygote", "ZygoteProcess"]

#: exit status of an entry that raised
RAISED_STATUS: Final = 70

_LARGEST_INLINE: Final = 60_000  # below the default limit of a SEQPACKET message
_MOST_FDS: Final = 250  # SCM_MAX_FD is 253
_LARGEST_ERROR: Final = 16_000
_PATIENCE: Final = 10.0  # seconds
# The terminal signals the whole foreground group; what they mean is the builder's decision.
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class ZygoteProcess:
    """A process started by the zygote. `wait` belongs to one thread; `kill` may be called from any."""

    def __init__(self, zygote: Zygote, pid: int, pidfd: int, replies: socket.socket, error: str) -> None:
        self._zygote = zygote  # which ends, with all its processes, when nobody holds it
        self.pid = pid  #: in the zygote's pid namespace
        self.pidfd = pidfd  #: becomes readable when the process ends
        self.error = error  #: after `wait`: the text of the exception that the entry raised, or an empty string
        self._replies = replies
        self._status: int | None = None
        self._closing = RLock()  # guards the life of `pidfd`; a signal handler may kill where `close` is interrupted

    def wait(self) -> int:
        """Wait until it ended; return its exit status, or 128 + n if signal n ended it."""
        while self._status is None:
            answer, _ = _receive(self._replies)
            self.error = str(answer.get("error", self.error))
            self._status = answer.get("status")
        return self._status

    def kill(self) -> None:
        """Send SIGKILL; to the first process of a pid namespace this ends all processes in it. Does nothing after `close`."""
        with self._closing:  # or the number could be that of another process by now
            if self.pidfd < 0:
                return
            try:
                syscalls.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Release the descriptors; the process goes on. Harmless when called twice."""
        with self._closing:
            pidfd, self.pidfd = self.pidfd, -1
            if pidfd >= 0:
                os.close(pidfd)
        self._replies.close()

    def __enter__(self) -> ZygoteProcess:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Zygote:
    """Handle of the zygote in the builder; a `Spawner`."""

    def __init__(self, requests: socket.socket, pid: int, pidfd: int, *, first: bool = True) -> None:
        self.pid = pid
        self._first = first  #: of a pid namespace: its end is the end of all
        self.pidfd = pidfd
        self._requests = requests

    @classmethod
    def start(cls) -> Zygote:
        """Fork the zygote; call right after `userns.enter`, before the first thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Blocked until the zygote ignores them, or a ^C at the wrong moment would end it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
        try:
            pid, pidfd, first = _fork_zygote()
            if pid == 0:
                ours.close()
                _zygote_main(theirs, mask, first=first)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        return cls(ours, pid, pidfd, first=first)

    def spawn(
        self, entry: str, payload: Mapping[str, Any], *, fds: Sequence[int] = (), flags: int = 0
    ) -> ZygoteProcess:
        """Call the function *entry* (``module:name``) as ``name(payload, fds)`` in a new process.

        *payload* is JSON (Any). *fds* arrive with other numbers; the caller keeps its own. *flags* are ``CLONE_NEW…``.
        The function's return value (None: 0) is the exit status; if it raises, the status is `RAISED_STATUS` and
        `ZygoteProcess.error` has the text. The module is imported in the zygote before the process is made; put nothing heavy in it.
        The process starts with SIGINT, SIGTERM, SIGHUP and SIGQUIT ignored, stdin and stdout at /dev/null and the builder's stderr.
        Callable from any thread. Raises HostError when the process could not be made, and the audit event ``img.spawn`` before.
        """
        sys.audit("img.spawn", entry)
        if len(fds) > _MOST_FDS:
            raise HostError(f"cannot hand {len(fds)} descriptors to a process, the limit is {_MOST_FDS}")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._send_request(entry, payload, theirs, fds, flags)
            return self._read_start(entry, ours)
        except BaseException:
            ours.close()
            raise

    def _send_request(
        self, entry: str, payload: Mapping[str, Any], replies: socket.socket, fds: Sequence[int], flags: int
    ) -> None:
        request: dict[str, object] = {"entry": entry, "flags": flags}
        body = json.dumps(payload).encode()
        if len(body) <= _LARGEST_INLINE:
            request["payload"] = payload
            self._send(request, [replies.fileno(), *fds])
            return
        memory = os.memfd_create("img-request")
        try:
            with open(memory, "wb", closefd=False) as stream:
                stream.write(body)
            self._send({**request, "large": True}, [replies.fileno(), memory, *fds])
        finally:
            os.close(memory)

    def _send(self, request: Mapping[str, object], fds: Sequence[int]) -> None:
        # One message is one request, whole or not at all, so threads need no lock here.
        try:
            socket.send_fds(self._requests, [json.dumps(request).encode()], list(fds))
        except OSError as err:
            raise _zygote_is_gone() from err

    def _read_start(self, entry: str, replies: socket.socket) -> ZygoteProcess:
        error = ""
        while True:  # the process may report before the zygote does
            answer, fds = _receive(replies)
            if "refused" in answer:
                raise HostError(f"cannot start a process for `{entry}`: {answer['refused']}")
            if "started" in answer:
                return ZygoteProcess(self, answer["started"], fds[0], replies, error)
            error = str(answer.get("error", error))

    def close(self) -> None:
        """End the zygote and everything it started; return when it is gone."""
        self._requests.close()
        if self.pidfd < 0:
            return
        # It ends all that it started when nobody can ask it any more.
        if self._first or not _ends_within(self.pidfd, _PATIENCE):
            syscalls.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        pidfd, self.pidfd = self.pidfd, -1
        os.close(pidfd)


def _zygote_is_gone() -> HostError:
    return HostError("the process that starts containers has died", hint="was it killed for lack of memory?")


def _ends_within(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _receive(replies: socket.socket) -> tuple[dict[str, Any], list[int]]:
    message, fds, _, _ = socket.recv_fds(replies, _LARGEST_INLINE, 1, socket.MSG_CMSG_CLOEXEC)
    if not message:
        raise _zygote_is_gone()
    return json.loads(message), fds


def _needs_outer_pids() -> bool:
    """Tell whether processes must have the numbers by which the visible /proc knows them.

    With a single mapped id a supervisor looks at the step's processes in /proc (see `owner_supervisor`). In a container with
    a masked /proc it cannot mount one for a pid namespace of ours.
    """
    uid_map = _read_text("/proc/self/uid_map").split()
    if uid_map[2:] != ["1"]:
        return False
    points = [line.split(" ", 5)[4] for line in _read_text("/proc/self/mountinfo").splitlines()]
    # binfmt_misc sits on a directory that is always empty: it hides nothing.
    return any(point.startswith("/proc/") and point != "/proc/sys/fs/binfmt_misc" for point in points)


# --- in the zygote ----------------------------------------------------------------------------------------------------


def _fork_zygote() -> tuple[int, int, bool]:
    """Fork; return pid and pidfd, and whether the new process is the first of a pid namespace."""
    identity = userns.current()
    if (identity is None or identity.mode not in ("container", "fake")) and not _needs_outer_pids():
        try:
            return (*syscalls.clone(syscalls.CLONE_NEWPID), True)
        except OSError:  # nested too deeply, or a limit
            pass
    return (*_fork(), False)


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _fork() -> tuple[int, int]:
    pid = os.fork()
    return (pid, syscalls.pidfd_open(pid)) if pid else (0, -1)


def _zygote_main(requests: socket.socket, mask: Iterable[int], *, first: bool) -> NoReturn:
    status = 1
    try:
        if first:  # else it has something to do when the builder is gone
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.set_wakeup_fd(-1)
        _silence_stdio()
        gc.freeze()  # keeps the pages of what we inherited shared
        _Loop(requests, first=first).run()
        if not first:
            children.end()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _silence_stdio() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    stdout.close()


class _Loop:
    """Serves requests and reports ends; never blocks in waitpid, so one slow container delays nobody."""

    def __init__(self, requests: socket.socket, *, first: bool) -> None:
        self._requests = requests
        self._first = first
        self._running: dict[int, tuple[int, socket.socket]] = {}  # pidfd -> pid, reply socket
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)

    def run(self) -> None:
        """Serve until the builder closes its end."""
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._requests.fileno():
                    self._report_end(fd)
                elif not self._serve():
                    return

    def _serve(self) -> bool:
        size, flags = 2 * _LARGEST_INLINE, socket.MSG_CMSG_CLOEXEC
        message, fds, received, _ = socket.recv_fds(self._requests, size, _MOST_FDS + 3, flags)
        if not message:
            return False
        if not fds:  # no descriptor left at all; the requester sees the end of its reply socket
            return True
        replies = socket.socket(fileno=fds.pop(0))
        try:
            if received & socket.MSG_CTRUNC:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self._start(json.loads(message), replies, fds)
        except Exception as err:  # a broken entry is the requester's problem, not that of the others
            _reply(replies, {"refused": f"{type(err).__name__}: {err}"[:_LARGEST_ERROR]})
            replies.close()
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _start(self, request: dict[str, Any], replies: socket.socket, fds: list[int]) -> None:
        if request.get("large"):
            request["payload"] = _read_memory(fds.pop(0))
        entry = _find_entry(request["entry"])
        flags = int(request["flags"])
        # os.fork runs Python's after-fork hooks, which a long-lived helper wants and a container does not need.
        pid, pidfd = syscalls.clone(flags) if flags else _fork()
        if pid == 0:
            self._become(entry, request["payload"], fds, replies)
        try:
            _reply(replies, {"started": pid}, [pidfd])
        except OSError:  # nobody could end it
            syscalls.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pidfd)
            raise
        self._running[pidfd] = (pid, replies)
        self._poll.register(pidfd, select.POLLIN)

    def _become(self, entry: Entry, payload: dict[str, Any], fds: list[int], replies: socket.socket) -> NoReturn:
        """Turn the new process into what was asked for; nothing of the other requests stays open in it."""
        status = RAISED_STATUS
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            self._requests.close()
            for pidfd, (_, other) in self._running.items():
                os.close(pidfd)
                other.close()
            status = entry(payload, fds) or 0
        except BaseException as err:
            _reply(replies, {"error": (str(err) or type(err).__name__)[:_LARGEST_ERROR]})
            if os.environ.get("IMG_DEBUG"):
                sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _report_end(self, pidfd: int) -> None:
        pid, replies = self._running.pop(pidfd)
        self._poll.unregister(pidfd)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if not self._first:
            children.end(spare=[other for other, _ in self._running.values()])
        _reply(replies, {"status": code if code >= 0 else 128 - code})
        replies.close()
        os.close(pidfd)
        self._reap_orphans()

    def _reap_orphans(self) -> None:
        """Collect what a helper has left behind; as first process of the namespace we inherit it."""
        known = {pid for pid, _ in self._running.values()}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in known:  # the latter is reported when its pidfd comes up
                return
            os.waitpid(ended.si_pid, 0)


def _reply(replies: socket.socket, answer: Mapping[str, object], fds: Sequence[int] = ()) -> None:
    """Send *answer*, if anybody waits for it. Raises OSError when *fds* cannot be sent: too many are on their way, for example."""
    try:
        socket.send_fds(replies, [json.dumps(answer).encode()], list(fds))
    except OSError as err:
        if fds and not isinstance(err, BrokenPipeError | ConnectionResetError):
            raise


def _read_memory(fd: int) -> Any:  # Any: JSON
    with open(fd, "rb") as stream:
        stream.seek(0)
        return json.load(stream)


def _find_entry(name: str) -> Entry:
    module, _, function = name.partition(":")
    entry: Entry = getattr(import_module(module), function)
    return entry
