"""Answers the calls about ids and owners of one step, in the process that supervises it."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from img_lib_containers import owner_answers, seccomp
from img_lib_containers.identities import ROOT, Identities, ProcessIds, with_keeping
from img_lib_containers.identity_answers import identify
from img_lib_containers.owner_answers import STAT_KINDS, Asked, Shown
from img_lib_containers.owner_calls import Caller, Refusal, Viewpoint
from img_lib_containers.socket_calls import is_socket_call, serve_socket
from img_lib_containers.supervised_calls import CALLS

if TYPE_CHECKING:
    from img_lib_containers.owner_records import OwnerRecords
    from img_lib_containers.supervised_calls import SupervisedCall

__all__ = ["Answering"]

#: errors of marking a file that the step has to hear of; that we may not mark one of the host's is no concern of it
_OF_THE_DISK: Final = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Answering:
    """Answers the calls of one step; *proc* shows its processes by the numbers that the kernel tells us, or is None."""

    def __init__(self, listener: int, proc: int | None, records: OwnerRecords) -> None:
        seccomp.stay_on_one_processor(listener)
        self._listener = listener
        self._proc = proc
        self._view = Viewpoint(proc) if proc is not None else None
        self.records = records
        self._identities = Identities()

    def run(self) -> None:
        """Answer calls until the filter has no user left."""
        for notification in seccomp.notifications(self._listener):
            self.serve(notification)

    def serve(self, notification: seccomp.Notification) -> None:
        """Answer one call."""
        if is_socket_call(notification):
            serve_socket(self._listener, notification, self._proc)
            return
        call = CALLS.get(notification.architecture, {}).get(notification.number)
        try:
            answered = call is not None and self._answered(call, notification)
        except Refusal as refusal:
            seccomp.answer(self._listener, notification, error=refusal.number)
        except OSError as err:
            marks = call is not None and call.kind == "owner"
            error = 0 if marks and err.errno not in _OF_THE_DISK else err.errno or errno.EIO
            seccomp.answer(self._listener, notification, error=error)
        else:
            if not answered:
                seccomp.proceed(self._listener, notification)

    def _answered(self, call: SupervisedCall, notification: seccomp.Notification) -> bool:
        """Answer a call, or return False for one that the kernel is to do. Raises OSError, `Refusal`."""
        if self._view is None:
            return self._pretend(call, notification)
        with Caller(self._view, notification.pid) as caller:
            if call.kind == "identity":
                value = identify(call, caller, notification.arguments, self._identities)
                seccomp.answer(self._listener, notification, value=value)
                return True
            return self._about_file(Asked(caller, call, notification), notification)

    def _about_file(self, asked: Asked, notification: seccomp.Notification) -> bool:
        """Answer a call about a file, or another one, like `_answered`."""
        kind = asked.call.kind
        if kind in STAT_KINDS:
            return owner_answers.show(asked, self._listener, notification, self._look)
        identity = self._identity(notification.pid)
        if kind == "owner":
            owner_answers.give_away(asked, self._listener, notification, self.records, identity)
            seccomp.answer(self._listener, notification)
            return True
        if kind == "keep":
            keeps = bool(notification.arguments[asked.call.value])
            self._identities.give(notification.pid, with_keeping(identity, keeps=keeps))
            return False
        if kind == "program":
            self._execute(asked, notification.pid, identity)
            return False
        return owner_answers.make(asked, self._listener, notification, self.records, identity)

    def _look(self, asked: Asked) -> Shown | None:
        """Return a file and how it is shown if that is not how the kernel does it. Raises OSError, `Refusal`."""
        path = asked.path()
        if path is not None and not self.records.inodes and owner_answers.has_no_note(asked, path):
            return None
        name = asked.file()
        owner = self.records.owner(name)
        return None if owner is None else Shown(name, owner)

    def _pretend(self, call: SupervisedCall, notification: seccomp.Notification) -> bool:
        """Without a view of the caller: whatever changes an owner or an id succeeds."""
        if call.kind != "owner" and not call.name.startswith("set"):
            return False
        seccomp.answer(self._listener, notification)
        return True

    def _identity(self, pid: int) -> ProcessIds:
        try:
            return self._identities.of(pid)
        except OSError:
            return ROOT

    def _execute(self, asked: Asked, pid: int, identity: ProcessIds) -> None:
        with suppress(OSError, Refusal):
            becomes = owner_answers.identity_of_program(asked, self.records, identity)
            if becomes != identity:
                self._identities.give(pid, becomes)
