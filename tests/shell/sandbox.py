"""A home, a PATH and repositories to install from: what the tests of install.sh share."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
CI = os.environ.get("CI") == "true"
FILES = ("k8r.py", "pyproject.toml", "uv.lock", "install.sh", "README.md", "LICENSE")
TOOLS = (
    *("awk", "cat", "cksum", "cp", "cut", "date", "dirname", "env", "grep", "head", "ln"),
    *("mkdir", "mktemp", "mv", "readlink", "rm", "rmdir", "sed", "sh", "sort", "tail", "wc"),
)
"""What install.sh may count on everywhere."""

SMALL_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "k8r"
version = "{version}"
requires-python = ">=3.8"

[project.scripts]
k8r = "k8r:run_and_exit"

[tool.hatch.build.targets.wheel]
only-include = ["k8r.py"]
"""

SMALL_K8R = """\
import sys


def run_and_exit():
    if sys.argv[1:] == ["wait"]:
        print("ready", flush=True)
        sys.stdin.read()
        print(open(__file__).read().splitlines()[-1])
    else:
        print("k8r {version}")


# {version}
"""


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


def cache() -> Path:
    """Where the tests keep what is dear to make, as tests/setup.sh has it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("K8R_TEST_CACHE") or Path(base) / "k8r-tests")


def find_uv() -> str:
    """uv, from where tests/run has it."""
    found = shutil.which("uv") or cache() / "uv/bin/uv"
    if subprocess.run([found, "--version"], stdout=subprocess.DEVNULL).returncode:
        raise RuntimeError("there is no uv; tests/run installs one")
    return str(found)


def need(program: str) -> str:
    """The path of a program without which there is no test."""
    found = shutil.which(program)
    if found is None:
        message = f"{program} is not installed"
        pytest.fail(message) if CI else pytest.skip(message)
    return found


def network_settings() -> Dict[str, str]:
    """How this machine reaches its package index."""
    names = ("PIP_", "UV_", "SSL_", "REQUESTS_")
    found = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(names) or name.lower().endswith("_proxy")
    }
    for name, path in (
        ("PIP_CONFIG_FILE", Path.home() / ".config/pip/pip.conf"),
        ("UV_CONFIG_FILE", Path.home() / ".config/uv/uv.toml"),
        ("NETRC", Path.home() / ".netrc"),
    ):
        if path.exists():
            found.setdefault(name, str(path))
    found.setdefault("UV_CACHE_DIR", str(Path.home() / ".cache/uv"))
    return found


def git(where: Path, *args: str) -> str:
    """Run git in `where` as somebody, and return what it says."""
    return subprocess.run(
        ["git", "-c", "user.name=k8r", "-c", "user.email=k8r@localhost", *args],
        cwd=where,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout.decode()


def default_signals() -> None:
    """In a child: what a terminal or nohup lets these tests ignore, it does not ignore."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def commit_all(where: Path) -> str:
    """Commit what is in `where`, and return the name of the version that it makes."""
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "A state")
    return git(where, "rev-parse", "HEAD")[:12]


def snapshot(top: Path) -> Dict[str, Tuple[int, bytes]]:
    """All that is below `top`: modes, contents, where links lead."""
    found = {}
    for path in top.rglob("*"):
        mode = path.lstat().st_mode
        content = b""
        if stat.S_ISLNK(mode):
            content = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(mode):
            content = path.read_bytes()
        found[str(path.relative_to(top))] = (mode, content)
    return found


class Small:
    """A repository of a program called k8r that needs nothing, hence is quick to install."""

    def __init__(self, path: Path, lock: Path) -> None:
        self.path = path
        self.lock = lock
        path.mkdir(parents=True)
        git(path, "init", "-q", "-b", "main")
        self.set("1.0")

    def set(self, version: str) -> str:
        """Commit this version, and return its name."""
        (self.path / "k8r.py").write_text(SMALL_K8R.format(version=version))
        (self.path / "pyproject.toml").write_text(SMALL_PYPROJECT.format(version="1.0"))
        shutil.copy(self.lock, self.path / "uv.lock")
        shutil.copy(ROOT / "install.sh", self.path)
        return commit_all(self.path)


class Sandbox:
    """An empty HOME, a PATH with chosen tools only, and install.sh run there."""

    def __init__(self, top: Path, uv: str) -> None:
        self.home = top / "home"
        self.tools = top / "tools"
        self.cwd = top / "elsewhere"
        for path in (self.home, self.tools, self.cwd):
            path.mkdir()
        for name in TOOLS:
            self.tool(name, need(name))
        self.tool("git", need("git"))
        self.tool("uv", uv)
        self.tool("python3", os.path.realpath(sys.executable))
        self.env: Dict[str, str] = {
            **network_settings(),
            "PATH": str(self.tools),
            "HOME": str(self.home),
            "SHELL": "/bin/bash",
            "LC_ALL": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
        }

    @property
    def place(self) -> Path:
        """Where k8r is installed."""
        return self.home / ".local/share/k8r"

    @property
    def launcher(self) -> Path:
        """The command."""
        return self.home / ".local/bin/k8r"

    @property
    def current(self) -> str:
        """The name of the installed version."""
        return os.path.basename(os.readlink(self.place / "current"))

    def tool(self, name: str, target: str) -> None:
        """Put a program on PATH."""
        (self.tools / name).symlink_to(target)

    def fake(self, name: str, script: str) -> None:
        """Put a shell script on PATH, instead of what has this name."""
        path = self.tools / name
        if path.is_symlink():
            path.unlink()
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)

    def run(self, *command: str, stdin: bytes = b"", **env: str) -> Ended:
        """Run a command to its end."""
        done = subprocess.run(
            command,
            cwd=self.cwd,
            env={**self.env, **env},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=240,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def read_only(self, path: Path, *command: str) -> Ended:
        """Run a command for which `path`, without a right to write, is read-only to root too."""
        if os.geteuid() != 0:
            return self.run(*command)
        for name in ("mount", "unshare"):
            self.tool(name, need(name))
        script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
        return self.run("unshare", "-m", "/bin/sh", "-ec", script, "-", str(path), *command)

    def install(self, checkout: Path, *args: str, shell: str = "sh", **env: str) -> Ended:
        """Run the checkout's install.sh."""
        return self.run(shell, str(checkout / "install.sh"), *args, **env)

    def piped(self, *args: str, shell: str = "sh", **env: str) -> Ended:
        """Run install.sh as `curl | sh` would."""
        return self.run(
            *(shell, "-s", "--", *args), stdin=(ROOT / "install.sh").read_bytes(), **env
        )

    def update(self, *args: str, **env: str) -> Ended:
        """What `k8r update` does."""
        return self.run("sh", str(self.place / "current/install.sh"), "--update", *args, **env)

    def version(self) -> Optional[str]:
        """What the installed command says its version is."""
        done = self.run(str(self.launcher), "--version")
        return done.out.strip() if done.code == 0 else None

    def new_shell(self, *command: str) -> Ended:
        """Run a command as a shell that reads its rc files: nothing else is known to it."""
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        if "ZDOTDIR" in self.env:
            environment["ZDOTDIR"] = self.env["ZDOTDIR"]
        done = subprocess.run(
            command,
            cwd=self.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=60,
            start_new_session=True,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
