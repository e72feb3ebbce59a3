"""What others have written, at random: it is used or refused in words, and no secret is in these.

Kubeconfigs are in test_access.py, env files and ignore files with their originals in tests/oracle.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import k8r

RECORDED = Path(__file__).with_name("recorded")
SECRET = "leaked-secret"


def show_yaml(folder: str) -> None:
    """Show the objects of a Dockerfile's run, as the command line does. Raises what is raised."""
    home = {"HOME": folder, "PATH": os.environ["PATH"]}
    env = k8r.Environment(io.BytesIO(), io.BytesIO(), io.StringIO(), home, folder)
    console = k8r.Console(env, True, False, "never")
    k8r.dispatch(["Dockerfile", "--show-yaml", "--", "true"], env, console)


# .k8r.yaml

NAMES = sorted(k8r.DIRECTORY_OPTIONS) + ["patch", "secret-job", "x", "", "a=b", "\x1b[31m"]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
VALUES = st.recursive(
    PLAIN | st.dates() | st.binary(max_size=4) | st.sampled_from(["1", "2Gi", "A=1", "HOME"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
MAPPINGS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3).map(yaml.safe_dump)
LINES = st.text("[]{}:,-!&*?|>'\"\n ab1~%@#\t", max_size=30)


@settings(max_examples=300)
@given(MAPPINGS.map(str.encode) | LINES.map(str.encode) | st.binary(max_size=12))
def test_a_directory_s_file(data: bytes) -> None:
    """A .k8r.yaml sets defaults, or is refused with its name."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").touch()
        Path(folder, k8r.DIRECTORY_CONFIG).write_bytes(data)
        try:
            show_yaml(folder)
        except k8r.UsageError as error:
            assert re.search(r"\.k8r\.yaml|--(mem|cpu|num|out)", error.message), error.message
            assert "\n" not in error.message


# URLs

PIECES = ["https://", "http://", "ssh://", "git://", "git@", "host", "host.xz", ":", "/", "@", "?"]
PIECES += ["#", "%2F", "%0a", "[::1]", ":22", "~", "repo.git", "-", " ", "\n", "\0", "é", "\udcff"]
URLS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@settings(max_examples=500)
@given(URLS | st.text(max_size=20))
def test_a_source(text: str) -> None:
    """Any word is a source with a name that a Job can have, or is refused."""
    with contextlib.suppress(k8r.UsageError):
        kind = k8r.detect_source_type(text, "")
        assert k8r.parse_job_name(k8r.make_dns_label(k8r.name_source(kind, text)), 1)
        assert k8r.split_credentials(text) and k8r.name_repository(text) is not None


USERS = URLS.filter(lambda text: not {"/", "?", "#"} & set(text))
"""With one of these the host has ended before the password, which then is none."""


@settings(max_examples=500)
@given(st.sampled_from(["https", "http", "HTTPS", "ftp", "ssh"]), USERS, URLS, URLS)
def test_a_password_in_a_url(scheme: str, user: str, odd: str, rest: str) -> None:
    """It is in no error and no name, whatever stands around it."""
    url = f"{scheme}://{user}:{SECRET}{odd}@host.xz/{rest}"
    try:
        kind = k8r.detect_source_type(url, "")
    except k8r.UsageError as error:
        assert SECRET not in error.message + error.hint
        return
    shown = k8r.name_source(kind, url), k8r.name_repository(url), k8r.split_credentials(url)[0]
    assert SECRET not in " ".join(shown)


# What git and git servers list

PATHS = st.lists(
    st.sampled_from(["a", "b", "..", ".", ".git", "", "/", "é", "\udcff", "\n", "link", "dir"]),
    min_size=1,
    max_size=4,
).map("/".join)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PATHS, max_size=4))
def test_a_listing_of_git(monkeypatch: pytest.MonkeyPatch, paths: List[str]) -> None:
    """A damaged index has nothing packed that is not in the directory."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "inside").mkdir()
        for name in ("outside", "inside/a"):
            Path(folder, name).write_text(name)
        Path(folder, "inside/dir").mkdir()
        Path(folder, "inside/link").symlink_to("..")
        monkeypatch.setattr(k8r, "find_work_tree_prefix", lambda _: "")
        monkeypatch.setattr(k8r, "run_git", lambda *args, **given: paths)
        try:
            found = k8r.list_directory(os.path.join(folder, "inside")).paths
        except k8r.K8rError as error:
            assert "\n" not in error.message
            return
        assert set(found) <= {"a", "dir"}


LENGTHS = st.sampled_from([b"0000", b"0001", b"0008", b"003f", b"ffff", b"zzzz", b"-001"])
PARTS = st.sampled_from(
    [
        b"# service=git-upload-pack\n",
        b"1" * 40,
        b" ",
        b"HEAD",
        b"refs/heads/x",
        b"\0",
        b"\n",
        b"ERR ",
    ]
)
ANSWERS = st.lists(LENGTHS | PARTS | st.binary(max_size=4), max_size=12).map(b"".join)


@settings(max_examples=500)
@given(ANSWERS | ANSWERS.map(lambda rest: b"001e# service=git-upload-pack\n" + rest + b"0000"))
def test_a_listing_of_a_server(answer: bytes) -> None:
    """It is refs, or is not git's answer."""
    with contextlib.suppress(ValueError):
        for name, commit in k8r.parse_refs(answer).items():
            assert name and len(commit) in (40, 64)


# The API server's answers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["message", "details", "causes", "kind"]), inner),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.sampled_from([400, 401, 403, 404, 409, 410, 422, 429, 500, 503]), JSON, st.binary())
def test_an_error_of_the_server(status: int, body: Any, other: bytes) -> None:
    """Whatever its content, it has words."""
    for content in (json.dumps(body).encode(), other):
        assert k8r.make_api_error(status, content, "POST", "team").message


def without(value: Any, paths: List[int]) -> Any:
    """The value with some of its parts missing or null, as servers of another version have it."""
    if isinstance(value, dict):
        kept: Dict[str, Any] = {}
        for at, key in enumerate(sorted(value)):
            needed = key in ("name", "type", "status")  # which the API never leaves out
            odd = not needed and (at + len(key)) % 7 in paths
            if not odd:
                kept[key] = without(value[key], paths[1:] or paths)
            elif len(key) % 2:
                kept[key] = None
        return kept
    return [without(item, paths) for item in value] if isinstance(value, list) else value


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(path.name for path in RECORDED.glob("*.json"))),
    st.lists(st.integers(0, 6), max_size=3),
)
def test_a_status_with_holes(name: str, paths: List[int]) -> None:
    """What the status of a pod or Job lacks is taken for nothing."""
    recorded = json.loads((RECORDED / name).read_text())
    events = recorded["events"]
    for kind in ("pod", "root"):
        item = recorded[kind]
        if item:
            item["status"] = without(item.get("status") or {}, paths)
    if recorded["pod"]:
        k8r.explain_pod(recorded["pod"], events)
        k8r.judge_pod(recorded["pod"])
        k8r.explain_pending(recorded["pod"])
    else:
        k8r.explain_root(recorded["root"], events)
    if recorded["root"] and recorded["root"].get("kind") == "Job":
        k8r.build_row_and_job(recorded["root"])
        k8r.judge_job(recorded["root"], [])
