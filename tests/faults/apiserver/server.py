"""A server that does to requests what rules say, whatever answers them otherwise."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set

from common import until

from .faults import Action, Fault, Match, Outage, Respond
from .messages import Answer, Request
from .resources import Obj
from .wire import Connection


class Server:
    """Listens on the loopback interface; a context manager."""

    def __init__(self) -> None:
        self.requests: List[Request] = []
        self.faults: List[Fault] = []
        self.outages: List[Outage] = []
        self.crashes: List[str] = []  # tracebacks of errors of the server itself
        self._hooks: List[Callable[[Request], None]] = []
        self._lock = threading.Lock()
        self._connections: Set[Connection] = set()
        self._timers: List[threading.Timer] = []
        self._up = threading.Event()
        self._closing = False
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._listener: socket.socket  # from `open` on
        self.port = 0

    def handle(self, request: Request) -> Answer:
        """Answer a request that no rule is about."""
        raise NotImplementedError

    # life

    def open(self) -> None:
        """Begin to listen."""
        self._bind()
        self._listen()
        self._acceptor.start()

    def close(self) -> None:
        """End all connections and threads."""
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        self._reset_everything()
        self._up.set()
        for thread in [self._acceptor, *self._timers, *self._open()]:
            thread.join(2.0)

    def check(self) -> None:
        """Raise what went wrong in the server itself."""
        if self.crashes:
            raise RuntimeError("the server crashed:\n" + "\n".join(self.crashes))

    def kubeconfig(
        self,
        path: Any,
        namespace: str = "default",
        context: str = "fake",
        user: Optional[Obj] = None,
    ) -> str:
        """Write a kubeconfig; `user` is its user entry, such as {"token": "t"}. Returns the path.

        It is JSON, which is YAML too.
        """
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": context, "cluster": {"server": self.url}}],
            "users": [{"name": context, "user": user or {}}],
            "contexts": [
                {
                    "name": context,
                    "context": {"cluster": context, "user": context, "namespace": namespace},
                }
            ],
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2)
        return str(path)

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self.port}"

    # what tests prepare

    def fault(self, match: Match, action: Action, nth: int = 1, times: Optional[int] = 1) -> Fault:
        """Add a fault rule."""
        rule = Fault(match, action, nth, times)
        self.faults.append(rule)
        return rule

    def hook(self, function: Callable[[Request], None]) -> None:
        """Call this for each request, recorded but not answered yet."""
        self._hooks.append(function)

    def outage(
        self,
        match: Match,
        answer: Respond,
        seconds: float,
        after: float = 0.0,
        begin: Optional[Match] = None,
        cut: str = "reset",
    ) -> Outage:
        """Add an outage, which begins `after` seconds from now, or from the first request that
        `begin` accepts.
        """
        made = Outage(match, answer, seconds, after, begin, cut)
        self.outages.append(made)
        return made

    def down(self, seconds: float) -> None:
        """Reset all connections and refuse new ones for a while; pods and Jobs go on."""
        self._up.clear()
        self._reset_everything()
        self._bind(self.port)
        timer = threading.Timer(seconds, self._listen)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    # what tests look at

    def matching(self, method: str, path: str = "", **query: Optional[str]) -> List[Request]:
        """The requests so far that a Match accepts."""
        match = Match(method, path, **query)
        with self._lock:
            return [request for request in self.requests if match.accepts(request)]

    def count(self, method: str, path: str = "", **query: Optional[str]) -> int:
        """How many requests a Match accepts."""
        return len(self.matching(method, path, **query))

    def wait(self, predicate: Callable[[], Any], timeout: float = 5.0) -> Any:
        """Wait until something is true, and return it."""
        return until(predicate, "what the test waits for", timeout, pause=0.01)

    @property
    def open_connections(self) -> int:
        """How many connections clients hold."""
        return len(self._open())

    # what connections use

    def record(
        self,
        method: str,
        path: str,
        query: Dict[str, str],
        headers: Dict[str, str],
        body: Any,
    ) -> Request:
        """Keep a request."""
        with self._lock:
            number = len(self.requests) + 1
            request = Request(number, time.time(), method, path, query, headers, body)
            self.requests.append(request)
        return request

    def run_hooks(self, request: Request) -> None:
        """Call the hooks."""
        for function in list(self._hooks):
            function(request)

    def action_for(self, request: Request) -> Optional[Action]:
        """The action of the first outage or fault rule that applies; every one counts the
        request.
        """
        with self._lock:
            due: List[Action] = [out.answer for out in self.outages if out.due(request)]
            due += [rule.action for rule in self.faults if rule.due(request)]
        return due[0] if due else None

    def cut_for(self, request: Request) -> Optional[str]:
        """How an outage cuts the answer to a request that came before it; None: it does not."""
        with self._lock:
            return next((out.cut for out in self.outages if out.cuts(request)), None)

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        with self._lock:
            self._connections.discard(connection)

    # the listening socket

    def _bind(self, port: int = 0) -> None:
        """Take the port without listening: clients are refused, and nobody else gets it."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]

    def _listen(self) -> None:
        if not self._closing:
            self._listener.listen(1024)
            self._up.set()

    def _accept(self) -> None:
        while not self._closing:
            self._up.wait()
            try:
                connection = Connection(self, self._listener.accept()[0])
            except OSError:
                continue
            with self._lock:
                self._connections.add(connection)
            if self._closing or not self._up.is_set():
                connection.kill()
            connection.start()

    def _open(self) -> List[Connection]:
        with self._lock:
            return list(self._connections)

    def _reset_everything(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for connection in self._open():
            connection.kill()
