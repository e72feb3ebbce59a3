"""What more than one tier of the tests uses."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, TypeVar

import pytest

if TYPE_CHECKING:
    import k8r
    from tests.conftest import Result

T = TypeVar("T")

CODE = """\
import json, os, sys, time
constants, path = sys.argv[1], sys.argv[3]
sys.path.insert(0, os.path.dirname(path))
import k8r
for word in constants.split():
    name, value = word.split("=")
    assert hasattr(k8r, name), "k8r.py has no " + name
    setattr(k8r, name, json.loads(value))
sys.argv[:4] = [path]
k8r.run_and_exit()
"""


def patched(**constants: float) -> List[str]:
    """A prefix for k8r's command line that runs it with other values of its constants."""
    words = " ".join(f"{name}={value}" for name, value in constants.items())
    return [sys.executable, "-c", CODE, words]


def hurried(factor: int) -> List[str]:
    """A prefix for k8r's command line that runs it with a clock so many times as fast."""
    clock = f"lambda: time.monotonic() * {factor}"
    faster = (
        f"make = k8r.Environment.__new__; make.__defaults__ = ({clock}, *make.__defaults__[1:])"
    )
    return [sys.executable, "-c", CODE.replace("import k8r\n", f"import k8r\n{faster}\n"), ""]


def tomorrow() -> List[str]:
    """A prefix for k8r's command line that runs it with the time of a day later."""
    later = "real = time.time; time.time = lambda: real() + 86_400\n"
    return [sys.executable, "-c", CODE.replace("import k8r\n", f"{later}import k8r\n"), ""]


def give_children_default_signals() -> None:
    """Let processes that this one starts begin with the default dispositions of signals, where
    this one was told to ignore them (by nohup, or as a shell's background job).

    It goes on ignoring them, but by a handler: a new program keeps ignored signals ignored,
    handlers it does not keep.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def by_index(out: bytes) -> Dict[int, bytes]:
    """The output of each index, the prefixes taken off."""
    found: Dict[int, List[bytes]] = {}
    for line in re.findall(rb"[^\n]*\n|[^\n]+$", out):
        match = re.match(rb"\[(\d+)\] ", line)
        assert match, f"a line without its index: {line!r}"
        found.setdefault(int(match[1]), []).append(line[match.end() :])
    return {index: b"".join(lines) for index, lines in found.items()}


def steady_properties() -> None:
    """Have property tests use the same examples in every run, unless K8R_TEST_RANDOM is set."""
    import hypothesis
    import hypothesis.configuration

    folder = os.path.join(tempfile.gettempdir(), "k8r-tests")
    hypothesis.configuration.set_hypothesis_home_dir(folder)
    hypothesis.settings.register_profile(
        "k8r",
        deadline=None,
        database=None,
        derandomize=not os.environ.get("K8R_TEST_RANDOM"),
        max_examples=int(os.environ.get("K8R_TEST_EXAMPLES", "100")),
    )
    hypothesis.settings.load_profile("k8r")


def until(
    probe: Callable[[], Optional[T]], what: str, timeout: float = 60, pause: float = 0.4
) -> T:
    """Ask every `pause` seconds until the answer is true, and return it."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what}; last answer: {answer!r}")
        time.sleep(pause)


def one_line(text: str) -> str:
    """Assert that a process has said exactly one line on stderr; returns it."""
    assert text.endswith("\n") and text.count("\n") == 1, text
    assert text.startswith("k8r: ")
    return text[len("k8r: ") :].rstrip()


def refused(ended: Result, *words: str, code: int = 2) -> str:
    """Assert a refusal, wrong usage by default, that one line explains; returns it."""
    assert ended.code == code, ended.err
    assert ended.out == b""
    said = one_line(ended.err)
    for word in words:
        assert word in said
    return said


def usage_error(call: Callable[..., Any], *args: Any) -> k8r.UsageError:
    """The UsageError of a call, which must have a hint."""
    from k8r import UsageError  # not for all who import this module

    with pytest.raises(UsageError) as caught:
        call(*args)
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value
