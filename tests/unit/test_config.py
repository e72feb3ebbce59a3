"""Defaults from files and variables: what counts, what is refused, and where it came from."""

from __future__ import annotations

import os
import socket
import re
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
    """The Job that a command line makes of a directory."""
    (k8r.cwd / "main.py").touch()
    done = k8r("./", "--show-yaml", *args, "--", "true", env=env)
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
    """The user's file may name a context, for every subcommand."""
    k8r = configured({"context": "nowhere"})
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
    ({"restricted": "maybe"}, ["restricted", "neither true nor false"]),
    ("- a\n", ["not a mapping"]),
    ("a: [", ["not valid YAML"]),
    ({"env": ["AWS_SECRET_ACCESS_KEY"]}, ["env", "'AWS_SECRET_ACCESS_KEY'", "KEY=VALUE"]),
    ({"env": {"AWS_SECRET_ACCESS_KEY": None}}, ["env", "'AWS_SECRET_ACCESS_KEY'"]),
    ({"env": "HOME"}, ["env", "'HOME'", "KEY=VALUE"]),
    ({"build-arg": ["TOKEN"]}, ["build-arg", "'TOKEN'", "KEY=VALUE"]),
    ({"env": {"A": {"B": 1}}}, ["env", "one value"]),
    ({"target": ""}, ["target", "empty value"]),
    ("env: {A: &a [*a]}", ["not valid YAML"]),
    ("num: &a {<<: *a}", ["num", "one value"]),
    ("env: {A: 2026-99-99}", ["not valid YAML"]),
    ("? [a, b]\n: c\n", ["not valid YAML"]),
    ("a: " + "[" * 16_000, ["not valid YAML"]),
    ("num: 0x" + "f" * 16_000, ["not valid YAML"]),
    ("# " + "x" * 16_384, ["16.0 KiB"]),
    ('num: "\\ud800"', ["not valid YAML"]),
    ('num: "\\e[31m"', ["num", "\\x1b[31m"]),
    ('"\\e]0;x\\a": 1', ["\\x1b]0;x\\x07"]),
]
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{number}: &a{number} [*a{number - 1}, *a{number - 1}]\n" for number in range(1, 30)
)
REFUSED.append((LAUGHS, ["more than 10 aliases"]))
NOT_A_DIRECTORYS = (
    "color context env-file git-image git-secret insecure job-name kubeconfig patch pull-secret "
    "quiet rm secret-job verbose"
).split()
REFUSED += [({name: "yes"}, [f"must not set {name}", f"--{name}"]) for name in NOT_A_DIRECTORYS]


@pytest.mark.parametrize(
    "content, words", REFUSED, ids=[str(content)[:40] for content, _ in REFUSED]
)
def test_what_is_wrong_is_named(configured: Any, content: Any, words: List[str]) -> None:
    """One line with the file, the option, and what to do."""
    done = configured(None, content)("./", "--show-yaml", "--", "true")
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
    there = {"num": 3, "env": ["B=2"], "restricted": "yes"}
    k8r = configured({"num": 2, "env": ["A=1"], "cpu": 2}, there)
    rows = [line.split(None, 2) for line in k8r("config", env={"K8R_CPU": "4"}).text.splitlines()]
    own, here = k8r.env["HOME"] + "/.config/k8r/config.yaml", str(k8r.cwd / ".k8r.yaml")
    assert rows == [
        ["OPTION", "VALUE", "FROM"],
        ["cpu", "4", "$K8R_CPU"],
        ["env", "A=1,", f"B=2   {own}, {here}"],
        ["num", "3", here],
        ["restricted", "true", here],
    ]
    shown = k8r("config", "--show").text
    assert re.search("git-image +alpine/git:latest +k8r\n", shown) and "A=1, B=2" in shown
    assert re.search("setup|base-image +- +-\n", shown)
    known = module.list_configurable(module.build_parser())
    assert [line.split()[0] for line in shown.splitlines()[1:]] == sorted(known)


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


KUBECONFIG = (
    "{apiVersion: v1, kind: Config, current-context: here, contexts: [{name: here, context: "
    "{cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], "
    "users: [{name: u, user: {}}]}"
)


def put(folder: Path, text: str) -> Path:
    """A directory with a .k8r.yaml."""
    folder.mkdir(exist_ok=True)
    (folder / ".k8r.yaml").write_text(text)
    return folder


def test_the_sources_file_counts(k8r: Cli) -> None:
    """Of another directory, by a link too; of a Dockerfile its own; of an image none."""
    put(k8r.cwd, "num: 2")
    other = put(k8r.cwd / "other", "num: 3\ntarget: base")
    (other / "Dockerfile").write_text("FROM scratch\n")
    (k8r.cwd / "link").symlink_to("other")
    found = {}
    for source in ("./", "other", "link", "other/Dockerfile", "alpine", "https://h/o/r.git"):
        done = k8r(source, "--show-yaml", "--", "true")
        assert done.code == 0, done.err
        found[source] = list(yaml.safe_load_all(done.text))[-1]["spec"]["completions"]
    assert list(found.values()) == [2, 3, 3, 3, 1, 1]


BROKEN = ["a: [", "patch: x", "num: x", "- a", "namespace: [a]", "x" * 17_000]


@pytest.mark.parametrize("text", BROKEN, ids=[text[:20] for text in BROKEN])
def test_a_broken_file_stops_a_run_alone(k8r: Cli, text: str) -> None:
    """Commands that only look or tidy up go on, and tell what is wrong with it."""
    put(k8r.cwd, text)
    k8r.env["KUBECONFIG"] = str(k8r.cwd / "gone")
    for args in (["./", "--", "true"], ["secret", "x", "y"], ["config"]):
        done = k8r(*args)
        assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
        assert ".k8r.yaml" in done.err
    for args in (["ls"], ["logs", "x"], ["rm", "x"]):
        done = k8r(*args)
        assert "no kubeconfig" in done.err, done.err
        assert ".k8r.yaml" in done.err.splitlines()[0] or text == "num: x"


@pytest.mark.parametrize("kind", ["device", "pipe", "out", "dangling", "directory", "socket"])
def test_what_is_not_a_file_of_the_directory(k8r: Cli, kind: str) -> None:
    """Refused at once: nothing is read that has no end, does not answer, or lies elsewhere."""
    path, outside = k8r.cwd / ".k8r.yaml", k8r.cwd.parent / "outside"
    outside.write_text("num: 3")
    if kind == "pipe":
        os.mkfifo(str(path))
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        path.symlink_to("s")
        with socket.socket(socket.AF_UNIX) as there:
            there.bind(os.path.relpath(str(k8r.cwd / "s")))
    else:
        path.symlink_to({"device": "/dev/zero", "out": "../outside"}.get(kind, "gone"))
    done = k8r("./", "--show-yaml", "--", "true")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert ".k8r.yaml cannot be read: " in done.err


def test_a_link_inside_of_the_directory(k8r: Cli) -> None:
    """It is the directory's own file all the same."""
    (k8r.cwd / "settings.yaml").write_text("num: 3")
    (k8r.cwd / ".k8r.yaml").symlink_to("settings.yaml")
    assert completions(k8r) == 3


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfnum: 3\r\ncpu: 2\r\n", b"num: 3"])
def test_as_other_editors_write(k8r: Cli, text: bytes) -> None:
    """A byte order mark and CRLF change nothing."""
    (k8r.cwd / ".k8r.yaml").write_bytes(text)
    assert completions(k8r) == 3


def test_few_aliases_are_written_out(k8r: Cli) -> None:
    """As YAML has them."""
    put(k8r.cwd, "num: &n 3\nparallel: *n\n")
    assert job_of(k8r)["spec"]["parallelism"] == 3


def test_the_directorys_namespace_is_said(k8r: Cli) -> None:
    """By each command that uses it; what is given counts more, and is not said."""
    (k8r.cwd / "main.py").touch()
    put(k8r.cwd, "namespace: theirs")
    k8r.env["KUBECONFIG"] = str(k8r.cwd / "kubeconfig")
    (k8r.cwd / "kubeconfig").write_text(KUBECONFIG)
    said = f"k8r: namespace theirs of {k8r.cwd}/.k8r.yaml"
    for args in (["ls"], ["logs", "x"], ["rm", "x"], ["./", "--", "true"], ["secret", "--list"]):
        assert said in k8r(*args, env={"K8R_TEST_RETRY": "0"}).err.splitlines(), args
    assert "theirs" not in k8r("-n", "mine", "./", "--show-yaml", "--", "true").err
    shown = k8r("./", "--show-yaml", "--", "true", env={"K8R_NAMESPACE": "mine"})
    assert "theirs" not in shown.err
    assert "theirs" not in k8r("alpine", "--show-yaml").err


def test_a_secret_wants_the_namespace_confirmed(k8r: Cli) -> None:
    """A directory does not choose where a secret goes."""
    put(k8r.cwd, "namespace: theirs")
    for args in (["token", "hunter2"], ["token", "--delete"], ["token", "hunter2", "--show-yaml"]):
        done = k8r("secret", *args)
        assert (done.code, done.out) == (2, b"") and "hunter2" not in done.err
        assert "namespace theirs" in done.err and "-n NAMESPACE" in done.err
    assert k8r("secret", "token", "hunter2", "--show-yaml", "-n", "theirs").code == 0


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:80", "udp://10.0.0.1:53", "sctp://10.0.0.1:9"])
def test_variables_of_a_service_are_no_settings(k8r: Cli, port: str) -> None:
    """A Service named k8r gives each container of its namespace such variables."""
    service = {"K8R_PORT": port, "K8R_SERVICE_HOST": "10.0.0.1", "K8R_SERVICE_PORT": "80"}
    assert job_of(k8r, **service, K8R_PORT_80_TCP_ADDR="10.0.0.1")["kind"] == "Job"


OPTIONS = sorted(
    option
    for option in module.list_options(
        module.list_subcommands(module.build_parser())["run"], valued=True
    )
    if option.startswith("-")
)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_empty_value_is_refused(k8r: Cli, option: str) -> None:
    """It comes from a variable that is not set; nothing good is meant by it."""
    done = k8r("./", "--show-yaml", option, "", "--", "true")
    assert (done.code, done.out) == (2, b"") and option in done.err, done.err
    assert "empty value" in done.err


@pytest.mark.parametrize("option", ["--env-file", "--patch"])
def test_utf_16_is_told(k8r: Cli, option: str) -> None:
    """A file of another encoding is named, with what to do."""
    (k8r.cwd / "file").write_bytes("A=1\n".encode("utf-16"))
    done = k8r("./", "--show-yaml", option, "file", "--", "true")
    assert (done.code, "it is UTF-16; save it as UTF-8" in done.err) == (2, True), done.err


def test_an_env_file_with_a_byte_order_mark(k8r: Cli) -> None:
    """The first name is free of it; a pipe will do for a file."""
    (k8r.cwd / "file").write_bytes(b"\xef\xbb\xbfTOKEN=abc\r\nUNSET_ELSEWHERE\r\n")
    (container,) = job_of(k8r, "--env-file", "file")["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert values["TOKEN"] == "abc" and "UNSET_ELSEWHERE" not in values


def test_names_that_a_shell_would_drop(k8r: Cli) -> None:
    """They are handed to the command past the shell that unpacks."""
    job = job_of(k8r, "--env", "discovery.type=$(x) y", "--env", "A=1")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["env", "--", "discovery.type=$$(x) y", "true"]
    assert "discovery.type" in {entry["name"] for entry in container["env"]}


def test_a_date_in_a_patch(k8r: Cli) -> None:
    """YAML's own types become the text that JSON has."""
    (k8r.cwd / "patch.yaml").write_text("metadata: {annotations: {since: 2026-01-02}}")
    template = job_of(k8r, "--patch", "patch.yaml")["spec"]["template"]
    assert template["metadata"]["annotations"]["since"] == "2026-01-02"
