"""Judging: what Jobs, pods and events, as Kubernetes 1.36 returns them, mean."""

from __future__ import annotations

import copy
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import k8r

UID = "6a1f8f0e-3a0e-4a53-9a75-5b0e2c9d7f10"
SHA = "docker.io/library/alpine@sha256:" + "1e42bbe2508154c9126d48c2b8a75420" * 2


def terminated(code: int, reason: str = "") -> Dict[str, Any]:
    """The state of a container that has ended."""
    return {
        "terminated": {
            "containerID": "containerd://" + "ab" * 32,
            "exitCode": code,
            "finishedAt": "2026-01-01T10:00:02Z",
            "reason": reason or ("Error" if code else "Completed"),
            "startedAt": "2026-01-01T10:00:01Z",
        }
    }


def waiting(reason: str, message: str = "") -> Dict[str, Any]:
    """The state of a container that has not begun."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


RUNNING = {"running": {"startedAt": "2026-01-01T10:00:01Z"}}


def status(name: str, state: Optional[Dict[str, Any]], restarts: int = 0) -> Dict[str, Any]:
    """One entry of containerStatuses."""
    return {
        "image": "docker.io/library/alpine:latest",
        "imageID": SHA,
        "lastState": {},
        "name": name,
        "ready": "running" in (state or {}),
        "restartCount": restarts,
        "started": "running" in (state or {}),
        "state": state or {},
    }


def pod(
    state: Optional[Dict[str, Any]] = None,
    phase: str = "Running",
    index: int = 0,
    second: int = 0,
    restart: str = "Never",
    **more: Any,
) -> Dict[str, Any]:
    """A Job's pod; without a state its node has not reported anything yet."""
    init: List[Any] = more.pop("init", [])
    result: Dict[str, Any] = {
        "metadata": {
            "name": f"train-{index}-x{second:02d}",
            "namespace": "default",
            "uid": f"pod-{index}-{second}",
            "creationTimestamp": f"2026-01-01T10:00:{second:02d}Z",
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "labels": {"created-by": "k8r", "k8r-job": "train", "k8r-source-type": "container"},
            "ownerReferences": [{"kind": "Job", "name": "train", "uid": UID, "controller": True}],
        },
        "spec": {
            "containers": [{"name": "main", "image": "alpine", "resources": {}}],
            "restartPolicy": restart,
        },
        "status": {"phase": phase, "qosClass": "BestEffort", **more},
    }
    if state is not None:
        result["status"]["containerStatuses"] = [status("main", state)]
    if init:
        result["status"]["initContainerStatuses"] = init
    return result


def leaving(state: Dict[str, Any]) -> Dict[str, Any]:
    """A pod that somebody deleted a second before its containers ended."""
    made = pod(state)
    made["metadata"].update(deletionTimestamp="2026-01-01T10:00:31Z", deletionGracePeriodSeconds=30)
    return made


def condition(kind: str, value: str = "True", reason: str = "") -> Dict[str, Any]:
    """A condition of a Job."""
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": "",
        "lastProbeTime": "2026-01-01T10:00:03Z",
        "lastTransitionTime": "2026-01-01T10:00:03Z",
    }


COMPLETE = [condition("SuccessCriteriaMet", reason="CompletionsReached"), condition("Complete")]


def failed(reason: str) -> List[Dict[str, Any]]:
    """The conditions of a Job that has failed."""
    return [condition("FailureTarget", reason=reason), condition("Failed", reason=reason)]


def job(conditions: Sequence[Dict[str, Any]] = (), num: int = 1, **more: Any) -> Dict[str, Any]:
    """A Job; `retry` and `suspend` go to its spec, the rest to its status."""
    spec: Dict[str, Any] = {
        "completions": num,
        "parallelism": num,
        "completionMode": "Indexed" if num > 1 else "NonIndexed",
        "backoffLimit": more.pop("retry", 0),
        "suspend": more.pop("suspend", False),
        "activeDeadlineSeconds": more.pop("deadline", None),
    }
    main = {"name": "main", "image": "alpine", "command": ["make", "all"]}
    spec["template"] = {"spec": {"containers": [main], "restartPolicy": "Never"}}
    if num > 1:
        spec["backoffLimitPerIndex"] = spec["backoffLimit"]
        spec["backoffLimit"] = num * (spec["backoffLimit"] + 1)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "train",
            "namespace": "default",
            "uid": UID,
            "creationTimestamp": "2026-01-01T10:00:00Z",
            "labels": {"created-by": "k8r", "k8r-job": "train", "k8r-source-type": "directory"},
        },
        "spec": spec,
        "status": {"conditions": list(conditions), "uncountedTerminatedPods": {}, **more},
    }


# A pod's end


@pytest.mark.parametrize(
    "given_pod, outcome",
    [
        (pod(phase="Pending"), None),
        (pod({}, "Pending"), None),
        (pod(waiting("ContainerCreating"), "Pending"), None),
        (pod(RUNNING), None),
        (pod(terminated(0)), (0, "", "main")),
        (pod(terminated(0), "Succeeded"), (0, "", "main")),
        (pod(terminated(3)), (3, "", "main")),
        (pod(terminated(3), "Failed"), (3, "", "main")),
        (pod(terminated(137, "OOMKilled"), "Failed"), (137, "OOMKilled", "main")),
        (pod(terminated(128, "StartError"), "Failed"), (128, "StartError", "main")),
        (pod(terminated(143)), (143, "", "main")),
        (pod(phase="Failed", reason="Evicted", message="disk"), (125, "Evicted", "main")),
        (pod(phase="Failed", reason="NodeLost"), (125, "NodeLost", "main")),
        (pod(phase="Failed"), (125, "the pod failed", "main")),
        (pod(RUNNING, "Failed", reason="DeadlineExceeded"), (125, "DeadlineExceeded", "main")),
        (pod(phase="Unknown"), None),
        # A container that has ended counts before the kubelet's word on the pod.
        (pod(terminated(1), "Failed", reason="Evicted"), (1, "Evicted", "main")),
        (pod(waiting("PodInitializing"), "Pending", init=[status("git", RUNNING)]), None),
        (
            pod(waiting("PodInitializing"), "Pending", init=[status("git", terminated(128))]),
            (128, "", "git"),
        ),
        (pod(RUNNING, init=[status("git", terminated(0))]), None),
        (pod(terminated(5), init=[status("git", terminated(0))]), (5, "", "main")),
        # The kubelet starts these again.
        (pod(terminated(1), restart="OnFailure"), None),
        (pod(terminated(0), restart="Always"), None),
        (pod(terminated(1), "Failed", restart="OnFailure"), (1, "", "main")),
    ],
)
def test_pod_outcome(given_pod: Dict[str, Any], outcome: Optional[Tuple[int, str, str]]) -> None:
    """A pod has ended when its main container has, or when a part of it has failed."""
    assert k8r.judge_pod(given_pod) == (outcome if outcome is None else k8r.Outcome(*outcome))


@pytest.mark.parametrize(
    "outcome, text",
    [
        (k8r.Outcome(3), "exit code 3"),
        (k8r.Outcome(137, "OOMKilled"), "exit code 137 (OOMKilled)"),
        (k8r.Outcome(128, "", "git"), "init container git: exit code 128"),
    ],
)
def test_outcome_in_words(outcome: k8r.Outcome, text: str) -> None:
    """The reason is named, and so is a container that is not the user's."""
    assert str(outcome) == text


@pytest.mark.parametrize(
    "state, begun",
    [
        (None, False),
        ({}, False),
        (waiting("ImagePullBackOff"), False),
        (RUNNING, True),
        (terminated(0), True),
    ],
)
def test_has_started(state: Optional[Dict[str, Any]], begun: bool) -> None:
    """Only a running or ended main container has a log."""
    assert k8r.has_started(pod(state)) is begun
    if state is None:
        assert not k8r.has_started(pod(init=[status("git", RUNNING)]))


def test_pod_without_status() -> None:
    """A pod that was just created has nothing to judge."""
    fresh = pod()
    del fresh["status"]
    assert k8r.judge_pod(fresh) is None
    assert k8r.list_container_statuses(fresh) == []
    assert k8r.get_pod_index({"metadata": {"name": "x", "annotations": None}}) == 0
    assert k8r.get_pod_index(pod(index=12)) == 12


# Retries


@pytest.mark.parametrize(
    "pods, retry, final, decided",
    [
        ([], 0, False, {}),
        ([pod(RUNNING)], 0, False, {}),
        ([pod(terminated(1))], 0, False, {0: 1}),
        ([pod(terminated(1))], 1, False, {}),
        ([pod(terminated(1))], 1, True, {0: 1}),
        ([pod(terminated(1)), pod(RUNNING, second=1)], 1, False, {}),
        ([pod(terminated(1)), pod(terminated(2), second=1)], 1, False, {0: 2}),
        ([pod(terminated(2), second=1), pod(terminated(1))], 1, False, {0: 2}),
        ([pod(terminated(1)), pod(terminated(2), second=1)], 5, True, {0: 2}),
        ([pod(terminated(1)), pod(terminated(0), second=1)], 1, False, {0: 0}),
        ([pod(terminated(0)), pod(terminated(1), second=1)], 0, True, {0: 0}),
        ([pod(terminated(0), index=i) for i in (0, 2)], 0, False, {0: 0, 2: 0}),
        ([pod(terminated(i), index=i) for i in (0, 1, 3)], 0, False, {0: 0, 1: 1, 3: 3}),
        # A limit counts for each index by itself.
        ([pod(terminated(1), index=i) for i in (0, 1)], 1, False, {}),
        # A pod that was deleted may be replaced without a retry being counted.
        ([leaving(terminated(143))], 0, False, {}),
        ([leaving(terminated(143))], 0, True, {0: 143}),
        ([leaving(terminated(0))], 0, False, {}),
        ([leaving(terminated(0))], 0, True, {0: 125}),
        ([leaving(terminated(0)), pod(terminated(3), second=1)], 0, True, {0: 3}),
        ([leaving(terminated(143)), pod(terminated(0), second=1)], 0, False, {0: 0}),
    ],
)
def test_latest_outcomes(pods: List[Any], retry: int, final: bool, decided: Dict[int, int]) -> None:
    """An index is decided by a success, by one failure more than there are retries, or by
    the end of the Job.
    """
    outcomes = k8r.decide_indexes(pods, retry, final)
    assert {index: outcome.code for index, outcome in outcomes.items()} == decided


@given(
    st.lists(st.sampled_from([0, 1, 2, None]), max_size=6),
    st.integers(0, 4),
    st.booleans(),
    st.randoms(),
)
def test_order_of_arrival_does_not_matter(
    codes: List[Any], retry: int, final: bool, random: Any
) -> None:
    """Pods are told in any order; their age counts."""
    pods = [
        pod(RUNNING if code is None else terminated(code), second=second)
        for second, code in enumerate(codes)
    ]
    ordered = k8r.decide_indexes(pods, retry, final)
    random.shuffle(pods)
    assert k8r.decide_indexes(pods, retry, final) == ordered


# Verdicts

DEAD = pod(phase="Failed", reason="Evicted")


@pytest.mark.parametrize(
    "given_job, pods, code, words",
    [
        (job(), [], None, ""),
        (job(), [pod(RUNNING)], None, ""),
        # The container decides, before the Job's own condition.
        (job(), [pod(terminated(0))], 0, "train succeeded"),
        (job(), [pod(terminated(7))], 7, "train failed: exit code 7"),
        (job(), [pod(terminated(137, "OOMKilled"))], 137, "exit code 137 (OOMKilled)"),
        (job(), [DEAD], 125, "Evicted"),
        (job(COMPLETE), [pod(terminated(0))], 0, "train succeeded"),
        # The pods may be gone already.
        (job(COMPLETE), [], 0, "train succeeded"),
        (job(failed("BackoffLimitExceeded")), [], 125, "BackoffLimitExceeded"),
        (job(failed("BackoffLimitExceeded")), [pod(terminated(4))], 4, "exit code 4"),
        (job(failed("")), [], 125, "its pods are gone"),
        (job([condition("SuccessCriteriaMet")]), [], None, ""),
        (job([condition("Failed", "False")]), [], None, ""),
        (job([condition("Suspended", "True", "JobSuspended")], suspend=True), [], None, ""),
        # Deadlines.
        (job(failed("DeadlineExceeded"), deadline=60), [], 124, "after 60 s (DeadlineExceeded)"),
        (job(failed("DeadlineExceeded"), deadline=60), [pod(RUNNING)], 124, "timed out"),
        (job(failed("DeadlineExceeded"), deadline=60), [pod(terminated(143))], 124, "timed out"),
        # Retries.
        (job(retry=2), [pod(terminated(1))], None, ""),
        (job(retry=1), [pod(terminated(1)), pod(terminated(2), second=1)], 2, "exit code 2"),
        (job(retry=1), [pod(terminated(1)), pod(terminated(0), second=1)], 0, "succeeded"),
        # A pod that was evicted took a retry, and the Job has given up.
        (job(failed("BackoffLimitExceeded"), retry=3), [pod(terminated(6))], 6, "exit code 6"),
        # Several indexes.
        (job(num=3), [pod(terminated(0), index=i) for i in range(3)], 0, "train succeeded"),
        (job(num=3), [pod(terminated(0), index=i) for i in range(2)], None, ""),
        (job(num=3), [pod(terminated(i), index=i) for i in range(2)], None, ""),
        (
            job(num=3),
            [pod(terminated(i), index=i) for i in range(3)],
            1,
            "train: 1 of 3 succeeded; exit code 1: index 1; exit code 2: index 2",
        ),
        (
            job(num=2),
            [pod(terminated(9), index=1), pod(terminated(8), index=0, second=5)],
            8,
            "train: 0 of 2 succeeded; exit code 8: index 0; exit code 9: index 1",
        ),
        (
            job(failed("FailedIndexes"), num=3),
            [pod(terminated(5), index=2)],
            5,
            "train: 0 of 3 succeeded; exit code 5: index 2",
        ),
        (job(COMPLETE, num=1000), [], 0, "train succeeded"),
    ],
)
def test_verdict(
    given_job: Dict[str, Any], pods: List[Any], code: Optional[int], words: str
) -> None:
    """The exit code of the lowest failing index, 124 for a deadline, 125 where there is none."""
    before = copy.deepcopy((given_job, pods))
    found = k8r.judge_job(given_job, pods)
    assert (given_job, pods) == before
    assert (found and found.code) == code
    if found:
        assert words in found.text


def test_job_of_somebody_else() -> None:
    """Defaults that the API server fills in are not relied on."""
    bare = job()
    bare["spec"] = {}
    del bare["status"]
    assert k8r.judge_job(bare, [pod(terminated(1))]) is None
    found = k8r.judge_job(bare, [pod(terminated(0))])
    assert found and found[:3] == (0, "train succeeded", "Complete")


def test_failures_are_told_by_how_they_failed() -> None:
    """Indexes with the same end are one phrase; ten phrases are told, the rest is counted."""
    codes = {1: 1, 3: 1, 5: 1, 6: 1, 7: 1, 2: 137}
    pods = [pod(terminated(codes.get(i, 0)), index=i) for i in range(9)]
    found = k8r.judge_job(job(num=9), pods)
    words = "train: 3 of 9 succeeded; exit code 1: indexes 1, 3, 5-7; exit code 137: index 2"
    assert found and found[:3] == (1, words, "Failed: exit code 1")
    found = k8r.judge_job(job(num=25), [pod(terminated(i + 1), index=i) for i in range(25)])
    assert found and found.text.endswith("exit code 10: index 9; and 15 more")


def test_summary_names_the_reason_of_a_job_without_pods() -> None:
    """Without any outcome there is no success."""
    assert k8r.summarize("x", 1, {}, "FailedIndexes")[:2] == (125, "x failed (FailedIndexes)")
    found = k8r.summarize("x", 2, {0: k8r.Outcome(0)}, "")
    assert found[:2] == (125, "x failed (its pods are gone)")


@pytest.mark.parametrize(
    "conditions, ended",
    [
        ([], False),
        (None, False),
        (COMPLETE, True),
        (failed("x"), True),
        ([condition("FailureTarget")], False),
        ([condition("SuccessCriteriaMet")], False),
        ([condition("Complete", "False")], False),
        ([condition("Complete", "Unknown")], False),
    ],
)
def test_ended_without_a_pod(conditions: Any, ended: bool) -> None:
    """Only by Complete and Failed, and only if they are true."""
    some = job()
    some["status"]["conditions"] = conditions
    assert (k8r.judge_job(some, []) is not None) is ended


def test_a_job_that_fails_before_its_pods_have_ended() -> None:
    """As those of Kubernetes before 1.31 do: the command's own end counts, once it is there."""
    some = job(failed("BackoffLimitExceeded"))
    assert k8r.judge_job(some, [leaving(RUNNING)]) is None
    told = k8r.judge_job(some, [leaving(terminated(143))])
    assert told and told.code == 143
    untold = k8r.judge_job(some, [pod(RUNNING)])
    assert untold and untold.text == "train failed (BackoffLimitExceeded)"


# Waiting


def event(reason: str, message: str, kind: str = "Pod") -> Dict[str, Any]:
    """An event, as the API lists them."""
    return {
        "type": "Warning",
        "reason": reason,
        "message": message,
        "involvedObject": {"kind": kind, "name": "train"},
        "lastTimestamp": "2026-01-01T10:00:01Z",
    }


UNSCHEDULABLE = "0/1 nodes are available: 1 Insufficient cpu."


def unschedulable() -> Dict[str, Any]:
    """A pod that asks for more than there is."""
    entry = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": UNSCHEDULABLE,
    }
    made = pod(phase="Pending", conditions=[entry])
    made["spec"]["containers"][0]["resources"] = {
        "limits": {"cpu": "8", "memory": "8Gi", "nvidia.com/gpu": "1"},
        "requests": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"},
    }
    return made


IMAGE = "docker.io/library/alpine:latest"


@pytest.mark.parametrize(
    "given_pod, events, wait",
    [
        (pod(phase="Pending"), [], None),
        (pod(waiting("ContainerCreating"), "Pending"), [], None),
        (pod(waiting("PodInitializing"), "Pending"), [], None),
        (
            pod(waiting("ErrImagePull", "not found"), "Pending"),
            [],
            (f"the image {IMAGE} cannot be pulled: not found", True),
        ),
        (
            pod(waiting("ImagePullBackOff"), "Pending"),
            [],
            (f"the image {IMAGE} cannot be pulled: ImagePullBackOff", True),
        ),
        (
            pod(waiting("InvalidImageName"), "Pending"),
            [],
            (f"'{IMAGE}' is not a valid image name", True),
        ),
        (
            pod(waiting("RegistryUnavailable", "down"), "Pending"),
            [],
            (f"the image {IMAGE} cannot be pulled: down", True),
        ),
        (
            pod(waiting("CreateContainerConfigError", 'secret "x" not found'), "Pending"),
            [],
            (
                "its container cannot be created (CreateContainerConfigError): "
                'secret "x" not found',
                True,
            ),
        ),
        (
            pod(waiting("PodInitializing"), init=[status("git", waiting("ErrImagePull", "no"))]),
            [],
            (f"the image {IMAGE} of init container git cannot be pulled: no", True),
        ),
        (
            unschedulable(),
            [],
            (
                f"no node has enough cpu: {UNSCHEDULABLE[:-1]} "
                "(requested: cpu 4, memory 8.0 GiB, nvidia.com/gpu 1)",
                False,
            ),
        ),
        (
            pod(waiting("ContainerCreating"), "Pending"),
            [event("FailedMount", 'MountVolume.SetUp failed: configmap "x" not found')],
            ('a volume is missing: MountVolume.SetUp failed: configmap "x" not found', True),
        ),
        (
            pod(waiting("ContainerCreating"), "Pending"),
            [event("FailedAttachVolume", "timed out")],
            ("a volume is missing: timed out", False),
        ),
        (
            pod(waiting("ContainerCreating"), "Pending"),
            [event("FailedCreatePodSandBox", "no network")],
            ("the node cannot start it: no network", False),
        ),
        (
            pod(waiting("ContainerCreating"), "Pending"),
            [event("FailedCreatePodSandBox", f'sandbox "{"0f" * 32}": plugin failed')],
            ('the node cannot start it: sandbox "...": plugin failed', False),
        ),
        # The last event that says something counts.
        (
            pod(waiting("ContainerCreating"), "Pending"),
            [event("FailedMount", "x"), event("Scheduled", ""), event("Pulling", 'image "alpine"')],
            ('the node pulls its image: image "alpine"', False),
        ),
        (pod(waiting("ContainerCreating"), "Pending"), [event("Scheduled", "x")], None),
    ],
)
def test_explain_pod(
    given_pod: Dict[str, Any], events: List[Any], wait: Optional[Tuple[str, bool]]
) -> None:
    """A pod that waits is explained in words; what time will not mend is fatal."""
    assert k8r.explain_pod(given_pod, events) == (wait if wait is None else k8r.Wait(*wait))


@pytest.mark.parametrize("reason", sorted(k8r.FATAL_REASONS))
def test_hopeless_reasons(reason: str) -> None:
    """Each of them ends a run in the end, and its message is shown."""
    found = k8r.explain_pod(pod(waiting(reason, "the message"), "Pending"), [])
    assert found and found.fatal
    assert "the message" in found.text or IMAGE in found.text or "again and again" in found.text


def test_explain_root() -> None:
    """A queue or an admission refusal keeps a Job or a Deployment from having pods."""
    assert k8r.explain_root(job(), []) is None
    assert k8r.explain_root(job(), [event("SuccessfulCreate", "Created pod: x", "Job")]) is None
    held = k8r.explain_root(job(suspend=True), [event("Suspended", "", "Job")])
    assert held and not held.fatal and "suspended" in held.text
    text = 'pods "train-x" is forbidden: violates PodSecurity "restricted:latest"'
    said = 'violates PodSecurity "restricted:latest" (--restricted may help)'
    found = k8r.explain_root(job(), [event("FailedCreate", "old"), event("FailedCreate", text)])
    assert found == (f"the cluster refuses its pod: {said}", True)
    refused = deployment(1, None)
    entry = condition("ReplicaFailure", "True", "FailedCreate")
    refused["status"]["conditions"].append(dict(entry, message=text))
    assert k8r.explain_root(refused, []) == (f"the cluster refuses its pod: {said}", True)


def crashing() -> Dict[str, Any]:
    """A pod of a Deployment whose command ends again and again."""
    made = pod(waiting("CrashLoopBackOff", "back-off 10s restarting"), restart="Always")
    made["status"]["containerStatuses"][0].update(lastState=terminated(3), restartCount=2)
    return made


@pytest.mark.parametrize(
    "requested, limited, fatal",
    [
        ("pods=1", "pods=3", False),
        ("pods=1", "pods=0", True),
        ("limits.cpu=2,limits.memory=1Gi", "limits.cpu=4,limits.memory=512Mi", True),
        ("limits.cpu=500m,limits.memory=1Gi", "limits.cpu=1,limits.memory=1Gi", False),
    ],
)
def test_a_quota(requested: str, limited: str, fatal: bool) -> None:
    """One in use is waited for; only what alone exceeds it is hopeless."""
    text = f'Error creating: pods "x" is forbidden: exceeded quota: team, requested: {requested}, '
    text += f"used: {limited}, limited: {limited}"
    found = k8r.explain_root(job(), [event("FailedCreate", text)])
    assert found and found.fatal is fatal and "exceeded quota: team" in found.text
    later = [event("FailedCreate", text), event("SuccessfulCreate", "Created pod: x")]
    assert k8r.explain_root(job(), later) is None


@pytest.mark.parametrize(
    "reason",
    ["ImageInspectError", "SignatureValidationFailed", "PreCreateHookError", "PreStartHookError"]
    + ["PostStartHookError", "SomethingNew"],
)
def test_reasons_that_nobody_has_listed(reason: str) -> None:
    """Whatever is not a step of an ordinary start is a trouble."""
    found = k8r.explain_pod(pod(waiting(reason, "the message"), "Pending"), [])
    assert found and found.fatal and "the message" in found.text
    plain = k8r.explain_pod(pod(waiting(reason), "Pending"), [])
    assert plain and reason in plain.text


@pytest.mark.parametrize(
    "reason, words",
    [("FailedMapVolume", "a volume is missing: the message")]
    + [
        (reason, "the node cannot start it: the message")
        for reason in ("NetworkNotReady", "FailedPrepareDynamicResources", "InspectFailed")
        + ("FailedCreatePodContainer",)
    ],
)
def test_events_of_a_start(reason: str, words: str) -> None:
    """What a node says of a pod that it cannot start is passed on."""
    waits = pod(waiting("ContainerCreating"), "Pending")
    assert k8r.explain_pod(waits, [event(reason, "the message")]) == (words, False)


@pytest.mark.parametrize("reason", ["SchedulingGated", "SchedulerError"])
def test_not_scheduled(reason: str) -> None:
    """A pod that the scheduler does not even look at, or fails at."""
    held = {**condition("PodScheduled", "False", reason), "message": "its words"}
    found = k8r.explain_pod(pod(phase="Pending", conditions=[held]), [])
    assert found == (f"it is not scheduled ({reason}): its words", False)


def test_a_node_that_has_enough() -> None:
    """A resource that a node has is not what lacks: a taint keeps the pod off."""
    refusal = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated "
    refusal += "taint {gpu: }."
    nodes = [{"status": {"allocatable": {"nvidia.com/gpu": "8"}}}, {"status": {}}]
    asking = {"spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}
    found = k8r.explain_unschedulable(asking, refusal, nodes)
    assert found.startswith("no node can take it, as a rule because of a taint: 0/2 nodes")
    assert "no node has enough" in k8r.explain_unschedulable(asking, refusal, nodes[1:])


def beside(main: Any, **others: Any) -> Dict[str, Any]:
    """A pod with containers of others, its statuses sorted by name, as the kubelet sorts them."""
    made = pod(main)
    every = {"main": main, **others}
    made["status"]["containerStatuses"] = [status(name, every[name]) for name in sorted(every)]
    return made


def with_native(main: Any, state: Any) -> Dict[str, Any]:
    """A pod with a native sidecar."""
    made = pod(main, init=[status("proxy", state)])
    made["spec"]["initContainers"] = [{"name": "proxy", "restartPolicy": "Always"}]
    return made


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("state", [RUNNING, terminated(0), terminated(143), terminated(1)])
def test_bystanders_do_not_decide(state: Dict[str, Any], code: int) -> None:
    """Neither native sidecars nor containers whose names sort before or after main's."""
    for made in (
        beside(terminated(code), adapter=state),
        beside(terminated(code), zipkin=state),
        with_native(terminated(code), state),
    ):
        assert k8r.judge_pod(made) == k8r.Outcome(code)
    for made in (beside(RUNNING, adapter=state), with_native(RUNNING, state)):
        assert k8r.judge_pod(made) is None


def test_crashing_pod() -> None:
    """It is explained by the exit code while it waits; once it runs nothing is hopeless."""
    made = crashing()
    assert k8r.is_idle(made) and k8r.has_logs(made)
    found = k8r.explain_pod(made, [])
    assert found and found.fatal and "again and again" in found.text
    assert found.text == "its command ends again and again: exit code 3 (Error)"
    made["status"]["containerStatuses"][0]["state"] = RUNNING
    assert not k8r.is_idle(made)
    assert k8r.explain_pod(made, []) is None


@pytest.mark.parametrize(
    "given_pod, idle",
    [
        (pod(phase="Pending"), True),
        (pod(waiting("ContainerCreating")), True),
        (pod(RUNNING), False),
        (pod(terminated(0)), False),
        (DEAD, False),
    ],
)
def test_is_idle(given_pod: Dict[str, Any], idle: bool) -> None:
    """A pod is idle until its command runs; one that has ended is not."""
    assert k8r.is_idle(given_pod) is idle


def test_has_logs() -> None:
    """A container that waits to be started again has its former run's."""
    assert not k8r.has_logs(pod(waiting("ContainerCreating")))
    assert k8r.has_logs(pod(RUNNING)) and k8r.has_logs(crashing())


@pytest.mark.parametrize(
    "changes, done",
    [
        ({}, True),
        ({"observedGeneration": 1}, False),
        ({"updatedReplicas": 1}, False),
        ({"availableReplicas": 1}, False),
        ({"replicas": 3}, False),
        ({"availableReplicas": None}, False),
    ],
)
def test_is_rolled_out(changes: Dict[str, Any], done: bool) -> None:
    """All pods are of the latest template and available, and no old one is left."""
    made = deployment(2, 2)
    made["metadata"]["generation"] = 2
    counts = {"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 2}
    made["status"].update({**counts, **changes})
    assert k8r.is_rolled_out(made) is done
    assert k8r.is_under_way(made) is done
    assert k8r.is_deployment(made) and not k8r.is_deployment(job())
    assert not k8r.is_under_way(job())


def test_fresh_deployment_is_not_rolled_out() -> None:
    """Without a status nothing is."""
    made = deployment(1, None)
    made["metadata"]["generation"] = 1
    made["status"] = {}
    assert not k8r.is_rolled_out(made)


GIB = {"memory": str(2**30)}
NODES = [
    {"status": {"allocatable": {"cpu": "1930m", "memory": "3Gi"}}},
    {"status": {"allocatable": {"cpu": "1", "memory": "3000000Ki", "pods": "110"}}},
    {"status": {}},
]


@pytest.mark.parametrize(
    "refusal, limits, nodes, words",
    [
        (
            "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: "
            "3 No preemption victims found for incoming pod.",
            {"cpu": "4"},
            NODES,
            "no node has enough cpu: 0/3 nodes are available: 3 Insufficient cpu "
            "(requested: cpu 4; the largest node: cpu 1.93)",
        ),
        (
            "0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory, "
            "3 Insufficient nvidia.com/gpu.",
            {"memory": "64Gi", "cpu": "4", "nvidia.com/gpu": "1"},
            NODES,
            "no node has enough cpu and memory and nvidia.com/gpu: 0/3 nodes are available: "
            "1 Insufficient cpu, 2 Insufficient memory, 3 Insufficient nvidia.com/gpu (requested: "
            "cpu 4, memory 64.0 GiB, nvidia.com/gpu 1; the largest node: cpu 1.93, memory 3.0 GiB, "
            "nvidia.com/gpu 0)",
        ),
        (
            "0/1 nodes are available: 1 Insufficient memory.",
            GIB,
            [],
            "no node has enough memory: 0/1 nodes are available: 1 Insufficient memory "
            "(requested: memory 1.0 GiB)",
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
            {},
            NODES,
            "no node can take it: 0/1 nodes are available: 1 node(s) had untolerated taint "
            "{gpu: yes}",
        ),
        ("no nodes available to schedule pods", {}, [], None),
    ],
)
def test_explain_unschedulable(refusal: str, limits: Any, nodes: Any, words: str) -> None:
    """What was asked stands beside what there is."""
    asking = {"spec": {"containers": [{"resources": {"limits": limits}}]}}
    expected = words or f"no node can take it: {refusal}"
    assert k8r.explain_unschedulable(asking, refusal, nodes) == expected


def node(labels: Dict[str, str], *taints: Dict[str, str]) -> Dict[str, Any]:
    """A node with these labels and taints."""
    return {"metadata": {"labels": labels}, "spec": {"taints": list(taints)}, "status": {}}


UNMATCHED = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
TAINTED = "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
DEDICATED = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}
SHARED = [node({"disk": "hdd"}), node({"disk": "nvme"}, {"key": "gpu", "effect": "NoExecute"})]


@pytest.mark.parametrize(
    "refusal, options, nodes, words",
    [
        (
            UNMATCHED,
            {"node_selector": (("disk", "ssd"), ("zone", "a"))},
            SHARED,
            "(wanted: disk=ssd, zone=a; nodes have: disk=hdd, disk=nvme)",
        ),
        (
            UNMATCHED,
            {"node_selector": (("zone", "a"),)},
            [node({"disk": "hdd"})],
            "(wanted: zone=a; nodes have: none of these labels)",
        ),
        (UNMATCHED, {"node_selector": (("zone", "a"),)}, [], "(wanted: zone=a)"),
        (
            UNMATCHED,
            {"gpu_type": "H100"},
            [node({"nvidia.com/gpu.product": "Tesla-T4"}), node({})],
            "(wanted: nvidia.com/gpu.product=H100, cloud.google.com/gke-accelerator=H100, "
            "skypilot.co/accelerator=H100; nodes have: nvidia.com/gpu.product=Tesla-T4)",
        ),
        (
            TAINTED,
            {},
            [node({"a": "b"}, DEDICATED), *SHARED],
            "(nodes have: the taint dedicated=ml:NoSchedule (see --toleration), "
            "the taint gpu=:NoExecute (see --toleration))",
        ),
        (TAINTED, {}, [], ""),
    ],
)
def test_explain_placement(refusal: str, options: Any, nodes: Any, words: str) -> None:
    """What is wanted of a node stands beside what nodes have, as far as that may be known."""
    work = k8r.Workload("x", "1", "container", "alpine", k8r.RunOptions("alpine", **options))
    pod = k8r.build_job(work)["spec"]["template"]
    text = k8r.explain_unschedulable(pod, refusal, nodes)
    assert text == f"no node can take it: {refusal.rstrip('.')} {words}".rstrip()
    for taint in re.findall(r"the taint (\S+)", text):
        k8r.parse_toleration(taint)


@pytest.mark.parametrize(
    "text, number",
    [("2", 2), ("1930m", 1.93), ("3Gi", 3 * 2**30), ("5k", 5000), ("7n", 7e-9), ("?", 0)],
)
def test_quantity(text: str, number: float) -> None:
    """Quantities of nodes come in every unit of the API."""
    assert k8r.convert_quantity(text) == pytest.approx(number)


def test_asked_of_nothing() -> None:
    """A pod without resources asks for nothing."""
    assert k8r.requested_resources(pod()) == {}
    assert k8r.requested_resources({"spec": {"containers": None}}) == {}


# Listing


def test_job_row() -> None:
    """What `ls` says comes from the status, and 0 where the status is silent."""
    row = k8r.build_job_row(job(num=5, active=3, ready=2, succeeded=1, failed=1))
    assert (row.pop("image"), row.pop("command")) == ("alpine", ["make", "all"])
    assert row == {
        "name": "train",
        "type": "job",
        "source": "directory",
        "desired": 5,
        "running": 2,
        "complete": 1,
        "failed": 1,
        "status": "Running",
        "created": "2026-01-01T10:00:00Z",
        "exit_code": None,
        "seconds": None,
    }
    bare = {"metadata": {"name": "x"}, "spec": {"template": {"spec": {}}}}
    row = k8r.build_job_row(bare)
    assert (row["desired"], row["running"], row["complete"], row["failed"]) == (1, 0, 0, 0)
    assert row["source"] == row["created"] == ""


@pytest.mark.parametrize(
    "given_job, word",
    [
        (job(active=1, ready=1), "Running"),
        (job(active=1), "Running"),
        (job(suspend=True), "Suspended"),
        (job(COMPLETE, succeeded=1), "Complete"),
        (job([condition("SuccessCriteriaMet")], succeeded=1), "Complete"),
        (job(failed("BackoffLimitExceeded"), failed=1), "Failed (BackoffLimitExceeded)"),
        (job(failed("DeadlineExceeded")), "Failed (DeadlineExceeded)"),
        (job([condition("FailureTarget", reason="FailedIndexes")]), "Failed (FailedIndexes)"),
        (job([condition("Failed", "False", "x")], ready=1, active=1), "Running"),
    ],
)
def test_job_status(given_job: Dict[str, Any], word: str) -> None:
    """One word, and the reason of a failure."""
    assert k8r.describe_status(given_job) == word


def test_status_of_a_job_that_is_being_deleted() -> None:
    """Its end is shown, but not before its success or failure."""
    going = job(active=1, ready=1)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T10:01:00Z"
    assert k8r.describe_status(going) == "Terminating"
    going["status"]["conditions"] = COMPLETE
    assert k8r.describe_status(going) == "Complete"


def deployment(replicas: int, ready: Optional[int], progressing: str = "True") -> Dict[str, Any]:
    """A Deployment of k8r."""
    reason = "NewReplicaSetAvailable" if progressing == "True" else "ProgressDeadlineExceeded"
    conditions = [{"type": "Progressing", "status": progressing, "reason": reason}]
    state: Dict[str, Any] = {"replicas": replicas, "conditions": conditions}
    if ready is not None:
        state["readyReplicas"] = ready
    made = job()
    made.update(kind="Deployment", apiVersion="apps/v1", status=state)
    made["spec"] = {"replicas": replicas, "template": made["spec"]["template"]}
    return made


def test_deployment_row() -> None:
    """A Deployment has its row, too."""
    row = k8r.build_deployment_row(deployment(2, 2))
    assert (row["name"], row["type"], row["source"]) == ("train", "deployment", "directory")
    assert (row["desired"], row["running"], row["status"]) == (2, 2, "Running")
    row = k8r.build_deployment_row(deployment(2, None, "False"))
    assert (row["running"], row["status"]) == (0, "Failed (ProgressDeadlineExceeded)")
    assert k8r.build_deployment_row(deployment(0, None))["status"] == "Running"


def test_rows_have_the_same_keys() -> None:
    """One table holds both, and `-o json` has the columns of the table."""
    row = k8r.build_job_row(job())
    assert list(row) == list(k8r.build_deployment_row(deployment(1, 1)))
    now = k8r.parse_timestamp("2026-01-01T10:05:00Z")
    short = ["train", "job", "directory", "1", "0", "0", "0", "Running", "-", "5m"]
    columns = [*k8r.COLUMNS, "image", "command"]
    assert k8r.format_row(row, columns, now) == [*short, "alpine", "make all"]


@pytest.mark.parametrize("conditions", [COMPLETE, failed("BackoffLimitExceeded"), failed("x")])
def test_rows_are_plain_data(conditions: List[Any]) -> None:
    """YAML can be made of a row of a Job that has ended."""
    row, root = k8r.build_row_and_job(job(conditions))
    if root:
        row.update(k8r.correct_by_pods(row, root, [pod(terminated(3))]))
    assert "exit_code: " in "".join(k8r.format_yaml([row]))
    assert type(row["exit_code"]) is int


def test_command_of_a_row() -> None:
    """It is the user's own, not the shell text that unpacks."""
    made = job()
    main = made["spec"]["template"]["spec"]["containers"][0]
    main.update(command=["sh", "-c", "unpack", "k8r"], args=["a\nb", "c" * 100])
    row = k8r.build_job_row(made)
    assert row["command"] == ["a\nb", "c" * 100]
    (cell,) = k8r.format_row(row, ["command"])
    assert "\n" not in cell and len(cell) <= 60


def test_pending_reason() -> None:
    """One word of the scheduler or the kubelet."""
    assert k8r.explain_pending(pod(phase="Pending")) == ("train", "Pending")
    entry = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    assert k8r.explain_pending(pod(phase="Pending", conditions=[entry]))[1] == "Unschedulable"
    pulling = pod(waiting("ImagePullBackOff"), "Pending", conditions=[dict(entry, status="True")])
    assert k8r.explain_pending(pulling)[1] == "ImagePullBackOff"


def test_secret_row() -> None:
    """What a list of secrets shows needs none of their values."""
    made = k8r.build_secret("db", "train", {"user": b"me", "raw": b"\xff", "pass": b"x"})
    made["metadata"]["creationTimestamp"] = "2026-01-01T10:00:00Z"
    del made["data"]
    assert k8r.read_secret_use(made) == k8r.SecretUse("db", "train-db", ("pass", "user"))
    row = k8r.build_secret_row(made)
    assert (row["name"], row["job"], row["object"]) == ("db", "train", "train-db")
    assert row["variables"] == ["DB_PASS", "DB_USER"]
    cells = k8r.format_secret_row(row, k8r.parse_timestamp("2026-01-01T10:05:00Z"))
    assert cells == ["db", "train", "DB_PASS,DB_USER", "5m"]


def test_whose_it_is() -> None:
    """Only what has k8r's label is k8r's; a second run knows the first one's name."""
    assert k8r.is_ours(job()) and not k8r.is_ours(None)
    assert not k8r.is_ours({"metadata": {"name": "x", "labels": {"created-by": "me"}}})
    bare = {"metadata": {"name": "train-1"}}
    assert (k8r.get_base_name(bare), k8r.get_run_id(bare)) == ("train-1", "")
    noted = {"k8r-base-name": "train", "k8r-run-id": "ab"}
    marked = {"metadata": {"name": "train-1", "annotations": noted}}
    assert (k8r.get_base_name(marked), k8r.get_run_id(marked)) == ("train", "ab")
    assert k8r.get_pod_suffix({"metadata": {"name": "web-5d9c7b-x2x9q"}}) == "x2x9q"


def test_table() -> None:
    """Columns are as wide as their widest cell, and no line ends in blanks."""
    text = k8r.format_table(["NAME", "AGE"], [["a-long-name", "1s"], ["b", ""]])
    assert text == "NAME          AGE\na-long-name   1s\nb"
    widths: List[int] = []
    k8r.format_table(["NAME", "AGE"], [["a-long-name", "1s"]], widths)
    assert widths == [11, 3]
    assert k8r.format_table([], [["b", "2s"]], widths) == "b             2s"


# Logs of containers


@pytest.mark.parametrize(
    "given_pod, key, ended",
    [
        (pod(RUNNING), k8r.TailKey("u", "main", 0), False),
        (pod(terminated(0)), k8r.TailKey("u", "main", 0), True),
        (pod(RUNNING, "Succeeded"), k8r.TailKey("u", "main", 0), True),
        (pod(RUNNING, "Failed"), k8r.TailKey("u", "main", 0), True),
        (pod(phase="Pending"), k8r.TailKey("u", "main", 0), False),
        (pod(RUNNING, init=[status("git", terminated(0))]), k8r.TailKey("u", "git", 0), True),
        (pod(RUNNING, init=[status("git", terminated(0))]), k8r.TailKey("u", "other", 0), False),
    ],
)
def test_has_ended(given_pod: Dict[str, Any], key: k8r.TailKey, ended: bool) -> None:
    """A container's log has ended with the container or its pod."""
    assert k8r.has_ended(given_pod, key) is ended


def test_restarted_container() -> None:
    """Each run of a container has its own log: the first ended when the second began."""
    first, second = pod(RUNNING), pod(RUNNING)
    second["status"]["containerStatuses"] = [status("main", RUNNING, restarts=1)]
    keys = k8r.get_tail_key(first, "main"), k8r.get_tail_key(second, "main")
    assert keys == (("pod-0-0", "main", 0), ("pod-0-0", "main", 1))
    assert not k8r.has_ended(first, keys[0])
    assert k8r.has_ended(second, keys[0])
    assert not k8r.has_ended(second, keys[1])


def test_belongs_to() -> None:
    """A pod of a Job of the same name that is gone is not taken for one's own."""
    assert k8r.belongs_to(pod(), UID)
    assert not k8r.belongs_to(pod(), "another")
    assert not k8r.belongs_to({"metadata": {"name": "x"}}, UID)


# For people


@pytest.mark.parametrize(
    "seconds, text",
    [
        (-5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (12, "12s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (3 * 3600, "3h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (400 * 86_400, "400d"),
    ],
)
def test_format_age(seconds: float, text: str) -> None:
    """One unit, as kubectl writes it where it uses one."""
    assert k8r.format_age(seconds) == text


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-01T00:00:00Z", 1_767_225_600),
        ("2024-02-29T12:00:00.123456Z", 1_709_208_000),
        ("", 0),
        ("soon", 0),
    ],
)
def test_parse_timestamp(text: str, seconds: float) -> None:
    """UTC, whatever the machine's time zone is."""
    assert k8r.parse_timestamp(text) == seconds


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    """Powers of 1024."""
    assert k8r.format_size(size) == text


ENDED = {"complete": 0, "failed": 0, "seconds": 2.0}


@pytest.mark.parametrize(
    "pods, changes",
    [
        ([], {"complete": 0, "failed": 0, "status": "Pending"}),
        ([pod(terminated(0))], {**ENDED, "complete": 1, "status": "Complete", "exit_code": 0}),
        (
            [pod(terminated(137, "OOMKilled"))],
            {**ENDED, "failed": 1, "status": "Failed: exit code 137 (OOMKilled)", "exit_code": 137},
        ),
        ([pod(RUNNING)], {"complete": 0, "failed": 0}),
        (
            [pod(waiting("ErrImagePull"), "Pending")],
            {"complete": 0, "failed": 0, "status": "Pending (ErrImagePull)"},
        ),
    ],
)
def test_a_row_by_its_pods(pods: List[Any], changes: Dict[str, Any]) -> None:
    """`ls` knows of an end as soon as the run itself does."""
    row, root = k8r.build_row_and_job(job(active=1, ready=0, startTime="2026-01-01T10:00:00Z"))
    assert root is not None and k8r.correct_by_pods(row, root, pods) == changes


def test_a_row_that_says_enough() -> None:
    """A Job with a running pod, or one that has ended, needs no look at its pods."""
    assert k8r.build_row_and_job(job(active=1, ready=1))[1] is None
    ended = k8r.build_row_and_job(job(conditions=[condition("Complete")]))
    assert (ended[0]["status"], ended[1]) == ("Complete", None)


# Nodes


def at(second: int, code: int, rank: int) -> Dict[str, Any]:
    """A node that has ended so."""
    made = pod(terminated(code), "Failed" if code else "Succeeded", index=rank)
    ended = made["status"]["containerStatuses"][0]["state"]["terminated"]
    ended["finishedAt"] = f"2026-01-01T10:00:{second:02d}Z"
    return made


def told(second: int, code: int, rank: int, reason: str = "") -> Dict[str, Any]:
    """A node that was deleted, or of which a condition tells the reason."""
    made = at(second, code, rank)
    if reason:
        disrupted = condition("DisruptionTarget", reason=reason)
        made["status"]["conditions"] = [dict(disrupted, lastTransitionTime="2026-01-01T10:00:02Z")]
    else:
        made["metadata"].update(deletionTimestamp="2026-01-01T10:00:31Z")
        made["metadata"].update(deletionGracePeriodSeconds=30)
    return made


LOST = pod(RUNNING, "Failed", index=1, conditions=[])
LOST["status"].update(told(9, 1, 1, "DeletionByPodGC")["status"], containerStatuses=[])


@pytest.mark.parametrize(
    "pods, code, words",
    [
        # By the time of the end, not by the rank.
        ([at(9, 3, 0), at(5, 4, 1), at(9, 5, 2)], 4, "rank 1 failed first: exit code 4"),
        # In one second those that nobody ended come first, then those that were seen first.
        ([told(5, 143, 0), at(5, 4, 2), at(5, 3, 1)], 4, "rank 2 failed first: exit code 4"),
        ([at(9, 1, 0), told(5, 143, 1, "PreemptionByScheduler")], 143, "rank 1 failed first"),
        ([at(4, 0, 0), told(5, 0, 1, "EvictionByEvictionAPI")], 125, "rank 1 failed first"),
        # A node whose machine was lost has no end of its own.
        ([at(9, 1, 0), LOST], 125, "rank 1 failed first: exit code 125 (DeletionByPodGC"),
        ([at(4, 0, 0)], 125, "train failed (BackoffLimitExceeded)"),
    ],
)
def test_the_first_failure_of_several_nodes(pods: List[Any], code: int, words: str) -> None:
    """It is the verdict, here and in the list."""
    given_job = job(failed("BackoffLimitExceeded"), num=3)
    given_job["metadata"]["annotations"] = {"k8r-nodes": "3"}
    verdict = k8r.judge_job(given_job, pods)
    assert verdict and (verdict.code, words in verdict.text) == (code, True), verdict
    assert k8r.judge_job(dict(given_job, status=job(num=3)["status"]), pods[:1]) is None
    late = dict(given_job, status=job(failed("DeadlineExceeded"))["status"])
    assert "timed out" in k8r.judge_job(late, pods).text  # type: ignore[union-attr]


# Rows of pods


PENDING = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}
DEPLOYED = pod(RUNNING, restart="Always")
DEPLOYED["metadata"]["labels"]["k8r-type"] = "deployment"


@pytest.mark.parametrize(
    "item, words, code, seconds",
    [
        (pod(terminated(0), "Succeeded"), "Complete", 0, 1.0),
        (
            pod(terminated(137, "OOMKilled"), "Failed"),
            "Failed: exit code 137 (OOMKilled)",
            137,
            1.0,
        ),
        (pod(RUNNING), "Running", None, None),
        (
            pod(phase="Pending", conditions=[PENDING]),
            "Pending (no node can take it: full)",
            None,
            None,
        ),
        (pod(phase="Pending"), "Pending", None, None),
        (leaving(RUNNING), "Terminating", None, None),
        (
            leaving(terminated(0)),
            "Failed: exit code 125 (deleted: it was told to end; its command " "ended with 0)",
            125,
            1.0,
        ),
        (DEPLOYED, "Running", None, None),
    ],
)
def test_a_row_of_a_pod(item: Any, words: str, code: Any, seconds: Any) -> None:
    """Each state has its words, and what is not known yet is not there."""
    row = k8r.build_pod_row(item)
    assert (row["status"], row["exit_code"], row["seconds"]) == (words, code, seconds)
    assert row["index"] == (None if item is DEPLOYED else 0)
    header, line = k8r.format_rows([row], [*k8r.POD_COLUMNS, "name"]).splitlines()
    assert len(re.split("   +", line)) == len(header.split()) and item["metadata"]["name"] in line


def test_attempts_are_numbered() -> None:
    """By index and age; an index that another attempt has brought to success has not failed."""
    bad, good = terminated(1), terminated(0)
    tries = [(1, 3, good), (0, 0, bad), (10, 4, bad), (1, 0, bad), (10, 2, bad), (2, 0, RUNNING)]
    pods = [pod(state, index=index, second=second) for index, second, state in tries]
    rows = k8r.number_attempts(map(k8r.build_pod_row, pods))
    found = [(row["index"], row["attempt"], row["exit_code"]) for row in rows]
    assert found == [(0, 1, 1), (1, 1, 1), (1, 2, 0), (2, 1, None), (10, 1, 1), (10, 2, 1)]
    assert [row["index"] for row in k8r.list_failed(rows)] == [0, 10, 10]
    both = k8r.number_attempts([k8r.build_pod_row(DEPLOYED), k8r.build_pod_row(DEPLOYED)])
    assert [row["attempt"] for row in both] == [1, 1]
