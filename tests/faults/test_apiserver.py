"""The fake cluster speaks the wire format of a real one, and breaks exactly where told to."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import socket
import threading
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from apiserver import Cut, Delay, Down, FakeCluster, Foreign, Gone, Line, Match, PodScript, Request
from apiserver import Reset, Respond, Split, Stall, foreign, numbered

JOBS = "/apis/batch/v1/namespaces/default/jobs"
PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
STAMPED = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """A cluster whose pods write three lines and succeed."""
    with FakeCluster(PodScript(lines=numbered(3))) as made:
        yield made


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while Client.opened:
        Client.opened.pop().close()


class Client:
    """One keep-alive connection."""

    opened: List[Any] = []

    def __init__(self, cluster: FakeCluster, timeout: float = 5.0) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=timeout)
        self.opened.append(self.http)

    def open(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> http.client.HTTPResponse:
        """Send a request and read the head of its answer."""
        data = None if body is None else json.dumps(body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.http.request(method, path, data, names)
        response = self.http.getresponse()
        self.opened.append(response)
        return response

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Tuple[int, Any]:
        """Send a request and read its JSON answer."""
        response = self.open(method, path, body, **headers)
        return response.status, json.loads(response.read())


def job(name: str = "hello", **spec: Any) -> Dict[str, Any]:
    """A Job; keyword arguments go into its spec, `policy` is the restartPolicy."""
    policy = spec.pop("policy", "Never")
    inits = spec.pop("inits", [])
    pod = {"restartPolicy": policy, "containers": [{"name": "main", "image": "busybox"}]}
    if inits:
        pod["initContainers"] = [{"name": init, "image": "busybox"} for init in inits]
    return {"metadata": {"name": name}, "spec": {"template": {"spec": pod}, **spec}}


def config_map(name: str, **more: Any) -> Dict[str, Any]:
    """A ConfigMap."""
    return {"metadata": {"name": name}, **more}


def conditions(cluster: FakeCluster, name: str = "hello") -> Dict[str, str]:
    """The true conditions of a Job with their reasons."""
    found = [item for item in cluster.objects("jobs") if item["metadata"]["name"] == name]
    status = found[0]["status"] if found else {}
    true = [item for item in status.get("conditions", []) if item["status"] == "True"]
    return {item["type"]: item.get("reason", "") for item in true}


def run_job(cluster: FakeCluster, end: str = "Complete", **spec: Any) -> Dict[str, Any]:
    """Create a Job, wait for its final condition, return it."""
    cluster.create("jobs", job(**spec))
    cluster.wait(lambda: end in conditions(cluster))
    return cluster.objects("jobs")[0]


def pod_name(cluster: FakeCluster, phase: Optional[str] = None) -> str:
    """The name of the first pod, once there is one in that phase."""

    def found() -> List[str]:
        pods = cluster.objects("pods")
        return [pod["metadata"]["name"] for pod in pods if phase in (None, pod["status"]["phase"])]

    return str(cluster.wait(found)[0])


def log_path(cluster: FakeCluster, query: str = "", phase: str = "Running") -> str:
    """The path of the first pod's log."""
    return f"{PODS}/{pod_name(cluster, phase)}/log?{query}"


def raw_get(cluster: FakeCluster, path: str) -> bytes:
    """All bytes that come back for a GET, head included."""
    with socket.create_connection(("127.0.0.1", cluster.port), timeout=5) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: sock.recv(65536), b""))


def events_of(response: http.client.HTTPResponse, count: int) -> List[Tuple[str, Any]]:
    """The next events of a watch."""
    lines = [json.loads(response.readline()) for _ in range(count)]
    return [(line["type"], line["object"]) for line in lines]


# ---------------------------------------------------------------- the wire format


def test_create_get_and_conflict(cluster: FakeCluster) -> None:
    client = Client(cluster)
    status, made = client.ask("POST", MAPS, config_map("a", data={"k": "v"}))
    assert status == 201 and made["kind"] == "ConfigMap" and made["apiVersion"] == "v1"
    meta = made["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", meta["uid"]) and int(meta["resourceVersion"]) > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert client.ask("GET", f"{MAPS}/a") == (200, made)
    status, again = client.ask("POST", MAPS, config_map("a"))
    assert (status, again["kind"], again["reason"]) == (409, "Status", "AlreadyExists")
    assert again["message"] == 'configmaps "a" already exists' and again["code"] == 409
    status, named = client.ask("POST", MAPS, {"metadata": {"generateName": "x-"}})
    assert status == 201 and re.fullmatch(r"x-\w{5}", named["metadata"]["name"])


def test_one_connection_serves_many_requests(cluster: FakeCluster) -> None:
    client = Client(cluster)
    assert client.open("GET", "/readyz").read() == b"ok"
    local = client.http.sock.getsockname()
    assert client.ask("GET", "/version")[1]["major"] == "1"
    assert client.ask("GET", f"{JOBS}/nope")[0] == 404
    assert client.http.sock.getsockname() == local and cluster.open_connections == 1


def test_errors_are_status_objects(cluster: FakeCluster) -> None:
    client = Client(cluster)
    status, missing = client.ask("GET", f"{JOBS}/nope")
    assert status == 404 and missing["message"] == 'jobs.batch "nope" not found'
    assert missing["details"] == {"name": "nope", "group": "batch", "kind": "jobs"}
    assert client.ask("POST", JOBS, job("UPPER"))[1]["reason"] == "Invalid"
    assert client.ask("POST", JOBS, job("x" * 64))[0] == 422
    assert client.ask("POST", MAPS.replace("default", "none"), config_map("a"))[0] == 404
    full = base64.b64encode(b"x" * 1048576).decode()
    assert client.ask("POST", MAPS, config_map("full", binaryData={"k": full}))[0] == 201
    over = client.ask("POST", MAPS, config_map("over", binaryData={"k": full}, data={"j": "x"}))
    assert over[0] == 422
    assert client.ask("POST", MAPS, config_map("huge", data={"k": "x" * 3145728}))[0] == 413


def test_lists_select_and_page(cluster: FakeCluster) -> None:
    for number in range(5):
        labels = {"n": str(number), **({"odd": "1"} if number % 2 else {})}
        cluster.create("configmaps", {"metadata": {"name": f"m{number}", "labels": labels}})
    client = Client(cluster)

    def names(query: str) -> List[str]:
        status, found = client.ask("GET", f"{MAPS}?{query}")
        assert status == 200 and found["kind"] == "ConfigMapList"
        assert all("kind" not in item for item in found["items"])
        return [item["metadata"]["name"] for item in found["items"]]

    assert names("labelSelector=n%3D3") == ["m3"]
    assert names("labelSelector=n!%3D3,odd") == ["m1"]
    assert names("labelSelector=n+in+(1,2),n!%3D2") == ["m1"]
    assert names("labelSelector=!odd,n+notin+(0)") == ["m2", "m4"]
    assert names("fieldSelector=metadata.name%3Dm2") == ["m2"]
    assert client.ask("GET", f"{MAPS}?fieldSelector=data.x%3D1")[0] == 400
    page = client.ask("GET", f"{MAPS}?limit=3")[1]
    assert [len(page["items"]), page["metadata"]["remainingItemCount"]] == [3, 2]
    token = page["metadata"]["continue"]
    assert names(f"limit=3&continue={token}") == ["m3", "m4"]
    cluster.compact()
    status, expired = client.ask("GET", f"{MAPS}?limit=3&continue={token}")
    assert (status, expired["reason"]) == (410, "Expired")


def test_patches_updates_and_preconditions(cluster: FakeCluster) -> None:
    cluster.create("jobs", job(suspend=True))
    client, path = Client(cluster), f"{JOBS}/hello"
    merge = {"Content_Type": "application/merge-patch+json"}
    first = client.ask("GET", path)[1]
    status, second = client.ask("PATCH", path, {"spec": {"parallelism": 2}}, **merge)
    assert status == 200 and second["spec"]["parallelism"] == 2
    assert second["metadata"]["generation"] == first["metadata"]["generation"] + 1
    assert client.ask("PUT", path, first)[1]["reason"] == "Conflict"
    assert client.ask("PATCH", path, {}, Content_Type="application/apply-patch+yaml")[0] == 415
    other = {"preconditions": {"uid": "another"}}
    assert client.ask("DELETE", path, other)[0] == 409
    cluster.create("configmaps", config_map("fixed", immutable=True, data={"a": "1"}))
    assert client.ask("PATCH", f"{MAPS}/fixed", {"data": {"a": "2"}}, **merge)[0] == 422


def test_watch_streams_chunked_events(cluster: FakeCluster) -> None:
    cluster.create("configmaps", config_map("old"))
    response = Client(cluster).open("GET", f"{MAPS}?watch=true&timeoutSeconds=1")
    assert response.getheader("Transfer-Encoding") == "chunked"
    assert [(kind, obj["metadata"]["name"]) for kind, obj in events_of(response, 1)] == [
        ("ADDED", "old")
    ]
    cluster.create("configmaps", config_map("new"))
    cluster.patch("configmaps", "new", {"data": {"a": "1"}})
    cluster.delete("configmaps", "new")
    kinds = [(kind, obj["kind"]) for kind, obj in events_of(response, 3)]
    assert kinds == [(kind, "ConfigMap") for kind in ("ADDED", "MODIFIED", "DELETED")]
    started = time.monotonic()
    assert response.read() == b"" and time.monotonic() - started < 2


def test_watch_goes_on_from_a_version(cluster: FakeCluster) -> None:
    first = cluster.create("configmaps", config_map("a"))["metadata"]["resourceVersion"]
    cluster.create("configmaps", config_map("b"))
    query = f"watch=1&resourceVersion={first}&timeoutSeconds=9"
    response = Client(cluster).open("GET", f"{MAPS}?{query}")
    ((kind, obj),) = events_of(response, 1)
    assert (kind, obj["metadata"]["name"]) == ("ADDED", "b")


def test_watch_from_a_compacted_version_gets_410(cluster: FakeCluster) -> None:
    old = cluster.create("configmaps", config_map("a"))["metadata"]["resourceVersion"]
    cluster.compact()
    response = Client(cluster).open("GET", f"{MAPS}?watch=1&resourceVersion={old}")
    ((kind, status),) = events_of(response, 1)
    assert (response.status, kind, status["code"]) == (200, "ERROR", 410)
    version = Client(cluster).ask("GET", MAPS)[1]["metadata"]["resourceVersion"]
    again = Client(cluster).open(
        "GET", f"{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=0.1"
    )
    assert again.read() == b""


def test_long_answers_are_gzipped_when_asked(cluster: FakeCluster) -> None:
    cluster.create("configmaps", config_map("big", data={"k": "x" * 200000}))
    plain = Client(cluster).open("GET", f"{MAPS}/big")
    assert plain.getheader("Content-Encoding") is None and len(plain.read()) > 200000
    packed = Client(cluster).open("GET", f"{MAPS}/big", Accept_Encoding="gzip")
    assert packed.getheader("Content-Encoding") == "gzip"
    assert json.loads(gzip.decompress(packed.read()))["data"]["k"] == "x" * 200000


# ---------------------------------------------------------------- the simulation


def test_job_runs_to_completion(cluster: FakeCluster) -> None:
    done = run_job(cluster)
    assert done["status"]["succeeded"] == 1 and "completionTime" in done["status"]
    assert conditions(cluster) == {
        "SuccessCriteriaMet": "CompletionsReached",
        "Complete": "CompletionsReached",
    }
    (pod,) = cluster.objects("pods")
    labels = pod["metadata"]["labels"]
    assert labels["job-name"] == labels["batch.kubernetes.io/job-name"] == "hello"
    assert labels["controller-uid"] == done["metadata"]["uid"]
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (0, "Completed")


def test_suspended_job_waits_for_its_patch(cluster: FakeCluster) -> None:
    cluster.create("jobs", job(suspend=True))
    cluster.wait(lambda: "Suspended" in conditions(cluster))
    time.sleep(0.1)
    assert cluster.objects("pods") == []
    cluster.patch("jobs", "hello", {"spec": {"suspend": False}})
    cluster.wait(lambda: "Complete" in conditions(cluster))


def test_retries_play_one_script_each(cluster: FakeCluster) -> None:
    cluster.play(PodScript(exit_code=1), PodScript(exit_code=2), PodScript(), job="hello")
    done = run_job(cluster, backoffLimit=2)
    assert (done["status"]["failed"], done["status"]["succeeded"]) == (2, 1)
    assert len(cluster.objects("pods")) == 3


def test_backoff_limit_and_oom(cluster: FakeCluster) -> None:
    cluster.play(PodScript(exit_code=137, reason="OOMKilled"))
    done = run_job(cluster, "Failed", backoffLimit=0)
    assert conditions(cluster)["FailureTarget"] == "BackoffLimitExceeded"
    assert done["status"]["failed"] == 1
    status = cluster.objects("pods")[0]["status"]
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"


def test_indexes_have_scripts_and_limits(cluster: FakeCluster) -> None:
    cluster.play(PodScript(exit_code=7), index=1)
    spec = {"completions": 4, "parallelism": 4, "completionMode": "Indexed"}
    done = run_job(cluster, "Failed", backoffLimitPerIndex=1, **spec)
    assert conditions(cluster)["Failed"] == "FailedIndexes"
    assert (done["status"]["completedIndexes"], done["status"]["failedIndexes"]) == ("0,2-3", "1")
    name = "batch.kubernetes.io/job-completion-index"
    pods = [pod["metadata"] for pod in cluster.objects("pods")]
    assert sorted(pod["annotations"][name] for pod in pods) == ["0", "1", "1", "2", "3"]
    assert all(pod["labels"][name] == pod["annotations"][name] for pod in pods)


def test_deadline_deletes_the_running_pod(cluster: FakeCluster) -> None:
    cluster.play(PodScript(run=60))
    run_job(cluster, "Failed", activeDeadlineSeconds=1)
    assert conditions(cluster)["Failed"] == "DeadlineExceeded"
    assert cluster.objects("pods") == []


def test_container_restarted_in_place_keeps_its_previous_log(cluster: FakeCluster) -> None:
    cluster.play(PodScript(["one"], exit_code=1), PodScript(["two"]))
    run_job(cluster, policy="OnFailure")
    (pod,) = cluster.objects("pods")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    path = f"{PODS}/{pod['metadata']['name']}/log"
    assert Client(cluster).open("GET", path).read() == b"two\n"
    assert Client(cluster).open("GET", f"{path}?previous=true").read() == b"one\n"


def test_pods_that_never_run(cluster: FakeCluster) -> None:
    cluster.play(PodScript(waiting="ImagePullBackOff", message="no such image"), job="image")
    cluster.play(PodScript(unschedulable="0/1 nodes: Insufficient cpu"), job="cpu")
    cluster.play(PodScript(refused="violates PodSecurity"), job="refused")
    for name in ("image", "cpu", "refused"):
        cluster.create("jobs", job(name))

    def messages() -> Dict[str, str]:
        return {item["reason"]: item["message"] for item in cluster.objects("events")}

    cluster.wait(lambda: {"FailedScheduling", "FailedCreate", "Failed"} <= set(messages()))
    assert messages()["FailedScheduling"] == "0/1 nodes: Insufficient cpu"
    assert messages()["FailedCreate"] == "Error creating: violates PodSecurity"
    pods = {pod["metadata"]["labels"]["job-name"]: pod for pod in cluster.objects("pods")}
    assert set(pods) == {"image", "cpu"} and pods["cpu"]["status"]["phase"] == "Pending"
    waiting = pods["image"]["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting == {"reason": "ImagePullBackOff", "message": "no such image"}
    status, error = Client(cluster).ask("GET", f"{PODS}/{pods['image']['metadata']['name']}/log")
    assert status == 400 and "trying and failing to pull image" in error["message"]


def test_init_container_fails(cluster: FakeCluster) -> None:
    cluster.play(PodScript(init_lines=["broken"], init_exit_code=4))
    run_job(cluster, "Failed", backoffLimit=0, inits=["fetch"])
    (pod,) = cluster.objects("pods")
    state = pod["status"]["initContainerStatuses"][0]["state"]["terminated"]
    assert (pod["status"]["phase"], state["exitCode"]) == ("Failed", 4)
    path = f"{PODS}/{pod['metadata']['name']}/log"
    assert Client(cluster).open("GET", f"{path}?container=fetch").read() == b"broken\n"


def test_pod_deleted_midway_is_replaced(cluster: FakeCluster) -> None:
    cluster.play(PodScript(numbered(9), deleted_after=2), PodScript())
    done = run_job(cluster)
    assert done["status"]["failed"] == 1 and len(cluster.objects("pods")) == 1


def test_deletion_follows_the_propagation_policy(cluster: FakeCluster) -> None:
    client, merge = Client(cluster), "application/merge-patch+json"
    for policy, left in (("Background", 0), ("Foreground", 0), (None, 1)):
        owner = run_job(cluster)["metadata"]
        reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "hello", "uid": owner["uid"]}
        cluster.create("configmaps", config_map("part"))
        change = {"metadata": {"ownerReferences": [reference]}}
        client.ask("PATCH", f"{MAPS}/part", change, Content_Type=merge)
        options = {"propagationPolicy": policy} if policy else None
        assert client.ask("DELETE", f"{JOBS}/hello", options)[0] == 200
        cluster.wait(lambda: cluster.objects("jobs") == [])
        time.sleep(0.15)
        assert len(cluster.objects("configmaps")) == len(cluster.objects("pods")) == left


def test_stuck_pod_needs_grace_period_zero(cluster: FakeCluster) -> None:
    cluster.play(PodScript(run=60, stuck=True))
    cluster.create("jobs", job())
    path, client = f"{PODS}/{pod_name(cluster, 'Running')}", Client(cluster)
    cluster.delete("jobs", "hello")
    cluster.wait(lambda: "deletionTimestamp" in client.ask("GET", path)[1]["metadata"])
    time.sleep(0.2)
    assert client.ask("GET", path)[0] == 200
    assert client.ask("DELETE", path, {"gracePeriodSeconds": 0})[0] == 200
    assert client.ask("GET", path)[0] == 404


def test_deployment_runs_and_scales(cluster: FakeCluster) -> None:
    template = job()["spec"]["template"]
    template["spec"]["restartPolicy"] = "Always"
    template["metadata"] = {"labels": {"app": "web"}}
    spec = {"replicas": 2, "template": template, "selector": {"matchLabels": {"app": "web"}}}
    cluster.create("deployments", {"metadata": {"name": "web"}, "spec": spec})

    def ready() -> int:
        return int(cluster.objects("deployments")[0]["status"].get("readyReplicas", 0))

    cluster.wait(lambda: ready() == 2)
    cluster.patch("deployments", "web", {"spec": {"replicas": 1}})
    cluster.wait(lambda: ready() == 1 and len(cluster.objects("pods")) == 1)
    cluster.delete("deployments", "web")
    cluster.wait(lambda: cluster.objects("pods") == cluster.objects("replicasets") == [])


# ---------------------------------------------------------------- logs


def test_log_timestamps_since_and_tail(cluster: FakeCluster) -> None:
    base = 1700000000 * 10**9
    stamps = (base + 999, base + 10**9 + 5, base + 10**9 + 500000000)
    cluster.play(PodScript([Line(f"at {n}", stamp=stamp) for n, stamp in enumerate(stamps)]))
    run_job(cluster)
    client, path = Client(cluster), log_path(cluster, phase="Succeeded")
    assert client.open("GET", path).read() == b"at 0\nat 1\nat 2\n"
    stamped = client.open("GET", f"{path}timestamps=true").read()
    assert stamped.startswith(b"2023-11-14T22:13:20.000000999Z at 0\n")
    since = client.open("GET", f"{path}sinceTime=2023-11-14T22:13:21.4Z").read()
    assert since == b"at 1\nat 2\n"
    assert client.open("GET", f"{path}tailLines=1").read() == b"at 2\n"
    assert client.open("GET", f"{path}sinceSeconds=60").read() == b""


def test_follow_ends_with_the_container(cluster: FakeCluster) -> None:
    last = Line(b"caf\xc3\xa9 \xff", delay=0.2, newline=False)
    cluster.play(PodScript([*numbered(2, delay=0.2), last]))
    cluster.create("jobs", job())
    response = Client(cluster).open("GET", log_path(cluster, "follow=true&timestamps=true"))
    assert response.getheader("Transfer-Encoding") == "chunked"
    started = time.monotonic()
    lines = response.read()
    assert re.fullmatch(
        STAMPED + b"line 1\n" + STAMPED + b"line 2\n" + STAMPED + last.data(), lines
    )
    assert time.monotonic() - started > 0.2
    assert cluster.objects("pods")[0]["status"]["phase"] == "Running"


@pytest.mark.parametrize("old, count", [(False, 1), (True, 3)])
def test_long_lines_have_timestamps_in_the_middle_on_old_kubelets(old: bool, count: int) -> None:
    with FakeCluster(PodScript(["x" * 40000]), stamp_partials=old) as cluster:
        run_job(cluster)
        path = log_path(cluster, "timestamps=true", "Succeeded")
        assert len(re.findall(STAMPED, Client(cluster).open("GET", path).read())) == count


# ---------------------------------------------------------------- what goes wrong


def test_respond_with_retry_after_then_normally(cluster: FakeCluster) -> None:
    cluster.fault(Match("POST", r"/configmaps$"), Respond(429, retry_after=3), nth=2)
    client = Client(cluster)
    assert client.ask("POST", MAPS, config_map("a"))[0] == 201
    response = client.open("POST", MAPS, config_map("b"))
    status = json.loads(response.read())
    assert (response.status, response.getheader("Retry-After")) == (429, "3")
    assert status["reason"] == "TooManyRequests" and status["details"]["retryAfterSeconds"] == 3
    assert client.ask("POST", MAPS, config_map("b"))[0] == 201
    assert cluster.count("POST", MAPS) == 3


def test_rules_match_queries_and_last(cluster: FakeCluster) -> None:
    cluster.fault(Match("GET", MAPS, watch=None), Respond(503), times=None)
    client = Client(cluster)
    assert [client.ask("GET", MAPS)[0] for _ in range(3)] == [503] * 3
    assert client.open("GET", f"{MAPS}?watch=1&timeoutSeconds=0.1").status == 200


@pytest.mark.parametrize("applied", [False, True])
def test_reset_before_and_after_the_request_took_effect(
    cluster: FakeCluster, applied: bool
) -> None:
    cluster.fault(Match("POST"), Reset(applied=applied))
    with pytest.raises(ConnectionResetError):
        Client(cluster).ask("POST", MAPS, config_map("a"))
    assert len(cluster.objects("configmaps")) == int(applied)
    assert Client(cluster).ask("POST", MAPS, config_map("a"))[0] == (409 if applied else 201)


def followed(cluster: FakeCluster, action: Any, script: PodScript) -> str:
    """Start a Job whose first follow request meets the action; returns the log's path."""
    cluster.play(script)
    cluster.fault(Match("GET", "/log$", follow="true"), action)
    cluster.create("jobs", job())
    return log_path(cluster, "follow=true")


LASTING = PodScript(lines=numbered(5), run=0.5)


def test_reset_in_the_middle_of_a_log(cluster: FakeCluster) -> None:
    path = followed(cluster, Cut("reset", after_lines=2), LASTING)
    response = Client(cluster).open("GET", path)
    assert [response.readline(), response.readline()] == [b"line 1\n", b"line 2\n"]
    with pytest.raises(ConnectionResetError):
        response.readline()
    assert Client(cluster).open("GET", path).read() == b"line 1\nline 2\nline 3\nline 4\nline 5\n"


def test_clean_end_while_the_container_runs(cluster: FakeCluster) -> None:
    path = followed(cluster, Cut("eof", after_lines=2), LASTING)
    client = Client(cluster)
    assert client.open("GET", path).read() == b"line 1\nline 2\n"
    assert cluster.objects("pods")[0]["status"]["phase"] == "Running"
    assert client.open("GET", path).read().count(b"\n") == 5


def test_truncated_chunk(cluster: FakeCluster) -> None:
    path = followed(cluster, Cut("truncate", after_bytes=9), LASTING)
    with pytest.raises(http.client.IncompleteRead) as caught:
        Client(cluster).open("GET", path).read()
    assert caught.value.partial == b"line 1\nli"


def test_truncated_list(cluster: FakeCluster) -> None:
    cluster.fault(Match("GET", MAPS), Cut("truncate", after_bytes=10))
    with pytest.raises(http.client.IncompleteRead) as caught:
        Client(cluster).open("GET", MAPS).read()
    assert caught.value.partial == b'{"kind":"C'


def test_half_open_log_goes_silent_and_then_on(cluster: FakeCluster) -> None:
    path = followed(cluster, Stall(0.6, after_lines=1), LASTING)
    client = Client(cluster, timeout=0.3)
    response = client.open("GET", path)
    assert response.readline() == b"line 1\n"
    with pytest.raises(socket.timeout):
        response.readline()
    assert Client(cluster).open("GET", path).read().count(b"\n") == 5


def test_stall_goes_on_afterwards(cluster: FakeCluster) -> None:
    path = followed(cluster, Stall(0.3, after_lines=1), LASTING)
    response = Client(cluster).open("GET", path)
    response.readline()
    started = time.monotonic()
    assert response.readline() == b"line 2\n" and time.monotonic() - started > 0.2


@pytest.mark.parametrize("action, stored", [(Stall(1.0), 1), (Delay(1.0), 0)])
def test_no_answer_with_and_without_effect(cluster: FakeCluster, action: Any, stored: int) -> None:
    cluster.fault(Match("POST"), action)
    with pytest.raises(socket.timeout):
        Client(cluster, timeout=0.3).ask("POST", MAPS, config_map("a"))
    assert len(cluster.objects("configmaps")) == stored


def test_error_event_in_a_watch(cluster: FakeCluster) -> None:
    cluster.create("configmaps", config_map("a"))
    cluster.create("configmaps", config_map("b"))
    cluster.fault(Match("GET", MAPS, watch="true"), Gone(after_lines=1))
    client = Client(cluster)
    response = client.open("GET", f"{MAPS}?watch=true")
    (first, _), (second, status) = events_of(response, 2)
    assert (first, second, status["reason"]) == ("ADDED", "ERROR", "Expired")
    assert response.read() == b""
    assert client.ask("GET", MAPS)[0] == 200


def test_torn_characters(cluster: FakeCluster) -> None:
    cluster.play(PodScript(["\u00e9"]))
    run_job(cluster)
    cluster.fault(Match("GET", "/log"), Split(size=1))
    path = log_path(cluster, phase="Succeeded")
    assert raw_get(cluster, path).endswith(b"1\r\n\xc3\r\n1\r\n\xa9\r\n1\r\n\n\r\n0\r\n\r\n")


def test_down_refuses_resets_and_comes_back(cluster: FakeCluster) -> None:
    watcher = Client(cluster).open("GET", f"{MAPS}?watch=true")
    cluster.fault(Match("POST"), Down(0.5))
    with pytest.raises(ConnectionResetError):
        Client(cluster).ask("POST", MAPS, config_map("a"))
    with pytest.raises(ConnectionResetError):
        watcher.read()
    with pytest.raises(ConnectionRefusedError):
        Client(cluster).ask("GET", MAPS)

    def back() -> bool:
        try:
            return Client(cluster).ask("GET", MAPS)[0] == 200
        except ConnectionRefusedError:
            return False

    started = time.monotonic()
    cluster.wait(back)
    assert 0.2 < time.monotonic() - started < 2 and cluster.objects("configmaps") == []


def test_tokens_rotate() -> None:
    with FakeCluster(tokens={"one"}) as cluster:
        client = Client(cluster)
        assert client.ask("GET", MAPS)[0] == 401
        assert client.ask("GET", MAPS, Authorization="Bearer one")[0] == 200
        cluster.tokens = {"two"}
        status, refused = client.ask("GET", MAPS, Authorization="Bearer one")
        assert (status, refused["reason"]) == (401, "Unauthorized")


def test_denied_verbs(cluster: FakeCluster) -> None:
    cluster.denied = {"create jobs"}
    client = Client(cluster)
    status, refused = client.ask("POST", JOBS, job())
    assert status == 403 and refused["message"].startswith("jobs.batch is forbidden: User")


# ---------------------------------------------------------------- recording and closing


def test_requests_are_recorded_before_hooks_see_them(cluster: FakeCluster) -> None:
    seen: List[Tuple[int, int, int]] = []

    def look(request: Request) -> None:
        seen.append((request.number, len(cluster.requests), len(cluster.objects("configmaps"))))

    cluster.hook(look)
    client = Client(cluster)
    client.ask("POST", f"{MAPS}?pretty=1", config_map("a"), User_Agent="k8r/1")
    client.ask("GET", f"{MAPS}/nope")
    assert seen == [(1, 1, 0), (2, 2, 1)]
    first, second = cluster.requests
    assert (first.method, first.path, first.query) == ("POST", MAPS, {"pretty": "1"})
    assert first.body == config_map("a") and first.user_agent == "k8r/1"
    assert (first.status, second.status) == (201, 404) and first.time <= second.time


def test_kubeconfig_names_the_server(cluster: FakeCluster, tmp_path: Any) -> None:
    path = cluster.kubeconfig(tmp_path / "config", namespace="work", user={"token": "t"})
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    assert config["clusters"][0]["cluster"]["server"] == f"http://127.0.0.1:{cluster.port}"
    assert config["contexts"][0]["context"]["namespace"] == "work"
    assert config["users"][0]["user"] == {"token": "t"}


def test_closing_is_quick_with_open_streams() -> None:
    before = threading.active_count()
    with FakeCluster(PodScript(run=600)) as cluster:
        cluster.create("jobs", job())
        follow = Client(cluster).open("GET", log_path(cluster, "follow=true"))
        watch = Client(cluster).open("GET", f"{MAPS}?watch=true")
        cluster.down(600)
        started = time.monotonic()
    assert time.monotonic() - started < 2 and threading.active_count() == before
    for response in (follow, watch):
        with pytest.raises(ConnectionResetError):
            response.read()


def test_connections_end_when_the_client_hangs_up(cluster: FakeCluster) -> None:
    client = Client(cluster)
    response = client.open("GET", f"{MAPS}?watch=true")
    assert cluster.open_connections == 1
    response.close()
    client.http.close()
    cluster.wait(lambda: cluster.open_connections == 0, timeout=2)


def test_a_crash_of_the_fake_is_told() -> None:
    with pytest.raises(RuntimeError, match="hook went wrong"):
        with FakeCluster() as cluster:

            def broken(_: Request) -> None:
                raise ValueError("hook went wrong")

            cluster.hook(broken)
            with pytest.raises(http.client.RemoteDisconnected):
                Client(cluster).ask("GET", MAPS)


# ---------------------------------------------------------------- outages


FOREIGN = [
    (Respond(503), "application/json", "ServiceUnavailable"),
    (Respond(429, retry_after=2), "application/json", "TooManyRequests"),
    (foreign(404), "text/html", None),
    (foreign(200), "text/html", None),
    (foreign(200, "null", "application/json"), "application/json", None),
    (foreign(200, "[]", "application/json"), "application/json", None),
]


@pytest.mark.parametrize("answer, kind, reason", FOREIGN)
def test_an_outage_answers_in_its_own_way(
    cluster: FakeCluster, answer: Respond, kind: str, reason: Optional[str]
) -> None:
    outage = cluster.outage(Match("GET", MAPS), answer, 60)
    client = Client(cluster)
    for _ in range(2):
        response = client.open("GET", MAPS)
        assert (response.status, response.getheader("Content-Type")) == (answer.status, kind)
        assert response.getheader("Retry-After") == ("2" if answer.status == 429 else None)
        body = response.read()
        if reason is None:
            assert body == answer.raw
        else:
            assert json.loads(body)["reason"] == reason
    assert client.ask("POST", MAPS, config_map("a"))[0] == 201
    assert client.ask("GET", JOBS)[0] == 200
    assert outage.answered == 2


def test_an_outage_begins_and_ends(cluster: FakeCluster) -> None:
    cluster.outage(Match("GET", MAPS), foreign(500), 0.6, after=0.2, begin=Match("POST"))
    client = Client(cluster)

    def status() -> int:
        response = client.open("GET", MAPS)
        response.read()
        return response.status

    time.sleep(0.3)
    assert status() == 200
    posted = time.monotonic()
    assert client.ask("POST", MAPS, config_map("a"))[0] == 201
    cluster.wait(lambda: status() == 500)
    assert time.monotonic() - posted >= 0.2
    cluster.wait(lambda: status() == 200)
    assert time.monotonic() - posted >= 0.8


@pytest.mark.parametrize(
    "cut, error", [("reset", ConnectionResetError), ("truncate", http.client.IncompleteRead)]
)
def test_an_outage_cuts_streams_that_match(cluster: FakeCluster, cut: str, error: Any) -> None:
    spared = Client(cluster).open("GET", f"{PODS}?watch=true&timeoutSeconds=1")
    watcher = Client(cluster).open("GET", f"{MAPS}?watch=true")
    outage = cluster.outage(Match("GET", MAPS), Respond(503), 60, cut=cut)
    with pytest.raises(error):
        watcher.read()
    assert Client(cluster).ask("GET", f"{MAPS}?watch=true")[0] == 503
    assert spared.read() == b""
    assert (outage.cut_streams, outage.answered) == (1, 1)


def test_an_outage_ends_a_log_as_if_all_had_been_said(cluster: FakeCluster) -> None:
    cluster.play(PodScript(["one", Line("two", delay=1.0)], run=60))
    cluster.create("jobs", job())
    path = log_path(cluster, "follow=true")
    response = Client(cluster).open("GET", path)
    assert response.readline() == b"one\n"
    cluster.outage(Match("GET", "/log$"), Respond(500), 60, cut="eof")
    assert response.read() == b""
    assert Client(cluster).ask("GET", path)[0] == 500


# ---------------------------------------------------------------- containers of others


def states(pod: Dict[str, Any]) -> Dict[str, Any]:
    """The exit codes of a pod's containers, by name; None: it has not ended for good."""
    found = pod["status"]
    items = [*found.get("initContainerStatuses", ()), *found.get("containerStatuses", ())]
    return {item["name"]: item["state"].get("terminated", {}).get("exitCode") for item in items}


def last_pods(cluster: FakeCluster) -> List[Dict[str, Any]]:
    """The last shapes of the pods that have gone."""
    with cluster.store.lock:
        history = cluster.store.history
        return [it.last for it in history if it.plural == "pods" and it.new is None]


FATES = [
    (Foreign("mesh", native=True), "Succeeded", 143, 0),
    (Foreign("mesh", native=True, stop_code=0), "Succeeded", 0, 0),
    (Foreign("mesh", native=True, exit_code=137, linger=0.1), "Succeeded", 137, 0),
    (Foreign("mesh", native=True, exit_code=1, after=0.0, ends=1), "Succeeded", 143, 1),
    (Foreign("mesh", exit_code=0, after=0.0), "Succeeded", 0, 0),
    (Foreign("mesh", exit_code=1, after=0.0), "Failed", 1, 0),
    (Foreign("adapter", exit_code=143, linger=0.1), "Failed", 143, 0),
    (Foreign("zipkin", exit_code=0, linger=0.1), "Succeeded", 0, 0),
]


@pytest.mark.parametrize("added, end, code, restarts", FATES)
def test_a_container_of_others(
    cluster: FakeCluster, added: Foreign, end: str, code: int, restarts: int
) -> None:
    cluster.play(PodScript(["said"], run=0.3, init_lines=["init"], foreign=[added]))
    run_job(cluster, "Complete" if end == "Succeeded" else "Failed", backoffLimit=0, inits=["i"])
    (pod,) = cluster.objects("pods")
    assert pod["status"]["phase"] == end
    assert states(pod) == {"i": 0, "main": 0, added.name: code}
    kind = "initContainerStatuses" if added.native else "containerStatuses"
    names = [item["name"] for item in pod["status"][kind]]
    assert names == ([added.name, "i"] if added.native else sorted(names))
    (status,) = [item for item in pod["status"][kind] if item["name"] == added.name]
    assert status["restartCount"] == restarts
    path = f"{PODS}/{pod['metadata']['name']}/log"
    assert Client(cluster).open("GET", f"{path}?container=main").read() == b"said\n"
    assert Client(cluster).open("GET", f"{path}?container=i").read() == b"init\n"


def test_a_container_that_never_ends_keeps_the_pod(cluster: FakeCluster) -> None:
    added = [Foreign("adapter", lines=["beside"]), Foreign("mesh", native=True)]
    cluster.play(PodScript(exit_code=3, foreign=added))
    cluster.create("jobs", job(backoffLimit=0))
    cluster.wait(lambda: [it for it in cluster.objects("pods") if states(it).get("main") == 3])
    time.sleep(0.2)
    (pod,) = cluster.objects("pods")
    assert states(pod) == {"adapter": None, "main": 3, "mesh": None}
    assert pod["status"]["phase"] == "Running" and conditions(cluster) == {}
    response = Client(cluster).open("GET", log_path(cluster, "follow=true&container=adapter"))
    assert response.readline() == b"beside\n"
    cluster.delete("pods", pod_name(cluster))
    assert response.read() == b""
    cluster.wait(lambda: last_pods(cluster))
    assert states(last_pods(cluster)[0]) == {"adapter": 143, "main": 3, "mesh": 143}


def test_a_native_sidecar_that_fails_again_and_again(cluster: FakeCluster) -> None:
    mesh = Foreign("mesh", native=True, exit_code=1, after=0.0)
    cluster.play(PodScript(run=60, foreign=[mesh]))
    cluster.create("jobs", job())

    def restarts() -> int:
        (pod,) = cluster.objects("pods") or [{"status": {}}]
        return sum(it["restartCount"] for it in pod["status"].get("initContainerStatuses", ()))

    cluster.wait(lambda: restarts() > 2)
    (pod,) = cluster.objects("pods")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert "running" in pod["status"]["containerStatuses"][0]["state"]


# ---------------------------------------------------------------- ended by the cluster


def disruption(pod: Dict[str, Any]) -> Optional[str]:
    """The reason of a pod's condition DisruptionTarget."""
    found = [it for it in pod["status"]["conditions"] if it["type"] == "DisruptionTarget"]
    return found[0]["reason"] if found else None


@pytest.mark.parametrize("code, end", [(0, "Succeeded"), (143, "Failed")])
def test_an_evicted_pod_has_some_time(cluster: FakeCluster, code: int, end: str) -> None:
    cluster.play(PodScript(run=60, grace=0.5, stop_code=code), PodScript(run=60))
    cluster.create("jobs", job(backoffLimit=2))
    name = pod_name(cluster, "Running")
    cluster.evict(name)
    (pod,) = [it for it in cluster.objects("pods") if it["metadata"]["name"] == name]
    assert pod["metadata"]["deletionTimestamp"] and pod["status"]["phase"] == "Running"
    assert disruption(pod) == "EvictionByEvictionAPI"
    cluster.wait(lambda: last_pods(cluster))
    (last,) = last_pods(cluster)
    assert (last["status"]["phase"], disruption(last)) == (end, "EvictionByEvictionAPI")
    state = last["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["exitCode"] == code
    assert cluster.objects("jobs")[0]["status"]["failed"] == 1


def test_a_pod_evicted_by_its_node_stays(cluster: FakeCluster) -> None:
    script = {"pod_reason": "Evicted", "message": "low on memory"}
    cluster.play(PodScript(disruption="TerminationByKubelet", **script))  # type: ignore[arg-type]
    run_job(cluster, "Failed", backoffLimit=0)
    (pod,) = cluster.objects("pods")
    status = pod["status"]
    assert (status["phase"], status["reason"], disruption(pod)) == (
        "Failed",
        "Evicted",
        "TerminationByKubelet",
    )
    assert "deletionTimestamp" not in pod["metadata"]


IGNORE = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
}


@pytest.mark.parametrize("reason, failed", [("PreemptionByScheduler", 0), (None, 1)])
def test_a_policy_ignores_disruptions(
    cluster: FakeCluster, reason: Optional[str], failed: int
) -> None:
    first = PodScript(numbered(9), deleted_after=2, disruption=reason)
    cluster.play(first, PodScript(["second"]))
    done = run_job(cluster, backoffLimit=1, podFailurePolicy=IGNORE)
    assert (done["status"].get("failed", 0), done["status"]["succeeded"]) == (failed, 1)
    assert disruption(last_pods(cluster)[0]) == reason


def test_with_a_policy_a_pod_is_replaced_when_it_has_ended(cluster: FakeCluster) -> None:
    cluster.play(PodScript(run=60, grace=0.4, stop_code=0), PodScript(run=60))
    cluster.create("jobs", job(backoffLimit=1, podFailurePolicy=IGNORE))
    cluster.evict(pod_name(cluster, "Running"))
    cluster.wait(lambda: "Complete" in conditions(cluster))
    assert len(last_pods(cluster)) == 1 and cluster.objects("pods") == []
    status, error = Client(cluster).ask(
        "POST", JOBS, job("other", policy="OnFailure", podFailurePolicy=IGNORE)
    )
    assert status == 422 and "restartPolicy" in error["message"]
