"""What containers write, as the container runtime keeps it."""

from __future__ import annotations

import threading
import time
from typing import Iterator, List, Tuple

from .scripts import Line

LOG_ENTRY_LIMIT = 16 * 1024
TICK = 0.1


class ContainerLog:
    """What one run of a container has written, as the container runtime keeps it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.entries: List[Tuple[int, bytes]] = []
        self.closed = False

    def append(self, line: Line) -> None:
        """Keep a line; what is too long for one entry is kept in several."""
        stamp = time.time_ns() if line.stamp is None else line.stamp
        data = line.data()
        with self.changed:
            for start in range(0, len(data), LOG_ENTRY_LIMIT):
                self.entries.append((stamp, data[start : start + LOG_ENTRY_LIMIT]))
            self.changed.notify_all()

    def close(self) -> None:
        """Say that nothing will follow."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def follow(self, position: int) -> Iterator[List[Tuple[int, bytes]]]:
        """The entries from a position on until the log is closed; an empty list is a tick."""
        while True:
            with self.changed:
                if position == len(self.entries) and not self.closed:
                    self.changed.wait(TICK)
                fresh, closed = self.entries[position:], self.closed
            position += len(fresh)
            yield fresh
            if closed:
                return
