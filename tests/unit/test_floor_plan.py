"""The shape of k8r.py: its rooms, what each may use, and how complex things are.

Each rule is a function of a file's text, so that the last test can break the
file in each of the ways that a rule is to see.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Set, Tuple

import pytest
from radon.complexity import cc_visit

import k8r

ROOMS = [
    "Constants",
    "Errors",
    "Types",
    "Text",
    "Values",
    "Scripts",
    "Manifests",
    "Objects",
    "Waiting",
    "Output",
    "Sources",
    "Repositories",
    "Images",
    "Access",
    "Cluster",
    "Channels",
    "Log lines",
    "Streams",
    "Results",
    "Following",
    "Doors",
    "Local runs",
    "Creating",
    "K8sRun",
    "Parser",
    "Configuration",
    "Commands",
    "Main",
]

COMPLEXITY = 12
"""McCabe's number as radon counts it, with boolean operators."""
TOO_COMPLEX: Set[str] = set()
"""Functions that may have more: at most three."""
FIELDS = 16
"""Attributes of one object, those of its bases in the file included."""
SHARE = 0.09
"""The largest part of the file that one room may be."""

PACKAGES = {
    "urllib3": {"Access", "Cluster"},
    "docker": {"Images"},
    "kubernetes": {"Cluster"},
    "requests": {"Repositories"},
    "yaml": {"Sources", "Output", "Access"},
}
"""Where other people's packages may be imported."""

SELDOM = set(
    "csv datetime difflib email fcntl getpass gzip hashlib ipaddress logging select shutil socket "
    "ssl tarfile tempfile termios traceback tty urllib".split()
)
"""Modules that cost a start noticeable time, and that few commands need."""

ENTRANCE = "Environment.of_process"
"""Takes the streams and the environment of the process, once."""
ENVIRON_READERS = {ENTRANCE, "run_git"}
STREAM_USERS = {ENTRANCE, "Console.__init__"}
CLOCKS = {"time.monotonic", "time.time", "time.sleep", "os.urandom"}
"""What Environment's defaults name, and do not call."""

PURE_MODULES = set(
    "argparse base64 contextlib csv difflib enum functools hashlib itertools json posixpath re "
    "shlex typing unicodedata".split()
)
PURE_PARTS = {
    "datetime": {"datetime", "datetime.fromisoformat", "timezone", "timezone.utc"},
    "os": {"fsdecode", "fsencode", "path", "path.join"},
    "sys": {"maxsize"},
    "urllib": {"parse", "parse.quote", "parse.unquote", "parse.urlsplit"},
}
IMPURE_NAMES = {"open", "print", "input", "exec", "eval", "__import__", "globals", "vars"}

PUBLIC_METHODS = (
    "namespace detect_source_type generate_job_name job_exists create_job run_job_with_options "
    "monitor_job list_jobs delete_job create_directory_container create_container_container "
    "get_job_logs".split()
)


class FloorPlan:
    """A file's text, cut at its banners."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        self.parents = {
            id(child): node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }
        for node, name in self.aliases():
            name.lineno = node.lineno  # which Python 3.8 and 3.9 do not say
        bar = "# " + "=" * 78
        self.banners = [
            (at, line[2:])
            for at, line in enumerate(self.lines, 1)
            if self.lines[at - 2 : at + 1] == [bar, line, bar]
        ]

    def aliases(self) -> List[Tuple[ast.stmt, ast.alias]]:
        """Every imported name, with its statement."""
        return [
            (node, name)
            for node in ast.walk(self.tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in node.names
        ]

    def room(self, node: ast.AST) -> str:
        """The title of the room that a node is in, "" before the first."""
        return ["", *(title for at, title in self.banners if at <= line_of(node))][-1]

    def rank(self, node: ast.AST) -> int:
        """The number of banners above a node."""
        return sum(at <= line_of(node) for at, _ in self.banners)

    def inside(self, node: ast.AST) -> str:
        """The qualified name of the innermost function or class that a node is in."""
        names: List[str] = []
        parent = self.parents.get(id(node))
        while parent is not None:
            if isinstance(parent, (ast.FunctionDef, ast.ClassDef)):
                names.insert(0, parent.name)
            parent = self.parents.get(id(parent))
        return ".".join(names)

    @functools.cached_property
    def definitions(self) -> Dict[str, ast.stmt]:
        """The statement that defines each top-level name."""
        found: Dict[str, ast.stmt] = {}
        for node in self.tree.body:
            for name in defined_names(node):
                found.setdefault(name, node)
        return found

    @functools.cached_property
    def functions(self) -> List[Tuple[str, ast.FunctionDef]]:
        """Every function and method with its qualified name, inner functions included."""
        return [
            (f"{self.inside(node)}.{node.name}".lstrip("."), node)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef)
        ]

    @functools.cached_property
    def annotations(self) -> Set[int]:
        """The nodes that belong to an annotation, which is never evaluated."""
        found: Set[int] = set()
        for node in ast.walk(self.tree):
            for note in (getattr(node, "annotation", None), getattr(node, "returns", None)):
                found |= {id(part) for part in ast.walk(note)} if note else set()
        return found

    @functools.cached_property
    def imports(self) -> List[Tuple[str, ast.stmt]]:
        """The first part of every imported module, with its statement."""
        found: List[Tuple[str, ast.stmt]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name.partition(".")[0], node) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found.append(((node.module or "").partition(".")[0], node))
        return found

    @functools.cached_property
    def map(self) -> Dict[str, str]:
        """What each room touches outside, by the map at the head of the file."""
        head = next(line for line in self.lines if line.startswith("#   room "))
        place = self.lines.index(head) + 1
        rows: Dict[str, str] = {}
        while self.lines[place].startswith("#   "):
            title = self.lines[place][: head.index("what it holds")]
            rows[title[1:].strip()] = self.lines[place][head.index("what it touches") :]
            place += 1
        return rows

    def own_names(self, node: ast.AST, also_annotations: bool = True) -> Dict[str, int]:
        """The file's own names that a statement uses, with the first line of each."""
        found: Dict[str, int] = {}
        for child in ast.walk(node):
            if isinstance(child, ast.Name) and child.id in self.definitions:
                if also_annotations or id(child) not in self.annotations:
                    found.setdefault(child.id, child.lineno)
        return found


def line_of(node: ast.AST) -> int:
    """The first line of a statement or expression."""
    return int(getattr(node, "lineno", 0))


def defined_names(node: ast.stmt) -> List[str]:
    """What a top-level statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    loops = [child.target for child in ast.walk(node) if isinstance(child, ast.comprehension)]
    inner = {id(part) for target in loops for part in ast.walk(target)}
    names = [child for child in ast.walk(node) if isinstance(child, ast.Name)]
    return [name.id for name in names if isinstance(name.ctx, ast.Store) and id(name) not in inner]


def bound_name(node: ast.AST) -> str:
    """The name that a node inside of a function binds, "" if it binds none."""
    if isinstance(node, ast.Name):
        return node.id if isinstance(node.ctx, ast.Store) else ""
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)):
        return node.name or ""
    if isinstance(node, ast.alias):
        return node.asname or ""
    return ""


def dotted(node: ast.AST) -> str:
    """`os.path.join` of such an expression, "" of any other."""
    parts: List[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""


Rule = Callable[[FloorPlan], Iterator[str]]
RULES: Dict[str, Rule] = {}


def rule(check: Rule) -> Rule:
    """Enter a rule, which yields what breaks it, into the table."""
    RULES[check.__name__] = check
    return check


@rule
def rooms_are_the_known_ones(plan: FloorPlan) -> Iterator[str]:
    """All are there, in order, each once, and the map at the head shows them."""
    for what, titles in (("banners", [title for _, title in plan.banners]), ("map", [*plan.map])):
        if titles != ROOMS:
            yield f"the {what}: {titles}"


@rule
def header_has_no_code(plan: FloorPlan) -> Iterator[str]:
    """Before the first room there are the help text, imports and the version."""
    for node in plan.tree.body[1:]:
        imports = isinstance(node, (ast.Import, ast.ImportFrom))
        head = imports or defined_names(node) == ["__version__"]
        if head == bool(plan.room(node)):
            yield f"line {node.lineno}"


@rule
def calls_go_up(plan: FloorPlan) -> Iterator[str]:
    """Nothing uses what a later room defines, not even in an annotation. Since no local
    hides a top-level name, every use of one is a use.
    """
    for user in plan.tree.body:
        for name, line in plan.own_names(user).items():
            if plan.rank(plan.definitions[name]) > plan.rank(user):
                there = plan.room(plan.definitions[name])
                yield f"line {line}: {plan.room(user)} uses {name} of {there}"


@rule
def no_name_is_hidden(plan: FloorPlan) -> Iterator[str]:
    """No local or parameter has the name of something at the top level, of a module, or
    of a function that makes a room impure.
    """
    modules = {name for name, node in plan.imports if node.col_offset == 0}
    known = {*plan.definitions, *modules, *IMPURE_NAMES}
    for node in ast.walk(plan.tree):
        if bound_name(node) in known:
            statement = node
            while not isinstance(statement, (ast.stmt, ast.arg, ast.comprehension, ast.alias)):
                statement = plan.parents[id(statement)]
            local = isinstance(statement, (ast.arg, ast.comprehension))
            if local or not isinstance(plan.parents[id(statement)], (ast.Module, ast.ClassDef)):
                yield f"line {line_of(node)}: {bound_name(node)}"


@rule
def three_rooms_do_not_know_one_another(plan: FloorPlan) -> Iterator[str]:
    """Sources, output and the cluster each could be replaced. The gateway is given a
    Console to tell of its retries, and knows of it no more than that type.
    """
    apart = {"Sources", "Repositories", "Output", "Cluster"}
    for user in plan.tree.body:
        if plan.room(user) in apart:
            used = set(plan.own_names(user, also_annotations=False))
            noted = set(plan.own_names(user)) - used
            if plan.room(user) == "Cluster":
                noted.discard("Console")
            for name in used | noted:
                if plan.room(plan.definitions[name]) in apart - {plan.room(user)}:
                    yield f"line {user.lineno}: {plan.room(user)} uses {name}"


def is_deferred(plan: FloorPlan, node: ast.AST) -> bool:
    """Whether this is a clock that a default of Environment names and does not call."""
    default = node
    while isinstance(plan.parents[id(default)], (ast.Attribute, ast.Call, ast.Lambda)):
        default = plan.parents[id(default)]
    called = isinstance(plan.parents[id(node)], ast.Call)
    return (
        plan.inside(node) == "Environment"
        and dotted(node) in CLOCKS
        and isinstance(plan.parents[id(default)], ast.AnnAssign)
        and (not called or isinstance(default, ast.Lambda))
    )


@rule
def pure_rooms_are_pure(plan: FloorPlan) -> Iterator[str]:
    """Rooms that touch nothing, as the map has it, use no file, socket, process, clock,
    stream or environment.
    """
    modules = {name for name, _ in plan.imports} - PURE_MODULES
    for node in ast.walk(plan.tree):
        here = plan.map.get(plan.room(node)) == "nothing" and plan.inside(node) != ENTRANCE
        if not here or id(node) in plan.annotations:
            continue
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global"
        if isinstance(node, ast.ImportFrom) or getattr(node, "asname", None):
            yield f"line {line_of(plan.parents[id(node)])}: an import under another name"
        if isinstance(node, ast.Name) and node.id in IMPURE_NAMES:
            yield f"line {node.lineno}: {node.id}"
        whole = not isinstance(plan.parents.get(id(node)), ast.Attribute)
        read = whole and isinstance(getattr(node, "ctx", None), ast.Load)
        root, _, rest = dotted(node).partition(".") if read else ("", "", "")
        if root in modules and rest not in PURE_PARTS.get(root, set()):
            if not is_deferred(plan, node):
                yield f"line {line_of(node)}: {dotted(node)}"


@rule
def environment_has_one_entrance(plan: FloorPlan) -> Iterator[str]:
    """The process' variables are read there, and by what hands them on to git."""
    for node in ast.walk(plan.tree):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "name", "")
        if name in ("environ", "environb", "getenv", "getenvb", "putenv"):
            of_os = not isinstance(node, ast.Attribute) or dotted(node.value) == "os"
            if of_os and plan.inside(node) not in ENVIRON_READERS:
                yield f"line {line_of(node)}"


@rule
def packages_have_their_rooms(plan: FloorPlan) -> Iterator[str]:
    """Other people's packages are imported in their own rooms, when they are needed; of
    the standard library what few commands need is imported late.
    """
    top = {name for name, node in plan.imports if node.col_offset == 0}
    for name, node in plan.imports:
        if name in PACKAGES and (plan.room(node) not in PACKAGES[name] or node.col_offset == 0):
            yield f"line {node.lineno}: {name}"
        if name in SELDOM and node.col_offset == 0:
            yield f"line {node.lineno}: {name} costs time"
        if node.col_offset > 0 and name not in top | set(PACKAGES) | SELDOM:
            yield f"line {node.lineno}: {name} is not declared"


@rule
def only_the_console_prints(plan: FloorPlan) -> Iterator[str]:
    """There is no print(), and nothing else has the streams, by whatever name."""
    for node in ast.walk(plan.tree):
        stream = re.fullmatch(
            r"print|builtins|(sys|.*env)\.(__)?(stdout|stderr)(__)?", dotted(node)
        )
        if stream and plan.inside(node) not in STREAM_USERS:
            yield f"line {line_of(node)}: {dotted(node)}"
        if isinstance(node, ast.Import) and any(a.name == "sys" and a.asname for a in node.names):
            yield f"line {node.lineno}: sys under another name"
        if isinstance(node, ast.ImportFrom) and node.module == "sys":
            yield f"line {node.lineno}: parts of sys"


@rule
def only_run_and_exit_exits(plan: FloorPlan) -> Iterator[str]:
    """sys.exit is called there alone, and nothing else ends the process."""
    for node in ast.walk(plan.tree):
        name = dotted(node)
        if name in ("SystemExit", "exit", "quit", "os._exit", "os.abort", "sys.exit"):
            if name != "sys.exit" or plan.inside(node) != "run_and_exit":
                yield f"line {line_of(node)}: {name}"


@rule
def nothing_catches_everything(plan: FloorPlan) -> Iterator[str]:
    """No bare except, and BaseException only to clean up and raise it again."""
    for node in ast.walk(plan.tree):
        if isinstance(node, ast.ExceptHandler):
            everything = node.type is None or dotted(node.type) == "BaseException"
            if node.type is None or everything and not isinstance(node.body[-1], ast.Raise):
                yield f"line {node.lineno}"


@rule
def functions_are_simple(plan: FloorPlan) -> Iterator[str]:
    """None is more complex than the limit, but for the few that are listed."""
    if len(TOO_COMPLEX) > 3:
        yield f"{len(TOO_COMPLEX)} exceptions"
    for block in cc_visit(plan.text):
        name = getattr(block, "fullname", block.name)
        if block.letter != "C" and block.complexity > COMPLEXITY and name not in TOO_COMPLEX:
            yield f"line {block.lineno}: {name} has a complexity of {block.complexity}"


@rule
def classes_are_small(plan: FloorPlan) -> Iterator[str]:
    """No class has more fields than the limit; records, which have no self, may."""
    fields: Dict[str, Set[str]] = {}
    for node in plan.tree.body:
        if isinstance(node, ast.ClassDef):
            own = {
                child.attr
                for child in ast.walk(node)
                if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store)
                if dotted(child.value) == "self"
            }
            fields[node.name] = own.union(*(fields.get(dotted(base), ()) for base in node.bases))
            if len(fields[node.name]) > FIELDS:
                yield f"line {node.lineno}: {node.name} has {len(fields[node.name])} fields"


@rule
def rooms_are_of_a_size(plan: FloorPlan) -> Iterator[str]:
    """None is larger than its share of the file."""
    ends = [at for at, _ in plan.banners[1:]] + [len(plan.lines)]
    for (start, title), end in zip(plan.banners, ends):
        if end - start > SHARE * len(plan.lines):
            yield f"line {start}: {title} has {end - start} of {len(plan.lines)} lines"


@rule
def docstrings_are_there(plan: FloorPlan) -> Iterator[str]:
    """Whatever is public says what it is for; what overrides needs not say it again."""
    for name, node in plan.definitions.items():
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not ast.get_docstring(node):
            yield f"line {node.lineno}: {name}"
        bases = getattr(k8r, name, object).__mro__[1:] if isinstance(node, ast.ClassDef) else ()
        inherited = {attribute for base in bases for attribute in vars(base)}
        for method in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(method, ast.FunctionDef) and not ast.get_docstring(method):
                if not method.name.startswith("_") and method.name not in inherited:
                    yield f"line {method.lineno}: {name}.{method.name}"


@rule
def texts_are_plain(plan: FloorPlan) -> Iterator[str]:
    """A docstring stands alone, and a message says what is not valid."""
    for node in ast.walk(plan.tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str):
            statement = isinstance(plan.parents[id(node)], ast.Expr)
            if statement and re.match(r"(The same|Its|Their|Likewise|Ditto)\b", text):
                yield f"line {line_of(node)}: {text[:20]!r} of what?"
            if not statement and re.search(r"(^|['\"}]) is no [a-z]", text):
                yield f"line {line_of(node)}: {text[:20]!r}: not a valid ..."


@rule
def types_are_there(plan: FloorPlan) -> Iterator[str]:
    """Every parameter and result has a type."""
    for name, node in plan.functions:
        bare = [arg.arg for arg in node.args.args if arg.annotation is None]
        if node.returns is None or set(bare) - {"self", "cls"}:
            yield f"line {node.lineno}: {name}"


@rule
def names_keep_their_word(plan: FloorPlan) -> Iterator[str]:
    """cmd_ is a command, is_ and has_ tell true or false."""
    for name, node in plan.functions:
        last = name.rpartition(".")[2].lstrip("_")
        if last.startswith("cmd_") and plan.room(node) != "Commands":
            yield f"line {node.lineno}: {name}"
        if last.startswith(("is_", "has_")) and dotted(node.returns or node) != "bool":
            yield f"line {node.lineno}: {name}"


@rule
def nothing_is_left_to_do(plan: FloorPlan) -> Iterator[str]:
    """No comment promises work."""
    for token in tokenize.generate_tokens(io.StringIO(plan.text).readline):
        if token.type == tokenize.COMMENT:
            if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string):
                yield f"line {token.start[0]}: {token.string}"


@rule
def lines_are_short(plan: FloorPlan) -> Iterator[str]:
    """None has more than 100 characters."""
    for at, line in enumerate(plan.lines, 1):
        if len(line) > 100:
            yield f"line {at}"


@pytest.fixture(scope="module")
def floor_plan() -> FloorPlan:
    """That of k8r.py as it is."""
    return FloorPlan(Path(k8r.__file__).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RULES)
def test_rules(floor_plan: FloorPlan, name: str) -> None:
    """Nothing in the file breaks a rule."""
    assert list(RULES[name](floor_plan)) == []


def test_names_that_people_call() -> None:
    """K8sRun's methods are public: those that there are keep their names."""
    for name in PUBLIC_METHODS:
        assert hasattr(k8r.K8sRun, name), name
    quiet = k8r.K8sRun(namespace="team")
    assert quiet.namespace == "team"
    assert all(hasattr(quiet, group) for group in ("batch_v1", "core_v1", "apps_v1"))


class Break(NamedTuple):
    """Code that breaks a rule, once it stands at the end of a room."""

    rule: str
    room: str
    code: str


UPWARD = """
def find_word() -> Any:
    def inner(dispatch: Any) -> Any:
        return dispatch
    return inner(dispatch(None, None))
"""
LOCAL_OPEN = """
def read_word(path: str) -> str:
    read = lambda: open(path).read()
    inner = lambda open: open
    return inner(read())
"""
ALIASED = """
def warn_aside() -> None:
    err = sys.stderr
    err.write("warning")
"""
BRANCHES = "".join(
    f"    if text == '{n}' or text == '{n}0':\n        return {n}\n" for n in range(6)
)
ASSIGNMENTS = "".join(f"        self.field_{n} = {n}\n" for n in range(17))
CLASS = f"class Large:\n    def __init__(self) -> None:\n{ASSIGNMENTS}"
BASE = CLASS.replace("class Large", "class Base").replace("        self.field_0 = 0\n", "")
HEIR = "class Heir(Base):\n    def move(self) -> None:\n        self.step = 1\n"
FILLER = "# filler\n"

BREAKS = [
    Break("calls_go_up", "Text", UPWARD),
    Break("calls_go_up", "Text", "FIRST = lambda: dispatch"),
    Break("calls_go_up", "Text", "def f(console: Console) -> None: ..."),
    Break("no_name_is_hidden", "Text", UPWARD),
    Break("no_name_is_hidden", "Text", "def f(redact: str) -> str:\n    return redact"),
    Break("no_name_is_hidden", "Text", "def f() -> None:\n    for clip in 'ab': pass"),
    Break("no_name_is_hidden", "Text", "F = [time for time in 'ab']"),
    Break("no_name_is_hidden", "Text", "F = lambda open: open"),
    Break("pure_rooms_are_pure", "Values", LOCAL_OPEN),
    Break("pure_rooms_are_pure", "Values", "READ: Any = lambda path: open(path)"),
    Break("pure_rooms_are_pure", "Values", "def f() -> float:\n    return time.time()"),
    Break("pure_rooms_are_pure", "Values", "def f(now: float = time.time()) -> None: ..."),
    Break("pure_rooms_are_pure", "Values", "def f() -> None:\n    import time as t\n    t.time()"),
    Break("pure_rooms_are_pure", "Values", "def f() -> Any:\n    return datetime.datetime.now()"),
    Break("pure_rooms_are_pure", "Types", "class Environment:\n    at: float = time.time()"),
    Break("environment_has_one_entrance", "Sources", "HOME = os.environ['HOME']"),
    Break("environment_has_one_entrance", "Main", "def f() -> Any:\n    return os.getenv('A')"),
    Break("environment_has_one_entrance", "Main", "def f() -> Any:\n    from os import environ"),
    Break("only_the_console_prints", "Following", ALIASED),
    Break("only_the_console_prints", "Following", ALIASED.replace("sys.", "self._env.")),
    Break("only_the_console_prints", "Main", "def f() -> None:\n    from sys import stderr as e"),
    Break("only_the_console_prints", "Main", "def f() -> None:\n    import sys as s"),
    Break("only_the_console_prints", "Output", "def f() -> None:\n    print('x')"),
    Break("functions_are_simple", "Values", f"def f(text: str) -> int:\n{BRANCHES}    return 0"),
    Break("classes_are_small", "Streams", CLASS),
    Break("classes_are_small", "Streams", f"{BASE}\n{HEIR}"),
    Break("rooms_are_of_a_size", "Text", FILLER * 2000),
    Break("rooms_are_the_known_ones", "Main", f"# {'=' * 78}\n# Extra\n# {'=' * 78}"),
    Break("header_has_no_code", "", "FIRST = 1"),
    Break("header_has_no_code", "Text", "import os"),
    Break("three_rooms_do_not_know_one_another", "Cluster", "F = lambda: pack_directory"),
    Break("packages_have_their_rooms", "Text", "def f() -> None:\n    import yaml"),
    Break("packages_have_their_rooms", "Sources", "import requests"),
    Break("packages_have_their_rooms", "Sources", "def f() -> None:\n    import unittest"),
    Break("only_run_and_exit_exits", "Commands", "def f() -> None:\n    sys.exit(1)"),
    Break("only_run_and_exit_exits", "Commands", "def f() -> None:\n    raise SystemExit"),
    Break("nothing_catches_everything", "Main", "try: ...\nexcept: ..."),
    Break("nothing_catches_everything", "Main", "try: ...\nexcept BaseException: ..."),
    Break("docstrings_are_there", "Text", "def f() -> None: ..."),
    Break("texts_are_plain", "Text", 'def f() -> None:\n    """The same here."""'),
    Break("texts_are_plain", "Text", "def f(x: int) -> str:\n    return f\"'{x}' is no port\""),
    Break("types_are_there", "Text", "def f(x) -> None: ..."),
    Break("names_keep_their_word", "Text", "def is_it() -> int: ..."),
    Break("names_keep_their_word", "Text", "def cmd_it() -> None: ..."),
    Break("nothing_is_left_to_do", "Text", "# TODO: later"),
    Break("lines_are_short", "Text", f"# {'-' * 100}"),
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.rule)
def test_rules_see_what_breaks_them(floor_plan: FloorPlan, broken: Break) -> None:
    """Each rule has more to say of the file with such code in it."""
    starts = [at for at, title in floor_plan.banners]
    place = starts[ROOMS.index(broken.room) + 1 :][:1] if broken.room else starts[:1]
    at = place[0] - 2 if place else len(floor_plan.lines)
    lines = [*floor_plan.lines[:at], *broken.code.splitlines(), *floor_plan.lines[at:]]
    before = list(RULES[broken.rule](floor_plan))
    after = list(RULES[broken.rule](FloorPlan("\n".join(lines) + "\n")))
    assert len(after) > len(before), after


def test_the_map_is_compared(floor_plan: FloorPlan) -> None:
    """A room that the map lacks or misnames is seen."""
    text = floor_plan.text.replace("#   Values ", "#   Figures")
    assert text != floor_plan.text
    assert len(list(rooms_are_the_known_ones(FloorPlan(text)))) == 1


def test_all_rules_are_broken() -> None:
    """There is no rule that was never seen to fail."""
    assert {broken.rule for broken in BREAKS} == set(RULES)


def test_a_sentence_may_speak_of_a_todo(floor_plan: FloorPlan) -> None:
    """Only a comment promises work."""
    text = floor_plan.text + '\n\ndef f() -> None:\n    """Lists what has TODO in it."""\n'
    assert list(nothing_is_left_to_do(FloorPlan(text))) == []
