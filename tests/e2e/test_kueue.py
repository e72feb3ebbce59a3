"""Kueue beside the test cluster: that it rules over the Jobs of a test's namespace alone."""

from __future__ import annotations

import json

import pytest

from kueue import GATED, QUEUE_LABEL, Kueue
from support import Kubectl, until

GATE = "kueue.x-k8s.io/admission-gated-by"


def test_a_job_with_a_queue_is_admitted(kubectl: Kubectl, kueue: Kueue) -> None:
    """A Job made without a word of suspension comes back suspended, is admitted, and runs."""
    queue = kueue.queue()
    assert kueue.job("free", queue, "exit 0")["spec"]["suspend"] is True
    until(lambda: kueue.condition("free", "Admitted").get("status") == "True", "admission")
    kubectl("wait", "--for=condition=Complete", "job/free", "--timeout=60s")


def test_a_job_waits_while_the_quota_is_full(kubectl: Kubectl, kueue: Kueue) -> None:
    """It is suspended and says why; with the quota free again it runs."""
    queue = kueue.queue()
    kueue.block(queue)
    assert kueue.job("second", queue, "exit 0")["spec"]["suspend"] is True
    reserved = until(lambda: kueue.condition("second", "QuotaReserved"), "a reason to wait")
    assert reserved["status"] == "False"
    assert "insufficient unused quota for pods" in reserved["message"]
    assert [pod for pod in kubectl.names("pods") if pod.startswith("second")] == []
    kueue.unblock()
    kubectl("wait", "--for=condition=Complete", "job/second", "--timeout=60s")


def test_a_running_job_is_evicted(kubectl: Kubectl, kueue: Kueue) -> None:
    """A queue that is drained takes a Job's pod away, and gives it another one later."""
    queue = kueue.queue()
    pod = kueue.block(queue)
    kueue.drain(queue)
    until(lambda: kubectl.get("job", "blocker")["spec"]["suspend"], "a suspended Job")
    kueue.resume(queue)
    assert kubectl.running_pod("blocker", but=[pod]) != pod


def test_a_namespace_without_the_label_has_no_kueue(kubectl: Kubectl, kueue: Kueue) -> None:
    """Jobs of other tests run, whatever Kueue does."""
    kueue.leave()
    kueue.job("plain", None, "exit 0")
    kubectl("wait", "--for=condition=Complete", "job/plain", "--timeout=60s")
    assert kueue.workload("plain") == {}


def test_a_queue_named_default_is_that_of_every_job(kubectl: Kubectl, kueue: Kueue) -> None:
    """The webhook adds the label."""
    kueue.queue("default")
    made = kueue.job("plain", None, "exit 0")
    assert made["metadata"]["labels"][QUEUE_LABEL] == "default"
    kubectl("wait", "--for=condition=Complete", "job/plain", "--timeout=60s")


def test_every_job_is_managed(kubectl: Kubectl, kueue: Kueue) -> None:
    """With manageJobsWithoutQueueName a Job without a queue is suspended, and gets no label."""
    kueue.manage("all")
    made = kueue.job("plain", None, "exit 0")
    assert made["spec"]["suspend"] is True
    assert QUEUE_LABEL not in made["metadata"].get("labels", {})


@pytest.mark.gates(GATED)
def test_admission_is_gated(kubectl: Kubectl, kueue: Kueue) -> None:
    """With the feature gate, the annotation holds a Job back until it is removed."""
    queue = kueue.queue()
    kueue.job("gated", queue, "exit 0", annotations={GATE: "k8r.dev/upload"})
    reserved = until(lambda: kueue.condition("gated", "QuotaReserved"), "a reason to wait")
    assert (reserved["status"], reserved["reason"]) == ("False", "AdmissionGated")
    patch = json.dumps({"metadata": {"annotations": {GATE: None}}})
    kubectl("patch", "job", "gated", "--type=merge", "-p", patch)
    kubectl("wait", "--for=condition=Complete", "job/gated", "--timeout=60s")


def test_admission_is_not_gated(kubectl: Kubectl, kueue: Kueue) -> None:
    """Without the feature gate the annotation has no effect."""
    queue = kueue.queue()
    kueue.job("gated", queue, "exit 0", annotations={GATE: "k8r.dev/upload"})
    kubectl("wait", "--for=condition=Complete", "job/gated", "--timeout=60s")


@pytest.mark.alone
def test_kueue_is_down(kubectl: Kubectl, kueue: Kueue) -> None:
    """Its webhook then refuses each Job of the namespace, until it is up again."""
    queue = kueue.queue()
    kueue.stop()
    with pytest.raises(AssertionError, match="failed calling webhook"):
        kueue.job("early", queue, "exit 0")
    kueue.start()
    kueue.job("late", queue, "exit 0")
    kubectl("wait", "--for=condition=Complete", "job/late", "--timeout=60s")
