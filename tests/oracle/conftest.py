"""What the comparisons with the originals share: the running oracle."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Iterator

import pytest

from common import steady_properties
from oracle import NoOracle, Oracle

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
steady_properties()


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """The originals, to be asked."""
    try:
        started = Oracle()
    except NoOracle as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no originals to compare with: {error}", pytrace=False)
        pytest.skip(f"no originals to compare with: {error}")
    with started:
        yield started
