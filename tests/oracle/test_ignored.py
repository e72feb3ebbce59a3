"""Ignore files: .dockerignore as docker's client reads it, .k8rignore as git reads its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import docker
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import k8r
from oracle import Oracle

FILES = ["a/b/a", "a/x/y/b", "ab", "a.b", "b/a.b", "b/b/b", "é/a", "aab/ba", "c"]
PATHS = ["a", "b", "a/b", "a/b/a", "ab", "a.b", "b/a.b", "b/b/b", "é/a", "aab/ba", "a/x/y/b", "^"]
PIECES = [*"ab//*?!#\\[]. \n\n-^é($+|{}", "\r\n", "**", "[a-b]", "..", "a.b", "[^a]"]
LINES = [
    "*",
    "a",
    "b/",
    "/a/b",
    "**/b",
    "!a",
    "!a/b",
    "!**/b",
    "!b/a.b",
    "*.b",
    "a?b",
    "# a",
    "!*b",
]
DOCKERIGNORES = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
    st.lists(st.sampled_from(LINES), max_size=5).map("\n".join),
)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that is built."""
    made = tmp_path_factory.mktemp("context")
    for path in FILES:
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).touch()
    return made


@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCKERIGNORES)
def test_generated_dockerignores(oracle: Oracle, context: Path, text: str) -> None:
    """What the classic builder is sent, if it is not refused, is what docker's client sends."""
    if k8r.find_unclear_rule(text):
        return
    answer = oracle.ignored(text, FILES)
    assert "error" not in answer, text
    # As docker's SDK reads a file.
    rules = [line.strip() for line in text.splitlines()]
    sent = docker.utils.exclude_paths(
        str(context), [rule for rule in rules if rule and rule[0] != "#"]
    )
    assert {path for path in FILES if path not in sent} == set(answer["ignored"]), text


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
