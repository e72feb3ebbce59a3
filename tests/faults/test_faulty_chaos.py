"""Whole runs under random faults; a seed that fails fails again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Callable

import pytest

from apiserver import Cut, FakeCluster, Gone, Match, PodScript, Reset, Respond, Split, Stall
from apiserver import numbered
from helpers import by_index, text

if TYPE_CHECKING:
    from tests.conftest import Cli

LINES = 200
REQUESTS = [
    Match("GET", "/log$"),
    Match("GET", "/log$"),
    Match("GET", "/pods$", watch="true"),
    Match("GET", "/jobs$", watch="true"),
    Match("GET", "/pods$", watch=None),
    Match("GET", "/jobs$", watch=None),
    Match("POST"),
]


def fault(dice: random.Random, match: Match) -> Any:
    """Something that can go wrong with such a request."""
    is_log = bool(match.path.search("x/log"))
    actions = [
        Reset(applied=dice.random() < 0.5),
        Respond(dice.choice([429, 500, 503, 504])),
        Stall(dice.random() / 2, after_bytes=dice.randrange(500)),
        Cut("reset", after_bytes=dice.randrange(9000)),
        Cut("truncate", after_bytes=dice.randrange(9000)),
        Cut("reset", after_lines=dice.randrange(LINES if is_log else 4)),
    ]
    if is_log:
        actions.append(Split(dice.choice([1, 7, 100, 1000])))
    elif match.query.get("watch"):
        actions += [Gone(dice.randrange(4)), Cut("eof", after_lines=dice.randrange(4))]
        actions.append(Respond(410))
    return dice.choice(actions)


@pytest.mark.parametrize("seed", range(30))
def test_a_run_under_random_faults(k8r: Cli, serve: Callable[..., FakeCluster], seed: int) -> None:
    """The output of each index is complete and in order, the exit code right."""
    dice = random.Random(seed)
    cluster = serve(PodScript(numbered(LINES, delay=0.001), run=0.2))
    code = dice.choice([0, 0, 9])
    if code:
        script = PodScript(numbered(LINES, delay=0.001), exit_code=code)
        cluster.play(script, index=dice.randrange(3))
    for _ in range(dice.randrange(3, 9)):
        match = dice.choice(REQUESTS)
        action = fault(dice, match)
        cluster.fault(match, action, dice.randrange(1, 4), dice.randrange(1, 3))
    result = k8r("alpine", "--num", "3", "--", "true", timeout=90)
    assert by_index(result.out) == {index: text(LINES) for index in range(3)}, result.err
    assert result.code == code, result.err
    assert len(cluster.objects("jobs")) == 1
