"""What kubeconfigs give and why they are refused, and streams of bytes."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import socket
import ssl
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Type

import pytest
import urllib3
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import k8r

WORDS = [*k8r.SHAPES["cluster"], *k8r.SHAPES["user"], *k8r.PLUGIN_SHAPE, "name", "value"]


def access(
    cluster: Dict[str, Any], user: Dict[str, Any], environ: Any = (), insecure: bool = False
) -> k8r.Access:
    """The access of a cluster, by default on this machine, and a user."""
    server = {"server": "http://127.0.0.1:1/", **cluster}
    return k8r.make_access(server, user, insecure, dict(environ))


def load(tmp_path: Path, content: str, context: str = "") -> k8r.Access:
    """The access that a kubeconfig gives."""
    (tmp_path / "config").write_text(content)
    target = k8r.Target(context=context or None, kubeconfig=str(tmp_path / "config"))
    return k8r.Kubeconfig(target, {}, str(tmp_path)).make_access()


def refused(tmp_path: Path, content: str) -> str:
    """What is said of a kubeconfig that cannot be used."""
    with pytest.raises(k8r.K8rError) as caught:
        load(tmp_path, content)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value.message


def config(cluster: str = "", user: str = "", server: str = "https://127.0.0.1:1") -> str:
    """A kubeconfig in YAML."""
    return f"""
current-context: x
clusters: [{{name: c, cluster: {{server: "{server}", {cluster}}}}}]
users: [{{name: u, user: {{{user}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
"""


def test_a_token() -> None:
    """It goes into the header; the URL has no slash at its end."""
    made = access({}, {"token": "abc"})
    assert made.host == "http://127.0.0.1:1"
    assert dict(made.headers) == {"Authorization": "Bearer abc"}
    assert dict(access({}, {}).headers) == {}


def test_a_token_in_a_file(tmp_path: Path) -> None:
    """Without the newline that it ends with; it goes before another token."""
    (tmp_path / "token").write_text("abc\n")
    user = {"tokenFile": str(tmp_path / "token"), "token": "old"}
    assert dict(access({}, user).headers) == {"Authorization": "Bearer abc"}


def test_a_password() -> None:
    """By RFC 7617, in UTF-8."""
    login = base64.b64encode("me:pässword".encode()).decode()
    headers = access({}, {"username": "me", "password": "pässword"}).headers
    assert dict(headers) == {"Authorization": f"Basic {login}"}


def test_impersonation() -> None:
    """Each group has a header of its own; keys are escaped, and values go as UTF-8."""
    extra = {"example.com/näme": ["1", "2"], "b%c": ["x"]}
    user = {"as": "jürgen", "as-uid": "7", "as-groups": ["a", "b, c"], "as-user-extra": extra}
    headers = access({}, {"token": "abc", **user}).headers
    assert list(headers.items()) == [
        ("Authorization", "Bearer abc"),
        ("Impersonate-User", "jürgen".encode().decode("latin-1")),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b, c"),
        ("Impersonate-Extra-example.com%2Fn%C3%A4me", "1"),
        ("Impersonate-Extra-example.com%2Fn%C3%A4me", "2"),
        ("Impersonate-Extra-b%25c", "x"),
    ]


@pytest.mark.parametrize("token", ["se\ncret", "secret\n", "se\rcret", "secrét", "se\x00cret"])
@pytest.mark.parametrize("key", ["token", "tokenFile"])
def test_a_token_with_an_odd_character(tmp_path: Path, token: str, key: str) -> None:
    """It is refused, and not shown."""
    if key == "tokenFile":
        token = f"x{token}x"
        (tmp_path / "token").write_text(token)
    with pytest.raises(k8r.K8rError) as caught:
        access({}, {key: str(tmp_path / "token") if key == "tokenFile" else token})
    said = caught.value.message + caught.value.hint
    assert "Authorization" in said and "cret" not in said and "se" not in said.split()


@pytest.mark.parametrize(
    "cluster, user",
    [
        ({"certificate-authority": "/does/not/exist"}, {}),
        ({"certificate-authority": "/dev/null"}, {}),
        ({"certificate-authority-data": "not base64!"}, {}),
        ({"certificate-authority-data": base64.b64encode(b"no PEM").decode()}, {}),
        ({}, {"client-certificate-data": base64.b64encode(b"no PEM").decode()}),
        ({}, {"tokenFile": "/does/not/exist"}),
        ({}, {"tokenFile": "/dev/null"}),
    ],
)
def test_what_cannot_be_used(cluster: Any, user: Any) -> None:
    """One error that says what it is about."""
    with pytest.raises(k8r.K8rError) as caught:
        access({"server": "https://127.0.0.1:1", **cluster}, user)
    (key,) = {**cluster, **user}
    assert f"kubeconfig's {key.replace('-data', '')} cannot be used" in caught.value.message
    assert caught.value.exit_code == 125


@pytest.mark.parametrize("value", ['"false"', '"true"', "1", "0", "[]", "yes please"])
def test_verification_is_switched_off_by_true_alone(tmp_path: Path, value: str) -> None:
    """Text and numbers are not for it."""
    assert "not true or false" in refused(tmp_path, config(f"insecure-skip-tls-verify: {value}"))


def test_verification(tmp_path: Path) -> None:
    """It is on unless the kubeconfig or the command line has it off."""
    on = load(tmp_path, config("insecure-skip-tls-verify: false"))
    off = load(tmp_path, config("insecure-skip-tls-verify: true"))
    modes = [made.pool.connection_pool_kw["ssl_context"].verify_mode for made in (on, off)]
    assert modes == [ssl.CERT_REQUIRED, ssl.CERT_NONE]
    made = access({"server": "https://127.0.0.1:1"}, {}, insecure=True)
    assert made.pool.connection_pool_kw["ssl_context"].verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    "user",
    ["token: abc", "tokenFile: abc", "as: me", "username: me, password: abc", "exec: {}"]
    + ["client-certificate: abc, client-key: abc"],
)
@pytest.mark.parametrize(
    "server, proxy",
    [("http://example.com", ""), ("example.com", ""), ("http://127.0.0.1:1", "http://example.com")],
)
def test_no_credentials_without_encryption(
    tmp_path: Path, user: str, server: str, proxy: str
) -> None:
    """Neither to another machine nor through one."""
    exec_ = "command: /none, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never"
    text = config(f'proxy-url: "{proxy}"', user.replace("{}", f"{{{exec_}}}"), server)
    said = refused(tmp_path, text)
    assert "sends no credentials" in said and "abc" not in said


@pytest.mark.parametrize(
    "cluster, user, words",
    [
        ("colour: blue", "", "has 'colour', which k8r does not know"),
        ("", "tokenfile: x", "has 'tokenfile', which k8r does not know"),
        ("", "token: 1234", "'token' of the kubeconfig's user 'u' is not text"),
        ("", "token: [a]", "is not text"),
        ("", "as: 1", "'as' of the kubeconfig's user 'u' is not text"),
        ("", "as: a, as-groups: x", "'as-groups' of the kubeconfig's user 'u' is not a list"),
        ("", "as: a, as-groups: [[]]", "'as-groups' of the kubeconfig's user 'u' is not text"),
        ("", "as: a, as-user-extra: {a: b}", "is not a list"),
        ("", "as-groups: [a]", "without 'as'"),
        ("", "token: a, username: b", "both a token and a password"),
        ("", "exec: x", "'exec' of the kubeconfig's user 'u' is not a mapping"),
        ("", "exec: {command: [a]}", "'command' of 'exec' of the kubeconfig's user 'u'"),
        ("", "exec: {apiVersion: client.authentication.k8s.io/v1}", "exec without a command"),
        ("", "exec: {command: a}", "apiVersion is neither"),
        ("", "exec: {apiVersion: client.authentication.k8s.io/v1alpha1}", "apiVersion is neither"),
        ("", "auth-provider: {name: gcp}", "gke-gcloud-auth-plugin"),
        ("", "auth-provider: {name: azure}", "kubelogin"),
        ("", "auth-provider: {name: oidc}", "kubectl oidc-login"),
        ("", "auth-provider: {name: [x]}", "a credential plugin"),
        ("proxy-url: 'ftp://me:secret@x'", "", "the proxy ftp://***@x is not a URL"),
        ("proxy-url: 'socks5://me:secret@x:1'", "", "the proxy socks5://***@x:1 needs"),
    ],
)
def test_malformed_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str, user: str, words: str
) -> None:
    """What is wrong is told in words, with its place and without its value."""
    monkeypatch.setitem(sys.modules, "socks", None)
    said = refused(tmp_path, config(cluster, user))
    assert words in said and "secret" not in said


@pytest.mark.parametrize(
    "content, words",
    [
        (
            "contexts: [{name: 5, context: {}}]",
            "'name' of 'contexts' of the kubeconfig is not text",
        ),
        ("current-context: 5", "'current-context' of the kubeconfig is not text"),
        ("users: {a: b}", "'users' of the kubeconfig is not a list"),
        ("users: [x]", "'users' of the kubeconfig is not a mapping"),
        ("{current-context: x, contexts: [{name: x, context: y}]}", "context 'x' is not a mapping"),
        ("1: 2", "has '1', which k8r does not know"),
        ("a: !secret abc", "not valid YAML (line 1)"),
        ("\na: *secret", "not valid YAML (line 2)"),
        ("a: !!int secret", "not valid YAML"),
        ("a: !!bool secret", "not valid YAML"),
        ("a: !!timestamp secret", "not valid YAML"),
        ("[" * 100_000, "not valid YAML"),
        ("{a: " * 100_000, "not valid YAML"),
    ],
)
def test_malformed_files(tmp_path: Path, content: str, words: str) -> None:
    """The same goes for what is around the parts, and for YAML that is none."""
    said = refused(tmp_path, content)
    assert words in said and "secret" not in said.replace(str(tmp_path), "")


@pytest.mark.parametrize(
    "server",
    ["", "ftp://x", "https://", "https://me:secret@x", "https://x:y", "https://[::1", "x/y"],
)
def test_servers_that_are_none(server: str) -> None:
    """They are not shown, since there may be a password in them."""
    with pytest.raises(k8r.K8rError) as caught:
        k8r.parse_server(server)
    assert "not a URL" in caught.value.message and "secret" not in caught.value.message


@pytest.mark.parametrize(
    "proxy, url, login",
    [
        ("http://p", "http://p:80", None),
        ("p:3128", "http://p:3128", None),
        ("https://me:p%40ss@p:1", "https://p:1", "me:p@ss"),
    ],
)
def test_a_proxy(proxy: str, url: str, login: Any) -> None:
    """With a password or without; that is no part of its URL."""
    pool = access({"server": "https://example.com"}, {}, {"https_proxy": proxy}).pool
    assert pool.proxy.url == url
    expected = login and "Basic " + base64.b64encode(login.encode()).decode()
    assert dict(pool.proxy_headers).get("proxy-authorization") == expected


def test_a_proxy_that_speaks_socks() -> None:
    """It resolves names itself, as Go has it do."""
    pool = access({"server": "https://x", "proxy-url": "socks5://me:p%40ss@p:1"}, {}).pool
    options = pool.connection_pool_kw["_socks_options"]
    assert (options["proxy_host"], options["proxy_port"], options["rdns"]) == ("p", 1, True)
    assert (options["username"], options["password"]) == ("me", "p@ss")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("leaked-secret"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
PARTS = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=5)


@settings(max_examples=300)
@given(PARTS, PARTS, JSON, st.booleans())
def test_no_kubeconfig_is_an_internal_error(
    cluster: Any, user: Any, other: Any, whole: bool
) -> None:
    """Whatever is in one, it works or is refused in words that have nothing of it."""
    content = {
        "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    if not whole:
        content[sorted(content)[len(str(other)) % 4]] = other
    with tempfile.TemporaryDirectory() as folder:
        try:
            load(Path(folder), yaml.safe_dump(content))
        except k8r.K8rError as error:
            assert "leaked-secret" not in error.message.replace("context 'leaked-secret'", "")


@settings(max_examples=300)
@given(st.text("[]{}:,-!&*?|>'\"\n ab1~%@#\t", max_size=30) | st.binary(max_size=20).map(repr))
def test_no_text_is_an_internal_error(text: str) -> None:
    """Nor is there one for text that is no YAML."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(k8r.K8rError):
            load(Path(folder), text)


class Deciphering(socket.socket):
    """Like an SSLSocket: after its own shutdown it would give what is still encrypted."""

    def shutdown(self, how: int) -> None:
        """What must not be called."""
        raise AssertionError("the socket reads on without decryption")


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Data as a server sends a piece of a body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Connection:
    """The one that an answer has come over, and the pool that it came from."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.given_back = False

    def _put_conn(self, _: Any) -> None:
        self.given_back = True

    def close(self) -> None:
        """What an answer that breaks off does to it."""
        self.sock.close()


@contextlib.contextmanager
def streaming(
    head: bytes = HEAD, kind: Type[socket.socket] = socket.socket
) -> Iterator[Tuple[k8r.ByteStream, socket.socket, Connection]]:
    """An answer whose head has come over a socket, as urllib3 reads it, the server's end of
    that, and ours.
    """
    pair = socket.socketpair()
    ours, theirs = kind(fileno=pair[0].detach()), pair[1]
    theirs.sendall(head)
    ours.settimeout(1)
    body = http.client.HTTPResponse(ours, method="GET")
    body.begin()
    made = Connection(ours)
    parts: Any = {"original_response": body, "connection": made, "pool": made}
    headers = dict(body.headers.items())
    response = urllib3.HTTPResponse(body, headers, preload_content=False, **parts)
    with ours, theirs, contextlib.closing(body):
        stream = k8r.ByteStream(response, lambda error: k8r.ConnectionTrouble(str(error)))
        yield stream, theirs, made


def test_a_stream_gives_what_has_arrived() -> None:
    """A chunk is there as soon as it has come, and those before it broke off are not lost."""
    with streaming() as (stream, theirs, made):
        parts = iter(stream)
        for data in (b"a", b"b" * 5000):
            theirs.sendall(chunk(data))
            assert next(parts) == data
        theirs.sendall(chunk(b"abc") + b"4\r\nde")
        theirs.close()
        assert next(parts) == b"abc"
        with pytest.raises(k8r.ConnectionTrouble):
            next(parts)
        assert made.sock.fileno() < 0


@pytest.mark.parametrize("size", [3, 8184, 8186, 8187, 20_000], ids=str)
@pytest.mark.parametrize("rest", range(len(b"2\r\n") + 1))
def test_a_stream_does_not_wait_for_the_next_chunk(size: int, rest: int) -> None:
    """However much has arrived of that, also where http.client's buffer of 8 KiB ends with
    the first.
    """
    with streaming() as (stream, theirs, _):
        parts = iter(stream)
        first, others = chunk(b"x" * size), chunk(b"de") + chunk(b"")
        theirs.sendall((first + others)[: len(first) + rest])
        data = b""
        while len(data) < size:
            data += next(parts)
        assert data == b"x" * size
        theirs.sendall((first + others)[len(first) + rest :])
        assert list(parts) == [b"de"]


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.sampled_from([b"", b";name", b'; name="a b"']),
    st.sampled_from([b"", b"Name: value\r\n", b"A: b\r\nC: d\r\n"]),
    st.lists(st.integers(1, 30), min_size=1),
)
def test_chunks_come_in_any_pieces(
    chunks: List[bytes], extension: bytes, trailers: bytes, sizes: List[int]
) -> None:
    """What they carry comes out, and the body's end is its own, not the connection's."""
    extended = (chunk(data).replace(b"\r\n", extension + b"\r\n", 1) for data in chunks)
    raw = b"".join(extended) + b"0" + extension + b"\r\n" + trailers + b"\r\n"
    with streaming() as (stream, theirs, made):

        def send() -> None:
            start = 0
            for size in itertools.cycle(sizes):
                theirs.sendall(raw[start : start + size])
                start += size
                if start >= len(raw):
                    break

        sender = threading.Thread(target=send)
        sender.start()
        assert b"".join(stream) == b"".join(chunks)
        sender.join()
        assert made.given_back and made.sock.fileno() >= 0


def test_no_chunk() -> None:
    """What is not a body in chunks is an error."""
    with streaming() as (stream, theirs, made):
        theirs.sendall(b"<html>\r\n")
        with pytest.raises(k8r.ConnectionTrouble):
            list(stream)
        assert made.sock.fileno() < 0


def test_a_stream_of_known_length() -> None:
    """What has come of a body without chunks does not wait for the rest."""
    with streaming(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as (stream, theirs, made):
        parts = iter(stream)
        theirs.sendall(b"abc")
        assert next(parts) == b"abc"
        theirs.sendall(b"de")
        assert list(parts) == [b"de"]
        assert made.given_back


def test_a_stream_that_ends_with_its_connection() -> None:
    """As proxies that speak HTTP/1.0 send it."""
    with streaming(b"HTTP/1.0 200 OK\r\n\r\n") as (stream, theirs, _):
        parts = iter(stream)
        for data in (b"abc", b"d" * 5000):
            theirs.sendall(data)
            assert next(parts) == data
        theirs.close()
        assert list(parts) == []


def test_a_flood_comes_in_parts() -> None:
    """What is read at a time is bounded."""
    with streaming() as (stream, theirs, _):
        flood = chunk(b"x" * (1 << 18)) * 4
        threading.Thread(target=theirs.sendall, args=(flood,)).start()
        sizes: List[int] = []
        for data in stream:
            sizes.append(len(data))
            if sum(sizes) == 1 << 20:
                break
        assert max(sizes) <= k8r.STREAM_CHUNK


def test_a_stream_is_interrupted_below_the_encryption() -> None:
    """The reader is woken, and the socket stays its own to close."""
    with streaming(kind=Deciphering) as (stream, _, made):
        open_then: List[bool] = []
        made.close = lambda: open_then.append(made.sock.fileno() >= 0)  # type: ignore
        threading.Timer(0.1, stream.interrupt).start()
        with pytest.raises(k8r.ConnectionTrouble):
            list(stream)
        assert open_then and all(open_then)
