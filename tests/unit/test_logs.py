"""LogCursor: what a container wrote comes out once, whatever happens to the connection."""

from __future__ import annotations

import time
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import k8r

START = 1_767_225_590  # ten seconds before 2026-01-01T00:00:00Z
SECOND = 10**9


class Record(NamedTuple):
    """What the container runtime stores: a line, or one part of a very long one."""

    nanos: int
    payload: bytes


def stamp(nanos: int, zone: str = "Z") -> bytes:
    """The kubelet's timestamp, always with nine digits."""
    moment = time.gmtime(START + nanos // SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
    return f"{text}.{nanos % SECOND:09d}{zone} ".encode()


def served(records: List[Record], since: Optional[str] = None, zone: str = "Z") -> bytes:
    """What the kubelet sends (cri-client, pkg/logs, ReadLogs): records from the given
    second on, a timestamp before each that begins a line.
    """
    body, begins = [], True
    for record in records:
        text = stamp(record.nanos, zone)
        if since is None or text[:19].decode() >= since[:19]:
            body.append((text if begins else b"") + record.payload)
        begins = record.payload.endswith(b"\n")
    return b"".join(body)


def written(records: List[Record], keep: bool, zone: str = "Z") -> bytes:
    """What shall come out."""
    return served(records, None, zone) if keep else b"".join(r.payload for r in records)


def read_with_cuts(
    records: List[Record],
    cuts: List[int],
    sizes: List[int],
    keep: bool = False,
    zone: str = "Z",
) -> bytes:
    """Read a log whose n-th connection breaks after cuts[n] bytes, in pieces of `sizes`."""
    cursor, out, since, turn = k8r.LogCursor(keep), [], None, 0
    for cut in [*cuts, None]:
        body = served(records, since, zone)[:cut]
        while body:
            size = sizes[turn % len(sizes)]
            turn += 1
            out.append(cursor.feed(body[:size]))
            body = body[size:]
        if cut is not None:
            since = cursor.resume()
    out.append(cursor.finish())
    return b"".join(out)


def lines(*texts: bytes, step: int = 0) -> List[Record]:
    """Lines at a distance of `step` nanoseconds."""
    return [Record(number * step, text) for number, text in enumerate(texts)]


ODD = [
    b"\n",
    b"one\n",
    b"two three\n",
    b"\n",
    "umläut 🚀\n".encode(),
    b"\xff\xfe\x00\n",
    b"2026-01-01T00:00:00.000000000Z a timestamp of its own\n",
    b"2026-01-01T00:00:00\n",
    b"\r\n",
    b"x" * 100 + b"\n",
    b"no newline",
]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("step", [0, SECOND // 3, 2 * SECOND])
def test_every_cut(step: int, keep: bool) -> None:
    """A cut at any byte of the log, and the rest, is the log."""
    records = lines(*ODD, step=step)
    for cut in range(len(served(records)) + 1):
        assert read_with_cuts(records, [cut], [64], keep) == written(records, keep), cut


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 41, 1 << 16])
def test_every_piece(size: int, keep: bool) -> None:
    """Nothing depends on how the bytes are cut into pieces."""
    records = lines(*ODD, step=SECOND // 4)
    assert read_with_cuts(records, [], [size], keep) == written(records, keep)


def test_pairs_of_cuts() -> None:
    """The second cut may fall into what is sent again."""
    records = lines(b"a\n", b"\n", b"bcd\n", b"e", step=SECOND // 2)
    total = len(served(records))
    for first in range(total + 1):
        for second in range(first % 5, total + 1, 5):
            out = read_with_cuts(records, [first, second], [16])
            assert out == written(records, False), (first, second)


def test_thousand_lines_of_one_second() -> None:
    """Only their number tells equal lines of one second apart."""
    records = [Record(number, b"same\n") for number in range(1000)]
    for cut in (0, 17, 8000, 8001, 35_999, 36_000):
        for sizes in ([1 << 16], [1000]):
            assert read_with_cuts(records, [cut], sizes) == b"same\n" * 1000
    assert read_with_cuts(records, [9000, 500, 20_000, 12_345], [4096]) == b"same\n" * 1000


def test_other_time_zone() -> None:
    """A node that is not in UTC writes its offset, which the resumption keeps."""
    records = lines(b"a\n", b"b\n", b"c", step=SECOND)
    for cut in range(len(served(records, zone="+02:00"))):
        out = read_with_cuts(records, [cut], [8], zone="+02:00")
        assert out == b"a\nb\nc"
    cursor = k8r.LogCursor()
    cursor.feed(served(records, zone="+02:00"))
    assert cursor.resume() == "2025-12-31T23:59:51+02:00"


def test_resume_time() -> None:
    """The second before the last one that had a line, and none where that is the first."""
    cursor = k8r.LogCursor()
    assert cursor.resume() is None
    cursor.feed(b"2026-01-01T00:00:0")
    assert cursor.resume() is None
    cursor.feed(b"2026-01-01T00:00:01.5Z a\n")
    assert cursor.resume() is None
    cursor.feed(b"2026-01-01T00:00:01.5Z a\n2026-01-01T00:00:02.5Z b")
    assert cursor.resume() == "2026-01-01T00:00:01Z"
    assert cursor.resume() == "2026-01-01T00:00:01Z"


def test_second_that_is_gone() -> None:
    """If the log was rotated away meanwhile, all that comes is new."""
    cursor = k8r.LogCursor()
    cursor.feed(served([Record(0, b"a\n"), Record(1, b"b\n")]))
    cursor.resume()
    assert (
        cursor.feed(served([Record(5 * SECOND, b"c\n"), Record(5 * SECOND, b"d\n")])) == b"c\nd\n"
    )


def test_line_is_given_before_it_ends() -> None:
    """A progress bar is seen at once, not when its line has ended."""
    cursor = k8r.LogCursor()
    assert cursor.feed(stamp(0) + b"10%") == b"10%"
    assert cursor.feed(b"\r20%") == b"\r20%"
    assert cursor.feed(b"\n") == b"\n"


@pytest.mark.parametrize("text", [b"rotated\n", b"unable to retrieve container logs for x\n"])
def test_lines_without_a_timestamp(text: bytes) -> None:
    """A message of the kubelet's own has none and is printed too."""
    cursor = k8r.LogCursor()
    assert cursor.feed(text) + cursor.finish() == text
    cursor = k8r.LogCursor()
    whole = stamp(0) + b"a\n" + text + stamp(0) + b"b\n"
    assert (
        b"".join(cursor.feed(whole[n : n + 1]) for n in range(len(whole))) == b"a\n" + text + b"b\n"
    )


def test_last_line_without_timestamp_or_newline() -> None:
    """`finish` gives what was too short to judge."""
    cursor = k8r.LogCursor()
    assert cursor.feed(b"failed") == b""
    assert cursor.finish() == b"failed"
    assert cursor.finish() == b""


def test_long_line_over_two_seconds() -> None:
    """A line of more than 16 KiB is stored in parts, each with a time of its own. If it
    was resumed from the second of its later parts, these come without a timestamp.
    """
    records = [
        Record(0, b"a\n"),
        Record(SECOND - 1, b"x" * 16_384),
        Record(SECOND + 1, b"y" * 100 + b"\n"),
        Record(SECOND + 2, b"b\n"),
        Record(SECOND + 3, b"c\n"),
        Record(SECOND + 4, b"d"),
    ]
    whole = len(served(records))
    for cut in [*range(60), *range(16_400, whole + 1)]:
        assert read_with_cuts(records, [cut], [4096]) == written(records, False), cut


@pytest.mark.parametrize("step", [1, SECOND // 3, SECOND])
@pytest.mark.parametrize("tail", [1, 3, 6])
def test_log_from_its_middle(tail: int, step: int) -> None:
    """Asked for with tailLines, a log that breaks does not show what lies before these."""
    records = lines(*[b"%d\n" % number for number in range(6)], step=step)
    wanted = records[-tail:]
    for cut in range(len(served(wanted)) + 1):
        cursor = k8r.LogCursor(from_middle=True)
        out = cursor.feed(served(wanted)[:cut])
        for _ in range(2):  # resumed, then asked once more for what is new
            since = cursor.resume()
            out += cursor.feed(served(records, since) if since else served(wanted))
        assert out + cursor.finish() == written(wanted, False), cut


# The model

PAYLOADS = st.one_of(
    st.just(b""),
    st.sampled_from([b"a", b"same", b"\r", b"\x00", b"\xff", b" ", stamp(0), stamp(0)[:-1]]),
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"")),
    st.integers(1, 3000).map(lambda length: b"L" * length),
)
STEPS = st.sampled_from([0, 1, SECOND // 4, SECOND - 1, SECOND, 3 * SECOND])


@st.composite
def logs(draw: st.DrawFn) -> List[Record]:
    """Lines in the order of their times; the last may lack its newline."""
    records, nanos = [], 0
    for payload, step in draw(st.lists(st.tuples(PAYLOADS, STEPS), max_size=25)):
        nanos += step
        records.append(Record(nanos, payload + b"\n"))
    last = draw(PAYLOADS)
    if last:
        records.append(Record(nanos, last))
    return records


@st.composite
def readings(draw: st.DrawFn) -> Tuple[List[Record], List[int], List[int]]:
    """A log, where its connections break, and the sizes of the pieces."""
    records = draw(logs())
    cuts = draw(st.lists(st.integers(0, len(served(records))), max_size=5))
    sizes = draw(st.lists(st.integers(1, 200) | st.just(1 << 16), min_size=1, max_size=4))
    return records, cuts, sizes


@given(readings(), st.booleans(), st.sampled_from(["Z", "-07:00"]))
def test_nothing_lost_and_nothing_doubled(
    reading: Tuple[List[Record], List[int], List[int]], keep: bool, zone: str
) -> None:
    """Any log, cut anywhere any number of times, in any pieces, comes out as it is."""
    records, cuts, sizes = reading
    assert read_with_cuts(records, cuts, sizes, keep, zone) == written(records, keep, zone)


@st.composite
def long_logs(draw: st.DrawFn) -> List[Record]:
    """Lines of which those over 32 bytes are stored in several entries, as the container
    runtime does with those over 16 KiB: each entry has a time of its own.
    """
    records, nanos = [], 0
    for length in draw(st.lists(st.sampled_from([0, 3, 31, 32, 33, 70, 100]), max_size=8)):
        line = bytes(97 + (len(records) + at) % 26 for at in range(length)) + b"\n"
        for start in range(0, len(line), 32):
            nanos += draw(STEPS)
            records.append(Record(nanos, line[start : start + 32]))
    return records


@given(long_logs(), st.data(), st.booleans())
def test_entries_of_long_lines(records: List[Record], data: st.DataObject, keep: bool) -> None:
    """Lines that go on over several seconds come out whole, wherever the log is cut."""
    size = len(served(records))
    cuts = data.draw(st.lists(st.integers(0, size), max_size=4))
    sizes = data.draw(st.lists(st.integers(1, 200), min_size=1, max_size=3))
    limit = k8r.LONG_LINE
    k8r.LONG_LINE = 16
    try:
        assert read_with_cuts(records, cuts, sizes, keep) == written(records, keep)
    finally:
        k8r.LONG_LINE = limit


# Time that goes back


def served_from_first(records: List[Record], since: Optional[str], zone: str) -> bytes:
    """What a kubelet would send that looks for the first line of that second or a later one,
    and then sends all that follow.
    """
    for place, record in enumerate(records):
        if since is None or stamp(record.nanos, zone)[:19].decode() >= since[:19]:
            return served(records[place:], None, zone)
    return b""


def served_whole(records: List[Record], since: Optional[str], zone: str) -> bytes:
    """What a server sends that does not know sinceTime."""
    return served(records, None, zone)


SERVERS = [served, served_from_first, served_whole]


def follow(
    records: List[Record],
    cuts: List[int],
    sizes: List[int],
    serve: Callable[[List[Record], Optional[str], str], bytes],
    written_at: List[int],
    keep: bool = False,
) -> bytes:
    """Read a log that grows while it is read, with cuts, then look at its end until a look
    brings nothing new, as `Tail` does. The n-th answer has the first ``written_at[n]`` records.
    """
    cursor, out, since, turn = k8r.LogCursor(keep), b"", None, 0
    for answer in range(len(cuts) + 10):
        there, cut = records, None
        if answer < len(cuts):
            there, cut = records[: written_at[answer]], cuts[answer]
        body, fresh = serve(there, since, "Z")[:cut], b""
        while body:
            size = sizes[turn % len(sizes)]
            turn += 1
            fresh += cursor.feed(body[:size])
            body = body[size:]
        out += fresh
        if answer > len(cuts) and not fresh:
            assert not cursor.in_doubt or not records
            return out + cursor.finish()
        since = cursor.resume()
    raise AssertionError(f"there is no end: {out!r}")


JUMPS = st.sampled_from([0, 0, 1, SECOND // 4, SECOND, -1, -SECOND // 4, -SECOND + 1])
"""Nanoseconds from line to line: of two streams, of a clock that is a little wrong."""
SET_CLOCK = st.sampled_from([-3 * SECOND, -60 * SECOND, 90 * SECOND, 3600 * SECOND])


def growing(draw: st.DrawFn, steps: Any, floor: int) -> Tuple[List[Record], List[int], List[int]]:
    """A log, what there is of it at each answer, and how many bytes of that arrive. No line
    is ``floor`` or more nanoseconds earlier than one before it.
    """
    records: List[Record] = []
    nanos = latest = 7200 * SECOND
    payloads = st.sampled_from([b"same\n", b"\n", b"other\n", b"L" * 50 + b"\n"])
    for payload, step in draw(st.lists(st.tuples(payloads, steps), max_size=40)):
        nanos = max(nanos + step, latest - floor, 0)
        latest = max(nanos, latest)
        records.append(Record(nanos, payload))
    written_at = sorted(draw(st.lists(st.integers(0, len(records)), max_size=6)))
    return records, written_at, [draw(st.integers(0, 2000)) for _ in written_at]


SIZES = st.lists(st.integers(1, 200) | st.just(1 << 16), min_size=1, max_size=3)


@st.composite
def a_little_out_of_order(draw: st.DrawFn) -> Tuple[List[Record], List[int], List[int]]:
    """Lines that are up to a second too early."""
    return growing(draw, JUMPS, SECOND)


@st.composite
def of_a_clock_that_is_set(draw: st.DrawFn) -> Tuple[List[Record], List[int], List[int]]:
    """Lines of a clock that is set while a connection stands; the log is whole from the start,
    so that no line is written between two answers.
    """
    records, written_at, cuts = growing(draw, JUMPS | SET_CLOCK, 10**6 * SECOND)
    return records, [len(records)] * len(written_at), cuts


@pytest.mark.parametrize("serve", SERVERS)
@given(a_little_out_of_order(), SIZES, st.booleans())
def test_lines_out_of_order(
    serve: Any, log: Tuple[List[Record], List[int], List[int]], sizes: List[int], keep: bool
) -> None:
    """Every line comes once, in the order of the file, and there is an end."""
    records, written_at, cuts = log
    assert follow(records, cuts, sizes, serve, written_at, keep) == written(records, keep)


@pytest.mark.parametrize("serve", SERVERS[1:])
@given(of_a_clock_that_is_set(), SIZES, st.sampled_from([4, 6, k8r.MARKS]))
def test_a_clock_that_is_set(
    serve: Any, log: Tuple[List[Record], List[int], List[int]], sizes: List[int], marks: int
) -> None:
    """Nothing is lost or doubled, however far back the time goes, and however few of the
    seconds are kept.
    """
    records, written_at, cuts = log
    limit, k8r.MARKS = k8r.MARKS, marks
    try:
        assert follow(records, cuts, sizes, serve, written_at) == written(records, False)
    finally:
        k8r.MARKS = limit


@given(of_a_clock_that_is_set(), SIZES)
def test_a_clock_that_is_set_before_a_cut(
    log: Tuple[List[Record], List[int], List[int]], sizes: List[int]
) -> None:
    """Of a kubelet that leaves out each line that is too early, no line is doubled, all that
    was there before the cut is whole, and there is an end.
    """
    records, written_at, cuts = log
    records = sorted(records[:20]) + [Record(0, b"back\n"), *records[20:]]
    first = len(served(records[:21]))
    out = follow(records, [first + cut for cut in cuts], sizes, served, [len(records)] * len(cuts))
    assert out.count(b"back\n") == 1 and out.startswith(written(records[:21], False))
    assert out.count(b"\n") <= len(records)


def test_a_log_from_its_middle_whose_time_goes_back() -> None:
    """Later lines with an earlier time are not taken for those that were not asked for."""
    records = [Record(n * SECOND, b"%d\n" % n) for n in range(5, 10)]
    records += [Record(n * SECOND, b"again %d\n" % n) for n in range(5)]
    cursor = k8r.LogCursor(from_middle=True)
    out = cursor.feed(served(records[3:6]))
    for there in (8, 10, 10):
        since = cursor.resume()
        out += cursor.feed(served(records[:there], since))
    assert out == written(records[3:], False)


# Printing


class Screen:
    """Keeps what is printed."""

    shared = False

    def __init__(self) -> None:
        self.out = self.err = b""
        self.said: List[str] = []

    def data(self, data: bytes) -> None:
        self.out += data

    def errors(self, data: bytes) -> None:
        self.err += data

    def say(self, text: str) -> None:
        self.said.append(text)

    colored = False


def test_single_pod_is_printed_as_it_is() -> None:
    """No prefix, no newline added, nothing held back."""
    screen = Screen()
    printer = k8r.LogPrinter(screen, False)
    for data in (b"a", b"\xff\n", b"b"):
        printer.write("key", "0", data)
    assert screen.out == b"a\xff\nb"
    printer.end("key", "0")
    assert screen.out == b"a\xff\nb"


def test_lines_of_many_pods_are_kept_whole() -> None:
    """Each line has its index in front, and no line is torn by another pod's."""
    screen = Screen()
    printer = k8r.LogPrinter(screen, True)
    printer.write("a", "0", b"one\ntw")
    printer.write("b", "1", b"uno\n\ndue")
    printer.write("a", "0", b"o\n")
    printer.end("b", "1")
    printer.end("a", "0")
    assert screen.out == b"[0] one\n[1] uno\n[1] \n[0] two\n[1] due\n"


def test_carriage_returns_on_a_terminal() -> None:
    """What a progress bar writes is shown at once, each time with its index."""
    screen = Screen()
    screen.shared = True
    printer = k8r.LogPrinter(screen, True)
    printer.write("a", "0", b"10%\r20%\r3")
    assert screen.out == b"[0] 10%\r[0] 20%\r"
    printer.write("b", "1", b"line\r\n")
    printer.write("a", "0", b"0%\r")
    printer.end("a", "0")
    assert screen.out == b"[0] 10%\r[0] 20%\r\n[1] line\r\n[0] 30%\r[0] \n"


def test_an_endless_line_is_passed_on_in_pieces() -> None:
    """Not more than a piece is held, and nothing is added to a line that no other breaks."""
    screen = Screen()
    printer = k8r.LogPrinter(screen, True)
    for _ in range(40):
        printer.write("a", "0", b"x" * k8r.STREAM_CHUNK)
    assert len(screen.out) >= 2 * k8r.MIB
    printer.write("a", "0", b"y\n")
    assert screen.out == b"[0] " + b"x" * 40 * k8r.STREAM_CHUNK + b"y\n"


@given(st.lists(st.binary(max_size=20)))
def test_prefixed_lines_are_the_same_lines(pieces: List[bytes]) -> None:
    """Without the prefixes it is what the pod wrote, its last line ended."""
    screen = Screen()
    printer = k8r.LogPrinter(screen, True)
    for piece in pieces:
        printer.write("key", "7", piece)
    printer.end("key", "7")
    whole = b"".join(pieces)
    whole += b"" if whole.endswith(b"\n") or not whole else b"\n"
    expected = b"".join(b"[7] " + line + b"\n" for line in whole.split(b"\n")[:-1])
    assert screen.out == expected


@given(st.data())
def test_what_setup_writes_goes_elsewhere(data: st.DataObject) -> None:
    """In any pieces, and without a mark left: not a byte more or less goes to either."""
    text = st.lists(st.sampled_from([b"k", b"k8r-setup-7", b"a\n", b"k8r-setup-7 begin", b""]))
    before, setup, after = (b"".join(data.draw(text)) for _ in range(3))
    whole = before + b"k8r-setup-7 begin\n" + setup + b"k8r-setup-7 end\n" + after
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    screen = Screen()
    printer = k8r.LogPrinter(screen, False, "k8r-setup-7")
    for start, end in zip([0, *cuts], [*cuts, len(whole)]):
        printer.write("key", "0", whole[start:end])
    printer.end("key", "0")
    assert (screen.out, screen.err, screen.said) == (before + after, setup, ["setup:"])


def test_setups_of_many_pods() -> None:
    """Each line has its index; a log that begins in the middle of setup has no mark; one that
    fails is printed to its end.
    """
    screen = Screen()
    printer = k8r.LogPrinter(screen, True, "k8r-setup-7")
    printer.write("a", "0", b"k8r-setup-7 begin\none\nk8r-se")
    printer.write("b", "1", b"rest of setup\n2026-11-26T01:02:03.5Z k8r-setup-7 end\nrun k")
    printer.write("b", "1", b"\n")
    printer.end("a", "0")
    printer.end("b", "1")
    assert screen.err == b"[0] one\n[0] k8r-se\n"
    assert screen.out == b"[1] rest of setup\n[1] run k\n"


def test_colored_prefix() -> None:
    """Colour ends before the line, which may have its own."""
    screen = Screen()
    screen.colored = True
    printer = k8r.LogPrinter(screen, True)
    printer.write("key", "0", b"a\nb\n")
    first, second = screen.out.splitlines()
    assert first.startswith(b"\x1b[") and first.endswith(b"[0] \x1b[0ma")
    assert first[:-1] == second[:-1]


def test_events_of_a_watch() -> None:
    """One JSON object a line, in any pieces; a torn one at the end is dropped."""
    body = b"".join(
        b'{"type": "%s", "object": {"metadata": {"uid": "u"}}}\n\n' % kind
        for kind in (b"A", b"\xc3\xa4")
    )
    body += body[:20]
    item = {"metadata": {"uid": "u"}}
    for size in range(1, len(body) + 1):
        pieces = [body[n : n + size] for n in range(0, len(body), size)]
        assert list(k8r.decode_events(pieces)) == [("A", "u", item), ("ä", "u", item)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>",
        b"null",
        b"[]",
        b"1",
        b'"text"',
        b"\xff",
        b"{}",
        b'{"type": "ADDED"}',
        b'{"type": "ADDED", "object": null}',
        b'{"type": "ADDED", "object": {"metadata": []}}',
        b'{"type": "ERROR", "object": {"kind": "Status", "metadata": {}, "code": 500}}',
        b'{"type": "ERROR", "object": {"code": "many"}}',
    ],
)
def test_what_is_no_event_ends_a_watch(garbage: bytes) -> None:
    """What came before counts, what comes after it does not."""
    event = b'{"type": "ADDED", "object": {"metadata": {"uid": "u"}}}\n'
    assert len(list(k8r.decode_events([event + garbage + b"\n" + event]))) == 1


def busy_second(count: int) -> List[bytes]:
    """Numbered lines of one second, with timestamps, as a fast log has them."""
    return [b"2024-01-01T00:00:00.%09dZ line %d\n" % (n, n) for n in range(count)]


def test_what_was_seen_is_skipped_by_the_block() -> None:
    """A second that comes again is dropped, and what goes on from there is not."""
    busy = busy_second(5000)
    for seen in (1, 2500, 4999, 5000):
        for more in ([], [b"2024-01-01T00:00:01Z last\n"]):
            cursor = k8r.LogCursor(keep_stamps=True)
            assert cursor.feed(b"".join(busy[:seen])) == b"".join(busy[:seen])
            assert cursor.resume() is None
            again = b"".join(busy + more)
            pieces = [again[n : n + 1000] for n in range(0, len(again), 1000)]
            assert b"".join(map(cursor.feed, pieces)) == b"".join(busy[seen:] + more)


def test_a_second_whose_start_was_rotated_away() -> None:
    """Fewer lines of it come again than were seen: those of the next are new."""
    busy, more = busy_second(100), [b"2024-01-01T00:00:01Z %d\n" % n for n in range(5)]
    cursor = k8r.LogCursor(keep_stamps=True)
    cursor.feed(b"".join(busy))
    cursor.resume()
    assert cursor.feed(b"".join(busy[-3:] + more)) == b"".join(more)


def test_a_block_of_several_seconds_loses_all_its_stamps() -> None:
    """Also where a line has none, or another line looks like the second of the rest."""
    block = b"2024-01-01T00:00:00Z a\n2024-01-01T00:00:01.5+02:00 2024-01-01T00:00:02Z b\n"
    cursor = k8r.LogCursor()
    assert cursor.feed(block) == b"a\n2024-01-01T00:00:02Z b\n"
    assert cursor.feed(b"2024-01-01T00:00:01Z c\nZ d\n") == b"c\nZ d\n"
    assert cursor.feed(b"Z e\n2024-01-01T00:00:01Z f\n") == b"Z e\nf\n"


def test_the_end_of_a_log_is_known() -> None:
    """By its last line, unless that shares its time with the one before."""
    busy = busy_second(30_000)
    cursor = k8r.LogCursor()
    cursor.feed(b"".join(busy[:100]))
    assert not cursor.is_costly
    cursor.feed(b"".join(busy[100:]))
    assert cursor.is_costly
    assert cursor.is_at(b"".join(busy[-2:]))
    assert cursor.is_at(busy[-1])
    twin = busy[-1].replace(b"line", b"other")
    for end in (b"", b"\n", busy[-2], twin + busy[-1], busy[-1] + b"2024-01-01T00:00:01Z x\n"):
        assert not cursor.is_at(end), end
    cursor.feed(b"2024-01-01T00:00:00.9Z beg")
    assert not cursor.is_at(b"".join(busy[-2:]))
    assert not cursor.is_at(busy[-1] + b"2024-01-01T00:00:00.9Z begun\n")
    cursor.feed(b"un\n2024-01-01T00:00:02Z next second\n")
    assert cursor.is_costly
    cursor.feed(b"2024-01-01T00:00:03Z and the next\n")
    assert not cursor.is_costly


@pytest.mark.parametrize("keep", [False, True])
def test_the_end_of_a_log_is_known_however_it_came(keep: bool) -> None:
    """Also if its last line came in parts, but not if that is a long one."""
    first, last = busy_second(2)
    for size in range(1, len(last) + 1):
        cursor = k8r.LogCursor(keep)
        for start in range(0, len(last), size):
            assert not cursor.is_at(first + last)
            cursor.feed((first if start == 0 else b"") + last[start : start + size])
        assert cursor.is_at(first + last)
    cursor = k8r.LogCursor(keep)
    long = last[:-1] + b"x" * 20_000 + b"\n"
    cursor.feed(long)
    assert not cursor.is_at(long)


def test_in_doubt() -> None:
    """A stream without the lines that were there before is no end."""
    cursor = k8r.LogCursor()
    assert cursor.in_doubt  # nothing yet
    line = b"2024-01-01T00:00:00.1Z %d\n"
    cursor.feed(line % 1 + line % 2)
    assert not cursor.in_doubt
    assert cursor.resume() is None
    assert cursor.in_doubt
    cursor.feed(line % 1)
    assert cursor.in_doubt
    cursor.feed(line % 2)
    assert not cursor.in_doubt
