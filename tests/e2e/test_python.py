"""`K8sRun` as a Python program calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from common import until
from support import ALPINE, MIB, Kubectl, Object, nothing_left

if TYPE_CHECKING:
    from tests.conftest import Cli

ROOT = Path(__file__).resolve().parents[2]

PROLOGUE = """\
import json, sys
from k8r import K8rError, K8sRun, LogQuery
k8s = K8sRun()
results = {}

def error_of(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except K8rError as error:
        return [error.message, error.hint, int(error.exit_code)]

"""
EPILOGUE = """
with open("results.json", "w") as file:
    json.dump(results, file)
"""

JOB = """\
job = k8s.create_job("./", ["sh", "-c", "cat file; echo $WORD; exit 3"], env=(("WORD", "given"),))
name = job["metadata"]["name"]
results["name"] = name
results["exists"] = [k8s.job_exists(name), k8s.job_exists("absent")]
results["code"] = k8s.monitor_job(name)
print("-- again", flush=True)
results["logs"] = k8s.get_job_logs(name, LogQuery(follow=False))
results["text"] = k8s.read_job_logs(name).decode()
results["typed"] = [
    [job.metadata.name for job in k8s.batch_v1.list_namespaced_job(k8s.namespace).items],
    k8s.core_v1.read_namespace(k8s.namespace).kind,
    k8s.apps_v1.list_namespaced_deployment(k8s.namespace).items,
]
results["listed"] = k8s.list_jobs()
second = k8s.create_job("alpine", ["true"], job_name=name)
results["second"] = second["metadata"]["name"]
results["deleted"] = [k8s.delete_job(name), k8s.delete_job(results["second"])]
results["deleted"].append(k8s.delete_job("absent"))
results["namespace"] = k8s.namespace
"""

SECRETS = """\
k8s.create_secret("token", {"token": b"value", "noise": b"\\xff"}, "alpine")
k8s.create_secret_with_options("other", "file", "alpine")
uses = k8s.get_job_secrets("alpine")
results["uses"] = [[use.name, use.object_name, list(use.keys)] for use in uses]
job = k8s.create_job("alpine", ["sh", "-c", "echo $TOKEN_TOKEN; cat /k8r/secret/other/file"])
results["code"] = k8s.monitor_job(job["metadata"]["name"])
k8s.delete_job_secrets("alpine")
results["left"] = len(k8s.get_job_secrets("alpine"))
"""

ERRORS = """\
results["source"] = error_of(k8s.create_job, "./absent", ["true"])
results["name"] = error_of(k8s.create_job, "alpine", ["true"], job_name="Not_One")
results["command"] = error_of(k8s.create_job, "./", [])
results["monitor"] = error_of(k8s.monitor_job, "absent")
results["logs"] = error_of(k8s.get_job_logs, "absent", LogQuery(follow=False))
results["secret"] = error_of(k8s.create_secret, "Not_One", {"a": b"b"}, "alpine")
results["key"] = error_of(k8s.create_secret, "x", {"a b": b"b"}, "alpine")
results["large"] = error_of(k8s.create_secret, "x", {"a": bytes(1048577)}, "alpine")
results["cluster"] = error_of(K8sRun(kubeconfig="/nonexistent").list_jobs)
results["context"] = error_of(K8sRun(context="absent").list_jobs)
results["kinds"] = [k8s.detect_source_type(text) for text in (".", "alpine", "git@host:x.git")]
"""

DEPLOYMENT = """\
script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.2; done"
made = k8s.create_deployment("alpine", ["sh", "-c", script], num=2)
results["kind"] = made["kind"]
results["exists"] = k8s.job_exists("alpine")
results["refused"] = error_of(k8s.delete_job, "alpine", force=False)
results["deleted"] = k8s.delete_job("alpine")
"""

CONFIGMAP = """\
made = k8s.create_directory_configmap("./", "extra")
results["made"] = [made["kind"], made["metadata"]["name"], made["metadata"]["namespace"]]
results["taken"] = error_of(k8s.create_directory_configmap, "./", "extra")
results["absent"] = error_of(k8s.create_directory_configmap, "./absent", "other")
results["large"] = error_of(k8s.create_directory_configmap, LARGE, "other")
"""

WATCH = """\
known = k8s.list_jobs()
k8s.create_job("alpine", ["sh", "-c", "exit 3"], job_name="new")
rows, watch = [], k8s.watch_jobs(known)
for row in watch:
    status = row["status"].partition(" ")[0]
    rows.append([row["name"], status, row["failed"]])
    if status == "Failed":
        k8s.delete_job("new")
    elif status == "Deleted":
        break
watch.close()
results["known"] = [row["name"] for row in known]
results["rows"] = rows
"""


def python(run: Cli, program: str) -> Tuple[str, Dict[str, Any]]:
    """Run a program; its output and the results that it wrote."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROLOGUE + program + EPILOGUE],
        cwd=run.cwd,
        env={**run.env, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    results: Dict[str, Any] = json.loads((run.cwd / "results.json").read_text())
    return done.stdout.decode(), results


def test_a_job(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """Created, followed, listed, logged and deleted."""
    (workdir / "file").write_text("content\n")
    printed, results = python(run, JOB)
    assert printed == "content\ngiven\n-- again\ncontent\ngiven\n"
    listed: List[Object] = results.pop("listed")
    assert results == {
        "name": "work",
        "exists": [True, False],
        "code": 3,
        "logs": 0,
        "text": "content\ngiven\n",
        "typed": [["work"], "Namespace", []],
        "second": "work-1",
        "deleted": [True, True, False],
        "namespace": kubectl.namespace,
    }
    [row] = listed
    assert (row["name"], row["type"], row["source"]) == ("work", "job", "directory")
    assert row["desired"] == 1
    nothing_left(kubectl)


def test_secrets(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """Created, found by a Job, and removed."""
    (workdir / "file").write_text("from a file")
    printed, results = python(run, SECRETS)
    assert printed == "value\nfrom a file"
    assert results == {
        "uses": [
            ["other", "alpine-other", ["file"]],
            ["token", "alpine-token", ["token"]],
        ],
        "code": 0,
        "left": 0,
    }
    assert kubectl.names("secrets") == []


def test_errors(run: Cli, kubectl: Kubectl) -> None:
    """A K8rError with a message, a hint and an exit code, and nothing printed."""
    (run.cwd / "file").write_text("content\n")
    printed, results = python(run, ERRORS)
    assert printed == ""
    assert results.pop("kinds") == ["directory", "container", "github"]
    codes = {what: code for what, (_, _, code) in results.items()}
    expected = dict.fromkeys(["source", "name", "command", "secret", "key", "large", "cluster"], 2)
    assert codes == {**expected, "context": 2, "monitor": 125, "logs": 125}
    for what, (message, hint, _) in results.items():
        assert message and hint, what
        assert "\n" not in message + hint, what
    assert "'./absent'" in results["source"][0]
    assert kubectl.leftovers() == []


def test_a_deployment(run: Cli, kubectl: Kubectl) -> None:
    """Created, refused to be removed while it runs, and removed."""
    _, results = python(run, DEPLOYMENT)
    message, _, code = results.pop("refused")
    assert code == 125 and "alpine" in message
    assert results == {"kind": "Deployment", "exists": True, "deleted": True}
    until(lambda: not kubectl.names("deployments") or None, "no Deployment")


def unpacking_pod(name: str) -> Object:
    """A pod that mounts a ConfigMap with an archive, unpacks it, and shows what was in it."""
    script = "mkdir /tmp/x && cd /tmp/x && tar xzf /archive/archive && ./tool.sh && cat sub/file"
    container = {
        "name": "main",
        "image": ALPINE,
        "command": ["sh", "-ec", script],
        "volumeMounts": [{"name": "archive", "mountPath": "/archive"}],
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "archive", "configMap": {"name": name}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader"}, "spec": spec}


def test_a_directory_configmap(run: Cli, kubectl: Kubectl, workdir: Path, tmp_path: Path) -> None:
    """Can be mounted and unpacked; what cannot be made leaves nothing."""
    (workdir / "sub").mkdir()
    (workdir / "sub" / "file").write_text("content\n")
    (workdir / "tool.sh").write_text("#!/bin/sh\necho tool\n")
    (workdir / "tool.sh").chmod(0o755)
    large = tmp_path / "large"
    large.mkdir()
    (large / "data").write_bytes(os.urandom(MIB))
    printed, results = python(run, f"LARGE = {str(large)!r}\n{CONFIGMAP}")
    assert printed == ""
    assert results.pop("made") == ["ConfigMap", "extra", kubectl.namespace]
    assert {what: code for what, (_, _, code) in results.items()} == {
        "taken": 125,
        "absent": 2,
        "large": 2,
    }
    assert "extra" in results["taken"][0]
    assert results["large"][:2] == [f"{large} is larger than one ConfigMap", "use create_job"]
    assert kubectl.leftovers() == ["configmap/extra"]

    kubectl("create", "-f", "-", stdin=json.dumps(unpacking_pod("extra")).encode())
    ended = ("Succeeded", "Failed")
    until(lambda: kubectl.get("pod", "reader")["status"]["phase"] in ended, "the pod's end")
    assert kubectl("logs", "reader") == "tool\ncontent\n"


def test_watching_jobs(run: Cli, kubectl: Kubectl) -> None:
    """A row whenever a Job is new, has changed or has gone; not for one that stays as it was."""
    assert run(ALPINE, "--job-name", "old", "--", "true").code == 0
    kubectl("wait", "--for=condition=Complete", "--timeout=60s", "job/old")
    printed, results = python(run, WATCH)
    assert printed == ""
    assert results["known"] == ["old"]
    rows: List[List[Any]] = results["rows"]
    assert {name for name, _, _ in rows} == {"new"}
    statuses = [status for _, status, _ in rows]
    assert statuses[0] in ("Pending", "Running") and rows[0][2] == 0
    assert any(status.startswith("Failed") for status in statuses[1:-1])
    assert statuses[-1] == "Deleted"
