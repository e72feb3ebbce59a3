"""That the oracle asks the originals what it is meant to: one known answer of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from oracle import Oracle

FIRST = """\
clusters: [{name: c, cluster: {server: "https://first", certificate-authority: ca.crt}}]
contexts: [{name: one, context: {cluster: c, user: u}}]
"""
SECOND = """\
current-context: one
clusters: [{name: c, cluster: {server: "https://second"}}]
users: [{name: u, user: {tokenFile: token, as: somebody}}]
"""


def test_an_image(oracle: Oracle) -> None:
    """A short name is completed; one in capitals is refused."""
    answer = oracle.image("alpine:3")
    assert (answer["domain"], answer["path"], answer["tag"]) == ("docker.io", "library/alpine", "3")
    assert "must be lowercase" in oracle.image("Alpine")["error"]


def test_a_name(oracle: Oracle) -> None:
    """Each kind has its own rules."""
    assert oracle.wrong_name("env", "discovery.type") is None
    assert oracle.wrong_name("env", "1 or 2") is None
    assert oracle.wrong_name("env_strict", "1 or 2")
    assert oracle.wrong_name("label_value", "a_b.c") is None
    assert oracle.wrong_name("dns_label", "a_b.c")


def test_a_quantity(oracle: Oracle) -> None:
    """It is exact, with every suffix."""
    assert oracle.quantity("1.5Gi") == {
        "canonical": "1536Mi",
        "decimal": "1610612736",
        "milli": 1610612736000,
    }
    assert oracle.quantity("1e3")["decimal"] == "1000"
    assert "error" in oracle.quantity("1 Gi")


def test_a_kubeconfig(oracle: Oracle, tmp_path: Path) -> None:
    """Of several files the first counts; paths are relative to their own file."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "first").write_text(FIRST)
    (tmp_path / "ca.crt").touch()
    (tmp_path / "sub/second").write_text(SECOND)
    (tmp_path / "sub/token").write_text("secret\n")
    env = {"HOME": str(tmp_path), "KUBECONFIG": "first:sub/second:missing"}
    answer = oracle.kubeconfig(env, tmp_path, namespace="mine")
    assert answer["server"] == "https://first"
    assert answer["ca_file"] == str(tmp_path / "ca.crt")
    assert answer["token"].strip() == "secret"
    assert answer["token_file"] == str(tmp_path / "sub/token")
    assert answer["impersonate"]["user"] == "somebody"
    assert answer["namespace"] == "mine"
    wrong = oracle.kubeconfig(env, tmp_path, context="two")
    assert "context was not found for specified context: two" in wrong["error"]


def test_a_patch(oracle: Oracle) -> None:
    """Lists are merged by their own keys; what has a wrong type is told."""
    main = {"name": "main", "image": "x", "ports": [{"containerPort": 80}]}
    template = {"spec": {"containers": [main]}}
    patch = {"spec": {"containers": [{"name": "main", "ports": [{"containerPort": 81}]}]}}
    merged = oracle.patch(template, patch)["result"]["spec"]["containers"][0]
    assert merged["image"] == "x"
    assert merged["ports"] == [{"containerPort": 81}, {"containerPort": 80}]
    assert "cannot unmarshal" in oracle.patch(template, {"spec": {"hostNetwork": "x"}})["decoding"]


def test_an_env_file(oracle: Oracle, tmp_path: Path) -> None:
    """A bare name takes its value from the environment, or is left out."""
    path = tmp_path / "env"
    path.write_text("A=1\n# comment\nB\nC\n")
    assert oracle.env_file(path, {"B": "here"})["lines"] == ["A=1", "B=here"]


def test_an_ignore_file(oracle: Oracle) -> None:
    """A pattern is anchored, and a later one takes back an earlier one."""
    paths = ["a.py", "b.py", "sub/c.py"]
    assert oracle.ignored("*.py\n!a.py\n", paths)["ignored"] == ["b.py"]


def test_misuse(oracle: Oracle, tmp_path: Path) -> None:
    """A question that makes no sense is not taken for an answer."""
    with pytest.raises(AssertionError, match="no kind of name"):
        oracle.wrong_name("color", "blue")
    with pytest.raises(AssertionError, match="no option"):
        oracle.kubeconfig({}, tmp_path, colour="blue")
