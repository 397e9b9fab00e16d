"""Targets in rounds: those that read another one as a context are built after it, all others of a round together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.api import BuildRequest, BuildResult, CancelHandle, Client
    from img_core.cli._explained import Explained
    from img_core.cli._progress import Display

__all__ = ["Rounds"]


class Rounds:
    """The *requests* of targets by name. *links* are the names of contexts of each, with the targets that they are.

    No target is below itself. What was not *asked* for is built as an image without a name, for those who read it.
    """

    def __init__(
        self, requests: Mapping[str, BuildRequest], links: Mapping[str, Mapping[str, str]], asked: Sequence[str]
    ) -> None:
        self._requests = requests
        self._links = links
        self._asked = asked
        self._read = {target for linked in links.values() for target in linked.values()}

    def order(self) -> list[list[str]]:
        """Return the names of each round."""
        rounds, left, done = list[list[str]](), list(self._requests), set[str]()
        while left:
            ready = [name for name in left if done.issuperset(self._links[name].values())]
            assert ready, left
            rounds.append(ready)
            done.update(ready)
            left = [name for name in left if name not in done]
        return rounds

    def built(
        self, client: Client, first: BuildRequest, show: Display | Explained | None, handle: CancelHandle
    ) -> dict[str, BuildResult]:
        """Build all, on the backend of *first*; return the results of those that were asked for. Raises as `Client.build_many`."""
        results: dict[str, BuildResult] = {}
        images: dict[str, str] = {}
        for names in self.order():
            # An output may be no image, or one of another form: who is read is one more image, whose steps are the same.
            read = [name for name in names if name in self._read]
            wanted = [name for name in names if name in self._asked]
            requests = [self._request(name, images, first) for name in wanted]
            requests += [replace(self._request(name, images, first), tags=(), outputs=()) for name in read]
            made = client.build_many(requests, on_event=show, cancel=handle)
            results |= dict(zip(wanted, made, strict=False))
            images |= {name: result.digest for name, result in zip(read, made[len(wanted) :], strict=True)}
        return {name: results[name] for name in self._asked}

    def handed_out(
        self, client: Client, first: BuildRequest, _show: Display | Explained | None, handle: CancelHandle
    ) -> tuple[str, ...]:
        """Return in lines what an engine would be given of the first round, and what comes after it."""
        now, *later = self.order()
        lines = client.handed_out([self._request(name, {}, first) for name in now], cancel=handle)
        after = [f"{name}: after {', '.join(self._links[name].values())}" for names in later for name in names]
        return (*lines, *after)

    def _request(self, name: str, images: Mapping[str, str], first: BuildRequest) -> BuildRequest:
        request = self._requests[name]
        linked = {key: f"docker-image://{images[target]}" for key, target in self._links[name].items()}
        return replace(request, backend=first.backend, contexts={**request.contexts, **linked})
