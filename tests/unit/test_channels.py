"""Channels to containers: frames both ways over a pair of sockets."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import tarfile
import threading
import time
import tty
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

import k8r

BINARY, CLOSE, PING, PONG = 0x82, 0x88, 0x89, 0x8A
OK = b'\x03{"status":"Success"}'


class Response:
    """What a server's answer to an upgrade has, after which ``early`` came with it."""

    def __init__(self, sock: socket.socket, version: str, early: bytes) -> None:
        self.headers = {"Sec-WebSocket-Protocol": f"{version}.channel.k8s.io"}
        self.sock = sock
        self.connection = self
        self._fp = self
        self.fp = io.BufferedReader(io.BytesIO(early))  # type: ignore[arg-type]

    def close(self) -> None:
        """As the last of it."""
        self.sock.close()


class Server:
    """The other end: reads and writes frames."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(20)
        self.sock = sock
        self.file = sock.makefile("rb")

    def read(self) -> Tuple[int, bytes]:
        """The next frame, unmasked."""
        first, size = self.file.read(2)
        assert size & 128, "a client masks what it sends"
        size &= 127
        if size == 126:
            (size,) = struct.unpack("!H", self.file.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.file.read(8))
        mask = self.file.read(4)
        return first, bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.file.read(size)))

    def take_all(self) -> bytes:
        """Read input to its end, and say so when asked."""
        data = b""
        for first, part in iter(self.read, (BINARY, b"\xff\x00")):
            data += part[1:] if first == BINARY else b""
            if first == PING:
                self.write(PONG, part)
        return data

    def write(self, first: int, data: bytes) -> None:
        """Send a frame."""
        self.sock.sendall(frame(first, data))


def frame(first: int, data: bytes) -> bytes:
    """A frame as servers send it."""
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack("!H", len(data))
    return bytes([first]) + size + data


@contextlib.contextmanager
def connect(
    source: bytes = b"", stdin: bool = False, version: str = "v5", early: bytes = b""
) -> Iterator[Tuple[k8r.Channel, Server]]:
    """A channel and the server of it; with ``stdin`` the source is its input."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    try:
        os.write(writing, source)
        os.close(writing)
        response = Response(ours, version, early)
        server = Server(theirs)
        yield k8r.Channel(response, reading if stdin else None), server
        server.file.close()
    finally:
        os.close(reading)
        ours.close()
        theirs.close()


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 127, 255, 256, 32_769, 65_535])
def test_frames_are_those_of_the_library(size: int) -> None:
    """Which has the mask as a function."""
    from websocket import ABNF

    data = b"\0" + os.urandom(size) if size else b""
    data = data[:size]
    sent = k8r.build_frame(k8r.BINARY, data)
    mask = sent[len(sent) - size - 4 : len(sent) - size]
    frame = ABNF(1, 0, 0, 0, ABNF.OPCODE_BINARY, 1, data)
    frame.get_mask_key = lambda length: mask
    assert frame.format() == sent
    assert k8r.build_frame(k8r.PING, data)[0] == 0x89


def test_output_in_frames_of_any_cut() -> None:
    """Channels are told apart, empty frames left out, and what came with the answer is first."""
    early = frame(BINARY, b"\x01") + frame(BINARY, b"\x01a\xff")
    with connect(early=early) as (channel, server):
        server.write(0x02, b"\x02be")
        server.write(0x80, b"gun")
        server.write(BINARY, b"\x01" + b"x" * 3_000)
        server.write(BINARY, OK)
        assert list(channel) == [(1, b"a\xff"), (2, b"be"), (2, b"gun"), (1, b"x" * 3_000)]
        assert channel.get_exit_code() == 0


def test_input_and_its_end() -> None:
    """The source is sent in small frames, then the end of it, whole under pings."""
    data = os.urandom(40_000)
    with connect(data, True) as (channel, server):
        got: List[Tuple[int, bytes]] = []

        def serve() -> None:
            server.write(PING, b"word")
            while not {(BINARY, b"\xff\x00"), (PONG, b"word")} <= set(got):
                got.append(server.read())
            server.write(BINARY, OK)

        thread = threading.Thread(target=serve)
        thread.start()
        assert not list(channel)
        thread.join()
    assert (PONG, b"word") in got
    frames = [payload for first, payload in got if first == BINARY]
    assert frames[-1] == b"\xff\x00"
    assert b"".join(payload[1:] for payload in frames[:-1]) == data
    assert max(map(len, frames)) <= k8r.CHANNEL_FRAME + 1


def test_the_end_of_input_where_it_cannot_be_told() -> None:
    """An old server is told the end of all instead."""
    with connect(b"", True, "v4") as (channel, server):

        def serve() -> None:
            assert server.read()[0] == CLOSE
            server.sock.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(k8r.ConnectionTrouble):
            list(channel)
        thread.join()


@pytest.mark.parametrize(
    "status, code",
    [
        ('{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}', 42),
        ('{"status":"Success"}', 0),
    ],
)
def test_exit_codes(status: str, code: int) -> None:
    """The status frame has them, in pieces or not."""
    with connect() as (channel, server):
        server.write(0x02, b"\x03" + status[:9].encode())
        server.write(0x80, status[9:].encode())
        assert (list(channel), channel.get_exit_code()) == ([], code)


@pytest.mark.parametrize(
    "message, code",
    [
        ('exec: \\"absent\\": executable file not found in $PATH', 127),
        ("exec /etc/passwd: permission denied", 126),
        ("the runtime is gone", 125),
    ],
)
def test_commands_that_do_not_start(message: str, code: int) -> None:
    """They have the exit codes of a shell, and are no connection's trouble."""
    with connect() as (channel, server):
        server.write(BINARY, f'\x03{{"status":"Failure","message":"{message}"}}'.encode())
        assert not list(channel)
        with pytest.raises(k8r.K8rError) as caught:
            channel.get_exit_code()
    assert caught.value.exit_code == code and not isinstance(caught.value, k8r.ConnectionTrouble)


@pytest.mark.parametrize("end", [frame(CLOSE, b""), b"", frame(BINARY, b"\x03{")[:3]])
def test_an_end_without_a_status(end: bytes) -> None:
    """It is an error, never a success."""
    with connect() as (channel, server):
        server.write(BINARY, b"\x01word")
        server.sock.sendall(end)
        server.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(k8r.ConnectionTrouble, match="lost"):
            list(channel)
            channel.get_exit_code()


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing for long is a lost connection."""
    monkeypatch.setattr(k8r, "SILENCE_LIMIT", 0.1)
    with connect() as (channel, _):
        with pytest.raises(k8r.ConnectionTrouble, match="silence"):
            list(channel)


def test_keys_into_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a terminal are always taken: without an answer the connection is lost."""
    monkeypatch.setattr(k8r, "SILENCE_LIMIT", 0.1)
    ours, theirs = socket.socketpair()
    keyboard, terminal = os.openpty()
    try:
        tty.setraw(terminal)
        os.write(keyboard, b"ls\r")
        with pytest.raises(k8r.ConnectionTrouble, match="silence"):
            list(k8r.Channel(Response(ours, "v5", b""), terminal))
    finally:
        for descriptor in (keyboard, terminal):
            os.close(descriptor)
        ours.close()
        theirs.close()


@pytest.mark.parametrize("data", [b"", b"word", b"\xff", "\u0662".encode()])
def test_an_answer_to_no_ping(data: bytes) -> None:
    """A server may send one unasked (RFC 6455, 5.5.3)."""
    with connect() as (channel, server):
        server.write(PONG, data)
        server.write(BINARY, OK)
        assert list(channel) == [] and channel.get_exit_code() == 0


def test_input_that_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no lost connection, since a command may take its time; it is said once."""
    monkeypatch.setattr(k8r, "SILENCE_LIMIT", 0.1)
    monkeypatch.setattr(k8r, "UNREAD_LIMIT", 0.1)
    said: List[str] = []
    with connect(b"word", True) as (channel, server):
        channel.warn = said.append

        def serve() -> None:
            # What comes does not say that the input is taken; the answer to a later ping does.
            server.write(BINARY, b"\x01out")
            server.write(PONG, b"0")
            frames = [server.read() for _ in range(4)]
            assert frames.count((PING, b"2")) == 2
            server.write(PONG, b"2")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(k8r.ConnectionTrouble, match="silence"):
            list(channel)
        thread.join()
    assert len(said) == 1 and "nothing comes from the command" in said[0]


@pytest.mark.parametrize("output", [b"", b"x"])
def test_much_input_that_nothing_follows(monkeypatch: pytest.MonkeyPatch, output: bytes) -> None:
    """Or little: a server that has taken it all may not know that the command did not, which is
    said once.
    """
    monkeypatch.setattr(k8r, "QUIET_LIMIT", 0.1)
    monkeypatch.setattr(k8r, "CHANNEL_FRAME", 1_000)
    said: List[str] = []
    told = threading.Event()

    def tell(text: str) -> None:
        said.append(text)
        told.set()

    with connect(b"x" * 4_000, True) as (channel, server):
        channel.warn = tell

        def serve() -> None:
            server.take_all()
            if output:
                server.write(BINARY, b"\1" + output)
            assert told.wait(10)
            time.sleep(0.6)
            server.write(BINARY, OK)

        thread = threading.Thread(target=serve)
        thread.start()
        assert b"".join(data for _, data in channel) == output
        assert channel.get_exit_code() == 0
        thread.join()
    assert len(said) == 1 and "Ctrl-C ends the wait" in said[0]


def test_small_pieces_that_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command may read lines and say nothing of them."""
    monkeypatch.setattr(k8r, "QUIET_LIMIT", 0.1)
    said: List[str] = []
    with connect(b"", True) as (channel, server):
        channel.warn = said.append
        reading, writing = os.pipe()
        channel._source = reading

        def serve() -> None:
            for _ in range(6):
                os.write(writing, b"line\n")
                time.sleep(0.1)
            server.write(BINARY, OK)

        thread = threading.Thread(target=serve)
        thread.start()
        assert list(channel) == [] and said == []
        thread.join()
        for descriptor in (reading, writing):
            os.close(descriptor)


def test_input_ahead_of_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is sent that was not read, less than the buffers on the way hold, so that the end
    of a command that reads no further is heard; to a reader that is fast, more.
    """
    monkeypatch.setattr(k8r, "CHANNEL_FRAME", 100)
    ahead: List[int] = []
    with connect(b"x" * 60_000, True) as (channel, server):

        def serve() -> None:
            answered = 0
            for first, data in iter(server.read, (BINARY, b"\xff\x00")):
                if first == PING:
                    if answered in (0, 320):
                        time.sleep(0.3)
                    ahead.append(channel.sent // 100 - answered)
                    answered = int(data)
                    server.write(PONG, data)
            server.write(BINARY, OK)

        thread = threading.Thread(target=serve)
        thread.start()
        assert list(channel) == [] and channel.get_exit_code() == 0
        thread.join()
    assert ahead[0] == 4
    assert max(ahead) == 64, ahead


def test_the_first_input_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the server has said that it read it, and some time more: a command that needs no
    more ends meanwhile, and nothing is on its way that could keep its status from coming.
    """
    monkeypatch.setattr(k8r, "CHANNEL_FRAME", 100)
    alone: List[int] = []
    with connect(b"x" * 2_000, True) as (channel, server):
        channel.first_pause = 1.0

        def serve() -> None:
            for _ in range(2):
                assert server.read()[0] == BINARY
                first, data = server.read()
                assert first == PING
                time.sleep(0.1)
                server.write(PONG, data)
                time.sleep(0.1)
                alone.append(channel.sent)
            assert len(server.take_all()) == 1_800
            server.write(BINARY, OK)

        thread = threading.Thread(target=serve)
        thread.start()
        assert list(channel) == [] and channel.get_exit_code() == 0
        thread.join()
    assert alone == [100, 200]


@pytest.mark.parametrize("size, hint", [(100, ""), (k8r.CHANNEL_FRAME, "read the rest")])
def test_a_connection_lost_in_the_midst_of_input(size: int, hint: str) -> None:
    """The error says what helps, if it may have been the command that wanted no more."""
    with connect(b"x" * size, True) as (channel, server):
        channel.first_pause = 0.1

        def serve() -> None:
            server.read()
            server.sock.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(k8r.ConnectionTrouble) as caught:
            list(channel)
        thread.join()
    assert hint in caught.value.hint and bool(hint) == bool(caught.value.hint)


def test_small_pieces_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for an answer nor for time, whatever was sent before."""
    monkeypatch.setattr(k8r, "CHANNEL_FRAME", 100)
    with connect(b"", True) as (channel, server):
        reading, writing = os.pipe()
        channel._source = reading
        channel.first_pause = 60

        def serve() -> None:
            for _ in range(40):
                os.write(writing, b"x" * 10)
                frame = server.read()
                while frame[0] == PING:
                    server.write(PONG, frame[1])
                    frame = server.read()
                assert frame == (BINARY, b"\0" + b"x" * 10)
            server.write(BINARY, OK)

        thread = threading.Thread(target=serve)
        thread.start()
        assert list(channel) == [] and channel.get_exit_code() == 0
        thread.join()
        for descriptor in (reading, writing):
            os.close(descriptor)


def test_little_input_does_not_wait() -> None:
    """Nor does its end."""
    with connect(b"x" * 50, True) as (channel, server):
        channel.first_pause = 60

        def serve() -> None:
            assert server.take_all() == b"x" * 50
            server.write(BINARY, OK)

        thread = threading.Thread(target=serve)
        thread.start()
        assert list(channel) == [] and channel.get_exit_code() == 0
        thread.join()


def tell(channel: k8r.Channel, server: Server, parts: List[Tuple[int, bytes]], code: str) -> None:
    """Have a server write these parts and then how its command has ended, "" for not at all."""
    for number, data in parts:
        server.write(BINARY, bytes([number]) + data)
    if code:
        cause = f'{{"reason":"ExitCode","message":"{code}"}}'
        text = f'\x03{{"status":"Failure","details":{{"causes":[{cause}]}}}}'
        server.write(BINARY, OK if code == "0" else text.encode())
    server.sock.shutdown(socket.SHUT_WR)


def pack(*names: str) -> bytes:
    """An archive of small files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"1\n"))
    return file.getvalue()


WHOLE = pack("./d/a", "./d/b")


@pytest.mark.parametrize(
    "parts, code, here, words",
    [
        ([(1, WHOLE)], "0", ["a", "b"], ""),
        ([(1, WHOLE), (2, b"tar: ./d/c: Permission denied\n")], "2", ["a", "b"], "not all"),
        ([(1, WHOLE[:1024])], "137", [], "damaged"),
        ([(1, WHOLE)], "", [], "lost"),
        ([(1, WHOLE[:1024])], "0", [], "damaged"),
        ([(2, b"tar: ./d/b: shrank; padd"), (2, b"ing with zeros"), (1, WHOLE)], "1", [], "small"),
        ([(1, pack())], "1", [], "nothing of it"),
    ],
)
def test_what_a_failed_tar_leaves(
    tmp_path: Path, parts: List[Tuple[int, bytes]], code: str, here: List[str], words: str
) -> None:
    """Whole files or none of them, and an error that tells which."""
    console = k8r.Console(k8r.Environment.of_process(), True, False, "never")
    with connect() as (channel, server):
        tell(channel, server, parts, code)
        with contextlib.ExitStack() as stack:
            if words:
                stack.enter_context(pytest.raises(k8r.K8rError, match=words))
            k8r.copy_here(channel, "tmp/d", str(tmp_path / "got"), console)
    assert [path.name for path in sorted(tmp_path.rglob("*")) if path.is_file()] == here


@pytest.mark.parametrize(
    "size, code, whole",
    [(b"%20d" % 30_000, "0", True), (b" " * 20, "0", True), (b"%20d" % 30_001, "0", False)]
    + [(b"", "1", False), (b"%20d" % 30_000, "", False)],
)
def test_a_file_to_standard_output(size: bytes, code: str, whole: bool) -> None:
    """All of it, and nothing else; what is missing is an error."""
    env = k8r.Environment.of_process()._replace(stdout=io.BytesIO())
    console = k8r.Console(env, True, False, "never")
    data = os.urandom(30_000)
    with connect() as (channel, server):
        tell(channel, server, [(1, data[:7]), (1, data[7:] + size[:3]), (1, size[3:])], code)
        with contextlib.ExitStack() as stack:
            if not whole:
                stack.enter_context(pytest.raises(k8r.K8rError))
            k8r.copy_out(channel, console)
    written = env.stdout.getvalue()  # type: ignore[attr-defined]
    assert data.startswith(written) and (written == data or not whole)


def test_results_whose_container_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server of Kubernetes 1.30 opens the channel, and says so in it."""
    results = k8r.Results(
        None, None, (("results", ""),), str(tmp_path), False  # type: ignore[arg-type]
    )
    spool = k8r.Spool({})
    spool.size = 2 * k8r.LOG_LIMIT
    with connect() as (channel, server):
        monkeypatch.setattr(results, "_exec", lambda *words: channel)
        server.write(BINARY, b'\x03{"status":"Failure","message":"container not found"}')
        with pytest.raises(k8r.K8rError) as caught:
            list(results._fetch(spool))
    results._store.close()
    assert "--hold" in caught.value.hint


def test_results_go_on_where_a_channel_told_of_a_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an API server says of a node in mid-way is no end of it."""
    results = k8r.Results(
        None, None, (("results", ""),), str(tmp_path), False  # type: ignore[arg-type]
    )
    spool, asked = k8r.Spool({}), []
    spool.size = 4
    with connect() as (first, server), connect() as (second, other):

        def run(_pod: object, _script: str, start: str) -> k8r.Channel:
            asked.append(start)
            return second if asked[1:] else first

        monkeypatch.setattr(results, "_exec", run)
        server.write(BINARY, b"\x01ab")
        server.write(BINARY, b'\x03{"status":"Failure","message":"error dialing backend: EOF"}')
        other.write(BINARY, b"\x01cd")
        other.write(BINARY, OK)
        assert b"".join(results._fetch(spool)) == b"abcd"
    results._store.close()
    assert asked == ["1", "3"]
