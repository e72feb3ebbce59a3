"""Which kubeconfigs need the official client, and what the others give."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import socket
import threading
import types
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Type

import pytest
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


@contextlib.contextmanager
def streaming(
    head: bytes = HEAD, kind: Type[socket.socket] = socket.socket
) -> Iterator[Tuple[k8r.ByteStream, socket.socket]]:
    """An answer whose head has come over a socket, as http.client reads it, and the server's
    end of that.
    """
    pair = socket.socketpair()
    ours, theirs = kind(fileno=pair[0].detach()), pair[1]
    theirs.sendall(head)
    ours.settimeout(1)
    body = http.client.HTTPResponse(ours)
    body.begin()
    response = types.SimpleNamespace(
        connection=types.SimpleNamespace(sock=ours), _fp=body, release_conn=lambda: None
    )
    with ours, theirs, contextlib.closing(body):
        yield k8r.ByteStream(response, lambda error: k8r.ConnectionTrouble(str(error))), theirs


def test_a_stream_gives_at_once_what_has_arrived() -> None:
    """Not chunk by chunk, and what came before it broke off is not lost."""
    with streaming() as (stream, theirs):
        parts = iter(stream)
        lines = [b"%05d\n" % number for number in range(5000)]
        theirs.sendall(b"".join(map(chunk, lines)))
        found = [next(parts)]
        while sum(map(len, found)) < 30_000:
            found.append(next(parts))
        assert b"".join(found) == b"".join(lines)
        assert len(found) <= 5
        theirs.sendall(chunk(b"abc") + b"4\r\nde")
        theirs.close()
        assert next(parts) == b"abcde"
        with pytest.raises(k8r.ConnectionTrouble):
            next(parts)


@pytest.mark.parametrize("size", [3, 8186, 8187, 20_000], ids=str)
@pytest.mark.parametrize("rest", range(len(b"\r\n2\r\n") + 1))
def test_a_stream_does_not_wait_for_the_next_chunk(size: int, rest: int) -> None:
    """However much has arrived of what lies between two chunks, also where http.client's
    buffer of 8 KiB ends with the first.
    """
    with streaming() as (stream, theirs):
        parts = iter(stream)
        first, others = chunk(b"x" * size), chunk(b"de") + chunk(b"")
        split = len(first) - 2 + rest
        theirs.sendall((first + others)[:split])
        data = b""
        while len(data) < size:
            data += next(parts)
        assert data == b"x" * size
        theirs.sendall((first + others)[split:])
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
    """What they carry comes out at once, and the end of the body is known at its last byte."""
    extended = (chunk(data).replace(b"\r\n", extension + b"\r\n", 1) for data in chunks)
    raw = b"".join(extended) + b"0" + extension + b"\r\n" + trailers + b"\r\n"
    body, found, start = k8r.ChunkedBody(), b"", 0
    for size in itertools.cycle(sizes):
        if start >= len(raw):
            break
        assert not body.ended
        found += body.feed(raw[start : start + size])
        start += size
    assert found == b"".join(chunks)
    assert body.ended


def test_no_chunk() -> None:
    """What is no body in chunks is an error."""
    with pytest.raises(ValueError):
        k8r.ChunkedBody().feed(b"<html>\r\n")


def test_a_stream_of_known_length() -> None:
    """A short log comes in one piece, and not in chunks."""
    with streaming(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as (stream, theirs):
        parts = iter(stream)
        theirs.sendall(b"abc")
        assert next(parts) == b"abc"
        theirs.sendall(b"de")
        assert list(parts) == [b"de"]


def test_a_flood_comes_in_parts() -> None:
    """What is read at a time is bounded."""
    with streaming() as (stream, theirs):
        flood = chunk(b"x" * (1 << 15)) * 32
        threading.Thread(target=theirs.sendall, args=(flood,)).start()
        sizes: List[int] = []
        for data in stream:
            sizes.append(len(data))
            if sum(sizes) == 1 << 20:
                break
        assert max(sizes) <= 2 * k8r.STREAM_CHUNK


def test_a_stream_is_interrupted_below_the_encryption() -> None:
    """The reader is woken, and the socket stays its own to close."""
    with streaming(kind=Deciphering) as (stream, _):
        threading.Timer(0.1, stream.interrupt).start()
        with pytest.raises(k8r.ConnectionTrouble):
            list(stream)
        assert stream._sock.fileno() >= 0
