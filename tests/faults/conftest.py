"""k8r and the fake cluster, brought together."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional

import pytest

from apiserver import FakeCluster, Obj, PodScript

if TYPE_CHECKING:
    from tests.conftest import Cli

TOKEN = "the-token"


@pytest.fixture
def serve(k8r: Cli, tmp_path: Path) -> Iterator[Callable[..., FakeCluster]]:
    """Start a cluster whose pods play these scripts, and point `k8r` to it.

    Each request needs a token, so that none can go out without one unnoticed.
    """
    with contextlib.ExitStack() as stack:

        def start(*scripts: PodScript, user: Optional[Obj] = None, **kwargs: Any) -> FakeCluster:
            cluster = stack.enter_context(FakeCluster(*scripts, tokens={TOKEN}, **kwargs))
            path = tmp_path / "kubeconfig"
            k8r.env["KUBECONFIG"] = cluster.kubeconfig(path, user=user or {"token": TOKEN})
            return cluster

        yield start


@pytest.fixture
def cluster(serve: Callable[..., FakeCluster]) -> FakeCluster:
    """A cluster whose pods write three lines and succeed, unless `play` says else."""
    return serve(PodScript(lines=["line 1", "line 2", "line 3"]))


@pytest.fixture
def project(workdir: Path) -> Path:
    """A small directory, whose runs are called `work`."""
    (workdir / "file.txt").write_text("content\n")
    return workdir


@functools.lru_cache(maxsize=None)
def incompressible() -> bytes:
    """2.5 MB that are always the same and do not get smaller by packing."""
    return b"".join(hashlib.sha512(b"%d" % number).digest() for number in range(40_000))


@pytest.fixture
def large_project(workdir: Path) -> Path:
    """A directory that takes three ConfigMaps."""
    (workdir / "data.bin").write_bytes(incompressible())
    return workdir
