"""Which kubeconfigs need the official client, and what the others give."""

from __future__ import annotations

import base64
import socket
import threading
import types
from pathlib import Path
from typing import Any, Dict

import pytest

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
    access = k8r.plain_access(context({}, {"token": "abc"}), False)
    assert (access.host, access.headers()) == (
        "http://127.0.0.1:1",
        {"Authorization": "Bearer abc"},
    )
    assert k8r.plain_access(context({}, {}), False).headers() == {}


def test_a_token_in_a_file(tmp_path: Path) -> None:
    """Without the newline that it ends with."""
    (tmp_path / "token").write_text("abc\n")
    access = k8r.plain_access(context({}, {"tokenFile": str(tmp_path / "token")}), False)
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
        k8r.plain_access(context({"server": "https://127.0.0.1:1", **cluster}, user), False)
    assert "kubeconfig's certificates cannot be used" in caught.value.message
    assert caught.value.exit_code == 125


class Deciphering(socket.socket):
    """Like an SSLSocket: after its own shutdown it would give what is still encrypted."""

    def shutdown(self, how: int) -> None:
        """What must not be called."""
        raise AssertionError("the socket reads on without decryption")


def stream_of(sock: socket.socket, piece: int) -> k8r.ByteStream:
    """The answer that comes over a socket, in pieces of so many bytes, and breaks off."""

    def read1(size: int) -> bytes:
        data = sock.recv(min(piece, size))
        if not data:
            raise ConnectionError("cut off")
        return data

    response = types.SimpleNamespace(
        connection=types.SimpleNamespace(sock=sock), _fp=types.SimpleNamespace(read1=read1)
    )
    return k8r.ByteStream(response, lambda error: k8r.ConnectionTrouble(str(error)))


def test_a_stream_gives_at_once_what_has_arrived() -> None:
    """Not piece by piece, and what came before it broke off is not lost."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = iter(stream_of(ours, piece=1))
        theirs.sendall(b"abc")
        assert next(stream) == b"abc"
        theirs.sendall(b"de")
        theirs.close()
        assert next(stream) == b"de"
        with pytest.raises(k8r.ConnectionTrouble):
            next(stream)


def test_a_stream_does_not_wait_for_more() -> None:
    """A line is there when it is, and a flood comes in parts."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = iter(stream_of(ours, piece=1 << 15))
        theirs.sendall(b"a")
        assert next(stream) == b"a"
        theirs.sendall(b"b")
        assert next(stream) == b"b"
        threading.Thread(target=theirs.sendall, args=(b"x" * (1 << 20),)).start()
        sizes = []
        while sum(sizes) < 1 << 20:
            sizes.append(len(next(stream)))
        assert max(sizes) <= k8r.STREAM_CHUNK + (1 << 15)


def test_a_stream_is_interrupted_below_the_encryption() -> None:
    """The reader is woken, and the socket stays its own to close."""
    ours, theirs = socket.socketpair()
    sock = Deciphering(fileno=ours.detach())
    stream = stream_of(sock, piece=1 << 16)
    threading.Timer(0.1, stream.interrupt).start()
    with pytest.raises(k8r.ConnectionTrouble):
        list(stream)
    assert sock.fileno() >= 0
    for each in (sock, theirs):
        each.close()
