"""What a run leaves in its container comes back: `--out` and `k8r cp`."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List

import pytest

from common import refused, until
from faultproxy import DOWN, UP, Fault, random_faults
from support import ALPINE, MIB, Kubectl, bound_claim, nothing_made, read_until
from test_bystanders import evict
from test_proxy import FEW, FIRST
from test_rbac import bind, role

if TYPE_CHECKING:
    from conftest import StartFaultProxy
    from gitserver import GitServer
    from tests.conftest import Cli

LARGE = 12 * MIB
FULL = (
    "import sys, os, types; del sys.argv[1:3]; import k8r; "
    "os.fstatvfs = lambda file: types.SimpleNamespace(f_bavail=9, f_frsize=1 << 20); "
    "k8r.run_and_exit()"
)
HASTY = "import sys; del sys.argv[1:3]; import k8r; k8r.RESULTS_TIME = 3.0; k8r.run_and_exit()"


def script(folder: Path, text: str) -> None:
    """Let a directory have a script to run."""
    (folder / "train.sh").write_text(f"mkdir -p results\n{text}\n")


def tree(folder: Path) -> Dict[str, str]:
    """What is in a directory: the content of files, the targets of links."""
    return {
        str(path.relative_to(folder)): (
            f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


TRAIN = ("--", "sh", "train.sh")


@pytest.mark.parametrize(
    "end, code",
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("tail /dev/zero", 137),
    ],
)
def test_whatever_the_end(run: Cli, workdir: Path, end: str, code: int) -> None:
    """The results are here, and the exit code is the command's own; also after an OOM kill."""
    script(workdir, f"echo model > results/m; {end}")
    ended = run("./", "--mem", "32mb", "--out", "results", *TRAIN)
    assert ended.code == code, ended.err
    assert tree(workdir / "results") == {"m": "model\n"}
    assert "results: 1 file, 6 B" in ended.err


def test_after_a_timeout(run: Cli, workdir: Path) -> None:
    """What a command leaves when it is told to end is here, too."""
    script(
        workdir,
        "echo half > results/m; trap 'echo whole > results/m; exit 7' TERM; sleep 60 & wait",
    )
    ended = run("./", "--timeout", "3", "--out", "results", *TRAIN)
    assert ended.code == 124, ended.err
    assert tree(workdir / "results") == {"m": "whole\n"}


def test_after_an_eviction(run: Cli, workdir: Path, kubectl: Kubectl) -> None:
    """As well, since the run is followed."""
    text = "trap 'echo whole > results/m; exit 7' TERM; echo begun; sleep 60 & wait"
    script(workdir, text)
    process = run.start("./", "--job-name", "ev", "--out", "results", *TRAIN)
    read_until(process.stdout, b"begun\n")
    evict(kubectl, kubectl.running_pod("ev"))
    ended = run.finish(process)
    assert ended.code == 7 and "evicted" in ended.err, ended.err
    assert tree(workdir / "results") == {"m": "whole\n"}


def test_two_runs_into_one_directory(run: Cli, workdir: Path) -> None:
    """Each file is of one of them, and whole."""
    script(
        workdir,
        f"for at in a b c; do head -c {LARGE} /dev/zero | tr '\\0' $W > results/$at; done",
    )
    started = [
        run.start(
            "./", "--job-name", f"two-{word}", "--env", f"W={word}", "--out", "results", *TRAIN
        )
        for word in "xy"
    ]
    for process in started:
        ended = run.finish(process)
        assert ended.code == 0, ended.err
    assert sorted(path.name for path in workdir.iterdir()) == ["results", "train.sh"]
    for name in "abc":
        data = (workdir / "results" / name).read_bytes()
        assert data == data[:1] * LARGE and data[:1] in (b"x", b"y")


def test_a_signal_during_a_fetch(run: Cli, workdir: Path, faulty: StartFaultProxy) -> None:
    """Nothing of it is here, and it is said what has it later."""
    script(workdir, f"head -c {LARGE} /dev/urandom > results/big")
    proxy, env = faulty([Fault("stall", DOWN, after=4_000_000, seconds=100)] * 20)
    process = run.start("./", "--job-name", "big", "--out", "results", *TRAIN, env=env)
    until(lambda: proxy.faults["stall"] or None, "the first bytes")
    process.send_signal(signal.SIGINT)
    ended = run.finish(process)
    assert ended.code == 130 and "k8r cp big" in ended.err, ended.err
    assert [path.name for path in workdir.iterdir()] == ["train.sh"]
    assert run("cp", "big").code == 0
    assert (workdir / "results" / "big").stat().st_size == LARGE


def test_of_many_pods_the_last_attempts(run: Cli, workdir: Path, kubectl: Kubectl) -> None:
    """Each pod's results are in a directory of its index; those of a retry replace the first."""
    claim = {
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "env": [
                        {"name": "UID_", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
                    ],
                }
            ]
        }
    }
    (workdir / "p.yaml").write_text(json.dumps(claim))
    text = "echo $UID_ > results/uid; [ $K8R_INDEX = 0 ] || exit 4"
    script(workdir, text)
    args = ("--patch", "p.yaml", "--num", "2", "--retry", "1", "--job-name", "many")
    ended = run("./", *args, "--out", "results:here", *TRAIN)
    assert ended.code == 4, ended.err
    pods = sorted(kubectl.items("pods"), key=lambda pod: pod["metadata"]["creationTimestamp"])
    by_index = {
        pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]: pod["metadata"][
            "uid"
        ]
        for pod in pods
    }
    assert len(pods) == 3
    assert tree(workdir / "here") == {f"{index}/uid": f"{uid}\n" for index, uid in by_index.items()}


def test_of_a_repository(run: Cli, workdir: Path, git_server: GitServer) -> None:
    """What a clone's command leaves there."""
    ended = run(git_server.url(), "--out", "inner:got", "--", "sh", "-c", "echo 1 > inner/new")
    assert ended.code == 0, ended.err
    assert (workdir / "got" / "new").read_text() == "1\n"
    assert (workdir / "got" / "inside").read_text() == "pinned\n"


def test_of_an_image_restricted_and_read_only(run: Cli, workdir: Path) -> None:
    """An absolute path is a volume, which anybody may write to; a file is one here."""
    patch = {
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 1234},
                }
            ]
        }
    }
    (workdir / "p.yaml").write_text(json.dumps(patch))
    words = "umask 077; id -u > /out/uid; echo '$HOME' > '/o $(A)/x'"
    options = ("--restricted", "--patch", "p.yaml", "--out", "/out", "--out", "/o $(A):b")
    ended = run(ALPINE, *options, "--", "sh", "-c", words)
    assert ended.code == 0, ended.err
    assert tree(workdir / "out") == {"uid": "1234\n"}
    assert tree(workdir / "b") == {"x": "$HOME\n"}


def test_what_is_and_what_is_not_there(run: Cli, workdir: Path) -> None:
    """A file is a file; a path that is not there is named, and the command's code stays; what
    cannot be here is named, and nothing is written through a link.
    """
    outside = workdir.parent / "outside"
    outside.mkdir()
    (workdir / "results").mkdir()
    (workdir / "results" / "d").symlink_to(outside)
    (workdir / "results" / "old").write_text("stays\n")
    text = (
        "mkdir results/d; echo evil > results/d/x; ln -s /etc/passwd results/out; "
        "mkfifo results/f; echo 2 > one; chmod 4755 one; "
        r"ln -s m results/in; echo 1 > results/m; echo n > 'results/a'$'\n''b'; "
        r"echo i > results/$(printf '\377')"
    )
    script(workdir, text)
    ended = run("./", "--out", "results", "--out", "one", "--out", "none", *TRAIN)
    assert ended.code == 125 and "1 file could not be written" in ended.err, ended.err
    for words in (
        "there is no /workspace/none",
        "results/out",
        "results/f",
        "a link is in its place",
    ):
        assert words in ended.err
    assert list(outside.iterdir()) == []
    (workdir / "results" / "d").unlink()
    again = run("./", "--out", "results", "--out", "one", "--out", "none", *TRAIN)
    assert again.code == 0, again.err
    wanted = {
        "d/x": "evil\n",
        "in": "-> m",
        "m": "1\n",
        "a\nb": "n\n",
        "\udcff": "i\n",
        "old": "stays\n",
    }
    assert tree(workdir / "results") == wanted
    assert (workdir / "one").read_text() == "2\n"
    assert (workdir / "one").stat().st_mode & 0o7777 == 0o755


def test_refused_before_anything_is_made(run: Cli, workdir: Path, kubectl: Kubectl) -> None:
    """What cannot end well is said at once."""
    (workdir / "file").write_text("")
    script(workdir, "")
    refused(run("./", "--out", "results:file", *TRAIN), "file", "Not a directory")
    refused(run("./", "--out", "results:file/x", *TRAIN), "file")
    refused(run("./", "--out", "results:/proc/x", *TRAIN), "cannot be written")
    refused(run("./", "--out", "a:x", "--out", "b:x", *TRAIN), "two --out")
    refused(run("./", "--out", "a", "--out", "a/b:x", *TRAIN), "two --out")
    refused(run("./", "--as-deployment", "--out", "a", *TRAIN), "k8r cp NAME:PATH")
    refused(run(ALPINE, "--out", "a", "--", "true"), "image")
    refused(run(ALPINE, "--out", "/a"), "need a command")
    for path in ("/", "/etc/x", "..", "../x", ".", "/workspace"):
        refused(run("./", "--out", path, *TRAIN), "--out")
    nothing_made(kubectl)


def test_large_ones_are_kept_until_they_are_here(run: Cli, workdir: Path, kubectl: Kubectl) -> None:
    """More than a log holds comes through a channel; then the pod may end."""
    script(workdir, f"head -c {LARGE} /dev/urandom > results/big; sha256sum < results/big; exit 3")
    ended = run("./", "--out", "results", "--job-name", "big", *TRAIN)
    assert ended.code == 3, ended.err
    data = (workdir / "results" / "big").read_bytes()
    assert ended.text.split()[0] == hashlib.sha256(data).hexdigest()
    until(lambda: "Failed" in str(kubectl.get("job", "big")["status"]) or None, "the Job's end")


def test_a_disk_without_room(run: Cli, workdir: Path, kubectl: Kubectl) -> None:
    """It is said before anything is fetched, and what is held can be had later."""
    script(workdir, f"head -c {LARGE} /dev/zero > results/big")
    words = ("./", "--job-name", "big", "--out", "results", *TRAIN)
    ended = run.finish(run.start(*words, prefix=[sys.executable, "-c", FULL]))
    assert ended.code == 125 and "lacks room for 12" in ended.err, ended.err
    assert not (workdir / "results").exists()
    assert run("cp", "big").code == 0
    assert (workdir / "results" / "big").stat().st_size == LARGE


def test_without_the_right_to_a_channel(
    k8r: Cli, kubectl: Kubectl, write_kubeconfig: Callable[..., str], workdir: Path
) -> None:
    """Small results need no more than logs do; of larger ones it is said what is missing."""
    user = bind(kubectl, role())
    k8r.env["KUBECONFIG"] = write_kubeconfig(kubectl.namespace, user=user)
    script(workdir, "echo 1 > results/m")
    assert k8r("./", "--out", "results", *TRAIN).code == 0
    assert tree(workdir / "results") == {"m": "1\n"}
    script(workdir, f"head -c {LARGE} /dev/urandom > results/big; [ -z $CODE ] || exit 5")
    ended = k8r("./", "--job-name", "big", "--out", "results", *TRAIN)
    assert ended.code == 125 and "pods/exec" in ended.err and "k8r cp" in ended.err
    assert k8r("./", "--env", "CODE=5", "--out", "results", *TRAIN).code == 5
    assert tree(workdir / "results") == {"m": "1\n"}
    listed: List[Dict[str, Any]] = json.loads(k8r("ls", "-o", "json").text)
    assert {row["name"]: row["status"] for row in listed}["big"] == "Holding"


def test_large_ones_of_a_detached_run(run: Cli, workdir: Path, kubectl: Kubectl) -> None:
    """They are there for --hold, which a fetch does not end, else not; both is said."""
    script(workdir, f"head -c {LARGE} /dev/zero > results/big")
    for name, *hold in (["short"], ["long", "--hold", "1h"]):
        detached = run("-d", "./", "--job-name", name, *hold, "--out", "results", *TRAIN)
        assert detached.code == 0 and f"k8r cp {name}" in detached.err
    until(lambda: kubectl.get("job", "short")["status"].get("succeeded"), "the short one's end")
    gone = run("cp", "short")
    assert gone.code == 125 and "--hold" in gone.err, gone.err
    for _ in range(2):
        until(lambda: run("cp", "long").code == 0 or None, "the results")
        assert (workdir / "results" / "big").stat().st_size == LARGE
        (workdir / "results" / "big").unlink()
    assert run("logs", "long").code == 0 and "Holding" in run("ls").text


def test_a_command_that_does_not_start(run: Cli, workdir: Path, kubectl: Kubectl) -> None:
    """The run ends, and its pod, too."""
    patch = {"spec": {"containers": [{"name": "main", "command": ["/none"]}]}}
    (workdir / "p.yaml").write_text(json.dumps(patch))
    ended = run(ALPINE, "--patch", "p.yaml", "--job-name", "bad", "--out", "/out", "--", "true")
    assert ended.code == 128 and "kept none" in ended.err, ended.err
    until(lambda: kubectl.get("job", "bad")["status"].get("failed"), "the Job's end")


def test_a_container_that_does_not_start(run: Cli, workdir: Path) -> None:
    """The command's end is told although that of the results never came to run."""
    patch = {"spec": {"containers": [{"name": "zz-k8r-results", "image": "127.0.0.1:1/none"}]}}
    (workdir / "p.yaml").write_text(json.dumps(patch))
    prefix = [sys.executable, "-c", HASTY]
    words = (ALPINE, "--patch", "p.yaml", "--out", "/out", "--", "echo", "hi")
    ended = run.finish(run.start(*words, prefix=prefix))
    assert (ended.code, ended.text) == (125, "hi\n") and "succeeded" in ended.err, ended.err


@pytest.mark.parametrize("cut", ["fin", "reset"])
def test_a_connection_that_breaks(
    run: Cli, workdir: Path, faulty: StartFaultProxy, cut: str
) -> None:
    """The fetch goes on where it was cut, and nothing is missing."""
    script(workdir, f"head -c {LARGE} /dev/urandom > results/big; sha256sum < results/big")
    _, env = faulty([Fault(cut, DOWN, after=after) for after in (10_000_000, 3_000_000)] * 3)
    ended = run("./", "--out", "results", *TRAIN, env=env)
    assert ended.code == 0, ended.err
    data = (workdir / "results" / "big").read_bytes()
    assert ended.text.split()[0] == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(60 * FEW + 60)
def test_random_faults(run: Cli, workdir: Path, faulty: StartFaultProxy) -> None:
    """Through any of them all of it is here, or 125 says that it is not."""
    for seed in range(FIRST, FIRST + FEW):
        size = random.Random(seed).choice([10, 1_000_000, LARGE])
        script(workdir, f"head -c {size} /dev/urandom > results/big; sha256sum < results/big")
        _, env = faulty(random_faults(seed))
        ended = run("./", "--out", f"results:{seed}", *TRAIN, env=env)
        assert ended.code in (0, 125), (seed, ended.err)
        if ended.code == 0:
            data = (workdir / str(seed) / "big").read_bytes()
            assert ended.text.split()[0] == hashlib.sha256(data).hexdigest()
        shutil.rmtree(workdir / str(seed), ignore_errors=True)  # lest the next run sends it


# k8r cp


def test_later_and_detached(run: Cli, workdir: Path) -> None:
    """What --out named can be had when the run has ended, again and again."""
    script(workdir, "echo $K8R_INDEX > results/i; until [ -e go ]; do sleep 0.1; done; exit 3")
    assert (
        run("-d", "./", "--num", "2", "--job-name", "later", "--out", "results", *TRAIN).code == 0
    )
    early = until(lambda: run("cp", "later"), "an answer")
    assert early.code == 125 and "no results yet" in early.err, early.err
    for index in "01":
        go = ("exec", "later", "--index", index, "--", "touch", "go")
        until(lambda: run(*go).code == 0 or None, "a running pod")
    assert run("logs", "-f", "later").code == 3
    for folder in (".", "there"):
        until(lambda: run("cp", "later", folder).code == 0 or None, "the results")
        wanted = {"0/i": "0\n", "1/i": "1\n"}
        assert tree(workdir / folder / "results") == wanted
    assert run("cp", "none").code == 125
    assert run("cp", "later", "-").code == 2 and not (workdir / "-").exists()


@pytest.mark.parametrize("source", ["./", ALPINE])
def test_from_and_to_a_run(run: Cli, workdir: Path, kubectl: Kubectl, source: str) -> None:
    """Files and directories, streams, and what is not there; through any container."""
    out = ("--out", "results") if source == "./" else ("--out", "/data")
    top = "results" if source == "./" else "/data"
    (workdir / "x").write_text("")
    wait = f"mkdir -p {top}/d; echo 1 > {top}/d/f; ln -s f {top}/d/l; sleep 600"
    assert run("-d", source, "--job-name", "open", *out, "--", "sh", "-c", wait).code == 0
    kubectl.running_pod("open")
    until(lambda: run("cp", f"open:{top}/d/l", "-").code == 0 or None, "the files")
    assert run("cp", f"open:{top}/d", "copy").code == 0
    assert tree(workdir / "copy") == {"f": "1\n", "l": "-> f"}
    assert run("cp", f"open:{top}/d/f", ".").code == 0
    assert (workdir / "f").read_text() == "1\n"
    assert run("cp", "open:/etc/os-release", "release").code == 0
    assert "alpine" in (workdir / "release").read_text()
    missing = run("cp", "open:/none", "here")
    assert missing.code == 125 and "/none" in missing.err and not (workdir / "here").exists()
    data = random.Random(1).randbytes(3 * MIB)
    assert run("cp", "-", f"open:{top}/in", stdin=data).code == 0
    assert run("cp", f"open:{top}/in", "-").out == data
    assert run("cp", "copy", f"open:{top}/").code == 0
    assert run("cp", "copy/f", f"open:{top}/copy/g").code == 0
    listed = run("exec", "open", "--", "ls", f"{top}/copy")
    assert listed.text.split() == ["f", "g", "l"]
    refused(run("cp", "nothing", f"open:{top}"), "nothing")
    refused(run("cp", f"open:{top}", "open:/x"), "NAME:PATH")
    refused(run("cp", f"open:{top}"), "NAME:PATH")


def test_what_is_sent_is_whole_or_not_there(
    run: Cli, workdir: Path, kubectl: Kubectl, faulty: StartFaultProxy
) -> None:
    """A connection that is cut leaves what was there, as do a directory in the way and a full
    disk; nothing is waited for.
    """
    (workdir / "x").write_text("old")
    (workdir / "big").write_bytes(b"x" * LARGE)
    (workdir / "big").chmod(0o755)
    assert run("-d", ALPINE, "--shm", "4Mi", "--job-name", "open", "--", "sleep", "600").code == 0
    kubectl.running_pod("open")
    until(lambda: run("cp", "x", "open:/f").code == 0 or None, "a file there")
    for word in ("big", "-"):
        proxy, env = faulty([Fault("fin", UP, after=4_000_000)] * 9)
        data = (workdir / "big").read_bytes() if word == "-" else b""
        cut = run("cp", word, "open:/f", stdin=data, env=env)
        assert cut.code == 125, (word, proxy.faults, cut.err)
        assert run("cp", "open:/f", "-").text == "old"
    for path in ("/tmp", "/none/f", "/dev/shm/f"):
        failed = run("cp", "big", f"open:{path}")
        assert failed.code == 125 and "could not be written" in failed.err, failed.err
    assert run("cp", "big", "open:/f").code == 0
    listed = run("exec", "open", "--", "stat", "-c", "%s %a", "/f")
    assert listed.text == f"{LARGE} 755\n"


def test_on_this_machine(run: Cli, workdir: Path) -> None:
    """--local does the same."""
    script(
        workdir, "echo $K8R_INDEX > results/i; ln -s /etc results/out; [ $K8R_INDEX = 0 ] || exit 4"
    )
    ended = run("--local", "./", "--num", "2", "--out", "results", "--out", "none", *TRAIN)
    assert ended.code == 4 and "there is no /workspace/none" in ended.err, ended.err
    assert tree(workdir / "results") == {"0/i": "0\n", "1/i": "1\n"}


def test_results_are_not_sent_again(run: Cli, workdir: Path) -> None:
    """What was brought is not part of the next run, unless git tracks it."""
    script(workdir, "ls; echo 1 > results/m")
    for _ in range(2):
        ended = run("./", "--out", "results", *TRAIN)
        assert (ended.code, ended.text) == (0, "results\ntrain.sh\n"), ended.err
    assert "results/m" in run("./", "--out", "other", "--", "find").text


# Volumes


def test_shared_memory(run: Cli, workdir: Path) -> None:
    """There is as much as was asked for, and as much as the memory with a GPU."""
    ended = run(ALPINE, "--shm", "128Mi", "--", "df", "-m", "/dev/shm")
    assert (ended.code, ended.text.split()[-5]) == (0, "128"), ended.err
    given = run(ALPINE, "--gpu", "1", "--show-yaml", "--", "true").text
    assert "medium: Memory" in given and "sizeLimit" not in given
    crashed = run(ALPINE, "--", "sh", "-c", "exit 135")
    assert crashed.code == 135 and "--shm" in crashed.err


def test_a_claim_that_is_not_there(run: Cli, kubectl: Kubectl) -> None:
    """It is named."""
    ended = run(ALPINE, "--volume", "none:/data:ro", "--grace", "3", "--", "true")
    assert ended.code == 125 and '"none" does not exist' in ended.err, ended.err


def test_a_claim(run: Cli, kubectl: Kubectl, tmp_path: Path) -> None:
    """Where it is bound, the run has it, for reading alone if that was said."""
    with bound_claim(kubectl, "data", tmp_path):
        ended = run(ALPINE, "-V", "data:/d", "--", "sh", "-c", "echo 1 > /d/f")
        assert ended.code == 0 and (tmp_path / "f").read_text() == "1\n", ended.err
        ended = run(ALPINE, "-V", "data:/d:ro", "--", "sh", "-c", "cat /d/f; echo 2 > /d/f")
        assert "1\n" in ended.text and ended.code == 1, ended.err
