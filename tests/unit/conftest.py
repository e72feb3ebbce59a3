"""What the unit tests share: the k8r.py beside this directory, and steady property tests."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.configuration
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

# Property tests give the same result in every run, unless K8R_TEST_RANDOM asks for new examples.
hypothesis.configuration.set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), "k8r-tests"))
hypothesis.settings.register_profile(
    "k8r",
    deadline=None,
    database=None,
    derandomize=not os.environ.get("K8R_TEST_RANDOM"),
    max_examples=int(os.environ.get("K8R_TEST_EXAMPLES", "100")),
)
hypothesis.settings.load_profile("k8r")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make sure that it is this repository's k8r.py that is tested."""
    import k8r

    assert Path(k8r.__file__).resolve() == ROOT / "k8r.py"
