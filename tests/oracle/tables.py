"""The inputs of the originals' own tests, read from Go's module cache when a test asks for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, List, Tuple

from oracle import module_folder

TOKEN = re.compile(
    r"(?P<comment>//[^\n]*|/\*.*?\*/)"
    r"|(?P<raw>`[^`]*`)"
    r'|(?P<text>"(?:\\.|[^"\\\n])*")'
    r"|(?P<rune>'(?:\\.|[^'\\\n])+')"
    r"|(?P<brace>[{}])",
    re.DOTALL,
)
"""What matters of Go's source; the rest is passed over."""
ESCAPE = re.compile(
    rb"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
NAMED = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v"))


def unquote(literal: str) -> str:
    """The text of a Go string literal; bytes that are no UTF-8 become surrogates."""
    if literal.startswith("`"):
        return literal[1:-1].replace("\r", "")

    def value(match: "re.Match[bytes]") -> bytes:
        byte, short, long, octal, other = match.groups()
        if short or long:
            return chr(int(short or long, 16)).encode()
        if byte or octal:
            return bytes([int(byte, 16) if byte else int(octal, 8)])
        return bytes([NAMED.get(other[0], other[0])])

    return ESCAPE.sub(value, literal[1:-1].encode()).decode("utf-8", "surrogateescape")


def tokens(source: str) -> Iterator[Tuple[str, str]]:
    """The string literals and braces of Go source."""
    for match in TOKEN.finditer(source):
        if match.lastgroup == "brace":
            yield "brace", match.group()
        elif match.lastgroup in ("raw", "text"):
            yield "text", unquote(match.group())


def sources(module: str, name: str) -> Iterator[str]:
    """The text of the files of a module whose path matches a pattern; raises if none does."""
    found = sorted(Path(module_folder(module)).glob(name))
    assert found, f"{module} has no {name}"
    return (path.read_text() for path in found)


def strings(module: str, name: str) -> List[str]:
    """Every string literal of a module's file, once: inputs, and also what is expected of them.

    Enough where the oracle itself says what is right. A text that is put together when the test
    runs comes in its pieces.
    """
    found = (token for source in sources(module, name) for token in tokens(source))
    return list(dict.fromkeys(text for kind, text in found if kind == "text"))


def rows(module: str, name: str) -> List[List[str]]:
    """The string literals of each innermost pair of braces, that is, of each line of a table."""
    found: List[List[str]] = []
    row: List[str] = []
    for source in sources(module, name):
        for kind, text in tokens(source):
            if kind == "text":
                row.append(text)
                continue
            if text == "}" and row:
                found.append(row)
            row = []
    return found
