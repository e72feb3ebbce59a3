"""What k8r asks a git server before a run: what it makes of the answer, and whom it tells what."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest

import k8r

ONE, TWO = "1" * 40, "2" * 40
MAIN = [f"{ONE} HEAD\0symref=HEAD:refs/heads/main\n", f"{ONE} refs/heads/main\n"]


def advertise(*lines: str) -> bytes:
    """A git server's answer, in pkt-lines."""
    parts = ["# service=git-upload-pack\n", "", *lines, ""]
    return b"".join(
        b"%04x%s" % (len(part) + 4, part.encode()) if part else b"0000" for part in parts
    )


class GitHost:
    """Answers in the way that it is told to, and remembers who asked with which login."""

    def __init__(self) -> None:
        self.asked: List[Tuple[str, str]] = []
        self.answer: Callable[[Any], None] = send(advertise(*MAIN))
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append((self.path, self.headers.get("Authorization", "")))
                with contextlib.suppress(OSError):
                    host.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, name: str = "127.0.0.1") -> str:
        """The URL of a repository."""
        return f"http://{name}:{self.server.server_port}/x.git"


def send(
    body: bytes, status: int = 200, headers: Optional[Dict[str, str]] = None
) -> Callable[[Any], None]:
    """Make an answer."""

    def answer(handler: Any) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture
def make_host() -> Iterator[Callable[[], GitHost]]:
    """Start servers, and stop them at the end."""
    hosts: List[GitHost] = []

    def make() -> GitHost:
        hosts.append(GitHost())
        return hosts[-1]

    yield make
    for host in hosts:
        host.server.shutdown()
        host.server.server_close()


@pytest.fixture
def host(make_host: Callable[[], GitHost]) -> GitHost:
    """One server."""
    return make_host()


def refused(url: str, ref: Optional[str] = None, login: Tuple[str, str] = ("", "")) -> str:
    """The error of a look-up."""
    with pytest.raises(k8r.UsageError) as caught:
        k8r.look_up_repository(url, ref, *login)
    return f"{caught.value.message}; {caught.value.hint}"


# What the answer says


def test_refs_of_a_server() -> None:
    """Names and commits; the first line carries the server's abilities, too."""
    for length in (40, 64):
        one, two = "1" * length, "2" * length
        head = f"{one} HEAD\0multi_ack symref=HEAD:refs/heads/main\n"
        answer = advertise(head, f"{one} refs/heads/main\n", f"{two} refs/tags/v1\n")
        expected = {"HEAD": one, "refs/heads/main": one, "refs/tags/v1": two}
        assert k8r.parse_refs(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<!DOCTYPE html>",
        f"{ONE}\trefs/heads/main\n".encode(),
        advertise("ERR access denied\n"),
        advertise(*MAIN)[:40] + b"zzzz",
    ],
    ids=["nothing", "html", "dumb", "refusal", "torn"],
)
def test_what_is_not_an_answer_of_git(host: GitHost, answer: bytes) -> None:
    """It is left to the cluster, and is not taken for an empty repository."""
    host.answer = send(answer)
    assert "its answer is not that of git" in k8r.look_up_repository(host.url(), None, "", "")


@pytest.mark.parametrize("lines", [(), (f"{'0' * 40} capabilities^{{}}\0multi_ack\n",)])
def test_empty_repository(host: GitHost, lines: Tuple[str, ...]) -> None:
    """A repository without a commit is refused before anything is made."""
    host.answer = send(advertise(*lines))
    assert "is empty" in refused(host.url())


def test_which_ref(host: GitHost) -> None:
    """A ref by its whole name or by any end of it that git knows; a commit may have none."""
    names = ("refs/heads/x/y", "refs/heads/rel", "refs/tags/rel", "refs/pull/7/head")
    host.answer = send(advertise(*MAIN, *(f"{TWO} {name}\n" for name in names)))
    for ref in (None, "HEAD", "main", "x/y", "heads/x/y", "tags/rel", "pull/7/head", *names):
        assert k8r.look_up_repository(host.url(), ref, "", "") == ""
    for ref in ("abcd1234", ONE, TWO * 2, "refs/changes/1/2"):
        assert k8r.look_up_repository(host.url(), ref[:64], "", "") == ""
    for ref in ("mai", "y", "pull/8/head", "refs/heads/gone", "refs/tags/main"):
        assert f"no branch, tag or commit '{ref}'" in refused(host.url(), ref)


def test_a_branch_and_a_tag_of_one_name(host: GitHost) -> None:
    """Nobody guesses which is meant; both whole names are offered."""
    host.answer = send(advertise(*MAIN, f"{ONE} refs/heads/rel\n", f"{TWO} refs/tags/rel\n"))
    said = refused(host.url(), "rel")
    assert "--ref refs/heads/rel" in said and "--ref refs/tags/rel" in said


# Who is told the login

LOGIN = ("me", "swordfish")
BASIC = "Basic " + base64.b64encode(b"me:swordfish").decode()


def test_login(host: GitHost) -> None:
    """The server that was named is told it, in UTF-8."""
    assert k8r.look_up_repository(host.url(), None, "m\u20ac", "\u65e5") == ""
    login = base64.b64decode(host.asked[0][1].partition(" ")[2]).decode()
    assert login == "m\u20ac:\u65e5"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"], ids=["port", "host"])
def test_redirect_to_another_host(make_host: Callable[[], GitHost], name: str) -> None:
    """Another host, or another port of it, is asked without the login."""
    first, second = make_host(), make_host()
    target = second if name == "127.0.0.1" else first
    away = send(b"", 302, {"Location": target.url(name) + "/info/refs"})
    first.answer = lambda handler: (
        send(advertise(*MAIN)) if handler.headers["Host"].startswith("localhost") else away
    )(handler)
    assert k8r.look_up_repository(first.url(), None, *LOGIN) == ""
    logins = [login for _, login in first.asked + second.asked]
    assert logins == [BASIC, ""]


def test_redirect_on_the_host(host: GitHost) -> None:
    """The host itself is told it again."""
    moved = send(b"", 301, {"Location": "/moved.git/info/refs"})
    host.answer = lambda handler: (
        send(advertise(*MAIN)) if handler.path.startswith("/moved") else moved
    )(handler)
    assert k8r.look_up_repository(host.url(), None, *LOGIN) == ""
    assert [login for _, login in host.asked] == [BASIC, BASIC]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("login", [LOGIN, ("", "")], ids=["login", "anonymous"])
def test_refusal_of_another_host(
    make_host: Callable[[], GitHost], status: int, login: Tuple[str, str]
) -> None:
    """The login, which that host has not seen, is not blamed."""
    first, second = make_host(), make_host()
    first.answer = send(b"", 302, {"Location": second.url() + "/info/refs"})
    second.answer = send(b"", status)
    said = refused(first.url(), None, login)
    assert f"leads to {k8r.get_origin(second.url())}, which asks for a login of its own" in said
    second.answer = send(b"", status)
    said = refused(second.url(), None, login)
    assert ("refuses the credentials" in said) == (login is LOGIN)


@pytest.mark.parametrize("redirected", [False, True])
def test_netrc(
    make_host: Callable[[], GitHost],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redirected: bool,
) -> None:
    """~/.netrc, which the cluster lacks, is not read, not for the target of a redirect either."""
    (tmp_path / "netrc").write_text("default login me password swordfish\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    first, second = make_host(), make_host()
    if redirected:
        first.answer = send(b"", 302, {"Location": second.url() + "/info/refs"})
    assert k8r.look_up_repository(first.url(), None, "", "") == ""
    assert [login for _, login in first.asked + second.asked] == ["", ""][: 1 + redirected]


# Bounds


def test_endless_answer(host: GitHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so much is read of it."""
    monkeypatch.setattr(k8r, "LOOKUP_SIZE", 1 << 20)
    sent = []

    def flood(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * (1 << 16))
            sent.append(1)

    host.answer = flood
    assert "its answer is too long" in k8r.look_up_repository(host.url(), None, "", "")
    assert len(sent) < 1000


@pytest.mark.parametrize("part", ["head", "body"])
def test_drip(host: GitHost, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """A server that never stops to send a little is left after a while."""
    monkeypatch.setattr(k8r, "LOOKUP_TIME", 1.0)
    done = threading.Event()

    def drip(handler: Any) -> None:
        handler.send_response(200)
        if part == "body":
            handler.end_headers()
        while not done.wait(0.1):
            handler.send_header("X", "y")
            handler.flush_headers()

    host.answer = drip
    said: List[str] = []
    asking = threading.Thread(
        target=lambda: said.append(k8r.look_up_repository(host.url(), None, "", "")), daemon=True
    )
    asking.start()
    asking.join(30)
    done.set()
    assert said and "no answer within 1 s" in said[0]


def test_redirects_without_end(host: GitHost) -> None:
    """They end."""
    host.answer = send(b"", 302, {"Location": "/again"})
    assert "cannot be checked from here" in k8r.look_up_repository(host.url(), None, *LOGIN)
    assert len(host.asked) < 50


def test_words_of_a_library(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expected is named, but not repeated: it may quote a token."""

    token = "Bearer swordfish\n"

    def fail(*args: Any) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", 9)
        connection.putrequest("GET", "/", skip_host=True)
        connection.putheader("Authorization", token)
        return 0

    monkeypatch.setattr(k8r, "dispatch", fail)
    assert k8r.main(["ls", "-v"]) == 125
    said = capsys.readouterr().err
    assert "internal error: ValueError" in said
    assert "swordfish" not in said
