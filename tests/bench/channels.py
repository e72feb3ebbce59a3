"""Commands, input, ports and files of a container, by way of its channels."""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterator, List, Set

from logs import pod_of
from measuring import NO_TARGET, Row, Sample, Samples, Target
from measuring import at_most_over, at_most_times, in_turn, run
from setting import Setting, api_of
from short import STAMP, Witness, now

SIZE = 100
"""MiB that are moved."""
AT_ONCE = 20
MIB = 1 << 20
NAME = "door"
BLOCK = random.Random(1).randbytes(MIB)
SERVER = f"""
import random, socketserver, sys
block = random.Random(1).randbytes({MIB})
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for _ in range(int(self.rfile.readline())):
            self.wfile.write(block)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = {4 * AT_ONCE}
with open("/tmp/data", "wb") as file:
    for _ in range({SIZE}):
        file.write(block)
Server(("127.0.0.1", 9000), Handler).serve_forever()
"""
"""Leaves a file; sends who connects as many MiB as it asks for, and ends the connection."""
MODULES = [sys.executable, "-c", "import k8r, ssl, urllib3"]
KUBECTLS_PACE = Target(">= 1x, all whole", lambda row: (row.ratio or 0) >= 1 and row.facts["whole"])


def serve(setting: Setting) -> str:
    """Start the Job of these cases; its pod's name, once the file is there and whole."""
    run(setting.k8r("-d", "--job-name", NAME, "python:3-slim", "--", "python3", "-c", SERVER))
    pod: str = pod_of(setting, NAME)["metadata"]["name"]
    listens = "import socket; socket.create_connection(('127.0.0.1', 9000)).sendall(b'0\\n')"
    words = setting.kubectl("exec", pod, "--", "python3", "-c", listens)

    def ready() -> bool:
        return not subprocess.run(words, stderr=subprocess.DEVNULL).returncode

    setting.until(ready, "the server of the Job")
    return pod


def pace(sample: Sample, mib: int = SIZE) -> Sample:
    """MiB/s in place of seconds."""
    return sample._replace(value=mib / sample.value)


def exec_true(setting: Setting) -> Iterator[Row]:
    """`k8r exec NAME -- true`, and what of it is the start of Python with its modules."""
    pod = serve(setting)
    floor: Samples = []

    def theirs() -> Sample:
        floor.append(run(MODULES))
        return run(setting.kubectl("exec", pod, "--", "true"))

    ours = setting.k8r("exec", NAME, "--", "true")
    samples = in_turn(setting.runs, lambda: run(ours), theirs)
    yield Row("`k8r exec -- true` : `kubectl exec -- true`", "s", *samples, at_most_times(1.3))
    case = "the same : `python3 -c 'import k8r, ssl, urllib3'`"
    yield Row(case, "s", samples[0], floor[1:], NO_TARGET)
    setting.remove_jobs()


def stdin(setting: Setting) -> Iterator[Row]:
    """A file as the input of a command, which says the SHA-256 of what has arrived."""
    pod = serve(setting)
    data = setting.scratch / "input"
    write_blocks(data, SIZE)
    wanted, found = digest(data), setting.scratch / "digest"
    digests: Set[str] = set()

    def measure(command: List[str]) -> Callable[[], Sample]:
        def fed() -> Sample:
            with open(data, "rb") as file, open(found, "wb") as out:
                sample = run(command, stdin=file, stdout=out)
            digests.add(found.read_text().split()[0])
            return pace(sample)

        return fed

    ours = measure(setting.k8r("exec", "-i", NAME, "--", "sha256sum"))
    theirs = measure(setting.kubectl("exec", "-i", pod, "--", "sha256sum"))
    samples = in_turn(setting.runs, ours, theirs)
    case = f"`k8r exec -i` : `kubectl exec -i`, {SIZE} MiB of input"
    yield Row(case, "MiB/s", *samples, KUBECTLS_PACE, {"whole": digests == {wanted}})
    setting.remove_jobs()


def write_blocks(path: Path, count: int) -> None:
    """Write what the server sends who asks for so many MiB."""
    with open(path, "wb") as file:
        for _ in range(count):
            file.write(BLOCK)


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(MIB), b""):
            found.update(piece)
    return found.hexdigest()


def fetch(port: int, mib: int) -> bool:
    """Whether what the server sends by this port of ours is whole."""
    found, wanted = hashlib.sha256(), hashlib.sha256()
    for _ in range(mib):
        wanted.update(BLOCK)
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(b"%d\n" % mib)
        for piece in iter(lambda: connection.recv(1 << 18), b""):
            found.update(piece)
    return found.digest() == wanted.digest()


class Forwarded:
    """Ports forwarded by a command, and whether all that came through them was whole."""

    def __init__(self, command: List[str], says: str) -> None:
        self._command = command
        self._says = says
        self.whole = True

    def measure(self, connections: int, mib: int) -> Sample:
        """MiB/s of so many connections at once; the first, which waits for the port, is free."""
        process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        assert process.stdout is not None
        found = None
        while not found:
            line = process.stdout.readline().decode()
            if not line:
                raise SystemExit(f"{' '.join(self._command)} has ended")
            found = re.search(self._says, line)
        port = int(found[1])
        self.whole &= fetch(port, 0)
        with ThreadPoolExecutor(connections) as pool:
            began = time.monotonic()
            self.whole &= all(pool.map(lambda _: fetch(port, mib), range(connections)))
            seconds = time.monotonic() - began
        process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        process.stdout.close()
        used = usage.ru_utime + usage.ru_stime
        return Sample(connections * mib / seconds, used, usage.ru_maxrss / 1024)


def forward(setting: Setting) -> Iterator[Row]:
    """Through a forwarded port: one connection, and many at once."""
    pod = serve(setting)
    says = r"127\.0\.0\.1:(\d+)"
    for connections, mib in ((1, SIZE), (AT_ONCE, SIZE // AT_ONCE)):
        ours = Forwarded(setting.k8r("forward", NAME, "39000:9000"), says)
        theirs = Forwarded(setting.kubectl("port-forward", pod, "39100:9000"), says)
        samples = in_turn(
            setting.runs,
            lambda: ours.measure(connections, mib),
            lambda: theirs.measure(connections, mib),
        )
        what = f"{connections} connections at once" if connections > 1 else "one connection"
        case = f"`k8r forward` : `kubectl port-forward`, {SIZE} MiB, {what}"
        facts = {"whole": ours.whole, "other_whole": theirs.whole}
        yield Row(case, "MiB/s", *samples, KUBECTLS_PACE, facts)
    setting.remove_jobs()


def copy(setting: Setting) -> Iterator[Row]:
    """A large file out of a container."""
    pod = serve(setting)
    wanted, target = setting.scratch / "wanted", setting.scratch / "copied"
    write_blocks(wanted, SIZE)
    digests: Set[str] = set()

    def measure(command: List[str]) -> Callable[[], Sample]:
        def copied() -> Sample:
            sample = run(command)
            digests.add(digest(target))
            target.unlink()
            return pace(sample)

        return copied

    ours = measure(setting.k8r("cp", f"{NAME}:/tmp/data", str(target)))
    theirs = measure(setting.kubectl("cp", f"{pod}:tmp/data", str(target)))
    samples = in_turn(setting.runs, ours, theirs)
    case = f"`k8r cp` : `kubectl cp`, {SIZE} MiB"
    whole = digests == {digest(wanted)}
    yield Row(case, "MiB/s", *samples, KUBECTLS_PACE, {"whole": whole})
    setting.remove_jobs()


def out(setting: Setting) -> Iterator[Row]:
    """From the container's last act to the end of k8r, which has brought 1 MiB here."""
    ours: Samples = []
    floor: Samples = []
    folder = setting.folder("out")
    with api_of() as api:
        witness = Witness(api, setting.namespace)
        witness.start()
        for count in range(setting.runs + 1):
            # The kubelet looks once a second: over the runs, spread the ends over that second.
            script = (
                f"head -c {MIB} /dev/urandom >/tmp/data/file; sleep 1.{count * 7 % 10}; {STAMP}"
            )
            name = f"out-{count}"
            words = ["--job-name", name, "--out", "/tmp/data", "alpine", "--", "sh", "-c", script]
            done = subprocess.run(
                setting.k8r(*words),
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=True,
            )
            ended, told = now(), float(done.stdout.split()[-1])
            if (folder / "data/file").stat().st_size != MIB:
                raise SystemExit("what --out named is not whole")
            (folder / "data/file").unlink()
            ours.append(Sample(ended - told))
            floor.append(Sample(witness.ended[name] - told))
    setting.remove_jobs()
    case = "container's end to `k8r --out`'s, 1 MiB : until a plain watch shows it"
    yield Row(case, "s", ours[1:], floor[1:], at_most_over(0.5))


CASES = [exec_true, stdin, copy, out, forward]
"""The last takes memory here, and what is started later has at least that as its peak."""
