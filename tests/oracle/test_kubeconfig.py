"""Kubeconfigs as client-go reads them for kubectl, and proxies as Go finds them."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import ssl
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import k8r
from oracle import Answer, Oracle

V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
PLUGIN = {"command": "./plugin", "apiVersion": V1, "interactiveMode": "Never"}
BASE: Dict[str, Any] = {
    "current-context": "x",
    "clusters": [{"name": "c", "cluster": {"server": "https://example.com:6443"}}],
    "users": [{"name": "u", "user": {"token": "abc"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
}


def config(
    cluster: Any = None, user: Any = None, context: Any = None, **top: Any
) -> Dict[str, Any]:
    """A kubeconfig with these parts instead of those of `BASE`; a mapping adds to them."""
    made = {key.replace("_", "-"): value for key, value in {**BASE, **top}.items()}
    for section, kind, part in (
        ("clusters", "cluster", cluster),
        ("users", "user", user),
        ("contexts", "context", context),
    ):
        if part is not None and section not in top:
            entry = dict(BASE[section][0])
            joined = {**entry[kind], **part} if isinstance(part, dict) else part
            entry[kind] = part if kind == "user" else joined
            made[section] = [entry]
    return made


def cluster(**fields: Any) -> Dict[str, Any]:
    """A kubeconfig whose cluster has these fields, too."""
    return config(cluster={key.replace("_", "-"): value for key, value in fields.items()})


def user(**fields: Any) -> Dict[str, Any]:
    """A kubeconfig whose user has these fields alone."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in fields.items()}
    return config(user=named)


def plugin(**fields: Any) -> Dict[str, Any]:
    """A kubeconfig whose user has a credential plugin; None removes a field of it."""
    made = {key: value for key, value in {**PLUGIN, **fields}.items() if value is not None}
    return user(exec=made)


def encoded(text: bytes) -> str:
    """Text in base64."""
    return base64.b64encode(text).decode()


CASES: Dict[str, Any] = {
    "a token": config(),
    "no user": config(context={"user": ""}),
    "an unknown user": config(context={"user": "nobody"}),
    "an unknown cluster": config(context={"cluster": "none"}),
    "no cluster": config(context={"cluster": ""}),
    "a namespace": config(context={"namespace": "mine"}),
    "a namespace that is a number": config(context={"namespace": 7}),
    "null for a namespace": config(context={"namespace": None}),
    "a context that is text": config(context="x"),
    "a cluster that is text": config(cluster="https://example.com"),
    "a cluster that is a list": config(cluster=[]),
    "a cluster of nothing": config(clusters=[{"name": "c"}]),
    "a user that is text": config(user="abc"),
    "a user of nothing": config(users=[{"name": "u"}]),
    "clusters that are a mapping": config(clusters={"c": {}}),
    "users that are text": config(users="u"),
    "contexts of nothing": config(contexts=None),
    "a context named by a number": config(
        contexts=[{"name": 5, "context": {"cluster": "c", "user": "u"}}], current_context=5
    ),
    "a cluster named by a number": config(clusters=[{"name": 1, "cluster": {}}]),
    "an entry that is null": config(users=[None]),
    "no current context": config(current_context=""),
    "null for a current context": config(current_context=None),
    "a current context that is not there": config(current_context="y"),
    "a server in capitals": cluster(server="HTTPS://EXAMPLE.com"),
    "a server with a path": cluster(server="https://example.com/k8s/clusters/c-1/"),
    "a server with a query": cluster(server="https://example.com/path?a=b#c"),
    "a server without a scheme": config({"server": "example.com:80"}, {}),
    "a server without a scheme and a port": config({"server": "example.com"}, {}),
    "a server without a scheme with a path": config({"server": "example.com/path"}, {}),
    "an address without a scheme": config({"server": "127.0.0.1:8080"}, {}),
    "an IPv6 address": cluster(server="https://[::1]:6443"),
    "half an IPv6 address": cluster(server="https://[::1"),
    "a server that is a number": cluster(server=6443),
    "an empty server": cluster(server=""),
    "a server with a space": cluster(server="https://example.com/a b"),
    "a server with an odd port": cluster(server="https://example.com:port"),
    "plain http": config({"server": "http://example.com"}, {}),
    "an authority in a file": cluster(certificate_authority="ca.crt"),
    "an authority in a folder": cluster(certificate_authority="../here/ca.crt"),
    "an authority that is missing": cluster(certificate_authority="none.crt"),
    "an authority without a certificate": cluster(certificate_authority="token"),
    "authority data": lambda ca: cluster(certificate_authority_data=ca),
    "authority data in lines": lambda ca: cluster(
        certificate_authority_data="\n".join(re.findall(".{1,64}", ca)) + "\n"
    ),
    "authority data and a file": lambda ca: cluster(
        certificate_authority_data=ca, certificate_authority="ca.crt"
    ),
    "authority data that is not base64": cluster(certificate_authority_data="not base64!"),
    "authority data that is not padded": cluster(certificate_authority_data="YQ="),
    "authority data that is not a certificate": cluster(certificate_authority_data="YWJj"),
    "authority data that is a list": cluster(certificate_authority_data=["x"]),
    "insecure": cluster(insecure_skip_tls_verify=True),
    "not insecure": cluster(insecure_skip_tls_verify=False),
    "insecure by null": cluster(insecure_skip_tls_verify=None),
    "insecure by text": cluster(insecure_skip_tls_verify="false"),
    "insecure by a number": cluster(insecure_skip_tls_verify=1),
    "insecure and an authority": cluster(
        insecure_skip_tls_verify=True, certificate_authority="ca.crt"
    ),
    "a server name": cluster(tls_server_name="other"),
    "a server name that is a number": cluster(tls_server_name=1),
    "no compression": cluster(disable_compression=True),
    "compression by text": cluster(disable_compression="yes, please"),
    "a proxy": cluster(proxy_url="http://proxy:3128"),
    "a proxy that speaks SOCKS": cluster(proxy_url="socks5://proxy:1080"),
    "a proxy with TLS": cluster(proxy_url="https://proxy"),
    "a proxy of another kind": cluster(proxy_url="ftp://proxy"),
    "a proxy without a scheme": cluster(proxy_url="proxy:3128"),
    "a proxy that is a mapping": cluster(proxy_url={}),
    "an extension": cluster(extensions=[{"name": "minikube.sigs.k8s.io", "extension": {"a": 1}}]),
    "extensions that are text": cluster(extensions="x"),
    "a token that is a number": user(token=1234),
    "an empty token": user(token=""),
    "a token file": user(tokenFile="token"),
    "a token file that is missing": user(tokenFile="none"),
    "a token and a file": user(token="abc", tokenFile="token"),
    "a password": user(username="me", password="secret"),
    "a password alone": user(password="secret"),
    "a token and a password": user(token="abc", username="me", password="secret"),
    "a password that is a number": user(username="me", password=1234),
    "a certificate": user(client_certificate="client.crt", client_key="client.key"),
    "a certificate without a key": user(client_certificate="client.crt"),
    "a certificate of another key": user(client_certificate="ca.crt", client_key="client.key"),
    "a certificate that is missing": user(client_certificate="none", client_key="client.key"),
    "a key alone": user(client_key="client.key"),
    "somebody else": user(token="abc", as_="somebody"),
    "somebody else in groups": user(**{"token": "a", "as_": "b", "as_groups": ["x", "y, z"]}),
    "somebody else in a group that is text": user(token="abc", as_="somebody", as_groups="x"),
    "somebody else in a group that is a number": user(token="a", as_="b", as_groups=[1]),
    "somebody else by a number": user(token="abc", as_=7),
    "somebody else's ID": user(token="abc", as_="somebody", as_uid="17"),
    "an ID of nobody": user(token="abc", as_uid="17"),
    "groups of nobody": user(token="abc", as_groups=["x"]),
    "more of somebody else": user(
        token="abc", as_="jürgen", as_user_extra={"a/b:c": ["1", "2"], "Ä": ["x"], "n": None}
    ),
    "more of somebody else that is text": user(token="a", as_="b", as_user_extra={"a": "1"}),
    "more of nobody": user(token="abc", as_user_extra={"a": ["1"]}),
    "a plugin": plugin(),
    "a plugin on PATH": plugin(
        command="plugin", args=["a", "b"], env=[{"name": "A", "value": "b"}]
    ),
    "a plugin and a token": user(exec=PLUGIN, token="abc"),
    "a plugin and a password": user(exec=PLUGIN, username="me", password="secret"),
    "a plugin without a command": plugin(command=None),
    "a plugin without a version": plugin(apiVersion=None),
    "a plugin without a mode": plugin(interactiveMode=None),
    "a beta plugin without a mode": plugin(interactiveMode=None, apiVersion=V1BETA1),
    "a beta plugin": plugin(apiVersion=V1BETA1, provideClusterInfo=True, installHint="do"),
    "a plugin of an odd mode": plugin(interactiveMode="Sometimes"),
    "a plugin with a command that is a list": plugin(command=["a", "b"]),
    "a plugin with arguments that are text": plugin(args="a b"),
    "a plugin with arguments that are numbers": plugin(args=[1]),
    "a plugin with an env that is a mapping": plugin(env={"A": "b"}),
    "a plugin with an env that is a number": plugin(env=[{"name": "A", "value": 1}]),
    "a plugin that is text": user(exec="plugin"),
    "a plugin that is empty": user(exec={}),
    "a plugin that is null": user(exec=None, token="abc"),
    "a plugin and a provider": user(exec=PLUGIN, **{"auth_provider": {"name": "gcp"}}),
    "empty": "",
    "comments alone": "# nothing here\n",
    "a list": "[]",
    "a mapping": "{}",
    "a text": "abc",
    "not YAML": "a: [",
    "a tab": "a:\n\t- b",
    "not UTF-8": b"a: \xff\xfe\xfa",
}

STRICTER = {
    r"which k8r does not know": config(cluster={"colour": "blue"}),
    r"k8r sends no credentials to": config({"server": "http://example.com"}, {"token": "abc"}),
    r"server is not a URL": cluster(server="https://me:secret@example.com"),
    r"no header .* can have": user(token="abc\ndef"),
    r"tokenFile cannot be used": user(token="abc", tokenFile="none"),
    r"which the kubeconfig lacks": config(context={"user": "nobody"}),
    r"of the kubeconfig is not a mapping": config(users=[*BASE["users"], None]),
    r"KEY_VALUES_MISMATCH": user(client_certificate="ca.crt", client_key="client.key"),
    r"it is empty": cluster(certificate_authority="empty"),
    r"the proxy .* is not a URL": cluster(proxy_url="http://"),
}
"""Where k8r refuses what the original takes, or sends without credentials or drops as it makes a
connection: a pattern of k8r's own words, and an example."""
MILDER = {
    r"invalid configuration.* (unable to read|both specified|must be specified)": config(
        {"server": "http://example.com", "certificate-authority": "none"}, {}
    ),
    r"duplicate name": config(clusters=[*BASE["clusters"], *BASE["clusters"]]),
    r"no kind .* is registered": config(kind="Pod", apiVersion="v1"),
    r"cannot unmarshal \w+ into Go struct field": config(
        users=[*BASE["users"], {"name": "other", "user": {"token": 1}}]
    ),
}
"""Where k8r takes what the original refuses: a pattern of the original's words, and an example."""


LOOPBACK = "credentials go to this machine without TLS, too"
"""What k8r does, and the original does not: as for a tunnel that begins here."""
KNOWN = {**STRICTER, **MILDER, LOOPBACK: cluster(server="http://127.0.0.1:8080")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the kubeconfigs are, with what they name."""
    made = tmp_path_factory.mktemp("kubeconfigs") / "here"
    made.mkdir()
    for name in ("ca", "client"):
        key, certificate = str(made / f"{name}.key"), str(made / f"{name}.crt")
        words = ["req", "-x509", "-subj", f"/CN={name}", "-newkey", "rsa:2048", "-nodes"]
        command = ["openssl", *words, "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    (made / "token").write_text("from-a-file\n")
    (made / "empty").write_text("")
    return made


def write(path: Path, content: Any) -> None:
    """Write a kubeconfig: bytes and text as they are, anything else as YAML."""
    if not isinstance(content, (str, bytes)):
        content = yaml.safe_dump(content)
    path.write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )


def shown(oracle: Answer) -> Dict[str, Any]:
    """The original's answer in the form of `mine`."""
    if "error" in oracle:
        return {"error": oracle["error"]}
    token, person = oracle["token"], oracle["impersonate"]
    if oracle["token_file"] and Path(oracle["token_file"]).exists():
        token = Path(oracle["token_file"]).read_text()
    login = f"Bearer {token.strip()}" if token else ""
    if oracle["username"] or oracle["password"]:
        login = "Basic " + encoded(f"{oracle['username']}:{oracle['password']}".encode())
    authority = oracle["ca_data"] or (oracle["ca_file"] and Path(oracle["ca_file"]).read_text())
    certificate = oracle["cert_data"] or (
        oracle["cert_file"] and Path(oracle["cert_file"]).read_text()
    )
    made = {
        "url": oracle["url"].rstrip("/"),
        "login": login,
        "authority": [ssl.PEM_cert_to_DER_cert(authority)] if authority else [],
        "certificate": certificate.encode(),
        "insecure": oracle["insecure"],
        "server name": oracle["server_name"],
        "proxy": without_login(oracle["proxy"]),
        "namespace": oracle["namespace"],
        "user": person["user"],
        "uid": person["uid"],
        "groups": person["groups"] or [],
        "extra": {key: values for key, values in (person["extra"] or {}).items() if values},
    }
    if "exec" in oracle and not login and not certificate:
        made["exec"] = {
            "command": os.path.normpath(oracle["exec"]["command"]),
            "args": oracle["exec"]["args"] or [],
            "env": oracle["exec"]["env"] or [],
            "version": oracle["exec"]["api_version"],
            "mode": oracle["exec"]["interactive_mode"],
        }
    return made


def without_login(proxy: str) -> str:
    """A proxy's URL with its port, and without its user."""
    parts = urllib.parse.urlsplit(proxy)
    port = parts.port or {"https": 443, "http": 80, "socks5": 1080}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}" if proxy else ""


def unescaped(headers: Any) -> Dict[str, List[str]]:
    """What headers say of additional properties of somebody else."""
    found: Dict[str, List[str]] = {}
    for name, value in headers.items():
        if name.startswith("Impersonate-Extra-"):
            key = urllib.parse.unquote(name[len("Impersonate-Extra-") :])
            found.setdefault(key, []).append(value.encode("latin-1").decode())
    return found


def mine(folder: Path, env: Dict[str, str], **options: str) -> Dict[str, Any]:
    """What k8r makes of an environment in a folder, with options."""
    found: Dict[str, Any] = {}
    laid: List[bytes] = []

    def run(plugin: Any, *_: Any) -> Any:
        mode = plugin.get("interactiveMode") or "IfAvailable"
        made = {"command": os.path.normpath(plugin["command"]), "args": plugin.get("args", [])}
        made["env"] = [{"name": "", "value": "", **item} for item in plugin.get("env", [])]
        found["exec"] = {**made, "version": plugin["apiVersion"], "mode": mode}
        return {}, float("inf")

    @contextlib.contextmanager
    def lay(data: bytes) -> Iterator[str]:
        laid.append(data)
        with LAY_OPEN(data) as path:
            yield path

    target = k8r.Target(options.get("namespace"), options.get("context"), options.get("kubeconfig"))
    kubeconfig = k8r.Kubeconfig(target, env, str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(k8r, "run_plugin", run)
        patch.setattr(k8r, "lay_open", lay)
        try:
            access, namespace = kubeconfig.make_access(), kubeconfig.namespace
        except k8r.K8rError as error:
            return {"error": error.message}
    settings_, headers = access.pool.connection_pool_kw, access.headers
    context, proxy = settings_.get("ssl_context"), access.pool.proxy
    socks = getattr(access.pool, "proxy_url", "").replace("socks5h:", "socks5:")
    return {
        "url": access.host,
        "login": headers.get("Authorization", ""),
        "authority": named_authorities(context),
        "certificate": laid[0] if laid else b"",
        "insecure": bool(context and context.verify_mode == ssl.CERT_NONE),
        "server name": settings_.get("server_hostname") or "",
        "proxy": proxy.url if proxy else socks,
        "namespace": namespace,
        "user": headers.get("Impersonate-User", "").encode("latin-1").decode(),
        "uid": headers.get("Impersonate-Uid", ""),
        "groups": headers.getlist("Impersonate-Group"),
        "extra": unescaped(headers),
        **found,
    }


LAY_OPEN = k8r.lay_open
SYSTEM = len(ssl.create_default_context().get_ca_certs())


def named_authorities(context: Any) -> List[bytes]:
    """The authorities that are not the system's."""
    found = context.get_ca_certs(binary_form=True) if context else []
    return [] if len(found) == SYSTEM else found


def difference(
    oracle: Oracle, folder: Path, env: Optional[Dict[str, str]] = None, **options: str
) -> Optional[str]:
    """How k8r and the original differ over a kubeconfig: a key of `KNOWN`, or
    words; or None.
    """
    env = env or {"HOME": str(folder), "KUBECONFIG": "config"}
    original, ours = shown(oracle.kubeconfig(env, folder, **options)), mine(folder, env, **options)
    if "error" in original and "error" in ours:
        return None
    if "error" in original:
        known = (pattern for pattern in MILDER if re.search(pattern, original["error"]))
        return next(known, f"k8r takes it; the original says: {original['error']}")
    if "error" in ours:
        known = (pattern for pattern in STRICTER if re.search(pattern, ours["error"]))
        return next(known, f"k8r says: {ours['error']}; to the original it is {original}")
    if ours["url"].startswith("http://") and ours["login"] and not original["login"]:
        ours["login"] = ""
        ours.pop("exec", None)
        return LOOPBACK if original == ours else f"k8r: {ours}; the original: {original}"
    return None if original == ours else f"k8r: {ours}; the original: {original}"


@pytest.mark.parametrize("name", CASES)
def test_a_kubeconfig(oracle: Oracle, folder: Path, name: str) -> None:
    """Each is refused by both, or read as the same."""
    content = CASES[name]
    if callable(content):
        content = content(encoded((folder / "ca.crt").read_bytes()))
    write(folder / "config", content)
    assert difference(oracle, folder) in (None, *KNOWN)


@pytest.mark.parametrize("pattern, example", KNOWN.items())
def test_a_known_difference(oracle: Oracle, folder: Path, pattern: str, example: Any) -> None:
    """One that is mended has to leave its table, which would hide it when it comes back."""
    write(folder / "config", example)
    assert difference(oracle, folder) == pattern


@pytest.mark.parametrize("listed", ["config:sub/config", "sub/config:config", "none:config:config"])
@pytest.mark.parametrize("options", [{}, {"context": "other"}, {"namespace": "mine"}], ids=str)
@pytest.mark.parametrize("empty", ["", "# nothing\n"], ids=["empty", "comment"])
def test_several_files(
    oracle: Oracle, folder: Path, listed: str, options: Dict[str, str], empty: str
) -> None:
    """They are merged; the first of a name counts; paths are relative to their own file; an empty
    one is as none.
    """
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub/token").write_text("from-sub")
    (folder / "empty").write_text(empty)
    write(folder / "config", user(tokenFile="token", as_="first"))
    other = user(tokenFile="token")
    named = {"name": "other", "context": {"cluster": "d", "user": "v"}}
    other["contexts"] = [*other["contexts"], named]
    other["clusters"] = [{"name": "d", "cluster": {"server": "https://other"}}]
    other["users"] = [*other["users"], {"name": "v", "user": {"tokenFile": "token"}}]
    write(folder / "sub/config", other)
    env = {"HOME": str(folder), "KUBECONFIG": f"empty:{listed}:empty"}
    assert difference(oracle, folder, env, **options) is None


ODD = st.sampled_from([None, "", 0, 1, True, False, [], {}, ["x"], {"a": "b"}, [None], "true"])


def fields(**kinds: Any) -> st.SearchStrategy[Dict[str, Any]]:
    """Some of these fields, each with one of its values or, seldom, with an odd one."""
    values = {key: st.sampled_from([*good] * 3 + [ODD]) for key, good in kinds.items()}
    drawn = {
        key.rstrip("_").replace("_", "-"): value.flatmap(
            lambda v: v if isinstance(v, st.SearchStrategy) else st.just(v)
        )
        for key, value in values.items()
    }
    return st.fixed_dictionaries({}, optional=drawn)


EXECS = fields(
    command=["./plugin", "plugin"],
    apiVersion=[V1, V1BETA1],
    interactiveMode=["Never", "IfAvailable", "Always"],
    args=[["a"], []],
    env=[[{"name": "A", "value": "b"}], [{"name": "A"}]],
    provideClusterInfo=[True, False],
    installHint=["x"],
)
CLUSTERS = fields(
    server=[
        "https://example.com",
        "https://[::1]:6443/a",
        "HTTPS://h:1/",
        "http://localhost",
        "h:80",
    ],
    certificate_authority=["ca.crt", "../here/ca.crt", "none", "token"],
    certificate_authority_data=["YWJj", ""],
    insecure_skip_tls_verify=[True, False],
    tls_server_name=["other"],
    proxy_url=["http://proxy:3128", "https://me@proxy", "proxy"],
    disable_compression=[True],
)
USERS = fields(
    token=["abc", "a b"],
    tokenFile=["token", "none"],
    username=["me"],
    password=["secret"],
    client_certificate=["client.crt", "ca.crt"],
    client_key=["client.key"],
    as_=["somebody"],
    as_uid=["1"],
    as_groups=[["a", "b"]],
    as_user_extra=[{"a": ["b"]}],
    exec=[EXECS],
)
CONFIGS = st.builds(
    lambda cluster, user, context: config(cluster=cluster, user=user, context=context),
    st.one_of(CLUSTERS, ODD),
    st.one_of(USERS, USERS, ODD.filter(lambda value: value is not None)),
    st.one_of(fields(namespace=["mine"], user=["u", "v"], cluster=["c", "d"]), ODD),
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONFIGS)
def test_generated_kubeconfigs(oracle: Oracle, folder: Path, content: Any) -> None:
    """Nor are kubeconfigs read otherwise whose parts were put together well or badly."""
    write(folder / "config", content)
    assert difference(oracle, folder) in (None, *KNOWN)


HOSTS = st.sampled_from(
    "example.com a.example.com aexample.com 10.1.2.3 127.0.0.1 127.8.8.8 localhost [::1] [fe80::1]"
    " host".split()
)
ENTRIES = st.sampled_from(
    ["", " ", "*", "example.com", ".example.com", "*.example.com", "example.com:443", "com", "host"]
    + ["EXAMPLE.com", "10.0.0.0/8", "10.1.2.3", "10.1.2.3:443", "10.1.2.3:80", "fe80::/10", "2.3"]
    + ["[fe80::1]:443", "fe80::1", ".", "host:", ":443", "10.1.2.3/33"]
)


@settings(max_examples=500)
@given(
    st.sampled_from(["https", "http"]),
    HOSTS,
    st.sampled_from(["", ":443", ":6443"]),
    st.lists(ENTRIES, max_size=3),
    st.sampled_from(["", "http://proxy:3128", "proxy:3128", "https://me:pw@proxy", "socks5://p"]),
)
def test_proxies(
    oracle: Oracle, scheme: str, host: str, port: str, entries: List[str], proxy: str
) -> None:
    """They are those that Go finds, kubectl's language."""
    url, listed = f"{scheme}://{host}{port}/", ",".join(entries)
    env = {"HTTPS_PROXY": proxy, "http_proxy": "http://plain:1", "NO_PROXY": listed}
    original = oracle.proxy(url, http="http://plain:1", https=proxy, no=listed)
    assert k8r.find_proxy(url, env) == original
