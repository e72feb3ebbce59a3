"""What all tiers share: k8r as a process, and the tiers' honesty about skipping."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

import pytest

from common import give_children_default_signals

ROOT = Path(__file__).resolve().parent.parent
K8R = ROOT / "k8r.py"
COMMAND = Path(sys.executable).with_name("k8r")
"""The installed command, whose bytecode is cached, as it is for a user."""
TIERS = ("unit", "faults", "shell", "oracle", "e2e")


class Result(NamedTuple):
    """How a k8r process ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """stdout as text."""
        return self.out.decode()


class Cli:
    """Runs k8r.py as a process, in a directory and environment of its own.

    HOME is empty and no kubeconfig is set, unless a test sets one in `env`.
    """

    def __init__(self, home: Path, cwd: Path) -> None:
        self.cwd = cwd
        self.env: Dict[str, str] = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            # A test that hangs in git's or docker's prompt would hang for good.
            "GIT_TERMINAL_PROMPT": "0",
        }
        self._processes: List[subprocess.Popen[bytes]] = []

    def __call__(
        self,
        *args: str,
        cwd: Optional[Path] = None,
        env: Optional[Dict[str, str]] = None,
        stdin: bytes = b"",
        timeout: float = 120,
    ) -> Result:
        """Run to the end."""
        process = self.start(*args, cwd=cwd, env=env)
        return self.finish(process, stdin, timeout)

    def start(
        self,
        *args: str,
        cwd: Optional[Path] = None,
        env: Optional[Dict[str, str]] = None,
        stdout: Optional[int] = None,
        prefix: Sequence[str] = (),
    ) -> "subprocess.Popen[bytes]":
        """Start and return the process, in a process group of its own."""
        if not COMMAND.exists():
            raise RuntimeError(f"{COMMAND} is missing: install the project into this environment")
        command = [*prefix, sys.executable, str(K8R)] if prefix else [str(COMMAND)]
        process = subprocess.Popen(
            [*command, *args],
            cwd=cwd or self.cwd,
            env={**self.env, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    @staticmethod
    def finish(
        process: "subprocess.Popen[bytes]", stdin: bytes = b"", timeout: float = 120
    ) -> Result:
        """Wait for the end. A process that does not come to it is killed."""
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(
                f"still running after {timeout} s; stdout: {out[-2000:]!r}; stderr: {err[-2000:]!r}"
            ) from None
        return Result(process.returncode, out or b"", err.decode("utf-8", "replace"))

    def close(self) -> None:
        """Kill what a failed test has left behind."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """An empty directory to run k8r in."""
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def k8r(tmp_path: Path, workdir: Path) -> Iterator[Cli]:
    """k8r with an empty HOME."""
    home = tmp_path / "home"
    home.mkdir()
    cli = Cli(home, workdir)
    yield cli
    cli.close()


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker of all tiers, and see to the signals of the processes under test."""
    config.addinivalue_line("markers", "case(number): shows that numbered case of README.md")
    # pytest-xdist's workers, which this process only starts, are to ignore what it ignores.
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        give_children_default_signals()


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """A test whose name has the number of a case is one of that case's."""
    for item in items:
        number = re.search(r"_case_(\d+)_", item.name)
        if number:
            item.add_marker(pytest.mark.case(int(number.group(1))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly which tier did not run."""
    skipped = [str(report.nodeid) for report in terminalreporter.stats.get("skipped", [])]
    for tier in TIERS:
        count = sum(1 for nodeid in skipped if f"tests/{tier}/" in nodeid)
        if count:
            terminalreporter.write_line(
                f"NOT TESTED: {count} tests of tests/{tier} were skipped", red=True, bold=True
            )
