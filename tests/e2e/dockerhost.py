"""The docker daemon and the registry of the test cluster."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Dict, Iterator, NoReturn

import docker
import pytest

from support import Object


def no_docker(reason: str) -> NoReturn:
    """Skip; where tests decide over a release, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no docker to test with: {reason}", pytrace=False)
    pytest.skip(f"no docker to test with: {reason}")


def machine(cluster: str) -> Object:
    """What the test cluster says of itself; skips if the cluster is another."""
    state = os.environ.get("K8R_CLUSTER_STATE") or "/var/lib/k8r-test-cluster"
    try:
        found: Object = json.loads(Path(state, "cluster.json").read_text())
    except (OSError, ValueError) as error:
        no_docker(f"the cluster is not that of tests/cluster/up: {error}")
    if not os.path.samefile(found["kubeconfig"], cluster):
        no_docker("the cluster is not that of tests/cluster/up")
    return found


def docker_project(cluster: str) -> Iterator[Dict[str, str]]:
    """The variables with which k8r finds docker and the registry, for a fixture.

    The images of the project, which is new, are removed from the daemon afterwards.
    """
    found = machine(cluster)
    project = f"e2e-{secrets.token_hex(4)}"
    yield {
        "DOCKER_HOST": found["docker_host"],
        "K8R_REGISTRY": found["registry"],
        "K8R_PROJECT": project,
        "K8R_BUILDER": "classic",  # which needs nothing else to be here
    }
    client = docker.DockerClient(base_url=found["docker_host"])
    try:
        for image in client.images.list():
            names = [*image.tags, *(image.attrs.get("RepoDigests") or [])]
            if any(f"/{project}/" in name for name in names):
                client.images.remove(image.id, force=True)
    finally:
        client.close()
