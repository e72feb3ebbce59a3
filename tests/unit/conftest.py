"""What the unit tests share: the k8r.py beside this directory, and steady property tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common import steady_properties

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

steady_properties()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make sure that it is this repository's k8r.py that is tested."""
    import k8r

    assert Path(k8r.__file__).resolve() == ROOT / "k8r.py"
