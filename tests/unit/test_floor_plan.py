"""The shape of k8r.py: its sections, what each may use, and how long things are."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

import pytest

import k8r

TEXT = Path(k8r.__file__).read_text(encoding="utf-8")
LINES = TEXT.splitlines()
TREE = ast.parse(TEXT)

SECTIONS = [
    "Constants",
    "Errors",
    "Types",
    "Text",
    "Values",
    "Manifests",
    "Objects",
    "Output",
    "Sources",
    "Images",
    "Access",
    "Cluster",
    "Log lines",
    "Streams",
    "Following",
    "Local runs",
    "Creating",
    "K8sRun",
    "Parser",
    "Configuration",
    "Commands",
    "Main",
]
NUMBERS = {title: number for number, title in enumerate(SECTIONS, 1)}
PURE = {NUMBERS[title] for title in [*SECTIONS[:7], "Log lines"]}
SOURCES, IMAGES, OUTPUT = NUMBERS["Sources"], NUMBERS["Images"], NUMBERS["Output"]
ACCESS, CLUSTER = NUMBERS["Access"], NUMBERS["Cluster"]

SELDOM = set(
    "datetime difflib getpass gzip hashlib logging select shutil socket ssl tarfile tempfile "
    "traceback urllib".split()
)
"""Modules that cost a start noticeable time, and that few commands need."""

# What the pure sections must not use, and the only place that may: it
# reads the process' environment, once.
ENTRANCE = "Environment.of_process"
IMPURE_NAMES = {"open", "print", "input", "exec", "eval", "__import__", "globals"}
PURE_MODULES = {
    "base64",
    "contextlib",
    "datetime",
    "difflib",
    "enum",
    "hashlib",
    "itertools",
    "json",
    "posixpath",
    "re",
    "shlex",
    "typing",
    "unicodedata",
    "urllib",
}
PURE_PARTS = {
    "os": {"path.join", "fsencode", "fsdecode"},
    "sys": {"maxsize"},
}


class Definition(NamedTuple):
    """A top-level function, class or constant."""

    name: str
    node: ast.AST
    section: int


@functools.lru_cache(maxsize=None)
def banners() -> List[Tuple[int, int, str]]:
    """Line, number and title of each section's banner."""
    found = []
    for at, line in enumerate(LINES, 1):
        bar = "# " + "=" * 78
        if LINES[at - 2 : at + 1] == [bar, line, bar]:
            found.append((at, len(found) + 1, line[2:]))
    return found


def section_at(line: int) -> int:
    """The number of the section that a line is in."""
    return max([0, *(number for at, number, _ in banners() if at <= line)])


@functools.lru_cache(maxsize=None)
def definitions() -> List[Definition]:
    """All of them, in order."""
    found = []
    for node in TREE.body:
        names: List[str] = []
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        found += [Definition(name, node, section_at(node.lineno)) for name in names]
    return found


@functools.lru_cache(maxsize=None)
def functions() -> List[Tuple[str, ast.FunctionDef]]:
    """Every function and method with its qualified name, inner functions included."""

    def walk(node: ast.AST, prefix: str) -> Iterator[Tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield prefix + child.name, child
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                yield from walk(child, f"{prefix}{child.name}.")

    return list(walk(TREE, ""))


@functools.lru_cache(maxsize=None)
def local_names(node: ast.AST) -> Set[str]:
    """Names that are bound inside of a definition, which hide the file's own."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            found.add(child.id)
        elif isinstance(child, ast.arg):
            found.add(child.arg)
        elif child is not node and isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            found.add(child.name)
    return found


@functools.lru_cache(maxsize=None)
def annotations(node: ast.AST) -> Set[int]:
    """The nodes that belong to an annotation."""
    found: Set[int] = set()
    for child in ast.walk(node):
        notes = []
        if isinstance(child, ast.FunctionDef):
            notes = [child.returns]
        elif isinstance(child, (ast.arg, ast.AnnAssign)):
            notes = [child.annotation]
        for note in notes:
            found |= {id(part) for part in ast.walk(note)} if note else set()
    return found


def uses(node: ast.AST, also_annotations: bool = True) -> Dict[str, int]:
    """The file's own names that a definition uses, with the first line of each."""
    hidden = local_names(node)
    skipped = set() if also_annotations else annotations(node)
    found: Dict[str, int] = {}
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and child.id not in hidden and id(child) not in skipped:
            found.setdefault(child.id, child.lineno)
    return found


def dotted(node: ast.AST) -> str:
    """`os.path.join` of such an expression, "" of any other."""
    parts: List[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""


def test_sections() -> None:
    """All are there, in order, each once."""
    assert [(number, title) for _, number, title in banners()] == list(enumerate(SECTIONS, 1))


def test_header() -> None:
    """Before the first section there are the help text, imports and the version."""
    first = banners()[0][0]
    for node in TREE.body:
        if node.lineno < first:
            docstring = isinstance(node, ast.Expr)
            version = isinstance(node, ast.Assign) and LINES[node.lineno - 1][:11] == "__version__"
            assert docstring or version or isinstance(node, (ast.Import, ast.ImportFrom))
        else:
            assert not isinstance(node, (ast.Import, ast.ImportFrom)), f"line {node.lineno}"


def test_calls_go_up() -> None:
    """Nothing uses what a later section defines, not even in an annotation."""
    where = {definition.name: definition.section for definition in definitions()}
    wrong = [
        f"line {line}: {user.name} (section {user.section}) uses {name} (section {where[name]})"
        for user in definitions()
        for name, line in uses(user.node).items()
        if where.get(name, 0) > user.section
    ]
    assert wrong == []


def test_three_sections_do_not_know_one_another() -> None:
    """Sources, output and the cluster each could be replaced. The gateway is given a
    Console to tell of its retries, and knows of it no more than that type.
    """
    where = {definition.name: definition.section for definition in definitions()}
    apart = {SOURCES, OUTPUT, CLUSTER}
    wrong = []
    for user in definitions():
        if user.section in apart:
            used = set(uses(user.node, also_annotations=False))
            noted = set(uses(user.node)) - used
            if user.section == CLUSTER:
                noted -= {"Console"}
            wrong += [
                f"{user.name} uses {name}"
                for name in used | noted
                if where.get(name) in apart - {user.section}
            ]
    assert wrong == []


def pure_nodes() -> Iterator[ast.AST]:
    """All nodes of the pure sections, but for annotations, local names and the one entrance."""
    entrance = dict(functions())[ENTRANCE]
    skipped = {id(node) for node in ast.walk(entrance)}
    for definition in definitions():
        if definition.section in PURE:
            skipped |= annotations(definition.node)
            hidden = local_names(definition.node)
            for node in ast.walk(definition.node):
                if id(node) not in skipped and dotted(node).partition(".")[0] not in hidden:
                    yield node


def test_pure_sections() -> None:
    """These touch no file, socket, process, clock or stream. Environment's defaults name
    the clock, but do not look at it.
    """
    wrong = []
    impure = {name for name, _ in imports()} - PURE_MODULES
    types = [d for d in definitions() if d.name == "Environment"][0].node
    named = {id(node) for node in ast.walk(types)}
    inner = set()
    for node in pure_nodes():
        if isinstance(node, ast.Attribute):
            inner.add(id(node.value))
    for node in pure_nodes():
        if isinstance(node, ast.Global):
            wrong.append(f"line {node.lineno}: global")
        if isinstance(node, ast.Name) and node.id in IMPURE_NAMES:
            wrong.append(f"line {node.lineno}: {node.id}")
        if isinstance(node, (ast.Attribute, ast.Name)) and id(node) not in inner | named:
            root, _, rest = dotted(node).partition(".")
            if root in impure and rest not in PURE_PARTS.get(root, set()):
                wrong.append(f"line {node.lineno}: {root}.{rest}")
    assert wrong == []


def test_environment_only_names_the_clock() -> None:
    """Its defaults are the functions themselves: not called when the class is made."""
    (types,) = [d.node for d in definitions() if d.name == "Environment"]
    assert isinstance(types, ast.ClassDef)
    for node in types.body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            assert isinstance(node.value, (ast.Attribute, ast.Lambda))


def imports() -> Iterator[Tuple[str, ast.stmt]]:
    """The first part of every imported module, with its statement."""
    for node in ast.walk(TREE):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], node
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0], node


@pytest.mark.parametrize(
    "package, allowed",
    [
        ("kubernetes", {ACCESS}),
        ("urllib3", {ACCESS, CLUSTER}),
        ("docker", {IMAGES}),
        ("requests", {SOURCES}),
        ("yaml", {SOURCES, OUTPUT, CLUSTER}),
    ],
)
def test_other_peoples_packages(package: str, allowed: Set[int]) -> None:
    """Each is imported in its own section only, and only when it is needed."""
    for name, node in imports():
        if name == package:
            assert section_at(node.lineno) in allowed, f"line {node.lineno}"
            assert node.col_offset > 0, f"line {node.lineno}: not inside a function"


def test_packages_are_the_declared_ones() -> None:
    """Nothing is imported that pyproject.toml does not ask for, and of the standard
    library late what few commands need.
    """
    top = {name for name, node in imports() if node.col_offset == 0}
    inner = {name for name, node in imports() if node.col_offset > 0}
    declared = {"kubernetes", "urllib3", "docker", "requests", "yaml"}
    assert inner - top <= declared | SELDOM
    assert not top & SELDOM


def test_who_prints() -> None:
    """There is no print(), and the streams are written to in the output section only."""
    for node in ast.walk(TREE):
        if isinstance(node, ast.Call):
            assert dotted(node.func) not in ("print", "builtins.print"), f"line {node.lineno}"
        name = dotted(node) if isinstance(node, ast.Attribute) else ""
        if name.startswith(("sys.stdout.", "sys.stderr.", "sys.__std")):
            allowed = name in ("sys.stdout.buffer", "sys.stdout.fileno")
            assert allowed, f"line {node.lineno}: {name}"


def test_who_exits() -> None:
    """sys.exit is called by run_and_exit() alone, and nothing else ends the process."""
    entry = dict(functions())["run_and_exit"]
    for node in ast.walk(TREE):
        if isinstance(node, ast.Attribute) and dotted(node) in ("sys.exit", "os._exit", "os.abort"):
            assert dotted(node) == "sys.exit"
            assert node in list(ast.walk(entry)), f"line {node.lineno}"
        if isinstance(node, ast.Name):
            assert node.id not in ("SystemExit", "exit", "quit"), f"line {node.lineno}"


def test_who_catches_everything() -> None:
    """No bare except, and BaseException only to clean up and raise it again."""
    for node in ast.walk(TREE):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"
            if dotted(node.type) == "BaseException":
                assert isinstance(node.body[-1], ast.Raise), f"line {node.lineno}"


def test_length() -> None:
    """A function has less than 60 lines, a method of K8sRun less than 30."""
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    limits = {name: 30 if name.startswith("K8sRun.") else 60 for name in lengths}
    assert {name: n for name, n in lengths.items() if n >= limits[name]} == {}


def test_docstrings() -> None:
    """Whatever is public says what it is for; what overrides needs not say it again."""
    missing = []
    for definition in definitions():
        node = definition.node
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not ast.get_docstring(node):
            missing.append(definition.name)
        if isinstance(node, ast.ClassDef):
            inherited = {
                name
                for base in getattr(k8r, node.name).__mro__[1:]
                for name in vars(base)
                if not name.startswith("_")
            }
            missing += [
                f"{node.name}.{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef)
                and not method.name.startswith("_")
                and method.name not in inherited
                and not ast.get_docstring(method)
            ]
    assert missing == []


def test_type_hints() -> None:
    """Every parameter and result has a type."""
    missing = [
        name
        for name, node in functions()
        if node.returns is None
        or any(arg.annotation is None for arg in node.args.args if arg.arg not in ("self", "cls"))
    ]
    assert [name for name in missing if not name.endswith("__init__")] == []


def test_names() -> None:
    """cmd_ is the command line, parse_ raises, is_ and has_ tell true or false."""
    where = {definition.name: definition.section for definition in definitions()}
    for name, node in functions():
        last = name.rpartition(".")[2].lstrip("_")
        if last.startswith("cmd_"):
            assert where[name] == NUMBERS["Commands"], name
        if last.startswith("is_"):
            assert isinstance(node.returns, ast.Name) and node.returns.id == "bool", name


def test_nothing_is_left_to_do() -> None:
    """No comment promises work, and no line is too long."""
    for token in tokenize.generate_tokens(io.StringIO(TEXT).readline):
        if token.type == tokenize.COMMENT:
            assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string), token.start
    assert not re.search(r"\b(TODO|FIXME)\b", TEXT)
    assert [at for at, line in enumerate(LINES, 1) if len(line) > 100] == []


def test_names_that_people_call() -> None:
    """K8sRun's methods are public: those that there are keep their names."""
    for name in (
        "namespace",
        "detect_source_type",
        "generate_job_name",
        "job_exists",
        "create_job",
        "run_job_with_options",
        "monitor_job",
        "list_jobs",
        "delete_job",
        "create_directory_container",
        "create_container_container",
        "get_job_logs",
    ):
        assert hasattr(k8r.K8sRun, name), name
    quiet = k8r.K8sRun(namespace="team")
    assert quiet.namespace == "team"
    assert all(hasattr(quiet, group) for group in ("batch_v1", "core_v1", "apps_v1"))
