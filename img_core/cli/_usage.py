"""How ``du`` and ``prune`` show the pieces of a state directory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from img_core.cli._format import binary_size, human_age
from img_core.cli._listing import Listing, listing_flags
from img_core.cli._output import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.api import Piece

__all__ = ["field", "piece_flags", "show_pieces"]

_HEADER = ("ID", "RECLAIMABLE", "SIZE", "DESCRIPTION")
_DESCRIPTION_LIMIT = 50


#: The flags of commands that show pieces.
piece_flags = listing_flags(example="{{.ID}} {{.Size}}", cut="do not cut descriptions", quiet="show only ids")


def show_pieces(pieces: Sequence[Piece], listing: Listing, *, records: bool, no_trunc: bool) -> None:
    """Print *pieces* as *listing* says; where that is a table, as blocks instead if *records* (``--debug``)."""
    if records and listing.is_table:
        for piece in pieces:
            echo(_block(piece))
        return
    listing.show(
        lambda: [_record(piece) for piece in pieces],
        keys=lambda: [piece.id for piece in pieces],
        rows=lambda: [_HEADER, *(_row(piece, no_trunc=no_trunc) for piece in pieces)],
    )


def _row(piece: Piece, *, no_trunc: bool) -> tuple[str, ...]:
    text = piece.description
    if len(text) > _DESCRIPTION_LIMIT and not no_trunc:
        text = text[:_DESCRIPTION_LIMIT] + "..."
    return (piece.id + "*" * piece.mutable, _boolean(not piece.in_use), binary_size(piece.size), text)


def _block(piece: Piece) -> str:
    lines = [
        ("ID:", piece.id),
        *([("Parent:", piece.parent)] if piece.parent else []),
        ("Created at:", _timestamp(piece.created)),
        ("Mutable:", _boolean(piece.mutable)),
        ("Reclaimable:", _boolean(not piece.in_use)),
        ("Shared:", _boolean(piece.shared)),
        ("Size:", binary_size(piece.size)),
        ("Description:", piece.description),
        ("Last used:", human_age(time.time() - piece.used)),
    ]
    return "\n".join(f"{name}\t{value}" for name, value in lines) + "\n"


def _record(piece: Piece) -> dict[str, Any]:  # Any: JSON
    return {
        "ID": piece.id,
        "Parent": piece.parent,
        "Type": _type(piece),
        "Reclaimable": not piece.in_use,
        "Shared": piece.shared,
        "Mutable": piece.mutable,
        "Size": piece.size,
        "Description": piece.description,
        "CreatedAt": _timestamp(piece.created),
        "LastUsedAt": _timestamp(piece.used),
    }


def field(piece: Piece, path: tuple[str, ...]) -> str | None:
    """Return what a filter compares, None for a field that is not there or does not hold."""
    if len(path) != 1:
        return None
    match path[0]:
        case "id":
            return piece.id
        case "parent":
            return piece.parent or None
        case "description":
            return piece.description
        case "type":
            return _type(piece)
        case "inuse":
            return _flag(piece.in_use)
        case "mutable":
            return _flag(piece.mutable)
        case "immutable":
            return _flag(not piece.mutable)
        case "shared":
            return _flag(piece.shared)
        case "private":
            return _flag(not piece.shared)
    return None


def _flag(value: bool) -> str | None:
    return "true" if value else None


def _type(piece: Piece) -> str:
    if piece.mutable:
        return "exec.cachemount"
    return "internal" if piece.is_internal else "regular"


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(seconds))
