"""What a build is sent: the files that a .dockerignore leaves in a directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, List

import pytest

import k8r
from common import usage_error


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory with a Dockerfile."""
    for path in ("Dockerfile", "a/one.md", "a/two.md", "b/c/deep/x", "b/c/y", "top.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "link").symlink_to("a")
    yield tmp_path


def sent(folder: Path, text: str) -> List[str]:
    """What is sent that is not a directory."""
    found = k8r.list_build_context(str(folder), list(k8r.parse_dockerignore(text)))
    return sorted(path for path in found if not (folder / path).is_dir() or path == "link")


@pytest.mark.parametrize(
    "text, left",
    [
        ("", "Dockerfile a/one.md a/two.md b/c/deep/x b/c/y link top.md"),
        ("*.md\n\r\n# a\n", "Dockerfile a/one.md a/two.md b/c/deep/x b/c/y link"),
        ("**/*.md\n/b", "Dockerfile link"),
        ("*\n!a/t*", "a/two.md"),
        ("*\n!b/c/deep", "b/c/deep/x"),
        ("*\n!**/deep/**", "b/c/deep/x"),
        ("a\n!a\na/one.md\n**\n!top.md", "top.md"),
        ("a\n!a/../a/one.md", "Dockerfile a/one.md b/c/deep/x b/c/y link top.md"),
        ("[!a]*", "Dockerfile b/c/deep/x b/c/y link top.md"),
    ],
)
def test_a_dockerignore(folder: Path, text: str, left: str) -> None:
    """Patterns are anchored; the last one counts, below a directory that is out, too."""
    assert sent(folder, text) == left.split()


def test_what_is_out_is_not_looked_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a line keeps something: a large directory costs nothing."""
    looked: List[str] = []
    scan = os.scandir

    def remember(path: str) -> object:
        looked.append(os.path.relpath(path, str(folder)))
        return scan(path)

    monkeypatch.setattr(os, "scandir", remember)
    sent(folder, "a\nb/c")
    assert sorted(looked) == [".", "b"]


@pytest.mark.parametrize("line", ["!", "[a", "[]", "a\\", "! ", "[z-a]", "!/"])
def test_a_line_that_is_wrong(line: str) -> None:
    """It is named, as docker refuses it."""
    error = usage_error(lambda: list(k8r.parse_dockerignore(f"a\n{line}\nb")))
    assert f"'{line.strip()}' is not valid in a .dockerignore" in error.message


def test_many_stars() -> None:
    """They do not take ages."""
    [(pattern, _)] = k8r.parse_dockerignore("**/" * 50 + "x")
    assert not pattern.fullmatch("a/" * 2000)
