"""Draws the screens of a terminal as one animated SVG: no script, no font, nothing from outside."""

from __future__ import annotations

import math
from typing import Dict, Iterable, List, NamedTuple, Tuple
from xml.sax.saxutils import escape

COLUMNS, ROWS = 122, 24
"""The table of `k8r ls` does not fit into 80."""
SIZE, CELL, LINE, BASE = 14, 8.4, 20, 15
BAR, PADDING = 36, 16
"""The text's size, its cells and its base line in them, and the frame around, in pixels."""
FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
TEXT, BACKGROUND, BORDER = "#e6edf3", "#161b22", "#30363d"
COLORS = {
    "black": "#6e7681",
    "red": "#ff7b72",
    "green": "#56d364",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#56d4dd",
    "white": TEXT,
}


class Run(NamedTuple):
    """Characters of one colour that stand together in a line."""

    column: int
    color: str
    text: str


Line = Tuple[Run, ...]


class Screen(NamedTuple):
    """What a terminal shows, without the empty lines at the end."""

    lines: Tuple[Line, ...]
    column: int
    row: int


def line_markup(line: Line, row: int) -> str:
    """A line of text in its place. Its width is given, whatever font there is."""
    runs = []
    for column, color, text in line:
        fill = COLORS.get(color.replace("bright", ""), TEXT)
        place = f'x="{column * CELL:.1f}" y="{row * LINE + BASE}" fill="{fill}"'
        width = f'textLength="{len(text) * CELL:.1f}"'
        runs.append(f"<text {place} {width}>{escape(text)}</text>")
    return "".join(runs)


def screens_markup(screens: Iterable[Screen]) -> Tuple[List[str], List[str]]:
    """Groups of lines, and the screens made of them, one below the other.

    Most screens are the one before and some more text. So a group holds all lines down to one: the
    group that ends a line earlier, and that line.
    """
    groups: Dict[Tuple[Line, ...], str] = {(): "g0"}
    definitions, places = ['<g id="g0"/>'], []
    for number, screen in enumerate(screens):
        for end in range(1, len(screen.lines) + 1):
            lines = screen.lines[:end]
            if lines not in groups:
                groups[lines] = f"g{len(groups)}"
                parts = f'<use href="#{groups[lines[:-1]]}"/>{line_markup(lines[-1], end - 1)}'
                definitions.append(f'<g id="{groups[lines]}">{parts}</g>')
        top = number * ROWS * LINE
        x, y = screen.column * CELL, top + screen.row * LINE
        places.append(f'<use href="#cursor" x="{x:.1f}" y="{y}"/>')
        places.append(f'<use href="#{groups[screen.lines]}" y="{top}"/>')
    return definitions, places


def style(seconds: List[float]) -> str:
    """The film moves up by a screen at a time; who wants no motion sees the last one."""
    height, loop, now, steps = ROWS * LINE, sum(seconds), 0.0, []
    for number, shown in enumerate(seconds):
        steps.append(f"{now / loop:.3%}{{transform:translateY(-{number * height}px)}}")
        now += shown
    last = (len(seconds) - 1) * height
    return (
        f"text{{font:{SIZE}px {FONT};white-space:pre}}"
        f"#film{{transform:translateY(-{last}px);animation:play {loop:.2f}s step-end infinite}}"
        f"@keyframes play{{{''.join(steps)}}}"
        "@media (prefers-reduced-motion:reduce){#film{animation:none}}"
    )


def svg(shown: List[Tuple[float, Screen]], description: str) -> str:
    """A window, in which each screen is shown for its seconds, again and again."""
    definitions, places = screens_markup(screen for _, screen in shown)
    inner, tall = math.ceil(COLUMNS * CELL), ROWS * LINE
    width, height = inner + 2 * PADDING, BAR + tall + PADDING
    dots = zip((20, 40, 60), ("#ff5f57", "#febc2e", "#28c840"))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-labelledby="title desc" xml:space="preserve">',
        f'<title id="title">k8r in a terminal</title><desc id="desc">{description}</desc>',
        f"<style>{style([seconds for seconds, _ in shown])}</style>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10"'
        f' fill="{BACKGROUND}" stroke="{BORDER}"/>',
        *(f'<circle cx="{x}" cy="{BAR / 2:.0f}" r="6" fill="{fill}"/>' for x, fill in dots),
        f'<defs><rect id="cursor" width="{CELL}" height="{LINE - 1}" fill="{COLORS["black"]}"/>',
        *definitions,
        f'</defs><svg x="{PADDING}" y="{BAR}" width="{inner}" height="{tall}"><g id="film">',
        *places,
        "</g></svg></svg>",
    ]
    return "\n".join(parts) + "\n"
