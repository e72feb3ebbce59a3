"""The command line: what is understood, what is refused, and what a process of it does."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import pytest
import yaml

import k8r as module
from common import usage_error

COMMANDS = ("run", "ls", "logs", "delete", "rm", "secret")
CLIENTS = ("kubernetes", "docker", "requests", "urllib3")


def parse(*argv: str) -> Any:
    """Parse a command line."""
    return module.parse_args(argv, module.build_parser())


def refused(*argv: str) -> module.UsageError:
    """The UsageError of a command line."""
    return usage_error(options, *argv)


def options(*argv: str, **environ: str) -> module.RunOptions:
    """The options of a run."""
    return module.build_run_options(parse(*argv), environment(environ, "/nonexistent"))


def environment(environ: Dict[str, str], cwd: str, stdin: bytes = b"") -> module.Environment:
    """An environment that nobody looks at."""
    return module.Environment(io.BytesIO(stdin), io.BytesIO(), io.StringIO(), environ, cwd)


# Understood


@pytest.mark.parametrize(
    "argv",
    [
        ["./", "--", "make"],
        ["run", "./", "--", "make"],
        ["--", "make"],
    ],
)
def test_run_is_implied(argv: List[str]) -> None:
    """What is no command is a source."""
    if argv[0] == "--":
        refused(*argv)
        return
    args = parse(*argv)
    assert args.subcommand == "run"
    assert (args.source, args.command) == ("./", ["make"])


@pytest.mark.parametrize(
    "argv, name, value",
    [
        (["--num", "3"], "num", 3),
        (["--num=3"], "num", 3),
        (["--parallel", "2"], "parallel", 2),
        (["--timeout", "1h30m"], "timeout", 5400),
        (["--retry", "0"], "retry", 0),
        (["--retry", "5"], "retry", 5),
        (["--base-image", "python:3"], "base_image", "python:3"),
        (["--job-name", "train"], "job_name", "train"),
        (["--env", "A=1", "--env", "B"], "env", (("A", "1"), ("B", "here"))),
        (["--restricted"], "restricted", True),
        (["--as-deployment"], "as_deployment", True),
        (["--rm-secrets"], "remove_secrets", True),
        (["--secret-job", "x"], "secret_job", "x"),
        (["--pull-secret", "x", "--pull-secret", "y"], "pull_secrets", ("x", "y")),
        (["--ref", "v1"], "git", module.GitOptions(ref="v1")),
        (["--depth", "9"], "git", module.GitOptions(depth=9)),
        (["--git-secret", "x"], "git", module.GitOptions(secret="x")),
        (["--git-image", "x"], "git", module.GitOptions(image="x")),
        (["--git-insecure-host-key"], "git", module.GitOptions(any_host_key=True)),
        (
            ["--build-arg", "A=1", "--build-arg", "B", "--target", "x", "--platform", "y"],
            "build",
            module.BuildOptions((("A", "1"), ("B", "here")), "x", "y"),
        ),
        (["--grace", "5m"], "grace", 300),
        (["-d"], "detach", True),
        (["--detach"], "detach", True),
        (["-f"], "detach", False),
        (["--rm"], "remove", True),
        (["--replace"], "replace", True),
        (["--show-yaml"], "show_yaml", True),
        (["--gpu", "2"], "resources", module.Resources((), (("nvidia.com/gpu", "2"),))),
        (["--gpu", "NVIDIA-H100:8"], "gpu_type", "NVIDIA-H100"),
        (["--gpu", "NVIDIA-H100:8"], "resources", module.Resources((), ((module.GPU, "8"),))),
        (["--gpu", "8"], "gpu_type", ""),
        (
            ["--node-selector", "a.b/c=d", "--node-selector", "e="],
            "node_selector",
            (("a.b/c", "d"), ("e", "")),
        ),
        (
            ["--toleration", "a", "--toleration", "b=c:NoSchedule", "--toleration", "d=:NoExecute"],
            "toleration",
            (
                {"key": "a", "operator": "Exists"},
                {"key": "b", "operator": "Equal", "value": "c", "effect": "NoSchedule"},
                {"key": "d", "operator": "Equal", "value": "", "effect": "NoExecute"},
            ),
        ),
        (["--service-account", "x"], "service_account", "x"),
        (["--nodes", "4"], "num", 4),
        (["--nodes", "4"], "nodes", True),
        (["--num", "4"], "nodes", False),
        (
            ["--label", "team=ml", "--label", "cost/center=7"],
            "label",
            (("team", "ml"), ("cost/center", "7")),
        ),
        (
            ["--mem", "1gb-2gb", "--cpu", "2"],
            "resources",
            module.Resources((("memory", "1Gi"), ("cpu", "2")), (("memory", "2Gi"), ("cpu", "2"))),
        ),
    ],
)
@pytest.mark.parametrize("place", ["after", "before", "run before", "run after"])
def test_run_options(argv: List[str], name: str, value: Any, place: str) -> None:
    """Each option, on either side of SOURCE, with and without the word run."""
    run = ["run"] if place.startswith("run") else []
    words = [*argv, "./"] if place.endswith("before") else ["./", *argv]
    made = options(*run, *words, "--", "make", B="here")
    assert getattr(made, name) == value
    assert (made.source, made.command) == ("./", ("make",))


def test_files_of_options(tmp_path: Path) -> None:
    """--env-file and --patch are relative to the working directory; --env wins."""
    (tmp_path / "one.env").write_text("A=1\nB=1\n")
    (tmp_path / "two.env").write_text("B=2\nHERE\n")
    (tmp_path / "patch.yaml").write_text("spec: {nodeSelector: {a: b}}\n")
    words = ["--env", "A=3", "--env-file", "one.env", "--env-file", "two.env"]
    args = parse("alpine", *words, "--patch", "patch.yaml")
    made = module.build_run_options(args, environment({"HERE": "h"}, str(tmp_path)))
    assert dict(made.env) == {"A": "3", "B": "2", "HERE": "h"}
    assert made.patch == {"spec": {"nodeSelector": {"a": "b"}}}


def test_run_defaults() -> None:
    """An option that is not given has the default of the type."""
    assert options("alpine") == module.RunOptions("alpine")
    assert options("./", "--", "a", "b") == module.RunOptions("./", ("a", "b"))


GLOBAL = [
    (["-n", "team"], "namespace", "team"),
    (["-nteam"], "namespace", "team"),
    (["--namespace", "team"], "namespace", "team"),
    (["--namespace=team"], "namespace", "team"),
    (["--context", "prod"], "context", "prod"),
    (["--kubeconfig", "x"], "kubeconfig", "x"),
    (["--insecure"], "insecure", True),
    (["--color", "always"], "color", "always"),
    (["-v"], "verbose", True),
    (["--verbose"], "verbose", True),
]


@pytest.mark.parametrize("argv, name, value", GLOBAL)
@pytest.mark.parametrize(
    "command", [["ls"], ["run", "alpine"], ["alpine"], ["logs", "x"], ["delete", "x"], ["rm", "x"]]
)
def test_global_options(argv: List[str], name: str, value: Any, command: List[str]) -> None:
    """They mean the same before and after the command."""
    before, after = parse(*argv, *command), parse(*command, *argv)
    assert getattr(before, name) == getattr(after, name) == value
    assert before == after


def test_bundled_options() -> None:
    """The last of a bundle of short options may take a value, as in argparse itself."""
    args = parse("-vn", "team", "ls")
    assert (args.subcommand, args.namespace, args.verbose) == ("ls", "team", True)
    args = parse("-dn", "team", "./", "--", "make")
    assert (args.source, args.namespace, args.detach) == ("./", "team", True)


def test_global_defaults() -> None:
    """Without them nothing is chosen."""
    args = parse("ls")
    assert (args.namespace, args.context, args.kubeconfig) == (None, None, None)
    assert (args.insecure, args.color, args.verbose, args.quiet) == (False, "auto", False, False)


def test_later_options_win() -> None:
    """As everywhere."""
    assert parse("-n", "a", "ls", "-n", "b").namespace == "b"
    assert options("./", "--num", "1", "--num", "2").num == 2


def test_option_values_are_no_commands() -> None:
    """A namespace may be called ls, and a command line may hold anything."""
    args = parse("-n", "ls", "logs", "x")
    assert (args.namespace, args.subcommand) == ("ls", "logs")
    assert parse("--context", "run", "ls").subcommand == "ls"
    made = options("./", "--", "k8r", "ls", "--", "-n", "x", "--help")
    assert made.command == ("k8r", "ls", "--", "-n", "x", "--help")


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["logs", "x"], {"name": "x", "follow": False, "tail": None, "index": None}),
        (["logs", "-f", "x", "--tail", "0"], {"follow": True, "tail": 0}),
        (["logs", "x", "--since", "1h", "--index", "3"], {"since": 3600, "index": 3}),
        (["logs", "x", "--timestamps", "--previous"], {"timestamps": True, "previous": True}),
        (["ls"], {"output": "table"}),
        (["ls", "-o", "json"], {"output": "json"}),
        (["ls", "--output=name"], {"output": "name"}),
        (["rm", "a", "b"], {"names": ["a", "b"], "force": False, "all": False, "done": False}),
        (["delete", "--all", "-f"], {"names": [], "force": True, "all": True}),
        (["rm", "--done", "--secrets"], {"done": True, "secrets": True}),
        (["ls", "-o", "wide", "-w"], {"output": "wide", "watch": True}),
        (["secret", "db", "x"], {"name": "db", "value": "x", "list": False, "delete": False}),
        (["secret", "db", "-", "--job-name", "j"], {"name": "db", "value": "-", "job_name": "j"}),
        (["secret", "--list"], {"name": None, "value": None, "list": True}),
        (["secret", "db", "--delete"], {"name": "db", "delete": True}),
    ],
)
def test_other_commands(argv: List[str], expected: Dict[str, Any]) -> None:
    """Their options have these names and defaults."""
    args = vars(parse(*argv))
    assert {key: args[key] for key in expected} == expected


def test_valued_options() -> None:
    """Every option that takes a value, and none that does not."""
    found = module.list_options(module.build_parser(), valued=True)
    assert {"-n", "--namespace", "--num", "--env", "--tail", "-o", "--grace"} <= found
    plain = {"-v", "--help", "-h", "--version", "--rm", "-d", "--all", "-f", "-q"}
    assert not plain & found
    assert plain | found <= module.list_options(module.build_parser())


def test_log_query() -> None:
    """Only what was asked for goes to the API server."""
    assert module.LogQuery().parameters() == {}
    query = module.LogQuery(tail=0, since=60, previous=True)
    assert query.parameters() == {"tailLines": 0, "sinceSeconds": 60, "previous": "true"}


# Refused

BAD = [
    # argv, words of the message, words of the hint
    (
        ["https://me@host/x.git", "--git-secret", "x", "--show-yaml", "--", "true"],
        "https://host/x.git has a login in the URL, and --git-secret is another",
        "leave it out of the URL",
    ),
    ([], "give a SOURCE", "k8r ./ -- COMMAND"),
    (["--insecure"], "give a SOURCE", "--help"),
    (["run"], "SOURCE", "k8r run --help"),
    (["run", "--", "make"], "SOURCE", "k8r run --help"),
    (["logs"], "NAME", "k8r logs --help"),
    (["alpine", "echo", "hello"], "'echo' is one word too many", "SOURCE -- COMMAND"),
    (["./", "make", "--", "x"], "'make' is one word too many", "SOURCE -- COMMAND"),
    (["exec", "a", "ls"], "'ls' is one word too many", "NAME -- COMMAND"),
    (["retry", "a", "b"], "'b' is one word too many", "see k8r retry --help"),
    (["alpine", "--"], "there is no command after --", "-- env"),
    (["ls", "--", "x"], "ls takes no command", "leave out"),
    (["lgos", "x"], "there is no command 'lgos'", "did you mean logs?"),
    (["delet", "x"], "there is no command 'delet'", "did you mean delete?"),
    (["help"], "there is no command 'help'", "did you mean --help? An image of that name"),
    (["help", "run"], "there is no command 'help'", "did you mean --help?"),
    (["version"], "there is no command 'version'", "did you mean --version?"),
    (["ps", "-a"], "there is no command 'ps'", "did you mean ls?"),
    (["login"], "there is no command 'login'", "An image of that name: k8r run login"),
    (["ssh", "x"], "there is no command 'ssh'", "did you mean exec?"),
    (["uninstall"], "there is no command 'uninstall'", "sh install.sh --uninstall"),
    (["-n", "x", "kill", "y"], "there is no command 'kill'", "did you mean delete?"),
    (["submit", "./"], "there is no command 'submit'", "did you mean run?"),
    (["--nmespace", "x", "ls"], "--nmespace", "did you mean --namespace?"),
    (["ls", "--nmespace", "x"], "there is no option --nmespace", "did you mean --namespace?"),
    (["./", "--timout", "3", "--", "x"], "there is no option --timout", "did you mean --timeout?"),
    (["./", "--timout=3", "--", "x"], "there is no option --timout", "did you mean --timeout?"),
    (["run", "--detatch", "./"], "there is no option --detatch", "did you mean --detach?"),
    (["logs", "x", "--folow"], "there is no option --folow", "did you mean --follow?"),
    (["rm", "--don"], "there is no option --don", "did you mean --done?"),
    (["ls", "--zzzzz"], "there is no option --zzzzz", "see k8r ls --help"),
    (["secret", "--don"], "its own options", "stands after --"),
    (["secret", "a", "--s3cr3t"], "its own options", "stands after --"),
    (["--verson"], "there is no option --verson", "did you mean --version?"),
    (["ls", "--num", "4"], "k8r ls has no option --num", "that is for k8r run"),
    (["--num", "4", "ls"], "k8r ls has no option --num", "that is for k8r run"),
    (["logs", "x", "--done"], "k8r logs has no option --done", "that is for k8r delete, k8r rm"),
    (["--num", "4"], "SOURCE", "k8r run --help"),
    (["-d"], "SOURCE", "k8r run --help"),
    (["./", "--num"], "--num", "--help"),
    (["./", "--num", "0", "--", "x"], "'0' is not a valid count", ""),
    (["./", "--num", "x", "--", "x"], "argument --num: 'x' is not a valid count", ""),
    (["./", "--num", "-1", "--", "x"], "--num", ""),
    (["./", "--retry", "-1", "--", "x"], "--retry", ""),
    (["./", "--retry", "1.5", "--", "x"], "'1.5' is not a valid number", ""),
    (["./", "--timeout", "soon", "--", "x"], "'soon' is not a valid duration", ""),
    (["./", "--gpu", "0", "--", "x"], "'0' is not a valid count", ""),
    (["./", "--gpu", "h 100:2", "--", "x"], "is not a valid KEY=VALUE of a label", ""),
    (["./", "--nodes", "1", "--", "x"], "'1' is not a valid number of nodes", "from 2 to 1000"),
    (["./", "--nodes", "2"], "--nodes needs a command", ""),
    (["./", "--nodes", "2", "--num", "2", "--", "x"], "--nodes takes no --num", ""),
    (["./", "--nodes", "2", "--retry", "1", "--", "x"], "--nodes takes no --retry", ""),
    (["./", "--nodes", "2", "--parallel", "1", "--", "x"], "--nodes takes no --parallel", ""),
    (["./", "--nodes", "2", "--as-deployment", "--", "x"], "--nodes takes no --as-deployment", ""),
    (["./", "--nodes", "2", "--local", "--", "x"], "no --", ""),
    (["./", "--nodes", "2", "-i", "--", "x"], "--nodes takes no --stdin", ""),
    (["./", "--failed", "--", "x"], "k8r run has no option --failed", "that is for k8r ls"),
    (["./", "--gpu", "h100", "--", "x"], "'h100' is not a valid count", ""),
    (["./", "--label", "team", "--", "x"], "'team' is not a valid KEY=VALUE", "63"),
    (["./", "--label", "k8r-job=x", "--", "x"], "the label k8r-job is set by k8r", "another"),
    (["./", "--label", "created-by=x", "--", "x"], "the label created-by is set", "another"),
    (["./", "--label", "batch.kubernetes.io/job-name=x", "--", "x"], "is set by k8r or", ""),
    (["./", "--node-selector", "disk=s s d", "--", "x"], "'disk=s s d' is not a valid KEY", ""),
    (["./", "--node-selector", f"disk={'x' * 64}", "--", "x"], "is not a valid KEY=VALUE", "63"),
    (["./", "--toleration", "a=b:Never", "--", "x"], "'a=b:Never' is not a valid", "NoExecute"),
    (["./", "--local", "--service-account", "x", "--", "x"], "takes no --local", ""),
    (["./", "--mem", "lots", "--", "x"], "'lots' is not a valid amount of memory", ""),
    (["./", "--cpu", "many", "--", "x"], "'many' is not a valid number of CPUs", ""),
    (["./", "--env", "A B=1", "--", "x"], "'A B' is not a valid variable name", "ASCII"),
    (["./", "--env", "UNSET_HERE", "--", "x"], "UNSET_HERE is not set", "--env UNSET_HERE=VALUE"),
    (
        ["./", "--job-name", "Train", "--", "x"],
        "'Train' is not a valid job name",
        "--job-name train",
    ),
    (["./", "--job-name", "x" * 64, "--", "x"], "64 characters", "--job-name xxx"),
    (["./", "--job-name", "x" * 63, "--num", "2", "--", "x"], "63 characters", "xxx"),
    (
        ["./", "--base-image", "No Image", "--", "x"],
        "'No Image' is not a valid image",
        "NAME[:TAG]",
    ),
    (["./", "-d", "-f", "--", "x"], "--detach takes no --follow", "leave it out"),
    (["ls", "-o", "csv"], "csv", "--help"),
    (["ls", "x", "y"], "'y'", ""),
    (["--color", "sometimes", "ls"], "sometimes", "--help"),
    (["logs", "x", "--tail", "-1"], "--tail", ""),
    (["logs", "x", "--since", "x"], "'x' is not a valid duration", ""),
    (["logs", "x", "y"], "'y'", ""),
    (["delete"], "nothing says what to remove", "--done"),
    (["delete", "x", "--all"], "nothing says what to remove", "--done"),
    (["delete", "--done", "--all"], "nothing says what to remove", "--done"),
    (["./gone", "--", "x"], "there is no directory './gone'", "spelling"),
    (["gone/", "--show-yaml"], "there is no directory 'gone/'", "spelling"),
    (["", "--", "x"], "SOURCE is empty", "./"),
    (["No Image", "--", "x"], "not a directory, git URL, Dockerfile or container image", "./"),
    (["./", "-i", "--num", "2", "--", "x"], "-i and -t are for one pod", "--num"),
    (["./", "-it", "-d", "--", "x"], "--detach takes no --stdin", ""),
    (["./", "--port", "80:x", "--", "x"], "'x' is not a valid port", ""),
    (["forward", "x", "0:80"], "'0' is not a valid port", ""),
    (["./", "--as-deployment", "--retry", "1", "--", "x"], "takes no --retry", ""),
    (["./", "--as-deployment", "--timeout", "1", "--", "x"], "takes no --timeout", ""),
    (["./", "--as-deployment", "--rm", "--", "x"], "takes no --rm", ""),
    (["./", "--as-deployment", "--parallel", "1", "--", "x"], "takes no --parallel", ""),
    (["./", "--as-deployment", "--port", "0", "--", "x"], "'0' is not a valid port", ""),
    (["./", "--ref", "-x", "--", "x"], "--ref", ""),
    (["./", "--ref", "a..b", "--", "x"], "'a..b' is not a valid branch", "--ref"),
    (["./", "--git-image", "No Image", "--", "x"], "'No Image' is not a valid image", "NAME[:TAG]"),
    (["./", "--env-file", "gone", "--", "x"], "the env file", "check"),
    (["./", "--env-file", "list.yaml", "--", "x"], "list.yaml, line 1: ", ""),
    (["./", "--env-file", "noise", "--", "x"], "it is not UTF-8 text", "check"),
    (["./", "--patch", "gone", "--", "x"], "the patch", "check"),
    (["./", "--patch", "broken.yaml", "--", "x"], "is not valid YAML", "check"),
    (["./", "--patch", "list.yaml", "--", "x"], "is not a mapping", "spec"),
    (["./", "--patch", "job.yaml", "--", "x"], "has 'kind', which a pod template lacks", "spec"),
    (["./", "--build-arg", "A B=1", "--", "x"], "'A B' is not a valid variable name", ""),
    (["gone/Dockerfile.x"], "there is no file 'gone/Dockerfile.x'", "spelling"),
    (["secret"], "give the secret's name", "--list"),
    (["secret", "--delete"], "give the secret's name", "--list"),
    (["secret", "A_b", "x"], "'A_b' is not a valid secret name", "a-b"),
    (["secret", "a", "x", "y"], "one VALUE", "with blanks is quoted"),
    (["secret", "a", "--job-name", "B", "--delete"], "'B' is not a valid job name", "--job-name b"),
    (["secret", "a"], "the secret a has no value", "< FILE"),
    (["secret", "a", "empty", "--show-yaml"], "empty is empty", "at least one file"),
    (["secret", "a", "odd", "--show-yaml"], "'x y' cannot be a key", "rename"),
    (["secret", "a", "", "--show-yaml"], "the secret a would be empty", "give it a value"),
    (["secret", "a", "./gone", "--show-yaml"], "looks like a path", "k8r secret a - < FILE"),
    (["secret", "a", "gone/", "--show-yaml"], "looks like a path", "k8r secret a - < FILE"),
    (["secret", "a", "~/gone", "--show-yaml"], "looks like a path", "k8r secret a - < FILE"),
    (["file.py", "--", "x"], "'file.py' is a file", "k8r ./ -- COMMAND"),
    (["sub/file.py", "--show-yaml"], "'sub/file.py' is a file", "k8r sub/ -- COMMAND"),
    (["full", "--show-yaml"], "there is no command to run", "k8r full -- COMMAND"),
    (["empty", "--show-yaml", "--", "x"], "there is nothing to send", "ignored"),
    (["alpine", "--mem", "8gb-2gb", "--show-yaml"], "8gb", ""),
    (["alpine", "--show-yaml", "--", os.fsdecode(b"\xff")], "", ""),
    (["alpine", "--show-yaml", "--env", os.fsdecode(b"A=\xff")], "", ""),
    (["./", "--num", "x", "--", "grep", "-v"], "'x' is not a valid count", ""),
    (["--kubeconfig", "gone", "ls"], "there is no kubeconfig gone", "--kubeconfig"),
]


NO_CLUSTER = [["ls"], ["alpine", "--", "true"], ["logs", "x"], ["rm", "x"], ["rm", "--all"]]

HELP = [["--help"], ["-h"], ["--help", "ls"], *([command, "--help"] for command in COMMANDS)]

FORKS = """
import json, os, sys
import k8r

def run(argv, name):
    child = os.fork()
    if child == 0:
        for fd, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}.{kind}", os.O_CREAT | os.O_WRONLY), fd)
        sys.argv = ["k8r", *argv]
        try:
            k8r.run_and_exit()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code)
        finally:
            os._exit(70)
    status = os.waitpid(child, 0)[1]
    return status >> 8 if status & 0x7F == 0 else -(status & 0x7F)

with open(sys.argv[1]) as file:
    cases = json.load(file)
print(json.dumps([run(argv, f"{sys.argv[2]}/{at}") for at, argv in enumerate(cases)]))
"""


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


def fill(folder: Path) -> Path:
    """Make a file, an empty directory and one that is not."""
    for name in ("sub", "empty", "full"):
        (folder / name).mkdir()
    for name in ("file.py", "sub/file.py", "full/file.py"):
        (folder / name).write_text("pass\n")
    (folder / "odd").mkdir()
    (folder / "odd" / "x y").write_text("")
    (folder / "noise").write_bytes(b"A=\xff")
    for name, text in (("broken", "a: ["), ("list", "- a"), ("job", "kind: Job")):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def prepared(workdir: Path) -> Path:
    """A working directory with something in it."""
    return fill(workdir)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs command lines, each in a process of its own, which are forked from one that
    has started Python already. Gives a function from a command line to its end.
    """
    top = tmp_path_factory.mktemp("forks")
    for name in ("work", "home", "results"):
        (top / name).mkdir()
    cases = [*(argv for argv, _, _ in BAD), *NO_CLUSTER, *HELP]
    (top / "cases").write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(top / "cases"), str(top / "results")],
        cwd=str(fill(top / "work")),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.path.dirname(module.__file__),
            "HOME": str(top / "home"),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "80",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    codes = json.loads(done.stdout)

    def find(argv: List[str]) -> Ended:
        at = cases.index(argv)
        texts = ((top / "results" / f"{at}.{kind}").read_bytes() for kind in ("out", "err"))
        out, err = (text.decode("utf-8", "replace") for text in texts)
        return Ended(codes[at], out, err)

    return find


@pytest.mark.parametrize(
    "argv, message, hint", BAD, ids=[" ".join(argv)[:60] for argv, _, _ in BAD]
)
def test_bad_input(ended: Any, argv: List[str], message: str, hint: str) -> None:
    """One line on stderr that says what is wrong and what to type, and exit code 2."""
    check_refusal(ended(argv), message, hint)


def check_refusal(done: Any, message: str, hint: str) -> None:
    """A refusal is one line with a message and a hint, and nothing else."""
    line = re.fullmatch(r"k8r: ([^\n]+?)(?:;|(?<=\?)) ([^\n]+)\n", done.err)
    assert line, done.err
    assert message in line[1], done.err
    assert hint in line[2], done.err
    assert "internal error" not in done.err
    assert not done.out
    assert done.code == 2


@pytest.mark.parametrize("argv, message, hint", [BAD[0], BAD[-1]])
def test_bad_input_of_a_fresh_process(k8r: Any, argv: List[str], message: str, hint: str) -> None:
    """The same without the fork."""
    check_refusal(k8r(*argv), message, hint)


@pytest.mark.parametrize(
    "before, subcommand, after",
    [
        (["--num", "3"], "run", ["alpine"]),
        (["-n", "x", "-q"], "run", ["alpine"]),
        (["-f"], "logs", ["x"]),
        (["--tail=3"], "logs", ["-n", "y", "x"]),
        (["--done"], "rm", []),
    ],
)
def test_options_may_stand_before_the_subcommand(
    before: List[str], subcommand: str, after: List[str]
) -> None:
    """As with the options for all commands, their place does not matter."""
    assert parse(*before, subcommand, *after) == parse(subcommand, *before, *after)


def test_too_long_for_linux() -> None:
    """A caller from Python is not bound by the limits of execve, but the container is."""
    assert "longer than 131071" in refused("./", "--", "x" * 131_072).message
    assert "variable A is longer" in refused("./", "--env", "A=" + "x" * 131_070).message


def test_mistyped_command_may_be_an_image() -> None:
    """What has a tag, a path or a command is meant as an image."""
    images = (["log:1"], ["team/logs"], ["lgos", "--", "x"], ["ps", "--", "x"], ["alpine"])
    for argv in (*images, ["run", "lgos"], ["run", "help"]):
        assert parse(*argv).source == ([*argv[1:], argv[0]][0] if argv[0] == "run" else argv[0])


def test_options_are_not_abbreviated() -> None:
    """An abbreviation would change its meaning with the next option."""
    assert "--rep" in refused("./", "--rep", "--", "x").message


@pytest.mark.parametrize("argv", NO_CLUSTER, ids=" ".join)
def test_no_cluster(ended: Any, argv: List[str]) -> None:
    """Without a kubeconfig it is said where to get one; the code is k8r's own."""
    done = ended(argv)
    assert done.code == 125
    assert done.err.startswith("k8r: there is no kubeconfig; set KUBECONFIG")
    assert done.err.count("\n") == 1


# Help


@pytest.mark.parametrize("argv", HELP[:3], ids=" ".join)
def test_help_is_the_docstring(ended: Any, argv: List[str]) -> None:
    """What --help prints is what the file begins with."""
    assert ended(argv) == (0, module.__doc__, "")


@pytest.mark.parametrize("argv", HELP[3:], ids=" ".join)
def test_help_of_a_command(ended: Any, argv: List[str]) -> None:
    """Each command explains itself on 80 columns."""
    done = ended(argv)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("usage: k8r ")
    assert "--namespace" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_help_names_every_command_and_global_option() -> None:
    """The docstring does not fall behind the parser."""
    text = module.__doc__ or ""
    for command in module.SUBCOMMANDS:
        assert re.search(rf"\b{command}\b", text), command
    parser = module.build_parser()
    for action in parser._actions:
        names = action.option_strings
        assert not names or any(name in text for name in names), names
    assert len(text.splitlines()) < 24
    assert all(len(line) <= 80 for line in text.splitlines())


def test_examples_of_the_help_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies a line of --help gets no error."""
    examples = re.findall(r"^  (k8r .*?)(?:   .*)?$", module.__doc__ or "", re.M)
    assert len(examples) >= 8
    for name in set(module.SUBCOMMANDS) - {"rm"}:
        assert len(module.EXAMPLES[name]) >= 2
        examples += module.EXAMPLES[name]
    for example in examples:
        words = shlex.split(re.sub(" [<>] .*", "", example))
        words = words[words.index("k8r") + 1 :] if "k8r" in words else ["env"]
        if "run" not in words and parse(*words).subcommand == "run":
            options(*words)


def test_the_end_is_quick() -> None:
    """When the interpreter ends, the garbage collector has nothing left to look through."""
    code = "import atexit, gc, k8r; atexit.register(lambda: print(gc.get_freeze_count() > 9000))\n"
    env = {"PYTHONPATH": os.path.dirname(module.__file__)}
    words = [sys.executable, "-c", code + "k8r.run_and_exit()", "--version"]
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, check=True)
    assert done.stdout.endswith(b"True\n")


def test_version(k8r: Any) -> None:
    """The version is on stdout."""
    done = k8r("--version")
    assert done.code == 0
    assert re.fullmatch(rf"k8r {module.__version__}( \([0-9a-f]{{7,}}\))?\n", done.text)


def imported(process: Any) -> Sequence[str]:
    """The modules that a process with -X importtime has imported."""
    found = re.findall(r"^import time:.*\| +(\S+)$", process.err, re.M)
    assert "argparse" in found, process.err
    return found


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["full", "--show-yaml", "--", "true"],
        ["./gone", "--", "x"],
    ],
    ids=" ".join,
)
def test_no_client_is_imported(k8r: Any, prepared: Path, argv: List[str]) -> None:
    """What needs no cluster does not wait for its client."""
    done = k8r(*argv, env={"PYTHONPROFILEIMPORTTIME": "1"})
    roots = {name.partition(".")[0] for name in imported(done)}
    assert not roots & set(CLIENTS)
    if "--show-yaml" not in argv:
        assert "yaml" not in roots


# Manifests


def test_show_yaml_of_an_image(k8r: Any) -> None:
    """One Job, with the command as typed."""
    done = k8r("python:3", "--show-yaml", "--num", "3", "--", "sh", "-c", "a 'b'", "")
    assert (done.code, done.err) == (0, "")
    (job,) = yaml.safe_load_all(done.out)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["sh", "-c", "a 'b'", ""]
    assert container["image"] == "python:3"
    assert job["metadata"]["name"] == "python"
    assert job["spec"]["completions"] == 3


def test_show_yaml_of_a_directory(k8r: Any, prepared: Path) -> None:
    """The ConfigMap, then the Job that needs it; the same each time."""
    done = k8r("full", "--show-yaml", "--", "true")
    assert (done.code, done.err) == (0, "")
    configmap, job = yaml.safe_load_all(done.out)
    assert (configmap["kind"], job["kind"]) == ("ConfigMap", "Job")
    assert job["metadata"]["name"] == "full"
    sources = job["spec"]["template"]["spec"]["volumes"][1]["projected"]["sources"]
    assert sources[0]["configMap"]["name"] == configmap["metadata"]["name"]
    os.utime(str(prepared / "full" / "file.py"), (1, 1))
    assert k8r("full", "--show-yaml", "--", "true").out == done.out


@pytest.mark.parametrize(
    "command, image",
    [
        (["python", "train.py"], "python:3-slim"),
        (["/usr/bin/python3", "-c", ""], "python:3-slim"),
        (["npx", "x"], "node:lts-slim"),
        (["uv", "run", "x"], "ghcr.io/astral-sh/uv:python3.13-bookworm-slim"),
        (["Rscript", "x.R"], "r-base"),
        (["sh", "-c", "python3"], "alpine:latest"),
        (["./python.sh"], "alpine:latest"),
    ],
)
def test_the_command_chooses_the_image(
    k8r: Any, prepared: Path, command: List[str], image: str
) -> None:
    """Where none is set, and it is said; an image that is set stays."""
    done = k8r("full", "--show-yaml", "--", *command)
    _, job = yaml.safe_load_all(done.out)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == image
    word = os.path.basename(command[0])
    said = f"k8r: {word} runs in {image}; --base-image NAME for another\n"
    assert done.err == ("" if image == "alpine:latest" else said)
    done = k8r("full", "--show-yaml", "--base-image", "own:1", "--", *command)
    _, job = yaml.safe_load_all(done.out)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "own:1"
    assert done.err == ""


def test_show_yaml_says_what_is_left_out(k8r: Any, prepared: Path) -> None:
    """On stderr, with no byte that a terminal would obey."""
    (prepared / "full" / "li\x1bnk").symlink_to("/etc")
    done = k8r("full", "--show-yaml", "--", "true")
    assert done.code == 0
    assert done.err == ("k8r: left out li\\x1bnk: the link leads out of the directory, to /etc\n")


@pytest.mark.parametrize(
    "argv, name",
    [
        (["./"], "work"),
        (["."], "work"),
        (["full"], "full"),
        (["../work/full/"], "full"),
        (["link"], "full"),
        (["~"], "home"),
        (["Big Dir_2"], "big-dir-2"),
        (["docker.io/team/app:3"], "app"),
        (["git@github.com:org/My_Repo.git"], "my-repo"),
        (["sub/Dockerfile"], "sub"),
        (["full", "--job-name", "mine"], "mine"),
    ],
)
def test_names_of_runs(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, argv: List[str], name: str
) -> None:
    """A run is named after its directory, however that was written, or its image."""
    home = prepared.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (prepared / "Big Dir_2").mkdir()
    (prepared / "link").symlink_to("full")
    (prepared / "sub" / "Dockerfile").write_text("FROM scratch")
    env = environment({}, str(prepared))
    assert module.K8sRun(env=env).generate_job_name(options(*argv)) == name


@pytest.mark.parametrize(
    "argv",
    [["hello-world"], ["run", "login"], ["login", "--job-name", "x"], ["login:1"], ["a/login"]],
    ids=" ".join,
)
def test_words_that_are_images(k8r: Any, argv: List[str]) -> None:
    """Only one word that stands alone, and is no common image, is asked about."""
    done = k8r(*argv)
    assert "there is no kubeconfig" in done.err and "no command" not in done.err


def test_directories_of_one_word(prepared: Path, k8r: Any) -> None:
    """They are no images."""
    (k8r.cwd / "login").mkdir()
    done = k8r("login")
    assert "there is no command to run" in done.err or "there is no kubeconfig" in done.err


def test_show_yaml_of_a_repository(k8r: Any) -> None:
    """No credentials of the URL are printed, not even encoded, and no server is asked."""
    done = k8r("http://me:swordfish@127.0.0.1:9/org/repo.git", "--ref", "v1", "--show-yaml")
    assert (done.code, done.err) == (0, "")
    secret, job = yaml.safe_load_all(done.out)
    assert (secret["kind"], job["kind"]) == ("Secret", "Job")
    assert "swordfish" not in done.text and "c3dvcmRmaXNo" not in done.text
    (clone,) = job["spec"]["template"]["spec"]["initContainers"]
    assert {"name": "K8R_GIT_URL", "value": "http://127.0.0.1:9/org/repo.git"} in clone["env"]


def test_show_yaml_of_a_deployment(k8r: Any) -> None:
    """A Service and a Deployment, with no cluster."""
    done = k8r("nginx", "--as-deployment", "--port", "80", "--num", "2", "--show-yaml")
    assert [item["kind"] for item in yaml.safe_load_all(done.out)] == ["Service", "Deployment"]


def test_show_yaml_of_a_secret(k8r: Any, prepared: Path) -> None:
    """Its values are hidden, wherever they come from."""
    (prepared / "full" / "token").write_text("swordfish")
    cases: List[Any] = [
        (["-"], b"swordfish", ["db"]),
        (["full"], b"", ["file.py", "token"]),
    ]
    for value, stdin, keys in cases:
        done = k8r("secret", "db", *value, "--show-yaml", stdin=stdin)
        assert (done.code, done.err) == (0, "")
        made = yaml.safe_load(done.out)
        assert made["metadata"]["name"] == "work-db"
        assert sorted(made["data"]) == keys
        assert "swordfish" not in done.text and "c3dvcmRmaXNo" not in done.text


def test_original_working_directory(k8r: Any, prepared: Path) -> None:
    """K8R_ORIGINAL_PWD stands for the working directory, for every path."""
    done = k8r(
        "./",
        "--show-yaml",
        "--",
        "true",
        cwd=Path("/"),
        env={"K8R_ORIGINAL_PWD": f"{prepared}/full"},
    )
    assert "  name: full\n" in done.text


def test_variables_from_here(k8r: Any) -> None:
    """--env KEY takes the caller's value."""
    done = k8r("alpine", "--show-yaml", "--env", "TOKEN", env={"TOKEN": "a=b"})
    assert "- name: TOKEN\n          value: a=b\n" in done.text


def test_reader_that_went_away(k8r: Any, prepared: Path) -> None:
    """`k8r ... | head` ends quietly, with the code of SIGPIPE."""
    (prepared / "full" / "noise").write_bytes(os.urandom(300_000))
    reading, writing = os.pipe()
    process = k8r.start("full", "--show-yaml", "--", "true", stdout=writing)
    os.close(reading)
    os.close(writing)
    done = k8r.finish(process)
    assert (done.code, done.err) == (141, "")


def test_traceback_only_if_asked_for(k8r: Any) -> None:
    """-v shows where an error came from."""
    done = k8r("-v", "./gone", "--", "x")
    assert "Traceback" in done.err and done.code == 2
    assert "Traceback" not in k8r("./gone", "--", "x", "-v").err


def test_no_warnings(k8r: Any) -> None:
    """Nothing that k8r does is deprecated."""
    env = {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}
    done = k8r("alpine", "--show-yaml", "--", "true", env=env)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ["token", "-hunter2"],
        ["token", "-v", "-hunter2"],
        ["token", "--hunter2"],
        ["token", "--list=hunter2"],
        ["token", "-vhunter2"],
        ["token", "-nhunter2", "--show-yaml"],
        ["token", "it's", "hunter2", "more"],
        ["token", "./hunter2", "--show-yaml"],
        ["token", "/9j/hunter2/", "--show-yaml"],
        ["token", "--", "hunter2", "-hunter2"],
        ["token", "--color", "hunter2"],
    ],
)
def test_no_error_shows_what_may_be_a_secret(k8r: Any, words: List[str]) -> None:
    """However it was mistyped, with a traceback too."""
    done = k8r("secret", *words)
    assert (done.code, done.out) == (2, b""), done.err
    assert "hunter2" not in done.err and "unter2" not in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["token", "--", "-hunter2"],
        ["--", "token", "-hunter2"],
        ["token", "--job-name", "j", "--", "--list"],
        ["token", "--job-name", "j", "hunter2"],
        ["--job-name", "j", "token", "hunter2"],
    ],
)
def test_where_a_value_may_stand(k8r: Any, words: List[str]) -> None:
    """Behind --, where it may begin with a dash; behind options."""
    done = k8r("secret", "--show-yaml", *words)
    assert done.code == 0, done.err
    made = yaml.safe_load(done.out)
    assert list(made["data"]) == ["token"] and made["metadata"]["labels"]["k8r-secret"] == "token"


def shown_keys(k8r: Any, value: str) -> List[str]:
    """The keys of the secret that a value makes."""
    done = k8r("secret", "name", value, "--show-yaml")
    assert done.code == 0, done.err
    return list(yaml.safe_load(done.out)["data"])


def test_keys_of_links_and_mounted_secrets(k8r: Any) -> None:
    """A key is the name as given; what Kubernetes keeps behind a mounted one is none."""
    for folder in ("archive", "live", "mnt/..2026"):
        (k8r.cwd / folder).mkdir(parents=True)
    (k8r.cwd / "archive/fullchain3.pem").write_text("CERT")
    (k8r.cwd / "live/fullchain.pem").symlink_to("../archive/fullchain3.pem")
    (k8r.cwd / "mnt/..2026/token").write_text("t")
    (k8r.cwd / "mnt/..data").symlink_to("..2026")
    (k8r.cwd / "mnt/token").symlink_to("..data/token")
    assert shown_keys(k8r, "live/fullchain.pem") == ["fullchain.pem"]
    assert shown_keys(k8r, "live") == ["fullchain.pem"]
    assert shown_keys(k8r, "mnt") == ["token"]
    (k8r.cwd / "gone").symlink_to("nowhere")
    assert k8r("secret", "name", "gone", "--show-yaml").code == 2


def test_secret_from_a_pipe(k8r: Any) -> None:
    """`<(...)` of a shell is read, and its number is no key; nor is a large one read wholly."""
    prefix = ("bash", "-c", 'exec "$@" <(printf pass) --show-yaml', "bash")
    done = k8r.finish(k8r.start("secret", "name", prefix=prefix))
    assert done.code == 0, done.err
    assert list(yaml.safe_load(done.out)["data"]) == ["name"]
    done = k8r("secret", "name", "/dev/zero", "--show-yaml")
    assert done.code == 2 and "1.0 MiB" in done.err
    done = k8r("secret", "name", "-", "--show-yaml", stdin=b"")
    assert done.code == 2 and "would be empty" in done.err


HOSTILE = "a\x1b]0;owned\x07b\rc\x9bd\u202e\nk8r: all is well"


def test_text_of_others_has_no_escape_sequences(capsys: Any) -> None:
    """All but the command's own output, in whatever way it comes to the console."""
    out, err = io.BytesIO(), io.StringIO()
    env = module.Environment(io.BytesIO(), out, err, {}, "/")
    console = module.Console(env, False, True, "never")
    console.text(HOSTILE)
    console.say(HOSTILE)
    console.warn(HOSTILE)
    console.debug(HOSTILE)
    console.error(module.K8rError(HOSTILE, HOSTILE))
    console.foreign(HOSTILE.encode() + b"\xff\n")
    console.plain(HOSTILE + "\ud800")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        console.trace()
    text = out.getvalue().decode() + err.getvalue()
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "\nk8r: all" not in err.getvalue().partition("\\xff")[0].rpartition("a\\x1b")[0]
    console.data(HOSTILE.encode())
    assert out.getvalue().endswith(HOSTILE.encode())


def test_hints_are_safe_to_paste(tmp_path: Path) -> None:
    """They lead to the same cluster, whatever its options are called."""
    env = module.Environment.of_process()._replace(cwd=str(tmp_path))
    k8s = module.K8sRun("n s", "it's", "/a b/$(x)", insecure=True, env=env)
    words = shlex.split(k8s.command_hint("logs -f", "x;y"))
    options = ["-n", "n s", "--context", "it's", "--kubeconfig", "/a b/$(x)", "--insecure"]
    assert words == ["k8r", "logs", "-f", "x;y", *options]
    assert module.K8sRun(env=env).command_hint("ls") == "k8r ls"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"namespace": "here", "cluster": "d", "user": "e"}}],
        "clusters": [{"name": "d", "cluster": {"server": "https://x"}}],
        "users": [{"name": "e", "user": {}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    (tmp_path / ".k8r.yaml").write_text("namespace: theirs")
    k8s = module.K8sRun(kubeconfig="config", env=env)
    assert k8s.command_hint("ls") == "k8r ls -n here --kubeconfig config"


@pytest.mark.parametrize(
    "field, first, second, both",
    [
        ("env", ["--env", "A=1", "--env", "A=2"], ["--env", "A=1"], (("A", "2"), ("A", "1"))),
        ("label", ["--label", "a=1"], ["--label", "b=2"], (("a", "1"), ("b", "2"))),
        ("port", ["--port", "80"], ["--port", "80", "--port", "1:2"], ((80, 80), (1, 2))),
        ("retry", ["--retry", "1"], ["--retry", "2"], 2),
    ],
)
def test_what_a_retry_is_given(field: str, first: List[str], second: List[str], both: Any) -> None:
    """Options that may be given several times are added, each once and the later ones last;
    any other replaces what there was.
    """
    old, new = options("alpine", *first), options("alpine", *second)
    changed = module.override(old, new, {field})
    assert getattr(changed, field) == both and changed._replace(**{field: None}) == old._replace(
        **{field: None}
    )


def test_a_signal_after_the_end() -> None:
    """It ends the process by the system's own means: nothing is left that could tell it."""
    script = (
        "import atexit, os, signal, sys; from k8r import run_and_exit; sys.argv = ['k8r', 'env'];"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); run_and_exit()"
    )
    words = [sys.executable, "-c", script]
    ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")
