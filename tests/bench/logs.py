"""A long log, followed while it is written and fetched when it is there."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

from measuring import NO_TARGET, Row, Sample, Samples, Target, built, cpu, in_turn
from measuring import kubectl, run
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
PODS = 4
"""Whose logs are followed at once."""
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

    def throughput(self, command: List[str], begin: Optional[float] = None) -> Sample:
        """MiB/s of a command, from its start or from a later time on."""
        with open(self._path, "wb") as file:
            began = time.time()
            sample = run(command, stdout=file)
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


def running(setting: Setting, name: str) -> List[Dict[str, Any]]:
    """The pods of a Job that have started."""
    words = ["-n", setting.namespace, "get", "pods", "-l", f"job-name={name}", "-o", "json"]
    found: List[Dict[str, Any]] = json.loads(kubectl(*words))["items"]
    return [pod for pod in found if pod["status"]["phase"] != "Pending"]


def pod_of(setting: Setting, name: str) -> Dict[str, Any]:
    """The pod of a Job."""
    return setting.until(lambda: running(setting, name), f"the pod of {name}")[0]


By = Callable[[str, str, Optional[float]], Sample]
"""Reads the log of a Job, whose pod is the second, and which is written from that time on."""


class Logs:
    """What reads one log: k8r, kubectl, and kubectl with the timestamps that k8r asks for."""

    def __init__(self, setting: Setting, follow: bool) -> None:
        self._setting = setting
        self._words = ["logs", "-f"] if follow else ["logs"]
        self._ours, self._theirs, self._stamped = (Sink(setting) for _ in range(3))

    def by_k8r(self, job: str, _pod: str, begin: Optional[float]) -> Sample:
        """What k8r takes."""
        return self._ours.throughput(self._setting.k8r(*self._words, job), begin)

    def by_kubectl(self, _job: str, pod: str, begin: Optional[float]) -> Sample:
        """What kubectl takes."""
        return self._theirs.throughput(self._setting.kubectl(*self._words, pod), begin)

    def with_timestamps(self, _job: str, pod: str, begin: Optional[float]) -> Sample:
        """What kubectl takes with timestamps, whose bytes do not count."""
        command = self._setting.kubectl(*self._words, "--timestamps", pod)
        sample = self._stamped.throughput(command, begin)
        return sample._replace(value=sample.value / (1 + STAMP / LINE))

    def rows(self, measure: Callable[[By], Sample]) -> Iterator[Row]:
        """The comparison that there is a target for, and the one that explains it."""
        runs = self._setting.runs
        stamped: Samples = []

        def theirs() -> Sample:
            stamped.append(measure(self.with_timestamps))
            return measure(self.by_kubectl)

        samples = in_turn(runs, lambda: measure(self.by_k8r), theirs, warm=runs > 1)
        words, size = " ".join(self._words), max(self._ours.sizes) >> 20
        wanted = {digest_of(self._setting.log_size << 20)}
        facts = {
            "same": self._ours.digests in (wanted, self._theirs.digests),
            "whole": self._ours.digests == wanted,
            "bytes": sorted(self._ours.sizes),
            "other_bytes": sorted(self._theirs.sizes),
            "other_whole": self._theirs.digests == wanted,
        }
        yield Row(f"`k8r {words}` : `kubectl {words}`, {size} MiB", "MiB/s", *samples, FAST, facts)
        case = f"the same : `kubectl {words} --timestamps`, without their bytes"
        yield Row(case, "MiB/s", samples[0], stamped[-runs:], NO_TARGET)


def follow(setting: Setting) -> Iterator[Row]:
    """A container writes as fast as it can; each follower has one of its own."""
    names = iter(f"follow-{number}" for number in range(10_000))

    def measure(by: By) -> Sample:
        name, at = next(names), time.time() + READY
        start_writer(setting, name, at)
        pod = pod_of(setting, name)["metadata"]["name"]
        if time.time() > at - 2:
            raise SystemExit("the machine is too busy: a pod has not started in time")
        sample = by(name, pod, at)
        setting.remove_jobs()
        return sample

    yield from Logs(setting, follow=True).rows(measure)


def fetch(setting: Setting) -> Iterator[Row]:
    """The log of a container that has ended. Of one that was rotated, that is the last file."""
    start_writer(setting, "fetch", 0)
    pod = pod_of(setting, "fetch")["metadata"]["name"]
    run(setting.kubectl("wait", "--for=condition=complete", "--timeout=300s", "job/fetch"))
    yield from Logs(setting, follow=False).rows(lambda by: by("fetch", pod, None))
    setting.remove_jobs()


def until_whole(setting: Setting, command: List[str], lines: int, begin: float) -> Sample:
    """MiB/s, from a time on, until so many lines have come; then the command is stopped, since
    stern goes on for ever. Prefixes do not count.
    """
    path, count = setting.scratch / "lines", 0
    with open(path, "wb") as written, open(path, "rb") as file:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.DEVNULL)
        while count < lines and time.time() < begin + 600:
            piece = file.read(1 << 20)
            count += piece.count(b"\n")
            if not piece:
                time.sleep(0.02)
    seconds = time.time() - begin
    process.terminate()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    if count != lines:
        raise SystemExit(f"{' '.join(command)}: {count} lines of {lines}")
    speed = lines * LINE / seconds / (1 << 20)
    return Sample(speed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def follow_many(setting: Setting) -> Iterator[Row]:
    """Four pods of a Job write at once; whoever follows them shows which line is whose."""
    names = iter(f"many-{number}" for number in range(10_000))
    stern = [str(built("stern", "github.com/stern/stern")), "-n", setting.namespace]
    size = (setting.log_size << 20) // PODS // (LINE * LINES) * (LINE * LINES)

    def measure(command: Callable[[str], List[str]]) -> Sample:
        name, at = next(names), time.time() + 2 * READY
        words = ["-d", "--job-name", name, "--num", str(PODS), "python:3-slim", "--"]
        run(setting.k8r(*words, "python3", "-c", WRITER, str(size), str(at)))
        setting.until(lambda: len(running(setting, name)) == PODS, f"the pods of {name}")
        if time.time() > at - 1:
            raise SystemExit("the machine is too busy: the pods have not started in time")
        sample = until_whole(setting, command(name), size // LINE * PODS, at)
        setting.remove_jobs()
        return sample

    samples = in_turn(
        setting.runs,
        lambda: measure(lambda name: setting.k8r("logs", "-f", name)),
        lambda: measure(lambda name: [*stern, "--color=never", "-l", f"job-name={name}"]),
        warm=setting.runs > 1,
    )
    case = f"`k8r logs -f` : `stern`, {PODS} pods, {size * PODS >> 20} MiB"
    yield Row(case, "MiB/s", *samples, NO_TARGET)


CASES = [follow, fetch]
