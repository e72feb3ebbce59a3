"""install.sh in a Debian that has nothing but what it asks for."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from sandbox import ROOT, cache, commit_all, git, need, network_settings

PACKAGES = ("python3", "python3-venv", "git", "ca-certificates")
IN_ROOT = Path(__file__).with_name("in_root")


def apt_options() -> List[str]:
    """How apt on this machine reaches its mirror."""
    dump = subprocess.run(
        ["apt-config", "dump", "--no-empty", "--format", '%f "%v";%n', "Acquire"],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout.decode()
    wanted = ("Acquire::http", "Acquire::Check-", "Acquire::Retries")
    return [f"--aptopt={line}" for line in dump.splitlines() if line.startswith(wanted)]


def build(root: Path) -> None:
    """Make the root, from the packages of this machine's own Debian."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line
    )
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if not sources.exists():
        sources = Path("/etc/apt/sources.list")
    half = root.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
            *apt_options(),
            *(release["VERSION_CODENAME"].strip('"'), str(half), str(sources)),
        ],
        check=True,
    )
    half.rename(root)


@pytest.fixture(scope="module")
def clean_root() -> Iterator[Path]:
    """The root's directory, made once for all."""
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        pytest.skip("a clean root is made by root, on Debian")
    for program in ("mmdebstrap", "unshare", "chroot"):
        need(program)
    name = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    root = cache() / f"debian-{name}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            build(root)
    yield root


def in_clean_root(root: Path, checkout: Path, script: str) -> Tuple[str, str]:
    """Run shell text there, with a checkout in /tmp/k8r; its stdout and stderr."""
    settings = {
        name: value
        for name, value in network_settings().items()
        if name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE", "NETRC")
        or not value.startswith("/")
        or value.startswith("/etc/ssl/certs")
    }
    done = subprocess.run(
        [str(IN_ROOT), str(root), str(checkout), "/bin/sh", "-c", script],
        env={**settings, "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=900,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, out + err
    assert str(root) not in Path("/proc/self/mounts").read_text()
    return out, err


@pytest.mark.timeout(1800)
def test_clean_root(clean_root: Path, project: Path) -> None:
    """As a user without uv: installed, and there in the next login, where README's first
    command runs without a cluster.
    """
    script = """
set -e
! command -v uv
cd /tmp/k8r && sh install.sh
mkdir /tmp/work && cd /tmp/work && echo 'print("trained")' > train.py
for command in 'k8r --version' 'k8r --help' 'k8r -q --local ./ -- python3 train.py'; do
    env -i HOME="$HOME" PATH="$PATH" bash -lc "$command"
done
cd /tmp/k8r && sh install.sh --uninstall
find /home/user
"""
    out, err = in_clean_root(clean_root, project, script)
    assert err == ""
    assert "there is no uv here" in out
    assert "\nusage: k8r " in out and "\ntrained\n" in out
    assert out.splitlines()[-1] == "/home/user"


@pytest.mark.timeout(1800)
def test_the_tests_in_a_clean_root(clean_root: Path, tmp_path: Path) -> None:
    """tests/run sets up what it needs, uv included."""
    names = git(ROOT, "ls-files", "-z", "-co", "--exclude-standard").split("\0")
    for name in filter(None, names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    git(tmp_path, "init", "-q")
    commit_all(tmp_path)
    out, err = in_clean_root(clean_root, tmp_path, "cd /tmp/k8r && tests/run unit")
    assert re.search(r"\d{4} passed", out), out[-2000:]
    assert "installing uv" in err
