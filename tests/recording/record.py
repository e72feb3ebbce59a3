#!/usr/bin/env python3
"""Records README's terminal: k8r on a real cluster, as an animated SVG.

    uv sync --group recording
    K8R_TEST_KUBECONFIG=FILE .venv/bin/python tests/recording/record.py

types `COMMANDS` into a shell in a namespace of their own, and writes tests/recording/k8r.svg. All
that it shows was printed by these very commands; only pauses are shortened. Record on an idle
machine, where little has to be.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import pexpect
import pyte

from drawing import COLUMNS, ROWS, Line, Run, Screen, svg

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

from common import until  # noqa: E402
from support import Kubectl  # noqa: E402

OUTPUT = Path(__file__).with_name("k8r.svg")
CONTEXT, NAMESPACE = "kind-demo", "demo"
COMMANDS = (
    "k8r ./ --out model -- python3 train.py",
    "cat model",
    "k8r ./ --job-name sweep --mem 64Mi --each sizes -- python3 train.py {line}",
    "k8r retry sweep --mem 512Mi",
    "k8r ./ --job-name dev -d -- sleep 600",
    "k8r exec dev -- ls",
    "k8r ls",
    "k8r rm -f --all",
)
TRAIN = """\
import sys, time

size = int(sys.argv[1]) if sys.argv[1:] else 8
layers = bytearray(size * 1024 * 1024)
for epoch in range(1, 4):
    time.sleep(0.5)
    print(f"size {size}  epoch {epoch}/3  loss {0.4 + 1.2 / epoch**2 / size:.3f}", flush=True)
open("model", "w").write(f"a model of {size} MiB\\n")
"""
SIZES = "8\n16\n256\n"
DESCRIPTION = """\
In a directory with train.py, k8r runs it as a Job in an image that has Python: a line tells how the
pod starts, then its output appears as it is printed, and its result is here. A sweep runs a pod for
each line of a file; one needs more memory than it may have, and is retried with more. A command is
run inside a run that goes on. k8r ls lists them all, k8r rm removes them."""

PROMPT = "$ "

KEY = 0.035
THOUGHT = 0.4
"""Seconds from key to key, and before the first and the last key of a command."""
FLASH, HOLD, LOOP = 0.025, 4.0, 60.0
"""The least seconds of a screen, those of the last one, and the most of all together."""
PAUSES = (1.5, 1.25, 1.0, 0.75, 0.5)
"""The most seconds of a screen: the first with which all together are few enough."""
PATIENCE = 120
"""Seconds that a command may take."""


class Shot(NamedTuple):
    """A screen, when it began to be shown, and for how many seconds at most it is to be."""

    moment: float
    limit: float
    screen: Screen


class Terminal:
    """A shell on a terminal, and all that it has shown."""

    def __init__(self, cwd: Path, env: Dict[str, str]) -> None:
        self.shots: List[Shot] = []
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        size = (ROWS, COLUMNS)
        self._shell = pexpect.spawn("sh", ["-i"], cwd=str(cwd), env=env, dimensions=size)
        self._shell.delaybeforesend = None
        self._until_prompt()

    def run(self, command: str) -> None:
        """Type a command, and wait until the shell asks for the next one."""
        self._watch(THOUGHT)
        for key in command[:-1]:
            self._shell.send(key)
            self._watch(KEY, limit=KEY)
        self._shell.send(command[-1])
        self._watch(THOUGHT, limit=THOUGHT)
        self._shell.send("\r")
        self._watch(KEY)
        self._until_prompt()

    def close(self) -> None:
        """End the shell."""
        self._shell.close(force=True)

    def _watch(self, seconds: float, limit: float = math.inf) -> None:
        """Take in what is printed within some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                data = self._shell.read_nonblocking(1 << 16, max(end - time.monotonic(), 0))
            except pexpect.TIMEOUT:
                return
            self._stream.feed(data)
            self.shots.append(Shot(time.monotonic(), limit, self._state()))

    def _until_prompt(self) -> None:
        """Take in what a command prints, to its end."""
        deadline = time.monotonic() + PATIENCE
        while not self._at_prompt():
            if time.monotonic() > deadline:
                raise TimeoutError("\n".join(self._screen.display))
            self._watch(KEY)

    def _at_prompt(self) -> bool:
        cursor = self._screen.cursor
        return cursor.x == len(PROMPT) and self._screen.display[cursor.y].rstrip() == PROMPT.strip()

    def _state(self) -> Screen:
        lines = [self._line(row) for row in range(ROWS)]
        while lines and not lines[-1]:
            lines.pop()
        return Screen(tuple(lines), self._screen.cursor.x, self._screen.cursor.y)

    def _line(self, row: int) -> Line:
        length = len(self._screen.display[row].rstrip())
        cells = [(self._screen.buffer[row][column], column) for column in range(length)]
        runs = []
        for color, group in groupby(cells, lambda cell: cell[0].fg):
            run = list(group)
            runs.append(Run(run[0][1], color, "".join(char.data for char, _ in run)))
        return tuple(runs)


def record(program: str, kubeconfig: str) -> List[Shot]:
    """Run the commands in a new namespace, which is removed after."""
    kubectl = Kubectl(program, kubeconfig, NAMESPACE)
    kubectl("create", "namespace", NAMESPACE)
    try:
        until(lambda: len(kubectl.names("serviceaccounts,configmaps")) > 1, "a service account")
        with tempfile.TemporaryDirectory() as name:
            return type_commands(kubectl, Path(name))
    finally:
        kubectl("delete", "namespace", NAMESPACE)


def type_commands(kubectl: Kubectl, folder: Path) -> List[Shot]:
    """Type them in a small project, with an empty HOME."""
    work, home, config = folder / "work", folder / "home", folder / "config"
    work.mkdir()
    home.mkdir()
    (work / "train.py").write_text(TRAIN)
    (work / "sizes").write_text(SIZES)
    content = json.loads(kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json"))
    content["contexts"][0]["name"] = content["current-context"] = CONTEXT
    content["contexts"][0]["context"]["namespace"] = NAMESPACE
    config.write_text(json.dumps(content))
    env = {
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        "HOME": str(home),
        "KUBECONFIG": str(config),
        "LC_ALL": "C.UTF-8",
        "PS1": PROMPT,
        "TERM": "xterm-256color",
    }
    terminal = Terminal(work, env)
    try:
        for command in COMMANDS:
            phases = ("get", "pods", "-o", "jsonpath={.items[*].status.phase}")
            until(lambda: "Pending" not in kubectl(*phases), "pods that run")
            terminal.run(command)
    finally:
        terminal.close()
    return terminal.shots


def film(shots: List[Shot], pause: float) -> List[Tuple[float, Screen]]:
    """Each screen that can be seen, and how many seconds it is shown."""
    ends = [shot.moment for shot in shots[1:]] + [math.inf]
    lasting = [shot for shot, end in zip(shots, ends) if end - shot.moment >= FLASH]
    distinct = [next(group) for _, group in groupby(lasting, lambda shot: shot.screen)]
    seconds = [
        min(after.moment - shot.moment, shot.limit, pause)
        for shot, after in zip(distinct, distinct[1:])
    ]
    return list(zip([*seconds, HOLD], (shot.screen for shot in distinct)))


def main() -> None:
    """Record, and write the file if the recording is short enough."""
    program = str(ROOT / "tests" / "cluster" / "kubectl")
    shots = record(program, os.environ["K8R_TEST_KUBECONFIG"])
    for pause in PAUSES:
        shown = film(shots, pause)
        loop = sum(seconds for seconds, _ in shown)
        if loop < LOOP:
            text = svg(shown, DESCRIPTION)
            OUTPUT.write_text(text)
            print(f"{len(shown)} screens, {loop:.1f} s, pauses {pause} s, {len(text)} bytes")
            return
    sys.exit(f"not written: it takes {loop:.0f} s, since this machine is too busy")


if __name__ == "__main__":
    main()
