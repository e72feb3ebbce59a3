"""What a pod does, and how long each part of the cluster takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Union


@dataclass(frozen=True)
class Line:
    """One line of output, or a part of one when `newline` is false."""

    text: Union[str, bytes]
    delay: float = 0.0  # seconds before it is written
    newline: bool = True
    stamp: Optional[int] = None  # nanoseconds since the epoch; the moment of writing by default

    def data(self) -> bytes:
        """The bytes that the container writes."""
        raw = self.text.encode("utf-8") if isinstance(self.text, str) else self.text
        return raw + b"\n" if self.newline else raw


Output = Sequence[Union[str, bytes, Line]]


def numbered(count: int, delay: float = 0.0, text: str = "line {}") -> List[Line]:
    """`count` numbered lines, counted from 1, `delay` seconds apart."""
    return [Line(text.format(number), delay) for number in range(1, count + 1)]


@dataclass(frozen=True)
class Foreign:
    """A container that something in the cluster adds to a pod, and how it fares there.

    It ends `after` seconds from its start or `linger` seconds after main has ended, whichever is
    sooner. With neither, one beside main never ends, and a native sidecar ends with main. One
    that is started again (as native sidecars are) ends `ends` times so, then it stays.
    """

    name: str  # the statuses of containers are sorted by it
    native: bool = False  # an init container with restartPolicy Always, else one beside main
    lines: Output = ()
    exit_code: int = 0
    after: Optional[float] = None
    linger: Optional[float] = None
    ends: Optional[int] = None  # None: each time
    stop_code: int = 143  # of its end by SIGTERM, after main's or by the pod's deletion


@dataclass(frozen=True)
class PodScript:
    """What happens to one pod, or to one run of a container that is restarted in place.

    With restartPolicy Always a container that would exit with 0 keeps running instead.
    """

    lines: Output = ()
    exit_code: int = 0
    run: float = 0.0  # seconds between the last line and the exit
    reason: Optional[str] = None  # of the terminated container, such as OOMKilled
    pod_reason: Optional[str] = None  # status.reason of a failed pod, such as Evicted
    message: str = ""  # goes with reason, pod_reason or waiting
    init_lines: Output = ()  # of the first init container, if the pod has one
    init_exit_code: int = 0
    refused: Optional[str] = None  # the pod cannot be created: FailedCreate with this message
    unschedulable: Optional[str] = None  # stays Pending: FailedScheduling with this message
    waiting: Optional[str] = None  # waits with this reason, such as ImagePullBackOff
    hold: Optional[float] = None  # how long unschedulable or waiting lasts; None: for ever
    deleted_after: Optional[int] = None  # somebody deletes the pod after this many lines
    stuck: bool = False  # once deleted it stays Terminating until gracePeriodSeconds=0
    grace: Optional[float] = None  # from its deletion to its end; None: Timing.terminate
    stop_code: int = 143  # of main, when the pod is deleted while it runs
    disruption: Optional[str] = None  # reason of DisruptionTarget, with deleted_after or pod_reason
    foreign: Sequence[Foreign] = ()  # containers that others add to the pod


@dataclass
class Timing:
    """Seconds that each part of the cluster takes."""

    schedule: float = 0.02  # Pending to bound
    start: float = 0.02  # bound to running, also between init containers
    phase: float = 0.05  # container terminated to phase Succeeded or Failed
    condition: float = 0.1  # SuccessCriteriaMet to Complete, FailureTarget to Failed
    retry: float = 0.05  # a failure to the next attempt
    collect: float = 0.02  # an owner's end to the end of what it owned
    terminate: float = 0.05  # a pod's deletion to its end
