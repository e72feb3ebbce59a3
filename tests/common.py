"""What more than one tier of the tests uses."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from typing import Dict, List

CODE = """\
import json, os, sys
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
