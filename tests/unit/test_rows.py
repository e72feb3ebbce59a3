"""`--each`: what a file of lines says, and what of it reaches a command through real shells."""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest
from common import usage_error
from hypothesis import given
from hypothesis import strategies as st

import k8r
from tests.unit.test_cli import environment, parse


def cells(text: str, name: str = "f.csv") -> List[Dict[str, str]]:
    """The variables of each row."""
    rows = k8r.parse_rows(text, name)
    assert [row.number for row in rows] == list(range(len(rows)))
    return [dict(row.variables) for row in rows]


@pytest.mark.parametrize(
    "text, lines",
    [
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb", ["a", "b"]),
        ("\n# no\n  # no\n \t\n a  b \n", [" a  b "]),
        ("a#b\n-x\n{line}\n$(id)\n'\"\\\n", ["a#b", "-x", "{line}", "$(id)", "'\"\\"]),
        ("a\x0bb\u2028c\x85d\re\n", ["a\x0bb\u2028c\x85d\re"]),
    ],
)
def test_lines(text: str, lines: List[str]) -> None:
    assert cells(text, "f.txt") == [{"K8R_LINE": line} for line in lines]


@pytest.mark.parametrize(
    "text, rows",
    [
        ("a,b\n1,2\n", [("1,2", "1", "2")]),
        ("a,b\r\n1,2\r\n", [("1,2", "1", "2")]),
        ("\n#c\na,b\n#c\n\n, x \n", [(", x ", "", " x ")]),
        ('a,b\n"1\n\n#2","say ""x"""\n', [('"1\n\n#2","say ""x"""', "1\n\n#2", 'say "x"')]),
        ('a,b\n"#1",2', [('"#1",2', "#1", "2")]),
    ],
)
def test_tables(text: str, rows: List[Tuple[str, ...]]) -> None:
    """A comment or blank line within a cell belongs to it."""
    expected = [dict(zip(("K8R_LINE", "a", "b"), row)) for row in rows]
    assert cells(text) == cells(text, "F.CSV") == expected
    assert cells("a\tb\n1,1\t2\n", "f.tsv") == [{"K8R_LINE": "1,1\t2", "a": "1,1", "b": "2"}]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "f.csv has no lines"),
        ("#\n\n", "f.csv has no lines"),
        ("a,b\n", "f.csv has no lines"),
        ('a,b\n1,"2\n3"\n#\n1\n', "line 5 has 1 cell, the first line 2"),
        ("a,b\n1,2,3\n", "line 2 has 3 cells, the first line 2"),
        ('\na,b\n1,"2\n', "line 3: "),
        ('a,b\n"1"2,3\n', "line 2: "),
        ("a,b\n1,\0\n", "NUL"),
        ("\n\na,\n", "line 3: '' cannot be"),
        ("a,a\n1,2\n", "line 1: two columns are called a"),
        *((f"x,{name}\n1,2\n", f"'{name}' cannot be") for name in ("a b", "1a", "ä", "a-b", "=")),
        *((f"{name}\n1\n", "cannot be") for name in "PATH K8R_INDEX LD_PRELOAD line _ UID".split()),
        ("a\n" + "1\n" * 10_001, "more than 10000 lines"),
    ],
)
def test_wrong_files(text: str, message: str) -> None:
    error = usage_error(k8r.parse_rows, text, "f.csv")
    assert message in error.message and error.hint


def test_as_many_as_may_be() -> None:
    assert len(k8r.parse_rows("x\n" * 10_000, "f")) == 10_000


@pytest.mark.parametrize(
    "options, data, message",
    [
        (["--num", "2", "--", "x"], b"a\n", "--each has a pod for each line"),
        (["--as-deployment", "--", "x"], b"a\n", "--each takes no --as-deployment"),
        (["-i", "--", "x"], b"a\n", "--each takes no --stdin"),
        (["-t", "--", "x"], b"a\n", "--each takes no --tty"),
        ([], b"a\n", "--each needs a command"),
        (["--", "x"], b"a\n\xff\n", "not UTF-8"),
        (["--", "x"], b"", "has no lines"),
        (["--", "x"], b"a" * 131_050, "longer than 131071 bytes"),
        (["--", "x", "b" * 12_000 + "{line}"], b"a\n" * 100, "50 lines with the words"),
    ],
)
@pytest.mark.parametrize("where", ["file", "stdin"])
def test_wrong_options(
    options: List[str], data: bytes, message: str, where: str, tmp_path: Path
) -> None:
    """All is known before anything is made, whichever way the lines come."""
    (tmp_path / "f").write_bytes(data)
    args = parse("alpine", "--each", "f" if where == "file" else "-", "--show-yaml", *options)
    env = environment({}, str(tmp_path), data)
    error = usage_error(lambda: k8r.cmd_run(k8r.K8sRun(env=env), args))
    assert message in error.message and error.hint


@pytest.mark.parametrize(
    "word, filled",
    [
        ("{lr}", "0.1"),
        ("--lr={lr},{lr}", "--lr=0.1,0.1"),
        ("{line}", "0.1,{lr}"),
        ("{b}", "{lr}"),
        ("{}", "{}"),
        ("{{lr}}", "{lr}"),
        ("{{}}{{x}}{x}{lr }{K8R_LINE}${lr}", "{{}}{{x}}{x}{lr }{K8R_LINE}$0.1"),
        ('{"lr": {lr}, "x": "{b}"}', '{"lr": 0.1, "x": "{lr}"}'),
        ("{print $1}", "{print $1}"),
    ],
)
def test_what_is_replaced(word: str, filled: str) -> None:
    row = k8r.Row(0, (("K8R_LINE", "0.1,{lr}"), ("lr", "0.1"), ("b", "{lr}")))
    assert k8r.expand(word, row) == filled
    assert k8r.expand(word, k8r.Row(0)) == word


TEXT = st.text(st.characters(min_codepoint=1, blacklist_categories=("Cs",)), max_size=20)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=60), st.lists(TEXT, max_size=4))
def test_rows_come_back(values: List[Tuple[str, str]], command: List[str]) -> None:
    """What `retry` and `ls` read is what was written."""
    rows = [k8r.Row(3 * n, (("K8R_LINE", a), ("b", b))) for n, (a, b) in enumerate(values)]
    options = k8r.RunOptions("", tuple([*command, "{b}"]), rows=tuple(rows), num=len(rows))
    parts = [{"data": data} for data in k8r.build_tables(options)]
    assert k8r.read_rows_of(parts) == {row.number: row for row in rows}


ODD = [
    "plain",
    "",
    " two  words ",
    "-n",
    "a\nb\n\n",
    'it\'s "quoted" \\ \\n `id` $(id) $HOME ${X} $$(X) *',
    "'''",
    "äöü€😀\u0081\u0088\u2028\ufffd",
    "\x01\x7f\x81\r\t\x1b[0m",
    "esac\n;;\n0)",
    "{lr} {{lr}} {}",
    "x" * 25_000,
]
SHELLS = ("sh", "dash", "bash", "ksh", "mksh", "busybox")
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"


def shells() -> Dict[str, List[str]]:
    """The shells of this machine that an image may have as sh, each once."""
    paths = {name: shutil.which(name) for name in SHELLS}
    found = {os.path.realpath(path): name for name, path in paths.items() if path}
    return {name: [name, "sh"] if name == "busybox" else [name] for name in found.values()}


@pytest.mark.parametrize("shell", shells().values(), ids=shells())
def test_through_a_shell(shell: Sequence[str], tmp_path: Path) -> None:
    """Every byte arrives, in variables and words, of the right row, wherever its file is; and
    an odd variable of --env, which moves the words, too.
    """
    fill = [k8r.Row(n, (("K8R_LINE", str(n)), ("lr", ""))) for n in range(9_990)]
    rows = [k8r.Row(20_000 + n, (("K8R_LINE", t), ("lr", t))) for n, t in enumerate(ODD)]
    mixed = [*fill[:45], *rows, *fill[45:]]
    words = (sys.executable, "-SEc", SHOW, "{lr}", "{line}!", "$HOME", "{}", *map(str, range(9)))
    odd = (("discovery.type", "{lr}"), ("n", "1"))
    options = k8r.RunOptions("", words, rows=tuple(mixed), num=len(mixed), env=odd)
    for table in k8r.build_tables(options):
        for name, text in table.items():
            (tmp_path / name).write_bytes(text.encode())
    script = (k8r.PICK_ROW + k8r.RUN).replace(k8r.ROWS_MOUNT, str(tmp_path))
    command = [*shell, "-c", script, "k8r", *k8r.build_words(options)]
    for at in (0, *range(45, 45 + len(rows)), len(mixed) - 1):
        given_here = {**os.environ, "JOB_COMPLETION_INDEX": str(at), "n": "7", "i": "7"}
        done = subprocess.run(command, env=given_here, stdout=subprocess.PIPE, check=True)
        argv, environ = json.loads(done.stdout)
        line, lr = (value for _, value in mixed[at].variables)
        assert argv == [lr, f"{line}!", "$HOME", "{}", *map(str, range(9))]
        found = [environ[key] for key in "K8R_LINE lr K8R_INDEX K8R_COUNT i n".split()]
        assert found == [line, lr, str(mixed[at].number), str(len(mixed)), "7", "7"]
        assert environ["discovery.type"] == "{lr}"


def test_no_special_variable_of_bash_can_be_a_column() -> None:
    """Those that a new bash does not hand on as they were set."""
    bash = shutil.which("bash")
    assert bash, "bash is needed here"
    script = "compgen -v; for v in $(compgen -v); do (unset $v 2>/dev/null || echo $v); done"
    names = subprocess.run([bash, "-c", script], stdout=subprocess.PIPE, check=True).stdout.split()
    for name in sorted(set(map(os.fsdecode, names))):
        keep = f'export {name}=x7x 2>/dev/null; exec "$0" -SEc "$1" {name}'
        show = "import os, sys; print(os.environ.get(sys.argv[1]))"
        done = subprocess.run([bash, "-c", keep, sys.executable, show], capture_output=True)
        if done.stdout != b"x7x\n":
            assert k8r.RESERVED.fullmatch(name), name


def test_show_yaml(k8r: Any, workdir: Path) -> None:
    """The objects have the lines beside the Job, and no line in it."""
    import yaml

    (workdir / "f.csv").write_text("lr,x\n" + "".join(f"{n},v: {n}\n" for n in range(120)))
    done = k8r("alpine", "--each", "f.csv", "--show-yaml", "--", "echo", "{lr}", "{}")
    *tables, job = yaml.safe_load_all(done.text)
    assert [sorted(table["data"]) for table in tables] == [["0", "1", "2"]]
    assert 'set -- "${1}" \'119\' "${3}"' in tables[0]["data"]["2"]
    assert job["spec"]["completions"] == 120
    main = job["spec"]["template"]["spec"]["containers"][0]
    assert main["args"] == ["echo", "{lr}", "{}"] and "v: 7" not in json.dumps(job)


@pytest.mark.parametrize(
    "data, words",
    [
        (b"a\n\xff\n", "it is not UTF-8 text"),
        ("a\n".encode("utf-16"), "it is UTF-16"),
        (b"x" * (k8r.ROWS_LIMIT + 2), "it has more than 32.0 MiB"),
    ],
    ids=["bytes", "UTF-16", "much"],
)
def test_standard_input_that_is_no_text(data: bytes, words: str) -> None:
    """It is read as a file is: no more of it than is allowed, and refused in the same words."""
    stdin = io.BytesIO(data)
    env = k8r.Environment(stdin, io.BytesIO(), io.StringIO(), {}, "/")
    args = argparse.Namespace(each="-", num=1, command=["true"])
    with pytest.raises(k8r.UsageError, match=f"standard input cannot be read: {words}"):
        k8r.read_rows(args, env)
    assert stdin.tell() <= k8r.ROWS_LIMIT + 1
