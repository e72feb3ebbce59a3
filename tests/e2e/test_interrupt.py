"""Signals and closed pipes: what ends, what stays, and what is said about it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Tuple

import pytest

from common import until
from support import ALPINE, GATE, IMPOSSIBLE_CPU, MIB, Kubectl, Proxy, elapsed, nothing_left
from support import nothing_made, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli

SIGNALS = pytest.mark.parametrize(
    "signum, code",
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)

STUCK_GIT = """\
#!/bin/sh
: > "$GIT_BEGUN"
exec sleep 60
"""


@pytest.mark.case(23)
@SIGNALS
def test_while_packing(
    run: Cli, kubectl: Kubectl, workdir: Path, tmp_path: Path, signum: int, code: int
) -> None:
    """Before anything was made: k8r ends at once and makes nothing."""
    (workdir / "file").write_text("content")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text(STUCK_GIT)
    (tools / "git").chmod(0o755)
    begun = tmp_path / "begun"
    path = f"{tools}{os.pathsep}{run.env['PATH']}"
    process = run.start("./", "--", "true", env={"PATH": path, "GIT_BEGUN": str(begun)})
    until(begun.exists, "the start of git")
    process.send_signal(signum)
    ended = run.finish(process, timeout=10)
    assert ended.code == code
    assert "Traceback" not in ended.err
    nothing_made(kubectl)


def begin_upload(run: Cli, kubectl: Kubectl, workdir: Path) -> subprocess.Popen[bytes]:
    """Start a run that is held in the middle of its upload."""
    (workdir / "large").write_bytes(os.urandom(16 * MIB))
    process = run.start("./", "--", "true")

    def probe() -> bool:
        assert process.poll() is None, run.finish(process)
        return len(kubectl.names("configmaps")) > 2

    until(probe, "some ConfigMaps")
    [job] = kubectl.items("jobs")
    assert job["spec"]["suspend"] is True
    return process


@pytest.mark.case(23)
@SIGNALS
def test_while_creating(
    run: Cli, kubectl: Kubectl, workdir: Path, slow_proxy: Proxy, signum: int, code: int
) -> None:
    """In the middle of the upload: the half-made Job is removed, with all that it owns."""
    process = begin_upload(run, kubectl, workdir)
    process.send_signal(signum)
    ended = run.finish(process, timeout=20)
    assert ended.code == code
    assert "Traceback" not in ended.err
    nothing_left(kubectl)


@pytest.mark.case(23)
def test_a_second_time(run: Cli, kubectl: Kubectl, workdir: Path, slow_proxy: Proxy) -> None:
    """A second Ctrl-C ends k8r at once, even while it cleans up and cannot."""
    process = begin_upload(run, kubectl, workdir)
    slow_proxy.freeze()
    process.send_signal(signal.SIGINT)
    assert slow_proxy.held.wait(10), "k8r does not try to clean up"
    assert process.poll() is None
    again = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended = run.finish(process, timeout=10)
    assert elapsed(again) < 2
    assert ended.code in (130, -signal.SIGINT)
    assert "Traceback" not in ended.err


@pytest.mark.case(23)
@SIGNALS
def test_while_waiting(run: Cli, kubectl: Kubectl, signum: int, code: int) -> None:
    """A run whose pod waits goes on waiting; how to come back is said."""
    process = run.start(ALPINE, "--cpu", IMPOSSIBLE_CPU, "--", "true")
    seen = read_until(process.stderr, b"waiting")
    process.send_signal(signum)
    ended = run.finish(process, timeout=10)
    assert ended.code == code
    said = seen.decode() + ended.err
    assert "logs -f alpine" in said and "rm -f alpine" in said
    assert "Traceback" not in said
    assert kubectl.names("jobs") == ["alpine"]


@pytest.mark.case(23)
@SIGNALS
def test_while_following(run: Cli, kubectl: Kubectl, signum: int, code: int) -> None:
    """A run whose output is followed goes on, and logs -f comes back to its end."""
    process = run.start(ALPINE, "--", "sh", "-c", "echo begun; " + GATE)
    read_until(process.stdout, b"begun\n")
    process.send_signal(signum)
    ended = run.finish(process, timeout=10)
    assert ended.code == code
    assert "logs -f alpine" in ended.err and "rm -f alpine" in ended.err
    assert "Traceback" not in ended.err
    follower = run.start("logs", "-f", "alpine")
    read_until(follower.stdout, b"begun\n")
    kubectl.release(kubectl.running_pod("alpine"), 5)
    assert run.finish(follower).code == 5


@pytest.mark.clean
@SIGNALS
def test_with_rm(run: Cli, kubectl: Kubectl, workdir: Path, signum: int, code: int) -> None:
    """With --rm a run that is cut short is removed with all of its parts."""
    (workdir / "file").write_text("begun\n")
    process = run.start("./", "--rm", "--", "sh", "-c", "cat file; " + GATE)
    read_until(process.stdout, b"begun\n")
    process.send_signal(signum)
    ended = run.finish(process, timeout=20)
    assert ended.code == code
    assert "removed work" in ended.err and "goes on" not in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.clean
def test_a_reader_that_has_seen_enough_with_rm(run: Cli, kubectl: Kubectl) -> None:
    """`k8r --rm ... | head -1`: the rest of the run would have no reader."""
    reader, writer = os.pipe()
    script = "trap 'exit 143' TERM; while :; do echo line; sleep 0.2; done"
    try:
        process = run.start(ALPINE, "--rm", "--", "sh", "-c", script, stdout=writer)
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as stream:
        read_until(stream, b"line\n")
    ended = run.finish(process, timeout=20)
    assert ended.code == 141 and "removed alpine" in ended.err, ended.err


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_ignored_from_the_start(run: Cli, kubectl: Kubectl, signum: int) -> None:
    """nohup, or a shell that starts it in the background: k8r goes on to the end."""
    name = signal.Signals(signum).name[3:]
    ignoring = ("sh", "-c", f'trap "" {name}; exec "$@"', "sh")
    process = run.start(ALPINE, "--", "sh", "-c", "echo begun; " + GATE, prefix=ignoring)
    read_until(process.stdout, b"begun\n")
    process.send_signal(signum)
    kubectl.release(kubectl.running_pod("alpine"), 5)
    ended = run.finish(process)
    assert (ended.code, ended.out) == (5, b"released\n"), ended.err


def test_a_roll_back_that_fails(
    run: Cli, kubectl: Kubectl, workdir: Path, slow_proxy: Proxy
) -> None:
    """What may be left is named, and how to remove it."""
    process = begin_upload(run, kubectl, workdir)
    slow_proxy.freeze()
    process.send_signal(signal.SIGINT)
    ended = run.finish(process, timeout=60)
    assert ended.code == 130
    assert "work may be left" in ended.err and "rm -f work" in ended.err
    assert kubectl.names("jobs") == ["work"]


@pytest.mark.parametrize("num", ["1", "2"])
def test_a_reader_that_has_seen_enough(run: Cli, kubectl: Kubectl, num: str) -> None:
    """`k8r ... | head -1`: k8r ends at its next line, without a traceback."""
    reader, writer = os.pipe()
    script = "trap 'exit 143' TERM; while :; do echo line; sleep 0.2; done"
    try:
        process = run.start(ALPINE, "--num", num, "--", "sh", "-c", script, stdout=writer)
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as stream:
        read_until(stream, b"line\n")
    closed = time.monotonic()
    ended = run.finish(process, timeout=20)
    assert elapsed(closed) < 5
    assert ended.code in (0, 141)
    assert "Traceback" not in ended.err and "Exception" not in ended.err
    assert kubectl.names("jobs") == ["alpine"]


@pytest.mark.parametrize("args", [("ls",), ("logs", "alpine"), ("--help",)])
def test_nobody_reads(run: Cli, kubectl: Kubectl, args: Tuple[str, ...]) -> None:
    """stdout is closed from the start: no traceback from any command."""
    if "alpine" in args:
        assert run(ALPINE, "--", "echo", "said").code == 0
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = run.start(*args, stdout=writer)
    finally:
        os.close(writer)
    ended = run.finish(process, timeout=20)
    assert "Traceback" not in ended.err and "Exception" not in ended.err
    assert ended.code in (0, 141)


def test_without_a_terminal_for_stdin(run: Cli) -> None:
    """k8r needs no stdin: a closed one does no harm."""
    process = run.start(*(ALPINE, "--", "echo", "said"), prefix=("sh", "-c", 'exec "$@" <&-', "sh"))
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"said\n"), ended.err
