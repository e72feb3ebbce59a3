"""`k8r SOURCE --as-deployment`: the rollout, its logs, updates, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple

import pytest
import yaml

from common import refused, until
from gitserver import GitServer
from support import ALPINE, IMPOSSIBLE_CPU, MIB, PYTHON, Kubectl, Object, Proxy, nothing_left
from support import read_until
from test_rbac import bind, role

if TYPE_CHECKING:
    from tests.conftest import Cli, Result

STAY = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
KINDS = "deployments,replicasets,pods,services,configmaps,secrets"


def stay(first: str) -> List[str]:
    """A command that does something and then runs until it is stopped."""
    return ["--", "sh", "-c", f"{first}; {STAY}"]


def deployed(ended: Result, name: str) -> None:
    """Assert that -d came back after a rollout, with nothing but the name."""
    assert (ended.code, ended.text) == (0, name + "\n"), ended.err


def ready(kubectl: Kubectl, name: str) -> int:
    """How many of its pods are ready."""
    return int(kubectl.get("deployment", name)["status"].get("readyReplicas") or 0)


def live_pods(kubectl: Kubectl) -> List[Object]:
    """The pods that are not being removed."""
    return [p for p in kubectl.items("pods") if "deletionTimestamp" not in p["metadata"]]


def archives(kubectl: Kubectl) -> List[str]:
    """The names of the ConfigMaps that k8r has made."""
    return [name for name in kubectl.names("configmaps") if name != "kube-root-ca.crt"]


def check_made(run: Cli, kubectl: Kubectl, name: str, source: str) -> None:
    """Assert that it is labelled, listed and logged like a Job, and goes like one."""
    item = kubectl.get("deployment", name)
    assert item["status"]["availableReplicas"] == 1
    expected = {
        "created-by": "k8r",
        "k8r-job": name,
        "k8r-type": "deployment",
        "k8r-source-type": source,
    }
    pods = live_pods(kubectl)
    assert len(pods) == 1
    for labelled in (item, *pods):
        assert expected.items() <= labelled["metadata"]["labels"].items()
    [row] = json.loads(run("ls", "-o", "json").out)
    found = [row[key] for key in ("name", "type", "source", "desired", "running", "status")]
    assert found == [name, "deployment", source, 1, 1, "Running"]
    logged = run("logs", name)
    assert (logged.code, logged.text) == (0, "deployed\n"), logged.err
    assert kubectl.names("jobs") == []
    assert run("rm", "-f", name).code == 0
    until(lambda: not kubectl.names("deployments") or None, "no Deployment")


def test_of_a_directory(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """A directory; its ConfigMaps belong to the Deployment."""
    (workdir / "file").write_text("deployed\n")
    deployed(run("./", "--as-deployment", "-d", *stay("cat file")), "work")
    [name] = archives(kubectl)
    [owner] = kubectl.get("configmap", name)["metadata"]["ownerReferences"]
    assert owner["uid"] == kubectl.get("deployment", "work")["metadata"]["uid"]
    check_made(run, kubectl, "work", "directory")
    until(lambda: not archives(kubectl) or None, "no ConfigMaps")


def test_of_an_image(run: Cli, kubectl: Kubectl) -> None:
    """An image."""
    deployed(run(ALPINE, "--as-deployment", "-d", *stay("echo deployed")), "alpine")
    check_made(run, kubectl, "alpine", "container")


def test_of_a_repository(run: Cli, kubectl: Kubectl, git_server: GitServer) -> None:
    """A git repository."""
    command = stay("[ $(cat version) = three ] && echo deployed")
    deployed(run(git_server.url(), "--as-deployment", "-d", *command), "project")
    check_made(run, kubectl, "project", "github")


def test_of_a_dockerfile(run: Cli, kubectl: Kubectl, workdir: Path, daemon: Dict[str, str]) -> None:
    """A Dockerfile."""
    command = json.dumps(["sh", "-c", f"echo deployed; {STAY}"])
    (workdir / "Dockerfile").write_text(f"FROM alpine\nENTRYPOINT {command}\n")
    deployed(run("Dockerfile", "--as-deployment", "-d", env=daemon), "work")
    [container] = kubectl.get("deployment", "work")["spec"]["template"]["spec"]["containers"]
    assert "@sha256:" in container["image"]
    check_made(run, kubectl, "work", "dockerfile")


def test_followed_until_ctrl_c(run: Cli, kubectl: Kubectl) -> None:
    """Two replicas: their logs are followed, and Ctrl-C ends only that."""
    process = run.start(ALPINE, "--as-deployment", "--num", "2", *stay("echo up of $K8R_COUNT"))
    seen = read_until(process.stdout, b"up of 2\n")
    if seen.count(b"up") < 2:
        seen += read_until(process.stdout, b"up of 2\n")
    assert len(set(re.findall(rb"(?m)^\[(\w+)\] up of 2$", seen))) == 2
    assert ready(kubectl, "alpine") == 2, "logs before the rollout"
    process.send_signal(signal.SIGINT)
    ended = run.finish(process, timeout=15)
    assert ended.code == 130
    assert "logs -f alpine" in ended.err and "rm -f alpine" in ended.err
    assert "Traceback" not in ended.err
    assert ready(kubectl, "alpine") == 2

    follower = run.start("logs", "-f", "alpine")
    read_until(follower.stdout, b"up of 2\n")
    follower.send_signal(signal.SIGINT)
    assert run.finish(follower, timeout=15).code == 130

    refused(run("rm", "alpine"), "rm -f alpine", code=125)
    assert ready(kubectl, "alpine") == 2
    assert run("rm", "-f", "alpine").code == 0
    nothing_left(kubectl, 60)


def test_ctrl_c_during_the_rollout(run: Cli, kubectl: Kubectl) -> None:
    """While it waits: why is said, and how to come back."""
    process = run.start(ALPINE, "--as-deployment", "-d", "--cpu", IMPOSSIBLE_CPU, *stay(":"))
    seen = read_until(process.stderr, b"waiting: ").decode()
    process.send_signal(signal.SIGINT)
    ended = run.finish(process, timeout=15)
    assert (ended.code, ended.out) == (130, b"")
    said = seen + ended.err
    assert "cpu" in said and "logs -f alpine" in said and "rm -f alpine" in said
    assert kubectl.names("deployments") == ["alpine"]


def forwarded(kubectl: Kubectl, line: str, path: str) -> bytes:
    """Forward the port that k8r names, though from a free one, to the Service; fetch something."""
    found = re.search(r"k8r forward (\S+) .*?(\d+)$", line, re.M)
    assert found, line
    service = ["-n", kubectl.namespace, f"service/{found.group(1)}"]
    process = subprocess.Popen(
        [kubectl.program, "port-forward", *service, f":{found.group(2)}"],
        env={**os.environ, "KUBECONFIG": kubectl.kubeconfig},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        try:
            begun = read_until(process.stdout, b"Forwarding from 127.0.0.1:")
            port = begun.rpartition(b"127.0.0.1:")[2].split()[0].decode()
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                content: bytes = answer.read()
                return content
        finally:
            process.kill()


def test_a_port(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """--port makes a Service of that name, which is reached as is said, and is updated."""
    (workdir / "file").write_text("served\n")
    for ports in (("8000",), ("8002", "8001")):
        script = f"trap 'exit 0' TERM; python3 -m http.server {ports[-1]} & wait"
        server = ["--base-image", PYTHON, "--", "sh", "-c", script]
        options = [word for port in ports for word in ("--port", port)]
        ended = run("./", "--as-deployment", "-d", *options, *server)
        deployed(ended, "work")
        until(lambda: len(kubectl.names("pods")) == 1, "the end of the old pod")
        [service] = kubectl.items("services")
        assert service["metadata"]["name"] == "work"
        assert [str(entry["port"]) for entry in service["spec"]["ports"]] == list(ports)
        assert service["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
        assert forwarded(kubectl, ended.err, "file") == b"served\n"
    assert run("rm", "-f", "work").code == 0
    until(lambda: not kubectl.names("services") or None, "no Service")


def test_an_update(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """The same command again renews it in place, and tidies up after the old one."""
    (workdir / "file").write_text("first\n")
    deployed(run("./", "--as-deployment", "-d", *stay("cat file")), "work")
    uid = kubectl.get("deployment", "work")["metadata"]["uid"]
    before = {item["metadata"]["name"] for item in live_pods(kubectl)}
    old_archives = set(archives(kubectl))

    (workdir / "file").write_text("second\n")
    deployed(run("./", "--as-deployment", "-d", "--num", "2", *stay("cat file")), "work")
    [item] = kubectl.items("deployments")
    assert item["metadata"]["uid"] == uid
    after = {pod["metadata"]["name"] for pod in live_pods(kubectl)}
    assert len(after) == 2 and not after & before
    assert archives(kubectl) and not old_archives & set(archives(kubectl))
    lines = run("logs", "work").text.splitlines()
    assert sorted(line.split()[1] for line in lines) == ["second", "second"]


def test_an_update_that_fails(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """The old pods go on, with all that they need to be started again."""
    (workdir / "file").write_text("first\n")
    deployed(run("./", "--as-deployment", "-d", *stay("cat file")), "work")
    [pod] = live_pods(kubectl)
    needed = set(archives(kubectl))
    (workdir / "file").write_text("second\n")
    script = ["--", "sh", "-c", "echo dying; exit 3"]
    ended = run("./", "--as-deployment", "-d", "--grace", "3", *script)
    assert ended.code == 125, ended.err
    assert "exit code 3" in ended.err
    assert ready(kubectl, "work") == 1
    assert pod["metadata"]["name"] in [item["metadata"]["name"] for item in live_pods(kubectl)]
    assert needed <= set(archives(kubectl))


def state(kubectl: Kubectl) -> Tuple[Object, Object, List[str]]:
    """What a service is: its Deployment's and its Service's spec, and the parts of both."""
    deployment, service = kubectl.get("deployment", "work"), kubectl.get("service", "work")
    return deployment["spec"], service["spec"], archives(kubectl) + kubectl.names("secrets")


REFUSED = "spec: {restartPolicy: Never}\n"


def test_an_update_that_is_refused(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """The service goes on as it was, its Service too, and nothing is left of the update."""
    (workdir / "file").write_text("first\n")
    options = ["--as-deployment", "-d", "--port"]
    deployed(run("./", *options, "8000", *stay("cat file")), "work")
    before = state(kubectl)
    (workdir / "patch.yaml").write_text(REFUSED)
    refused(
        run("./", *options, "9000", "--patch", "patch.yaml", *stay(":")), "restartPolicy", code=125
    )
    assert state(kubectl) == before
    assert ready(kubectl, "work") == 1


def test_a_service_that_is_refused(
    k8r: Cli, run: Cli, kubectl: Kubectl, write_kubeconfig: Callable[..., str], workdir: Path
) -> None:
    """An update of which only the Service is refused is taken back as a whole."""
    (workdir / "file").write_text("first\n")
    options = ["--as-deployment", "-d", "--port"]
    deployed(run("./", *options, "8000", *stay("cat file")), "work")
    before = state(kubectl)
    less = role()
    [rule] = [rule for rule in less["rules"] if "services" in rule["resources"]]
    rule["verbs"].remove("patch")
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=bind(kubectl, less))
    refused(k8r("./", *options, "9000", *stay("echo other")), "patch services", code=125)
    assert state(kubectl) == before
    assert ready(kubectl, "work") == 1


def test_a_signal_during_an_update(
    run: Cli, kubectl: Kubectl, workdir: Path, slow_proxy: Proxy
) -> None:
    """In the middle of the upload: the service goes on, and nothing is left of the update."""
    (workdir / "file").write_text("first\n")
    options = ["--as-deployment", "-d", "--port"]
    deployed(run("./", *options, "8000", *stay("cat file")), "work")
    before = state(kubectl)
    (workdir / "large").write_bytes(os.urandom(16 * MIB))
    process = run.start("./", *options, "9000", *stay(":"))
    until(lambda: len(archives(kubectl)) > len(before[2]) + 1, "some ConfigMaps")
    process.send_signal(signal.SIGINT)
    assert run.finish(process, timeout=20).code == 130
    assert state(kubectl) == before


def test_another_directory_of_that_name(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """What is of another origin is replaced only if that is asked for."""
    other = workdir.parent / "other" / "work"
    other.mkdir(parents=True)
    for folder, text in ((workdir, "first\n"), (other, "second\n")):
        (folder / "file").write_text(text)
    deployed(run("./", "--as-deployment", "-d", *stay("cat file")), "work")
    before = kubectl.get("deployment", "work")["metadata"]["generation"]
    update = [str(other), "--as-deployment", "-d", *stay("cat file")]
    refused(run(*update), str(workdir), str(other), "--replace", code=125)
    assert kubectl.get("deployment", "work")["metadata"]["generation"] == before
    assert len(archives(kubectl)) == 1
    deployed(run("--replace", *update), "work")
    until(lambda: len(kubectl.names("pods")) == 1, "the end of the old pod")
    assert run("logs", "work").text == "second\n"


def test_a_token_of_an_update(run: Cli, kubectl: Kubectl, git_server: GitServer) -> None:
    """The Secret for a URL's token goes with the pods that used it."""
    url = git_server.url(8081, "alice:" + git_server.token.replace("/", "%2F"))
    for _ in range(2):
        deployed(run(url, "--as-deployment", "-d", *stay("cat version")), "project")
        assert len(kubectl.names("secrets")) == 1


@pytest.mark.case(15)
def test_a_command_that_ends_again_and_again(run: Cli, kubectl: Kubectl) -> None:
    """Explained, with its log, within the grace time."""
    command = ["--", "sh", "-c", "echo dying; exit 3"]
    ended = run(ALPINE, "--as-deployment", "--grace", "3", *command, timeout=60)
    assert ended.code == 125, ended.err
    assert "again and again" in ended.err and "exit code 3" in ended.err
    assert "dying" in ended.text


def test_a_missing_image(run: Cli, kubectl: Kubectl) -> None:
    """Explained within the grace time."""
    image = "absent/absent:1"
    ended = run(image, "--as-deployment", "-d", "--grace", "3", *stay(":"), timeout=60)
    assert (ended.code, ended.out) == (125, b""), ended.err
    assert image in ended.err and "pull" in ended.err and "3 s" in ended.err


def test_a_quota(run: Cli, kubectl: Kubectl) -> None:
    """A Deployment without a pod: why."""
    kubectl("create", "quota", "none", "--hard=pods=0")
    quota = until(lambda: kubectl.get("quota", "none").get("status", {}).get("hard"), "a quota")
    assert quota == {"pods": "0"}
    ended = run(ALPINE, "--as-deployment", "-d", "--grace", "3", *stay(":"), timeout=60)
    assert (ended.code, ended.out) == (125, b""), ended.err
    assert "exceeded quota" in ended.err


def test_somebody_elses(run: Cli, kubectl: Kubectl) -> None:
    """A Deployment that k8r has not made is left alone."""
    kubectl("create", "deployment", "alpine", "--image=alpine", "--replicas=0")
    before = kubectl.get("deployment", "alpine")["metadata"]["generation"]
    refused(run(ALPINE, "--as-deployment", "-d", *stay(":")), "alpine", "not made", code=125)
    assert kubectl.get("deployment", "alpine")["metadata"]["generation"] == before
    for args in (("rm", "-f", "alpine"), ("logs", "alpine")):
        refused(run(*args), "'alpine'", code=125)
    assert run("ls", "-o", "name").out == b""
    assert kubectl.names("deployments") == ["alpine"]


def test_somebody_elses_service(run: Cli, kubectl: Kubectl) -> None:
    """A Service of that name is left alone, and no Deployment stays behind."""
    kubectl("create", "service", "clusterip", "alpine", "--tcp=80")
    before = kubectl.get("service", "alpine")["spec"]
    ended = run(ALPINE, "--as-deployment", "-d", "--port", "8000", *stay(":"))
    refused(ended, "Service alpine", code=125)
    assert kubectl.get("service", "alpine")["spec"] == before
    until(lambda: not kubectl.names("deployments,pods") or None, "nothing")


def test_a_job_of_that_name(run: Cli, kubectl: Kubectl) -> None:
    """One name, one thing: a Job is not joined by a Deployment."""
    assert run(ALPINE, "--", "true").code == 0
    refused(run(ALPINE, "--as-deployment", "-d", *stay(":")), "Job alpine", "rm alpine", code=125)
    assert kubectl.names("deployments") == []


def test_a_job_beside_it(run: Cli, kubectl: Kubectl) -> None:
    """A Job may have its name, and what becomes of the Job is not its concern."""
    assert run(ALPINE, "--as-deployment", "-d", *stay(":")).code == 0
    uid = kubectl.get("deployment", "alpine")["metadata"]["uid"]
    for options in ([], ["--replace"], ["--replace", "--rm"]):
        ended = run(ALPINE, "--job-name", "alpine", *options, "--", "echo", "hi")
        assert (ended.code, ended.out) == (0, b"hi\n"), ended.err
        assert kubectl.get("deployment", "alpine")["metadata"]["uid"] == uid
    until(lambda: kubectl.names("jobs") == [], "no Job")
    assert run(ALPINE, "--replace", "--", "true").code == 0
    assert kubectl.get("deployment", "alpine")["metadata"]["uid"] == uid


@pytest.mark.parametrize(
    "option",
    [("--parallel", "2"), ("--timeout", "60"), ("--retry", "2"), ("--rm",)]
    + [("--rm-secrets",), ("--num", "0"), ("--port", "0"), ("--port", "65536"), ("--port", "x")],
    ids=" ".join,
)
def test_options_that_do_not_fit(quiet_run: Cli, option: Tuple[str, ...]) -> None:
    """What a Deployment cannot do is refused by name."""
    refused(quiet_run(ALPINE, "--as-deployment", *option, "--", "true"), option[0])


def test_yaml(k8r: Cli, run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """--show-yaml needs no cluster, and kubectl can create what it prints."""
    (workdir / "file").write_text("deployed\n")
    options = ["--as-deployment", "--port", "8000", "--show-yaml"]
    shown = k8r("./", *options, *stay("cat file"), env={"KUBECONFIG": "/nonexistent"})
    assert shown.code == 0, shown.err
    kinds = [item["kind"] for item in yaml.safe_load_all(shown.out)]
    assert sorted(kinds) == ["ConfigMap", "Deployment", "Service"]
    kubectl("create", "-f", "-", stdin=shown.out)

    def log() -> Optional[str]:
        return run("logs", "work").text

    assert until(log, "a log of the Deployment") == "deployed\n"
