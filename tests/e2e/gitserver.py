"""A pod that serves git repositories by HTTP and SSH."""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path
from typing import Dict, Iterator, NoReturn, Optional

import pytest

from common import until
from support import Kubectl, Object

IMAGE = "k8r-test/gitserver:latest"
POD = "git"
PUBLIC, LOGIN, USER_ONLY, DEFAULT_USER, OTHER, SSH = 8080, 8081, 8082, 8083, 8084, 2222

REPOSITORIES = """\
set -eu
export HOME=/tmp GIT_AUTHOR_DATE=2024-01-01T00:00:00Z GIT_COMMITTER_DATE=2024-01-01T00:00:00Z
git config --global user.name somebody
git config --global user.email somebody@example.com
git config --global init.defaultBranch main
commit() { git add -A; git commit -qm "$1"; }

git init -q /tmp/inner
cd /tmp/inner
echo pinned > inside
commit pinned
pinned=$(git rev-parse HEAD)
echo newer > inside
commit newer
git clone -q --bare /tmp/inner /srv/git/inner.git

git init -q /tmp/project
cd /tmp/project
echo one > version
commit one
git tag v1
echo two > version
commit two
git tag -a v2 -m 'the second version'
git checkout -q -b dev
echo dev > version
commit dev
git checkout -q -b feature/slash
echo slash > version
commit slash
git checkout -q main
git checkout -q -b startup
printf 'echo prepared by the script\\ntouch prepared\\n' > k8s-startup.sh
commit startup
git checkout -q -b broken
printf 'echo about to fail\\nexit 3\\n' > k8s-startup.sh
commit broken
git checkout -q main
echo three > version
printf '#!/bin/sh\\necho tool "$@"\\n' > tool.sh
chmod +x tool.sh
printf '[submodule "inner"]\\n\\tpath = inner\\n\\turl = ../inner.git\\n' > .gitmodules
git add -A
git update-index --add --cacheinfo "160000,$pinned,inner"
git commit -qm three
git clone -q --bare /tmp/project /srv/git/project.git

git init -q /tmp/names
cd /tmp/names
echo tag > version
commit tag
git tag rel
git checkout -q -b rel
echo branch > version
commit branch
git update-ref refs/pull/7/head refs/heads/rel
git checkout -q main
git clone -q --mirror /tmp/names /srv/git/names.git

git init -q --object-format=sha256 /tmp/sha256
cd /tmp/sha256
echo sha256 > version
commit sha256
git clone -q --bare /tmp/sha256 /srv/git/sha256.git

git init -q /tmp/pointers
cd /tmp/pointers
echo '*.bin filter=lfs -text' > .gitattributes
printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:4d7a\\nsize 12345\\n' > model.bin
commit pointers
git clone -q --bare /tmp/pointers /srv/git/pointers.git

git init -q /tmp/elsewhere
cd /tmp/elsewhere
printf '[submodule "inner"]\\n\tpath = inner\\n\turl = http://%s:@OTHER@/inner.git\\n' \\
  "$(hostname -i)" > .gitmodules
git add -A
git update-index --add --cacheinfo "160000,$pinned,inner"
git commit -qm elsewhere
git clone -q --bare /tmp/elsewhere /srv/git/elsewhere.git
git init -q --bare /srv/git/empty.git

ssh-keygen -q -t ed25519 -N '' -f /tmp/key
""".replace("@OTHER@", str(OTHER))

SERVERS = f"""\
git-http-server {PUBLIC} /srv/git &
git-http-server {LOGIN} /srv/git "alice:$TOKEN" &
git-http-server {USER_ONLY} /srv/git "$TOKEN:" &
git-http-server {OTHER} /srv/git "alice:$TOKEN" &
git-http-server {DEFAULT_USER} /srv/git "x-access-token:$TOKEN" &
exec git-ssh-server {SSH} /tmp/key.pub
"""


class GitServer:
    """Where the repositories are, and what opens the doors that are locked."""

    def __init__(self, host: str, token: str, key: str, host_key: str, ids: Dict[str, str]) -> None:
        self.host = host
        self.token = token
        self.key = key
        self.host_key = host_key
        self.ids = ids

    @property
    def known_hosts(self) -> str:
        """The line of known_hosts for the SSH server."""
        return f"[{self.host}]:{SSH} {self.host_key}\n"

    def url(self, port: int = PUBLIC, login: str = "", repository: str = "project.git") -> str:
        """The HTTP URL of a repository."""
        return f"http://{login + '@' if login else ''}{self.host}:{port}/{repository}"

    def ssh_url(self) -> str:
        """The SSH URL of the repository."""
        return f"ssh://git@{self.host}:{SSH}/srv/git/project.git"

    def write_key(self, folder: Path, known_hosts: Optional[str] = None) -> Path:
        """Write the files of an SSH secret."""
        folder.mkdir()
        (folder / "id_ed25519").write_text(self.key)
        if known_hosts is not None:
            (folder / "known_hosts").write_text(known_hosts)
        return folder


def no_server(reason: str) -> NoReturn:
    """Skip; where tests decide over a release, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no git server to test against: {reason}", pytrace=False)
    pytest.skip(f"no git server to test against: {reason}")


def server_pod(token: str) -> Object:
    """The pod; it ends at once when it is told to."""
    container = {
        "name": "server",
        "image": IMAGE,
        "command": ["sh", "-c", REPOSITORIES + SERVERS],
        "env": [{"name": "TOKEN", "value": token}],
        "readinessProbe": {"tcpSocket": {"port": SSH}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def is_open(host: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((host, port), 2).close()
    except OSError:
        return False
    return True


def ready_host(kubectl: Kubectl) -> Optional[str]:
    """The pod's address once it is ready; skips where its image does not exist."""
    status = kubectl.get("pod", POD)["status"]
    for container in status.get("containerStatuses") or []:
        reason = (container["state"].get("waiting") or {}).get("reason", "")
        if "Image" in reason:
            no_server(f"{IMAGE}: {reason}")
        if container["ready"]:
            return str(status["podIP"])
    return None


def serve_git(kubectl_program: str, cluster: str) -> Iterator[GitServer]:
    """A git server in the cluster, which is reached from here, too; for a fixture."""
    kubectl = Kubectl(kubectl_program, cluster, f"k8r-e2e-git-{secrets.token_hex(4)}")
    kubectl("create", "namespace", kubectl.namespace)
    try:
        yield start_server(kubectl)
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def start_server(kubectl: Kubectl) -> GitServer:
    """Start the pod and wait until all of its ports answer."""
    token = "ghp/" + secrets.token_hex(12)
    until(lambda: kubectl.get("serviceaccount", "default"), "a service account")
    kubectl("create", "-f", "-", stdin=json.dumps(server_pod(token)).encode())
    host = until(lambda: ready_host(kubectl), "the git server", 90)
    if not is_open(host, SSH):
        no_server("pods cannot be reached from here")
    for port in (PUBLIC, LOGIN, USER_ONLY, DEFAULT_USER, OTHER):
        until(lambda: is_open(host, port), f"port {port} of the git server")

    def inside(*command: str) -> str:
        return kubectl("exec", POD, "--", *command)

    names = ("v1^{commit}", "v2^{commit}", "dev", "main")
    found = inside("git", "-C", "/srv/git/project.git", "rev-parse", *names).split()
    ids = dict(zip(("v1", "v2", "dev", "main"), found))
    host_key = " ".join(inside("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    return GitServer(host, token, inside("cat", "/tmp/key"), host_key, ids)
