"""Every kind of credentials that a kubeconfig can have, and those of a pod, on a real cluster."""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest
from common import one_line, patched, until
from support import ALPINE, GATE, Kubectl, Object, nothing_left, read_until
from test_rbac import bind, role

if TYPE_CHECKING:
    from tests.conftest import Cli

ROOT = Path(__file__).resolve().parents[2]
WriteKubeconfig = Callable[..., str]

HASTY = [
    sys.executable,
    "-c",
    "import sys; del sys.argv[1:3]; import k8r; k8r.READ_TIMEOUT = 2.0; k8r.run_and_exit()",
]
"""A prefix for k8r that opens a quiet stream anew after 2 s, hence asks with its credentials."""


def pair(folder: Path, name: str) -> Tuple[Path, Path]:
    """Make a key and a certificate that it has signed itself."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    openssl("req", "-x509", "-subj", f"/CN={name}", *new_key(key), "-out", str(certificate))
    return key, certificate


def new_key(path: Path) -> Tuple[str, ...]:
    """The words that make openssl write a new key."""
    return ("-newkey", "rsa:2048", "-nodes", "-keyout", str(path))


def openssl(*args: str) -> None:
    """Run it to the end."""
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def encoded(path: Path) -> str:
    """A file's content in base64."""
    return base64.b64encode(path.read_bytes()).decode()


# Client certificates


class Files(NamedTuple):
    """A private key, and the certificate that the cluster has signed for it."""

    key: Path
    certificate: Path


@pytest.fixture
def signed(kubectl: Kubectl, tmp_path: Path) -> Iterator[Files]:
    """A client certificate of a user who has the Role of README.md."""
    user = f"{kubectl.namespace}-user"
    files = Files(tmp_path / "client.key", tmp_path / "client.crt")
    request = tmp_path / "client.csr"
    openssl("req", "-new", "-subj", f"/CN={user}", *new_key(files.key), "-out", str(request))
    wanted = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": user},
        "spec": {
            "request": encoded(request),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }
    kubectl("create", "-f", "-", stdin=json.dumps(wanted).encode())
    try:
        kubectl("certificate", "approve", user)
        files.certificate.write_bytes(base64.b64decode(issued(kubectl, user)))
        bind(kubectl, role())
        kubectl("create", "rolebinding", "user", "--role=k8r", f"--user={user}")
        yield files
    finally:
        kubectl("delete", "csr", user)


def issued(kubectl: Kubectl, name: str) -> str:
    """The certificate of a signing request; skips where nobody signs."""

    def probe() -> str:
        found: str = (kubectl.get("csr", name).get("status") or {}).get("certificate", "")
        return found

    try:
        return until(probe, "a signed certificate", 5)
    except AssertionError:
        pytest.skip("the cluster signs no client certificates")


@pytest.mark.parametrize("inline", [False, True], ids=["files", "data"])
def test_client_certificate(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: WriteKubeconfig, signed: Files, inline: bool
) -> None:
    """As files or within the kubeconfig, it is all that k8r needs."""
    user = {"client-certificate": str(signed.certificate), "client-key": str(signed.key)}
    if inline:
        user = {
            "client-certificate-data": encoded(signed.certificate),
            "client-key-data": encoded(signed.key),
        }
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=user)
    ended = k8r(ALPINE, "--", "sh", "-c", "echo hi; exit 3")
    assert (ended.code, ended.out) == (3, b"hi\n"), ended.err
    assert k8r("ls", "-o", "name").text == "alpine\n"


@pytest.mark.parametrize("inline", [False, True], ids=["files", "data"])
def test_a_certificate_of_another_key(
    k8r: Cli,
    quiet_kubectl: Kubectl,
    write_kubeconfig: WriteKubeconfig,
    tmp_path: Path,
    inline: bool,
) -> None:
    """One line says that the two do not belong together."""
    _, certificate = pair(tmp_path, "one")
    key, _ = pair(tmp_path, "other")
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    if inline:
        user = {
            "client-certificate-data": encoded(certificate),
            "client-key-data": encoded(key),
        }
    k8r.env["KUBECONFIG"] = write_kubeconfig(quiet_kubectl.namespace, user=user)
    ended = k8r("ls", timeout=30)
    assert ended.code == 125, ended.err
    said = one_line(ended.err)
    assert "certificate" in said and "key" in said and "check the network" not in said


# Tokens that are rotated


class Tokens:
    """Tokens of one service account, each valid as long as a Secret of its own."""

    def __init__(self, kubectl: Kubectl, kubeconfig: Callable[[str], str]) -> None:
        self._kubectl = kubectl
        self._kubeconfig = kubeconfig
        bind(kubectl, role())

    def make(self, name: str) -> str:
        """A new token."""
        self._kubectl("create", "secret", "generic", name)
        bound = ("--bound-object-kind", "Secret", "--bound-object-name", name)
        return self._kubectl("create", "token", "runner", *bound).strip()

    def revoke(self, name: str, token: str) -> None:
        """End a token, and wait until the API server has forgotten it, too."""
        self._kubectl("delete", "secret", name)
        kubeconfig = self._kubeconfig(token)
        other = Kubectl(self._kubectl.program, kubeconfig, self._kubectl.namespace)

        def probe() -> bool:
            try:
                other("get", "pods")
            except AssertionError as error:
                return "Unauthorized" in str(error) or "must be logged in" in str(error)
            return False

        until(probe, "a refusal of the old token")


@pytest.fixture
def tokens(kubectl: Kubectl, write_kubeconfig: WriteKubeconfig) -> Tokens:
    """Tokens for this namespace."""
    return Tokens(kubectl, lambda token: write_kubeconfig(kubectl.namespace, user={"token": token}))


def credential(token: str) -> str:
    """What a credential plugin prints."""
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    return json.dumps({**answer, "status": {"token": token}})


def plugin(folder: Path, script: str) -> Dict[str, Any]:
    """A kubeconfig user whose credentials come from this shell script."""
    path = folder / "plugin"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": str(path), "interactiveMode": "Never"}}


def replace(path: Path, content: str) -> None:
    """Replace a file in one step, as a rotation does."""
    part = path.with_name(path.name + ".part")
    part.write_text(content)
    os.replace(part, path)


COUNTED = "for i in $(seq 200); do echo line $i; done; echo begun; " + GATE
OUTPUT = b"".join(b"line %d\n" % number for number in range(1, 201)) + b"begun\nreleased\n"


@pytest.mark.case(9)
@pytest.mark.parametrize("kind", ["tokenFile", "exec"])
def test_a_token_that_is_rotated(
    k8r: Cli,
    kubectl: Kubectl,
    write_kubeconfig: WriteKubeconfig,
    tokens: Tokens,
    tmp_path: Path,
    kind: str,
) -> None:
    """The old token ends while the log and the pods are followed; the new one is found in the
    file or from the plugin, no line is lost or doubled, and a retry is followed with it.
    """
    first, file = tokens.make("first"), tmp_path / "token"
    user: Dict[str, Any] = {"tokenFile": str(file)}
    wrap: Callable[[str], str] = str
    if kind == "exec":
        user, wrap = plugin(tmp_path, f"echo asked >>{tmp_path}/calls; cat {file}"), credential
    file.write_text(wrap(first))
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=user)
    words = (ALPINE, "--retry", "1", "--", "sh", "-c", COUNTED)
    process = k8r.start(*words, prefix=HASTY)
    out = read_until(process.stdout, b"begun\n")
    replace(file, wrap(tokens.make("second")))
    tokens.revoke("first", first)
    pod = kubectl.running_pod("alpine")
    kubectl.release(pod, 7)
    out += read_until(process.stdout, b"begun\n")
    kubectl.release(kubectl.running_pod("alpine", but=[pod]), 5)
    ended = k8r.finish(process)
    assert ended.code == 5, ended.err
    assert out + ended.out == OUTPUT * 2
    if kind == "exec":
        assert 2 <= (tmp_path / "calls").read_text().count("asked") <= 6


@pytest.mark.case(9)
def test_a_token_that_is_not_replaced(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: WriteKubeconfig, tokens: Tokens, tmp_path: Path
) -> None:
    """Without a new token k8r waits for a while, then ends and says how to come back."""
    first, file = tokens.make("first"), tmp_path / "token"
    file.write_text(first)
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user={"tokenFile": str(file)})
    prefix = patched(READ_TIMEOUT=2.0, RETRY_TIME=5.0, RENEW_EVERY=1.0)
    process = k8r.start(ALPINE, "--", "sh", "-c", COUNTED, prefix=prefix)
    read_until(process.stdout, b"begun\n")
    tokens.revoke("first", first)
    ended = k8r.finish(process, timeout=60)
    assert ended.code == 125
    assert "does not accept your credentials" in ended.err
    assert "k8r logs -f alpine" in ended.err
    kubectl.running_pod("alpine")


@pytest.mark.case(10)
def test_a_plugin_that_fails(
    k8r: Cli, quiet_kubectl: Kubectl, write_kubeconfig: WriteKubeconfig, tmp_path: Path
) -> None:
    """Its own words are shown."""
    user = plugin(tmp_path, "echo 'please run: cloud login' >&2; exit 1")
    k8r.env["KUBECONFIG"] = write_kubeconfig(quiet_kubectl.namespace, user=user)
    ended = k8r(ALPINE, "--", "true", timeout=30)
    assert ended.code == 125
    assert "credential plugin" in ended.err and "please run: cloud login" in ended.err
    assert "Traceback" not in ended.err


DEVICE = """\
echo 'To sign in open https://example.com/device and enter ABCD-1234' >&2
until [ -e {folder}/entered ]; do sleep 0.1; done
echo '{credential}'
"""


def test_a_plugin_that_asks_for_a_login(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: WriteKubeconfig, tokens: Tokens, tmp_path: Path
) -> None:
    """Its code is seen while it waits, though stdout and stderr are pipes; then the run goes on."""
    script = DEVICE.format(folder=tmp_path, credential=credential(tokens.make("device")))
    user = plugin(tmp_path, script)
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=user)
    process = k8r.start(ALPINE, "--", "echo", "hi")
    read_until(process.stderr, b"ABCD-1234")
    (tmp_path / "entered").touch()
    ended = k8r.finish(process)
    assert (ended.code, ended.out) == (0, b"hi\n"), ended.err


# Impersonation


def test_impersonation(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: WriteKubeconfig, kubeconfig_content: str
) -> None:
    """What somebody else may do is what k8r may do: by name, and by one of several groups."""
    bind(kubectl, role())
    group = f"{kubectl.namespace}-group"
    kubectl("create", "rolebinding", "group", "--role=k8r", f"--group={group}")
    own = json.loads(kubeconfig_content)["users"][0]["user"]
    account = f"system:serviceaccount:{kubectl.namespace}:runner"
    for person, allowed in (
        ({"as": account}, True),
        ({"as": "nobody"}, False),
        ({"as": "nobody", "as-groups": [f"{group}, other"]}, False),
        ({"as": "nobody", "as-groups": ["other", group], "as-user-extra": {"a/b": ["c"]}}, True),
    ):
        k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user={**own, **person})
        ended = k8r(ALPINE, "--rm", "--", "echo", "hi")
        if allowed:
            assert (ended.code, ended.out) == (0, b"hi\n"), ended.err
        else:
            assert ended.code == 125 and "no permission to" in ended.err, ended.err


# Proxies


class Tunnel(socketserver.StreamRequestHandler):
    """A proxy's answer to CONNECT, and the tunnel after it."""

    def handle(self) -> None:
        """Carry bytes both ways, until one end is done."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.rfile.readline()
        assert isinstance(self.server, TunnelServer)
        self.server.heads.append(head.decode())
        host, _, port = head.split()[1].decode().rpartition(":")
        target = self.server.target or (host, int(port))
        with socket.create_connection(target) as there:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            ends = {there: self.connection, self.connection: there}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    ends[end].sendall(data)


class TunnelServer(socketserver.ThreadingTCPServer):
    """An HTTP proxy on loopback, which sends all to one target if it has that."""

    daemon_threads = True
    target: Optional[Tuple[str, int]] = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.heads: List[str] = []


@pytest.fixture
def proxy() -> Iterator[TunnelServer]:
    """A proxy that notes what it was asked."""
    with TunnelServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("way", ["proxy-url", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "loopback"])
def test_a_proxy(
    k8r: Cli,
    quiet_kubectl: Kubectl,
    write_kubeconfig: WriteKubeconfig,
    kubeconfig_content: str,
    proxy: TunnelServer,
    way: str,
) -> None:
    """Of the kubeconfig, or of the environment with a scheme or without, unless NO_PROXY has the
    server's name; the environment's is never used for this machine.
    """
    server = json.loads(kubeconfig_content)["clusters"][0]["cluster"]["server"]
    parts = urllib.parse.urlsplit(server)
    if parts.hostname != "127.0.0.1":
        pytest.skip("the cluster is not on this machine, whose address these proxies replace")
    proxy.target = ("127.0.0.1", parts.port or 443)
    address = f"me:p%40ss@127.0.0.1:{proxy.server_address[1]}"
    cluster = {"server": f"https://far.example:{parts.port}", "tls-server-name": "127.0.0.1"}
    if way == "proxy-url":
        cluster["proxy-url"] = f"http://{address}"
    elif way == "loopback":
        cluster["server"] = server
        k8r.env["HTTPS_PROXY"] = address
    else:
        k8r.env["HTTPS_PROXY" if way == "NO_PROXY" else way] = address
        k8r.env["NO_PROXY"] = ".far.example, *.example" if way == "NO_PROXY" else "example.com"
    k8r.env["KUBECONFIG"] = write_kubeconfig(quiet_kubectl.namespace, cluster=cluster)
    ended = k8r("ls", timeout=60)
    if way == "NO_PROXY":
        assert ended.code == 125 and "far.example" in ended.err and proxy.heads == []
        return
    assert ended.code == 0, ended.err
    login = base64.b64encode(b"me:p@ss").decode()
    assert bool(proxy.heads) == (way != "loopback")
    for head in proxy.heads:
        assert head.startswith(f"CONNECT far.example:{parts.port} ") and login in head
        assert "Bearer" not in head


# Contexts and certificate authorities


def renamed(path: str, name: str) -> str:
    """Name everything in a kubeconfig anew; returns its path."""
    content: Object = json.loads(Path(path).read_text())
    for section in ("clusters", "users", "contexts"):
        content[section][0]["name"] = name
    content["contexts"][0]["context"].update(cluster=name, user=name)
    content["current-context"] = name
    Path(path).write_text(json.dumps(content))
    return path


def test_the_first_current_context_wins(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: WriteKubeconfig
) -> None:
    """Of several kubeconfigs in KUBECONFIG, as kubectl has it; and --context takes the other."""
    one = renamed(write_kubeconfig(kubectl.namespace), "one")
    other = renamed(write_kubeconfig(kubectl.namespace), "other")
    for number, files in enumerate(([one, other], [other, one])):
        joined = k8r.env["KUBECONFIG"] = os.pathsep.join(["/none", *files])
        theirs = Kubectl(kubectl.program, joined, kubectl.namespace)
        current = theirs("config", "current-context").strip()
        assert current == ("one", "other")[number]
        ended = k8r(ALPINE, "-d", "--", "true")
        assert f"in namespace {kubectl.namespace} of {current}" in ended.err
        ended = k8r(ALPINE, "-d", "--context", "other", "--", "true")
        assert f"in namespace {kubectl.namespace} of other" in ended.err


def test_a_wrong_certificate_authority(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: WriteKubeconfig, tmp_path: Path
) -> None:
    """It is named in one line; --insecure does without it."""
    _, certificate = pair(tmp_path, "authority")
    wrong = {"certificate-authority-data": encoded(certificate)}
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, cluster=wrong)
    ended = k8r("ls", timeout=30)
    assert ended.code == 125
    said = one_line(ended.err)
    assert "certificate verify failed" in said and "certificate-authority" in said
    assert "--insecure" in said
    ended = k8r("ls", "--insecure")
    assert ended.code == 0 and "nothing runs" in one_line(ended.err)
    ended = k8r(ALPINE, "--insecure", "--rm", "--", "sh", "-c", "echo hi; exit 3")
    assert (ended.code, ended.out) == (3, b"hi\n"), ended.err
    nothing_left(kubectl)


# In the cluster


def in_pod(kubectl: Kubectl) -> Object:
    """A pod that has this machine's Python and k8r.py at the same paths as here."""
    wanted = {"/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix, str(ROOT)}
    wanted |= {os.path.realpath(path) for path in (sys.base_prefix, sys.prefix)}
    paths = [path for path in sorted(wanted) if os.path.exists(path)]
    outer = [path for path in paths if not any(path.startswith(f"{other}/") for other in paths)]
    mounts = [
        {"name": f"v{number}", "mountPath": path, "readOnly": True}
        for number, path in enumerate(outer)
    ]
    volumes = [
        {"name": f"v{number}", "hostPath": {"path": path}} for number, path in enumerate(outer)
    ]
    stay = "import signal; signal.signal(15, lambda *_: exit()); signal.pause()"
    container = {"name": "main", "image": ALPINE, "command": [sys.executable, "-c", stay]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "inside", "labels": {"job-name": "inside"}},
        "spec": {
            "serviceAccountName": "runner",
            "containers": [{**container, "volumeMounts": mounts}],
            "volumes": volumes,
        },
    }


def test_inside_of_the_cluster(cluster: str, kubectl: Kubectl) -> None:
    """Without a kubeconfig: the token, namespace and API server of the pod that k8r runs in."""
    if not (Path(cluster).parent / "cluster.json").exists():
        pytest.skip("the cluster's node is not this machine, whose Python the pod would use")
    bind(kubectl, role())
    kubectl("create", "-f", "-", stdin=json.dumps(in_pod(kubectl)).encode())
    pod = kubectl.running_pod("inside")
    inside = ("exec", pod, "--", "env", "LC_ALL=C.UTF-8", sys.executable, str(ROOT / "k8r.py"))
    assert kubectl(*inside, ALPINE, "--", "echo", "hi") == "hi\n"
    assert "alpine" in kubectl.names("jobs")
    assert kubectl(*inside, "ls", "-o", "name") == "alpine\n"
    script = '"$@" 2>&1; echo $?'
    said = kubectl("exec", pod, "--", "sh", "-c", script, "sh", *inside[3:], "ls", "-n", "default")
    assert "no permission to list jobs in namespace default" in said and said.endswith("125\n")
