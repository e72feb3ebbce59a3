"""Ignore files: .dockerignore as docker's client reads it, .k8rignore as git reads its own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import List, Optional, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import k8r
from oracle import Oracle
from oracle.tables import rows

KNOWN = {
    r"(?m)(?<!\[)\^": "a\n*^",
    r"\\[a-zA-Z]|\\[^\x00-\x7f]": "\\a",
    r"(?m)\\[/\s]*$": "a#**\\",
    r"\|": "a*|b",
    r"[*?][^\n]*\[": ".[a-b]*+[?",
    r"/!": "a\n/!a",
}
"""What k8r reads otherwise than the original, which translates it into a regular expression where
it means something else (`^`, `|`, an escaped letter), which does not look behind a wildcard for an
escape of nothing or a bracket that is not closed, and which takes `!` behind a slash for one at
the beginning. Of each an example."""
PATHS = ["a", "b", "a/b", "a/b/a", "ab", "a.b", "b/a.b", "b/b/b", "é/a", "aab/ba", "a/x/y/b", "^"]


def ignore(text: str, paths: List[str]) -> Union[str, List[str]]:
    """Which paths k8r leaves out of a build, or its words for what is wrong."""
    try:
        rules = list(k8r.parse_dockerignore(text))
    except k8r.UsageError as error:
        return error.message
    return [path for path in paths if not k8r.is_sent(path, rules)]


def difference(oracle: Oracle, text: str, paths: List[str]) -> Optional[str]:
    """How k8r and docker differ over a .dockerignore: a pattern of `KNOWN`, or words; or None."""
    mine, answer = ignore(text, paths), oracle.ignored(text, paths)
    original = answer.get("error") or answer["ignored"]
    if mine == original or (isinstance(mine, str) and isinstance(original, str)):
        return None
    known = (pattern for pattern in KNOWN if re.search(pattern, text))
    return next(known, f"{text!r}: {mine}; docker: {original}")


def test_docker_s_own_patterns(oracle: Oracle) -> None:
    """No pattern in the tests of the original is read otherwise."""
    pairs = [row for row in rows("github.com/moby/patternmatcher", "patternmatcher_test.go")]
    pairs = [row for row in pairs if len(row) > 1]
    assert len(pairs) > 100
    for pattern, *paths in pairs:
        paths = [path for path in paths if path and not path.startswith("/")]
        assert difference(oracle, pattern, paths) is None


@pytest.mark.parametrize("pattern, example", KNOWN.items())
def test_a_known_difference(oracle: Oracle, pattern: str, example: str) -> None:
    """One that is mended has to leave the table."""
    assert difference(oracle, example, PATHS) == pattern


PIECES = [*"ab//*?!#\\[]. \n\n-^é($+|{}", "\r\n", "**", "[a-b]", "..", "a.b", "[^a]"]


@settings(max_examples=3000)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_generated_dockerignores(oracle: Oracle, text: str) -> None:
    """Nor are files made of the parts of patterns."""
    assert difference(oracle, text, PATHS) in (None, *KNOWN)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two directories with equal files, of which the second is a repository."""
    made = tmp_path_factory.mktemp("trees")
    for path in PATHS:
        for top in ("plain", "git"):
            file = made / top / f"{path}.d" / "f"
            file.parent.mkdir(parents=True)
            file.touch()
            (made / top / f"{path}.txt").touch()
    subprocess.run(["git", "init", "-q", str(made / "git")], check=True)
    return made


IGNORES = st.lists(st.sampled_from([*PIECES, ".d", ".txt", "/\n", "f", "*.d/"]), max_size=9)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(IGNORES.map("".join))
def test_generated_k8rignores(tree: Path, text: str) -> None:
    """What is packed is what git does not ignore by a .gitignore with the text."""
    (tree / "plain" / k8r.IGNORE_FILE).write_text(text)
    (tree / "git" / ".gitignore").write_text(text)
    every = {str(path.relative_to(tree / "plain")) for path in tree.glob("plain/**/*")}
    files = sorted(path for path in every if (tree / "plain" / path).is_file())
    listed = "\0".join(path for path in files if path != k8r.IGNORE_FILE)
    command = ["git", "-C", str(tree / "git"), "check-ignore", "-z", "--no-index", "--stdin"]
    done = subprocess.run(command, input=listed.encode(), stdout=subprocess.PIPE)
    assert done.returncode in (0, 1)
    ignored = set(done.stdout.decode().split("\0"))
    packed = set(k8r.list_directory(str(tree / "plain")).paths)
    assert packed - {k8r.IGNORE_FILE} == set(listed.split("\0")) - ignored
