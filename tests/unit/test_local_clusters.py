"""Clusters on this machine: an image is loaded into their nodes instead of pushed."""

from __future__ import annotations

import os
import sys
from typing import List, Optional

import pytest

import k8r

IMAGE = "gcr.io/default-project/app:0123456789ab"


@pytest.mark.parametrize(
    "context, command",
    [
        ("kind-kind", ["kind", "load", "docker-image", IMAGE, "--name", "kind"]),
        ("kind-my-dev", ["kind", "load", "docker-image", IMAGE, "--name", "my-dev"]),
        ("k3d-dev", ["k3d", "image", "import", IMAGE, "--cluster", "dev"]),
        ("minikube", ["minikube", "image", "load", IMAGE]),
        ("kindly", None),
        ("gke_project_zone_kind-x", None),
        ("minikube-2", None),
        ("in-cluster", None),
    ],
)
def test_load_command(context: str, command: Optional[List[str]]) -> None:
    """The context's name says which tool, and for which cluster."""
    assert k8r.build_load_command(context, IMAGE) == command


@pytest.mark.parametrize(
    "context, node, local",
    [
        ("kind-dev", "dev-control-plane", True),
        ("kind-dev", "dev-worker2", True),
        ("kind-dev", "developer", False),
        ("kind-dev", "gke-pool-1", False),
        ("k3d-dev", "k3d-dev-server-0", True),
        ("k3d-dev", "dev-server-0", False),
        ("minikube", "minikube", True),
        ("minikube", "minikube-m02", True),
        ("minikube", "ip-10-0-0-1", False),
    ],
)
def test_is_local_node(context: str, node: str, local: bool) -> None:
    """A cluster that only has the name of a local one is pushed to."""
    assert k8r.is_local_node(context, node) == local


def test_a_tool_that_is_missing() -> None:
    """Says which one to install."""
    with pytest.raises(k8r.K8rError) as caught:
        k8r.run_program("it", ["no-such-kind", "load"], os.environ)
    assert "no-such-kind" in caught.value.message and "install" in caught.value.hint


def test_a_tool_that_fails() -> None:
    """Its own words are shown."""
    with pytest.raises(k8r.K8rError) as caught:
        k8r.run_program(
            "it", [sys.executable, "-c", "print('no nodes found'); raise SystemExit(1)"], os.environ
        )
    assert "no nodes found" in caught.value.message


def test_a_tool_that_succeeds() -> None:
    """Nothing is said."""
    k8r.run_program("it", [sys.executable, "-c", ""], os.environ)
