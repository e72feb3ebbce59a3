"""The lives of pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, Generator, List, Optional, Set, Tuple

from .containerlog import ContainerLog
from .resources import FOREVER, NOBODY, Obj, condition, now, owner_uids
from .scheduler import Steps, Vanished
from .scripts import Line, Output, PodScript
from .store import Record

if TYPE_CHECKING:
    from .cluster import FakeCluster

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
