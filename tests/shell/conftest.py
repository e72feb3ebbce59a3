"""Fixtures of the tests of install.sh."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox import (
    FILES,
    ROOT,
    SMALL_K8R,
    SMALL_PYPROJECT,
    Sandbox,
    Small,
    commit_all,
    find_uv,
    git,
)


@pytest.fixture(scope="session")
def uv() -> str:
    """The path of uv."""
    return find_uv()


@pytest.fixture
def sandbox(tmp_path: Path, uv: str) -> Sandbox:
    """An empty HOME, and a PATH with little on it."""
    return Sandbox(tmp_path, uv)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of k8r as it is here now, all committed, with no remote."""
    path = tmp_path_factory.mktemp("project") / "k8r"
    git(path.parent, "init", "-q", "-b", "main", str(path))
    for name in FILES:
        shutil.copy(ROOT / name, path)
    commit_all(path)
    return path


@pytest.fixture(scope="session")
def small_lock(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Path:
    """The lock file of the small program."""
    path = tmp_path_factory.mktemp("lock")
    (path / "k8r.py").write_text(SMALL_K8R.format(version="1.0"))
    (path / "pyproject.toml").write_text(SMALL_PYPROJECT.format(version="1.0"))
    subprocess.run(
        [uv, "lock", "-q"],
        cwd=path,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"},
        check=True,
    )
    return path / "uv.lock"


@pytest.fixture
def small(tmp_path: Path, small_lock: Path) -> Small:
    """A repository of the small program."""
    return Small(tmp_path / "small", small_lock)
