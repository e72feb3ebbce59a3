"""HTTP/1.1 over a socket, with the breaks that faults ask for."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
import threading
import time
import traceback
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional
from urllib.parse import parse_qsl, urlsplit

from .api import gone_event
from .containerlog import TICK
from .faults import Action, Cut, Delay, Down, Gone, Reset, Respond, Split, Stall
from .messages import Answer, ApiError, Request, scripted_answer

if TYPE_CHECKING:
    from .server import Server

BODY_LIMIT = 3 * 1024 * 1024
GZIP_FROM = 128 * 1024


class Hangup(Exception):
    """The connection ends here."""


class Connection(threading.Thread):
    """One connection of a client: reads requests, answers them, and breaks where told to."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        super().__init__(name="fake-cluster-connection", daemon=True)
        self.server = server
        self.sock = sock
        self.dead = threading.Event()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send_timeout = struct.pack("ll", 0, int(TICK * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, send_timeout)
        self._reader = sock.makefile("rb")

    def run(self) -> None:
        """Serve until somebody hangs up."""
        try:
            while not self.dead.is_set():
                request = self._read()
                self._serve(request)
                if request.headers.get("connection", "").lower() == "close":
                    break
        except (OSError, Hangup):
            pass
        except Exception:  # told by the cluster when it closes
            self.server.crashes.append(traceback.format_exc())
        finally:
            self._reader.close()
            self.sock.close()
            self.server.forget(self)

    def kill(self) -> None:
        """Make the connection end with a reset, from whatever thread."""
        self.dead.set()
        try:
            self._reset_on_close()
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def reset(self) -> None:
        """End the connection with a reset, after what was sent has arrived."""
        time.sleep(0.02)
        self._reset_on_close()
        raise Hangup()

    def _reset_on_close(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def send(self, data: bytes) -> None:
        """Send everything, unless the connection is killed meanwhile."""
        view = memoryview(data)
        while view:
            if self.dead.is_set():
                raise Hangup()
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                pass

    def pause(self, seconds: float) -> None:
        """Wait, unless the connection ends meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.dead.wait(min(TICK, max(0.0, end - time.monotonic())))
            self.check()

    def check(self) -> None:
        """Hang up if the client has gone or the server is going down."""
        if self.dead.is_set():
            raise Hangup()
        try:
            if self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                raise Hangup()
        except BlockingIOError:
            pass

    def _read(self) -> Request:
        line = self._reader.readline()
        if not line:
            raise Hangup()
        method, target, _ = line.decode("latin-1").split(" ", 2)
        parsed = http.client.parse_headers(self._reader)
        headers = {name.lower(): value for name, value in parsed.items()}
        raw = self._reader.read(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return self.server.record(method, parts.path, query, headers, parse_body(raw))

    def _serve(self, request: Request) -> None:
        self.server.run_hooks(request)
        action = self.server.action_for(request)
        if isinstance(action, Down):
            self.server.down(action.seconds)
            raise Hangup()
        if isinstance(action, Delay):
            self.pause(action.seconds)
        if isinstance(action, Reset) and not action.applied:
            self.reset()
        if isinstance(action, Respond):
            answer = scripted_answer(action)
        elif int(request.headers.get("content-length", 0)) > BODY_LIMIT:
            answer = ApiError(413, f"Request entity too large: limit is {BODY_LIMIT}").answer()
        else:
            answer = self.server.handle(request)
        if isinstance(action, Reset):
            self.reset()
        Writer(self, action).answer(request, answer)


def parse_body(raw: bytes) -> Any:
    """A body as JSON if it is that."""
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw


class StreamEnded(Exception):
    """A fault has ended an answer; the connection is still good."""


class Writer:
    """Writes one answer, and does to it what a fault action says."""

    def __init__(self, connection: Connection, action: Optional[Action]) -> None:
        self.connection = connection
        self.split = action if isinstance(action, Split) else None
        self.plan = action if isinstance(action, (Stall, Cut, Gone)) else None
        self.chunked = False
        self.sent_bytes = 0
        self.sent_lines = 0

    def answer(self, request: Request, answer: Answer) -> None:
        """Write head and body."""
        plan = self.plan
        if isinstance(plan, Stall) and plan.after_lines is None and plan.after_bytes is None:
            self.plan = None
            self.connection.pause(plan.seconds)
        headers = {"Content-Type": answer.content_type, **answer.headers}
        body = answer.raw
        if body is None:
            body = json.dumps(answer.body, separators=(",", ":")).encode()
            if len(body) > GZIP_FROM and accepts_gzip(request):
                body = gzip.compress(body, 1)
                headers["Content-Encoding"] = "gzip"
        self.chunked = answer.stream is not None
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body))
        self._head(answer.status, headers)
        request.status = answer.status
        try:
            self._stream(request, answer.stream or iter([body]))
        except StreamEnded:
            pass
        if self.chunked:
            self.connection.send(b"0\r\n\r\n")

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        phrase = http.client.responses.get(status, "Unknown")
        date = datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
        common = {"Audit-Id": str(uuid.uuid4()), "Cache-Control": "no-cache, private", "Date": date}
        lines = [f"{name}: {value}\r\n" for name, value in {**common, **headers}.items()]
        self.connection.send(f"HTTP/1.1 {status} {phrase}\r\n{''.join(lines)}\r\n".encode())

    def _stream(self, request: Request, stream: Iterator[bytes]) -> None:
        self._write(b"")
        for data in stream:
            how = self.connection.server.cut_for(request) if self.chunked else None
            if how:
                self._cut(how)
            if data:
                self._write(data)
            else:
                self.connection.check()

    def _write(self, data: bytes) -> None:
        room = self._room(data)
        if room is None:
            self._put(data)
            return
        self._put(data[:room])
        self._act()
        self._put(data[room:])

    def _room(self, data: bytes) -> Optional[int]:
        """How much of this goes out before the action's position; None: all, and no action."""
        if self.plan is None:
            return None
        if self.plan.after_bytes is not None:
            room = self.plan.after_bytes - self.sent_bytes
            return room if room <= len(data) else None
        room = 0
        for _ in range((self.plan.after_lines or 0) - self.sent_lines):
            room = data.find(b"\n", room) + 1
            if room == 0:
                return None
        return room

    def _act(self) -> None:
        """Do what the action says at its position."""
        plan, self.plan = self.plan, None
        if isinstance(plan, Stall):
            self.connection.pause(plan.seconds)
        elif isinstance(plan, Gone):
            self._put(gone_event("made up by a fault rule"))
            raise StreamEnded()
        elif isinstance(plan, Cut):
            self._cut(plan.how)

    def _cut(self, how: str) -> None:
        """End the answer here."""
        if how == "reset":
            self.connection.reset()
        if how == "eof" and self.chunked:
            raise StreamEnded()
        self.connection.send(b"40\r\n" if self.chunked else b"")
        raise Hangup()

    def _put(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        self.sent_lines += data.count(b"\n")
        size = self.split.size if self.split else max(1, len(data))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            frame = b"%x\r\n%s\r\n" % (len(piece), piece) if self.chunked else piece
            self.connection.send(frame)
            if self.split and self.split.pause:
                self.connection.pause(self.split.pause)


def accepts_gzip(request: Request) -> bool:
    """Whether the client takes gzip."""
    return "gzip" in request.headers.get("accept-encoding", "")
