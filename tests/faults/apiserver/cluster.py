"""The whole: a server, the cluster behind it, and what tests do with them."""

from __future__ import annotations

import copy
import json
import socket
import threading
import time
import uuid
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from common import until

from .api import Api
from .collector import Collector
from .deployments import DeploymentController
from .faults import Action, Fault, Match
from .jobs import JobController
from .kubelet import Kubelet
from .messages import Request
from .resources import RESOURCES, Obj, key_of, now, owner_reference, unique
from .routes import Route
from .scheduler import Scheduler
from .scripts import PodScript, Timing
from .store import Store
from .wire import Connection


class FakeCluster:
    """The cluster that tests hold in their hands; a context manager.

    The scripts given here are played for every pod that `play` says nothing about: the first
    for a first attempt, the next for the next, the last one for all that follow.
    """

    def __init__(
        self,
        *scripts: PodScript,
        timing: Optional[Timing] = None,
        tokens: Optional[Set[str]] = None,
        stamp_partials: bool = False,
    ) -> None:
        self.timing = timing or Timing()
        self.tokens = tokens  # the valid bearer tokens; None: nobody has to show one
        self.stamp_partials = stamp_partials  # timestamps in mid-line, as old kubelets do
        self.denied: Set[str] = set()  # such as "create jobs" or "get pods/log"
        self.requests: List[Request] = []
        self.faults: List[Fault] = []
        self.crashes: List[str] = []  # tracebacks of errors of the fake itself
        self.store = Store()
        self.scheduler = Scheduler(self.store, self.crashes)
        self.kubelet = Kubelet(self)
        self.jobs = JobController(self)
        self.deployments = DeploymentController(self)
        self.collector = Collector(self)
        self.api = Api(self)
        self._scripts: Dict[Tuple[Optional[str], Optional[int]], Sequence[PodScript]] = {
            (None, None): scripts or (PodScript(),)
        }
        self._hooks: List[Callable[[Request], None]] = []
        self._lock = threading.Lock()
        self._connections: Set[Connection] = set()
        self._timers: List[threading.Timer] = []
        self._up = threading.Event()
        self._closing = False
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._listener: socket.socket  # from __enter__ on
        self.port = 0

    # life

    def __enter__(self) -> FakeCluster:
        parts = (self.kubelet, self.jobs, self.deployments, self.collector)
        self.store.listeners.extend(part.observe for part in parts)
        with self.store.lock:
            for name in ("default", "kube-system"):
                self.api.store_new(RESOURCES["namespaces"], "", {}, name)
                self.api.store_new(RESOURCES["serviceaccounts"], name, {}, "default")
        self._bind()
        self._listen()
        self.scheduler.start()
        self._acceptor.start()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        self.scheduler.stop()
        self._reset_everything()
        self._up.set()
        for thread in [self.scheduler, self._acceptor, *self._timers, *self._open()]:
            thread.join(2.0)
        if self.crashes and kind is None:
            raise RuntimeError("the fake cluster crashed:\n" + "\n".join(self.crashes))

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

    def play(
        self, *scripts: PodScript, job: Optional[str] = None, index: Optional[int] = None
    ) -> None:
        """Say what the pods of one Job (or Deployment, or one pod), of one index, or both do.

        One script for each attempt; the last one is repeated.
        """
        self._scripts[job, index] = scripts

    def fault(self, match: Match, action: Action, nth: int = 1, times: Optional[int] = 1) -> Fault:
        """Add a fault rule."""
        rule = Fault(match, action, nth, times)
        self.faults.append(rule)
        return rule

    def hook(self, function: Callable[[Request], None]) -> None:
        """Call this for each request, recorded but not answered yet."""
        self._hooks.append(function)

    def compact(self) -> None:
        """Forget the history: watches and list pages from before this moment get 410."""
        mark = {"annotations": {"compacted-at": str(self.store.version)}}
        with self.store.lock:
            self.store.amend(
                ("namespaces", "", "kube-system"), lambda it: it["metadata"].update(mark)
            )
            self.store.oldest = self.store.version

    def down(self, seconds: float) -> None:
        """Reset all connections and refuse new ones for a while; pods and Jobs go on."""
        self._up.clear()
        self._reset_everything()
        self._bind(self.port)
        timer = threading.Timer(seconds, self._listen)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    # what tests do as somebody else

    def create(self, plural: str, obj: Obj, namespace: str = "default") -> Obj:
        """Create an object without a recorded request."""
        return self._ask("POST", plural, namespace, "", obj)

    def patch(self, plural: str, name: str, patch: Obj, namespace: str = "default") -> Obj:
        """Merge-patch an object without a recorded request."""
        return self._ask("PATCH", plural, namespace, name, patch)

    def delete(self, plural: str, name: str, namespace: str = "default", **options: Any) -> Obj:
        """Delete an object without a recorded request; Background unless options say else."""
        options.setdefault("propagationPolicy", "Background")
        return self._ask("DELETE", plural, namespace, name, options)

    def _ask(self, method: str, plural: str, namespace: str, name: str, body: Obj) -> Obj:
        resource = RESOURCES[plural]
        route = Route(resource, namespace if resource.namespaced else "", name, "")
        headers = {"content-type": "application/merge-patch+json"}
        request = Request(0, time.time(), method, "", {}, headers, body)
        answer = self.api.direct(route, request)
        assert isinstance(answer.body, dict)
        return copy.deepcopy(answer.body)

    # what tests look at

    def objects(self, plural: str, namespace: Optional[str] = None) -> List[Obj]:
        """Copies of the objects of a kind, such as "jobs"."""
        with self.store.lock:
            return copy.deepcopy(self.store.select(plural, namespace, lambda obj: True))

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

    # what the parts of the cluster use

    def script(self, name: str, index: int, attempt: int) -> PodScript:
        """The script for a pod of this controller, this index, this attempt."""
        for key in ((name, index), (name, None), (None, index), (None, None)):
            if key in self._scripts:
                scripts = self._scripts[key]
                return scripts[min(attempt, len(scripts) - 1)]
        raise AssertionError("the last key is always there")

    def make_pod(
        self, owner: Obj, template: Obj, prefix: str, annotations: Mapping[str, str]
    ) -> Obj:
        """Create a pod for a controller, its annotations as labels too."""
        given = template.get("metadata") or {}
        meta = {
            "labels": {**(given.get("labels") or {}), **annotations},
            "annotations": {**(given.get("annotations") or {}), **annotations},
            "ownerReferences": [owner_reference(owner)],
            "generateName": prefix,
        }
        pod = {"metadata": meta, "spec": template["spec"]}
        return self.api.store_new(RESOURCES["pods"], key_of(owner)[0], pod, unique(prefix))

    def emit(self, about: Obj, reason: str, message: str, kind: str = "Normal") -> None:
        """Store an event."""
        namespace, name = key_of(about)
        meta, moment = about["metadata"], now()
        made = {
            "metadata": {},
            "involvedObject": {
                "kind": about["kind"],
                "apiVersion": about["apiVersion"],
                "namespace": namespace,
                "name": name,
                "uid": meta["uid"],
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "count": 1,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "source": {"component": "fake"},
        }
        self.api.store_new(RESOURCES["events"], namespace, made, f"{name}.{uuid.uuid4().hex[:16]}")

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
        """The action of the first fault rule that applies; every rule counts the request."""
        with self._lock:
            due = [rule.action for rule in self.faults if rule.due(request)]
        return due[0] if due else None

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
