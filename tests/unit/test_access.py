"""Which kubeconfigs need the official client, and what the others give."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import socket
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Type

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

import k8r


def context(cluster: Dict[str, Any], user: Dict[str, Any]) -> Dict[str, Any]:
    """A kubeconfig reduced to one context."""
    server = {"server": "http://127.0.0.1:1/", **cluster}
    return {"clusters": [{"cluster": server}], "users": [{"user": user}]}


@pytest.mark.parametrize(
    "cluster, user, environ, plain",
    [
        ({}, {}, {}, True),
        ({}, {"token": "x"}, {}, True),
        ({}, {"tokenFile": "x"}, {}, True),
        ({"certificate-authority-data": "x"}, {"client-certificate": "x"}, {}, True),
        ({"tls-server-name": "x", "insecure-skip-tls-verify": True}, {}, {}, True),
        ({"proxy-url": ""}, {"exec": None}, {}, True),
        ({"proxy-url": "http://p"}, {}, {}, False),
        ({}, {"exec": {"command": "x"}}, {}, False),
        ({}, {"auth-provider": {"name": "oidc"}}, {}, False),
        ({}, {"username": "x", "password": "y"}, {}, False),
        ({}, {"as": "x"}, {}, False),
        ({}, {"token": "x", "tokenFile": "y"}, {}, False),
        ({}, {}, {"HTTPS_PROXY": "http://p"}, False),
        ({}, {}, {"https_proxy": "http://p"}, False),
        ({}, {}, {"NO_PROXY": "x"}, True),
    ],
)
def test_is_plain(cluster: Any, user: Any, environ: Any, plain: bool) -> None:
    """Certificates, a key, a token: more is the official client's."""
    assert k8r.is_plain(context(cluster, user), environ) is plain


def test_a_token() -> None:
    """It goes into the header; the URL has no slash at its end."""
    access = k8r.make_plain_access(context({}, {"token": "abc"}), False)
    assert (access.host, access.headers()) == (
        "http://127.0.0.1:1",
        {"Authorization": "Bearer abc"},
    )
    assert k8r.make_plain_access(context({}, {}), False).headers() == {}


def test_a_token_in_a_file(tmp_path: Path) -> None:
    """Without the newline that it ends with."""
    (tmp_path / "token").write_text("abc\n")
    access = k8r.make_plain_access(context({}, {"tokenFile": str(tmp_path / "token")}), False)
    assert access.headers() == {"Authorization": "Bearer abc"}


@pytest.mark.parametrize(
    "cluster, user",
    [
        ({"certificate-authority": "/does/not/exist"}, {}),
        ({"certificate-authority-data": "not base64!"}, {}),
        ({"certificate-authority-data": base64.b64encode(b"no PEM").decode()}, {}),
        ({}, {"client-certificate-data": base64.b64encode(b"no PEM").decode()}),
        ({}, {"tokenFile": "/does/not/exist"}),
    ],
)
def test_what_cannot_be_used(cluster: Any, user: Any) -> None:
    """One error that says what it is about."""
    with pytest.raises(k8r.K8rError) as caught:
        k8r.make_plain_access(context({"server": "https://127.0.0.1:1", **cluster}, user), False)
    assert "kubeconfig's certificates cannot be used" in caught.value.message
    assert caught.value.exit_code == 125


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
