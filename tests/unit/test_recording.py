"""The recording in README is a picture and nothing else, and shows what README tells."""

from __future__ import annotations

import re
from pathlib import Path
from platform import node
from typing import List
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "tests" / "recording" / "k8r.svg"
SVG = "{http://www.w3.org/2000/svg}"
ON_PURPOSE = {"", "demo", "k8r", "kind-demo", "work"}
"""Names that the recording itself gives, which a machine or user may have too."""


@pytest.fixture(scope="module")
def picture() -> ElementTree.Element:
    """The whole file, which is well-formed."""
    return ElementTree.parse(str(PATH)).getroot()


@pytest.fixture(scope="module")
def lines(picture: ElementTree.Element) -> List[str]:
    """Each text on each screen."""
    return ["".join(text.itertext()) for text in picture.iter(SVG + "text")]


def test_elements(picture: ElementTree.Element) -> None:
    """Only shapes, text, their style and a description: nothing that runs."""
    drawing = {"svg", "defs", "g", "use", "rect", "circle", "text", "style", "title", "desc"}
    assert {element.tag for element in picture.iter()} == {SVG + name for name in drawing}
    assert not [name for element in picture.iter() for name in element.attrib if name[:2] == "on"]


def test_references(picture: ElementTree.Element) -> None:
    """All of them are to parts of the file."""
    ids = [element.get("id") for element in picture.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in picture.iter():
        for name, value in element.attrib.items():
            if name.endswith("href"):
                assert value[:1] == "#" and value[1:] in ids, value
            assert "url(" not in value
    assert not re.search(r"url\(|@import|src:", "".join(picture.itertext()))
    assert re.findall(r"\w{1,9}://[^\s\"]+", PATH.read_text("utf-8")) == [SVG.strip("{}")]


@pytest.mark.parametrize("word", ["./", "retry", "exec", "ls", "rm"])
def test_commands(lines: List[str], word: str) -> None:
    """Commands that README has are typed to their end."""
    readme = (ROOT / "README.md").read_text("utf-8")
    assert re.search(rf"k8r {re.escape(word)}( |$)", readme, re.M)
    assert [line for line in lines if re.match(rf"\$ k8r {re.escape(word)}( |$)", line)]


def test_output(lines: List[str]) -> None:
    """A line tells how the pods start, a result is here, and what fails is run again."""
    for wanted in (
        r"k8r: work: 1 (pending|running), \d+s.*",
        r"size 8  epoch 3/3  loss .*",
        r"k8r: work succeeded .*",
        r"a model of 8 MiB",
        r"\[[01]\] ",
        r"k8r: sweep: 2 of 3 succeeded; exit code 137 \(OOMKilled\): index 2 .*",
        r"k8r: sweep-retry succeeded .*",
        r"sweep-retry .* Complete .*",
        r"k8r: removed dev",
    ):
        assert [line for line in lines if re.fullmatch(wanted, line)], wanted


def test_nothing_of_a_machine(lines: List[str]) -> None:
    """No path, no address, no name of a machine or user."""
    text = "\n".join(lines)
    assert not re.search(r"(?<![\w.])~?/\w", text)
    assert not re.search(r"\w@\w|\d+\.\d+\.\d+\.\d+", text)
    for name in {node(), node().split(".")[0], Path.home().name} - ON_PURPOSE:
        assert not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), name


def test_everybody_can_see_it(picture: ElementTree.Element) -> None:
    """It has a title and a description, and stands still at its end for who wants no motion."""
    labels = (picture.get("aria-labelledby") or "").split()
    described = [element for element in picture if element.get("id") in labels]
    assert [element.tag for element in described] == [SVG + "title", SVG + "desc"]
    assert all(element.text for element in described)
    style = picture.findtext(SVG + "style") or ""
    assert "@media (prefers-reduced-motion:reduce){#film{animation:none}}" in style
    still = re.search(r"#film\{transform:(.*?);animation:play ([\d.]+)s", style)
    assert still and float(still[2]) < 60
    assert re.findall(r"[\d.]+%\{transform:(.*?)\}", style)[-1] == still[1]


def test_size() -> None:
    """It is quickly loaded."""
    assert PATH.stat().st_size < 150_000
