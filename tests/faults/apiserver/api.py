"""The API: what requests do, and what is told about it."""

from __future__ import annotations

import base64
import copy
import json
import re
import time
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, Iterator, List, Mapping

from .admission import check, fill_defaults, merge_patch
from .containerlog import TICK, ContainerLog
from .messages import Answer, ApiError, Request
from .resources import Key, Obj, Predicate, Resource, key_of, nano_stamp, now, unique
from .routes import Route, parse_route
from .selectors import field_selector, label_selector
from .store import Record

if TYPE_CHECKING:
    from .cluster import FakeCluster

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
            minor = self.cluster.minor
            version = {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.0"}
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


def parse_moment(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time, its fraction dropped as the server does."""
    whole = re.sub(r"\.\d+", "", text).replace("Z", "+00:00")
    try:
        return datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        raise ApiError(400, f"parsing time {json.dumps(text)}: cannot parse") from None


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Whether a boolean query parameter is set."""
    return query.get(name, "").lower() in ("true", "1")


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
