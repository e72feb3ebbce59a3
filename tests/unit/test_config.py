"""Defaults from files and variables: what counts, what is refused, and where it came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml

import k8r as module
from tests.conftest import Cli


@pytest.fixture
def configured(k8r: Cli) -> Any:
    """Writes the user's and the directory's file; returns k8r."""

    def write(user: Any = None, directory: Any = None) -> Cli:
        folder = Path(k8r.env["HOME"]) / ".config/k8r"
        folder.mkdir(parents=True)
        for path, content in (
            (folder / "config.yaml", user),
            (k8r.cwd / ".k8r.yaml", directory),
        ):
            if content is not None:
                text = content if isinstance(content, str) else yaml.safe_dump(content)
                path.write_text(text)
        return k8r

    return write


def job_of(k8r: Cli, *args: str, **env: str) -> Dict[str, Any]:
    """The Job that a command line makes."""
    done = k8r("alpine", "--show-yaml", *args, "--", "true", env=env)
    assert done.code == 0, done.err
    found: Dict[str, Any] = list(yaml.safe_load_all(done.text))[-1]
    return found


def completions(*args: Any, **kwargs: Any) -> int:
    """How many pods a command line asks for."""
    return int(job_of(*args, **kwargs)["spec"]["completions"])


def test_the_nearer_one_counts(configured: Any) -> None:
    """Command line before environment before directory before user."""
    k8r = configured({"num": 2}, None)
    assert completions(k8r) == 2
    (k8r.cwd / ".k8r.yaml").write_text("num: 3\n")
    assert completions(k8r) == 3
    assert completions(k8r, K8R_NUM="4") == 4
    assert completions(k8r, "--num", "5", K8R_NUM="4") == 5


def test_lists_add_up(configured: Any) -> None:
    """Variables come from everywhere; of equal names the nearer one counts."""
    user = {"env": {"A": 1, "B": True, "HOME_TOWN": None}}
    k8r = configured(user, {"env": ["B=2", "C=3"]})
    job = job_of(k8r, "--env", "C=4", HOME_TOWN="here")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert [values[name] for name in ("A", "B", "C", "HOME_TOWN")] == ["1", "2", "4", "here"]


def test_global_options(configured: Any) -> None:
    """A directory may name its namespace and context, for every subcommand."""
    k8r = configured(None, {"context": "nowhere", "namespace": "mine"})
    k8r.env["KUBECONFIG"] = str(k8r.cwd / "kubeconfig")
    Path(k8r.env["KUBECONFIG"]).write_text("{apiVersion: v1, kind: Config, contexts: []}")
    done = k8r("ls")
    assert (done.code, "'nowhere'" in done.err) == (2, True), done.err
    done = k8r("ls", "--context", "else")
    assert (done.code, "'else'" in done.err) == (2, True), done.err


def test_paths_are_relative_to_their_file(configured: Any) -> None:
    """A patch beside the user's file is found from every directory."""
    k8r = configured({"patch": "my patch.yaml"}, None)
    patch = Path(k8r.env["HOME"]) / ".config/k8r/my patch.yaml"
    patch.write_text("spec: {priorityClassName: low}")
    assert job_of(k8r)["spec"]["template"]["spec"]["priorityClassName"] == "low"


def test_another_place(configured: Any, tmp_path: Path) -> None:
    """XDG_CONFIG_HOME is where the user's file is."""
    k8r = configured({"num": 2}, None)
    (tmp_path / "xdg/k8r").mkdir(parents=True)
    (tmp_path / "xdg/k8r/config.yaml").write_text("num: 6")
    assert completions(k8r, XDG_CONFIG_HOME=str(tmp_path / "xdg")) == 6


REFUSED = [
    ({"base-imge": "x"}, ["base-imge", "did you mean base-image?"]),
    ({"zzz": 1}, ["zzz", "k8r config --show"]),
    ({"detach": True}, ["detach"]),
    ({"num": "x"}, ["num", "'x' is not a valid count"]),
    ({"num": [1]}, ["num", "one value"]),
    ({"num": True}, ["num", "'true' is not a valid count"]),
    ({"num": None}, ["num", "one value"]),
    ({"rm": "maybe"}, ["rm", "neither true nor false"]),
    ({"color": "pink"}, ["color", "'pink'", "always"]),
    ({"kubeconfig": "x"}, ["a directory must not set kubeconfig"]),
    ({"insecure": True}, ["a directory must not set insecure"]),
    ("- a\n", ["not a mapping"]),
    ("a: [", ["not valid YAML"]),
]


@pytest.mark.parametrize("content, words", REFUSED, ids=[str(content) for content, _ in REFUSED])
def test_what_is_wrong_is_named(configured: Any, content: Any, words: List[str]) -> None:
    """One line with the file, the option, and what to do."""
    done = configured(None, content)("alpine", "--show-yaml", "--", "true")
    assert done.code == 2 and len(done.err.splitlines()) == 1, done.err
    for word in [".k8r.yaml", *words]:
        assert word in done.err


def test_a_wrong_variable(k8r: Cli) -> None:
    """It is named, too."""
    done = k8r("alpine", "--show-yaml", "--", "true", env={"K8R_NUM": "0"})
    assert (done.code, "$K8R_NUM: '0' is not a valid count" in done.err) == (2, True), done.err


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("env",), ("run", "--help")])
def test_a_wrong_file_does_not_keep_help_away(configured: Any, args: Any) -> None:
    """Help, version and shell function need no configuration."""
    assert configured("[", "[")(*args).code == 0


def test_show(configured: Any) -> None:
    """Where each value comes from."""
    k8r = configured({"num": 2, "env": ["A=1"], "cpu": 2}, {"num": 3, "env": ["B=2"], "rm": "yes"})
    rows = [line.split(None, 2) for line in k8r("config", env={"K8R_CPU": "4"}).text.splitlines()]
    own, here = k8r.env["HOME"] + "/.config/k8r/config.yaml", str(k8r.cwd / ".k8r.yaml")
    assert rows == [
        ["OPTION", "VALUE", "FROM"],
        ["cpu", "4", "$K8R_CPU"],
        ["env", "A=1,", f"B=2   {own}, {here}"],
        ["num", "3", here],
        ["rm", "true", here],
    ]
    shown = k8r("config", "--show").text
    assert "base-image   alpine:latest" in shown and "A=1, B=2" in shown


def test_nothing_to_show(k8r: Cli) -> None:
    """Said on stderr."""
    done = k8r("config")
    assert (done.code, done.text) == (0, "") and ".k8r.yaml" in done.err


def test_every_option_can_be_looked_up() -> None:
    """No two of them want the same variable, and none that k8r gives a container."""
    known = module.list_configurable(module.build_parser())
    variables = ["K8R_" + name.upper().replace("-", "_") for name in known]
    assert len(set(variables)) == len(variables) > 25
    assert not {"K8R_INDEX", "K8R_COUNT", "K8R_JOB", "K8R_REGISTRY", "K8R_PROJECT"} & set(variables)
    assert os.path.basename(module.USER_CONFIG) == "config.yaml"
