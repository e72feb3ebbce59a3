"""The figures of tests/bench/README.md are those that were measured."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_of_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is what the results in tests/bench/results say: `tests/bench/summary.py` writes them."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/bench"))
    summary = importlib.import_module("summary")
    text = (ROOT / "tests/bench/README.md").read_text("utf-8")
    assert len(summary.TABLE.findall(text)) == text.count("<!-- figures")
    assert summary.with_figures(text) == text
