"""What a snapshotter makes of layers."""

# ruff: noqa: S103 - a test's name is its claim; odd modes are what is tested
from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from img_core.spec.errors import ArchiveError, IntegrityError
from img_core.spec.values import DiffId, Digest
from img_core.testing import archives
from img_core.testing.contracts.driver import DriverContract
from img_core.testing.shelves import Inside, Shelf, Tree, Work, everything, example

__all__ = ["LayerPromises"]


class LayerPromises(DriverContract):
    """Promises about layers."""

    @pytest.mark.parametrize("make", [example, everything])
    def test_a_layer_gives_what_the_step_made(self, inside: Inside, make: Work) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)

            def work(tree: Tree) -> None:
                tree.remove("dir")
                tree.mkdir("dir/sub")
                tree.remove("keep", "link")
                make(tree)

            made = shelf.step([first], work)
            applied = shelf.apply([first], shelf.layer(made, [first]))
            assert shelf.tree([first, applied]) == shelf.tree([first, made])
            assert shelf.layer(applied, [first]) == shelf.layer(made, [first])

        inside(body)

    def test_deletions_of_a_layer_hide_lower_files(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            first = shelf.step([], example)
            blob = b"".join(
                (
                    archives.directory(b"dir/"),
                    archives.entry(b"dir/.wh..wh..opq"),
                    archives.entry(b"dir/new", b"n"),
                    archives.entry(b".wh.keep"),
                    archives.entry(b".wh.nothing"),
                    archives.END,
                )
            )
            second = shelf.apply([first], blob)
            assert set(shelf.tree([first, second])) == {b"dir", b"dir/new", b"etc", b"etc/conf", b"link"}

        inside(body)

    def test_parents_that_a_layer_does_not_describe_keep_their_look(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            def base(tree: Tree) -> None:
                example(tree)
                os.chmod(tree.at("dir"), 0o1711)
                os.chmod(tree.at("dir/sub"), 0o700)

            first = shelf.step([], base)
            between = shelf.step([first], lambda tree: os.chmod(tree.at("dir/sub"), 0o750))
            second = shelf.apply([first, between], archives.entry(b"dir/sub/new", b"n") + archives.END)
            merged = shelf.tree([first, between, second])
            assert [merged[name][0] for name in (b"dir", b"dir/sub")] == [oct(0o41711), oct(0o40750)]
            assert b"dir/sub/new" in merged

        inside(body)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"digest": Digest("sha256:" + "0" * 64)},
            {"diff_id": DiffId("sha256:" + "0" * 64)},
            {"size": 5},
            {"size": 10**9},
        ],
    )
    def test_a_layer_that_is_not_what_it_claims_is_refused(self, inside: Inside, wrong: Mapping[str, Any]) -> None:
        def body(shelf: Shelf) -> None:
            with pytest.raises(IntegrityError):
                shelf.apply([], archives.entry(b"f", b"x" * 10_000) + archives.END, **wrong)

        inside(body)

    @pytest.mark.parametrize("name", [b"../up", b"a/../../up"])
    def test_a_layer_cannot_leave_its_root(self, inside: Inside, name: bytes) -> None:
        def body(shelf: Shelf) -> None:
            with pytest.raises(ArchiveError):
                shelf.apply([], archives.entry(name, b"x") + archives.END)
            assert not any("up" in names for _, _, names in os.walk(shelf.directory))

        inside(body)

    def test_one_hundred_and_thirty_layers(self, inside: Inside) -> None:
        def body(shelf: Shelf) -> None:
            parents: list[str] = []
            for number in range(130):
                parents.append(shelf.step(parents, lambda tree, number=number: tree.write(f"dir/{number}")))  # type: ignore[misc]
            assert len(shelf.tree(parents)) == 131
            assert shelf.changes(parents[-1], parents[:-1]) == ["dir/", "dir/129"]

        inside(body)
