"""Whole runs through a proxy that cuts, holds up and delays connections to the real cluster:
what comes out is what comes out undisturbed.

K8R_PROXY_SEEDS says how many random runs there are, K8R_PROXY_FIRST with which seed they begin.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import pytest

from common import by_index, patched
from faultproxy import DOWN, KINDS, UP, Fault, random_faults
from support import ALPINE, MIB, Kubectl, Object, elapsed, nothing_left, read_until
from test_run import LINGER, shell

if TYPE_CHECKING:
    from conftest import StartFaultProxy
    from tests.conftest import Cli, Result

FIRST = int(os.environ.get("K8R_PROXY_FIRST", "0"))
SEEDS = int(os.environ.get("K8R_PROXY_SEEDS", "20"))
FEW = max(SEEDS // 5, 1)
"""For what takes long with each of them."""
AT_ONCE = 10
CHUNKS = [
    range(first, min(first + AT_ONCE, FIRST + SEEDS))
    for first in range(FIRST, FIRST + SEEDS, AT_ONCE)
]
AS_IT_COMES = {"CONNECTIONS_AHEAD": 0}
"""Each connection is opened for the request that it is known by."""
IMPATIENT = {"READ_TIMEOUT": 3.0, "FIRST_RETRY_TIME": 60.0}
"""k8r's constants in random runs: a dead connection costs less time, and faults
may hit the first request, too, which otherwise ends k8r after three seconds.
"""

Parts = Dict[Any, bytes]
"""Output taken apart: the order between the parts is free."""


class Sample(NamedTuple):
    """A run, and what it has to come to.

    ``expected`` gives the parts of the output and the exit code for the names of
    the Job's pods, oldest first; ``parts`` takes an output apart.
    """

    args: List[str]
    expected: Callable[[Sequence[str]], Tuple[Parts, int]]
    parts: Callable[[bytes], Parts] = lambda out: {"": out}
    configmaps: int = 0


def burst(lines: int, word: str = "burst") -> Tuple[str, bytes]:
    """Shell text that writes lines at once, and what it writes."""
    script = f'awk \'BEGIN {{ for (n = 1; n <= {lines}; n++) print "{word}", n, "täglich 漢字" }}\''
    return script, "".join(f"{word} {n} täglich 漢字\n" for n in range(1, lines + 1)).encode()


def trickle(lines: int) -> Tuple[str, bytes]:
    """The same for lines one by one, over some seconds."""
    script = f'for n in $(seq 1 {lines}); do echo "slow $n 🚀"; sleep 0.3; done'
    return script, "".join(f"slow {n} 🚀\n" for n in range(1, lines + 1)).encode()


ODD = "printf 'odd \\377\\376 \\303( \\r end\\n\\n'", b"odd \xff\xfe \xc3( \r end\n\n"
TAIL = "printf 'last \\342\\202'", b"last \xe2\x82"


def single(dice: random.Random, folder: Path) -> Sample:
    """One pod that writes all that is hard to pass on."""
    length = dice.randrange(16_000, 60_000)
    long = f'awk \'BEGIN {{ while (n++ < {length}) printf "x"; print "" }}\'', b"x" * length
    pieces = [burst(dice.randrange(1000, 3000)), ODD, trickle(dice.randrange(4, 12))]
    pieces += [(long[0], long[1] + b"\n"), burst(200, "again")]
    dice.shuffle(pieces)
    pieces.append(TAIL)
    script, written = [piece[0] for piece in pieces], b"".join(piece[1] for piece in pieces)
    return Sample([ALPINE, *shell(*script, LINGER, "exit 7")], lambda pods: ({"": written}, 7))


def several(dice: random.Random, folder: Path) -> Sample:
    """Three pods, one of which fails."""
    begin, lines = burst(dice.randrange(300, 1500))
    middle, slow = trickle(dice.randrange(4, 12))
    script = shell(
        begin, middle, 'printf "end of $K8R_INDEX"', LINGER, "exit $((K8R_INDEX % 2 * 4))"
    )
    written = {index: lines + slow + b"end of %d\n" % index for index in range(3)}
    return Sample([ALPINE, "--num", "3", *script], lambda pods: (written, 4), by_index)


FAILING = "bcdfghjklmnpqr24"
"""A pod whose name ends so fails; about half of them do."""


def retried(dice: random.Random, folder: Path) -> Sample:
    """Up to two attempts: the name of its pod decides whether one fails."""
    begin, lines = burst(dice.randrange(300, 1500))
    middle, slow = trickle(dice.randrange(2, 6))
    script = shell(
        f"({begin}; {middle}) | sed s/^/$(hostname):/",
        LINGER,
        f"case $(hostname) in *[{FAILING}]) exit 5;; esac",
    )

    def expected(pods: Sequence[str]) -> Tuple[Parts, int]:
        failed = [pod[-1] in FAILING for pod in pods]
        assert failed in ([False], [True, False], [True, True]), pods
        return {pod.encode(): lines + slow for pod in pods}, 5 * failed[-1]

    return Sample([ALPINE, "--retry", "1", *script], expected, by_pod)


def by_pod(out: bytes) -> Parts:
    """Output whose lines begin with the name of their pod."""
    found: Dict[bytes, List[bytes]] = {}
    for line in out.splitlines(keepends=True):
        pod, _, text = line.partition(b":")
        found.setdefault(pod, []).append(text)
    return {pod: b"".join(lines) for pod, lines in found.items()}


def directory(dice: random.Random, folder: Path) -> Sample:
    """A directory that takes several ConfigMaps, and arrives whole."""
    size = dice.randrange(2 * MIB, 5 * MIB)
    data = dice.getrandbits(8 * size).to_bytes(size, "little")
    (folder / "data").write_bytes(data)
    begin, lines = burst(dice.randrange(300, 1500))
    script = shell("sha256sum <data", begin, LINGER, "exit 3")
    written = hashlib.sha256(data).hexdigest().encode() + b"  -\n" + lines
    # Random data do not get smaller by packing; the last part has what packing adds.
    return Sample(
        [f"{folder}/", *script], lambda pods: ({"": written}, 3), configmaps=size // MIB + 1
    )


SAMPLES = (single, several, retried, directory)


def pods_of(kubectl: Kubectl, job: str) -> List[str]:
    """The names of a Job's pods, oldest first."""
    pods = [pod for pod in kubectl.items("pods") if pod["metadata"]["labels"]["job-name"] == job]
    return [pod["metadata"]["name"] for pod in sorted(pods, key=age)]


def age(item: Object) -> str:
    """A key that sorts objects by their creation."""
    return str(item["metadata"]["creationTimestamp"])


def difference(expected: Parts, found: Parts) -> List[str]:
    """What tells two outputs apart, in words."""
    words = []
    for key in sorted({*expected, *found}, key=str):
        old, new = expected.get(key, b""), found.get(key, b"")
        if old != new:
            place = len(os.path.commonprefix([old, new]))
            begin = max(place - 40, 0)
            words.append(
                f"part {key!r}: {len(new)} bytes instead of {len(old)}, not the same from {place}: "
                f"{new[begin : place + 80]!r} instead of {old[begin : place + 80]!r}"
            )
    return words


def objects_of(kubectl: Kubectl, kind: str, job: str) -> List[str]:
    """The names of the objects of a kind whose name begins with a Job's."""
    return [name for name in kubectl.names(kind) if f"{name}-".startswith(f"{job}-")]


def check(kubectl: Kubectl, job: str, sample: Sample, ended: Result) -> List[str]:
    """What is wrong with a run that has ended."""
    expected, code = sample.expected(pods_of(kubectl, job))
    wrong = difference(expected, sample.parts(ended.out))
    if ended.code != code:
        wrong.append(f"exit code {ended.code} instead of {code}")
    jobs, configmaps = objects_of(kubectl, "jobs", job), objects_of(kubectl, "configmaps", job)
    if jobs != [job]:
        wrong.append(f"the Jobs are {jobs}")
    if len(configmaps) != sample.configmaps:
        wrong.append(f"the ConfigMaps are {configmaps}")
    return wrong


class Field:
    """Random runs in one namespace, each behind a proxy of its own."""

    def __init__(self, cli: Cli, kubectl: Kubectl, faulty: StartFaultProxy, folder: Path) -> None:
        self._cli = cli
        self._kubectl = kubectl
        self._faulty = faulty
        self._folder = folder
        self.faults: Counter[str] = Counter()

    def run(self, seed: int) -> str:
        """Run and remove one Job; what was wrong with it, and how to see that again."""
        job, folder = f"seed-{seed}", self._folder / str(seed)
        folder.mkdir()
        sample = SAMPLES[seed % len(SAMPLES)](random.Random(seed), folder)
        proxy, env = self._faulty(random_faults(seed))
        ended = self._k8r(env, sample.args[0], "--verbose", "--job-name", job, *sample.args[1:])
        wrong = check(self._kubectl, job, sample, ended)
        if wrong:
            calm = sample.parts(self._cli("logs", job).out)
            pods = pods_of(self._kubectl, job)
            if difference(sample.expected(pods)[0], calm):
                wrong.append("without the proxy, `k8r logs` is not right either")
        removed = self._k8r(env, "rm", job)
        if removed.code:
            wrong.append(f"rm: {removed}")
        self.faults += proxy.faults
        if not wrong:
            return ""
        wrong.append(f"faults: {dict(proxy.faults)}; stderr: {ended.err}")
        again = f"K8R_PROXY_FIRST={seed} K8R_PROXY_SEEDS=1 pytest tests/e2e/test_proxy.py -k seeds"
        return "\n  ".join([f"seed {seed} (again: {again})", *wrong])

    def _k8r(self, env: Dict[str, str], *args: str) -> Result:
        process = self._cli.start(*args, env=env, prefix=patched(**IMPATIENT))
        return self._cli.finish(process, timeout=150)


@pytest.mark.case(3)
@pytest.mark.slow
@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_random_seeds(
    run: Cli,
    kubectl: Kubectl,
    faulty: StartFaultProxy,
    tmp_path: Path,
    seeds: range,
    record_property: Callable[[str, object], None],
) -> None:
    """Output, exit code and objects are those of an undisturbed run; nothing stays."""
    field = Field(run, kubectl, faulty, tmp_path)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        wrong = list(filter(None, threads.map(field.run, seeds)))
    record_property("faults", dict(field.faults))
    assert not wrong, "\n".join(wrong)
    nothing_left(kubectl)
    if len(seeds) == AT_ONCE:
        assert [kind for kind in KINDS if not field.faults[kind]] == []


TICKS = (
    "trap 'exit 143' TERM; until [ -s /tmp/code ]; do n=$((n + 1)); echo tick $n; sleep 0.5; done; "
    "exit $(cat /tmp/code)"
)
"""Shell text that writes a line now and then until `release` tells it how to end."""


def test_case_3_reset_within_one_second(
    run: Cli, kubectl: Kubectl, faulty: StartFaultProxy
) -> None:
    """The log is reset at several places within 1,000 lines of one second."""
    proxy, env = faulty(Fault("reset", DOWN, 60_000 + 20_011 * n) for n in range(10))
    script, lines = burst(5000)
    ended = run(ALPINE, *shell(script, LINGER, "exit 7"), env=env)
    assert difference({"": lines}, {"": ended.out}) == [], ended.err
    assert ended.code == 7, ended.err
    assert proxy.faults["reset"] >= 3
    stamped = kubectl("logs", pods_of(kubectl, "alpine")[0], "--timestamps").splitlines()
    assert max(Counter(line[:19] for line in stamped).values()) > 1000


@pytest.mark.slow
def test_log_that_stalls_at_the_end(run: Cli, faulty: StartFaultProxy) -> None:
    """The end of a failed run is known long before its log is here, which is shown whole."""
    proxy, env = faulty([Fault("stall", DOWN, 200_000, seconds=9)] * 6)
    script, lines = burst(5000)
    ended = run(ALPINE, *shell(script, LINGER, "exit 7"), env=env)
    assert difference({"": lines}, {"": ended.out}) == [], ended.err
    assert ended.code == 7, ended.err
    assert proxy.faults["stall"] >= 1


def test_requests_that_break_off(run: Cli, kubectl: Kubectl, faulty: StartFaultProxy) -> None:
    """The server gets the beginning of a request and no more, and calls that a bad request."""
    proxy, env = faulty(Fault("fin", UP, place) for place in range(600, 1500, 100))
    process = run.start(ALPINE, "--", "echo", "once", env=env, prefix=patched(**IMPATIENT))
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"once\n"), ended.err
    assert proxy.faults["fin"] >= 3
    assert kubectl.names("jobs") == ["alpine"]


@pytest.mark.slow
def test_case_4_half_open_log(run: Cli, kubectl: Kubectl, faulty: StartFaultProxy) -> None:
    """A log's connection goes silent for good while its container goes on writing: k8r
    goes on within 30 s and loses nothing.
    """
    # The log asked for from its last second but one is shorter than this, and is not held.
    proxy, env = faulty(repeat(Fault("stall", DOWN, 400_000)))
    first, _ = burst(5000, "first")
    second, _ = burst(3000, "second")
    between = ("sleep 2", "echo between", "sleep 2")
    process = run.start(ALPINE, *shell(first, *between, second, TICKS), env=env)
    seen = read_until(process.stdout, b"\nsecond ")
    seen += read_until(process.stdout, b"tick 1\n", 30)
    assert proxy.faults["stall"] == 1
    pod = kubectl.running_pod("alpine")
    kubectl.release(pod, 3)
    ended = run.finish(process)
    assert ended.code == 3, ended.err
    log = kubectl("logs", pod).encode()
    assert log.count(b"\n") > 8000
    assert difference({"": log}, {"": seen + ended.out}) == [], ended.err


@pytest.mark.slow
def test_case_8_server_down_for_a_minute(
    run: Cli, kubectl: Kubectl, faulty: StartFaultProxy
) -> None:
    """A run that ends while the API server is down for 60 s, and one that ends after it."""
    proxy, env = faulty([])
    during, after = [
        run.start(ALPINE, "--job-name", name, *shell("echo begun", TICKS), env=env)
        for name in ("during", "after")
    ]
    seen = [read_until(process.stdout, b"begun\n") for process in (during, after)]
    pods = [kubectl.running_pod(name) for name in ("during", "after")]
    down = time.monotonic()
    proxy.outage(60)
    kubectl.release(pods[0], 3)
    ends = [run.finish(during)]
    assert elapsed(down) > 60, "k8r has reached the server all the same"
    kubectl.release(pods[1], 4)
    ends.append(run.finish(after))
    assert [ended.code for ended in ends] == [3, 4], [ended.err for ended in ends]
    for pod, begun, ended in zip(pods, seen, ends):
        assert (begun + ended.out).decode() == kubectl("logs", pod), ended.err


def test_case_12_lost_answer_to_the_job(
    run: Cli, kubectl: Kubectl, faulty: StartFaultProxy
) -> None:
    """The server has created the Job, and twice its answer does not arrive: one Job."""
    proxy, env = faulty([Fault("lost", UP, 100_000)] * 2)
    # A request that is known by its size.
    words = (ALPINE, "--env", "FILL=" + "x" * 120_000, "--", "echo", "once")
    ended = run.finish(run.start(*words, env=env, prefix=patched(**AS_IT_COMES)))
    assert (ended.code, ended.out) == (0, b"once\n"), ended.err
    assert proxy.faults["lost"] == 2
    assert kubectl.names("jobs") == ["alpine"]
    assert len(kubectl.names("pods")) == 1


def test_case_12_lost_answers_to_the_archive(
    run: Cli, kubectl: Kubectl, faulty: StartFaultProxy, workdir: Path
) -> None:
    """The same for each of the ConfigMaps that are made at the same time."""
    proxy, env = faulty([Fault("lost", UP, 1_000_000)] * 6)
    data = os.urandom(4 * MIB - 100_000)
    (workdir / "data").write_bytes(data)
    # A failed run keeps its archive.
    words = ("./", *shell("sha256sum <data; exit 3"))
    ended = run.finish(run.start(*words, env=env, prefix=patched(**AS_IT_COMES)))
    assert (ended.code, ended.text) == (3, hashlib.sha256(data).hexdigest() + "  -\n"), ended.err
    assert proxy.faults["lost"] == 6
    assert kubectl.names("jobs") == ["work"]
    assert len(objects_of(kubectl, "configmaps", "work")) == 4
