"""Short commands: what a user waits for at the prompt."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
import threading
import time
from typing import Callable, Dict, Iterator, List

from measuring import BARE, K8R, NO_TARGET, ROOT, Row, Sample, Samples
from measuring import at_most, at_most_over, at_most_times, in_turn, run
from setting import Api, Setting, api_of

STAMP = "cut -d' ' -f1 /proc/uptime"
"""Says the time, of the clock that this machine and its containers share; alpine's date
knows whole seconds only. It has two decimals, rounded down."""
ATTACHED = ["--image=alpine:latest", "--restart=Never", "--attach", "--rm", "-q"]


def help_text(setting: Setting) -> Iterator[Row]:
    """`k8r --help`."""
    samples = in_turn(setting.runs, lambda: run([*K8R, "--help"]), lambda: run(BARE))
    yield Row("`k8r --help` : `python3 -c pass`", "s", *samples, at_most_over(0.08))


def show_yaml(setting: Setting) -> Iterator[Row]:
    """`k8r ./ --show-yaml`."""
    folder = setting.folder("one")
    (folder / "data").write_bytes(b"x" * 100)
    command = [*K8R, "./", "--show-yaml", "--", "true"]
    samples = in_turn(setting.runs, lambda: run(command, folder), lambda: run(BARE))
    yield Row("`k8r ./ --show-yaml` : `python3 -c pass`", "s", *samples, NO_TARGET)


def ls(setting: Setting) -> Iterator[Row]:
    """`k8r ls` of 10 Jobs."""
    for _ in range(10):
        run(setting.k8r("-d", "alpine", "--", "true"))
    samples = in_turn(
        setting.runs,
        lambda: run(setting.k8r("ls")),
        lambda: run(setting.kubectl("get", "jobs")),
    )
    setting.remove_jobs()
    yield Row("`k8r ls` : `kubectl get jobs`, 10 Jobs", "s", *samples, at_most_times(3))


def logs(setting: Setting) -> Iterator[Row]:
    """`k8r logs` of a Job that has ended."""
    run(setting.k8r("--job-name", "hi", "alpine", "--", "echo", "hi"))
    samples = in_turn(
        setting.runs,
        lambda: run(setting.k8r("logs", "hi")),
        lambda: run(setting.kubectl("logs", "job/hi")),
    )
    setting.remove_jobs()
    yield Row("`k8r logs` : `kubectl logs`, one line", "s", *samples, NO_TARGET)


def echo(setting: Setting) -> Iterator[Row]:
    """A run of echo, against both ways of kubectl."""

    def measure(command: List[str]) -> Callable[[], Sample]:
        # The kubelet looks once a second whether a container has ended; what begins when
        # something else was seen to end would always meet it at the same moment.
        offsets = (number / setting.runs for number in itertools.count())

        def clean() -> Sample:
            time.sleep((next(offsets) - time.time()) % 1)
            sample = run(command)
            setting.remove_jobs()
            return sample

        return clean

    ours = setting.k8r("alpine", "--", "echo", "hi")
    attach = setting.kubectl("run", "echo", *ATTACHED, "--", "echo", "hi")
    samples = in_turn(setting.runs, measure(ours), measure(attach))
    yield Row("`k8r alpine` : `kubectl run --attach --rm`", "s", *samples, at_most_times(0.6))

    kubectl = " ".join(setting.kubectl())
    steps = (
        f"{kubectl} create job echo --image=alpine:latest -- echo hi && "
        f"{kubectl} wait --for=condition=complete --timeout=60s job/echo && {kubectl} logs job/echo"
    )
    samples = in_turn(setting.runs, measure(ours), measure(["sh", "-c", steps]))
    case = "`k8r alpine` : `kubectl create job`, `wait`, `logs`"
    yield Row(case, "s", *samples, NO_TARGET)
    if importlib.util.find_spec("kr8s"):
        script = [sys.executable, str(ROOT / "tests/bench/by_kr8s.py"), setting.namespace]
        samples = in_turn(setting.runs, measure(ours), measure([*script, "alpine", "echo", "hi"]))
        yield Row("`k8r alpine` : a script with kr8s", "s", *samples, NO_TARGET)
    else:
        print("not measured beside kr8s: uv sync --group bench", file=sys.stderr)


def sweep(setting: Setting) -> Iterator[Row]:
    """Ten pods with a parameter each, their output, and what became of them."""
    lines = setting.scratch / "lines"
    lines.write_text("".join(f"{number}\n" for number in range(10)))
    manifest = setting.scratch / "sweep.json"
    main = {"name": "main", "image": "alpine:latest", "imagePullPolicy": "IfNotPresent"}
    main["command"] = ["sh", "-c", "echo rate $JOB_COMPLETION_INDEX"]  # type: ignore[assignment]
    spec = {
        "completions": 10,
        "parallelism": 10,
        "completionMode": "Indexed",
        "template": {"spec": {"restartPolicy": "Never", "containers": [main]}},
    }
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sweep"}, "spec": spec}
    manifest.write_text(json.dumps(job))
    kubectl = " ".join(setting.kubectl())
    steps = (
        f"{kubectl} create -f {manifest} && "
        f"{kubectl} wait --for=condition=complete --timeout=60s job/sweep && "
        f"{kubectl} logs -l job-name=sweep --prefix --max-log-requests 10"
    )
    ours = setting.k8r("alpine", "--each", str(lines), "--", "echo", "rate", "{line}")

    def measure(command: List[str]) -> Callable[[], Sample]:
        def clean() -> Sample:
            sample = run(command)
            setting.remove_jobs()
            return sample

        return clean

    samples = in_turn(setting.runs, measure(ours), measure(["sh", "-c", steps]))
    case = "`k8r --each`, 10 lines : `kubectl create`, `wait`, `logs` of an Indexed Job"
    yield Row(case, "s", *samples, NO_TARGET)


class Witness(threading.Thread):
    """Notes when a plain watch says that a pod's container has ended: nobody who asks
    the API server can know it sooner.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        super().__init__(daemon=True)
        self._path = f"/api/v1/namespaces/{namespace}/pods?watch=true&timeoutSeconds=3000"
        self._api = api
        self.ended: Dict[str, float] = {}

    def run(self) -> None:
        """Watch until the proxy is gone."""
        try:
            for event in self._api.watch(self._path):
                pod = event["object"]
                key = pod["metadata"].get("labels", {}).get("job-name", "")
                for status in pod.get("status", {}).get("containerStatuses", []):
                    if "terminated" in status["state"]:
                        self.ended.setdefault(key, now())
        except (OSError, ValueError):
            pass


def now() -> float:
    """The seconds since this machine was started: the clock of `STAMP`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def stamped(command: List[str]) -> float:
    """Run it; the time that its container has printed as its last act."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(done.stdout.split()[-1])


def end_to_end(setting: Setting) -> Iterator[Row]:
    """From the container's last act to the end of the process that waits for it."""
    ours: Samples = []
    floor: Samples = []
    attached: Samples = []
    waited: Samples = []
    with api_of() as api:
        witness = Witness(api, setting.namespace)
        witness.start()
        for count in range(setting.runs + 1):
            # The kubelet looks once a second: over the runs, spread the ends over that second.
            script = f"sleep 1.{count * 7 % 10}; {STAMP}"
            name = f"end-{count}"
            told = stamped(setting.k8r("--job-name", name, "alpine", "--", "sh", "-c", script))
            ours.append(Sample(now() - told))
            floor.append(Sample(witness.ended[name] - told))
            words = ["run", name, *ATTACHED, "--", "sh", "-c", script]
            told = stamped(setting.kubectl(*words))
            attached.append(Sample(now() - told))
            waited.append(wait_for_job(setting, f"wait-{count}", script))
    setting.remove_jobs()
    ours, floor, attached, waited = (side[1:] for side in (ours, floor, attached, waited))
    case = "container's end to `k8r`'s : to `kubectl run --attach`'s"
    yield Row(case, "s", ours, attached, at_most(0.2))
    case = "the same : to `kubectl wait --for=condition=complete`'s"
    yield Row(case, "s", ours, waited, NO_TARGET)
    case = "the same : until a plain watch shows it, in the same runs"
    yield Row(case, "s", ours, floor, at_most_over(0.2))


def wait_for_job(setting: Setting, name: str, script: str) -> Sample:
    """How long after its container's end `kubectl wait` sees that a Job is complete."""
    words = ["create", "job", name, "--image=alpine:latest", "--", "sh", "-c", script]
    run(setting.kubectl(*words))
    run(setting.kubectl("wait", "--for=condition=complete", "--timeout=60s", f"job/{name}"))
    ended = now()
    return Sample(ended - stamped(setting.kubectl("logs", f"job/{name}")))


CASES = [help_text, show_yaml, ls, logs, echo, sweep, end_to_end]
