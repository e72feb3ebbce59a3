"""install.sh in a Debian that has nothing but what it asks for."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator, List

import pytest

from sandbox import cache, need, network_settings

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


@pytest.mark.timeout(1800)
def test_clean_root(clean_root: Path, project: Path) -> None:
    """As a user without uv: installed, and there in the next login."""
    settings = {
        name: value
        for name, value in network_settings().items()
        if name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE", "NETRC")
        or not value.startswith("/")
        or value.startswith("/etc/ssl/certs")
    }
    script = (
        "! command -v uv && cd /tmp/k8r && sh install.sh && "
        'env -i HOME="$HOME" PATH="$PATH" bash -lc \'k8r --version && k8r --help\' && '
        "sh install.sh --uninstall && find /home/user"
    )
    done = subprocess.run(
        [str(IN_ROOT), str(clean_root), str(project), "/bin/sh", "-c", script],
        env={**settings, "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=600,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, out + err
    assert err == ""
    assert "there is no uv here" in out
    assert "\nusage: k8r " in out
    assert out.splitlines()[-1] == "/home/user"
    assert str(clean_root) not in Path("/proc/self/mounts").read_text()
