"""The API server at a distance: most clusters are 20 to 200 ms away, and round trips are all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple
from urllib.parse import urlsplit

from measuring import Row, Sample, at_most, at_most_times, in_turn, kubectl, run
from setting import Setting
from short import ATTACHED

ONE_WAY = 0.05
"""Seconds that each piece of data takes, in either direction."""


class Far:
    """A proxy on this machine that keeps all that it passes on for ONE_WAY seconds."""

    def __init__(self, address: Tuple[str, int]) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        serve = asyncio.start_server(self._serve, "127.0.0.1", 0)
        server = self._loop.run_until_complete(serve)
        self.port: int = server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on. The kernel accepts it at once, which at a distance takes a
        round trip; hence the wait.
        """
        await asyncio.sleep(2 * ONE_WAY)
        back, out = await asyncio.open_connection(*self._address)
        await asyncio.gather(self._pass_on(reader, out), self._pass_on(back, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: pieces go on by a clock, so that many may be under way at once."""
        with contextlib.suppress(OSError):
            while True:
                piece = await reader.read(1 << 16)
                if not piece:
                    break
                self._loop.call_later(ONE_WAY, writer.write, piece)
        self._loop.call_later(ONE_WAY, writer.close)

    def stop(self) -> None:
        """Serve no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


@contextlib.contextmanager
def far_cluster(scratch: Path) -> Iterator[Dict[str, str]]:
    """The variables by which both sides find the cluster at a distance."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    cluster = config["clusters"][0]["cluster"]
    server = urlsplit(cluster["server"])
    far = Far((server.hostname or "", server.port or 443))
    cluster.setdefault("tls-server-name", server.hostname)
    cluster["server"] = f"https://127.0.0.1:{far.port}"
    path = scratch / "far"
    path.write_text(json.dumps(config))
    try:
        yield {"KUBECONFIG": str(path)}
    finally:
        far.stop()


def at_a_distance(setting: Setting) -> Iterator[Row]:
    """A list, an echo, a directory."""
    folder = setting.folder("one")
    (folder / "data").write_bytes(b"x" * 100)
    with far_cluster(setting.scratch) as env:

        def measure(command: List[str]) -> Callable[[], Sample]:
            return lambda: run(command, folder, env=env)

        run(setting.k8r("alpine", "--", "true"))
        ours, theirs = setting.k8r("ls"), setting.kubectl("get", "jobs")
        samples = in_turn(setting.runs, measure(ours), measure(theirs))
        away = f", {ONE_WAY * 1000:.0f} ms away"
        yield Row(f"`k8r ls` : `kubectl get jobs`{away}", "s", *samples, at_most_times(1.2))
        setting.remove_jobs()
        ours = setting.k8r("alpine", "--rm", "--", "echo", "hi")
        theirs = setting.kubectl("run", "echo", *ATTACHED, "--", "echo", "hi")
        samples = in_turn(setting.runs, measure(ours), measure(theirs))
        case = f"`k8r alpine --rm` : `kubectl run --attach --rm`{away}"
        yield Row(case, "s", *samples, at_most_times(0.45))
        ours = setting.k8r("./", "--rm", "--", "true")
        samples = in_turn(setting.runs, measure(ours))
        yield Row(f"`k8r ./ --rm -- true`, a directory{away}", "s", *samples, at_most(1.5))


CASES = [at_a_distance]
