#!/usr/bin/env python3
"""Measures k8r against kubectl, git and tar, in turn and in the same run, on a real cluster.

Prints a Markdown table, row by row: minimum, median and maximum of the runs of each
side, the ratio of the medians, the median of the CPU seconds and the largest peak.
KUBECONFIG names the cluster; kubectl is that of the test cluster, or on PATH. Nothing
is asserted: figures depend on the machine and its load, ratios less so.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence

import channels
import distance
import logs
import packing
import scale
import short
from measuring import Row, header, kubectl, machine, save, table_row
from setting import Setting

Case = Callable[[Setting], Iterator[Row]]
GROUPS: Dict[str, Sequence[Case]] = {
    "short": short.CASES,
    "logs": logs.CASES,
    "stern": [logs.follow_many],
    "packing": packing.CASES,
    "channels": channels.CASES,
    "distance": distance.CASES,
    "scale": scale.CASES,
}
USUAL = ["short", "logs", "packing"]


def chosen(words: Sequence[str]) -> List[Case]:
    """The cases of these groups and names."""
    every: Dict[str, Case] = {case.__name__: case for group in GROUPS.values() for case in group}
    found: List[Case] = []
    for word in words or USUAL:
        if word not in GROUPS and word not in every:
            raise SystemExit(f"{word}: not one of {', '.join([*GROUPS, *every])}")
        found += GROUPS.get(word) or [every[word]]
    return found


def main() -> None:
    """Set up, measure, tidy up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10, help="of each side of a case (default: 10)")
    parser.add_argument("--log-size", type=int, default=32, help="MiB of log (default: 32)")
    parser.add_argument("--save", metavar="NAME", help="keep table and samples in results/NAME.*")
    parser.add_argument(
        "case", nargs="*", help=f"groups ({', '.join(GROUPS)}) or cases (default: {USUAL})"
    )
    args = parser.parse_args()
    cases = chosen(args.case)
    # What is set up is removed also when somebody, or timeout(1), ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    namespace = f"k8r-bench-{os.getpid()}"
    about = {**machine(), "log_size": args.log_size}
    rows: List[Row] = []
    kubectl("create", "namespace", namespace)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            setting = Setting(args.runs, Path(scratch), namespace, args.log_size)
            print(header(), flush=True)
            for case in cases:
                for row in case(setting):
                    rows.append(row)
                    print(table_row(row), flush=True)
                    if args.save:
                        save(args.save, about, rows)
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


if __name__ == "__main__":
    main()
