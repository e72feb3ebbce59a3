"""The status line and progress bars, on a terminal that is none."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import select
import struct
import termios
from fcntl import ioctl
from typing import Any, Dict, Iterator, List, Optional

import pytest

import k8r
from tests.unit.test_judging import RUNNING, job, pod, terminated, waiting


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Screen:
    """A terminal, and what a program has written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.stream = open(slave, "w", encoding="utf-8")
        self.resize(40)

    def resize(self, columns: int) -> None:
        """Give the terminal another width."""
        ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def written(self) -> str:
        """What was written since it was last asked."""
        found = b""
        while select.select([self._master], [], [], 0.05)[0]:
            found += os.read(self._master, 1 << 16)
        return found.decode()

    def close(self) -> None:
        """Close both ends."""
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def screen() -> Iterator[Screen]:
    """A terminal of 40 columns."""
    made = Screen()
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    """A clock at 100 s."""
    return Clock()


CLEAR = "\r\x1b[J"


def test_dumb_terminals(screen: Screen, clock: Clock) -> None:
    """Nothing is shown where a line cannot be replaced."""
    line = k8r.StatusLine(screen.stream, clock, dumb=True)
    line.show("one")
    assert screen.written() == "" and not line.is_due()


def test_shown_replaced_and_removed(screen: Screen, clock: Clock) -> None:
    """Each state stands in the place of the one before."""
    line = k8r.StatusLine(screen.stream, clock)
    line.show("one")
    assert screen.written() == "k8r: one"
    line.show("one")
    assert screen.written() == ""
    clock.now += 1
    line.show("two")
    assert screen.written() == CLEAR + "k8r: two"
    line.show("")
    assert screen.written() == CLEAR
    line.show("")
    assert screen.written() == ""


def test_not_too_often(screen: Screen, clock: Clock) -> None:
    """Ten changes in a row are one."""
    line = k8r.StatusLine(screen.stream, clock)
    for number in range(10):
        line.show(str(number))
        clock.now += k8r.REDRAW_EVERY / 20
    assert screen.written() == "k8r: 0"


def test_it_makes_way(screen: Screen, clock: Clock) -> None:
    """Output removes it; it comes back once that is at the start of a line."""
    line = k8r.StatusLine(screen.stream, clock)
    line.show("one")
    line.make_way(b"half a line")
    clock.now += 1
    line.show("two")
    assert screen.written() == "k8r: one" + CLEAR
    line.make_way(b"\n")
    line.show("three")
    assert screen.written() == "k8r: three"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("x" * 100, "x" * 34),
        ("ü" * 100, "ü" * 34),
        ("写" * 100, "写" * 17),
        ("e\u0301" * 100, "e\u0301" * 34),
    ],
    ids=["narrow", "umlauts", "wide", "marks"],
)
def test_it_fits_the_terminal(screen: Screen, clock: Clock, text: str, shown: str) -> None:
    """One column stays free, lest the terminal begins a new line."""
    k8r.StatusLine(screen.stream, clock).show(text)
    assert screen.written() == "k8r: " + shown


def test_a_terminal_that_is_resized(screen: Screen, clock: Clock) -> None:
    """A line broken by a narrower terminal goes as a whole; the next one fits."""
    line = k8r.StatusLine(screen.stream, clock)
    line.show("x" * 100)
    assert len(screen.written()) == 39
    screen.resize(15)
    clock.now += 1
    line.show("y" * 100)
    assert screen.written() == "\x1b[2A" + CLEAR + "k8r: " + "y" * 9


def test_none_in_a_pipe(clock: Clock) -> None:
    """A stream that is no terminal gets nothing."""
    stream = io.StringIO()
    line = k8r.StatusLine(stream, clock)
    line.show("one")
    line.make_way(b"x")
    line.show("")
    assert stream.getvalue() == ""


def console(screen: Screen, clock: Clock, quiet: bool = False) -> k8r.Console:
    """A console on that terminal."""
    env = k8r.Environment(io.BytesIO(), io.BytesIO(), screen.stream, {}, "/", clock=clock)
    return k8r.Console(env, quiet, False, "never")


def test_a_meter_waits_a_second(screen: Screen, clock: Clock) -> None:
    """What is done at once needs no bar."""
    screen.resize(80)
    add = console(screen, clock).meter("packing", 200)
    add(50)
    assert screen.written() == ""
    clock.now += 1.5
    add(50)
    assert screen.written() == "k8r: packing [##########..........]  50%"


@pytest.mark.parametrize("answer, yes", [("y", True), ("YES", True), ("", False), ("n", False)])
def test_a_question(screen: Screen, clock: Clock, answer: str, yes: bool) -> None:
    """What needs a yes is asked on a terminal, and just said elsewhere."""
    env = k8r.Environment(io.BytesIO(), io.BytesIO(), screen.stream, {}, "/", clock=clock)
    k8r.Console(env, False, False, "never").confirm("much is to come")
    assert screen.written() == "k8r: much is to come\n"
    keyboard, terminal = pty.openpty()
    with open(terminal, "rb", buffering=0) as stdin, contextlib.ExitStack() as stack:
        os.write(keyboard, f"{answer}\n".encode())
        if not yes:
            stack.enter_context(pytest.raises(k8r.K8rError))
        asking = k8r.Console(env._replace(stdin=stdin), False, False, "never")  # type: ignore
        asking.confirm("much is to come")
    os.close(keyboard)
    assert screen.written() == "k8r: much is to come; go on? [y/N] "


def test_quiet(screen: Screen, clock: Clock) -> None:
    """--quiet shows none."""
    made = console(screen, clock, quiet=True)
    made.progress("one")
    made.warn("a warning")
    assert screen.written() == "k8r: a warning\n"


@pytest.mark.parametrize(
    "total, bar", [(0, ""), (8 << 20, " [##########..........]  50%")], ids=["unknown", "known"]
)
def test_a_meter_of_bytes(screen: Screen, clock: Clock, total: int, bar: str) -> None:
    """It says how many have come, and at what pace."""
    add = console(screen, clock).meter("copying", total, sized=True)
    screen.resize(80)
    clock.now += 2
    add(4 << 20)
    assert screen.written() == f"k8r: copying{bar} 4.0 MiB, 2.0 MiB/s"


@pytest.mark.parametrize(
    "done, total, shown",
    [(0, 3, "[....................]   0%"), (3, 3, "[####################] 100%")]
    + [(9, 3, "[####################] 100%"), (0, 0, "[####################] 100%")],
)
def test_bar(done: int, total: int, shown: str) -> None:
    """It never leaves its frame."""
    assert k8r.format_bar(done, total) == shown


@pytest.mark.parametrize(
    "num, pods, text",
    [
        (1, [], "no pod yet"),
        (1, [pod(waiting("ContainerCreating"))], "1 pending"),
        (1, [pod(RUNNING)], "1 running"),
        (1, [pod(terminated(0))], "1 done"),
        (
            3,
            [pod(terminated(0)), pod(RUNNING), pod(phase="Pending"), pod(terminated(1))],
            "1 pending, 1 running, 1 of 3 done, 1 failed",
        ),
    ],
)
def test_pod_counts(num: int, pods: List[Dict[str, Any]], text: Optional[str]) -> None:
    """How far a run is, in a few words."""
    assert k8r.count_pods(job(num=num), pods) == text


def test_plural() -> None:
    """One file is no files."""
    assert [k8r.pluralize(count, "file") for count in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
