"""What takes the space of the state directory, and what of it is sound."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from img_core.api._workplace import Workplace, apart, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.api._given import Words
    from img_core.api._values import StateReport
    from img_core.linux.cancellation import CancelHandle
    from img_core.store.usage import Piece

__all__ = ["Space"]


class Space(Workplace):
    """The calls of a client that look after its state directory."""

    @apart
    def usage(self, *, cancel: CancelHandle | None = None) -> tuple[Piece, ...]:
        """Return everything that takes space in the state directory, piece by piece."""
        from img_core.store.collect import survey

        if self._is_new:
            return ()
        # In the namespace: the files of a root file system may be readable only for their owners.
        with self._opened(namespace=True, cleaning=True) as session:
            return tuple(survey(session.store))

    @apart
    def fsck(self, *, repair: bool = False, read_data: bool = False, cancel: CancelHandle | None = None) -> StateReport:
        """Check what is stored; *repair* takes away what is damaged, *read_data* reads all layers, too."""
        from img_core.api._values import StateReport
        from img_core.store.fsck import check, request_check

        state = self.config.state_directory
        if not os.path.isdir(state):
            return StateReport()
        self._trusted()
        if repair:
            request_check(state)
        with self._store(cleaning=repair) as store:
            found = check(store, repair=repair, read_data=read_data)
        return StateReport(tuple(found.problems), dict(found.checked))

    @apart
    def prune(
        self,
        *,
        images: Literal["none", "untagged", "all"] = "untagged",
        cache: Literal["unshared", "all"] = "all",
        records: bool = False,
        unused_seconds: float = 0.0,
        keep_bytes: int = 0,
        dry_run: bool = False,
        matching: Callable[[Piece], bool] | None = None,
        cancel: CancelHandle | None = None,
    ) -> tuple[Piece, ...]:
        """Remove build cache that neither an image that stays nor a running command needs; return what went.

        *images* may go, too: none, those without a name, or all. *cache* ``unshared`` spares what images share. *records* forgets resolved
        references and digests of files as well. What was used in the last *unused_seconds* stays, and so much of what was used last
        that *keep_bytes* are left in all. *matching* chooses among the pieces. With *dry_run* nothing is removed.
        """
        from img_core.store.collect import policies, prune

        wanted = list(
            policies(
                images=images, cache=cache, records=records, unused=unused_seconds, keep=keep_bytes, matching=matching
            )
        )
        if self._is_new:
            return ()
        with self._opened(namespace=True, cleaning=True) as session:
            return tuple(piece for policy in wanted for piece in prune(session.store, policy, dry_run=dry_run))

    @apart
    def prune_images(self, names: Words, *, cancel: CancelHandle | None = None) -> int:
        """Forget images, by their names or digests as `images` gives them, with what only they have; return the bytes that this freed.

        The build cache stays.
        """
        from img_core.store.collect import Policy, prune

        chosen = words(names)
        if self._is_new or not chosen:
            return 0
        policy = Policy(images=lambda image: image.name in chosen, only_images=True)
        with self._opened(namespace=True, cleaning=True) as session:
            return sum(piece.size for piece in prune(session.store, policy))
