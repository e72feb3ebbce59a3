"""What goes wrong: which requests, and how."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping, Optional, Union

if TYPE_CHECKING:
    from .messages import Request


@dataclass(frozen=True)
class Respond:
    """Answer with this status instead of doing what was asked."""

    status: int
    message: str = "made up by a fault rule"
    retry_after: Optional[int] = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None  # a Status object by default
    raw: Optional[bytes] = None  # a body that is sent as it is


def foreign(
    status: int, text: str = "<html>no backend is available</html>", kind: str = "text/html"
) -> Respond:
    """An answer of something that is not a Kubernetes API server, such as a load balancer."""
    return Respond(status, headers={"Content-Type": kind}, raw=text.encode("utf-8"))


@dataclass(frozen=True)
class Reset:
    """Reset the connection instead of answering; `applied`: the request takes effect first."""

    applied: bool = False


@dataclass(frozen=True)
class Delay:
    """Wait before the request takes effect, then answer normally."""

    seconds: float


@dataclass(frozen=True)
class Stall:
    """Send nothing for a while on an open connection, then go on.

    Without a position the request has taken effect and even the status line is held back.
    Lines are those of a log, or the events of a watch.
    """

    seconds: float
    after_lines: Optional[int] = None
    after_bytes: Optional[int] = None


@dataclass(frozen=True)
class Cut:
    """End an answer in its middle.

    `how`: "reset" (TCP RST), "eof" (a proper last chunk, as if all had been said), or
    "truncate" (a chunk that announces more than it brings, then FIN).
    """

    how: str
    after_lines: Optional[int] = None
    after_bytes: Optional[int] = None


@dataclass(frozen=True)
class Gone:
    """Put an ERROR event with a 410 Status into a watch and end it."""

    after_lines: int = 0
    after_bytes: Optional[int] = None


@dataclass(frozen=True)
class Split:
    """Send the body in chunks of `size` bytes, each in its own packet, `pause` seconds apart."""

    size: int = 1
    pause: float = 0.0


@dataclass(frozen=True)
class Down:
    """Take the whole server down instead of answering: refuse and reset for some seconds."""

    seconds: float


Action = Union[Respond, Reset, Delay, Stall, Cut, Gone, Split, Down]


class Match:
    """Which requests a rule is about: method, a regex searched in the path, query values.

    A query value None asks that the parameter is absent.
    """

    def __init__(self, method: str = "", path: str = "", **query: Optional[str]) -> None:
        self.method = method
        self.path = re.compile(path)
        self.query = query

    def accepts(self, request: Request) -> bool:
        """Whether the request is one of these."""
        if self.method and request.method != self.method:
            return False
        if not self.path.search(request.path):
            return False
        return all(request.query.get(name) == value for name, value in self.query.items())


@dataclass
class Fault:
    """A rule: from the `nth` matching request on (1 is the first), `times` times, do `action`.

    Every rule counts every request it matches; of the rules that are due the first one acts.
    """

    match: Match
    action: Action
    nth: int = 1
    times: Optional[int] = 1  # None: for ever
    seen: int = field(default=0, init=False)

    def due(self, request: Request) -> bool:
        """Count the request if it matches, and tell whether the rule applies to it."""
        if not self.match.accepts(request):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)


@dataclass
class Outage:
    """What a load balancer does while a control plane restarts: for some seconds matching
    requests are answered by this, and streams that such requests have begun are cut, as `Cut`
    does.
    """

    match: Match
    answer: Respond
    seconds: float
    after: float = 0.0  # seconds before it begins
    begin: Optional[Match] = None  # they count from the first such request
    cut: str = "reset"
    answered: int = field(default=0, init=False)
    cut_streams: int = field(default=0, init=False)
    started: Optional[float] = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.begin is None:
            self.started = time.monotonic()

    @property
    def lasts(self) -> bool:
        """Whether it goes on at this moment."""
        age = -1.0 if self.started is None else time.monotonic() - self.started - self.after
        return 0.0 <= age < self.seconds

    def due(self, request: Request) -> bool:
        """Whether a request that has just come meets it; counts it then."""
        if self.started is None and self.begin is not None and self.begin.accepts(request):
            self.started = time.monotonic()
            return False
        met = self.lasts and self.match.accepts(request)
        self.answered += met
        return met

    def cuts(self, request: Request) -> bool:
        """Whether the stream that a request has begun ends now; counts it then."""
        met = self.lasts and self.match.accepts(request)
        self.cut_streams += met
        return met
