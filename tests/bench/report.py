"""All that was measured, as one table: in Markdown for people, in JSON for programs, and as a picture."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from measure import Figure

__all__ = ["Report"]

_BAR, _GAP, _LEFT, _WIDTH = 14, 10, 330, 420
_COLOURS = {"img": "#1b6ca8"}
_OTHER = "#b9c2cc"


@dataclass(frozen=True)
class _Row:
    """One kind of work, and how long each candidate took, the first of which is ours; seconds, or processor seconds."""

    work: str
    figures: list[Figure]
    unit: str

    def ratio(self, figure: Figure) -> float:
        """Return how much longer *figure* took than ours, by medians."""
        return figure.middle / self.figures[0].middle if self.figures[0].middle else 0.0

    def worked(self, figure: Figure) -> list[str]:
        """Return the processor time of *figure* in ms and how many times ours that is, as far as they are known, as words."""
        ours = self.figures[0].worked
        ratio = f"{figure.worked / ours:.2f}" if figure.worked and ours and figure is not self.figures[0] else ""
        return [f"{figure.worked * 1000:.0f}" if figure.processor else "", ratio]


@dataclass
class Report:
    """The rows, in the order in which they were measured. *machine* says where."""

    machine: str
    rows: list[_Row] = field(default_factory=list)

    def add(self, work: str, figures: list[Figure], *, unit: str = "s") -> None:
        """Add one row; the first of *figures* is ours."""
        self.rows.append(_Row(work, figures, unit))

    def markdown(self) -> str:
        """Return the table: one line per candidate, with its median, its best time, and how much longer than ours it took.

        Processor times follow, also medians: they say less, and are steadier where others keep the machine busy.
        """
        lines = [
            f"{self.machine}",
            "",
            "| work | program | rounds | median, ms | best, ms | times ours | processor, ms | times ours |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            for figure in row.figures:
                work = f"{row.work}{'' if row.unit == 's' else f' ({row.unit})'}" if figure is row.figures[0] else ""
                ratio = "" if figure is row.figures[0] else f"{row.ratio(figure):.2f}"
                wall = [f"{figure.middle * 1000:.0f}", f"{figure.low * 1000:.0f}", ratio]
                words = [work, figure.name.replace("|", "\\|"), str(len(figure.seconds)), *wall, *row.worked(figure)]
                lines.append(f"| {' | '.join(words)} |")
        return "\n".join(lines) + "\n"

    def document(self) -> str:
        """Return everything, each single time among it, as JSON."""
        rows = [
            {
                "work": row.work,
                "unit": row.unit,
                "programs": [
                    {
                        "name": figure.name,
                        "median": statistics.median(figure.seconds),
                        "best": min(figure.seconds),
                        "times_ours": round(row.ratio(figure), 3),
                        "all": [round(seconds, 6) for seconds in figure.seconds],
                        "processor": [round(seconds, 6) for seconds in figure.processor],
                    }
                    for figure in row.figures
                ],
            }
            for row in self.rows
        ]
        return json.dumps({"machine": self.machine, "rows": rows}, indent=1) + "\n"

    def picture(self) -> str:
        """Return a picture with a bar per candidate, in each row as long as its median; SVG."""
        parts: list[str] = []
        y = 30
        for row in self.rows:
            longest = max(figure.middle for figure in row.figures) or 1.0
            parts.append(f'<text x="4" y="{y + 11}" font-weight="bold">{escape(row.work)}</text>')
            for figure in row.figures:
                length = max(1.0, _WIDTH * figure.middle / longest)
                colour = _COLOURS["img"] if figure is row.figures[0] else _OTHER
                parts.append(f'<rect x="{_LEFT}" y="{y}" width="{length:.0f}" height="{_BAR}" fill="{colour}"/>')
                text = f"{figure.name} {figure.middle * 1000:.0f} ms"
                parts.append(f'<text x="{_LEFT + length + 5:.0f}" y="{y + 11}">{escape(text)}</text>')
                y += _BAR + 2
            y += _GAP
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 300}" height="{y}" '
            'font-family="sans-serif" font-size="11">'
        )
        title = f'<text x="4" y="16">{escape(self.machine)}; medians, shorter is better</text>'
        return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', title, *parts, "</svg>"]) + "\n"

    def write(self, directory: Path) -> None:
        """Write ``bench.md``, ``bench.json`` and ``bench.svg``."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in (("md", self.markdown()), ("json", self.document()), ("svg", self.picture())):
            (directory / f"bench.{name}").write_text(content)
