"""Options of `k8r run` that shape the pod: resources, variables, patches, pull secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Tuple

import pytest
import yaml

from common import one_line, refused
from support import ALPINE, Kubectl, Object

if TYPE_CHECKING:
    from tests.conftest import Cli

PATCH = """\
spec:
  nodeSelector: {kubernetes.io/os: linux}
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    env:
    - {name: PATCHED, value: "yes"}
    - {name: GIVEN, value: from the patch}
    securityContext: {readOnlyRootFilesystem: true}
    volumeMounts:
    - {name: scratch, mountPath: /tmp}
  volumes:
  - {name: scratch, emptyDir: {}}
metadata:
  labels: {team: blue}
"""

READ_ONLY = """\
cat file
echo $GIVEN $OTHER $PATCHED
touch /tmp/new && echo /tmp can be written
touch /new 2>/dev/null || echo / cannot
touch new && echo the directory can
"""


def main_container(pod: Object) -> Object:
    """The container of the command, of a pod or a pod template."""
    [found] = [item for item in pod["spec"]["containers"] if item["name"] == "main"]
    container: Object = found
    return container


def shown_container(k8r: Cli, *options: str) -> Object:
    """The container as --show-yaml prints it."""
    shown = k8r(ALPINE, *options, "--show-yaml", "--", "true")
    assert shown.code == 0, shown.err
    [job] = yaml.safe_load_all(shown.out)
    return main_container(job["spec"]["template"])


@pytest.mark.parametrize(
    "option, name, low, high",
    [
        (("--mem", "2gb-8gb"), "memory", "2Gi", "8Gi"),
        (("--mem", "512Mi"), "memory", "512Mi", "512Mi"),
        (("--mem", "1.5G"), "memory", "1.5G", "1.5G"),
        (("--mem", "100mb"), "memory", "100Mi", "100Mi"),
        (("--mem", "1000000"), "memory", "1000000", "1000000"),
        (("--cpu", "500m-2"), "cpu", "500m", "2"),
        (("--cpu", "0.5"), "cpu", "0.5", "0.5"),
        (("--gpu", "2"), "nvidia.com/gpu", None, "2"),
    ],
)
def test_resources_in_yaml(
    k8r: Cli, option: Tuple[str, ...], name: str, low: str, high: str
) -> None:
    """Each form, as a request and a limit."""
    found = shown_container(k8r, *option)["resources"]
    assert (found.get("requests") or {}).get(name) == low
    assert found["limits"] == {name: high}


def test_resources_in_the_pod(run: Cli, kubectl: Kubectl) -> None:
    """They land in the pod, which runs with them."""
    options = ["--mem", "32mb-64Mi", "--cpu", "50m-2"]
    ended = run(ALPINE, *options, "--", "sh", "-c", "echo ran")
    assert (ended.code, ended.text) == (0, "ran\n"), ended.err
    [pod] = kubectl.items("pods")
    assert main_container(pod)["resources"] == {
        "requests": {"memory": "32Mi", "cpu": "50m"},
        "limits": {"memory": "64Mi", "cpu": "2"},
    }


def test_a_gpu_that_no_node_has(run: Cli, kubectl: Kubectl) -> None:
    """It is asked for in the pod, and its lack explained; --timeout bounds the wait."""
    ended = run(ALPINE, "--gpu", "2", "--timeout", "4", "--", "true")
    assert ended.code == 124, ended.err
    assert "nvidia.com/gpu" in ended.err
    [job] = kubectl.items("jobs")
    container = main_container(job["spec"]["template"])
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}


@pytest.mark.parametrize(
    "option",
    [
        ("--mem", "12q"),
        ("--mem", "lots"),
        ("--mem", "0"),
        ("--mem", "-1"),
        ("--mem", "8gb-2gb"),
        ("--mem", "1gb-2gb-3gb"),
        ("--cpu", "0"),
        ("--cpu", "two"),
        ("--cpu", "1.2.3"),
        ("--cpu", "2-500m"),
        ("--gpu", "0.5"),
        ("--gpu", "0"),
        ("--num", "many"),
        ("--grace", "soon"),
    ],
    ids=" ".join,
)
def test_bad_quantities(quiet_run: Cli, option: Tuple[str, str]) -> None:
    """Refused before anything is made."""
    refused(quiet_run(ALPINE, f"{option[0]}={option[1]}", "--", "true"))


def test_variables(run: Cli, workdir: Path) -> None:
    """--env from the command line and from here, --env-file; the later counts."""
    (workdir / "file.env").write_text(
        "# a comment\n"
        "\n"
        "  # another\n"
        "PLAIN=a b\n"
        "QUOTED='as it is' # no comment\n"
        "EQUALS=a=b=c\n"
        "EMPTY=\n"
        "FROM_HERE\n"
        "TWICE=file\n"
    )
    options = ["--env", "GIVEN=x y=z", "--env", "HERE_TOO", "--env", "TWICE=option"]
    here = {"FROM_HERE": "1", "HERE_TOO": "2"}
    ended = run(ALPINE, "--env-file", "file.env", *options, "--", "env", env=here)
    assert ended.code == 0, ended.err
    pairs = [line.partition("=") for line in ended.text.splitlines()]
    found = {name: value for name, _, value in pairs}
    expected = {
        "PLAIN": "a b",
        "QUOTED": "'as it is' # no comment",
        "EQUALS": "a=b=c",
        "EMPTY": "",
        "FROM_HERE": "1",
        "GIVEN": "x y=z",
        "HERE_TOO": "2",
        "TWICE": "option",
    }
    assert expected.items() <= found.items()


@pytest.mark.parametrize("variable", ["=1", "", "a b=1", "ä=1", "UNSET_HERE"])
def test_bad_variables(quiet_run: Cli, variable: str) -> None:
    """No variable's name, or none that is set here."""
    refused(quiet_run(ALPINE, "--env", variable, "--", "true"), variable.partition("=")[0])


def test_bad_env_files(quiet_run: Cli, workdir: Path) -> None:
    """The line that is wrong is named by its number, and a file that is none by its name."""
    (workdir / "bad.env").write_text("A=1\n# comment\n\nexport B=2\n")
    refused(
        quiet_run(ALPINE, "--env-file", "bad.env", "--", "true"), "bad.env", "line 4", "export B"
    )
    (workdir / "latin.env").write_bytes(b"A=\xff\n")
    for name in ("latin.env", "absent.env", "."):
        refused(quiet_run(ALPINE, "--env-file", name, "--", "true"), name)


def test_a_patch(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """It is merged: what k8r has put in stays, named things are joined by name."""
    (workdir / "file").write_text("content\n")
    (workdir / "patch.yaml").write_text(PATCH)
    options = ["--patch", "patch.yaml", "--env", "GIVEN=given", "--env", "OTHER=other"]
    ended = run("./", *options, "--", "sh", "-c", READ_ONLY)
    assert ended.code == 0, ended.err
    assert ended.text.splitlines() == [
        "content",
        "from the patch other yes",
        "/tmp can be written",
        "/ cannot",
        "the directory can",
    ]
    [pod] = kubectl.items("pods")
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod["spec"]["terminationGracePeriodSeconds"] == 1
    assert {"team": "blue", "created-by": "k8r"}.items() <= pod["metadata"]["labels"].items()
    assert main_container(pod)["image"] == ALPINE
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {"workspace", "source", "scratch"} <= volumes


def test_credentials_for_the_api(run: Cli, workdir: Path) -> None:
    """The command finds a token only where the patch names an account, or asks for one."""
    look = ["--", "sh", "-c", "test -s /var/run/secrets/kubernetes.io/serviceaccount/token"]
    assert run(ALPINE, *look).code == 1
    for spec in ("serviceAccountName: default", "automountServiceAccountToken: true"):
        (workdir / "patch.yaml").write_text(f"spec: {{{spec}}}")
        ended = run(ALPINE, "--patch", "patch.yaml", *look)
        assert ended.code == 0, ended.err


def test_a_service_account(run: Cli, kubectl: Kubectl) -> None:
    """Its token is there, and is of that account; its own labels are on the Job and its pods."""
    kubectl("create", "serviceaccount", "reader")
    look = ["--", "cut", "-d.", "-f2", "/var/run/secrets/kubernetes.io/serviceaccount/token"]
    ended = run(ALPINE, "--service-account", "reader", "--label", "team=ml", *look)
    assert ended.code == 0, ended.err
    claims = base64.urlsafe_b64decode(ended.text.strip() + "==")
    assert json.loads(claims)["sub"] == f"system:serviceaccount:{kubectl.namespace}:reader"
    for kind in ("jobs", "pods"):
        [found] = kubectl.items(f"{kind}")
        labels = found["metadata"]["labels"]
        assert (labels["team"], labels["k8r-job"]) == ("ml", "alpine")


def test_a_patch_that_removes(k8r: Cli, workdir: Path) -> None:
    """null takes something out."""
    (workdir / "patch.yaml").write_text("spec: {enableServiceLinks: null}")
    shown = k8r(ALPINE, "--patch", "patch.yaml", "--show-yaml", "--", "true")
    assert shown.code == 0, shown.err
    [job] = yaml.safe_load_all(shown.out)
    assert "enableServiceLinks" not in job["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    "content, word",
    [
        ("spec: [", "YAML"),
        ("- spec", "mapping"),
        ("", "mapping"),
        ("containers: []", "containers"),
    ],
)
def test_bad_patches(quiet_run: Cli, workdir: Path, content: str, word: str) -> None:
    """A patch that cannot be merged is refused here."""
    (workdir / "patch.yaml").write_text(content)
    refused(quiet_run(ALPINE, "--patch", "patch.yaml", "--", "true"), "patch.yaml", word)


def test_no_patch(quiet_run: Cli) -> None:
    """A file that does not exist, and none at all."""
    refused(quiet_run(ALPINE, "--patch", "absent.yaml", "--", "true"), "absent.yaml")
    refused(quiet_run(ALPINE, "--patch", ".", "--", "true"), "patch")


@pytest.mark.parametrize(
    "content, word",
    [
        ("spec: 5", "spec"),
        ("spec: {containers: main}", "containers"),
        ("metadata: text", "metadata"),
        ("spec: {containers: [{name: main, imagePullPolicy: Now}]}", "imagePullPolicy"),
    ],
)
def test_patches_that_make_no_pod(quiet_run: Cli, workdir: Path, content: str, word: str) -> None:
    """What only the API server knows to be wrong is told in its words."""
    (workdir / "patch.yaml").write_text(content)
    ended = quiet_run("./", "--patch", "patch.yaml", "--", "true")
    assert ended.code in (2, 125), ended.err
    assert word in one_line(ended.err)


def test_pull_secrets(run: Cli, kubectl: Kubectl) -> None:
    """Each --pull-secret is named in the pod."""
    options = ["--pull-secret", "first", "--pull-secret", "second"]
    ended = run(ALPINE, *options, "--", "echo", "ran")
    assert (ended.code, ended.text) == (0, "ran\n"), ended.err
    [pod] = kubectl.items("pods")
    assert pod["spec"]["imagePullSecrets"] == [{"name": "first"}, {"name": "second"}]


def test_a_value_that_is_too_long(quiet_run: Cli, workdir: Path) -> None:
    """What Linux could not hand to a program is refused here."""
    (workdir / "long.env").write_text("LONG=" + "x" * 131_072 + "\n")
    refused(quiet_run(ALPINE, "--env-file", "long.env", "--", "true"), "LONG", "131071")


@pytest.mark.parametrize(
    "pod, env",
    [(1, {"K8R_INDEX": "0", "K8R_COUNT": "1"}), (2, {"K8R_COUNT": "2"})],
    ids=["one", "two"],
)
def test_variables_of_k8r(k8r: Cli, pod: int, env: Dict[str, str]) -> None:
    """What every container is told."""
    found = {
        item["name"]: item.get("value") for item in shown_container(k8r, "--num", str(pod))["env"]
    }
    assert env.items() <= found.items()
    assert found["K8R_JOB"] == "alpine"
