"""The Job controller."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Set, Tuple

from .resources import FOREVER, NOBODY, Obj, has_condition, key_of, now, owner_uids, set_condition
from .scheduler import Steps
from .store import Record

if TYPE_CHECKING:
    from .cluster import FakeCluster


@dataclass
class JobState:
    """What the Job controller knows about one Job; counts are by index."""

    succeeded: Dict[int, int] = field(default_factory=dict)
    failures: Dict[int, int] = field(default_factory=dict)
    ignored: Dict[int, int] = field(default_factory=dict)  # by podFailurePolicy
    restarts: int = 0
    counted: Set[str] = field(default_factory=set)  # UIDs of pods that count already
    not_before: Dict[int, float] = field(default_factory=dict)
    started: Optional[float] = None
    refused: bool = False
    verdict: Optional[Tuple[str, str, str]] = None  # condition, reason, message

    def fail(self, index: int) -> None:
        """Count a failed pod."""
        self.failures[index] = self.failures.get(index, 0) + 1

    def ignore(self, index: int) -> None:
        """Count a failed pod that the Job's podFailurePolicy ignores."""
        self.ignored[index] = self.ignored.get(index, 0) + 1

    def attempt(self, index: int) -> int:
        """How many pods of an index have failed, whether or not they count."""
        return self.failures.get(index, 0) + self.ignored.get(index, 0)

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
        job = self.store.by_uid(owner_uids(pod)[0])
        # With a policy a pod counts, and is replaced, when it has ended, not when it begins to.
        policy = job["spec"].get("podFailurePolicy") if job else None
        if phase == "Succeeded":
            state.succeed(index)
        elif phase == "Failed" or gone or ("deletionTimestamp" in meta and not policy):
            (state.ignore if ignores(policy, pod) else state.fail)(index)
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
        name, attempt = job["metadata"]["name"], state.attempt(index)
        script = self.cluster.script(name, index, attempt)
        if script.refused is not None:
            state.refused = True
            message = f"Error creating: {script.refused}"
            self.cluster.emit(job, "FailedCreate", message, "Warning")
            return
        indexed = index != NOBODY
        marks = {INDEX: str(index)} if indexed else {}
        prefix = f"{name}-{index}-" if indexed else f"{name}-"
        pod = self.cluster.make_pod(job, job["spec"]["template"], prefix, marks, script)
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


def ignores(policy: Optional[Obj], pod: Obj) -> bool:
    """Whether a podFailurePolicy ignores the end of a pod, by its conditions."""
    for rule in (policy or {}).get("rules", ()):
        if rule["action"] == "Ignore":
            if any(has_condition(pod, item["type"]) for item in rule.get("onPodConditions", ())):
                return True
    return False


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


def ranges(indexes: Set[int]) -> str:
    """Indexes as Job status writes them: 0,2-4."""
    parts: List[List[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
