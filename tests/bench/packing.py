"""Packing a directory, against the programs that people would do it with."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Iterator

from measuring import NO_TARGET, Row, in_turn, run
from setting import Setting

PACK = [sys.executable, "-c", "import k8r; k8r.pack_directory('.')"]
WORDS = [f"word{number}" for number in range(2000)]


def fill_small(folder: Path) -> None:
    """10,000 files of text, some 600 bytes each, in 100 directories."""
    pick = random.Random(1)
    for number in range(10_000):
        part = folder / f"part{number % 100}"
        part.mkdir(exist_ok=True)
        (part / f"file{number}.txt").write_text(" ".join(pick.choices(WORDS, k=80)) + "\n")


def fill_large(folder: Path) -> None:
    """One file of 60 MiB that cannot be compressed."""
    # In pieces: a child's peak memory counts from what its parent has.
    with open(folder / "data", "wb") as file:
        for _ in range(60):
            file.write(os.urandom(1 << 20))


def commit(folder: Path) -> None:
    """Make it a git work tree, with all of it committed."""
    identity = ["-c", "user.name=k8r", "-c", "user.email=k8r@localhost"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def pack(setting: Setting) -> Iterator[Row]:
    """Both directories, as git work trees."""
    archive, tar = "git archive HEAD | gzip >/dev/null", "tar -cz --exclude=.git . >/dev/null"
    for name, what, fill in (
        ("small", "10,000 small files", fill_small),
        ("large", "one file of 60 MiB", fill_large),
    ):
        folder = setting.folder(name)
        fill(folder)
        commit(folder)
        for label, script in (("git archive \\| gzip", archive), ("tar -cz", tar)):
            samples = in_turn(
                setting.runs,
                lambda: run(PACK, folder),
                lambda: run(["sh", "-c", script], folder),
            )
            yield Row(f"k8r's packing : `{label}`, {what}", "s", *samples, NO_TARGET)


def send(setting: Setting) -> Iterator[Row]:
    """A run with the largest directory, from the prompt to the end."""
    folder = setting.folder("sent")
    fill_large(folder)
    command = setting.k8r("./", "--rm", "--", "true")
    samples = in_turn(setting.runs, lambda: run(command, folder))
    yield Row("`k8r ./ --rm -- true`, one file of 60 MiB", "s", *samples, NO_TARGET)


CASES = [pack, send]
