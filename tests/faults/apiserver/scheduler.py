"""The clock of the simulated cluster."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from typing import Any, Callable, Iterator, List, Tuple

from .store import Store

Steps = Iterator[float]


class Vanished(Exception):
    """The pod that a simulation works for is gone or going."""


class Scheduler(threading.Thread):
    """Runs simulations: generators that yield the seconds until their next step.

    Every step runs under the store's lock.
    """

    def __init__(self, store: Store, crashes: List[str]) -> None:
        super().__init__(name="fake-cluster-scheduler", daemon=True)
        self.wake = threading.Condition(store.lock)
        self.crashes = crashes
        self.stopped = False
        self._queue: List[Tuple[float, int, Steps]] = []
        self._order = itertools.count()

    def spawn(self, steps: Steps, delay: float = 0.0) -> None:
        """Start a simulation after a delay."""
        with self.wake:
            heapq.heappush(self._queue, (time.monotonic() + delay, next(self._order), steps))
            self.wake.notify()

    def call(self, function: Callable[[], Any], delay: float = 0.0) -> None:
        """Call a function after a delay."""

        def steps() -> Steps:
            function()
            yield from ()

        self.spawn(steps(), delay)

    def stop(self) -> None:
        """End the thread."""
        with self.wake:
            self.stopped = True
            self.wake.notify()

    def run(self) -> None:
        """Take one step after the other."""
        while not self.stopped:
            with self.wake:
                due = self._queue[0][0] - time.monotonic() if self._queue else None
                if due is None or due > 0:
                    self.wake.wait(due)
                elif not self.stopped:
                    self._step(heapq.heappop(self._queue)[2])

    def _step(self, steps: Steps) -> None:
        try:
            self.spawn(steps, next(steps))
        except (StopIteration, Vanished):
            pass
        except Exception:  # told by the cluster when it closes
            self.crashes.append(traceback.format_exc())
