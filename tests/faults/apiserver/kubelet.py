"""The lives of pods."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Dict, Generator, List, Optional, Sequence, Set, Tuple

from .containerlog import ContainerLog
from .resources import FOREVER, NOBODY, Obj, condition, now, owner_uids
from .scheduler import Steps, Vanished
from .scripts import Foreign, Line, Output, PodScript
from .store import Record

if TYPE_CHECKING:
    from .cluster import FakeCluster

MOMENT = 0.02  # seconds between looks at what another container does
WAITING_CREATE = {"waiting": {"reason": "ContainerCreating"}}


class Kubelet:
    """Takes pods through their lives as their scripts say."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.store = cluster.store
        self.timing = cluster.timing
        self.logs: Dict[Tuple[str, str], List[ContainerLog]] = {}  # by pod UID and container
        self.lives: Dict[str, Life] = {}  # by pod UID

    def observe(self, record: Record) -> None:
        """Start pods that no controller made, and drop the logs of pods that are gone."""
        if record.plural != "pods":
            return
        meta = record.last["metadata"]
        if record.new is None:
            self.lives.pop(meta["uid"], None)
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
        script = self.lives[uid].script if uid in self.lives else PodScript()
        if script.stuck:
            return
        yield self.timing.terminate if script.grace is None else script.grace
        pod = self.store.by_uid(uid)
        if pod is None:
            return
        for key, logs in self.logs.items():
            if key[0] == uid:
                logs[-1].close()
        if pod["status"]["phase"] == "Running":
            codes = {item.name: item.stop_code for item in script.foreign}
            for name in unfinished(pod):
                code = codes.get(name, script.stop_code)
                pod = self._set_state(uid, [name], ended(code))
            self._amend(uid, lambda it: finished(it, script))
        self.store.remove(self.store.uids[uid])

    def disrupt(self, uid: str, reason: str) -> None:
        """Say in a pod's conditions why the cluster ends it."""
        message = "made up by a script"

        def change(pod: Obj) -> None:
            conditions = pod["status"].setdefault("conditions", [])
            conditions.append(condition("DisruptionTarget", "True", reason, message))

        self._amend(uid, change)

    def _life(self, uid: str, controller: str, index: int, attempt: int) -> Steps:
        script = self.cluster.script(controller, index, attempt)
        life = self.lives[uid] = Life(script)
        yield from self._bind(uid, script)
        if not (yield from self._run_init(uid, life)):
            life.stopping = True
            return
        self._start_foreign(uid, life, native=False)
        while not (yield from self._run(uid, life)):
            attempt += 1
            life.script = self.cluster.script(controller, index, attempt)
            yield self.timing.retry
        life.main_ended = True
        while life.beside:
            yield from self._moment(uid)
        life.stopping = True
        while life.native:
            yield from self._moment(uid)
        yield self.timing.phase
        self._amend(uid, lambda it: finished(it, life.script))

    def _moment(self, uid: str) -> Steps:
        yield MOMENT
        self._pod(uid)

    def _start_foreign(self, uid: str, life: Life, native: bool) -> None:
        """Start the lives of the containers that others have added."""
        for item in life.script.foreign:
            if item.native == native:
                life.of(item).add(item.name)
                self.cluster.scheduler.spawn(self._foreign(uid, life, item))

    def _foreign(self, uid: str, life: Life, item: Foreign) -> Steps:
        """Run such a container until it ends for good."""
        policy, count = self._pod(uid)["spec"]["restartPolicy"], 0
        while True:
            self._set_state(uid, [item.name], running())
            yield from self._write(uid, item.name, item.lines, None, 0.0, close=False)
            by_itself = yield from self._foreign_end(uid, life, item, count)
            self.logs[uid, item.name][-1].close()
            code = item.exit_code if by_itself else item.stop_code
            self._set_state(uid, [item.name], ended(code))
            count += 1
            failing = policy == "OnFailure" and code != 0
            again = not life.stopping if item.native else policy == "Always" or failing
            if not again:
                break
            self._set_state(uid, [item.name], {"waiting": {"reason": "CrashLoopBackOff"}})
            yield self.timing.retry
            if item.native and life.stopping:
                self._set_state(uid, [item.name], ended(code))
                break
        life.of(item).discard(item.name)

    def _foreign_end(
        self, uid: str, life: Life, item: Foreign, count: int
    ) -> Generator[float, None, bool]:
        """Wait for a container's end; returns whether it comes to it by itself."""
        start = time.monotonic()
        stays = item.after is None or count == item.ends
        while stays or time.monotonic() - start < (item.after or 0.0):
            if life.stopping if item.native else life.main_ended and item.linger is not None:
                break
            yield from self._moment(uid)
        else:
            return True
        yield item.linger or 0.0
        self._pod(uid)
        return item.linger is not None

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
            inits = own_names(pod, "initContainers", script)
            first = inits[:1] or own_names(pod, "containers", script)[:1]
            pod = self._set_state(uid, first, state)
            self.cluster.emit(pod, "Failed", script.message or script.waiting, "Warning")
            yield FOREVER if script.hold is None else script.hold
        yield self.timing.start

    def _run_init(self, uid: str, life: Life) -> Generator[float, None, bool]:
        """Run the init containers; returns whether the pod goes on."""
        script = life.script
        if any(item.native for item in script.foreign):
            self._start_foreign(uid, life, native=True)
            yield self.timing.start
        for position, name in enumerate(own_names(self._pod(uid), "initContainers", script)):
            code = script.init_exit_code if position == 0 else 0
            self._set_state(uid, [name], running())
            lines = script.init_lines if position == 0 else ()
            yield from self._write(uid, name, lines, None)
            self._set_state(uid, [name], ended(code))
            yield self.timing.start
            if code:
                self._amend(uid, lambda it: it["status"].update(phase="Failed"))
                return False
        return True

    def _run(self, uid: str, life: Life) -> Generator[float, None, bool]:
        """Run the containers once; returns whether they are finished."""
        script = life.script
        self._amend(uid, lambda it: it["status"].update(phase="Running"))
        names = own_names(self._pod(uid), "containers", script)
        pod = self._set_state(uid, names, running())
        name = names[0]
        if "terminated" in status_of(pod, name)["lastState"]:
            self.cluster.jobs.count_restart(pod)
        policy = pod["spec"]["restartPolicy"]
        lasts = FOREVER if policy == "Always" and script.exit_code == 0 else script.run
        yield from self._write(uid, name, script.lines, script.deleted_after, lasts)
        if script.pod_reason:
            cause = {"reason": script.pod_reason, "message": script.message}
            self._amend(uid, lambda it: it["status"].update(cause))
            if script.disruption:
                self.disrupt(uid, script.disruption)
        reason = script.reason or ("Error" if script.exit_code else "Completed")
        done = terminated(script.exit_code, reason, script.message)
        self._set_state(uid, names, done)
        if policy == "Never" or script.exit_code == 0:
            return True
        yield self.timing.retry
        self._set_state(uid, names, {"waiting": {"reason": "CrashLoopBackOff"}})
        return False

    def _write(
        self,
        uid: str,
        container: str,
        output: Output,
        deleted_after: Optional[int],
        lasts: float = 0.0,
        close: bool = True,
    ) -> Steps:
        """Write a container's lines into a new log and wait until it exits, unless it is not to
        be closed.
        """
        log = ContainerLog()
        self.logs.setdefault((uid, container), []).append(log)
        for number, item in enumerate([*output, None]):
            if number == deleted_after:
                disruption = self.lives[uid].script.disruption
                if disruption:
                    self.disrupt(uid, disruption)
                self.cluster.collector.delete(self.store.uids[uid])
            self._pod(uid)
            if item is None:
                break
            line = item if isinstance(item, Line) else Line(item)
            if line.delay:
                yield line.delay
                self._pod(uid)
            log.append(line)
        if close:
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

    def _set_state(self, uid: str, names: Sequence[str], state: Obj) -> Obj:
        """Put containers into a state."""

        def change(pod: Obj) -> None:
            status = pod["status"]
            for kind in ("initContainerStatuses", "containerStatuses"):
                for item in status.get(kind, ()):
                    if item["name"] in names:
                        init = kind != "containerStatuses" and not is_native(pod, item["name"])
                        enter_state(item, state, init)
            ready = all(item["ready"] for item in status["containerStatuses"])
            others = [it for it in status["conditions"] if it["type"] == "DisruptionTarget"]
            status["conditions"] = [
                condition("PodScheduled"),
                condition("Ready", "True" if ready else "False"),
                *others,
            ]

        return self._amend(uid, change)


@dataclass
class Life:
    """What the containers of a pod know of each other."""

    script: PodScript
    main_ended: bool = False
    stopping: bool = False  # native sidecars are told to end
    beside: Set[str] = field(default_factory=set)  # foreign containers that have not ended
    native: Set[str] = field(default_factory=set)

    def of(self, item: Foreign) -> Set[str]:
        """The names among which one is while it has not ended."""
        return self.native if item.native else self.beside


def own_names(pod: Obj, kind: str, script: PodScript) -> List[str]:
    """The names of a pod's containers, or init containers, that nobody has added."""
    added = {item.name for item in script.foreign}
    return [it["name"] for it in pod["spec"].get(kind) or () if it["name"] not in added]


def unfinished(pod: Obj) -> List[str]:
    """The names of the containers that have not exited."""
    status = pod["status"]
    items = [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]
    return [item["name"] for item in items if "terminated" not in item["state"]]


def status_of(pod: Obj, name: str) -> Obj:
    """The status of a container beside others."""
    (found,) = [it for it in pod["status"]["containerStatuses"] if it["name"] == name]
    return dict(found)


def is_native(pod: Obj, name: str) -> bool:
    """Whether a container is a native sidecar."""
    inits = pod["spec"].get("initContainers") or ()
    return any(it["name"] == name and it.get("restartPolicy") == "Always" for it in inits)


def with_foreign(spec: Obj, script: PodScript) -> Obj:
    """A pod's spec with what others add to it: native sidecars first, other containers last."""
    if not script.foreign:
        return spec
    made = [{"name": item.name, "image": "foreign"} for item in script.foreign if not item.native]
    native: List[Obj] = [
        {"name": item.name, "image": "foreign", "restartPolicy": "Always"}
        for item in script.foreign
        if item.native
    ]
    inits = [*native, *(spec.get("initContainers") or ())]
    more = {"initContainers": inits} if inits else {}
    return {**spec, "containers": [*spec["containers"], *made], **more}


def ended(code: int) -> Obj:
    """The state of a container that has exited without more to say."""
    return terminated(code, "Error" if code else "Completed", "")


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
    containers = sorted(pod["spec"]["containers"], key=lambda it: str(it["name"]))
    status["containerStatuses"] = [fresh_status(it, state) for it in containers]


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
    """A pod whose containers have all exited for good; native sidecars do not count."""
    states = [item["state"] for item in pod["status"]["containerStatuses"]]
    failed = script.pod_reason or any(item["terminated"]["exitCode"] for item in states)
    pod["status"]["phase"] = "Failed" if failed else "Succeeded"
