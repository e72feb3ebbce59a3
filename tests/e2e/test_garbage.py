"""What a run leaves in the cluster, for how long, and what bounds it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Tuple

import pytest

from support import ALPINE, MIB, Kubectl

if TYPE_CHECKING:
    from tests.conftest import Cli

WEEK = 7 * 24 * 3600
PROTECTED = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}


def archives(kubectl: Kubectl) -> List[str]:
    """The Jobs whose archives are in the cluster."""
    items = [item for item in kubectl.items("configmaps") if "labels" in item["metadata"]]
    return sorted({item["metadata"]["labels"]["k8r-job"] for item in items})


@pytest.mark.parametrize(
    "options, kept",
    [((), WEEK), (("--keep", "1h"), 3600), (("--keep", "forever"), None), (("--rm",), 600)],
)
def test_how_long_it_stays(
    run: Cli, kubectl: Kubectl, options: Tuple[str, ...], kept: Optional[int]
) -> None:
    """The cluster itself removes what has ended, after a week unless told otherwise."""
    assert run(ALPINE, "-d", *options, "--", "true").code == 0
    [job] = kubectl.items("jobs")
    assert job["spec"].get("ttlSecondsAfterFinished") == kept


@pytest.mark.parametrize(
    "options, limit, protected",
    [((), 3600, False), (("--timeout", "2h"), 7200, True), (("--timeout", "none"), None, False)],
)
def test_how_long_it_may_take(
    run: Cli, kubectl: Kubectl, options: Tuple[str, ...], limit: Optional[int], protected: bool
) -> None:
    """An hour unless told otherwise; who says it has pods that autoscalers leave alone."""
    assert run(ALPINE, "-d", *options, "--", "true").code == 0
    [job] = kubectl.items("jobs")
    assert job["spec"].get("activeDeadlineSeconds") == limit
    annotations = job["spec"]["template"]["metadata"]["annotations"]
    assert (PROTECTED.items() <= annotations.items()) is protected


def test_a_limit_is_named(run: Cli) -> None:
    """Where it is reached, the option that sets it is said."""
    ended = run(ALPINE, "--timeout", "2", "--", "sleep", "60")
    assert ended.code == 124
    assert "2 s" in ended.err and "--timeout" in ended.err


def test_the_archive_of_a_success(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """It goes as soon as its run was followed to that; the rest stays for logs."""
    (workdir / "file").write_text("content\n")
    assert run("./", "--", "cat", "file").code == 0
    assert archives(kubectl) == []
    assert run("logs", "work").text == "content\n"


def test_the_archives_of_failures(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """That of the latest stays, one for each name; nothing that runs loses its own."""
    (workdir / "file").write_text("content\n")
    for _ in range(2):
        assert run("./", "--", "sh", "-c", "exit 3").code == 3
    assert archives(kubectl) == ["work-1"]
    assert run("./", "--job-name", "other", "--", "sh", "-c", "exit 3").code == 3
    assert run("./", "-d", "--", "sleep", "600").code == 0
    assert run("./", "--", "sh", "-c", "exit 3").code == 3
    assert archives(kubectl) == ["other", "work-2", "work-3"]


@pytest.mark.parametrize("size, warned", [(600 * MIB, True), (400 * MIB, False)])
def test_archives_that_fill_the_database(
    run: Cli, kubectl: Kubectl, workdir: Path, size: int, warned: bool
) -> None:
    """Before much is sent, what is there is added up; the remedy is named."""
    labels = {"created-by": "k8r", "k8r-job": "old", "k8r-source-type": "directory"}
    for part in range(2):
        annotations = {"k8r-run-id": "old", "k8r-size": str(size // 2)}
        metadata = {"name": f"old-{part}", "labels": labels, "annotations": annotations}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        kubectl("create", "-f", "-", stdin=json.dumps(made).encode())
    (workdir / "large").write_bytes(os.urandom(9 * MIB))
    ended = run("./", "--", "true")
    assert ended.code == 0, ended.err
    assert ("600.0 MiB" in ended.err and "rm --done" in ended.err) is warned
