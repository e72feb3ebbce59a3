"""Each numbered case has its tests, and the READMEs name tests that exist."""

from __future__ import annotations

import ast
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

TESTS = Path(__file__).resolve().parents[1]
CASES = 30
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \|.*\|$", re.M)


def all_tests() -> Iterator[Tuple[str, ast.FunctionDef]]:
    """All tests, each with its file."""
    for path in sorted(TESTS.glob("*/test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield str(path.relative_to(TESTS)), node


def numbers(node: ast.FunctionDef) -> List[int]:
    """The cases that a test is marked with, or named after."""
    named = re.search(r"_case_(\d+)_", node.name)
    marked = [
        ast.literal_eval(mark.args[0])
        for mark in node.decorator_list
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute)
        if mark.func.attr == "case"
    ]
    return marked + ([int(named.group(1))] if named else [])


def cases() -> Dict[int, Dict[str, List[str]]]:
    """The tests of each case, by file."""
    found: Dict[int, Dict[str, List[str]]] = defaultdict(lambda: defaultdict(list))
    for file, node in all_tests():
        for number in numbers(node):
            found[number][file].append(node.name)
    return found


def cell(files: Dict[str, List[str]]) -> str:
    """The tests of a case, as the table has them."""
    return "; ".join(
        f"{file.replace('/test_', '/')[:-3]}: "
        + ", ".join(re.sub(r"^test_(case_\d+_)?", "", name) for name in names)
        for file, names in files.items()
    )


def test_each_case_has_a_test_against_a_server() -> None:
    """The numbers run from 1 to 30, and a process of k8r goes through each."""
    found = cases()
    assert sorted(found) == list(range(1, CASES + 1))
    for number, files in found.items():
        assert any(not file.startswith("unit/") for file in files), number


def test_the_table_of_cases() -> None:
    """tests/README.md has the tests of each case."""
    readme = TESTS / "README.md"
    text, found = readme.read_text("utf-8"), cases()
    wanted = ROW.sub(lambda row: f"| {row[1]} | {row[2]} | {cell(found[int(row[1])])} |", text)
    if os.environ.get("K8R_UPDATE_GOLDEN"):
        readme.write_text(wanted, "utf-8")
    assert [int(number) for number, _ in ROW.findall(text)] == list(range(1, CASES + 1))
    assert text == wanted


def promises() -> List[str]:
    """The tests that tests/README.md names beside what README.md promises."""
    text = (TESTS / "README.md").read_text("utf-8")
    _, _, section = text.partition("\n## The promises\n")
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", section.partition("\n## ")[0])


def promised(text: str, heading: str, pattern: str) -> List[str]:
    """What a section says is promised."""
    return re.findall(pattern, text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0], re.M)


def test_each_promise_has_its_tests() -> None:
    """README.md promises what tests/README.md has tests for, and nothing else."""
    readme = (TESTS.parent / "README.md").read_text("utf-8")
    made = promised(readme, "What k8r promises", r"^- \*\*(.*?)\*\*")
    kept = promised(
        (TESTS / "README.md").read_text("utf-8"), "The promises", r"^\| (.*?) \| `tests/"
    )
    assert made == kept


def test_there_are_promises() -> None:
    """The section is there, and each of its points names a test."""
    assert len(promises()) >= 10


@pytest.mark.parametrize("file, name", promises())
def test_a_promise_is_kept_by_a_test(file: str, name: str) -> None:
    """The test exists."""
    assert (file, name) in {(f"tests/{path}", node.name) for path, node in all_tests()}
