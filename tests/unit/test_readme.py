"""README.md says what the program says."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import List

import k8r
import pytest

README = Path(k8r.__file__).resolve().with_name("README.md")
BEGIN, END = "<!-- options of run -->\n", "<!-- end -->"


def option_rows() -> List[str]:
    """A table row for each option of `k8r run`, from the parser itself."""
    parser = k8r.build_parser()
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    rows = []
    for action in subparsers.choices["run"]._actions:
        if action.option_strings and action.dest != "help":
            names = ", ".join(action.option_strings)
            value = f" {action.metavar}" if action.metavar else ""
            rows.append(f"| `{names}{value}` | {action.help} |\n")
    return rows


def test_the_options_of_run() -> None:
    """The table has every option, in the words of --help."""
    text = README.read_text("utf-8")
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    wanted = "| option | |\n| --- | --- |\n" + "".join(option_rows())
    if os.environ.get("K8R_UPDATE_GOLDEN"):
        README.write_text(before + BEGIN + wanted + END + after, "utf-8")
    assert table == wanted


@pytest.mark.parametrize("name", ["K8R_REGISTRY", "K8R_PROJECT", "K8R_INDEX"])
def test_the_variables(name: str) -> None:
    """A variable that README names is one that k8r knows."""
    assert name in README.read_text("utf-8")
    assert re.search(rf'"{name}"', Path(k8r.__file__).read_text("utf-8"))


def test_the_exit_codes() -> None:
    """The table has all of k8r's own."""
    text = README.read_text("utf-8")
    for code in k8r.ExitCode:
        assert f"\n| {int(code)} |" in text
