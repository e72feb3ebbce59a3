"""What archives of strangers may do here: write files below one directory, and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import random
import tarfile
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import pytest

import k8r

Member = Tuple[str, bytes, str, bytes]
"""Name, type, what a link leads to, content."""

PATH = "workspace/results"


def build(members: List[Member], mode: int = 0o644) -> io.BytesIO:
    """An archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", errors="surrogateescape") as tar:
        for name, kind, target, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode = kind, target, len(content), mode
            tar.addfile(info, io.BytesIO(content))
    file.seek(0)
    return file


def unpack(members: List[Member], folder: Path, mode: int = 0o644) -> k8r.Unpacker:
    """Unpack an archive with these members."""
    unpacker = k8r.Unpacker()
    feed(unpacker, build(members, mode).getvalue(), folder)
    return unpacker


def feed(unpacker: k8r.Unpacker, data: bytes, folder: Path, step: int = 700) -> None:
    """Have an archive unpacked that comes in pieces."""
    pieces = iter([data[at : at + step] for at in range(0, len(data), step)])
    unpacker.unpack(k8r.Inflow(pieces), {PATH: (str(folder), str(folder / "own"))})


def look(folder: Path) -> Dict[str, Optional[bytes]]:
    """All that is below a directory; None for directories."""
    found: Dict[str, Optional[bytes]] = {}
    for top, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(top) / name
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = b"-> " + os.fsencode(os.readlink(path))
            else:
                found[key] = path.read_bytes() if path.is_file() else None
    return found


REG, DIR, SYM, LNK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_files_and_what_was_there(tmp_path: Path) -> None:
    """A file takes the place of another; what was not sent stays; hard links are two names."""
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").write_bytes(b"stays")
    made = unpack(
        [
            (f"./{PATH}/", DIR, "", b""),
            (f"./{PATH}/a", REG, "", b"new"),
            (f"{PATH}/d/e/f", REG, "", b"f"),
            (f"{PATH}/hard", LNK, f"{PATH}/a", b""),
            (f"{PATH}/d/in", SYM, "../a", b""),
        ],
        tmp_path,
    )
    wanted = {"a": b"new", "b": b"stays", "d": None, "d/e": None, "d/e/f": b"f"}
    assert look(tmp_path) == {**wanted, "hard": b"new", "d/in": b"-> ../a"}
    assert (made.files, made.size, made.failed, made.notes) == (4, 4, 0, [])


def test_permissions(tmp_path: Path) -> None:
    """Only that to execute is kept, and never setuid."""
    before = os.umask(0o022)
    try:
        unpack([(f"{PATH}/a", REG, "", b"")], tmp_path, 0o6711)
        unpack([(f"{PATH}/b", REG, "", b"")], tmp_path, 0o6666)
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o7777 for name in "ab"]
    assert modes == [0o755, 0o644]


HOSTILE = {
    "absolute": [("/etc/evil", REG, "", b"x")],
    "up": [(f"{PATH}/../../../evil", REG, "", b"x"), ("../evil", REG, "", b"x")],
    "beside": [(f"{PATH}2/evil", REG, "", b"x")],
    "link out": [(f"{PATH}/l", SYM, "../x", b""), (f"{PATH}/m", SYM, "/etc", b"")],
    "through a link": [(f"{PATH}/l", SYM, "..", b""), (f"{PATH}/l/evil", REG, "", b"x")],
    "through two links": [
        (f"{PATH}/a/b/c", DIR, "", b""),
        (f"{PATH}/a/b/c/l", SYM, "../../../t", b""),
        (f"{PATH}/t", DIR, "", b""),
        (f"{PATH}/a/b/c/l/m", SYM, "../../../../evil", b""),
    ],
    "out of the middle": [(f"{PATH}/a/b/l", SYM, "../b/../../../evil", b"")],
    "hard link out": [(f"{PATH}/l", LNK, "/etc/passwd", b""), (f"{PATH}/m", LNK, "../../x", b"")],
    "device": [(f"{PATH}/n", tarfile.CHRTYPE, "", b""), (f"{PATH}/f", tarfile.FIFOTYPE, "", b"")],
    "itself a link": [(PATH, SYM, "/etc", b"")],
    "deep": [(f"{PATH}/{'d/' * 3000}x", REG, "", b"x")],
}


def leads_out(folder: Path) -> List[str]:
    """The links below a directory that lead out of it."""
    top = os.path.realpath(folder)
    return [
        name
        for name, content in look(folder).items()
        if (content or b"").startswith(b"-> ")
        and not f"{os.path.realpath(folder / name)}/".startswith(f"{top}/")
    ]


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_archives(tmp_path: Path, name: str) -> None:
    """Nothing is written outside, no link leads there, and no device is made."""
    folder = tmp_path / "work" / "here"
    folder.mkdir(parents=True)
    unpack(HOSTILE[name], folder)
    assert set(look(tmp_path)) == {"work", "work/here"} | {
        f"work/here/{path}" for path in look(folder)
    }
    assert leads_out(folder) == []
    assert b"x" not in [content for content in look(folder).values() if name != "through a link"]


def test_nothing_goes_through_a_link_that_is_here(tmp_path: Path) -> None:
    """A link in the place of a directory stays, and what is behind it, too; one in the place of
    a file is replaced.
    """
    behind, here = tmp_path / "behind", tmp_path / "here"
    behind.mkdir()
    here.mkdir()
    (behind / "f").write_bytes(b"stays")
    (here / "d").symlink_to(behind)
    (here / "f").symlink_to(behind / "f")
    made = unpack([(f"{PATH}/d/f", REG, "", b"x"), (f"{PATH}/f", REG, "", b"y")], here)
    assert look(behind) == {"f": b"stays"}
    assert look(here)["f"] == b"y" and made.failed == 1
    assert "a link is in its place" in made.notes[0]


def test_names_that_are_taken(tmp_path: Path) -> None:
    """What cannot be written is named, and the rest is here."""
    (tmp_path / "d").write_bytes(b"a file")
    (tmp_path / "f").mkdir()
    names = [b"\xff\xfe", b"a\nb", b"n" * 300]
    members = [(f"{PATH}/{os.fsdecode(name)}", REG, "", b"1") for name in names]
    members += [(f"{PATH}/d/x", REG, "", b"2"), (f"{PATH}/f", REG, "", b"3")]
    made = unpack(members, tmp_path)
    assert {os.fsdecode(name) for name in names[:2]} <= set(look(tmp_path))
    assert made.failed == len(made.notes) == 3
    assert not any("\n" in note for note in made.notes)


@pytest.mark.parametrize("where", [100, 511, 700, 1024, 1500])
def test_damaged_archives(tmp_path: Path, where: int) -> None:
    """An archive that breaks off is an error, and nothing of it is here."""
    whole = build([(f"{PATH}/a", REG, "", b"x" * 1000)]).getvalue()
    with pytest.raises(k8r.K8rError, match="damaged"):
        feed(k8r.Unpacker(), whole[:where], tmp_path)
    assert look(tmp_path) == {}


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a bound."""
    monkeypatch.setattr(k8r, "MOST_FILES", 10)
    with pytest.raises(k8r.K8rError, match="more than 10"):
        unpack([(f"{PATH}/{n}", REG, "", b"") for n in range(11)], tmp_path)
    assert look(tmp_path) == {}


@pytest.mark.parametrize("seed", range(300))
def test_random_archives(tmp_path: Path, seed: int) -> None:
    """Whatever is in them, and whatever was here: outside nothing changes, no link of theirs leads
    there, and any error is one of k8r's.
    """
    dice = random.Random(seed)
    folder, outside = tmp_path / "a" / "here", tmp_path / "a" / "out"
    folder.mkdir(parents=True)
    outside.mkdir()
    (outside / "f").write_bytes(b"stays")
    parts = ["a", "b", "c", "..", ".", "", "here", "out", "f"]

    def way(most: int) -> str:
        return "/".join(dice.choices(parts, k=dice.randint(1, most)))

    members: List[Member] = []
    for _ in range(dice.randint(1, 30)):
        kind = dice.choice([REG, REG, DIR, SYM, SYM, LNK, tarfile.FIFOTYPE])
        start = dice.choice([f"{PATH}/"] * 6 + ["", "/", "./", f"{PATH}/../"])
        target = dice.choice(["", "", "/", f"{PATH}/", "../"]) + way(5)
        content = bytes(dice.choices(range(256), k=dice.randint(0, 600))) if kind == REG else b""
        members.append((start + way(5), kind, target, content))
    data = bytearray(build(members).getvalue())
    for _ in range(dice.choice([0, 0, 1, 20])):
        data[dice.randrange(len(data))] = dice.randrange(256)
    unpacker = k8r.Unpacker()
    for _ in range(2):  # also over what the first has left
        try:
            feed(unpacker, bytes(data), folder, dice.randint(1, 5000))
        except k8r.K8rError:
            pass
        assert look(outside) == {"f": b"stays"}
        inside = {f"a/here/{name}" for name in look(folder)}
        assert set(look(tmp_path)) == {"a", "a/here", "a/out", "a/out/f"} | inside
        assert leads_out(folder) == []


@pytest.mark.parametrize("blocks", range(1, 5))
def test_an_archive_that_was_cut(tmp_path: Path, blocks: int) -> None:
    """Wherever it was, also between two files, where tarfile sees nothing wrong; no file is
    written then.
    """
    whole = build([(f"{PATH}/a", REG, "", b"a" * 512), (f"{PATH}/b", REG, "", b"b" * 512)])
    with pytest.raises(k8r.K8rError, match="the archive is damaged"):
        feed(k8r.Unpacker(), whole.getvalue()[: 512 * blocks], tmp_path)
    assert not look(tmp_path)


def test_an_archive_with_a_damaged_header(tmp_path: Path) -> None:
    """It is not taken for the archive's end."""
    data = bytearray(build([(f"{PATH}/a", REG, "", b"a"), (f"{PATH}/b", REG, "", b"b")]).getvalue())
    data[1024] ^= 1
    with pytest.raises(k8r.K8rError, match="the archive is damaged: bad checksum"):
        feed(k8r.Unpacker(), bytes(data), tmp_path)
    assert not look(tmp_path)


@pytest.mark.parametrize("last, asked", [(6, []), (7, [11])])
def test_much_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int, asked: List[int]
) -> None:
    """Before it is written, once; a no leaves nothing."""
    monkeypatch.setattr(k8r, "MUCH", 10)
    sizes = (0, 4, last, 100 * len(asked))
    told: List[int] = []
    members = [(f"{PATH}/{at}", REG, "", b"x" * size) for at, size in enumerate(sizes)]
    feed(k8r.Unpacker(told.append), build(members).getvalue(), tmp_path / "yes")
    assert told == asked and len(look(tmp_path / "yes")) == 4

    def refuse(size: int) -> None:
        raise k8r.K8rError(str(size))

    with contextlib.ExitStack() as stack:
        if asked:
            stack.enter_context(pytest.raises(k8r.K8rError, match="11"))
        feed(k8r.Unpacker(refuse), build(members).getvalue(), tmp_path / "no")
    assert (tmp_path / "no").exists() != bool(asked)


def test_a_hard_link_between_two_paths(tmp_path: Path) -> None:
    """Both have the file."""
    members = [("a/x", REG, "", b"1"), ("b/y", LNK, "a/x", b"")]
    places = {name: (str(tmp_path / name), "") for name in "ab"}
    k8r.Unpacker().unpack(k8r.Inflow(iter([build(members).getvalue()])), places)
    assert look(tmp_path) == {"a": None, "a/x": b"1", "b": None, "b/y": b"1"}
