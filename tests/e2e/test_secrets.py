"""`k8r secret`: what a run finds of it, and that nobody else does."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Tuple

import pytest
import yaml

from leaks import nowhere
from common import one_line, refused, until
from support import ALPINE, GATE, MIB, Kubectl, Object, read_until

pexpect = pytest.importorskip("pexpect")

if TYPE_CHECKING:
    from tests.conftest import Cli, Result

K8R = Path(__file__).resolve().parents[2] / "k8r.py"
SHOW_ENV = ["--", "env"]

ROLE = """\
{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "runner"},
 "rules": [
  {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]},
  {"apiGroups": [""], "resources": ["pods", "pods/log", "configmaps", "events"], "verbs": ["*"]}]}
"""


@pytest.fixture
def project(workdir: Path) -> Path:
    """A directory with something to send."""
    (workdir / "file").write_text("content\n")
    return workdir


def keep(run: Cli, *args: str, stdin: bytes = b"") -> Result:
    """`k8r secret ARGS`, which must succeed."""
    ended = run("secret", *args, stdin=stdin)
    assert ended.code == 0, ended.err
    assert ended.out == b""
    return ended


def variables(ended: Result) -> Dict[str, str]:
    """The variables that `env` printed."""
    assert ended.code == 0, ended.err
    pairs = [line.partition("=") for line in ended.text.splitlines()]
    return {name: value for name, _, value in pairs}


def secret_data(kubectl: Kubectl, name: str) -> Object:
    """The data of a Secret, in base64."""
    found: Object = kubectl.get("secret", name)["data"]
    return found


def test_a_string(run: Cli, kubectl: Kubectl, project: Path) -> None:
    """`k8r secret test-secret my-value && k8r ./ -- env`, a second run, and what it is called."""
    keep(run, "test-secret", "my-value")
    first = variables(run("./", *SHOW_ENV))
    assert first["TEST_SECRET"] == "my-value"
    assert first["TEST_SECRET_TEST_SECRET"] == "my-value"

    script = 'echo "$K8R_JOB $TEST_SECRET"; cat /k8r/secret/test-secret/test-secret'
    second = run("./", "--", "sh", "-c", script)
    assert (second.code, second.text) == (0, "work-1 my-value\nmy-value"), second.err

    [item] = kubectl.items("secrets")
    assert item["metadata"]["name"] == "work-test-secret"
    expected = {"created-by": "k8r", "k8r-job": "work", "k8r-secret": "test-secret"}
    assert expected.items() <= item["metadata"]["labels"].items()


def test_all_sources_of_a_value(run: Cli, kubectl: Kubectl, project: Path, tmp_path: Path) -> None:
    """A file, a directory and standard input, byte for byte; files by key."""
    noise = bytes(range(256)) * 40
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "user").write_text("alice")
    (folder / "pass.word").write_text("from a directory")
    (folder / "9-lives").write_text("cat")
    (folder / "noise").write_bytes(noise)
    keep(run, "db", str(folder))
    (project / "key.pem").write_bytes(noise)
    keep(run, "tls", "key.pem")
    keep(run, "piped", "-", stdin=noise)
    keep(run, "word", "-", stdin=b"from a pipe\n")
    keep(run, "9lives", "cat")

    script = "cd /k8r/secret; for f in */*; do echo $(sha256sum < $f | cut -c1-64) $f; done; env"
    ended = run("./", "--", "sh", "-c", script)
    assert ended.code == 0, ended.err
    digest = hashlib.sha256(noise).hexdigest()
    lines = ended.text.splitlines()
    for path in ("db/noise", "tls/key.pem", "piped/piped"):
        assert f"{digest} {path}" in lines
    for path in ("db/user", "db/pass.word", "db/9-lives", "word/word", "9lives/9lives"):
        assert any(line.endswith(" " + path) for line in lines)
    for line in ("DB_USER=alice", "DB_PASS_WORD=from a directory", "DB_9_LIVES=cat"):
        assert line in lines
    assert "WORD=from a pipe" in lines
    names = {line.partition("=")[0] for line in lines}
    assert not names & {"9LIVES", "DB_NOISE", "TLS_KEY_PEM", "PIPED", "DB", "TLS"}


def test_a_prompt(run: Cli, kubectl: Kubectl) -> None:
    """Without a value it is asked for, and not echoed."""
    child = pexpect.spawn(
        sys.executable, [str(K8R), "secret", "asked"], cwd=str(run.cwd), env=run.env, timeout=30
    )
    child.expect("asked")
    child.waitnoecho(10)
    child.sendline("typed-by-hand")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    assert b"typed-by-hand" not in child.before
    assert secret_data(kubectl, "work-asked") == {"asked": "dHlwZWQtYnktaGFuZA=="}


@pytest.mark.parametrize("how", ["pipe", "closed"])
def test_no_prompt_without_a_terminal(quiet_run: Cli, how: str) -> None:
    """Nobody can be asked: wrong usage, at once."""
    prefix = ("sh", "-c", 'exec "$@" <&-', "sh") if how == "closed" else ()
    ended = quiet_run.finish(quiet_run.start("secret", "asked", prefix=prefix), timeout=20)
    refused(ended, "asked", "-")


def test_list_and_delete(run: Cli, kubectl: Kubectl, project: Path) -> None:
    """Names and variables are listed, values are not; delete removes one."""
    keep(run, "alpha", "hunter2-hunter2")
    keep(run, "beta", "hunter2-hunter2", "--job-name", "other")
    listed = run("secret", "--list")
    assert listed.code == 0
    rows = [line.split() for line in listed.text.splitlines()]
    assert rows[0][:2] == ["NAME", "JOB"]
    assert sorted(row[:2] for row in rows[1:]) == [["alpha", "work"], ["beta", "other"]]
    assert "ALPHA" in listed.text and "hunter2" not in listed.text + listed.err

    absent = run("secret", "--delete", "beta")
    assert absent.code == 125
    assert "beta" in one_line(absent.err)
    gone = run("secret", "--delete", "beta", "--job-name", "other")
    assert gone.code == 0, gone.err
    assert kubectl.names("secrets") == ["work-alpha"]
    assert run("secret", "--delete", "alpha").code == 0
    assert kubectl.names("secrets") == []
    assert run("secret", "--list").code == 0


def test_yaml(k8r: Cli, project: Path) -> None:
    """--show-yaml hides the values, and needs no cluster."""
    (project / "token").write_text("hunter2-hunter2")
    for args, stdin in (
        (("x", "hunter2-hunter2"), b""),
        (("x", "./token"), b""),
        (("x", "-"), b"hunter2-hunter2"),
    ):
        process = k8r.start("secret", *args, "--show-yaml", env={"KUBECONFIG": "/nonexistent"})
        shown = k8r.finish(process, stdin)
        assert shown.code == 0, shown.err
        item = yaml.safe_load(shown.out)
        assert item["kind"] == "Secret" and item["metadata"]["name"] == "work-x"
        assert len(item["data"]) == 1
        for form in ("hunter2-hunter2", "aHVudGVyMi1odW50ZXIy"):
            assert form not in shown.text + shown.err


@pytest.mark.parametrize("kind", ["job", "deployment"])
def test_its_value_is_nowhere(run: Cli, kubectl: Kubectl, project: Path, kind: str) -> None:
    """Not in YAML, objects, events or logs, nor in a container's arguments."""
    value = "hunter2-correct-horse"
    said = keep(run, "token", "-", stdin=value.encode())
    script = "trap 'exit 0' TERM; cat /proc/1/cmdline; echo; echo ${#TOKEN}"
    options = ["-v"]
    if kind == "deployment":
        script += "; while :; do sleep 0.2; done"
        options += ["--as-deployment", "-d"]
    command = ["--", "sh", "-c", script]
    shown = run("./", "--show-yaml", *options, *command)
    ended = run("./", *options, *command)
    assert (shown.code, ended.code) == (0, 0), shown.err + ended.err
    logged = run("logs", "work")
    assert str(len(value)) in logged.text.splitlines()
    listed = run("ls", "-o", "json"), run("secret", "--list")
    texts = [
        part for each in (said, shown, ended, logged, *listed) for part in (each.text, each.err)
    ]
    nowhere(kubectl, value, *texts)


def test_two_that_want_the_same_variable(run: Cli, kubectl: Kubectl, tmp_path: Path) -> None:
    """Refused, naming both, before anything is made."""
    for name, file in (("a", "b-c"), ("a-b", "c")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / file).write_text("value")
        keep(run, name, str(folder), "--job-name", "alpine")
    refused(run(ALPINE, *SHOW_ENV), "'a'", "'a-b'", "A_B_C")
    assert kubectl.names("jobs") == []


def test_two_keys_that_want_the_same_variable(run: Cli, kubectl: Kubectl, tmp_path: Path) -> None:
    """The same within one secret: refused, naming both keys."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in ("pass.word", "pass-word"):
        (folder / file).write_text(file)
    ended = run("secret", "db", str(folder), "--job-name", "alpine")
    if ended.code == 0:
        ended = run(ALPINE, *SHOW_ENV)
    refused(ended, "pass.word", "pass-word")
    assert kubectl.names("jobs") == []


def test_the_largest(run: Cli, kubectl: Kubectl, project: Path) -> None:
    """Exactly 1 MiB is kept and arrives; one byte more is refused here."""
    (project / "large").write_bytes(os.urandom(MIB))
    keep(run, "large", "large")
    ended = run("./", "--", "sh", "-c", "cmp large /k8r/secret/large/large && echo same")
    assert (ended.code, ended.text) == (0, "same\n"), ended.err
    with open(str(project / "large"), "ab") as file:
        file.write(b"x")
    refused(run("secret", "larger", "large"), "1.0 MiB")
    refused(run("secret", "larger", "-", stdin=(project / "large").read_bytes()), "1.0 MiB")
    assert kubectl.names("secrets") == ["work-large"]


def test_of_another_job(run: Cli, kubectl: Kubectl) -> None:
    """--secret-job uses those of another name, and not one's own."""
    keep(run, "theirs", "1", "--job-name", "other")
    keep(run, "mine", "2", "--job-name", "alpine")
    found = variables(run(ALPINE, "--secret-job", "other", *SHOW_ENV))
    assert found["THEIRS"] == "1" and "MINE" not in found
    found = variables(run(ALPINE, *SHOW_ENV))
    assert found["MINE"] == "2" and "THEIRS" not in found


def test_of_a_directory_that_has_an_images_name(run: Cli, kubectl: Kubectl, tmp_path: Path) -> None:
    """An image gets them only by --secret-job or --job-name, and removes no others."""
    folder = tmp_path / "alpine"
    folder.mkdir()
    (folder / "file").write_text("content")
    ended = run("secret", "theirs", "1", cwd=folder)
    assert ended.code == 0, ended.err
    keep(run, "ours", "2", "--job-name", "alpine")
    alone = run(ALPINE, "--rm", "--rm-secrets", *SHOW_ENV)
    assert "THEIRS" not in variables(alone) and "OURS" in variables(alone)
    assert "with the secret ours\n" in alone.err and "theirs" not in alone.err
    assert kubectl.names("secrets") == ["alpine-theirs"]
    assert run(ALPINE, "--", "true").code == 0
    assert run("rm", "--secrets", "alpine").code == 0
    assert kubectl.names("secrets") == ["alpine-theirs"]
    keep(run, "ours", "2", "--job-name", "alpine")
    for option in ("--secret-job", "--job-name"):
        asked = run(ALPINE, "--rm", option, "alpine", *SHOW_ENV)
        assert {"THEIRS", "OURS"} <= set(variables(asked))
        assert "with the secrets ours, theirs\n" in asked.err
    assert "with the secrets ours, theirs\n" in run("./", "--", "true", cwd=folder).err


def test_of_a_name_that_is_cut(run: Cli, kubectl: Kubectl, tmp_path: Path) -> None:
    """The pods of many leave less room for the name; the secrets are found all the same."""
    folder = tmp_path / ("x" * 63)
    folder.mkdir()
    (folder / "file").write_text("content")
    ended = run("secret", "token", "value", cwd=folder)
    assert ended.code == 0, ended.err
    ended = run("./", "--num", "11", "--parallel", "2", "--", "sh", "-c", "echo $TOKEN", cwd=folder)
    assert (ended.code, ended.text.count("] value\n")) == (0, 11), ended.err
    assert run("rm", "--secrets", "x" * 60).code == 0
    assert kubectl.names("secrets") == []


def test_values_that_begin_with_a_dash(run: Cli, kubectl: Kubectl, project: Path) -> None:
    """Behind --; and variables arrive that the shell in between could not name."""
    keep(run, "token", "--", "-hunter2")
    odd = ["--env", "discovery.type=single node", "--env", "my-var=$(x)"]
    found = variables(run("./", *odd, *SHOW_ENV))
    assert found["TOKEN"] == "-hunter2"
    assert found["discovery.type"] == "single node" and found["my-var"] == "$(x)"
    found = variables(run(ALPINE, *odd, *SHOW_ENV))
    assert found["discovery.type"] == "single node" and found["my-var"] == "$(x)"


def test_replaced_while_a_job_runs(run: Cli, kubectl: Kubectl) -> None:
    """The object changes, other keys go, and the next run sees it."""
    keep(run, "token", "old", "--job-name", "alpine")
    process = run.start(ALPINE, "--", "sh", "-c", "echo $TOKEN; " + GATE + "; echo $TOKEN")
    read_until(process.stdout, b"old\n")
    keep(run, "token", "new", "--job-name", "alpine")
    assert secret_data(kubectl, "alpine-token") == {"token": "bmV3"}
    assert variables(run(ALPINE, *SHOW_ENV))["TOKEN"] == "new"
    kubectl.release(kubectl.running_pod("alpine"))
    assert run.finish(process).code == 0


def test_removed_with_the_job(run: Cli, kubectl: Kubectl) -> None:
    """A Job's removal leaves secrets alone, unless it is asked for."""
    keep(run, "token", "value", "--job-name", "alpine")
    keep(run, "token", "value", "--job-name", "other")
    assert run(ALPINE, "--rm", *SHOW_ENV).code == 0
    assert "alpine-token" in kubectl.names("secrets")
    assert run(ALPINE, *SHOW_ENV).code == 0
    assert run("rm", "--secrets", "alpine").code == 0
    assert kubectl.names("secrets") == ["other-token"]


@pytest.mark.parametrize("also", [(), ("--rm",)], ids=["alone", "--rm"])
def test_removed_after_the_run(run: Cli, kubectl: Kubectl, also: Tuple[str, ...]) -> None:
    """--rm-secrets removes them when the Job has ended, be it badly."""
    keep(run, "token", "value", "--job-name", "alpine")
    ended = run(ALPINE, "--rm-secrets", *also, "--", "sh", "-c", "test $TOKEN = value; exit 4")
    assert ended.code == 4, ended.err
    until(lambda: not kubectl.names("secrets") or None, "no secrets")


def test_removed_of_another_job(run: Cli, kubectl: Kubectl) -> None:
    """--rm-secrets removes those that the run used."""
    keep(run, "token", "value", "--job-name", "other")
    options = ["--secret-job", "other", "--rm-secrets", "--rm"]
    assert variables(run(ALPINE, *options, *SHOW_ENV))["TOKEN"] == "value"
    assert kubectl.names("secrets") == []


def test_directories_that_do_not_fit(quiet_run: Cli, tmp_path: Path) -> None:
    """Empty, with a directory inside, or with a name that is no key."""
    empty, nested, odd = (tmp_path / name for name in ("empty", "nested", "odd"))
    for folder in (empty, nested / "inside", odd):
        folder.mkdir(parents=True)
    (nested / "file").write_text("value")
    (odd / "a b").write_text("value")
    refused(quiet_run("secret", "x", str(empty)), "empty")
    refused(quiet_run("secret", "x", str(nested)), "inside")
    refused(quiet_run("secret", "x", str(odd)), "'a b'")


@pytest.mark.parametrize("name", ["Upper", "under_score", "-x-", "x-", "a b", "ü", "x" * 64, ""])
def test_bad_names(quiet_run: Cli, name: str) -> None:
    """What cannot be a part of a Secret's name."""
    refused(quiet_run("secret", name, "value"))


def test_somebody_elses(run: Cli, kubectl: Kubectl, project: Path) -> None:
    """A Secret of that name that k8r has not made is neither replaced nor removed."""
    kubectl("create", "secret", "generic", "work-token", "--from-literal=token=theirs")
    before = secret_data(kubectl, "work-token")
    ended = run("secret", "token", "mine")
    assert ended.code == 125
    assert "work-token" in one_line(ended.err)
    assert run("secret", "--delete", "token").code == 125
    assert secret_data(kubectl, "work-token") == before
    assert "TOKEN" not in variables(run("./", *SHOW_ENV))


def test_names_that_meet(run: Cli, kubectl: Kubectl) -> None:
    """`b-c` of `a` and `c` of `a-b` would be one object: the second is refused."""
    keep(run, "c", "first", "--job-name", "a-b")
    before = kubectl.get("secret", "a-b-c")["metadata"]["labels"]
    ended = run("secret", "b-c", "second", "--job-name", "a")
    assert ended.code in (2, 125), ended.err
    assert "a-b" in one_line(ended.err)
    assert kubectl.get("secret", "a-b-c")["metadata"]["labels"] == before
    assert secret_data(kubectl, "a-b-c") == {"c": "Zmlyc3Q="}


def test_without_rights_on_secrets(
    run: Cli, kubectl: Kubectl, project: Path, write_kubeconfig: Callable[..., str]
) -> None:
    """Who may not see secrets can run all the same, and is told why the rest fails."""
    kubectl("create", "serviceaccount", "runner")
    kubectl("create", "-f", "-", stdin=ROLE.encode())
    account = f"--serviceaccount={kubectl.namespace}:runner"
    kubectl("create", "rolebinding", "runner", "--role=runner", account)
    token = kubectl("create", "token", "runner").strip()
    config = write_kubeconfig(kubectl.namespace, user={"token": token})
    ended = run("./", "--", "cat", "file", env={"KUBECONFIG": config})
    assert (ended.code, ended.text) == (0, "content\n"), ended.err
    assert "secrets" not in ended.err
    asked = run("./", "--secret-job", "other", "--", "cat", "file", env={"KUBECONFIG": config})
    assert asked.code == 0 and "no secrets are used" in asked.err
    for args in (("secret", "x", "value"), ("secret", "--list")):
        denied = run(*args, env={"KUBECONFIG": config})
        assert denied.code == 125
        assert "permission" in one_line(denied.err) and "secrets" in denied.err
