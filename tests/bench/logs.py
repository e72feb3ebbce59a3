"""A long log, followed while it is written and fetched when it is there."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from typing import Any, Dict, Iterator, List, Optional, Set

from measuring import NO_TARGET, Row, Sample, Samples, Target, cpu, in_turn, kubectl, run
from setting import Setting

LINE = 128
"""Bytes of a line, of which a log of MiBs has a whole number."""
LINES = 4096
"""Lines that are made at a time."""
WRITER = f"""
import sys, time
size, at = int(sys.argv[1]), float(sys.argv[2])
time.sleep(max(0, at - time.time()))
for start in range(0, size // {LINE}, {LINES}):
    lines = ["%010d %s" % (n, "x" * {LINE - 12}) for n in range(start, start + {LINES})]
    sys.stdout.write("\\n".join(lines) + "\\n")
"""
"""Waits for a time, then writes numbered lines as fast as it can."""
STAMP = len("2026-01-01T00:00:00.000000000Z ")
HTTP_1 = {"DISABLE_HTTP2": "true"}
"""What makes kubectl speak HTTP/1.1, as all of Python's HTTP clients at hand do: the API
server takes longer then, whoever asks."""
READY = 5.0
"""Seconds for a pod to start and for somebody to begin to follow it."""

FAST = Target(
    ">= 1x at <= 2x CPU",
    lambda row: (row.ratio or 0) >= 1
    and cpu(row.ours) <= 2 * cpu(row.theirs)
    and bool(row.facts["same"]),
)


@functools.lru_cache()
def digest_of(size: int) -> str:
    """The SHA-256 of what `WRITER` writes."""
    digest = hashlib.sha256()
    for start in range(0, size // LINE, LINES):
        lines = ["%010d %s" % (n, "x" * (LINE - 12)) for n in range(start, start + LINES)]
        digest.update(("\n".join(lines) + "\n").encode())
    return digest.hexdigest()


class Sink:
    """A file for what a command prints, and what has been in it."""

    def __init__(self, setting: Setting) -> None:
        self._path = setting.scratch / "log"
        self.digests: Set[str] = set()
        self.sizes: Set[int] = set()

    def throughput(
        self,
        command: List[str],
        begin: Optional[float] = None,
        env: Optional[Dict[str, str]] = None,
    ) -> Sample:
        """MiB/s of a command, from its start or from a later time on."""
        with open(self._path, "wb") as file:
            began = time.time()
            sample = run(command, stdout=file, env=env)
            seconds = sample.value - max(0.0, (begin or 0.0) - began)
        size = self._path.stat().st_size
        self._note(size)
        return sample._replace(value=size / seconds / (1 << 20))

    def _note(self, size: int) -> None:
        digest = hashlib.sha256()
        with open(self._path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
        self._path.unlink()
        self.sizes.add(size)
        self.digests.add(digest.hexdigest())


def start_writer(setting: Setting, name: str, at: float) -> None:
    """A Job whose container writes from that time on."""
    size = str(setting.log_size << 20)
    words = ["-d", "--job-name", name, "python:3-slim", "--"]
    run(setting.k8r(*words, "python3", "-c", WRITER, size, str(at)))


def pod_of(setting: Setting, name: str) -> Dict[str, Any]:
    """The pod of a Job."""

    def probe() -> List[Dict[str, Any]]:
        words = ["-n", setting.namespace, "get", "pods", "-l", f"job-name={name}", "-o", "json"]
        found: List[Dict[str, Any]] = json.loads(kubectl(*words))["items"]
        return [pod for pod in found if pod["status"]["phase"] != "Pending"]

    return setting.until(probe, f"the pod of {name}")[0]


def follow(setting: Setting) -> Iterator[Row]:
    """A container writes as fast as it can; each follower has one of its own."""
    sinks = [Sink(setting), Sink(setting)]
    names = iter(f"follow-{number}" for number in range(10_000))

    def measure(sink: Sink, ours: bool) -> Sample:
        name, at = next(names), time.time() + READY
        start_writer(setting, name, at)
        pod = pod_of(setting, name)["metadata"]["name"]
        if time.time() > at - 2:
            raise SystemExit("the machine is too busy: a pod has not started in time")
        words = ["logs", "-f", name if ours else pod]
        sample = sink.throughput(setting.k8r(*words) if ours else setting.kubectl(*words), at)
        setting.remove_jobs()
        return sample

    samples = in_turn(
        setting.runs,
        lambda: measure(sinks[0], True),
        lambda: measure(sinks[1], False),
        warm=setting.runs > 1,
    )
    wanted = digest_of(setting.log_size << 20)
    facts = {
        "same": sinks[0].digests == {wanted},
        "bytes": sorted(sinks[0].sizes),
        "other_bytes": sorted(sinks[1].sizes),
        "other_same": sinks[1].digests == {wanted},
    }
    case = f"`k8r logs -f` : `kubectl logs -f`, {setting.log_size} MiB"
    yield Row(case, "MiB/s", *samples, FAST, facts)


def fetch(setting: Setting) -> Iterator[Row]:
    """The log of a container that has ended. Of one that was rotated, that is the last file."""
    start_writer(setting, "fetch", 0)
    pod = pod_of(setting, "fetch")["metadata"]["name"]
    run(setting.kubectl("wait", "--for=condition=complete", "--timeout=300s", "job/fetch"))
    sink = Sink(setting)
    old: Samples = []

    def theirs() -> Sample:
        command = setting.kubectl("logs", "--timestamps", pod)
        old.append(Sink(setting).throughput(command, env=HTTP_1))
        return sink.throughput(setting.kubectl("logs", pod))

    samples = in_turn(
        setting.runs,
        lambda: sink.throughput(setting.k8r("logs", "fetch")),
        theirs,
        warm=setting.runs > 1,
    )
    setting.remove_jobs()
    whole = sink.digests == {digest_of(setting.log_size << 20)}
    facts = {"same": len(sink.digests) == 1, "bytes": sorted(sink.sizes), "whole": whole}
    case = f"`k8r logs` : `kubectl logs`, {max(sink.sizes) >> 20} MiB"
    yield Row(case, "MiB/s", *samples, FAST, facts)
    larger = 1 + STAMP / LINE
    case = "the same : `kubectl logs --timestamps` by HTTP/1.1, without the timestamps' bytes"
    bare = [sample._replace(value=sample.value / larger) for sample in old[-setting.runs :]]
    yield Row(case, "MiB/s", samples[0], bare, NO_TARGET)


CASES = [follow, fetch]
