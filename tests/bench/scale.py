"""Many Jobs and many pods: memory, CPU seconds and requests, and how they grow."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple

import yaml

from measuring import K8R, NO_TARGET, Row, Sample, Samples, Target
from measuring import at_most, at_most_times, in_turn, kubectl, peak_at_most, run
from setting import Api, Setting, api_of
from simulated import PATCH, PODS_PER_NODE, STAYS, log_lines, simulated_nodes

STEPS = (10, 100, 1000)
JOBS = 5000
PODS_OF_A_JOB = 4
STREAMS_AT_ONCE = 55
"""k8r opens 50 logs at a time; the API server notices a closed one a moment later."""

USER = "k8r-bench"
"""A ServiceAccount and a FlowSchema. The API server's metrics do not tell users apart, but
they do tell FlowSchemas, and one for this account alone counts what k8r asks for. Logs go
past it; of them no one else asks for any here, so that the server's total counts them."""
DISPATCHED = re.compile(
    r'^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="k8r-bench",.*\} (\S+)$', re.M
)
LOGS_ASKED = re.compile(
    r'^apiserver_request_total\{.*resource="pods",.*subresource="log",.*\} (\S+)$', re.M
)
LOGS_OPEN = re.compile(
    r'^apiserver_longrunning_requests\{.*resource="pods",.*subresource="log",.*\} (\S+)$', re.M
)

FLOW = """\
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {{name: {user}}}
spec:
  priorityLevelConfiguration: {{name: workload-low}}
  matchingPrecedence: 500
  rules:
  - subjects:
    - {{kind: ServiceAccount, serviceAccount: {{name: {user}, namespace: {namespace}}}}}
    resourceRules:
    - {{verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: ["*"], clusterScope: true}}
    nonResourceRules:
    - {{verbs: ["*"], nonResourceURLs: ["*"]}}
"""


def metric(pattern: "re.Pattern[str]") -> int:
    """The sum of a metric of the API server."""
    return int(sum(float(value) for value in pattern.findall(kubectl("get", "--raw", "/metrics"))))


class Requests(NamedTuple):
    """How many requests have come from k8r: for logs, and others."""

    others: int
    logs: int

    @classmethod
    def so_far(cls) -> Requests:
        """As the API server counts them."""
        text = kubectl("get", "--raw", "/metrics")
        sums = [sum(map(float, kind.findall(text))) for kind in (DISPATCHED, LOGS_ASKED)]
        return cls(int(sums[0]), int(sums[1]))

    def since(self, before: Requests) -> Requests:
        """What has been added."""
        return Requests(self.others - before.others, self.logs - before.logs)


@contextlib.contextmanager
def own_user(setting: Setting) -> Iterator[Dict[str, str]]:
    """The environment of a user of its own, whom the API server counts apart."""
    words = ["-n", setting.namespace, "create"]
    kubectl(*words, "serviceaccount", USER)
    account = f"{setting.namespace}:{USER}"
    kubectl(*words, "rolebinding", USER, "--clusterrole=cluster-admin", "--serviceaccount", account)
    kubectl("create", "-f", "-", stdin=FLOW.format(user=USER, namespace=setting.namespace))
    try:
        token = kubectl(*words, "token", USER, "--duration=6h").strip()
        config = json.loads(
            kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        )
        config["users"][0]["user"] = {"token": token}
        path = setting.scratch / "kubeconfig"
        path.write_text(json.dumps(config))
        yield {"KUBECONFIG": str(path)}
    finally:
        kubectl("delete", "flowschema", USER)
        kubectl("-n", setting.namespace, "delete", f"serviceaccount/{USER}", f"rolebinding/{USER}")


class OpenLogs(threading.Thread):
    """Looks once a second how many logs are open at the API server."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stop_asked = threading.Event()
        self.most = 0

    def run(self) -> None:
        """Look until told to stop."""
        while not self._stop_asked.wait(1.0):
            self.most = max(self.most, metric(LOGS_OPEN))

    def stop(self) -> int:
        """The most that were seen."""
        self._stop_asked.set()
        self.join()
        return self.most


# Runs of many pods


class Counted(NamedTuple):
    """What runs of one size took."""

    samples: Samples
    requests: List[Requests]
    most_open: int
    lost: int


def lost_lines(path: Path, num: int, wanted: List[str]) -> int:
    """How many lines of a run are missing, more than once there, or out of order."""
    found: Dict[int, List[str]] = {}
    with open(path, encoding="utf-8") as file:
        for text in file:
            label, _, rest = text.rstrip("\n").partition("] ")
            found.setdefault(int(label[1:]), []).append(rest)
    bad = 0
    for index in range(num):
        got = found.get(index, [])
        if got != wanted:
            bad += max(1, abs(len(wanted) - len(got)))
    return bad


def run_many(
    setting: Setting, env: Dict[str, str], num: int, words: List[str], wanted: List[str]
) -> Counted:
    """Runs of so many pods at once, followed to their ends."""
    samples: Samples = []
    requests: List[Requests] = []
    most = lost = 0
    path = setting.scratch / "output"
    for _ in range(few(setting)):
        watcher, before = OpenLogs(), Requests.so_far()
        watcher.start()
        with open(path, "wb") as file:
            command = setting.k8r("--num", str(num), *words)
            samples.append(run(command, setting.scratch, file, env))
        most = max(most, watcher.stop())
        requests.append(Requests.so_far().since(before))
        lost += lost_lines(path, num, wanted)
        setting.remove_jobs()
    return Counted(samples, requests, most, lost)


def few(setting: Setting) -> int:
    """What takes minutes is measured less often."""
    return max(1, setting.runs // 3)


def counts(values: Iterable[int]) -> Samples:
    """Samples of what is counted."""
    return [Sample(float(value)) for value in values]


def simulated_runs(setting: Setting) -> Iterator[Row]:
    """`--num` of 10, 100 and 1,000 simulated pods."""
    patch = setting.scratch / "patch.yaml"
    patch.write_text(PATCH)
    words = ["--patch", str(patch), "alpine", "--", "true"]
    taken: Dict[int, Counted] = {}
    with api_of() as api, own_user(setting) as env:
        with simulated_nodes(setting, api, 1 + STEPS[-1] // PODS_PER_NODE):
            for num in STEPS:
                taken[num] = run_many(setting, env, num, words, log_lines())
                yield from rows_of_runs(num, taken[num])
    small, large = taken[STEPS[-2]], taken[STEPS[-1]]
    yield from growth(
        f"`--num` {STEPS[-1]:,} : {STEPS[-2]}",
        STEPS[-1] / STEPS[-2],
        {
            "CPU s": (cpus(large.samples), cpus(small.samples)),
            "requests for logs": (
                counts(kind.logs for kind in large.requests),
                counts(kind.logs for kind in small.requests),
            ),
            "other requests": (
                counts(kind.others for kind in large.requests),
                counts(kind.others for kind in small.requests),
            ),
        },
    )


def rows_of_runs(num: int, taken: Counted) -> Iterator[Row]:
    """Time, memory, requests and streams of runs of one size."""
    case = f"`k8r --num {num}`, simulated"
    facts = {"requests": [kind._asdict() for kind in taken.requests], "lost": taken.lost}
    yield Row(case, "s", taken.samples, [], peak_at_most(200), facts)
    yield Row(f"{case}: lines lost", "", counts([taken.lost]), [], at_most(0))
    yield Row(
        f"{case}: logs open at once", "", counts([taken.most_open]), [], at_most(STREAMS_AT_ONCE)
    )
    logs = counts(kind.logs for kind in taken.requests)
    yield Row(f"{case}: requests for logs", "", logs, [], NO_TARGET)
    others = counts(kind.others for kind in taken.requests)
    # One list or watch for all: whatever grows with the pods would show here.
    yield Row(f"{case}: other requests", "", others, [], at_most(20))


def cpus(samples: Samples) -> Samples:
    """The CPU seconds as the value."""
    return [Sample(sample.cpu) for sample in samples]


def growth(case: str, factor: float, pairs: Dict[str, Any]) -> Iterator[Row]:
    """How the larger compares with the smaller: linear or better is the aim."""
    for what, (large, small) in pairs.items():
        linear = Target(f"<= {factor:g}x", at_most_times(factor).met)
        yield Row(f"growth, {case}: {what}", "", large, small, linear)


def real_pods(setting: Setting) -> Iterator[Row]:
    """50 containers that run and write at once."""
    script = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"
    wanted = [f"line {number}" for number in range(200)]
    with own_user(setting) as env:
        taken = run_many(setting, env, 50, ["alpine", "--", "sh", "-c", script], wanted)
    case = "`k8r --num 50`, real containers, 200 lines each"
    facts = {"requests": [kind._asdict() for kind in taken.requests]}
    yield Row(case, "s", taken.samples, [], NO_TARGET, facts)
    yield Row(f"{case}: lines lost", "", counts([taken.lost]), [], at_most(0))
    yield Row(
        f"{case}: logs open at once", "", counts([taken.most_open]), [], at_most(STREAMS_AT_ONCE)
    )


# Many Jobs


def job_like(setting: Setting) -> Dict[str, Any]:
    """A Job as k8r makes it, which no controller takes care of."""
    done = subprocess.run(
        [*K8R, "alpine", "--num", str(PODS_OF_A_JOB), "--show-yaml", "--", "true"],
        stdout=subprocess.PIPE,
        cwd=setting.scratch,
        check=True,
    )
    job: Dict[str, Any] = yaml.safe_load(done.stdout)
    job["spec"]["managedBy"] = "k8r.test/bench"
    return job


def named(item: Dict[str, Any], name: str) -> Dict[str, Any]:
    """The same under another name."""
    metadata = {**item["metadata"], "name": name}
    metadata["labels"] = {**metadata["labels"], "k8r-job": name, STAYS: "true"}
    return {**item, "metadata": metadata}


def make_jobs(setting: Setting, api: Api, first: int, last: int) -> None:
    """Jobs with that many pods that run on simulated nodes; of one in fifty they wait."""
    job = job_like(setting)
    template = job["spec"]["template"]
    base = f"/apis/batch/v1/namespaces/{setting.namespace}/jobs"

    def make(number: int) -> None:
        name, waits = f"job-{number}", number % 50 == 0
        made = api.send("POST", base, named(job, name))
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "controller": True}
        owner["uid"] = made["metadata"]["uid"]
        for index in range(PODS_OF_A_JOB):
            pod = named({"apiVersion": "v1", "kind": "Pod", **template}, name)
            pod["metadata"].update(name=f"{name}-{index}", ownerReferences=[owner])
            spec = {**pod["spec"], "tolerations": [{"operator": "Exists"}]}
            where = "k8r-bench-%d" % (number * PODS_OF_A_JOB // PODS_PER_NODE)
            spec.update({"nodeSelector": {"k8r-bench": "none"}} if waits else {"nodeName": where})
            api.send("POST", f"/api/v1/namespaces/{setting.namespace}/pods", {**pod, "spec": spec})
        status = {"active": PODS_OF_A_JOB, "ready": 0 if waits else PODS_OF_A_JOB}
        api.send("PATCH", f"{base}/{name}/status", {"status": status}, "merge-patch+json")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(first, last)))


def many_jobs(setting: Setting) -> Iterator[Row]:
    """`k8r ls` of 10, 100, 1,000 and 5,000 Jobs."""
    taken: Dict[int, Samples] = {}
    asked: Dict[int, List[Requests]] = {}
    nodes = 1 + JOBS * PODS_OF_A_JOB // PODS_PER_NODE
    with api_of() as api, own_user(setting) as env, simulated_nodes(setting, api, nodes):
        there = 0
        for jobs in (*STEPS, JOBS):
            make_jobs(setting, api, there, jobs)
            there = jobs
            asked[jobs] = []
            ours = counting(asked[jobs], lambda: run(setting.k8r("ls"), env=env))
            theirs = lambda: run(setting.kubectl("get", "jobs"))  # noqa: E731
            taken[jobs], other = in_turn(setting.runs, ours, theirs)
            case = f"`k8r ls` : `kubectl get jobs`, {jobs:,} Jobs, {jobs * PODS_OF_A_JOB:,} pods"
            yield Row(case, "s", taken[jobs], other, peak_at_most(120))
    small, large = STEPS[-2], STEPS[-1]
    yield from growth(
        f"`k8r ls`, {large:,} : {small} Jobs",
        large / small,
        {
            "CPU s": (cpus(taken[large]), cpus(taken[small])),
            "requests": (
                counts(kind.others for kind in asked[large]),
                counts(kind.others for kind in asked[small]),
            ),
        },
    )


def make_run(setting: Setting, api: Api, name: str, count: int) -> None:
    """One Job with so many pods that run on simulated nodes."""
    job = named(job_like(setting), name)
    job["spec"].update(completions=count, parallelism=count)
    made = api.send("POST", f"/apis/batch/v1/namespaces/{setting.namespace}/jobs", job)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "controller": True}
    owner["uid"] = made["metadata"]["uid"]
    template = made["spec"]["template"]

    def make(index: int) -> None:
        pod = named({"apiVersion": "v1", "kind": "Pod", **template}, name)
        marks = {"batch.kubernetes.io/job-completion-index": str(index)}
        pod["metadata"].update(name=f"{name}-{index}", ownerReferences=[owner], annotations=marks)
        where = {"tolerations": [{"operator": "Exists"}]}
        where.update(nodeName=f"k8r-bench-{index // PODS_PER_NODE}")
        pod["spec"] = {**pod["spec"], **where}
        api.send("POST", f"/api/v1/namespaces/{setting.namespace}/pods", pod)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(count)))


def many_pods(setting: Setting) -> Iterator[Row]:
    """`k8r ls NAME` of a run of 1,000 and of 10,000 pods: within 2 s and 80 MiB."""
    with api_of() as api, simulated_nodes(setting, api, 10_000 // PODS_PER_NODE):
        for count in (1000, 10_000):
            make_run(setting, api, f"many-{count}", count)
            taken = [run(setting.k8r("ls", f"many-{count}")) for _ in range(setting.runs)]
            case = f"`k8r ls NAME`, {count:,} pods"
            yield Row(case, "s", taken, [], at_most(2))
            yield Row(f"{case}: memory", "s", taken, [], peak_at_most(80))
            setting.remove_jobs()


def counting(asked: List[Requests], measure: Callable[[], Sample]) -> Callable[[], Sample]:
    """The same measurement, with its requests noted down."""

    def counted() -> Sample:
        before = Requests.so_far()
        sample = measure()
        asked.append(Requests.so_far().since(before))
        return sample

    return counted


CASES = [simulated_runs, real_pods, many_jobs, many_pods]
