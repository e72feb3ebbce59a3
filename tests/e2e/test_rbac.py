"""The Role in README.md is enough, and what is taken from it is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List

import pytest
import yaml
from support import ALPINE, Kubectl

if TYPE_CHECKING:
    from tests.conftest import Cli

README = Path(__file__).resolve().parents[2] / "README.md"


def role(name: str = "k8r") -> Dict[str, Any]:
    """A Role, as README.md has it."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    loaded: List[Dict[str, Any]] = [yaml.safe_load(block) for block in blocks]
    (found,) = [
        block
        for block in loaded
        if block.get("kind") == "Role" and block["metadata"]["name"] == name
    ]
    return found


def bind(kubectl: Kubectl, wanted: Dict[str, Any]) -> Dict[str, str]:
    """Give a new service account that Role; returns the user for a kubeconfig."""
    kubectl("create", "-f", "-", stdin=json.dumps(wanted).encode())
    kubectl("create", "serviceaccount", "runner")
    account = f"--serviceaccount={kubectl.namespace}:runner"
    kubectl("create", "rolebinding", "runner", f"--role={wanted['metadata']['name']}", account)
    return {"token": kubectl("create", "token", "runner").strip()}


def test_the_role_is_enough(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: Callable[..., str], workdir: Path
) -> None:
    """Everything that README.md shows works under it."""
    user = bind(kubectl, role())
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=user)
    (workdir / "file").write_text("content\n")
    assert k8r("secret", "word", "hidden").code == 0
    assert k8r("secret", "word", "hidden").code == 0  # replaced
    ended = k8r("./", "--num", "2", "--", "sh", "-c", "cat file; echo $WORD")
    assert (ended.code, ended.text.count("hidden")) == (0, 2), ended.err
    stay = ("sh", "-c", "trap exit TERM; while :; do sleep 0.1; done")
    for _ in range(2):  # made, then updated
        deployed = k8r(
            "./", "--as-deployment", "--port", "80", "-d", "--job-name", "service", "--", *stay
        )
        assert deployed.code == 0, deployed.err
    assert k8r("./", "--grace", "2", "--base-image", "127.0.0.1:1/none", "--", "true").code == 125
    listed = k8r("ls", "-o", "name")
    assert listed.text.split() == ["work", "service"], listed.err
    assert sorted(k8r("logs", "work").text.split("\n")) == sorted(ended.text.split("\n"))
    assert k8r("rm", "-f", "--secrets", "work", "service").code == 0
    assert k8r("secret", "--list").text == ""
    image = k8r("--replace", ALPINE, "--", "echo", "hi")
    assert (image.code, image.text) == (0, "hi\n"), image.err


NEEDED = [
    ("batch", "jobs", "create", ["./", "--", "true"]),
    ("batch", "jobs", "watch", ["./", "--", "true"]),
    ("batch", "jobs", "patch", ["./", "--", "true"]),
    ("", "configmaps", "create", ["./", "--", "true"]),
    ("", "pods", "list", ["./", "--", "true"]),
    ("", "pods", "watch", ["./", "--", "true"]),
    ("batch", "jobs", "list", ["ls"]),
    ("apps", "deployments", "list", ["ls"]),
    ("", "secrets", "create", ["secret", "a", "b"]),
    ("apps", "deployments", "create", ["./", "--as-deployment", "--", "true"]),
]


@pytest.mark.parametrize("group, resource, verb, words", NEEDED)
def test_a_verb_that_is_missing_is_named(
    k8r: Cli,
    kubectl: Kubectl,
    write_kubeconfig: Callable[..., str],
    workdir: Path,
    group: str,
    resource: str,
    verb: str,
    words: List[str],
) -> None:
    """Without one verb k8r ends with 125 and says which it is."""
    less = role()
    for rule in less["rules"]:
        if rule["apiGroups"] == [group] and rule["resources"] == [resource]:
            rule["verbs"].remove(verb)
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=bind(kubectl, less))
    (workdir / "file").write_text("content\n")
    ended = k8r(*words)
    assert ended.code == 125 and f"{verb} {resource}" in ended.err, ended.err
    assert "Role" in ended.err and "Traceback" not in ended.err


@pytest.mark.parametrize("code", [0, 3])
def test_rm_without_the_right_to_delete(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: Callable[..., str], code: int
) -> None:
    """The command's exit code counts; that the Job is still there is said."""
    less = role()
    for rule in less["rules"]:
        if rule["resources"] == ["jobs"]:
            rule["verbs"].remove("delete")
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=bind(kubectl, less))
    ended = k8r(ALPINE, "--rm", "--", "sh", "-c", f"exit {code}")
    assert ended.code == code, ended.err
    assert "delete jobs" in ended.err and "rm -f alpine" in ended.err
    assert kubectl.names("jobs") == ["alpine"]


VERBS = ("get", "create")
INSIDE = [([], 0, "")]
INSIDE += [(["pods/exec", verb], 125, f"{verb} pods/exec") for verb in VERBS]


@pytest.mark.parametrize("less, code, said", INSIDE, ids=["whole", "get", "create"])
def test_what_inside_needs(
    k8r: Cli,
    kubectl: Kubectl,
    write_kubeconfig: Callable[..., str],
    less: List[str],
    code: int,
    said: str,
) -> None:
    """The second Role is what `exec` needs beside the first; a missing verb is named, though
    the API server gives no reason where `create` is missing.
    """
    wanted, inside = role(), role("k8r-inside")
    for rule in inside["rules"]:
        if less and less[0] in rule["resources"]:
            rule["verbs"].remove(less[1])
    wanted["rules"] += inside["rules"]
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=bind(kubectl, wanted))
    assert k8r("-d", ALPINE, "--job-name", "inside", "--", "sleep", "60").code == 0
    kubectl.running_pod("inside")
    ended = k8r("exec", "-i", "inside", "--", "cat", stdin=b"word")
    assert (ended.code, ended.out) == (code, b"" if code else b"word"), ended.err
    assert not said or f"no permission to {said}" in ended.err and "Role" in ended.err, ended.err


@pytest.mark.parametrize("whole", [True, False])
def test_what_stop_needs(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: Callable[..., str], whole: bool
) -> None:
    """Without the right to patch pods, the run goes on and is not called stopped later."""
    wanted = role()
    wanted["rules"] += role("k8r-inside")["rules"] if whole else []
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=bind(kubectl, wanted))
    assert k8r("-d", ALPINE, "--job-name", "going", "--", "sleep", "600").code == 0
    kubectl.running_pod("going")
    ended = k8r("stop", "going")
    said = "going was stopped" if whole else "no permission to patch pods"
    assert ended.code == (0 if whole else 125) and said in ended.err, ended.err
    notes = kubectl("get", "job", "going", "-o", "jsonpath={.metadata.annotations}")
    assert ("k8r-stopped" in notes) == whole
    assert bool(kubectl("get", "pods", "--field-selector=status.phase=Running")) != whole


LESS = [("", "")] + [(part, verb) for part in ("attach", "portforward") for verb in VERBS]


@pytest.mark.parametrize("part, verb", LESS, ids=[" ".join(less) or "whole" for less in LESS])
def test_what_input_and_ports_need(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: Callable[..., str], part: str, verb: str
) -> None:
    """A run without the right to attach is removed, one without that to forward goes on."""
    wanted = role()
    for name in ("exec", "attach", "portforward"):
        verbs = [each for each in VERBS if (name, each) != (part, verb)]
        wanted["rules"].append({"apiGroups": [""], "resources": [f"pods/{name}"], "verbs": verbs})
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=bind(kubectl, wanted))
    script = "nc -l -p 9000 & sleep 3; cat; exit 5"
    ended = k8r("-i", "--port", "9000", ALPINE, "--", "sh", "-c", script, stdin=b"word")
    refused = part == "attach"
    assert (ended.code, ended.out) == ((125, b"") if refused else (5, b"word")), ended.err
    assert kubectl.names("jobs") == ([] if refused else ["alpine"])
    assert (f"no permission to {verb} pods/{part}" in ended.err) == bool(part), ended.err
    assert ("is port 9000" in ended.err) == (not part), ended.err
