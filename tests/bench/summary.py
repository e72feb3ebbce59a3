#!/usr/bin/env python3
"""Writes README.md's tables of figures anew from the files in results/."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, List

from measuring import RESULTS, ROOT, Row, Sample, Target, figure, line, median, peak

README = ROOT / "tests/bench/README.md"
TABLE = re.compile(r"(<!-- figures: ([\w, -]+) -->\n)(?:\|.*\n)*")
"""A table, with the names of the results that it shows in the line above."""
Rows = Dict[str, List[Row]]


def rows_of(names: List[str]) -> Rows:
    """The rows of these results, by case."""
    found: Rows = {}
    for name in names:
        for raw in json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["rows"]:
            found.setdefault(raw["case"], []).append(row_of(raw))
    return found


def row_of(raw: Dict[str, Any]) -> Row:
    """A row as it was before it was kept; whether it met its target is no matter here."""
    ours, theirs = ([Sample(**sample) for sample in raw[side]] for side in ("k8r", "other"))
    return Row(raw["case"], raw["unit"], ours, theirs, Target(raw["target"], bool))


def span(values: List[float], unit: str = "") -> str:
    """The smallest and the largest, or the one that they are; nothing of nothing."""
    ends = dict.fromkeys(figure(value) for value in sorted(values)[:: max(1, len(values) - 1)])
    return f"{' to '.join(ends)} {unit}".strip() if values else ""


def table_of(rows: Rows) -> Iterator[str]:
    """The lines of a table: medians of a result, and what they span where there are several.
    What was counted, and has no unit, stays in the results.
    """
    yield line(["", "k8r", "the other", "ratio", "k8r's peak"])
    yield line(["---"] * 5)
    for case, same in rows.items():
        if not same[0].unit:
            continue
        ours = [median(row.ours) for row in same]
        theirs = [median(row.theirs) for row in same if row.theirs]
        ratios = [row.ratio for row in same if row.ratio is not None]
        peaks = [peak(row.ours) for row in same if peak(row.ours)]
        unit = same[0].unit
        largest = f"{max(peaks):.0f} MiB" if peaks else ""
        yield line([case, span(ours, unit), span(theirs, unit), span(ratios), largest])


def with_figures(text: str) -> str:
    """README with its tables as the results want them."""

    def table(found: "re.Match[str]") -> str:
        return found[1] + "".join(f"{each}\n" for each in table_of(rows_of(found[2].split(", "))))

    return TABLE.sub(table, text)


if __name__ == "__main__":
    README.write_text(with_figures(README.read_text("utf-8")), "utf-8")
