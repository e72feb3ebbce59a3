"""Sweeps of lines, and what of them failed again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gitserver import GitServer
from support import ALPINE, Kubectl

if TYPE_CHECKING:
    from tests.conftest import Cli

HUNGRY = 'test "$1" != big || head -c 60000000 /dev/zero | tail -c 60000000 > /dev/null'
"""A command that needs more than 60 MB where its word says so."""


def test_a_sweep_retried_with_more_memory(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """Of 30 lines 4 have too little memory; these alone run again, as they were and under
    their own indexes, with the archive of the first run.
    """
    big = {3, 7, 8, 29}
    sizes = ["big" if number in big else "small" for number in range(30)]
    rows = [f'{size},"it\'s {number}\n$(id) {{}}"' for number, size in enumerate(sizes)]
    (workdir / "p.csv").write_text("size,text\n" + "\n".join(rows) + "\n")
    (workdir / "run.sh").write_text(
        f"{HUNGRY} || exit 1\nmkdir out\n"
        'printf "%s|" "$K8R_INDEX/$K8R_COUNT" "$size" "$2" > out/f\n'
        'cmp -s out/f out/f && [ "$2" = "$text" ] || exit 9\n'
    )
    options = ["--mem", "32Mi", "--out", "out", "--parallel", "10", "--job-name", "sweep"]
    options += ["--base-image", ALPINE]
    done = run("./", "--each", "p.csv", *options, "--", "sh", "run.sh", "{size}", "{text}")
    assert done.code and "26 of 30 succeeded" in done.err, done.err
    hint = re.search(r"k8r retry sweep .*--mem 64Mi", done.err)
    assert hint, done.err
    (workdir / "run.sh").write_text("exit 44\n")
    again = run("retry", "sweep", "--mem", "256Mi")
    assert again.code == 0, again.err
    assert kubectl.get("job", "sweep-retry")["spec"]["completions"] == 4
    for index in range(30):
        text = (workdir / "out" / str(index) / "f").read_text()
        assert text == f"{index}/30|{'big' if index in big else 'small'}|it's {index}\n$(id) {{}}|"
    rows = json.loads(run("ls", "sweep-retry", "-o", "json").text)
    assert {row["index"]: row["line"] for row in rows} == {
        index: f'big,"it\'s {index}\n$(id) {{}}"' for index in big
    }
    assert "LINE" in run("ls", "sweep").text.splitlines()[0]
    refused = run("retry", "sweep-retry")
    assert refused.code == 2 and "sweep-retry succeeded" in refused.err
    assert run("retry", "sweep", "--index", "30").code == 2


def test_the_first_column_before_each_line(run: Cli, workdir: Path) -> None:
    """By --prefix, of a run, of its logs, of a retry and of a run on this machine."""
    (workdir / "p.csv").write_text('name,rate\nbig run,1\n"two\nlines",2\n')
    words = ("--each", "p.csv", "--prefix", "--job-name", "x", "--", "sh", "-c")
    done = run("./", *words, 'echo rate "$0" && [ $0 = 1 ]', "{rate}")
    shown = ["[big run] rate 1", "[two\\nlines] rate 2"]
    assert done.code == 1 and sorted(done.text.splitlines()) == shown, done.err
    assert run("logs", "x", "--prefix").text.splitlines() == shown
    assert run("logs", "x").text == "[0] rate 1\n[1] rate 2\n"
    again = run("retry", "x", "--index", "0-1")
    assert again.code == 1 and sorted(again.text.splitlines()) == shown, again.err
    here = run("--local", "./", *words, "echo rate $0", "{rate}")
    assert here.code == 0 and sorted(here.text.splitlines()) == shown, here.err
    assert run("./", "--num", "2", "--prefix", "--", "true").code == 2


def test_an_archive_that_is_gone(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """The directory is packed anew, and said to differ; one index alone keeps its number, and
    a retry of a retry finds its lines.
    """
    (workdir / "run.sh").write_text('[ "$K8R_INDEX" != 2 ]\n')
    done = run("./", "--job-name", "x", "--num", "4", "--base-image", ALPINE, "--", "sh", "run.sh")
    assert done.code == 1 and "k8r retry x" in done.err
    kubectl("delete", "configmaps", "-l", "k8r-job=x")
    (workdir / "run.sh").write_text("echo $K8R_INDEX of $K8R_COUNT; exit 3\n")
    done = run("retry", "x")
    assert (done.code, done.text) == (3, "2 of 4\n") and "has changed since" in done.err
    done = run("retry", "x-retry", "--index", "2")
    assert (done.code, done.text) == (3, "2 of 4\n") and "has changed" not in done.err
    assert kubectl.get("job", "x-retry-1")
    kubectl("delete", "configmaps", "-l", "created-by=k8r")
    workdir.rename(workdir.parent / "gone")
    done = run("retry", "x-retry", cwd=workdir.parent)
    assert done.code == 2 and "is gone" in done.err, done.err


def test_an_image(run: Cli, kubectl: Kubectl) -> None:
    """It is the image of the first run, by its digest where its node tells that."""
    done = run(ALPINE, "--job-name", "i", "--env", "A=1", "--", "sh", "-c", "echo $A$B; exit 4")
    assert (done.code, done.text) == (4, "1\n")
    noted = kubectl.get("job", "i")["metadata"]["annotations"].get("k8r-revision")
    again = run("retry", "i", "--env", "B=2")
    assert (again.code, again.text) == (4, "12\n")
    main = kubectl.get("job", "i-retry")["spec"]["template"]["spec"]["containers"][0]
    assert main["image"] == (noted or ALPINE)
    assert noted or "is not known" in again.err


def test_a_repository(run: Cli, kubectl: Kubectl, git_server: GitServer) -> None:
    """It is the commit of the first run, whatever its branch is now; its pods are gone by then."""
    done = run(git_server.url(), "--ref", "dev", "--", "sh", "-c", "cat version; exit 5")
    assert (done.code, done.text) == (5, "dev\n"), done.err
    commit = kubectl.get("job", "project")["metadata"]["annotations"]["k8r-revision"]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    kubectl("delete", "pods", "--all", "--grace-period=1")
    again = run("retry", "project")
    assert (again.code, again.text) == (5, "dev\n"), again.err
    pod = kubectl.get("job", "project-retry")["spec"]["template"]["spec"]
    variables = {item["name"]: item["value"] for item in pod["initContainers"][0]["env"]}
    assert variables["K8R_GIT_REF"] == commit and "is not known" not in again.err


def test_a_local_sweep(k8r: Cli, workdir: Path) -> None:
    """On this machine lines come from standard input, too."""
    (workdir / "file").write_text("")
    done = k8r("--local", "./", "--each", "-", "--", "echo", "{line}", stdin=b"a  b\n#\nc'\n")
    assert done.code == 0, done.err
    assert sorted(done.text.splitlines()) == ["[0] a  b", "[1] c'"]
