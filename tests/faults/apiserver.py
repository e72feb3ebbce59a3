"""A Kubernetes API server on the loopback interface that misbehaves on request.

It speaks the real wire format over plain HTTP/1.1: keep-alive, chunked watches and logs,
`Status` objects for errors. Behind it a small simulation plays the Job controller, the
Deployment controller, the garbage collector and the kubelet; what a pod does is written down
in a `PodScript`. `Fault` rules say which requests go wrong and how.

    with FakeCluster(PodScript(lines=["hello"], exit_code=3)) as cluster:
        cluster.fault(Match("GET", r"/log$", follow="true"), Cut("reset", after_lines=1))
        subprocess.run(["k8r", "--kubeconfig", cluster.kubeconfig(path), "./", "--", "true"])
        assert cluster.count("POST", r"/jobs$") == 1
"""

from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import heapq
import http.client
import itertools
import json
import random
import re
import socket
import struct
import threading
import time
import traceback
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any, Callable, Dict, Generator, Iterator, List, Mapping, Optional, Sequence
from typing import Set, Tuple, Union
from urllib.parse import parse_qsl, urlsplit

Obj = Dict[str, Any]
Key = Tuple[str, str, str]  # plural, namespace, name
Predicate = Callable[[Obj], bool]
Steps = Iterator[float]

FIRST_VERSION = 1000
BODY_LIMIT = 3 * 1024 * 1024
VALUE_LIMIT = 1024 * 1024
GZIP_FROM = 128 * 1024
LOG_ENTRY_LIMIT = 16 * 1024
TICK = 0.1
NOBODY = -1  # the index of a pod whose Job is not Indexed


# ---------------------------------------------------------------- what a pod does


@dataclass(frozen=True)
class Line:
    """One line of output, or a part of one when `newline` is false."""

    text: Union[str, bytes]
    delay: float = 0.0  # seconds before it is written
    newline: bool = True
    stamp: Optional[int] = None  # nanoseconds since the epoch; the moment of writing by default

    def data(self) -> bytes:
        """The bytes that the container writes."""
        raw = self.text.encode("utf-8") if isinstance(self.text, str) else self.text
        return raw + b"\n" if self.newline else raw


Output = Sequence[Union[str, bytes, Line]]


def numbered(count: int, delay: float = 0.0, text: str = "line {}") -> List[Line]:
    """`count` numbered lines, counted from 1, `delay` seconds apart."""
    return [Line(text.format(number), delay) for number in range(1, count + 1)]


@dataclass(frozen=True)
class PodScript:
    """What happens to one pod, or to one run of a container that is restarted in place.

    With restartPolicy Always a container that would exit with 0 keeps running instead.
    """

    lines: Output = ()
    exit_code: int = 0
    run: float = 0.0  # seconds between the last line and the exit
    reason: Optional[str] = None  # of the terminated container, such as OOMKilled
    pod_reason: Optional[str] = None  # status.reason of a failed pod, such as Evicted
    message: str = ""  # goes with reason, pod_reason or waiting
    init_lines: Output = ()  # of the first init container, if the pod has one
    init_exit_code: int = 0
    refused: Optional[str] = None  # the pod cannot be created: FailedCreate with this message
    unschedulable: Optional[str] = None  # stays Pending: FailedScheduling with this message
    waiting: Optional[str] = None  # waits with this reason, such as ImagePullBackOff
    hold: Optional[float] = None  # how long unschedulable or waiting lasts; None: for ever
    deleted_after: Optional[int] = None  # somebody deletes the pod after this many lines
    stuck: bool = False  # once deleted it stays Terminating until gracePeriodSeconds=0


@dataclass
class Timing:
    """Seconds that each part of the cluster takes."""

    schedule: float = 0.02  # Pending to bound
    start: float = 0.02  # bound to running, also between init containers
    phase: float = 0.05  # container terminated to phase Succeeded or Failed
    condition: float = 0.1  # SuccessCriteriaMet to Complete, FailureTarget to Failed
    retry: float = 0.05  # a failure to the next attempt
    collect: float = 0.02  # an owner's end to the end of what it owned
    terminate: float = 0.05  # a pod's deletion to its end


# ---------------------------------------------------------------- what goes wrong


@dataclass(frozen=True)
class Respond:
    """Answer with this status instead of doing what was asked."""

    status: int
    message: str = "made up by a fault rule"
    retry_after: Optional[int] = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None  # a Status object by default


@dataclass(frozen=True)
class Reset:
    """Reset the connection instead of answering; `applied`: the request takes effect first."""

    applied: bool = False


@dataclass(frozen=True)
class Delay:
    """Wait before the request takes effect, then answer normally."""

    seconds: float


@dataclass(frozen=True)
class Stall:
    """Send nothing for a while on an open connection, then go on.

    Without a position the request has taken effect and even the status line is held back.
    Lines are those of a log, or the events of a watch.
    """

    seconds: float
    after_lines: Optional[int] = None
    after_bytes: Optional[int] = None


@dataclass(frozen=True)
class Cut:
    """End an answer in its middle.

    `how`: "reset" (TCP RST), "eof" (a proper last chunk, as if all had been said), or
    "truncate" (a chunk that announces more than it brings, then FIN).
    """

    how: str
    after_lines: Optional[int] = None
    after_bytes: Optional[int] = None


@dataclass(frozen=True)
class Gone:
    """Put an ERROR event with a 410 Status into a watch and end it."""

    after_lines: int = 0
    after_bytes: Optional[int] = None


@dataclass(frozen=True)
class Split:
    """Send the body in chunks of `size` bytes, each in its own packet, `pause` seconds apart."""

    size: int = 1
    pause: float = 0.0


@dataclass(frozen=True)
class Down:
    """Take the whole server down instead of answering: refuse and reset for some seconds."""

    seconds: float


Action = Union[Respond, Reset, Delay, Stall, Cut, Gone, Split, Down]


class Match:
    """Which requests a rule is about: method, a regex searched in the path, query values.

    A query value None asks that the parameter is absent.
    """

    def __init__(self, method: str = "", path: str = "", **query: Optional[str]) -> None:
        self.method = method
        self.path = re.compile(path)
        self.query = query

    def accepts(self, request: Request) -> bool:
        """Whether the request is one of these."""
        if self.method and request.method != self.method:
            return False
        if not self.path.search(request.path):
            return False
        return all(request.query.get(name) == value for name, value in self.query.items())


@dataclass
class Fault:
    """A rule: from the `nth` matching request on (1 is the first), `times` times, do `action`.

    Every rule counts every request it matches; of the rules that are due the first one acts.
    """

    match: Match
    action: Action
    nth: int = 1
    times: Optional[int] = 1  # None: for ever
    seen: int = field(default=0, init=False)

    def due(self, request: Request) -> bool:
        """Count the request if it matches, and tell whether the rule applies to it."""
        if not self.match.accepts(request):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)


# ---------------------------------------------------------------- requests and answers


@dataclass
class Request:
    """One request as the server received it."""

    number: int  # 1 is the first of this server
    time: float
    method: str
    path: str
    query: Dict[str, str]
    headers: Dict[str, str]  # names in lower case
    body: Any  # parsed JSON; raw bytes when it is not JSON; None when there is none
    status: Optional[int] = None  # of the answer, once its head is sent

    @property
    def user_agent(self) -> str:
        """The User-Agent header."""
        return self.headers.get("user-agent", "")


@dataclass
class Answer:
    """An answer: a JSON body, or a stream of bytes in which b"" means 'nothing yet'."""

    status: int
    body: Any = None
    headers: Dict[str, str] = field(default_factory=dict)
    stream: Optional[Iterator[bytes]] = None
    content_type: str = "application/json"


REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """A refusal, told to the client as a Status object."""

    def __init__(
        self,
        code: int,
        message: str,
        reason: Optional[str] = None,
        details: Optional[Obj] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})
        self.status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or REASONS.get(code, "Unknown"),
            "code": code,
        }
        if details:
            self.status["details"] = details

    def answer(self) -> Answer:
        """The answer that carries it."""
        return Answer(self.code, self.status, self.headers)


def scripted_answer(action: Respond) -> Answer:
    """The answer that a Respond action asks for."""
    headers, details = dict(action.headers), None
    if action.retry_after is not None:
        headers["Retry-After"] = str(action.retry_after)
        details = {"retryAfterSeconds": action.retry_after}
    if action.body is not None:
        return Answer(action.status, action.body, headers)
    return ApiError(action.status, action.message, None, details, headers).answer()


# ---------------------------------------------------------------- resources


@dataclass(frozen=True)
class Resource:
    """A kind of object and where it lives."""

    plural: str
    kind: str
    group: str = ""
    namespaced: bool = True
    status: bool = False  # has a status that ordinary writes leave alone

    @property
    def api_version(self) -> str:
        """Such as batch/v1."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """The name in messages, such as jobs.batch."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


RESOURCES = {
    resource.plural: resource
    for resource in (
        Resource("jobs", "Job", "batch", status=True),
        Resource("pods", "Pod", status=True),
        Resource("configmaps", "ConfigMap"),
        Resource("secrets", "Secret"),
        Resource("events", "Event"),
        Resource("services", "Service"),
        Resource("serviceaccounts", "ServiceAccount"),
        Resource("namespaces", "Namespace", namespaced=False, status=True),
        Resource("deployments", "Deployment", "apps", status=True),
        Resource("replicasets", "ReplicaSet", "apps", status=True),
    )
}


def now() -> str:
    """The present moment as Kubernetes writes it, in whole seconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def nano_stamp(stamp: int) -> str:
    """Nanoseconds since the epoch as the kubelet writes them: nine digits, always."""
    seconds, nanos = divmod(stamp, 10**9)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


def parse_moment(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time, its fraction dropped as the server does."""
    whole = re.sub(r"\.\d+", "", text).replace("Z", "+00:00")
    try:
        return datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        raise ApiError(400, f"parsing time {json.dumps(text)}: cannot parse") from None


def owner_uids(obj: Optional[Obj]) -> List[str]:
    """The UIDs that an object names as its owners."""
    return [
        ref["uid"] for ref in (obj or {"metadata": {}})["metadata"].get("ownerReferences") or ()
    ]


def owner_reference(owner: Obj) -> Obj:
    """The reference that a controller puts into what it creates."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> Obj:
    """An entry for status.conditions."""
    made = {"type": kind, "status": status, "lastProbeTime": now(), "lastTransitionTime": now()}
    return {**made, **({"reason": reason, "message": message} if reason else {})}


def has_condition(obj: Obj, *kinds: str) -> bool:
    """Whether one of these conditions is true."""
    conditions = obj.get("status", {}).get("conditions", ())
    return any(item["type"] in kinds and item["status"] == "True" for item in conditions)


def ranges(indexes: Set[int]) -> str:
    """Indexes as Job status writes them: 0,2-4."""
    parts: List[List[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


# ---------------------------------------------------------------- selectors


def label_selector(text: str) -> Predicate:
    """The predicate of a labelSelector."""
    terms = [_label_term(term.strip()) for term in re.split(r",(?![^(]*\))", text) if term.strip()]
    return lambda obj: all(term(obj["metadata"].get("labels") or {}) for term in terms)


def _label_term(term: str) -> Predicate:
    """One requirement of a labelSelector, as a predicate on the labels."""
    match = re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", term)
    if match:
        name, word, values = match[1], match[2], {v.strip() for v in match[3].split(",")}
        return lambda labels: (labels.get(name) in values) == (word == "in")
    match = re.fullmatch(r"([^!=\s]+)\s*(!=|==?)\s*(\S*)", term)
    if match:
        name, word, value = match[1], match[2], match[3]
        return lambda labels: (labels.get(name) == value) == (word != "!=")
    match = re.fullmatch(r"(!?)([\w./-]+)", term)
    if match:
        absent, name = bool(match[1]), match[2]
        return lambda labels: (name in labels) != absent
    raise ApiError(400, f"unable to parse requirement: {term}")


FIELDS = {
    "pods": {"status.phase", "spec.nodeName", "spec.restartPolicy"},
    "jobs": {"status.successful"},
    "secrets": {"type"},
    "namespaces": {"status.phase"},
    "events": {f"involvedObject.{name}" for name in ("uid", "name", "kind", "namespace")}
    | {"reason", "type"},
}


def field_selector(text: str, plural: str) -> Predicate:
    """The predicate of a fieldSelector; only the fields that the real server knows."""
    terms: List[Tuple[List[str], bool, str]] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([\w.]+)(!=|==?)(.*)", term)
        if not match:
            raise ApiError(400, f"invalid selector: '{term}'; can't understand '{term}'")
        if match[1] not in {"metadata.name", "metadata.namespace"} | FIELDS.get(plural, set()):
            raise ApiError(400, f"field label not supported: {match[1]}")
        terms.append((match[1].split("."), match[2] != "!=", match[3]))

    def accepts(obj: Obj) -> bool:
        return all((_field(obj, path) == value) == wanted for path, wanted, value in terms)

    return accepts


def _field(obj: Any, path: Sequence[str]) -> str:
    for name in path:
        obj = obj.get(name, "") if isinstance(obj, dict) else ""
    return str(obj)


# ---------------------------------------------------------------- patches


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


# ---------------------------------------------------------------- the store


@dataclass(frozen=True)
class Record:
    """One change, as watches tell it."""

    plural: str
    old: Optional[Obj]
    new: Optional[Obj]
    last: Obj  # the object after the change; a deleted one in its last shape


class Store:
    """All objects and the history of their changes. Objects in it are never changed in place."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.objects: Dict[Key, Obj] = {}
        self.uids: Dict[str, Key] = {}
        self.owned: Dict[str, Set[Key]] = {}  # by the owner's UID
        self.history: List[Record] = []
        self.oldest = FIRST_VERSION  # watches from before this get 410
        self.listeners: List[Callable[[Record], None]] = []

    @property
    def version(self) -> int:
        """The resourceVersion of the latest change."""
        return FIRST_VERSION + len(self.history)

    def since(self, version: int) -> List[Record]:
        """The changes after a resourceVersion."""
        return self.history[max(0, version - FIRST_VERSION) :]

    def select(self, plural: str, namespace: Optional[str], accepts: Predicate) -> List[Obj]:
        """The objects of a kind that a predicate accepts, ordered by namespace and name."""
        keys = sorted(k for k in self.objects if k[0] == plural and namespace in (None, k[1]))
        return [self.objects[key] for key in keys if accepts(self.objects[key])]

    def by_uid(self, uid: str) -> Optional[Obj]:
        """The object with a UID."""
        return self.objects.get(self.uids.get(uid, ("", "", "")))

    def dependents(self, uid: str) -> List[Key]:
        """What names a UID as its owner."""
        return sorted(self.owned.get(uid, ()))

    def put(self, key: Key, obj: Obj) -> Obj:
        """Store an object under a new resourceVersion; nothing happens if nothing changed."""
        old = self.objects.get(key)
        if old == obj:
            return obj
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(self.version + 1)
        self.objects[key] = obj
        self.uids[obj["metadata"]["uid"]] = key
        self._index_owners(key, old, obj)
        self._record(Record(key[0], old, obj, obj))
        return obj

    def remove(self, key: Key) -> Obj:
        """Remove an object."""
        old = self.objects.pop(key)
        self.uids.pop(old["metadata"]["uid"])
        self._index_owners(key, old, None)
        last = copy.deepcopy(old)
        last["metadata"]["resourceVersion"] = str(self.version + 1)
        self._record(Record(key[0], old, None, last))
        return last

    def amend(self, key: Key, change: Callable[[Obj], None]) -> Obj:
        """Change a copy of an object and store it."""
        obj = copy.deepcopy(self.objects[key])
        change(obj)
        return self.put(key, obj)

    def _index_owners(self, key: Key, old: Optional[Obj], new: Optional[Obj]) -> None:
        for uid in owner_uids(old):
            self.owned[uid].discard(key)
        for uid in owner_uids(new):
            self.owned.setdefault(uid, set()).add(key)

    def _record(self, record: Record) -> None:
        self.history.append(record)
        self.changed.notify_all()
        for listener in self.listeners:
            listener(record)


# ---------------------------------------------------------------- the simulated cluster


class Vanished(Exception):
    """The pod that a simulation works for is gone or going."""


class Scheduler(threading.Thread):
    """Runs simulations: generators that yield the seconds until their next step.

    Every step runs under the store's lock.
    """

    def __init__(self, store: Store, crashes: List[str]) -> None:
        super().__init__(name="fake-cluster-scheduler", daemon=True)
        self.wake = threading.Condition(store.lock)
        self.crashes = crashes
        self.stopped = False
        self._queue: List[Tuple[float, int, Steps]] = []
        self._order = itertools.count()

    def spawn(self, steps: Steps, delay: float = 0.0) -> None:
        """Start a simulation after a delay."""
        with self.wake:
            heapq.heappush(self._queue, (time.monotonic() + delay, next(self._order), steps))
            self.wake.notify()

    def call(self, function: Callable[[], Any], delay: float = 0.0) -> None:
        """Call a function after a delay."""

        def steps() -> Steps:
            function()
            yield from ()

        self.spawn(steps(), delay)

    def stop(self) -> None:
        """End the thread."""
        with self.wake:
            self.stopped = True
            self.wake.notify()

    def run(self) -> None:
        """Take one step after the other."""
        while not self.stopped:
            with self.wake:
                due = self._queue[0][0] - time.monotonic() if self._queue else None
                if due is None or due > 0:
                    self.wake.wait(due)
                elif not self.stopped:
                    self._step(heapq.heappop(self._queue)[2])

    def _step(self, steps: Steps) -> None:
        try:
            self.spawn(steps, next(steps))
        except (StopIteration, Vanished):
            pass
        except Exception:  # told by the cluster when it closes
            self.crashes.append(traceback.format_exc())


class ContainerLog:
    """What one run of a container has written, as the container runtime keeps it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.entries: List[Tuple[int, bytes]] = []
        self.closed = False

    def append(self, line: Line) -> None:
        """Keep a line; what is too long for one entry is kept in several."""
        stamp = time.time_ns() if line.stamp is None else line.stamp
        data = line.data()
        with self.changed:
            for start in range(0, len(data), LOG_ENTRY_LIMIT):
                self.entries.append((stamp, data[start : start + LOG_ENTRY_LIMIT]))
            self.changed.notify_all()

    def close(self) -> None:
        """Say that nothing will follow."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def follow(self, position: int) -> Iterator[List[Tuple[int, bytes]]]:
        """The entries from a position on until the log is closed; an empty list is a tick."""
        while True:
            with self.changed:
                if position == len(self.entries) and not self.closed:
                    self.changed.wait(TICK)
                fresh, closed = self.entries[position:], self.closed
            position += len(fresh)
            yield fresh
            if closed:
                return


FOREVER = 1e8
WAITING_CREATE = {"waiting": {"reason": "ContainerCreating"}}


class Kubelet:
    """Takes pods through their lives as their scripts say."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.store = cluster.store
        self.timing = cluster.timing
        self.logs: Dict[Tuple[str, str], List[ContainerLog]] = {}  # by pod UID and container
        self.stuck: Set[str] = set()

    def observe(self, record: Record) -> None:
        """Start pods that no controller made, and drop the logs of pods that are gone."""
        if record.plural != "pods":
            return
        meta = record.last["metadata"]
        if record.new is None:
            for key in [key for key in self.logs if key[0] == meta["uid"]]:
                self.logs.pop(key)[-1].close()
        elif record.old is None and not owner_uids(record.last):
            self.start(record.last, meta["name"], NOBODY, 0)

    def start(self, pod: Obj, controller: str, index: int, attempt: int) -> None:
        """Begin a pod's life."""
        uid = pod["metadata"]["uid"]
        self.cluster.scheduler.spawn(self._life(uid, controller, index, attempt))

    def terminate(self, uid: str) -> Steps:
        """End a pod that was deleted while it ran."""
        yield self.timing.terminate
        pod = self.store.by_uid(uid)
        if pod is None:
            return
        for key, logs in self.logs.items():
            if key[0] == uid:
                logs[-1].close()
        if pod["status"]["phase"] == "Running":
            self._set_state(uid, "containerStatuses", terminated(143, "Error", ""))
            self._amend(uid, lambda it: it["status"].update(phase="Failed"))
        self.store.remove(self.store.uids[uid])

    def _life(self, uid: str, controller: str, index: int, attempt: int) -> Steps:
        script = self.cluster.script(controller, index, attempt)
        if script.stuck:
            self.stuck.add(uid)
        yield from self._bind(uid, script)
        if not (yield from self._run_init(uid, script)):
            return
        while not (yield from self._run(uid, script)):
            attempt += 1
            script = self.cluster.script(controller, index, attempt)
            yield self.timing.retry

    def _bind(self, uid: str, script: PodScript) -> Steps:
        """Pending, scheduled, images pulled; or stuck in one of these."""
        if script.unschedulable is not None:
            unbound = condition("PodScheduled", "False", "Unschedulable", script.unschedulable)
            pod = self._amend(uid, lambda it: it["status"].update(conditions=[unbound]))
            self.cluster.emit(pod, "FailedScheduling", script.unschedulable, "Warning")
            yield FOREVER if script.hold is None else script.hold
        yield self.timing.schedule
        pod = self._amend(uid, bound)
        self.cluster.emit(pod, "Scheduled", f"Successfully assigned {pod['metadata']['name']}")
        if script.waiting is not None:
            state = {"waiting": {"reason": script.waiting, "message": script.message}}
            has_init = bool(pod["spec"].get("initContainers"))
            pod = self._set_state(
                uid, "initContainerStatuses" if has_init else "containerStatuses", state, 0
            )
            self.cluster.emit(pod, "Failed", script.message or script.waiting, "Warning")
            yield FOREVER if script.hold is None else script.hold
        yield self.timing.start

    def _run_init(self, uid: str, script: PodScript) -> Generator[float, None, bool]:
        """Run the init containers; returns whether the pod goes on."""
        for position, container in enumerate(self._pod(uid)["spec"].get("initContainers") or ()):
            code = script.init_exit_code if position == 0 else 0
            self._set_state(uid, "initContainerStatuses", running(), position)
            lines = script.init_lines if position == 0 else ()
            yield from self._write(uid, container["name"], lines, None)
            reason = "Error" if code else "Completed"
            self._set_state(uid, "initContainerStatuses", terminated(code, reason, ""), position)
            yield self.timing.start
            if code:
                self._amend(uid, lambda it: it["status"].update(phase="Failed"))
                return False
        return True

    def _run(self, uid: str, script: PodScript) -> Generator[float, None, bool]:
        """Run the containers once; returns whether the pod is finished."""
        self._amend(uid, lambda it: it["status"].update(phase="Running"))
        pod = self._set_state(uid, "containerStatuses", running())
        if "terminated" in pod["status"]["containerStatuses"][0]["lastState"]:
            self.cluster.jobs.count_restart(pod)
        name = pod["spec"]["containers"][0]["name"]
        policy = pod["spec"]["restartPolicy"]
        lasts = FOREVER if policy == "Always" and script.exit_code == 0 else script.run
        yield from self._write(uid, name, script.lines, script.deleted_after, lasts)
        if script.pod_reason:
            cause = {"reason": script.pod_reason, "message": script.message}
            self._amend(uid, lambda it: it["status"].update(cause))
        reason = script.reason or ("Error" if script.exit_code else "Completed")
        done = terminated(script.exit_code, reason, script.message)
        self._set_state(uid, "containerStatuses", done)
        if policy == "Never" or script.exit_code == 0:
            yield self.timing.phase
            self._amend(uid, lambda it: finished(it, script))
            return True
        yield self.timing.retry
        self._set_state(uid, "containerStatuses", {"waiting": {"reason": "CrashLoopBackOff"}})
        return False

    def _write(
        self,
        uid: str,
        container: str,
        output: Output,
        deleted_after: Optional[int],
        lasts: float = 0.0,
    ) -> Steps:
        """Write a container's lines into a new log and wait until it exits."""
        log = ContainerLog()
        self.logs.setdefault((uid, container), []).append(log)
        for number, item in enumerate([*output, None]):
            if number == deleted_after:
                self.cluster.collector.delete(self.store.uids[uid])
            self._pod(uid)
            if item is None:
                break
            line = item if isinstance(item, Line) else Line(item)
            if line.delay:
                yield line.delay
                self._pod(uid)
            log.append(line)
        yield lasts
        self._pod(uid)
        log.close()

    def _pod(self, uid: str) -> Obj:
        pod = self.store.by_uid(uid)
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            raise Vanished()
        return pod

    def _amend(self, uid: str, change: Callable[[Obj], None]) -> Obj:
        if self.store.by_uid(uid) is None:
            raise Vanished()
        return self.store.amend(self.store.uids[uid], change)

    def _set_state(self, uid: str, name: str, state: Obj, position: Optional[int] = None) -> Obj:
        """Put all containers of a status list, or one of them, into a state."""

        def change(pod: Obj) -> None:
            for number, status in enumerate(pod["status"].get(name, ())):
                if position in (None, number):
                    enter_state(status, state, init=name != "containerStatuses")
            ready = all(item["ready"] for item in pod["status"]["containerStatuses"])
            pod["status"]["conditions"] = [
                condition("PodScheduled"),
                condition("Ready", "True" if ready else "False"),
            ]

        return self._amend(uid, change)


def running() -> Obj:
    """The state of a running container."""
    return {"running": {"startedAt": now()}}


def terminated(code: int, reason: str, message: str) -> Obj:
    """The state of a container that has exited."""
    end = {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}
    return {"terminated": {**end, **({"message": message} if message else {})}}


def enter_state(status: Obj, state: Obj, init: bool) -> None:
    """Change one entry of a pod's container statuses."""
    if "terminated" in status["state"]:
        status["lastState"] = status["state"]
    if "running" in state and status["lastState"]:
        status["restartCount"] += 1
    status["state"] = state
    status["started"] = "running" in state
    exited_well = state.get("terminated", {}).get("exitCode") == 0
    status["ready"] = exited_well if init else "running" in state


def bound(pod: Obj) -> None:
    """A pod that has a node and whose containers are being created."""
    pod["spec"]["nodeName"] = "node-1"
    status = pod["status"]
    status.update(startTime=now(), hostIP="127.0.0.1", podIP="127.0.0.1")
    status["conditions"] = [condition("PodScheduled"), condition("Ready", "False")]
    waits = {"waiting": {"reason": "PodInitializing"}}
    inits = pod["spec"].get("initContainers") or ()
    if inits:
        status["initContainerStatuses"] = [fresh_status(item, waits) for item in inits]
    state = waits if inits else WAITING_CREATE
    status["containerStatuses"] = [fresh_status(it, state) for it in pod["spec"]["containers"]]


def fresh_status(container: Obj, state: Obj) -> Obj:
    """The status of a container that has not run yet."""
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }


def finished(pod: Obj, script: PodScript) -> None:
    """A pod whose containers have all exited for good."""
    failed = script.exit_code or script.pod_reason
    pod["status"]["phase"] = "Failed" if failed else "Succeeded"


@dataclass
class JobState:
    """What the Job controller knows about one Job; counts are by index."""

    succeeded: Dict[int, int] = field(default_factory=dict)
    failures: Dict[int, int] = field(default_factory=dict)
    restarts: int = 0
    counted: Set[str] = field(default_factory=set)  # UIDs of pods that count already
    not_before: Dict[int, float] = field(default_factory=dict)
    started: Optional[float] = None
    refused: bool = False
    verdict: Optional[Tuple[str, str, str]] = None  # condition, reason, message

    def fail(self, index: int) -> None:
        """Count a failed pod."""
        self.failures[index] = self.failures.get(index, 0) + 1

    def succeed(self, index: int) -> None:
        """Count a succeeded pod."""
        self.succeeded[index] = self.succeeded.get(index, 0) + 1


INDEX = "batch.kubernetes.io/job-completion-index"
EARLY_CONDITION = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}


def pod_index(pod: Obj) -> int:
    """The completion index of a Job's pod."""
    return int((pod["metadata"].get("annotations") or {}).get(INDEX, NOBODY))


class JobController:
    """Makes pods for Jobs, counts how they end, and passes verdicts."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.store = cluster.store
        self.timing = cluster.timing
        self.states: Dict[str, JobState] = {}
        self._dirty: Set[str] = set()

    def observe(self, record: Record) -> None:
        """Look again at a Job after it or one of its pods has changed."""
        if record.plural == "jobs":
            self.touch(record.last["metadata"]["uid"])
        elif record.plural == "pods":
            for uid in owner_uids(record.last):
                if uid in self.states:
                    self._count(self.states[uid], record.last, gone=record.new is None)
                    self.touch(uid)

    def touch(self, uid: str, delay: float = 0.0) -> None:
        """Look at a Job soon."""
        if delay:
            self.cluster.scheduler.call(partial(self.touch, uid), delay)
        elif uid not in self._dirty:
            self._dirty.add(uid)
            self.cluster.scheduler.call(partial(self._reconcile, uid))

    def count_restart(self, pod: Obj) -> None:
        """A container of this pod was restarted in place."""
        for uid in owner_uids(pod):
            if uid in self.states:
                self.states[uid].restarts += 1
                self.touch(uid)

    def _reconcile(self, uid: str) -> None:
        self._dirty.discard(uid)
        job = self.store.by_uid(uid)
        if job is None or "deletionTimestamp" in job["metadata"]:
            return
        if has_condition(job, "Complete", "Failed"):
            return
        state = self.states.setdefault(uid, JobState())
        suspended = job["spec"]["suspend"]
        if suspended:
            state.started = None
            self._stop_pods(uid, state, failing=False)
        elif state.verdict is None:
            self._begin(job, state)
            state.verdict = self._judge(job["spec"], state)
            if state.verdict is None:
                self._start_pods(job, state)
            else:
                self._stop_pods(uid, state, failing=state.verdict[0] == "Failed")
                self.cluster.scheduler.spawn(self._conclude(uid, state.verdict))
        self._publish(uid, state, suspended)

    def _begin(self, job: Obj, state: JobState) -> None:
        """Start the clock of activeDeadlineSeconds."""
        if state.started is None:
            state.started = time.monotonic()
            limit = job["spec"].get("activeDeadlineSeconds")
            if limit is not None:
                self.touch(job["metadata"]["uid"], float(limit) + 0.01)

    def _pods(self, uid: str) -> List[Obj]:
        keys = self.store.dependents(uid)
        return [self.store.objects[key] for key in keys if key[0] == "pods"]

    def _active(self, uid: str, state: JobState) -> List[Obj]:
        return [pod for pod in self._pods(uid) if pod["metadata"]["uid"] not in state.counted]

    def _count(self, state: JobState, pod: Obj, gone: bool) -> None:
        """Count a pod once, when it ends in whatever way."""
        meta, phase, index = pod["metadata"], pod["status"]["phase"], pod_index(pod)
        if meta["uid"] in state.counted:
            return
        if phase == "Succeeded":
            state.succeed(index)
        elif phase == "Failed" or gone or "deletionTimestamp" in meta:
            state.fail(index)
            state.not_before[index] = time.monotonic() + self.timing.retry
            self.touch(owner_uids(pod)[0], self.timing.retry + 0.001)
        else:
            return
        state.counted.add(meta["uid"])

    def _judge(self, spec: Obj, state: JobState) -> Optional[Tuple[str, str, str]]:
        """The end that a Job has come to, if it has."""
        limit, per_index = spec["backoffLimit"], spec.get("backoffLimitPerIndex")
        age = time.monotonic() - (state.started or 0.0)
        if age >= spec.get("activeDeadlineSeconds", FOREVER):
            message = "Job was active longer than specified deadline"
            return "Failed", "DeadlineExceeded", message
        too_many = state.restarts and state.restarts >= max(1, limit)
        if too_many or sum(state.failures.values()) > limit:
            message = "Job has reached the specified backoff limit"
            return "Failed", "BackoffLimitExceeded", message
        failed = self._failed_indexes(state, per_index)
        if sum(state.succeeded.values()) + len(failed) < spec["completions"]:
            return None
        if failed:
            return "Failed", "FailedIndexes", "Job has failed indexes"
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"

    def _failed_indexes(self, state: JobState, per_index: Optional[int]) -> Set[int]:
        if per_index is None:
            return set()
        return {index for index, count in state.failures.items() if count > per_index}

    def _stop_pods(self, uid: str, state: JobState, failing: bool) -> None:
        """Delete the pods that still run; they count as failed if the Job fails."""
        for pod in self._active(uid, state):
            state.counted.add(pod["metadata"]["uid"])
            if failing:
                state.fail(pod_index(pod))
            self.cluster.collector.delete(("pods", *key_of(pod)))

    def _start_pods(self, job: Obj, state: JobState) -> None:
        spec, uid = job["spec"], job["metadata"]["uid"]
        active = [pod_index(pod) for pod in self._active(uid, state)]
        for index in self._wanted(spec, state, active)[: spec["parallelism"] - len(active)]:
            if state.not_before.get(index, 0.0) <= time.monotonic() and not state.refused:
                self._start_pod(job, index, state)

    def _wanted(self, spec: Obj, state: JobState, active: Sequence[int]) -> List[int]:
        """The indexes that lack a pod; NOBODY once for each pod of a Job without indexes."""
        if spec["completionMode"] != "Indexed":
            lacking = spec["completions"] - state.succeeded.get(NOBODY, 0) - len(active)
            return [NOBODY] * max(0, lacking)
        failed = self._failed_indexes(state, spec.get("backoffLimitPerIndex"))
        settled = set(state.succeeded) | failed | set(active)
        return [index for index in range(spec["completions"]) if index not in settled]

    def _start_pod(self, job: Obj, index: int, state: JobState) -> None:
        name, attempt = job["metadata"]["name"], state.failures.get(index, 0)
        script = self.cluster.script(name, index, attempt)
        if script.refused is not None:
            state.refused = True
            message = f"Error creating: {script.refused}"
            self.cluster.emit(job, "FailedCreate", message, "Warning")
            return
        indexed = index != NOBODY
        marks = {INDEX: str(index)} if indexed else {}
        prefix = f"{name}-{index}-" if indexed else f"{name}-"
        pod = self.cluster.make_pod(job, job["spec"]["template"], prefix, marks)
        self.cluster.emit(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        self.cluster.kubelet.start(pod, name, index, attempt)

    def _publish(self, uid: str, state: JobState, suspended: bool) -> None:
        """Write the Job's status."""
        active = self._active(uid, state)
        ready = [pod for pod in active if has_condition(pod, "Ready")]

        def change(job: Obj) -> None:
            status = job["status"]
            counts = {
                "active": len(active),
                "succeeded": sum(state.succeeded.values()),
                "failed": sum(state.failures.values()),
            }
            for name, count in counts.items():
                status.pop(name, None)
                status.update({name: count} if count else {})
            status.update(ready=len(ready), uncountedTerminatedPods={})
            if job["spec"]["completionMode"] == "Indexed":
                status["completedIndexes"] = ranges(set(state.succeeded))
            per_index = job["spec"].get("backoffLimitPerIndex")
            if per_index is not None:
                status["failedIndexes"] = ranges(self._failed_indexes(state, per_index))
            publish_suspension(status, suspended)
            if state.verdict is not None:
                kind, reason, message = state.verdict
                set_condition(status, EARLY_CONDITION[kind], "True", reason, message)

        self.store.amend(self.store.uids[uid], change)

    def _conclude(self, uid: str, verdict: Tuple[str, str, str]) -> Steps:
        """Set the final condition, and remove the Job when its time to live is over."""
        yield self.timing.condition
        kind, reason, message = verdict
        while self.store.by_uid(uid) and any(
            pod["status"]["phase"] in ("Pending", "Running") for pod in self._pods(uid)
        ):
            yield self.timing.condition
        if self.store.by_uid(uid) is None:
            return

        def change(job: Obj) -> None:
            set_condition(job["status"], kind, "True", reason, message)
            if kind == "Complete":
                job["status"]["completionTime"] = now()

        job = self.store.amend(self.store.uids[uid], change)
        if kind == "Complete":
            self.cluster.emit(job, "Completed", "Job completed")
        else:
            self.cluster.emit(job, reason, message, "Warning")
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is not None:
            yield float(ttl)
            if self.store.by_uid(uid):
                self.cluster.collector.delete(self.store.uids[uid], "Background")


def set_condition(status: Obj, kind: str, value: str, reason: str, message: str) -> None:
    """Set one of status.conditions; an equal one keeps its times."""
    conditions = status.setdefault("conditions", [])
    if not any(item["type"] == kind and item["status"] == value for item in conditions):
        conditions[:] = [item for item in conditions if item["type"] != kind]
        conditions.append(condition(kind, value, reason, message))


def publish_suspension(status: Obj, suspended: bool) -> None:
    """Write what a Job's status says about suspension, and its start time."""
    was_suspended = any(item["type"] == "Suspended" for item in status.get("conditions", ()))
    if suspended:
        status.pop("startTime", None)
        set_condition(status, "Suspended", "True", "JobSuspended", "Job suspended")
        return
    status.setdefault("startTime", now())
    if was_suspended:
        set_condition(status, "Suspended", "False", "JobResumed", "Job resumed")


def key_of(obj: Obj) -> Tuple[str, str]:
    """Namespace and name of an object."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class DeploymentController:
    """Keeps one ReplicaSet per pod template of a Deployment, and its pods."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.store = cluster.store

    def observe(self, record: Record) -> None:
        """Look again at what may be affected by a change."""
        call = self.cluster.scheduler.call
        if record.plural == "deployments" and record.new is not None:
            call(partial(self._reconcile_deployment, record.last["metadata"]["uid"]))
        elif record.plural == "replicasets" and record.new is not None:
            call(partial(self._reconcile_set, record.last["metadata"]["uid"]))
        for uid in owner_uids(record.last):
            owner = self.store.by_uid(uid)
            if owner and owner["kind"] == "ReplicaSet" and record.plural == "pods":
                call(partial(self._reconcile_set, uid))
            elif owner and owner["kind"] == "Deployment" and record.plural == "replicasets":
                call(partial(self._reconcile_deployment, uid))

    def _reconcile_deployment(self, uid: str) -> None:
        deployment = self.store.by_uid(uid)
        if deployment is None:
            return
        template = deployment["spec"]["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        namespace, name = key_of(deployment)
        current: Key = ("replicasets", namespace, f"{name}-{digest}")
        if current not in self.store.objects:
            self._make_set(deployment, digest, current)
        for key in self.store.dependents(uid):
            if key[0] == "replicasets":
                wanted = deployment["spec"]["replicas"] if key == current else 0
                self.store.amend(key, lambda it: it["spec"].update(replicas=wanted))
        counts = self.store.objects[current]["status"]

        def change(it: Obj) -> None:
            ready, replicas = counts.get("readyReplicas", 0), counts.get("replicas", 0)
            it["status"].update(replicas=replicas, updatedReplicas=replicas, readyReplicas=ready)
            it["status"].update(availableReplicas=ready)
            it["status"]["observedGeneration"] = it["metadata"]["generation"]
            enough = "True" if ready >= it["spec"]["replicas"] else "False"
            set_condition(it["status"], "Available", enough, "MinimumReplicas", "")
            set_condition(it["status"], "Progressing", "True", "NewReplicaSetAvailable", "")

        self.store.amend(("deployments", namespace, name), change)

    def _make_set(self, deployment: Obj, digest: str, key: Key) -> None:
        spec = copy.deepcopy(deployment["spec"])
        labels = {**(spec["template"]["metadata"].get("labels") or {}), "pod-template-hash": digest}
        spec["template"]["metadata"]["labels"] = labels
        meta = {"labels": labels, "ownerReferences": [owner_reference(deployment)]}
        made = {"metadata": meta, "spec": {name: spec[name] for name in ("replicas", "template")}}
        self.cluster.api.store_new(RESOURCES["replicasets"], key[1], {**made, "status": {}}, key[2])

    def _reconcile_set(self, uid: str) -> None:
        owner = self.store.by_uid(uid)
        if owner is None:
            return
        keys = [key for key in self.store.dependents(uid) if key[0] == "pods"]
        pods = [self.store.objects[key] for key in keys]
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        wanted = owner["spec"]["replicas"]
        for pod in alive[wanted:]:
            self.cluster.collector.delete(("pods", *key_of(pod)))
        for _ in range(wanted - len(alive)):
            self._start_pod(owner)
        ready = sum(has_condition(pod, "Ready") for pod in alive[:wanted])
        counts = {"replicas": wanted, "readyReplicas": ready, "availableReplicas": ready}
        self.store.amend(self.store.uids[uid], lambda it: it["status"].update(counts))

    def _start_pod(self, owner: Obj) -> None:
        name = owner["metadata"]["name"]
        pod = self.cluster.make_pod(owner, owner["spec"]["template"], f"{name}-", {})
        above = [ref["name"] for ref in owner["metadata"].get("ownerReferences") or ()]
        self.cluster.kubelet.start(pod, above[0] if above else name, NOBODY, 0)


class Collector:
    """Deletes objects, and what they own."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.store = cluster.store

    def observe(self, record: Record) -> None:
        """Check the dependents of what is gone, and new objects that name an owner."""
        if record.new is None:
            for key in self.store.dependents(record.last["metadata"]["uid"]):
                self._check_later(key)
        elif record.old is None and owner_uids(record.new):
            self._check_later((record.plural, *key_of(record.new)))

    def delete(self, key: Key, policy: str = "Background", grace: Optional[int] = None) -> Obj:
        """Delete an object as a propagation policy says; returns its last shape."""
        obj = self.store.objects[key]
        if policy == "Orphan":
            self._orphan(obj["metadata"]["uid"])
        if policy == "Foreground" and key[0] != "pods":
            marked = self._mark(key, finalizers=["foregroundDeletion"])
            self.cluster.scheduler.spawn(self._foreground(key))
            return marked
        if key[0] == "pods" and grace != 0 and self._runs(obj):
            return self._delete_gracefully(key, obj)
        return self.store.remove(key)

    def _runs(self, pod: Obj) -> bool:
        ended = pod["status"]["phase"] in ("Succeeded", "Failed")
        return bool(pod["spec"].get("nodeName")) and not ended

    def _delete_gracefully(self, key: Key, pod: Obj) -> Obj:
        uid = pod["metadata"]["uid"]
        if "deletionTimestamp" in pod["metadata"]:
            return pod
        if uid not in self.cluster.kubelet.stuck:
            self.cluster.scheduler.spawn(self.cluster.kubelet.terminate(uid))
        return self._mark(key, deletionGracePeriodSeconds=30)

    def _mark(self, key: Key, **more: Any) -> Obj:
        stamp = {"deletionTimestamp": now(), **more}
        return self.store.amend(key, lambda it: it["metadata"].update(stamp))

    def _orphan(self, uid: str) -> None:
        def change(obj: Obj) -> None:
            references = obj["metadata"]["ownerReferences"]
            obj["metadata"]["ownerReferences"] = [ref for ref in references if ref["uid"] != uid]

        for key in self.store.dependents(uid):
            self.store.amend(key, change)

    def _foreground(self, key: Key) -> Steps:
        uid = self.store.objects[key]["metadata"]["uid"]
        while self.store.dependents(uid):
            for dependent in self.store.dependents(uid):
                self.delete(dependent)
            yield self.cluster.timing.collect
        if self.store.by_uid(uid):
            self.store.remove(key)

    def _check_later(self, key: Key) -> None:
        self.cluster.scheduler.call(partial(self._check, key), self.cluster.timing.collect)

    def _check(self, key: Key) -> None:
        """Delete an object none of whose owners exists."""
        uids = owner_uids(self.store.objects.get(key))
        if uids and not any(self.store.by_uid(uid) for uid in uids):
            self.delete(key)


# ---------------------------------------------------------------- the API


@dataclass(frozen=True)
class Route:
    """Where a path leads."""

    resource: Resource
    namespace: str
    name: str
    sub: str

    @property
    def key(self) -> Key:
        """The key of the object in the store."""
        return self.resource.plural, self.namespace, self.name

    @property
    def details(self) -> Obj:
        """For Status objects."""
        found = {"name": self.name, "group": self.resource.group, "kind": self.resource.plural}
        return {name: value for name, value in found.items() if value}


def parse_route(path: str) -> Optional[Route]:
    """The route of a resource path, or None."""
    match = re.fullmatch(r"/(?:api|apis/(batch|apps))/v1/(.+)", path)
    if not match:
        return None
    group, parts = match[1] or "", match[2].rstrip("/").split("/")
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    resource = RESOURCES.get(parts[0])
    if resource is None or resource.group != group or len(parts) > 3:
        return None
    name, sub = (parts[1:] + ["", ""])[:2]
    return Route(resource, namespace, name, sub)


def check(resource: Resource, obj: Obj) -> None:
    """Refuse what the real server finds invalid, as far as these tests need it."""
    name = obj["metadata"]["name"]
    limit = 63 if resource.plural in ("jobs", "services", "namespaces") else 253
    problem = ""
    if len(name) > limit or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
        problem = f"metadata.name: Invalid value: {json.dumps(name)}"
    elif resource.plural in ("configmaps", "secrets") and data_size(resource, obj) > VALUE_LIMIT:
        problem = f"data: Too long: may not be more than {VALUE_LIMIT} bytes"
    elif resource.plural == "jobs":
        policy = obj["spec"].get("template", {}).get("spec", {}).get("restartPolicy")
        if policy not in ("Never", "OnFailure"):
            problem = 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure"'
    if problem:
        kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
        raise ApiError(422, f'{kind} "{name}" is invalid: {problem}')


def data_size(resource: Resource, obj: Obj) -> int:
    """The bytes that a ConfigMap or Secret holds, keys not counted."""
    encoded = [*(obj.get("binaryData") or {}).values()]
    plain = [*(obj.get("data") or {}).values()]
    if resource.plural == "secrets":
        encoded, plain = plain, []
    sizes = [len(base64.b64decode(value)) for value in encoded]
    return sum(sizes) + sum(len(value.encode("utf-8")) for value in plain)


def fill_defaults(resource: Resource, obj: Obj) -> None:
    """Set what the real server sets when an object is created."""
    if resource.plural == "secrets":
        obj.setdefault("type", "Opaque")
        for name, value in (obj.pop("stringData", None) or {}).items():
            data = base64.b64encode(value.encode("utf-8")).decode("ascii")
            obj.setdefault("data", {})[name] = data
    elif resource.plural == "pods":
        obj["spec"].setdefault("restartPolicy", "Always")
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    elif resource.plural in ("deployments", "replicasets"):
        obj["spec"].setdefault("replicas", 1)
        obj["status"] = {}
    elif resource.plural == "jobs":
        fill_job_defaults(obj)


def fill_job_defaults(job: Obj) -> None:
    """The same for a Job, the labels of its pods included."""
    spec, uid, name = job["spec"], job["metadata"]["uid"], job["metadata"]["name"]
    spec.setdefault("parallelism", 1)
    spec.setdefault("completions", spec["parallelism"])
    spec.setdefault("backoffLimit", 6 if spec.get("backoffLimitPerIndex") is None else 2**31 - 1)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    meta = spec.setdefault("template", {}).setdefault("metadata", {})
    own = {"batch.kubernetes.io/job-name": name, "batch.kubernetes.io/controller-uid": uid}
    own.update({"job-name": name, "controller-uid": uid})
    meta["labels"] = {**(meta.get("labels") or {}), **own}
    job["status"] = {}


VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


class Api:
    """Does what requests ask for."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.store = cluster.store

    def handle(self, request: Request) -> Answer:
        """Answer a request."""
        try:
            self._authenticate(request)
            return self._dispatch(request)
        except ApiError as error:
            return error.answer()

    def _authenticate(self, request: Request) -> None:
        tokens = self.cluster.tokens
        if tokens is not None:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer" or token not in tokens:
                raise ApiError(401, "Unauthorized")

    def _dispatch(self, request: Request) -> Answer:
        path = request.path
        if path in ("/readyz", "/livez", "/healthz"):
            return Answer(200, stream=iter([b"ok"]), content_type="text/plain; charset=utf-8")
        if path == "/version":
            version = {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
            return Answer(200, {**version, "platform": "linux/amd64"})
        route = parse_route(path)
        if route is None:
            raise ApiError(404, "the server could not find the requested resource")
        self._authorize(self._verb(route, request), route)
        if route.sub == "log" and route.resource.plural == "pods" and request.method == "GET":
            return self._log(route, request.query)
        return self.direct(route, request)

    def direct(self, route: Route, request: Request) -> Answer:
        """Do what a request asks of a resource, permissions aside."""
        handlers = {
            ("GET", True): self._get,
            ("GET", False): self._list,
            ("POST", False): self._create,
            ("PUT", True): self._update,
            ("PATCH", True): self._patch,
            ("DELETE", True): self._delete,
        }
        handler = handlers.get((request.method, bool(route.name)))
        if handler is None or route.sub:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        with self.store.lock:
            return handler(route, request)

    def _verb(self, route: Route, request: Request) -> str:
        if request.method == "GET" and not route.name:
            return "watch" if is_true(request.query, "watch") else "list"
        if request.method == "DELETE":
            return "delete"
        return VERBS.get(request.method, "get")

    def _authorize(self, verb: str, route: Route) -> None:
        what = "/".join(filter(None, (route.resource.plural, route.sub)))
        if f"{verb} {what}" in self.cluster.denied:
            name = f' "{route.name}"' if route.name else ""
            raise ApiError(
                403,
                f"{route.resource.qualified}{name} is forbidden: "
                f'User "tester" cannot {verb} resource "{what}" in API group '
                f'"{route.resource.group}" in the namespace "{route.namespace}"',
                details=route.details,
            )

    # reading

    def _find(self, route: Route) -> Obj:
        obj = self.store.objects.get(route.key)
        if obj is None:
            message = f'{route.resource.qualified} "{route.name}" not found'
            raise ApiError(404, message, details=route.details)
        return obj

    def _get(self, route: Route, _: Request) -> Answer:
        return Answer(200, self._find(route))

    def _accepts(self, route: Route, query: Mapping[str, str]) -> Predicate:
        by_label = label_selector(query.get("labelSelector", ""))
        by_field = field_selector(query.get("fieldSelector", ""), route.resource.plural)
        return lambda obj: by_label(obj) and by_field(obj)

    def _list(self, route: Route, request: Request) -> Answer:
        query = request.query
        accepts = self._accepts(route, query)
        if is_true(query, "watch"):
            return Answer(200, stream=self._watch(route, query, accepts))
        found = self.store.select(route.resource.plural, route.namespace or None, accepts)
        meta: Obj = {"resourceVersion": str(self.store.version)}
        if query.get("continue"):
            version, *after = json.loads(base64.urlsafe_b64decode(query["continue"]))
            if version < self.store.oldest:
                raise ApiError(410, "The provided continue parameter is too old")
            found = [obj for obj in found if [*key_of(obj)] > after]
        limit = int(query.get("limit") or 0)
        if limit and len(found) > limit:
            mark = json.dumps([self.store.version, *key_of(found[limit - 1])])
            meta["continue"] = base64.urlsafe_b64encode(mark.encode()).decode()
            meta["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        bare = ("kind", "apiVersion")
        items = [{name: obj[name] for name in obj if name not in bare} for obj in found]
        kind = f"{route.resource.kind}List"
        version = route.resource.api_version
        return Answer(200, {"kind": kind, "apiVersion": version, "metadata": meta, "items": items})

    def _watch(self, route: Route, query: Mapping[str, str], accepts: Predicate) -> Iterator[bytes]:
        """The events of a watch; b"" when there is nothing to tell."""
        end = time.monotonic() + float(query.get("timeoutSeconds", 1800))
        with self.store.lock:
            first: List[Obj] = []
            position, oldest = int(query.get("resourceVersion") or 0), self.store.oldest
            if position == 0:
                namespace = route.namespace or None
                first = self.store.select(route.resource.plural, namespace, accepts)
                position = self.store.version
        if position < oldest:
            yield gone_event(f"{position} ({oldest})")
            return
        for obj in first:
            yield event("ADDED", obj)
        while time.monotonic() < end:
            with self.store.lock:
                if self.store.version <= position:
                    self.store.changed.wait(TICK)
                records, position = self.store.since(position), self.store.version
            for record in records:
                yield told(record, route, accepts)
            yield b""

    # logs

    def _log(self, route: Route, query: Mapping[str, str]) -> Answer:
        with self.store.lock:
            log = self._find_log(self._find(route), query)
        since = self._since(query)
        with log.changed:
            kept = [number for number, entry in enumerate(log.entries) if entry[0] >= since]
            position = kept[0] if kept else len(log.entries)
            if query.get("tailLines"):
                position = max(position, len(log.entries) - int(query["tailLines"]))
        stream = self._entries(log, position, query)
        return Answer(200, stream=stream, content_type="text/plain")

    def _since(self, query: Mapping[str, str]) -> int:
        """The first nanosecond that the query wants; whole seconds, as the kubelet is asked."""
        if query.get("sinceTime") and query.get("sinceSeconds"):
            raise ApiError(422, "only one of sinceTime or sinceSeconds may be provided")
        if query.get("sinceTime"):
            return int(parse_moment(query["sinceTime"])) * 10**9
        if query.get("sinceSeconds"):
            return time.time_ns() - int(query["sinceSeconds"]) * 10**9
        return 0

    def _find_log(self, pod: Obj, query: Mapping[str, str]) -> ContainerLog:
        name, spec = pod["metadata"]["name"], pod["spec"]
        inits = [item["name"] for item in spec.get("initContainers") or ()]
        names = [item["name"] for item in spec["containers"]]
        wanted = query.get("container") or (names[0] if len(names) == 1 else "")
        if not wanted:
            message = f"a container name must be specified for pod {name}, choose one of: "
            raise ApiError(400, f"{message}[{' '.join(inits + names)}]")
        if wanted not in inits + names:
            raise ApiError(400, f"container {wanted} is not valid for pod {name}")
        logs = self.cluster.kubelet.logs.get((pod["metadata"]["uid"], wanted), [])
        if is_true(query, "previous"):
            if len(logs) < 2:
                message = f'previous terminated container "{wanted}" in pod "{name}" not found'
                raise ApiError(400, message)
            return logs[-2]
        if not logs:
            raise ApiError(400, f'container "{wanted}" in pod "{name}" {why_no_log(pod, wanted)}')
        return logs[-1]

    def _entries(
        self, log: ContainerLog, position: int, query: Mapping[str, str]
    ) -> Iterator[bytes]:
        stamps, follow = is_true(query, "timestamps"), is_true(query, "follow")
        at_start = True
        for fresh in log.follow(position):
            for stamp, data in fresh:
                mark = stamps and (at_start or self.cluster.stamp_partials)
                yield (f"{nano_stamp(stamp)} ".encode() if mark else b"") + data
                at_start = data.endswith(b"\n")
            if not follow:
                return
            yield b""

    # writing

    def store_new(self, resource: Resource, namespace: str, obj: Obj, name: str) -> Obj:
        """Complete, check and store a new object."""
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        meta.update(name=name, uid=str(uuid.uuid4()), creationTimestamp=now())
        if resource.namespaced:
            meta["namespace"] = namespace
        if "spec" in obj:
            meta["generation"] = 1
        obj.update(kind=resource.kind, apiVersion=resource.api_version)
        fill_defaults(resource, obj)
        check(resource, obj)
        return self.store.put((resource.plural, namespace, name), obj)

    def _create(self, route: Route, request: Request) -> Answer:
        resource, obj = route.resource, self._body(request)
        meta = obj.get("metadata") or {}
        if resource.namespaced and ("namespaces", "", route.namespace) not in self.store.objects:
            raise ApiError(404, f'namespaces "{route.namespace}" not found')
        if meta.get("namespace", route.namespace) != route.namespace:
            raise ApiError(400, "the namespace of the provided object does not match the request")
        if meta.get("resourceVersion"):
            raise ApiError(400, "resourceVersion should not be set on objects to be created")
        name = meta.get("name") or unique(meta.get("generateName", ""))
        if (resource.plural, route.namespace, name) in self.store.objects:
            details = {"name": name, "group": resource.group, "kind": resource.plural}
            message = f'{resource.qualified} "{name}" already exists'
            raise ApiError(409, message, "AlreadyExists", details)
        if request.query.get("dryRun") == "All":
            return Answer(201, obj)
        return Answer(201, self.store_new(resource, route.namespace, obj, name))

    def _body(self, request: Request) -> Any:
        if not isinstance(request.body, (dict, list)):
            raise ApiError(400, "the object provided is unrecognized")
        return request.body

    def _update(self, route: Route, request: Request) -> Answer:
        return Answer(200, self._replace(route, self._find(route), self._body(request)))

    def _patch(self, route: Route, request: Request) -> Answer:
        old, patch = self._find(route), self._body(request)
        kind = request.headers.get("content-type", "").split(";")[0]
        if kind.endswith("merge-patch+json"):
            new = merge_patch(old, patch)
        else:
            raise ApiError(415, f"the body of the request was in an unknown format: {kind}")
        return Answer(200, self._replace(route, old, new))

    def _replace(self, route: Route, old: Obj, new: Obj) -> Obj:
        """Store a new version, as far as it is allowed to differ."""
        new = copy.deepcopy(new)
        meta = new.setdefault("metadata", {})
        qualified = f'{route.resource.qualified} "{route.name}"'
        if meta.get("resourceVersion", "") not in ("", old["metadata"]["resourceVersion"]):
            message = f"Operation cannot be fulfilled on {qualified}: the object has been modified"
            raise ApiError(409, message, details=route.details)
        for name in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion"):
            if name in old["metadata"]:
                meta[name] = old["metadata"][name]
        if old.get("immutable") and any(old.get(n) != new.get(n) for n in ("data", "binaryData")):
            raise ApiError(422, f"{qualified} is invalid: data: Forbidden: field is immutable")
        if route.resource.plural == "jobs" and old["spec"]["template"] != new["spec"]["template"]:
            raise ApiError(422, f"{qualified} is invalid: spec.template: field is immutable")
        if route.resource.status:
            new["status"] = old["status"]
        if old.get("spec") != new.get("spec"):
            meta["generation"] = old["metadata"].get("generation", 0) + 1
        if route.resource.plural == "secrets":
            fill_defaults(route.resource, new)
        check(route.resource, new)
        return self.store.put(route.key, new)

    def _delete(self, route: Route, request: Request) -> Answer:
        obj, options = self._find(route), self._options(route, request)
        wanted = (options.get("preconditions") or {}).get("uid", obj["metadata"]["uid"])
        if wanted != obj["metadata"]["uid"]:
            message = f"Precondition failed: UID in precondition: {wanted}"
            raise ApiError(409, message, details=route.details)
        last = self._collect(route.key, options)
        if route.key in self.store.objects or route.resource.plural == "pods":
            return Answer(200, last)
        details = {**route.details, "uid": obj["metadata"]["uid"]}
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return Answer(200, {**success, "details": details})

    def _options(self, route: Route, request: Request) -> Obj:
        """Delete options out of the body or, failing that, the query; Jobs orphan by default."""
        default = "Orphan" if route.resource.plural == "jobs" else "Background"
        return {"propagationPolicy": default, **request.query, **(request.body or {})}

    def _collect(self, key: Key, options: Obj) -> Obj:
        grace = options.get("gracePeriodSeconds")
        return self.cluster.collector.delete(
            key, options["propagationPolicy"], None if grace is None else int(grace)
        )


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Whether a boolean query parameter is set."""
    return query.get(name, "").lower() in ("true", "1")


def unique(prefix: str) -> str:
    """A name as generateName makes them."""
    return prefix + "".join(random.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def event(kind: str, obj: Obj) -> bytes:
    """One event of a watch, on its line."""
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"


def gone_event(what: str) -> bytes:
    """The event that tells that a resourceVersion is too old."""
    return event("ERROR", ApiError(410, f"too old resource version: {what}").status)


def told(record: Record, route: Route, accepts: Predicate) -> bytes:
    """The event that a watch sends for a change; b"" if it sends none."""
    other_place = route.namespace not in ("", record.last["metadata"].get("namespace"))
    if record.plural != route.resource.plural or other_place:
        return b""
    before = record.old is not None and accepts(record.old)
    after = record.new is not None and accepts(record.new)
    if not before and not after:
        return b""
    kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
    return event(kind, record.last)


def why_no_log(pod: Obj, container: str) -> str:
    """The server's words for a container that has not written anything yet."""
    status = pod["status"]
    lists = ("initContainerStatuses", "containerStatuses")
    for item in (item for name in lists for item in status.get(name, ())):
        reason = item["state"].get("waiting", {}).get("reason", "")
        if item["name"] == container and reason in ("ImagePullBackOff", "ErrImagePull"):
            return "is waiting to start: trying and failing to pull image"
        if item["name"] == container and reason:
            return f"is waiting to start: {reason}"
    return "is waiting to start: ContainerCreating"


# ---------------------------------------------------------------- HTTP


class Hangup(Exception):
    """The connection ends here."""


class Connection(threading.Thread):
    """One connection of a client: reads requests, answers them, and breaks where told to."""

    def __init__(self, cluster: FakeCluster, sock: socket.socket) -> None:
        super().__init__(name="fake-cluster-connection", daemon=True)
        self.cluster = cluster
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
            self.cluster.crashes.append(traceback.format_exc())
        finally:
            self._reader.close()
            self.sock.close()
            self.cluster.forget(self)

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
        return self.cluster.record(method, parts.path, query, headers, parse_body(raw))

    def _serve(self, request: Request) -> None:
        self.cluster.run_hooks(request)
        action = self.cluster.action_for(request)
        if isinstance(action, Down):
            self.cluster.down(action.seconds)
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
            answer = self.cluster.api.handle(request)
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
        body = b"" if answer.stream else json.dumps(answer.body, separators=(",", ":")).encode()
        headers = {"Content-Type": answer.content_type, **answer.headers}
        if answer.stream is None and len(body) > GZIP_FROM and accepts_gzip(request):
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
            self._stream(answer.stream or iter([body]))
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

    def _stream(self, stream: Iterator[bytes]) -> None:
        self._write(b"")
        for data in stream:
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
        elif isinstance(plan, Cut) and plan.how == "reset":
            self.connection.reset()
        elif isinstance(plan, Cut) and plan.how == "eof" and self.chunked:
            raise StreamEnded()
        else:
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


# ---------------------------------------------------------------- the whole


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
        """Wait until something is true and return it; TimeoutError if that does not happen."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            value = predicate()
            if value:
                return value
            time.sleep(0.01)
        raise TimeoutError("what the test waits for did not happen")

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
