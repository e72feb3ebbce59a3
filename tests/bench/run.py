#!/usr/bin/env python3
"""Measures k8r against kubectl on a real cluster, in turn and in the same run.

usage: tests/bench/run.py [--runs N]

Prints a Markdown table: for each case the minimum, median and maximum of N runs
of whole processes, after one that does not count, and the ratio of the medians.
KUBECONFIG names the cluster; kubectl is that of the test cluster, or on PATH.
Nothing is asserted: figures depend on the machine, ratios less so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
K8R = [str(Path(sys.executable).with_name("k8r"))]
KUBECTL = [
    (
        str(ROOT / "tests/cluster/kubectl")
        if (ROOT / "tests/cluster/kubectl").exists()
        else shutil.which("kubectl") or "kubectl"
    )
]
NAMESPACE = f"k8r-bench-{os.getpid()}"


class Sample(NamedTuple):
    """One run of a process: seconds, CPU seconds, and MiB at its peak."""

    wall: float
    cpu: float
    peak: float


class Case(NamedTuple):
    """A command, what it is held against, and what to undo after each run."""

    name: str
    ours: List[str]
    theirs: Optional[List[str]]
    after: Callable[[], None]
    cwd: Optional[Path] = None


def measure(command: Sequence[str], cwd: Optional[Path]) -> Sample:
    """Run a command, its output thrown away, as the kernel accounts for it."""
    started = time.monotonic()
    with open(os.devnull, "r+b") as null, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, cwd=cwd, stdin=null, stdout=null, stderr=complaints)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        complaints.seek(0)
        said = complaints.read().decode()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}: {said}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def kubectl(*args: str) -> None:
    """Run kubectl; its failure ends the benchmark."""
    subprocess.run([*KUBECTL, *args], check=True, stdout=subprocess.DEVNULL)


def remove_jobs() -> None:
    """Leave each run the same empty names."""
    kubectl("delete", "jobs", "--all", "-n", NAMESPACE, "--wait=true")


def nothing() -> None:
    """For commands that leave nothing."""


def cases(scratch: Path) -> List[Case]:
    """What is measured."""
    here = ["-n", NAMESPACE]
    echo = ["--image=alpine:latest", "--restart=Never", "--attach", "--rm", "-q"]
    small, large = scratch / "small", scratch / "large"
    for folder, size in ((small, 100), (large, 60 << 20)):
        folder.mkdir()
        # In pieces: a child's peak memory counts from what its parent has.
        with open(folder / "data", "wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(os.urandom(min(1 << 20, size - start)))
    bare = [sys.executable, "-c", "pass"]
    return [
        Case("k8r --help : python -c pass", [*K8R, "--help"], bare, nothing),
        Case(
            "k8r ./ --show-yaml : python -c pass",
            [*K8R, "./", "--show-yaml", "--", "true"],
            bare,
            nothing,
            small,
        ),
        Case(
            "k8r ls : kubectl get jobs (10 jobs)",
            [*K8R, *here, "ls"],
            [*KUBECTL, *here, "get", "jobs"],
            nothing,
        ),
        Case(
            "k8r alpine -- echo : kubectl run --attach --rm",
            [*K8R, *here, "alpine", "--", "echo", "hi"],
            [*KUBECTL, *here, "run", "echo", *echo, "--", "echo", "hi"],
            remove_jobs,
        ),
        Case(
            "k8r ./ -- true, 60 MiB",
            [*K8R, *here, "./", "--rm", "--", "true"],
            None,
            nothing,
            large,
        ),
    ]


def row(case: Case, runs: int) -> str:
    """Measure a case, ours and theirs in turn; a row of the table."""
    ours: List[Sample] = []
    theirs: List[Sample] = []
    for _ in range(runs + 1):
        ours.append(measure(case.ours, case.cwd))
        case.after()
        if case.theirs:
            theirs.append(measure(case.theirs, case.cwd))
            case.after()
    ratio = "-"
    if theirs:
        medians = [statistics.median(run.wall for run in side[1:]) for side in (ours, theirs)]
        ratio = f"{medians[0] / medians[1]:.2f}"
    cells = [case.name, seconds(ours), seconds(theirs), ratio, peak(ours), peak(theirs)]
    return f"| {' | '.join(cells)} |"


def seconds(samples: List[Sample]) -> str:
    """Minimum, median and maximum, without the first run."""
    if not samples:
        return "-"
    walls = [sample.wall for sample in samples[1:]]
    return f"{min(walls):.2f} {statistics.median(walls):.2f} {max(walls):.2f}"


def peak(samples: List[Sample]) -> str:
    """The largest peak."""
    return f"{max(sample.peak for sample in samples[1:]):.0f}" if samples else "-"


def main() -> None:
    """Set up, measure, tidy up."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    kubectl("create", "namespace", NAMESPACE)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            print("| case | s (min median max) | s of the other | ratio | MiB | MiB of the other |")
            print("| --- | --- | --- | --- | --- | --- |")
            for case in cases(Path(scratch)):
                if "10 jobs" in case.name:
                    for _ in range(10):
                        measure([*K8R, "-n", NAMESPACE, "-d", "alpine", "--", "true"], None)
                print(row(case, runs), flush=True)
                if "10 jobs" in case.name:
                    remove_jobs()
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


if __name__ == "__main__":
    main()
