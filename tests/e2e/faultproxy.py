"""A TCP proxy that cuts, holds up and delays connections, as drawn from a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set

UP, DOWN = "up", "down"
"""To the server, and from it."""
CUTS = ("pass", "close", "reset", "fin", "lost", "stall", "outage")
FLOWS = ("latency", "crumbs")
KINDS = (*CUTS[1:], *FLOWS)
FOREVER = 1e9
LARGEST_CRUMB = 64
CRUMBLED = 4096
"""Bytes at the beginning of a connection that pass as crumbs, each way."""


class Fault(NamedTuple):
    """What happens to one connection.

    ``cut`` happens after ``after`` bytes in the direction ``way``, or when the
    connection is ``age`` seconds old, whichever is sooner:

    - pass: nothing; close: the connection ends at accept
    - reset: RST to both ends; fin: that direction ends, though its sender goes on
    - lost: RST to both ends in place of the next bytes from the server
    - stall: nothing passes in the directions of ``stalled`` for ``seconds``
    - outage: all connections are reset, and new ones refused for ``seconds``

    Each piece of data takes ``latency`` seconds; with ``crumbs`` the pieces are
    tiny at first.
    """

    cut: str = "pass"
    way: str = DOWN
    after: float = FOREVER
    age: float = FOREVER
    seconds: float = FOREVER
    stalled: Sequence[str] = (UP, DOWN)
    latency: float = 0.0
    crumbs: bool = False


def random_faults(seed: int, rounds: int = 3) -> Iterator[Fault]:
    """The faults of the connections in the order of their accept; after ``rounds``
    of each cut there are no more.
    """
    dice = random.Random(seed)
    cuts = list(CUTS) * rounds
    dice.shuffle(cuts)
    for cut in cuts:
        yield Fault(
            cut=cut,
            way=dice.choice([UP, DOWN]),
            # From within the handshake, of 2,000 bytes, to within an archive's upload.
            after=int(10 ** dice.uniform(0, 6)),
            age=dice.uniform(0.2, 8),
            seconds=dice.uniform(1, 4),
            stalled=dice.choice([(UP,), (DOWN,), (UP, DOWN)]),
            latency=dice.choice([0, 0, 0, dice.uniform(0.005, 0.1)]),
            crumbs=dice.random() < 0.25,
        )


class Link:
    """A connection to the proxy and the one on to the server."""

    def __init__(
        self,
        proxy: FaultProxy,
        fault: Fault,
        client: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._fault = fault
        self._targets = {UP: server, DOWN: client}
        self._passed = {UP: 0, DOWN: 0}
        self._held_until = {UP: 0.0, DOWN: 0.0}
        self._ended: Set[str] = set()
        self._pumps: List[asyncio.Future[None]] = []
        self._is_cut = fault.cut == "pass"
        self._loses = False
        self._dice = random.Random(fault.after)
        self._clock = asyncio.get_event_loop().time

    async def run(self, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
        """Forward until both directions have ended, or one end resets it."""
        timer = asyncio.get_event_loop().call_later(self._fault.age, self._cut)
        for flow in FLOWS:
            self._proxy.faults[flow] += bool(getattr(self._fault, flow))
        self._pumps = [
            asyncio.ensure_future(self._pump(UP, client)),
            asyncio.ensure_future(self._pump(DOWN, server)),
        ]
        try:
            await asyncio.gather(*self._pumps)
        except (OSError, asyncio.CancelledError):
            self.reset()
        finally:
            timer.cancel()
            for writer in self._targets.values():
                writer.close()

    def reset(self) -> None:
        """End it by RST, whatever is still under way."""
        self._is_cut = True
        for pump in self._pumps:
            pump.cancel()
        for writer in self._targets.values():
            reset(writer)

    async def _pump(self, way: str, source: asyncio.StreamReader) -> None:
        target = self._targets[way]
        while True:
            data = await source.read(1 << 16)
            while data:
                size = self._portion(way)
                await asyncio.sleep(0.001 if size <= LARGEST_CRUMB else self._fault.latency)
                await self._hold(way)
                if self._loses and way == DOWN:
                    self.reset()
                    return
                if way not in self._ended:
                    target.write(data[:size])
                    await target.drain()
                self._passed[way] += len(data[:size])
                data = data[size:]
                if way == self._fault.way and self._passed[way] >= self._fault.after:
                    self._cut()
            if source.at_eof():
                break
        await self._hold(way)
        self._end(way)

    def _portion(self, way: str) -> int:
        """How many bytes may pass at once."""
        if self._fault.crumbs and self._passed[way] < CRUMBLED:
            return self._dice.randint(1, LARGEST_CRUMB)
        if way == self._fault.way and self._passed[way] < self._fault.after:
            return int(self._fault.after - self._passed[way])
        return 1 << 16

    async def _hold(self, way: str) -> None:
        """Wait for the end of a stall."""
        while self._clock() < self._held_until[way]:
            await asyncio.sleep(self._held_until[way] - self._clock())

    def _end(self, way: str) -> None:
        self._ended.add(way)
        with contextlib.suppress(OSError):  # its peer has reset it meanwhile
            self._targets[way].write_eof()

    def _cut(self) -> None:
        """Do what the fault says, once."""
        if self._is_cut:
            return
        self._is_cut = True
        fault = self._fault
        self._proxy.faults[fault.cut] += 1
        if fault.cut == "reset":
            self.reset()
        elif fault.cut == "fin":
            self._end(fault.way)
        elif fault.cut == "lost":
            self._loses = True
        elif fault.cut == "stall":
            self._held_until.update(dict.fromkeys(fault.stalled, self._clock() + fault.seconds))
        elif fault.cut == "outage":
            self._proxy.go_down(fault.seconds)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that its peer gets RST."""
    with contextlib.suppress(OSError):  # it is closed already
        linger = struct.pack("ii", 1, 0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class FaultProxy:
    """The proxy: ``deck`` has the faults of its connections in the order of their
    accept; when it is used up they pass. ``faults`` counts what has happened.
    """

    def __init__(self, host: str, port: int, deck: Iterable[Fault]) -> None:
        self._upstream = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][:2]
        self._deck = iter(deck)
        self.faults: Counter[str] = Counter()
        self._links: Set[Link] = set()
        self._errors: List[BaseException] = []
        self._server: Optional[asyncio.AbstractServer] = None
        self._return: Optional[asyncio.Task[None]] = None
        # Never listens, but keeps the port ours during an outage.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: int = self._reserved.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def outage(self, seconds: float) -> None:
        """Be down for a while, from now on."""
        self._loop.call_soon_threadsafe(self.go_down, seconds)

    def go_down(self, seconds: float) -> None:
        """The same, for the proxy's own thread."""
        if self._server:
            self._server.close()
            self._server = None
            for link in self._links:
                link.reset()
            self._return = self._loop.create_task(self._come_back(seconds))

    def close(self) -> None:
        """End all connections and the thread. Raises what went wrong in it."""
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reserved.close()
        if self._errors:
            raise self._errors[0]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, reuse_port=True
        )

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if not self._server:  # it went down after the accept
            reset(client)
            return
        fault = next(self._deck, Fault())
        if fault.cut == "close":
            self.faults["close"] += 1
            client.close()
            return
        try:
            server_reader, server = await asyncio.open_connection(*self._upstream)
            link = Link(self, fault, client, server)
            self._links.add(link)
            await link.run(reader, server_reader)
            self._links.remove(link)
        except Exception as error:
            self._errors.append(error)

    async def _finish(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        if self._return:
            self._return.cancel()
        for link in self._links:
            link.reset()
        # A connection that was just accepted is no task for a moment.
        quiet = 0
        while quiet < 3:
            await asyncio.sleep(0.03)
            quiet = quiet + 1 if len(asyncio.all_tasks()) == 1 else 0

    def _note(self, _: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
        """Keep an error that no task of ours has caught."""
        self._errors.append(context.get("exception") or RuntimeError(context["message"]))
