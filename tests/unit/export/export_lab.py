"""Making exports, for tests of exporters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from img_core.spec.exporter import Exporter
from img_core.testing.results import ReadyResult, Recorder, host

__all__ = ["export"]


def export(kind: type[Exporter], result: ReadyResult, directory: Path, **options: Any) -> dict[str, Any]:
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return dict(kind(host(directory), given).export(result, Recorder()))
