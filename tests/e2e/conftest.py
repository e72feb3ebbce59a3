"""A real cluster for these tests: a namespace for each, kubectl and k8r in it.

The cluster is the one of K8R_TEST_KUBECONFIG, or else tests/cluster/up starts one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, NamedTuple
from typing import NoReturn, Optional, Tuple

import pytest

from balancer import Balancer
from common import until
from dockerhost import docker_project
from faultproxy import Fault, FaultProxy
from gitserver import GitServer, serve_git
from kueue import Kueue, NoKueue, process
from support import Kubectl, Object, Proxy, nothing_left, nothing_made

if TYPE_CHECKING:
    from tests.conftest import Cli

CLUSTER = Path(__file__).resolve().parent.parent / "cluster"


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers of this tier."""
    config.addinivalue_line("markers", "clean: nothing may be left in the namespace afterwards")
    config.addinivalue_line("markers", "slow: takes half a minute; begun first")
    config.addinivalue_line("markers", "gates(gate, ...): with these feature gates of Kueue")
    config.addinivalue_line("markers", "alone: no other test may use Kueue at the same time")


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Begin with the slow ones, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def no_cluster(reason: str) -> NoReturn:
    """Skip; where tests decide over a release, fail."""
    cannot(f"no cluster to test against: {reason}")


def cannot(reason: str) -> NoReturn:
    """Skip; where tests decide over a release, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster() -> str:
    """The path of the kubeconfig of a real cluster."""
    given = os.environ.get("K8R_TEST_KUBECONFIG")
    if given:
        if not os.path.exists(given):
            no_cluster(f"K8R_TEST_KUBECONFIG names {given}, which does not exist")
        return os.path.abspath(given)
    try:
        done = subprocess.run(
            [str(CLUSTER / "up")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=1800
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        no_cluster(f"tests/cluster/up: {error}")
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        no_cluster(f"tests/cluster/up: {' '.join(last)}")
    found = re.search(r"^export KUBECONFIG=(.+)$", done.stdout.decode(), re.M)
    if not found:
        no_cluster("tests/cluster/up prints no KUBECONFIG")
    return found.group(1).strip("'\"")


@pytest.fixture(scope="session")
def kubectl_program(cluster: str) -> str:
    """The test cluster's kubectl, or that of PATH."""
    for program in (str(CLUSTER / "kubectl"), shutil.which("kubectl")):
        if not program or not os.path.exists(program):
            continue
        check = [program, "version", "--client"]
        if subprocess.run(check, stdout=subprocess.PIPE, stderr=subprocess.PIPE).returncode == 0:
            return program
    no_cluster("there is no kubectl")


def make_namespace(program: str, kubeconfig: str) -> Kubectl:
    """Make a namespace, and wait until pods can be made in it."""
    kubectl = Kubectl(program, kubeconfig, f"k8r-e2e-{secrets.token_hex(4)}")
    kubectl("create", "namespace", kubectl.namespace)

    def probe() -> bool:
        names = kubectl("get", "serviceaccounts,configmaps,secrets", "-o", "name").split()
        kubectl.initial = set(names)
        return {"serviceaccount/default", "configmap/kube-root-ca.crt"} <= kubectl.initial

    until(probe, f"a service account in {kubectl.namespace}")
    return kubectl


def remove_namespace(kubectl: Kubectl) -> None:
    """Remove a namespace in the background."""
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture
def kubectl(
    request: pytest.FixtureRequest, kubectl_program: str, cluster: str
) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own."""
    made = make_namespace(kubectl_program, cluster)
    yield made
    try:
        if request.node.get_closest_marker("clean"):
            nothing_left(made)
    finally:
        remove_namespace(made)


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    """The name of the test's namespace."""
    return kubectl.namespace


@pytest.fixture
def kueue(request: pytest.FixtureRequest, kubectl: Kubectl, cluster: str) -> Iterator[Kueue]:
    """Kueue, and the test's namespace under it: Jobs that name a queue wait for its quota."""
    gates = request.node.get_closest_marker("gates")
    alone = request.node.get_closest_marker("alone") is not None
    wanted = tuple(gates.args) if gates else ()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(process(cluster, wanted, alone))
        except NoKueue as error:
            cannot(f"no Kueue to test against: {error}")
        made = Kueue(kubectl, wanted)
        made.manage()
        yield made
        made.remove()


@pytest.fixture(scope="session")
def quiet_kubectl(kubectl_program: str, cluster: str) -> Iterator[Kubectl]:
    """kubectl in a namespace for tests in which k8r is to make nothing."""
    made = make_namespace(kubectl_program, cluster)
    yield made
    try:
        nothing_made(made)
    finally:
        remove_namespace(made)


@pytest.fixture(scope="session")
def git_server(kubectl_program: str, cluster: str) -> Iterator[GitServer]:
    """Repositories to clone."""
    yield from serve_git(kubectl_program, cluster)


@pytest.fixture
def daemon(cluster: str) -> Iterator[Dict[str, str]]:
    """The variables with which k8r finds docker and the registry."""
    yield from docker_project(cluster)


@pytest.fixture(scope="session")
def kubeconfig_content(kubectl_program: str, cluster: str) -> str:
    """The cluster's kubeconfig reduced to its context, as JSON."""
    view = ("config", "view", "--raw", "--flatten", "--minify", "-o", "json")
    return Kubectl(kubectl_program, cluster, "default")(*view)


WriteKubeconfig = Callable[..., str]


class Upstream(NamedTuple):
    """The API server's address, and the name in its certificate."""

    host: str
    port: int
    tls_name: str

    def behind(self, port: int) -> Dict[str, str]:
        """The cluster entry of a kubeconfig for a proxy on that port."""
        return {"server": f"https://127.0.0.1:{port}", "tls-server-name": self.tls_name}


@pytest.fixture
def write_kubeconfig(kubeconfig_content: str, tmp_path: Path) -> WriteKubeconfig:
    """Write a copy of the kubeconfig; parts of its cluster or user may be replaced."""

    def write(
        namespace: str,
        cluster: Optional[Dict[str, Any]] = None,
        user: Optional[Dict[str, Any]] = None,
    ) -> str:
        content: Object = json.loads(kubeconfig_content)
        content["contexts"][0]["context"]["namespace"] = namespace
        if cluster:
            content["clusters"][0]["cluster"].update(cluster)
        if user is not None:
            content["users"][0]["user"] = user
        path = tmp_path / f"kubeconfig-{secrets.token_hex(4)}"
        path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.fixture
def run(k8r: Cli, kubectl: Kubectl, write_kubeconfig: WriteKubeconfig) -> Cli:
    """k8r with the test's namespace in its context."""
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace)
    return k8r


@pytest.fixture
def quiet_run(k8r: Cli, quiet_kubectl: Kubectl, write_kubeconfig: WriteKubeconfig) -> Cli:
    """k8r in the namespace for tests in which it is to make nothing."""
    k8r.env["KUBECONFIG"] = write_kubeconfig(quiet_kubectl.namespace)
    return k8r


@pytest.fixture
def upstream(kubeconfig_content: str) -> Upstream:
    """Where the API server is."""
    entry = json.loads(kubeconfig_content)["clusters"][0]["cluster"]
    found = re.match(r"https://(\[[^]]+\]|[^:/]+)(?::(\d+))?", entry["server"])
    assert found, entry["server"]
    host = found.group(1).strip("[]")
    return Upstream(host, int(found.group(2) or 443), entry.get("tls-server-name", host))


@pytest.fixture
def slow_proxy(
    run: Cli, kubectl: Kubectl, upstream: Upstream, write_kubeconfig: WriteKubeconfig
) -> Iterator[Proxy]:
    """`run` behind a proxy that lets two parts of an archive pass on each connection."""
    proxy = Proxy(upstream.host, upstream.port, 3_500_000)
    changed = upstream.behind(proxy.port)
    run.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, cluster=changed)
    yield proxy
    run.close()
    proxy.close()


StartFaultProxy = Callable[[Iterable[Fault]], Tuple[FaultProxy, Dict[str, str]]]


@pytest.fixture
def faulty(
    run: Cli, kubectl: Kubectl, upstream: Upstream, write_kubeconfig: WriteKubeconfig
) -> Iterator[StartFaultProxy]:
    """Start a proxy with faults; the environment for k8r behind it comes along."""
    proxies: List[FaultProxy] = []

    def start(deck: Iterable[Fault]) -> Tuple[FaultProxy, Dict[str, str]]:
        proxy = FaultProxy(upstream.host, upstream.port, deck)
        proxies.append(proxy)
        changed = upstream.behind(proxy.port)
        return proxy, {"KUBECONFIG": write_kubeconfig(kubectl.namespace, cluster=changed)}

    yield start
    run.close()
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def balancer(kubectl: Kubectl) -> Iterator[Balancer]:
    """A load balancer before the API server, which tests tell to fail."""
    made = Balancer(kubectl)
    made.open()
    yield made
    made.close()


@pytest.fixture
def balanced(
    run: Cli, kubectl: Kubectl, balancer: Balancer, tmp_path: Path
) -> Iterator[Dict[str, str]]:
    """The environment for k8r behind the load balancer."""
    path = balancer.kubeconfig(tmp_path / "balanced", namespace=kubectl.namespace)
    yield {"KUBECONFIG": path}
    run.close()
