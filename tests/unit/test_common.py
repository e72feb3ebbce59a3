"""What the tests of all tiers stand on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
IGNORED = """\
import os, subprocess, sys
import common
print(open("/proc/self/status").read().split("SigIgn:")[1].split()[0], flush=True)
common.give_children_default_signals()
for number in (1, 2, 15):
    os.kill(os.getpid(), number)
subprocess.run(["grep", "SigIgn", "/proc/self/status"], check=True)
"""


def test_children_do_not_ignore_what_pytest_ignores() -> None:
    """Those that `nohup` and a shell's `trap ''` make a process ignore; it goes on doing so."""
    words = [
        "sh",
        "-c",
        """trap '' HUP INT TERM; exec "$@" """,
        "sh",
        sys.executable,
        "-c",
        IGNORED,
    ]
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(words, env=environ, stdout=subprocess.PIPE, check=True)
    before, _, after = done.stdout.decode().split()
    asked = 1 << 0 | 1 << 1 | 1 << 14
    assert int(before, 16) & asked == asked
    assert int(after, 16) & asked == 0
