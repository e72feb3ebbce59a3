"""What the benchmark's cases share: processes as the kernel accounts for them, rows, tables."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
K8R = [str(Path(sys.executable).with_name("k8r"))]
CACHE = Path(os.environ.get("K8R_CLUSTER_CACHE", "/var/cache/k8r-test-cluster"))
OWN_KUBECTL = ROOT / "tests/cluster/kubectl"
KUBECTL = [
    os.environ.get("K8R_BENCH_KUBECTL")
    or (str(OWN_KUBECTL) if OWN_KUBECTL.exists() else shutil.which("kubectl") or "kubectl")
]
"""That of the test cluster is linked with the servers, and takes 0.05 s longer to start
than one that is not; K8R_BENCH_KUBECTL names another."""
BARE = [sys.executable, "-c", "pass"]


class Sample(NamedTuple):
    """One measurement: its value, and the CPU seconds and MiB at the peak of its process."""

    value: float
    cpu: float = 0.0
    peak: float = 0.0


Samples = List[Sample]
Measure = Callable[[], Sample]


class Row(NamedTuple):
    """What k8r has shown in a case, and what the other, if there is one, has."""

    case: str
    unit: str
    ours: Samples
    theirs: Samples
    target: Target
    facts: Dict[str, Any] = {}

    @property
    def ratio(self) -> Optional[float]:
        """Of the medians; None without another."""
        return median(self.ours) / median(self.theirs) if self.theirs else None


class Target(NamedTuple):
    """What is to be reached, in words, and whether a row does."""

    text: str
    met: Callable[[Row], bool]


NO_TARGET = Target("", lambda row: True)


def at_most_times(factor: float) -> Target:
    """The median is at most that much of the other's."""
    return Target(f"<= {factor:g}x", lambda row: (row.ratio or 0) <= factor)


def at_most(limit: float) -> Target:
    """The median is at most so much."""
    return Target(f"<= {limit:g}", lambda row: median(row.ours) <= limit)


def at_most_over(limit: float) -> Target:
    """The median is at most so much more than the other's."""
    return Target(f"<= other + {limit:g}", lambda row: over(row) <= limit)


def peak_at_most(limit: float) -> Target:
    """No run has taken more memory, in MiB."""
    return Target(f"<= {limit:g} MiB", lambda row: peak(row.ours) <= limit)


def over(row: Row) -> float:
    """How much the median exceeds the other's."""
    return median(row.ours) - median(row.theirs)


def median(samples: Samples) -> float:
    """Of the values."""
    return statistics.median(sample.value for sample in samples)


def cpu(samples: Samples) -> float:
    """The median of the CPU seconds."""
    return statistics.median(sample.cpu for sample in samples)


def peak(samples: Samples) -> float:
    """The largest peak."""
    return max(sample.peak for sample in samples)


def run(
    command: Sequence[str],
    cwd: Optional[Path] = None,
    stdout: Optional[IO[bytes]] = None,
    env: Optional[Dict[str, str]] = None,
    stdin: Optional[IO[bytes]] = None,
) -> Sample:
    """Run a command to its end: the seconds that it took. Its failure ends the benchmark."""
    environ = {**os.environ, **(env or {})}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's Python keeps what it has compiled
    with open(os.devnull, "r+b") as null, tempfile.TemporaryFile() as complaints:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=stdin or null,
            stdout=stdout or null,
            stderr=complaints,
            env=environ,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = status
        complaints.seek(0)
        said = complaints.read().decode("utf-8", "replace")
    if status:
        raise SystemExit(f"{' '.join(command)}: wait status {status}: {said}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def kubectl(*args: str, stdin: str = "") -> str:
    """What kubectl says; its failure ends the benchmark."""
    done = subprocess.run([*KUBECTL, *args], input=stdin, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"kubectl {' '.join(args)}: exit code {done.returncode}")
    return done.stdout


def built(name: str, package: str) -> Path:
    """The program of the Go module in the folder of that name, built once for each go.sum."""
    folder = ROOT / "tests/bench" / name
    key = hashlib.sha256((folder / "go.mod").read_bytes() + (folder / "go.sum").read_bytes())
    program = CACHE / f"{name}-{key.hexdigest()[:16]}"
    if not program.exists():
        go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin:/usr/lib/go/bin")
        if not go:
            raise SystemExit(f"Go is needed to build {name}")
        CACHE.mkdir(parents=True, exist_ok=True)
        words = ["-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags=-s -w"]
        made = program.with_suffix(".new")
        subprocess.run(
            ["nice", "-n", "19", go, "build", *words, "-o", made, package],
            cwd=folder,
            check=True,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
        )
        made.rename(program)
    return program


def in_turn(
    runs: int, ours: Measure, theirs: Optional[Measure] = None, warm: bool = True
) -> Tuple[Samples, Samples]:
    """Measure both sides in turn; a first round, with caches cold, does not count."""
    mine: Samples = []
    other: Samples = []
    for count in range(runs + warm):
        mine.append(ours())
        if theirs:
            other.append(theirs())
        if warm and count == 0:
            mine, other = [], []
    return mine, other


HEADER = (
    ("case", "unit", "n", "k8r min", "median", "max", "other min", "median", "max")
    + ("ratio", "CPU s", "other's", "peak MiB", "other's")
    + ("target", "met")
)


def header() -> str:
    """The first two lines of the table."""
    return f"{line(HEADER)}\n{line(['---'] * len(HEADER))}"


def line(cells: Iterable[str]) -> str:
    """One line of the table."""
    return f"| {' | '.join(cells)} |"


def figure(value: float) -> str:
    """Three digits, as far as there are decimals."""
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def table_row(row: Row) -> str:
    """A row of the table."""
    cells = [row.case, row.unit, str(len(row.ours))]
    for side in (row.ours, row.theirs):
        values = [sample.value for sample in side]
        shown = [min(values), statistics.median(values), max(values)] if side else []
        cells += [figure(value) for value in shown] or ["", "", ""]
    cells.append(f"{row.ratio:.2f}" if row.ratio is not None else "")
    for measure in (cpu, peak):
        for side in (row.ours, row.theirs):
            cells.append(figure(measure(side)) if side and measure(side) else "")
    met = "" if row.target is NO_TARGET else "yes" if row.target.met(row) else "NO"
    return line([*cells, row.target.text, met])


def machine() -> Dict[str, Any]:
    """What the figures depend on."""
    version = json.loads(kubectl("version", "-o", "json"))
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "kubectl": version["clientVersion"]["gitVersion"],
        "server": version["serverVersion"]["gitVersion"],
    }


def save(name: str, about: Dict[str, Any], rows: Sequence[Row]) -> None:
    """Keep the raw samples and the table, after each row anew."""
    RESULTS.mkdir(exist_ok=True)
    table = "\n".join([header(), *map(table_row, rows)])
    words = ", ".join(f"{key} {value}" for key, value in about.items())
    (RESULTS / f"{name}.md").write_text(f"{table}\n\n{words}\n")
    raw = [
        {
            "case": row.case,
            "unit": row.unit,
            "target": row.target.text,
            "met": None if row.target is NO_TARGET else row.target.met(row),
            "k8r": [sample._asdict() for sample in row.ours],
            "other": [sample._asdict() for sample in row.theirs],
            **row.facts,
        }
        for row in rows
    ]
    content = json.dumps({"about": about, "rows": raw}, indent=1)
    (RESULTS / f"{name}.json").write_text(content + "\n")
