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
    """A line for each group of options of `k8r run`, from the parser itself."""
    parser = k8r.build_parser()
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    rows = []
    for group in subparsers.choices["run"]._action_groups:
        options = [
            f"`{', '.join(action.option_strings)}{f' {action.metavar}' * bool(action.metavar)}`"
            for action in group._group_actions
            if action.option_strings and action.dest != "help"
        ]
        if options:
            rows.append(f"- {group.title}: {', '.join(options)}\n")
    return rows


def test_the_options_of_run() -> None:
    """The list has every option, in the groups of --help."""
    text = README.read_text("utf-8")
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    wanted = "".join(option_rows())
    assert wanted.count("--") > 40
    if os.environ.get("K8R_UPDATE_GOLDEN"):
        README.write_text(before + BEGIN + wanted + END + after, "utf-8")
    assert table == wanted


@pytest.mark.parametrize("name", ["K8R_REGISTRY", "K8R_PROJECT", "K8R_INDEX"])
def test_the_variables(name: str) -> None:
    """A variable that README names is one that k8r knows."""
    assert name in README.read_text("utf-8")
    assert re.search(rf'"{name}"', Path(k8r.__file__).read_text("utf-8"))


def test_the_exit_codes() -> None:
    """All of k8r's own are there."""
    text = section("Exit status")
    assert sorted(map(int, re.findall(r"\b[0-9]+\b", text))) == sorted(map(int, k8r.ExitCode))


def section(title: str) -> str:
    """The text under a heading."""
    text = README.read_text("utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> List[str]:
    """What stands in backquotes in the first column of a section's table."""
    return re.findall(r"^\| `([^|]+)` \|", section(title), re.M)


def test_the_fields_of_json() -> None:
    """They are exactly those that `ls -o json` prints."""
    job = {"metadata": {"name": "x"}, "spec": {"template": {"spec": {}}}}
    fields = section("`-o json`").partition("The fields of")[2]
    assert (
        re.findall(r"(?:^|[:;]\s)`(\w+)`", fields)
        == list(k8r.build_job_row(job))
        == list(k8r.build_deployment_row(job))
    )


def test_the_messages() -> None:
    """Each message that is explained is one that k8r.py has."""
    text = re.sub(r"\{[^{}]*\}", "…", Path(k8r.__file__).read_text("utf-8"))
    text = re.sub(r'"\n\s+f?"', "", text)
    messages = first_cells("When something goes wrong")
    assert len(messages) > 10
    known = {"64.0 MiB": "…", "137": "…", "OOMKilled": "…"}
    for message in messages:
        for amount, place in known.items():
            message = message.replace(amount, place)
        for piece in filter(None, (piece.strip(" '():") for piece in re.split("…|: ", message))):
            assert piece in text, (message, piece)
