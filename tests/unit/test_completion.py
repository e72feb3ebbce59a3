"""What a shell is told that a command line may go on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import pytest

import k8r as module
from tests.conftest import Cli


def complete(k8r: Cli, *words: str) -> List[str]:
    """The answer to a shell."""
    done = k8r(module.COMPLETION_WORD, *words)
    assert (done.code, done.err) == (0, "")
    return done.text.splitlines()


@pytest.mark.parametrize(
    "words, found",
    [
        (["l"], ["logs", "ls"]),
        (["-n", "x", "l"], ["logs", "ls"]),
        (["--ver"], ["--verbose", "--version"]),
        (["run", "--ver"], ["--verbose"]),
        (["./", "--base"], ["--base-image"]),
        (["-d", "./", "--nu"], ["--num"]),
        (["ls", "--output"], ["--output"]),
        (["ls", "-o", ""], ["json", "name", "table", "wide", "yaml"]),
        (["ls", "-o", "w"], ["wide"]),
        (["--color=a"], ["--color=always", "--color=auto"]),
        (["--color", "=", "n"], ["never"]),  # as bash splits it
        (["./"], []),
        (["./", "--base-image", ""], []),
        (["./", "--", "l"], []),
        (["./", "--", "--col"], []),
        (["ls", "x"], []),
        (["logs", ""], []),
        (["--context", ""], []),
        (["--zzz", "--zz"], []),
        (["./", "--port", "8080", ":"], []),
        (["logs", "--index", ""], []),
        (["cp", "work", ":", "a"], []),
    ],
    ids=" ".join,
)
def test_words(k8r: Cli, words: List[str], found: List[str]) -> None:
    """Subcommands, options, and values of these; an empty answer means file names."""
    assert complete(k8r, *words) == found


def test_no_word_at_all(k8r: Cli) -> None:
    """The subcommands."""
    assert complete(k8r) == sorted(module.SUBCOMMANDS)


def test_contexts(k8r: Cli) -> None:
    """They come from the kubeconfig, without a cluster."""
    path = Path(k8r.env["HOME"]) / "kubeconfig"
    contexts = [{"name": name, "context": {}} for name in ("prod", "kind-a", "kind-b")]
    path.write_text(json.dumps({"contexts": contexts, "clusters": [], "users": []}))
    assert complete(k8r, "--kubeconfig", str(path), "--context", "kind") == ["kind-a", "kind-b"]
    k8r.env["KUBECONFIG"] = str(path)
    assert complete(k8r, "ls", "--context=p") == ["--context=prod"]


def test_a_broken_kubeconfig_is_silent(k8r: Cli) -> None:
    """Nobody wants an error at the Tab key."""
    path = Path(k8r.env["HOME"]) / "kubeconfig"
    path.write_text("[")
    k8r.env["KUBECONFIG"] = str(path)
    assert complete(k8r, "logs", "") == complete(k8r, "--context", "") == []
