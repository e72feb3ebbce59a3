#!/usr/bin/env python3
"""k8r: run your code on Kubernetes with one command.

usage: k8r SOURCE [OPTIONS] [-- COMMAND [ARG ...]]

SOURCE is a directory, a git URL, a Dockerfile or a container image. COMMAND
runs in the cluster as a Job; its output appears here, and k8r ends with its
exit code. `run` may stand before SOURCE; k8r run --help has its options.

  k8r --local ./ -- python train.py    try it on this machine first
  k8r ./ --base-image python:3-slim -- python train.py
  k8r ./ --num 8 -- ./sweep.sh         8 pods, each with its own K8R_INDEX
  k8r -d alpine -- sleep 60            start an image, return at once
  k8r ./ --show-yaml -- true           print the objects, touch no cluster

  k8r ls                               what runs, what ran; also: logs, exec
  k8r cp NAME                          what --out named; also: forward, retry
  k8r delete NAME                      remove it wholly (or: rm); also: k8r stop
  k8r secret NAME VALUE                a secret for the runs of this directory
  k8r config                           the defaults; also: k8r env, k8r update

  -n NAMESPACE, --context, --kubeconfig, --insecure, --color, -v, --version, -h
exit status: the command's own (of the lowest failing index), 2 wrong usage,
124 timed out, 125 k8r or the cluster failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import enum
import errno
import functools
import gc
import io
import itertools
import json
import os
import posixpath
import queue
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
from typing import (
    IO,
    Any,
    BinaryIO,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Match,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
    Set,
    TextIO,
    Tuple,
    Type,
    Union,
)

__version__ = "0.2.0"

# The rooms, from top to bottom. Each calls only those above it (tests/unit/test_floor_plan.py).
#
#   room           what it holds                                        what it touches outside
#   Constants                                                           nothing
#   Errors         what several rooms share                             nothing
#   Types                                                               nothing
#   Text           sizes, ages, amounts and widths for people           nothing
#   Values         what the user writes: names, sizes, images, lines    nothing
#   Scripts        shell text that the containers of a run execute      nothing
#   Manifests      what the cluster is given                            nothing
#   Objects        what the cluster says: verdicts, lists               nothing
#   Waiting        why a run or its command does not begin, in words    nothing
#   Output         console, status line, logs, tables, YAML             stdout, stderr
#   Sources        directories, files                                   files, git
#   Repositories   what a git server has                                HTTP
#   Images         building, pushing, loading, containers here          docker, kind, k3d, minikube
#   Access         kubeconfig, credentials, TLS                         files, credential plugins
#   Cluster        requests and answers of the API server               the network
#   Channels       bytes to and from a container or a port of it        (Cluster)
#   Log lines      a place in a log from which to go on                 nothing
#   Streams        threads that read watches and logs                   (Cluster)
#   Results        a run's files: brought here, unpacked                files, (Channels)
#   Following      a run from its start to its verdict                  (Streams, Output)
#   Doors          commands in a run's containers, and their terminals  (Channels, Output)
#   Local runs     a run on this machine                                processes, temporary files
#   Creating       a Job or Deployment with all that it needs           (Cluster)
#   K8sRun         the facade: a method for each thing k8r does         (the rooms above)
#   Parser         the command line; it knows no command                nothing
#   Configuration  defaults from files and variables                    files
#   Commands       a function for each command; completion              (K8sRun)
#   Main           the table of commands, the ladder of excepts         signals, the exit status


# ==============================================================================
# Constants
# ==============================================================================

Object = Dict[str, Any]
"""A Kubernetes object, or a part of one, as plain JSON data."""
Forwards = Sequence[Tuple[int, int]]
"""Ports of this machine, each with that of a pod which is reached by it."""
Outs = Sequence[Tuple[str, str]]
"""What of a run is wanted here: paths there, those that are not absolute in the workspace, and
the directories here that are to have it, "" for one of the same name."""

LABEL_CREATED_BY = "created-by"
LABEL_JOB = "k8r-job"
LABEL_SOURCE_TYPE = "k8r-source-type"
ANNOTATION_RUN_ID = "k8r-run-id"
CREATED_BY = "k8r"
SELECTOR = f"{LABEL_CREATED_BY}={CREATED_BY}"

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
UID_LABEL = "batch.kubernetes.io/controller-uid"

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
GATE_ANNOTATION = "kueue.x-k8s.io/admission-gated-by"
GATE = "k8r.dev/upload"

LABEL_SECRET = "k8r-secret"
LABEL_TYPE = "k8r-type"
ANNOTATION_BASE = "k8r-base-name"
ANNOTATION_ORIGIN = "k8r-origin"
ANNOTATION_SIZE = "k8r-size"
ANNOTATION_STOPPED = "k8r-stopped"
ANNOTATION_KEYS = "k8r-variable-keys"
ANNOTATION_GIVEN = "k8r-job-name-given"
ANNOTATION_OUT = "k8r-out"
ANNOTATION_NODES = "k8r-nodes"
ANNOTATION_OPTIONS = "k8r-options"
ANNOTATION_REVISION = "k8r-revision"
ANNOTATION_INDEXES = "k8r-indexes"
ANNOTATION_COUNT = "k8r-count"

DIRECTORY = "directory"
GITHUB = "github"
DOCKERFILE = "dockerfile"
CONTAINER = "container"
DEPLOYMENT = "deployment"
EACH = "each"

GPU = "nvidia.com/gpu"
DEFAULT_IMAGE = "alpine:latest"
RUNTIME_IMAGES = {
    **dict.fromkeys(("python", "python3", "pip"), "python:3-slim"),
    **dict.fromkeys(("uv", "uvx"), "ghcr.io/astral-sh/uv:python3.13-bookworm-slim"),
    **dict.fromkeys(("node", "npm", "npx"), "node:lts-slim"),
    "go": "golang:1",
    "ruby": "ruby:slim",
    "php": "php:cli",
    "perl": "perl:slim",
    "java": "eclipse-temurin",
    "julia": "julia",
    "Rscript": "r-base",
}
"""The images for commands whose runtime DEFAULT_IMAGE lacks."""
DEFAULT_GIT_IMAGE = "alpine/git:latest"
CONTAINER_NAME = "main"
CLONE_NAME = "clone"
RESULTS_NAME = "zz-k8r-results"
"""Stands behind the user's container also where they are sorted."""
STARTUP_SCRIPT = "k8s-startup.sh"
WORKSPACE = "/workspace"

DIRECTORY_CONFIG = ".k8r.yaml"
USER_CONFIG = "k8r/config.yaml"

MIB = 1 << 20
SECRET_LIMIT = MIB
CONFIG_LIMIT = 1 << 14
YAML_DEPTH = 100
"""Deeper nesting, some tens of thousands, ends libyaml's loader and Python with it."""
YAML_ALIASES = 10
"""With so many (`*name`) a YAML file grows to its fortyfold at most, written out."""
RETRY_TIME = 300.0
"""Seconds to retry a server that has answered before."""
STREAMS_AT_ONCE = 50
STREAM_CHUNK = 1 << 16
LOOK_EVERY = 0.5
REDRAW_EVERY = 0.1
DEFAULT_GRACE = 60
DEFAULT_TIMEOUT = 3600
DEFAULT_KEEP = 7 * 86_400
DEFAULT_HOLD = 600


class ExitCode(enum.IntEnum):
    """The exit statuses that are k8r's own, as docker and timeout(1) use them."""

    OK = 0
    USAGE = 2
    TIMEOUT = 124
    FAILED = 125
    INTERRUPTED = 130


# ==============================================================================
# Errors
# ==============================================================================


class K8rError(Exception):
    """Something that the user must be told.

    ``message`` says what happened, ``hint`` what to do about it; ``exit_code``
    is what the process ends with. Only `main` prints these.
    """

    exit_code: int = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(K8rError):
    """The command line, or what it points at, is wrong."""

    exit_code = ExitCode.USAGE


class TimedOut(K8rError):
    """The run took longer than `--timeout`."""

    exit_code = ExitCode.TIMEOUT


class UnreadLog(K8rError):
    """A run has ended, and a log or result of it is not wholly here: nothing is removed."""


class NoKubeconfig(K8rError):
    """Nothing says where a cluster is."""


class CannotStart(K8rError):
    """A run cannot begin; a Job is then removed, lest it begins later unseen."""


class PrintAndExit(Exception):
    """Not an error: what --help or --version has to say, and nothing else to do."""


class ConnectionTrouble(K8rError):
    """The API server could not be reached, or the connection broke."""


class ApiError(K8rError):
    """The API server answered with an error status."""

    def __init__(self, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class NotFound(ApiError):
    """404: there is no such object."""


class Conflict(ApiError):
    """409: the name is taken, or the object changed meanwhile."""


class Gone(ApiError):
    """410: the resourceVersion of a watch is too old."""


class Unauthorized(ApiError):
    """401: the credentials were not accepted."""


class Overloaded(ApiError):
    """429 or 5xx: worth another try, after ``pause`` seconds."""

    pause: float = 0.0


class Foreign(Overloaded):
    """What answered is not a Kubernetes API server, but a load balancer before one, say."""


class Interrupted(BaseException):
    """A signal asked k8r to stop; ``signum`` is its number.

    Like KeyboardInterrupt not an Exception, so that no handler of errors
    swallows it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


# ==============================================================================
# Types
# ==============================================================================


class Environment(NamedTuple):
    """What k8r takes from the process that it runs in."""

    stdin: BinaryIO
    stdout: BinaryIO
    stderr: TextIO
    environ: Mapping[str, str]
    cwd: str
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    token: Callable[[], str] = lambda: os.urandom(4).hex()

    @classmethod
    def of_process(cls) -> Environment:
        """The real one. K8R_ORIGINAL_PWD stands for the working directory.

        A stream that is closed, as with `>&-`, is None in Python.
        """
        cwd = os.environ.get("K8R_ORIGINAL_PWD") or os.curdir
        with contextlib.suppress(OSError):  # it may have been removed
            cwd = os.path.normpath(os.path.join(os.getcwd(), cwd))
        stdin = sys.stdin.buffer if sys.stdin else open(os.devnull, "rb")
        stdout = sys.stdout.buffer if sys.stdout else io.BytesIO()
        return cls(stdin, stdout, sys.stderr or io.StringIO(), os.environ, cwd)


class Target(NamedTuple):
    """Which cluster and namespace, as far as the command line says it."""

    namespace: Optional[str] = None
    context: Optional[str] = None
    kubeconfig: Optional[str] = None
    insecure: bool = False


class Resources(NamedTuple):
    """Requests and limits, in Kubernetes quantities; empty where not asked for."""

    requests: Tuple[Tuple[str, str], ...] = ()
    limits: Tuple[Tuple[str, str], ...] = ()


class Source(NamedTuple):
    """What is run: its kind, the path of a directory or Dockerfile, else the URL or the
    image, and the name that a run of it gets if nothing else has it.
    """

    kind: str
    path: str
    name: str


class GitOptions(NamedTuple):
    """How a repository is cloned. ``secret`` names one with a token or a key."""

    ref: Optional[str] = None
    depth: int = 1
    image: str = DEFAULT_GIT_IMAGE
    secret: Optional[str] = None
    any_host_key: bool = False


class BuildOptions(NamedTuple):
    """How a Dockerfile is built, and where the image is pushed."""

    args: Tuple[Tuple[str, str], ...] = ()
    target: Optional[str] = None
    platform: Optional[str] = None
    secrets: Tuple[str, ...] = ()


class FollowOptions(NamedTuple):
    """What a run that is followed is given: seconds for a trouble to pass that waiting may
    not mend, seconds for the whole, and what is removed after its end.

    ``secrets`` is the name of the runs whose secrets are removed, "" for none; ``owned``
    tells `run` from those that only read: it may end what it has made. ``out`` is brought
    here; the pod then keeps it for ``hold`` seconds, or ends if that is None. ``enter`` is
    given the pods, once all are known, whenever something is new.
    """

    grace: float = float("inf")
    timeout: Optional[int] = None
    remove: bool = False
    secrets: str = ""
    owned: bool = False
    out: Outs = ()
    hold: Optional[int] = None
    enter: Callable[[Iterable[Object]], None] = lambda pods: None


class Former(NamedTuple):
    """What `retry` has of the run before: the name for the next one, the source, the archive if
    it is still there, else the digest that one of today is to have, and a repository's login.
    """

    name: str
    source: Source
    archive: Any = None
    digest: str = ""
    login: Tuple[str, str] = ("", "")


class Row(NamedTuple):
    """What a pod among many has for its own: the index that its command is told, and variables."""

    number: int
    variables: Tuple[Tuple[str, str], ...] = ()


class RunOptions(NamedTuple):
    """The options of `k8r run`, checked.

    ``timeout``, ``keep`` and ``grace`` are seconds, 0 is no limit; ``patch`` is merged into the pod
    template; each of ``port`` is one of this machine, and the pod's that is reached by it;
    ``volume`` has claims, and where they are mounted, followed by ":ro" if they are only read;
    with ``nodes`` the pods are one program; ``rows`` has one for each of ``num`` pods, or
    nothing; ``total`` is the number of pods of the run before a retry.
    """

    source: str
    command: Tuple[str, ...] = ()
    num: int = 1
    parallel: Optional[int] = None
    timeout: Optional[int] = None
    keep: int = DEFAULT_KEEP
    retry: int = 0
    base_image: Optional[str] = None
    job_name: Optional[str] = None
    env: Tuple[Tuple[str, str], ...] = ()
    resources: Resources = Resources()
    restricted: bool = False
    grace: int = DEFAULT_GRACE
    detach: bool = False
    remove: bool = False
    remove_secrets: bool = False
    replace: bool = False
    show_yaml: bool = False
    git: GitOptions = GitOptions()
    build: BuildOptions = BuildOptions()
    secret_job: Optional[str] = None
    pull_secrets: Tuple[str, ...] = ()
    patch: Object = {}
    as_deployment: bool = False
    port: Forwards = ()
    queue: Optional[str] = None
    priority: Optional[str] = None
    gpu_type: str = ""
    node_selector: Tuple[Tuple[str, str], ...] = ()
    toleration: Tuple[Object, ...] = ()
    service_account: Optional[str] = None
    label: Tuple[Tuple[str, str], ...] = ()
    local: bool = False
    stdin: bool = False
    tty: bool = False
    out: Outs = ()
    hold: Optional[int] = None
    volume: Tuple[Tuple[str, str], ...] = ()
    shm: Optional[str] = None
    nodes: bool = False
    setup: Optional[str] = None
    show_files: bool = False
    rows: Tuple[Row, ...] = ()
    prefix: bool = False
    total: Optional[int] = None
    former: Optional[Former] = None

    @property
    def limit(self) -> Optional[int]:
        """Seconds that the run may take, None without a limit."""
        if self.as_deployment:
            return None
        return DEFAULT_TIMEOUT if self.timeout is None else self.timeout or None

    @property
    def offline(self) -> bool:
        """Whether the cluster is left out of it."""
        return self.show_yaml or self.local


class Clone(NamedTuple):
    """A repository to clone before the command runs. Holds no credentials:
    ``secret`` names the Secret that does.
    """

    url: str
    options: GitOptions
    secret: Optional[str] = None


class SecretUse(NamedTuple):
    """A Secret in a container: its files, and those of its keys that are variables.
    ``given`` is whether its jobs' name was given, and is not just a directory's.
    """

    name: str
    object_name: str
    keys: Tuple[str, ...]
    given: bool = False


class Workload(NamedTuple):
    """All that the manifests depend on. Equal workloads give equal manifests.

    ``base`` is the name without the `-1` of a second run; ``setup`` is shell
    text that runs before the command; ``chunks`` is the number of ConfigMaps
    that hold the archive with that ``digest``; ``tables`` has the data of those that hold the rows;
    ``origin`` tells where the source of a Deployment is from;
    ``lasting`` marks pods that nobody should move; ``ports`` are those of a Deployment's Service;
    ``hold`` are seconds to keep results for where it is too large for a log.
    """

    name: str
    run_id: str
    source_type: str
    image: str
    options: RunOptions
    base: str = ""
    setup: str = ""
    chunks: int = 0
    digest: str = ""
    tables: Tuple[Mapping[str, str], ...] = ()
    clone: Optional[Clone] = None
    secrets: Tuple[SecretUse, ...] = ()
    ports: Tuple[int, ...] = ()
    origin: str = ""
    timeout: Optional[int] = None
    ttl: Optional[int] = None
    lasting: bool = False
    hold: int = 0


class Outcome(NamedTuple):
    """How a pod ended: its exit code and, where there is one, the reason.

    ``disrupted`` if something else ended it, and the Job may put another in its place.
    """

    code: int
    reason: str = ""
    container: str = CONTAINER_NAME
    disrupted: bool = False

    def __str__(self) -> str:
        where = "" if self.container == CONTAINER_NAME else f"init container {self.container}: "
        reason = f" ({self.reason})" if self.reason else ""
        return f"{where}exit code {self.code}{reason}"


class Verdict(NamedTuple):
    """How a run ended: the exit code of k8r, a sentence for the user, what `ls` says of it, and
    how many seconds it took, if the cluster's objects tell.
    """

    code: int
    text: str
    status: str = ""
    seconds: Optional[float] = None


class Wait(NamedTuple):
    """Why a pod does not run yet; ``fatal`` if waiting alone will not mend it."""

    text: str
    fatal: bool


# ==============================================================================
# Text
# ==============================================================================

BAR = 20
"""Columns of a progress bar."""


def escape_unprintable(text: str, keep: str = "") -> str:
    """Text fit for a terminal: odd bytes and control characters, but some to ``keep``, escaped."""
    text = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)  # no byte of a file name
    safe = os.fsencode(text).decode("utf-8", "backslashreplace")
    odd = re.compile(f"[^ -~{keep}]")  # only what may be: a long text is not taken to pieces
    return odd.sub(lambda c: c[0] if c[0].isprintable() else ascii(c[0])[1:-1], safe)


def redact(text: str) -> str:
    """What stands for a URL, without the credentials that it may have: a password with an
    odd character may reach as far as the last `@`.
    """
    return re.sub(r"(?s)^([^@:/]*:(?://)?).*@", r"\1***@", text)


def format_size(size: int) -> str:
    """`512 B`, `1.5 KiB`, `64.0 MiB`."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        if amount < 1024:
            break
    return f"{amount:.1f} {unit}"


def format_bar(done: int, total: int) -> str:
    """`[#####.....]`, and the share in percent."""
    share = min(done / total, 1.0) if total else 1.0
    full = int(share * BAR)
    return f"[{'#' * full}{'.' * (BAR - full)}] {share:4.0%}"


def format_age(seconds: float) -> str:
    """`12s`, `5m`, `3h`, `4d`, as kubectl writes an age."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"


def parse_timestamp(text: str) -> float:
    """Seconds since the epoch of `2024-01-02T03:04:05Z`; 0 for any other text."""
    import datetime

    try:
        parsed = datetime.datetime.fromisoformat(text[:19])  # strptime takes five times as long
    except ValueError:
        return 0.0
    return parsed.replace(tzinfo=datetime.timezone.utc).timestamp()


def pluralize(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def list_ranges(indexes: Iterable[int]) -> List[str]:
    """Sorted numbers as `1`, `3`, `5-9`."""
    groups = itertools.groupby(enumerate(indexes), lambda pair: pair[1] - pair[0])
    ranges = [[index for _, index in group] for _, group in groups]
    return ["-".join(map(str, sorted({it[0], it[-1]}))) for it in ranges]


def did_you_mean(word: str, words: Iterable[str], otherwise: str) -> str:
    """A hint that names the nearest of the words that there are."""
    import difflib

    close = difflib.get_close_matches(word, list(words), 1)
    return f"did you mean {close[0]}?" if close else otherwise


def measure_columns(character: str) -> int:
    """The columns that a character takes on a terminal: two if its East Asian
    width (UAX #11) is W or F, none if it is a mark.
    """
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, columns: int) -> Tuple[str, int]:
    """As much of a line as fits into so many columns, and how many that takes."""
    width = 0
    for place, character in enumerate(text):
        if width + measure_columns(character) > columns:
            return text[:place], width
        width += measure_columns(character)
    return text, width


UNITS = {unit: 1000.0**power for power, unit in enumerate(["n", "u", "m", "", *"kMGTPE"], -3)}
UNITS.update({f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTPE", 1)})


def convert_quantity(text: str) -> float:
    """The number that a Kubernetes quantity stands for, 0 for any other text and for negative
    ones. As in Go (apimachinery, pkg/api/resource) it has an end, that of 64 bits.
    """
    number, unit = r"\+?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?!\w))?", "[numkMGTPE]|[KMGTPE]i|"
    match = re.fullmatch(f"({number})({unit})", text, re.ASCII)
    return min(float(match[1]) * UNITS[match[2]], 2.0**63) if match else 0.0


# ==============================================================================
# Values
# ==============================================================================

# Names

NAME_LIMIT = 63
"""Bytes in a DNS label (RFC 1123); a Job's name is a label value of its pods."""


def make_dns_label(text: str, limit: int = NAME_LIMIT) -> str:
    """Make a DNS label (RFC 1123) of any text: `Träum süß!` is `traum-suss`. Where letters
    of other scripts are lost, a hash keeps apart what would look alike: `job-4f2a9c01`.
    """
    folded = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ẞ", "ss"))
    ascii_only = folded.encode("ascii", "ignore").decode().lower()
    label = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")
    others = [character for character in folded if character > "\x7f"]
    if any(map(str.isalnum, others)) or (others and not label):
        import hashlib

        digest = hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        label = f"{(label or 'job')[: max(limit - 9, 1)].rstrip('-')}-{digest}"
    return label[:limit].rstrip("-") or "job"


def get_name_limit(num: int) -> int:
    """The most characters that the name of a Job with ``num`` completions has.

    The pods of an Indexed Job take `NAME-INDEX` as their host name, which is a
    DNS label too; the API server refuses a Job whose last index would not fit.
    """
    return NAME_LIMIT if num == 1 else NAME_LIMIT - len(f"-{num - 1}")


def parse_name(text: str, what: str, limit: int = NAME_LIMIT, option: str = "") -> str:
    """Check a name given by the user, which is to be a DNS label. Raises UsageError."""
    hint = f"for instance {option}{make_dns_label(text, limit)}"
    if len(text) > limit:
        raise UsageError(f"the {what} has {len(text)} characters, {limit} are allowed", hint)
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text):
        problem = f"'{text}' is not a valid {what}: lower-case letters, digits and '-' only"
        raise UsageError(problem, hint)
    return text


def parse_job_name(text: str, num: int) -> str:
    """Check the name of a Job with ``num`` completions. Raises UsageError."""
    return parse_name(text, "job name", get_name_limit(num), "--job-name ")


def generate_names(base: str, num: int) -> Iterator[str]:
    """Yield ``base``, ``base-1``, ``base-2``, ..., each short enough."""
    limit = get_name_limit(num)
    first = base[:limit].rstrip("-")
    yield first
    for number in range(1, 10_000):
        suffix = f"-{number}"
        name = base[: limit - len(suffix)].rstrip("-") + suffix
        if name != first:
            yield name


# Numbers and sizes


def parse_count(text: str) -> int:
    """A whole number of at least 1. Raises UsageError."""
    return parse_whole(text, "count", 1, 999_999_999)


def parse_port(text: str) -> int:
    """A TCP port. Raises UsageError."""
    return parse_whole(text, "port", 1, 65_535)


def parse_forward(text: str) -> Tuple[int, int]:
    """The LOCAL and the PORT of `[LOCAL:]PORT`. Raises UsageError."""
    local, _, port = text.rpartition(":")
    return parse_port(local or port), parse_port(port)


def parse_number(text: str) -> int:
    """A whole number of at least 0. Raises UsageError."""
    return parse_whole(text, "number", 0, 999_999_999)


def parse_whole(text: str, what: str, least: int, most: int) -> int:
    """A whole number within limits. Raises UsageError."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        hint = f"give a whole number from {least} to {most}"
        raise UsageError(f"'{text}' is not a valid {what}", hint)
    return int(text)


def parse_limit(text: str) -> int:
    """A duration in seconds, 0 for `none` or `forever`. Raises UsageError."""
    return 0 if text in ("none", "forever") else parse_duration(text)


def parse_duration(text: str) -> int:
    """Seconds in `90`, `30m`, `1h30m` or `2d`. Raises UsageError."""
    match = re.fullmatch(
        r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip().lower(), re.ASCII
    )
    amounts = match.groups("0") if match else ()
    seconds = sum(int(n) * unit for n, unit in zip(amounts, (86_400, 3_600, 60, 1)))
    if not 0 < seconds < 1 << 31:
        raise UsageError(f"'{text}' is not a valid duration", "write 90, 30m, 1h30m or 2d")
    return seconds


@functools.lru_cache()
def parse_indexes(text: str) -> Tuple[int, ...]:
    """The indexes in `3,7-9`, each once, sorted. Raises UsageError."""
    found: Set[int] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch("([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if not match or int(match[1]) > int(match[2] or match[1]):
            raise UsageError(f"'{text}' are not valid indexes", "write 3 or 3,7-9")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))


LEAST_MEMORY = 1 << 16
"""With less no container starts, and its node's words for that are hard to understand."""
MEMORY_UNITS = {"": "", "k": "Ki", "m": "Mi", "g": "Gi", "t": "Ti"}


def parse_memory(text: str) -> str:
    """A Kubernetes quantity for `512Mi`, `2gb`, `2G` or `1000000`. Raises UsageError.

    Suffixes that Kubernetes knows (Ki, Mi, Gi, Ti, M, G, T) keep their meaning;
    `b`, `kb`, `mb`, `gb`, `tb`, `k`, `m`, `g` and `t` are powers of 1024, as for
    docker.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", text)
    number, unit = match.groups() if match else ("", "?")
    if unit not in ("Ki", "Mi", "Gi", "Ti", "M", "G", "T"):
        short = unit.lower()[:-1] if unit.lower().endswith("b") else unit.lower()
        unit = MEMORY_UNITS.get(short, "?")
    if unit == "?" or float(number) == 0:
        raise UsageError(f"'{text}' is not a valid amount of memory", "write 512Mi, 2gb or 2gb-8gb")
    if not unit and float(number) < LEAST_MEMORY:
        raise UsageError(
            f"'{text}' is a number of bytes, too few for a program", f"write {number}gb"
        )
    return number + unit


def parse_cpu(text: str) -> str:
    """A Kubernetes quantity for `2`, `0.5` or `500m`. Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m?)", text)
    if not match or float(match.group(1)) == 0:
        raise UsageError(f"'{text}' is not a valid number of CPUs", "write 2, 0.5, 500m or 500m-2")
    return text


def parse_range(text: str, parse: Callable[[str], str]) -> Tuple[str, str]:
    """`LOW-HIGH`, or one value for both, each parsed by ``parse``. Raises UsageError."""
    first, dash, second = text.partition("-")
    low, high = parse(first), parse(second if dash else first)
    if convert_quantity(low) > convert_quantity(high):
        raise UsageError(f"'{text}' has its larger value first", f"write {second}-{first}")
    return low, high


def parse_gpu(text: str) -> Tuple[str, int]:
    """The TYPE, "" for any, and the N of `[TYPE:]N`. Raises UsageError."""
    kind, _, count = text.rpartition(":")
    return kind and parse_label(f"type={kind}")[1], parse_count(count)


def parse_resources(mem: Optional[str], cpu: Optional[str], gpu: Optional[int]) -> Resources:
    """Requests and limits from --mem, --cpu and --gpu. Raises UsageError."""
    options = (("--mem", "memory", mem, parse_memory), ("--cpu", "cpu", cpu, parse_cpu))
    ranges: Dict[str, Tuple[str, str]] = {}
    for option, name, text, parse in options:
        if text:
            try:
                ranges[name] = parse_range(text, parse)
            except UsageError as error:
                raise UsageError(f"{option}: {error.message}", error.hint) from error
    limits = [(name, high) for name, (_, high) in ranges.items()]
    if gpu:
        limits.append((GPU, str(gpu)))
    return Resources(tuple((name, low) for name, (low, _) in ranges.items()), tuple(limits))


# Labels and taints

_LABEL_NAME = r"[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}"


def parse_label(text: str) -> Tuple[str, str]:
    """The KEY and the VALUE, which may be empty, of a label. Raises UsageError."""
    match = re.fullmatch(rf"({_LABEL_KEY})=({_LABEL_NAME}|)", text, re.ASCII)
    if not match:
        hint = "up to 63 letters, digits, '-', '_' and '.' each"
        raise UsageError(f"'{text}' is not a valid KEY=VALUE of a label", hint)
    return match[1], match[2]


def parse_own_label(text: str) -> Tuple[str, str]:
    """A label for what k8r makes. Raises UsageError for those that it sets itself."""
    key, value = parse_label(text)
    if re.fullmatch(r"created-by|k8r-.*|job-name|controller-uid|.*(kubernetes|k8s)\.io/.*", key):
        raise UsageError(f"the label {key} is set by k8r or the cluster", "choose another key")
    return key, value


def parse_toleration(text: str) -> Object:
    """What tolerates the taint `KEY[=VALUE][:EFFECT]`. Raises UsageError."""
    effects = "NoSchedule|PreferNoSchedule|NoExecute"
    match = re.fullmatch(rf"({_LABEL_KEY})(=(?:{_LABEL_NAME})?)?(?::({effects}))?", text, re.ASCII)
    if not match:
        raise UsageError(f"'{text}' is not a valid KEY[=VALUE][:EFFECT]", f"an effect is {effects}")
    key, value, effect = match.groups()
    how = {"operator": "Equal", "value": value[1:]} if value else {"operator": "Exists"}
    return {"key": key, **how, **({"effect": effect} if effect else {})}


# Sources

# The grammar of an image reference, as github.com/distribution/reference has it.
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_DIGEST = "|".join(f"{name}:[0-9a-f]{{{size}}}" for name, size in DIGEST_LENGTHS.items())
IMAGE = re.compile(
    rf"(?![0-9a-f]{{64}}\Z)(?:{_DOMAIN}/)?(?P<path>{_PATH_PART}(?:/{_PATH_PART})*)"
    rf"(?::\w[\w.-]{{0,127}})?(?:@(?:{_DIGEST}))?",
    re.ASCII,
)

_SEEN = r"[^\0-\x20\x7f\ud800-\udfff]"
_HOST = rf"(?:(?![-@/:?#\[])(?:(?![@/:?#\[\]]){_SEEN})+|\[[\w.:%-]+\])"
GIT_URL = re.compile(
    r"(?i:https?://|(?:ssh|git|git\+ssh|ssh\+git)://(?=[^/]+/))(?!-)"
    rf"(?:(?:(?!/){_SEEN})*@)?{_HOST}(?::\d*)?(?:/{_SEEN}*)?"
    r"|(?:(?!\S*@(?:sha\d+|md5|blake\w+):)[A-Za-z0-9_][\w.+-]*@"
    r"|(?!.*@|.*:\d+/|[^/:]*://)(?=[^/:]*\.|\[|[^/:]*:[/~]|.*\.git/?$))"
    rf"{_HOST}:(?![:-]|//){_SEEN}+",
    re.ASCII,
)
"""A URL, or the form `[user@]host:path` of scp(1) that git takes too (git-clone(1)). Without
a user the host has a dot, or the path is clearly one: else it is a mistyped image."""


def is_path_like(text: str) -> bool:
    """Whether the user clearly meant a path: `./x`, `/x`, `~/x`, `x/`, `.`."""
    return text.startswith(("./", "../", "/", "~")) or text in (".", "..") or text.endswith("/")


def is_dockerfile(path: str) -> bool:
    """Whether a file's name is that of a Dockerfile, in any case."""
    names = r"(.+\.)?dockerfile|dockerfile\..+|containerfile"
    return bool(re.fullmatch(names, posixpath.basename(path), re.IGNORECASE))


def detect_source_type(text: str, path_type: str) -> str:
    """Say what SOURCE is. Raises UsageError if it is nothing that k8r can run.

    ``path_type`` is what the file system has under that name: "directory",
    "file", or "" for nothing.
    """
    if not text:  # from a variable that is not set, say; as a path it would be the directory here
        raise UsageError("SOURCE is empty", "this directory is ./")
    if path_type == DIRECTORY:
        return DIRECTORY
    if path_type and is_dockerfile(text):
        return DOCKERFILE
    if path_type:
        raise UsageError(
            f"'{text}' is a file, neither a directory nor a Dockerfile",
            f"run the directory that it is in: k8r {posixpath.dirname(text) or '.'}/ -- COMMAND",
        )
    if GIT_URL.fullmatch(text) and not IMAGE.fullmatch(text):
        check_git_url(text)
        return GITHUB
    if is_dockerfile(text) or is_path_like(text) or not IMAGE.fullmatch(text):
        raise unknown_source_error(text)
    parse_image(text)
    return CONTAINER


def unknown_source_error(text: str) -> UsageError:
    """What is wrong with a SOURCE that is not there, or is nothing that k8r can run."""
    shown = redact(text)
    if "://" in text:
        return UsageError(
            f"'{shown}' is not a URL that k8r clones",
            "write https://, ssh://, git:// or USER@HOST:PATH, and %2F for '/' in a password",
        )
    if is_dockerfile(text) or is_path_like(text):
        kind = "file" if is_dockerfile(text) else "directory"
        return UsageError(f"there is no {kind} '{shown}'", "check the spelling")
    return UsageError(
        f"'{shown}' is not a directory, git URL, Dockerfile or container image",
        explain_image(text) or "a directory is ./ or a path, an image is NAME[:TAG]",
    )


def check_git_url(url: str) -> None:
    """Raise UsageError for a URL with a password that git would not take from it, or whose
    end cannot be told.
    """
    if re.match(r"(?i)[^:]*(?:ssh|git)[^:]*://[^/]*:[^/]*@", url):
        raise UsageError(
            f"'{redact(url)}' has a password, which neither ssh nor git takes from a URL",
            "give --git-secret NAME with a key",
        )
    if re.match(r"[^:]*://(?:[^/?#]*:[^/?#]*|[^/?#@.]*)[/?#].*@", url):
        raise UsageError(
            f"'{redact(url)}' may have a password with a '/', '?' or '#'",
            "write %2F, %3F or %23 for it in a password, and %40 for '@' in a path",
        )
    if any(not part.isprintable() for part in split_credentials(url)):
        raise UsageError(f"'{redact(url)}' has a control character", "check the URL")


def parse_image(text: str) -> str:
    """A reference to a container image. Raises UsageError."""
    wrong = explain_image(text)
    if wrong or not IMAGE.fullmatch(text):
        raise UsageError(f"'{text}' is not a valid image", wrong or "write NAME[:TAG]")
    return text


def explain_image(text: str) -> str:
    """What is wrong with an image's name or digest, "" if that is nothing or all of it."""
    algorithm, _, digest = text.rpartition("@")[2].partition(":")
    length = DIGEST_LENGTHS.get(algorithm, 0) if "@" in text else 0
    if length and not re.fullmatch(r"[0-9a-f]{%d}" % length, digest):
        return f"a {algorithm} digest has {length} digits from 0-9a-f, not {len(digest)} characters"
    upper = IMAGE.fullmatch(text.lower()) and not IMAGE.fullmatch(text)
    return "an image's name is lower case" if upper else ""


def get_image_name(image: str) -> str:
    """The last part of an image's repository: `python` of `docker.io/python:3`."""
    match = IMAGE.fullmatch(image)
    return (match.group("path") if match else image).rpartition("/")[2]


def get_repository_name(url: str) -> str:
    """The last part of a git URL's path: `repo` of `git@host:org/repo.git`. A URL without a
    path has its host. Nothing of a user, a password or a query gets into it.
    """
    place = re.sub(r"^[^/:]*://|[?#].*", "", url)
    host, path = re.match(  # type: ignore[union-attr]
        r"(?:[^/]*@)?(\[[^]]*\]|[^/:]*)(?::\d*(?=/|$))?(.*)", place
    ).groups()
    path = re.sub(r"(/?\.git)?/*$", "", path.rstrip("/"))
    return str(re.split("[/:]", path)[-1] or host)


def name_repository(url: str) -> str:
    """A repository's host and path, whichever way it is reached: no credentials."""
    address = re.sub(r"^([a-zA-Z+]+://)?([^/]*@)?|[?#].*", "", url)
    return re.sub(r"^([^/:]+):(?!\d+/)", r"\1/", re.sub(r"(\.git)?/*$", "", address))


def name_source(kind: str, path: str) -> str:
    """What runs of a source are called, before it is made a DNS label."""
    if kind == GITHUB:
        return get_repository_name(path)
    if kind == CONTAINER:
        return get_image_name(path)
    return posixpath.basename(path if kind == DIRECTORY else posixpath.dirname(path))


def split_credentials(url: str) -> Tuple[str, str, str]:
    """Cut user and password out of an HTTP URL: the rest, the user, the password.

    A user alone is taken along: on some hosts it is the token.
    """
    import urllib.parse

    url = re.sub(r"^[^/:]*://", lambda scheme: scheme.group().lower(), url)
    match = re.fullmatch(r"(https?://)([^/]*)@(.*)", url)
    if not match:
        return url, "", ""
    scheme, credentials, rest = match.groups()
    user, _, password = credentials.partition(":")
    return scheme + rest, urllib.parse.unquote(user), urllib.parse.unquote(password)


def get_origin(url: str) -> str:
    """The scheme, host and port of a URL."""
    return "/".join(url.split("/", 3)[:3])


REPOSITORY_VARIABLES = set(
    "GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR GIT_CONFIG GIT_CONFIG_COUNT GIT_DIR "
    "GIT_CONFIG_PARAMETERS GIT_DEFAULT_HASH GIT_GRAFT_FILE GIT_IMPLICIT_WORK_TREE "
    "GIT_INDEX_FILE GIT_INTERNAL_SUPER_PREFIX GIT_NO_REPLACE_OBJECTS GIT_OBJECT_DIRECTORY "
    "GIT_PREFIX GIT_QUARANTINE_PATH GIT_REPLACE_REF_BASE GIT_SHALLOW_FILE GIT_WORK_TREE".split()
)
"""What git sets for a hook, which may have called k8r (git rev-parse --local-env-vars and,
before objects are accepted, GIT_QUARANTINE_PATH), and the format of new repositories."""


def drop_repository(environ: Mapping[str, str]) -> Dict[str, str]:
    """The variables without those that tie git to one repository."""
    return {key: environ[key] for key in environ if key not in REPOSITORY_VARIABLES}


def parse_ref(text: str) -> str:
    """A branch, tag or commit, safe as an argument of git. Raises UsageError.

    The rules are those of git-check-ref-format(1).
    """
    bad = r"^[-/]|/$|//|(^|/)\.|\.\.|\.$|\.lock(/|$)|@\{|^@?$|[\0-\x20~^:?*\[\\\x7f\ud800-\udfff]"
    if re.search(bad, text):
        raise UsageError(f"'{text}' is not a valid branch, tag or commit", "check --ref")
    return text


def parse_refs(answer: bytes) -> Dict[str, str]:
    """The refs that a git server advertises, name to commit.

    The format is git's smart HTTP protocol (gitprotocol-http(5)): pkt-lines,
    each with its length in four hexadecimal digits, "0000" between parts.
    Raises ValueError if it is something else.
    """
    if answer[4:30] != b"# service=git-upload-pack\n" or answer[-4:] != b"0000":
        raise ValueError("not git's answer")
    if re.search(rb"[0-9a-f]{4}ERR ", answer):
        raise ValueError("the server refuses")
    lines = re.findall(rb"[0-9a-f]{4}([0-9a-f]{40}|[0-9a-f]{64}) ([^\0\n]+)", answer)
    refs = {name.decode("utf-8", "replace"): commit.decode() for commit, name in lines}
    refs.pop("capabilities^{}", None)  # stands for no ref at all
    return refs


def check_ref(url: str, refs: Mapping[str, str], ref: str) -> None:
    """Raise UsageError if a server does not have a ref, or two of that name. Any commit may
    be there without a name, and a server need not tell of refs that are its own.
    """
    branch, tag = f"refs/heads/{ref}", f"refs/tags/{ref}"
    if branch in refs and tag in refs and ref not in refs:
        raise UsageError(
            f"{url} has a branch and a tag '{ref}'", f"say which: --ref {branch} or --ref {tag}"
        )
    own = ref.startswith("refs/") and not ref.startswith(("refs/heads/", "refs/tags/"))
    known = any(name in refs for name in (ref, branch, tag, f"refs/{ref}", f"refs/remotes/{ref}"))
    if not (own or known or re.fullmatch(r"[0-9a-fA-F]{4,64}", ref)):
        names = [name.split("/", 2)[2] for name in refs if name.count("/") >= 2]
        hint = did_you_mean(ref, names, "check --ref")
        raise UsageError(f"{url} has no branch, tag or commit '{ref}'", hint)


# Files of a run

SYSTEM_FOLDER = re.compile(
    "/(bin|boot|dev|etc|k8r|lib[^/]*|proc|run|sbin|sys|usr)(/.*)?|/(home|opt|root|srv|tmp|var)?"
)
"""Where a volume would hide what an image needs."""


def parse_out(text: str) -> Tuple[str, str]:
    """The PATH and the DIR of `PATH` or `PATH:DIR`. Raises UsageError."""
    path, colon, folder = text.partition(":")
    path = posixpath.normpath(path or ".").replace("//", "/")
    absolute = posixpath.join(WORKSPACE, path)
    if escape_unprintable(path) != path or (colon and not folder):
        raise UsageError(f"{text!r} is not a valid PATH or PATH:DIR", "write results:./here")
    if SYSTEM_FOLDER.fullmatch(absolute) or posixpath.normpath(absolute) in ("/", WORKSPACE):
        raise UsageError(f"'{path}' is more than results", "name a directory of their own")
    if path.split("/")[0] == "..":
        raise UsageError(f"'{path}' is outside of the directory", "name one in it")
    return path, folder


def parse_volume(text: str) -> Tuple[str, str]:
    """The claim and the place of `CLAIM:/PATH` or `CLAIM:/PATH:ro`. Raises UsageError."""
    if not re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?:/[^:]+(:ro)?", text):
        raise UsageError(
            f"'{text}' is not a valid CLAIM:/PATH or CLAIM:/PATH:ro", "see -V data:/data"
        )
    claim, _, place = text.partition(":")
    return claim, place


# Variables and secrets

ARGUMENT_LIMIT = 131_071
"""Bytes in one argument or environment string: Linux' MAX_ARG_STRLEN less the
terminating NUL (execve(2))."""


def parse_variable(text: str, environ: Mapping[str, str]) -> Tuple[str, str]:
    """`KEY=VALUE`, or `KEY` to take the value from here. Raises UsageError."""
    key, equals, value = text.partition("=")
    if not re.fullmatch("[!-~]+", key):  # what docker and Kubernetes (from 1.32) both take
        raise UsageError(f"'{key}' is not a valid variable name", "use ASCII without blanks")
    if not equals:
        if key not in environ:
            raise UsageError(f"the variable {key} is not set here", f"write --env {key}=VALUE")
        value = environ[key]
    check_argument(f"the variable {key}", f"{key}={value}")
    return key, value


def check_argument(what: str, text: str) -> None:
    """Raise UsageError if Linux could not hand ``text`` to a program."""
    problem = ""
    if any("\ud800" <= character <= "\udfff" for character in text):
        problem = "is not valid UTF-8"
    elif len(text.encode()) > ARGUMENT_LIMIT:
        problem = f"is longer than {ARGUMENT_LIMIT} bytes"
    elif "\0" in text:
        problem = "contains a NUL byte"
    if problem:
        raise UsageError(f"{what} {problem}", "put it into a file of the directory")


def parse_env_file(text: str, name: str, environ: Mapping[str, str]) -> List[Tuple[str, str]]:
    """The variables of an env file, as docker reads it: `KEY=VALUE` on a line, or `KEY`,
    which is left out if it is not set here; `#` for comments, nothing is unquoted.
    Raises UsageError with the number of the line that is wrong.
    """
    variables: List[Tuple[str, str]] = []
    for number, line in enumerate(re.split(r"\r?\n|\r\Z", text), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                key = line.lstrip()
                found = parse_variable(key, environ if "=" in key else {key: "", **environ})
                variables += [found] if "=" in key or key in environ else []
            except UsageError as error:
                raise UsageError(f"{name}, line {number}: {error.message}", error.hint) from error
    return variables


def parse_build_secret(text: str) -> str:
    """`id=NAME`, and a file or variable. Raises UsageError; the value itself is never there."""
    if not re.fullmatch(r"(type=\w+,)?id=[\w.-]+(,(src|source|env|type)=[^,]+)*", text):
        raise UsageError(f"'{text}' is not a valid secret", "see id=token,src=token.txt")
    return text


MOST_ROWS = 10_000
ROWS_LIMIT = 32 * MIB
"""Bytes of a file of --each, or of standard input."""
RESERVED = re.compile(
    r"(K8R|k8r|LD)_\w*|(BASH|EPOCH)\w*|(SHELL|BASH)OPTS|E?UID|PPID|GROUPS|DIRSTACK|FUNCNAME|"
    r"HISTCMD|PIPESTATUS|LINENO|S?RANDOM|SECONDS|OPT(ARG|IND|ERR)|PS4|IFS|ENV|PATH|PWD|OLDPWD|"
    r"SHLVL|_|JOB_COMPLETION_INDEX|line"
)
"""Names that a column cannot have: those that are k8r's, and those that a shell or the loader of
programs takes for its own."""


def parse_rows(text: str, name: str) -> Tuple[Row, ...]:
    """A row for each line of a file of --each but blank ones and comments; of `.csv` and `.tsv`
    the first line names the columns. Raises UsageError with the number of the wrong line.
    """
    delimiter = {".csv": ",", ".tsv": "\t"}.get(name[-4:].lower(), "")
    if "\0" in text:
        raise UsageError(f"{name} contains a NUL byte, which no variable can", "save it as text")
    records = split_records(text, delimiter, name)
    columns: List[str] = []
    rows: List[Row] = []
    for number, line, cells in records:
        if delimiter and not columns:
            columns = check_columns(cells, f"{name}, line {number}")
            continue
        if len(cells) != len(columns):
            problem = f"{name}, line {number} has {pluralize(len(cells), 'cell')}"
            hint = "a cell with a delimiter or a quote in it is written in quotes"
            raise UsageError(f"{problem}, the first line {len(columns)}", hint)
        if len(rows) == MOST_ROWS:
            hint = f"split it: head -n {MOST_ROWS} {name}, say"
            raise UsageError(f"{name} has more than {MOST_ROWS} lines", hint)
        rows.append(Row(len(rows), (("K8R_LINE", line), *zip(columns, cells))))
    if not rows:
        raise UsageError(f"{name} has no lines", "a line for each pod, blank ones do not count")
    return tuple(rows)


def split_records(text: str, delimiter: str, name: str) -> Iterator[Tuple[int, str, List[str]]]:
    """The number of its first line, the text and the cells, without a delimiter none, of each
    record; one of a table may be of several lines. Raises UsageError.
    """
    import csv

    taken: List[str] = []
    first = 0

    def feed() -> Iterator[str]:
        nonlocal first
        for number, line in enumerate(re.split(r"(?<=\n)", text), 1):
            if taken or (line.strip() and not line.lstrip().startswith("#")):
                first = first if taken else number
                taken.append(line)
                yield line

    lines = feed()
    try:
        for cells in csv.reader(lines, delimiter=delimiter, strict=True) if delimiter else lines:
            line = re.sub(r"\r?\n\Z", "", "".join(taken))
            taken.clear()
            yield first, line, cells if isinstance(cells, list) else []
    except csv.Error as error:
        raise UsageError(f"{name}, line {first}: {error}", 'quote as in "a ""b"" c"') from error


def check_columns(names: List[str], where: str) -> List[str]:
    """Names of columns that variables can have. Raises UsageError."""
    for column in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", column) or RESERVED.fullmatch(column):
            problem = f"{where}: '{escape_unprintable(column)}' cannot be the name of a column"
            raise UsageError(problem, "letters, digits and '_', and not PATH, line or K8R_...")
        if names.count(column) > 1:
            raise UsageError(f"{where}: two columns are called {column}", "rename one")
    return names


def label_rows(rows: Iterable[Row]) -> Dict[str, str]:
    """What stands before the lines of each index by --prefix: its first column, or its line."""
    return {
        str(row.number): escape_unprintable(row.variables[:2][-1][1])
        for row in rows
        if row.variables
    }


def expand(word: str, row: Row) -> str:
    """A word of the command with `{line}` and each `{COLUMN}` of a row replaced; `{{COLUMN}}`
    becomes `{COLUMN}`, and what else is in braces stays as it is.
    """
    values = {"line" if key == "K8R_LINE" else key: value for key, value in row.variables}

    def fill(match: Match[str]) -> str:
        literal, name = match.groups()
        if (literal or name) not in values:
            return match[0]
        return f"{{{literal}}}" if literal else values[name]

    return re.sub(r"\{\{(\w+)\}\}|\{(\w+)\}", fill, word)


def make_variable_name(secret: str, key: str) -> str:
    """The variable for a key of a secret: `DB_PASSWORD` for `password` of `db`."""
    return re.sub(r"[^A-Z0-9]", "_", f"{secret}_{key}".upper())


def list_secret_variables(use: SecretUse) -> Dict[str, str]:
    """The variables that a secret gives, each with the key it comes from.

    A secret whose only key is its own name also gives plain `{SECRET}`.
    """
    names = {make_variable_name(use.name, key): key for key in use.keys}
    if use.keys == (use.name,):
        names[make_variable_name(use.name, "")[:-1]] = use.name
    return {name: key for name, key in names.items() if re.match(r"[A-Z_]", name)}


def check_collisions(uses: Iterable[SecretUse], remedy: str) -> None:
    """Raise UsageError if two secrets want the same variable; ``remedy`` is the command that
    removes a secret, but for its name.
    """
    owners: Dict[str, str] = {}
    for use in uses:
        for name in list_secret_variables(use):
            if owners.setdefault(name, use.name) != use.name:
                raise UsageError(
                    f"the secrets '{owners[name]}' and '{use.name}' both make the variable {name}",
                    f"remove one: {remedy} {use.name}",
                )


def is_variable_value(name: str, value: bytes) -> bool:
    """Whether a secret's value can be that of an environment variable."""
    try:
        check_argument(name, f"{name}={value.decode()}")
    except (UnicodeDecodeError, UsageError):
        return False
    return True


def parse_secret_name(text: str) -> str:
    """A secret's name, which becomes part of an object's. Raises UsageError."""
    return parse_name(text, "secret name")


def check_secret_data(name: str, data: Mapping[str, bytes]) -> None:
    """Raise UsageError if the API server would refuse that content, or if two keys
    make one variable.
    """
    keys: Dict[str, str] = {}
    for key in sorted(data):
        variable = make_variable_name(name, key)
        other = keys.setdefault(variable, key)
        if other != key:
            raise UsageError(
                f"the keys '{other}' and '{key}' both make the variable {variable}",
                "rename one of the files",
            )
        if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) or key == "." or key.startswith(".."):
            raise UsageError(
                f"'{escape_unprintable(key)}' cannot be a key of a secret",
                "rename the file: letters, digits, '-', '_' and '.' only",
            )
    size = sum(len(value) for value in data.values())
    if not size:
        raise UsageError(f"the secret {name} would be empty", "give it a value")
    if size > SECRET_LIMIT:
        raise UsageError(
            f"the secret has {format_size(size)}, {format_size(SECRET_LIMIT)} are allowed",
            "split it into several secrets",
        )


# ==============================================================================
# Scripts
# ==============================================================================

ARCHIVE_MOUNT = "/k8r/source"
SECRET_MOUNT = "/k8r/secret"
GIT_SECRET_MOUNT = "/k8r/git-secret"
GIT_HOME = "/k8r/git-home"
CLONE_NOTE = "/dev/termination-log"
COMMIT_MARK = "k8r-commit "
RESULTS_MOUNT = "/k8r/results"
ROWS_MOUNT = "/k8r/each"
ROWS_IN_FILE = 50
TABLE_SIZE = MIB // 2
"""Characters of rows in a file and in a ConfigMap: less than half of what fits, in bytes."""
LOG_LIMIT = 5 * MIB
"""The most bytes of results in a log: more of one might be rotated away by its node."""

UNPACK = """\
cd {workspace} || exit 125
{unpack} || {{ echo "k8r: the image cannot unpack the directory (it needs sh, tar, gzip)" >&2
exit 125; }}
"""

STARTUP = """\
if [ -f {startup} ]; then
  if [ -x {startup} ]; then ./{startup}; else sh ./{startup}; fi < /dev/null
  k8r_code=$?
  if [ $k8r_code -ne 0 ]; then
    echo "k8r: {startup} failed with exit code $k8r_code" >&2
    exit $k8r_code
  fi
fi
"""

SETUP = """\
{begin}trap 'k8r_code=$?
[ $k8r_code -ne 0 ] || k8r_code=125
echo "k8r: setup failed with exit code $k8r_code"
exit $k8r_code' EXIT
k8r_here=$PWD
k8r_setup() {{ eval {text}; }}
k8r_setup "$@" < /dev/null 2>&1
k8r_code=$?
[ $k8r_code -eq 0 ] || exit $k8r_code
trap - EXIT
cd "$k8r_here" || exit 125
{end}"""
"""Runs --setup in the command's own shell, so that what it exports counts, as a function, since
`set --` would put another command in place of the run's. All that it says is of one stream with
the marks before and after it, for streams get out of order."""

AWAIT_TERMINAL = """\
k8r_n=0
while [ $k8r_n -lt 50 ] && command -v stty > /dev/null; do
  case $(stty size 2> /dev/null) in [1-9]*) break ;; esac
  sleep 0.1 2> /dev/null || sleep 1
  k8r_n=$((k8r_n + 1))
done
"""
"""A terminal has its size from the one who attaches to it, and what it shows before is lost."""

MOST_NODES = 1000
"""So many names are sure to fit into one variable."""
AWAIT_NODES = """\
ask() {
  k8r_domain=$(sed -n "s/^search \\([^ ]*\\).*/.\\1/p" /etc/resolv.conf)
  if command -v getent; then getent hosts "$MASTER_ADDR"
  elif command -v nslookup; then nslookup "$MASTER_ADDR$k8r_domain" || nslookup "$MASTER_ADDR"
  elif command -v python3; then python3 -c "import socket; socket.gethostbyname('$MASTER_ADDR')"
  fi
}
k8r_n=0 k8r_late=$(($(date +%s) + 600))
until ask > /dev/null 2>&1; do
  if [ $(date +%s) -gt $k8r_late ]; then
    echo "k8r: rank 0 ($MASTER_ADDR) has had no address for 10 minutes; does its pod run?" >&2
    exit 125
  fi
  k8r_n=$((k8r_n + 1))
  [ $k8r_n -ne 10 ] || echo "k8r: waiting for the address of rank 0 ($MASTER_ADDR)" >&2
  sleep 1
done
"""
"""Pods start at different times, and programs give up at once on a name without an address.
Where the image has nothing that asks for one, the program has to wait by itself. nslookup
of busybox looks for a name with a dot in it nowhere else."""
PICK_ROW = f"""\
. {ROWS_MOUNT}/$((${{JOB_COMPLETION_INDEX:-0}} / {ROWS_IN_FILE}))
"""
"""Reads what `build_tables` has written; it sets no variable but those of the row."""

RUN = """\
[ $# -eq 0 ] || exec "$@"
"""

CLONED = """\
cd {workspace} || exit 125
if [ $# -eq 0 ] && [ ! -f {startup} ]; then
  echo "k8r: no command was given, and the repository has no {startup}" >&2
  exit 125
fi
"""

BEGIN = """\
[ -p {mount}/fifo ] || mkfifo -m 666 {mount}/fifo || {{
  echo "k8r: the image lacks mkfifo, which --out needs" >&2
  exit 125
}}
exec 7<> {mount}/fifo
: > {mount}/begun
"""
"""What it opens is closed by the kernel, however the command ends."""

KEEP = """\
cd {mount} || exit 0
told= n=0
trap told=1 TERM
pause() {{ sleep "$1" & wait $!; }}
until [ -e begun ]; do
  n=$((n + 1))
  if [ -n "$told" ] || [ -e done ] || [ $n -gt 36000 ]; then exit 0; fi
  pause 0.1
done
exec 8<> fifo
exec 7< fifo
exec 8>&-
{{ cat <&7 > /dev/null; : > over; }} &
wait $!
n=0
while [ -n "$told" ] && [ ! -e over ] && [ $n -lt {late} ]; do
  n=$((n + 1))
  pause 1
done
tar -cf - -C / "$@" 2> notes | cat > spool || : > spool
grep -Ev "No such file|(error exit|Exiting)" notes | head -n 20 | sed "s/^/k8r-note /"
size=$(($(wc -c < spool)))
sum=$(sha256sum < spool)
echo "k8r-results $size ${{sum%% *}}"
if [ $size -le {limit} ]; then
  base64 -w 4096 spool 2> /dev/null || base64 spool
  echo k8r-end
  exit 0
fi
n=0
[ -n "$told" ] || trap "exit 0" TERM
while [ ! -e done ] && [ $n -lt {hold} ]; do
  if rm fetch 2> /dev/null; then n=0; fi
  n=$((n + 1))
  pause 1
done
exit 0
"""
"""Waits for the command's end, packs what its arguments name, and prints it, or keeps it for a
time. When it is told to end it leaves the command the most of the pod's grace. A shell
notices that only in `wait`. It ends with 0, lest the Job fails."""

COPY = """\
cp -R -P -p {clone}/. {workspace} || exit 125
"""

CLONE_ACCESS = """\
set -eu
home={home}
secret={secret}
hosts=/etc/ssh/ssh_known_hosts
ssh="ssh -o BatchMode=yes -o StrictHostKeyChecking=$K8R_GIT_HOST_KEYS"
umask 077
for file in "$secret"/*; do
  [ -f "$file" ] || continue
  case ${{file##*/}} in
  known_hosts) hosts=$file ;;
  username) cat "$file" > "$home/username" ;;
  *)
    if grep -q "PRIVATE KEY-----" "$file"; then
      {{ cat "$file"; echo; }} > "$home/key"
      ssh="$ssh -o IdentitiesOnly=yes -i $home/key"
    else
      cat "$file" > "$home/password"
    fi ;;
  esac
done
export GIT_SSH_COMMAND="$ssh -o UserKnownHostsFile=$hosts" GIT_ASKPASS=$home/askpass
"""

ASKPASS = """\
cat > "$home/askpass" <<'END'
#!/bin/sh
asked=${{1#* for [\\"\\']}}
asked=${{asked%[\\"\\']*}}
host=${{asked#*://}}
own=${{K8R_GIT_URL#*://}}
[ "${{asked%%://*}}://${{host##*@}}" = "${{K8R_GIT_URL%%://*}}://${{own%%/*}}" ] || exit 1
case $1 in
Username*) {username} ;;
*) {password} ;;
esac
END
chmod 700 "$home/askpass"
umask 022
"""
"""git asks it for a login, naming the scheme and host, and so does git-lfs; only those of
the repository's own URL are told, not those that its submodules or a redirect name."""


CLONE = """\
export GIT_TERMINAL_PROMPT=0 LC_ALL=C
cd {workspace}
case $K8R_GIT_REF in
HEAD | refs/*) ;;
*) named=$(git ls-remote "$K8R_GIT_URL" "refs/heads/$K8R_GIT_REF" "refs/tags/$K8R_GIT_REF")
  if [ "$(echo "$named" | wc -l)" -gt 1 ]; then
    echo "k8r: $K8R_GIT_REF is a branch and a tag; say which:" \
      "--ref refs/heads/$K8R_GIT_REF or --ref refs/tags/$K8R_GIT_REF" >&2
    exit 128
  fi ;;
esac
start() {{
  git init -q "$@" .
  git remote add origin "$K8R_GIT_URL"
  : > .git/k8r
}}
fetch() {{
  git fetch -q "$@" 2> "$home/error" && return
  format=$(sed -n 's/.*mismatched algorithms.* server //p' "$home/error")
  [ -n "$format" ] && rm -rf .git && start --object-format="$format" &&
    git fetch -q "$@" 2> "$home/error"
}}
force=
if [ -e .git/k8r ]; then
  rm -rf .git
  force=-f
fi
start
commit=FETCH_HEAD
if ! fetch --depth "$K8R_GIT_DEPTH" origin "$K8R_GIT_REF"; then
  if echo "$K8R_GIT_REF" | grep -Eq '^[0-9a-fA-F]{{4,64}}$' &&
    fetch --tags origin '+refs/heads/*:refs/remotes/origin/*'; then
    commit=$K8R_GIT_REF
  else
    cat "$home/error" >&2
    [ -n "$(git ls-remote origin || echo unknown)" ] || echo "k8r: the repository is empty" >&2
    exit 128
  fi
fi
lfs="git config --get-regexp filter[.]lfs[.](smudge|process)"
if ! $lfs > "$home/lfs" && git lfs version > "$home/lfs" 2>&1; then
  git lfs install --local --skip-repo > "$home/lfs"
fi
git checkout -q $force --detach "$commit"
if ! $lfs > "$home/lfs" && [ -n "$(git ls-files ':(attr:filter=lfs)' | tee "$home/lfs")" ]; then
  echo "the image that clones lacks git lfs: of $(wc -l < "$home/lfs") files only pointers are" \
    "here, such as $(head -n 1 "$home/lfs")" > {note}
fi
git submodule --quiet update --init --recursive --depth "$K8R_GIT_DEPTH" 2> /dev/null || {{
  git submodule --quiet deinit -f --all
  rm -rf .git/modules
  git submodule --quiet update --init --recursive
}}
chmod -R a+rwX . 2> /dev/null || :
echo "{mark}$(git rev-parse HEAD)" 2> /dev/null >> {told} || :
"""
"""Fetches one commit; a short one is looked for in the whole history, since a
server knows only names and full ids; so is a submodule's commit, where the
server gives away named ones only. Credentials reach git and ssh by files
that nobody else reads, and never by an argument, a variable or .git/config.
The command may run as another user than the clone, hence the last line. A node
that restarts runs it again, hence the mark in .git and files that can be rewritten."""

LOCAL_CLONE = """\
set -eu
home={home}
[ -z "${{K8R_GIT_USER-}}${{K8R_GIT_PASSWORD-}}" ] || export GIT_ASKPASS=$home/askpass
"""
"""In place of CLONE_ACCESS where the user's own git has the user's own access."""


def build_unpack_script(chunks: int, workspace: str = "", mount: str = "") -> str:
    """Shell text that extracts the archive and runs the startup script.

    -o gives the files to the user that extracts them, whoever that is.
    """
    workspace, mount = shlex.quote(workspace or WORKSPACE), shlex.quote(mount or ARCHIVE_MOUNT)
    if chunks == 1:
        unpack = f"tar -xzof {mount}/part-00"
    else:
        unpack = f"cat {mount}/part-* | tar -xzof -"
    return UNPACK.format(workspace=workspace, unpack=unpack) + STARTUP.format(
        startup=STARTUP_SCRIPT
    )


def make_setup_mark(run: str) -> str:
    """What the lines begin with that a run prints before and after its setup."""
    return f"k8r-setup-{run}"


def build_setup_script(work: Workload) -> str:
    """Shell text that runs --setup. A terminal shows all that is said as it is."""
    text, mark = work.options.setup, f"echo {make_setup_mark(work.run_id)}"
    begin, end = ("", "") if work.options.tty else (f"{mark} begin\n", f"{mark} end\n")
    return SETUP.format(text=shlex.quote(text), begin=begin, end=end) if text else ""


def build_clone_script() -> str:
    """Shell text that clones to the workspace."""
    script = CLONE_ACCESS + ASKPASS + CLONE
    return script.format(
        home=GIT_HOME,
        secret=GIT_SECRET_MOUNT,
        workspace=WORKSPACE,
        username=f"cat {GIT_HOME}/username 2> /dev/null || echo x-access-token",
        password=f"cat {GIT_HOME}/password 2> /dev/null",
        note=CLONE_NOTE,
        mark=COMMIT_MARK,
        told=CLONE_NOTE,
    )


def build_local_clone_script(workspace: str, home: str) -> str:
    """Shell text that clones on this machine."""
    script = LOCAL_CLONE + ASKPASS + CLONE
    return script.format(
        home=shlex.quote(home),
        workspace=shlex.quote(workspace),
        username="printf '%s\\n' \"$K8R_GIT_USER\"",
        password="printf '%s\\n' \"$K8R_GIT_PASSWORD\"",
        note="/dev/stderr",
        mark=COMMIT_MARK,
        told="/dev/null",
    )


def build_cloned_script(workspace: str = "", clone: str = "") -> str:
    """Shell text that runs before the command in a clone, or in a copy of one."""
    script = (COPY if clone else "") + CLONED + STARTUP
    workspace, clone = shlex.quote(workspace or WORKSPACE), shlex.quote(clone)
    return script.format(workspace=workspace, clone=clone, startup=STARTUP_SCRIPT)


# ==============================================================================
# Manifests
# ==============================================================================

# Pods

RESTRICTED_UID = 65534
STAY_ANNOTATIONS = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
DISRUPTIONS_IGNORED = {
    "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]
}
"""A pod that the cluster takes away costs no retry (Kubernetes 1.26 or newer)."""
STABLE_AFTER = 5
"""Seconds that a Deployment's pod must run to count as available: without a
probe Kubernetes would call one that crashes at once available, too. The
kubelet's first restart comes at once, so that it may look well for some 3 s."""


def prune(value: Object) -> Object:
    """Leave out what is None or empty, so that manifests say only what they mean."""
    return {key: item for key, item in value.items() if item not in (None, "", [], {}, ())}


def build_labels(work: Workload) -> Dict[str, str]:
    """The labels of everything that belongs to a run."""
    every = {
        **dict(work.options.label),
        LABEL_CREATED_BY: CREATED_BY,
        LABEL_JOB: work.name,
        LABEL_SOURCE_TYPE: work.source_type,
    }
    return dict(every, **{LABEL_TYPE: DEPLOYMENT}) if work.options.as_deployment else every


def build_metadata(work: Workload, name: str) -> Object:
    """The metadata of an object of a run.

    The run's id tells an object that an earlier, unanswered request made from
    one that somebody else owns.
    """
    return {
        "name": name,
        "labels": build_labels(work),
        "annotations": {ANNOTATION_RUN_ID: work.run_id, ANNOTATION_BASE: work.base},
    }


def name_archive_part(work: Workload, part: int) -> str:
    """The name of the ConfigMap with that part of the archive."""
    return f"{work.name}-{work.run_id}-{part:02d}"


def quote(text: str) -> str:
    """A word for any POSIX shell that stands for that text, be it empty or of several lines."""
    return "'" + text.replace("'", "'\\''") + "'"


def build_words(options: RunOptions) -> List[str]:
    """The command as a shell is given it.

    A shell hands on no variable that it could not name itself, such as discovery.type.
    """
    odd = ["=".join(pair) for pair in options.env if not re.fullmatch(r"\w+", pair[0])]
    return [*(["env", "--", *odd] if odd and options.command else []), *options.command]


def list_indexes(options: RunOptions) -> Sequence[int]:
    """The indexes that the pods are told."""
    return [row.number for row in options.rows] or range(options.num)


def build_record(row: Row, options: RunOptions) -> str:
    """Shell text that gives a row's pod its variables and the words of its command."""
    words = build_words(options)
    own = (("K8R_INDEX", str(row.number)), ("K8R_COUNT", str(options.total or options.num)))
    variables = "".join(f" {key}={quote(value)}" for key, value in (*own, *row.variables))
    first, arguments = len(words) - len(options.command), ""
    for number, word in enumerate(words):
        filled = expand(word, row) if number >= first else word
        arguments += f' "${{{number + 1}}}"' if filled == word else f" {quote(filled)}"
    return f"export{variables}\nset --{arguments}\n;;\n"


def build_tables(options: RunOptions) -> Tuple[Mapping[str, str], ...]:
    """The data of the ConfigMaps with the rows: files of shell text, each for ROWS_IN_FILE of
    a Job's own indexes. Raises UsageError if there is too much of it. A single index that
    has no line needs none: variables of the container tell it.
    """
    if len(options.rows) == 1 and not options.rows[0].variables:
        return ()
    tables: List[Dict[str, str]] = []
    records = [build_record(row, options) for row in options.rows]
    for record in records if options.rows else ():
        check_argument("a line with the words of the command", record)
    for start in range(0, len(records), ROWS_IN_FILE):
        some = enumerate(records[start : start + ROWS_IN_FILE], start)
        cases = "".join(f"{index})\n{record}" for index, record in some)
        text = f"case ${{JOB_COMPLETION_INDEX:-0}} in\n{cases}esac\n"
        if len(text.encode()) > TABLE_SIZE:
            problem = f"{ROWS_IN_FILE} lines with the words of the command have"
            problem += f" {format_size(len(text.encode()))}, {format_size(TABLE_SIZE)} are allowed"
            raise UsageError(problem, "put what is long into files of the directory")
        if not tables or sum(map(len, tables[-1].values())) + len(text) > TABLE_SIZE:
            tables.append({})
        tables[-1][str(start // ROWS_IN_FILE)] = text
    return tuple(tables)


def escape_references(text: str) -> str:
    """Text that reaches a container as it is: in commands, arguments and values
    Kubernetes replaces `$(NAME)` by the variable, and `$$` by `$`.
    """
    return re.sub(r"\$(?=[$(])", "$$", text)


def build_own_variables(work: Workload, index: str = "0") -> Dict[str, str]:
    """The variables that k8r sets.

    PYTHONUNBUFFERED, since a Python that writes to a pipe would hold its output
    back for kilobytes.
    """
    return {
        "PYTHONUNBUFFERED": "1",
        "K8R_JOB": work.name,
        "K8R_COUNT": str(work.options.total or work.options.num),
        "K8R_INDEX": str(work.options.rows[0].number) if len(work.options.rows) == 1 else index,
        **(build_node_variables(work) if work.options.nodes else {}),
    }


def build_node_variables(work: Workload) -> Dict[str, str]:
    """By what the nodes of one program find each other; those with PET_ are the defaults of
    torchrun's options (torch/distributed/run.py), which starts a process for each GPU.
    """
    names = [f"{work.name}-{rank}.{work.name}" for rank in range(work.options.num)]
    common = {"MASTER_ADDR": names[0], "MASTER_PORT": "29500", "NNODES": str(len(names))}
    common["NODE_RANK"] = "0"
    gpus = {"PET_NPROC_PER_NODE": dict(work.options.resources.limits).get(GPU)}
    own = {f"PET_{name}": value for name, value in common.items()}
    return {"K8R_NODES": ",".join(names), **common, **own, **prune(gpus)}


def build_environment(work: Workload) -> List[Object]:
    """The container's variables, the user's own after k8r's."""
    variables: Dict[str, Object] = {
        key: {"name": key, "value": value} for key, value in build_own_variables(work).items()
    }
    if work.options.num > 1 and not work.options.as_deployment:
        field = {"fieldPath": f"metadata.annotations['{INDEX_ANNOTATION}']"}
        for name in {"K8R_INDEX", "NODE_RANK", "PET_NODE_RANK"} & set(variables):
            variables[name] = {"name": name, "valueFrom": {"fieldRef": field}}
    for use in work.secrets:
        for name, key in list_secret_variables(use).items():
            reference = {"name": use.object_name, "key": key}
            variables[name] = {"name": name, "valueFrom": {"secretKeyRef": reference}}
    for key, value in work.options.env:
        variables[key] = {"name": key, "value": escape_references(value)}
    return list(variables.values())


def build_volumes(work: Workload) -> List[Object]:
    """The workspace, the archive's parts under one projected volume, the secrets."""
    found: List[Object] = []
    if work.chunks or work.clone:
        found.append({"name": "workspace", "emptyDir": {}})
    for name, parts in list_parts(work).items():
        sources = [{"configMap": part} for part in parts]
        found += [{"name": name, "projected": {"sources": sources}}] if parts else []
    if work.clone:
        found.append({"name": "git-home", "emptyDir": {"medium": "Memory"}})
        if work.clone.secret:
            found.append({"name": "git-secret", "secret": {"secretName": work.clone.secret}})
    for number, use in enumerate(work.secrets):
        found.append({"name": f"secret-{number}", "secret": {"secretName": use.object_name}})
    found += [{"name": name, "emptyDir": {}} for name in list_result_volumes(work)]
    for number, (claim, _) in enumerate(work.options.volume):
        source = {"claimName": claim}
        found.append({"name": f"volume-{number}", "persistentVolumeClaim": source})
    if has_shm(work):
        source = prune({"medium": "Memory", "sizeLimit": work.options.shm})
        found.append({"name": "shm", "emptyDir": source})
    return found


def list_parts(work: Workload) -> Dict[str, List[Object]]:
    """The ConfigMaps of the volumes that have the archive and the rows."""
    archive: List[Object] = []
    for part in range(work.chunks):
        items = [{"key": "archive", "path": f"part-{part:02d}"}]
        archive.append({"name": name_archive_part(work, part), "items": items})
    tables = [{"name": name_table(work, number)} for number in range(len(work.tables))]
    return {"source": archive, EACH: tables}


def list_result_volumes(work: Workload) -> Dict[str, str]:
    """The paths of the volumes for results: one for k8r itself, and those of absolute paths."""
    paths = [path for path, _ in work.options.out if not locate(path).startswith(f"{WORKSPACE}/")]
    paths = [RESULTS_MOUNT, *paths] if work.options.out else []
    return {f"results-{number}": path for number, path in enumerate(paths)}


def locate(path: str) -> str:
    """The absolute path of a result."""
    return posixpath.join(WORKSPACE, path)


def has_shm(work: Workload) -> bool:
    """Whether there is more shared memory than 64 MiB, which training on a GPU soon fills."""
    return bool(work.options.shm) or GPU in dict(work.options.resources.limits)


def build_mounts(work: Workload) -> List[Object]:
    """Where the user's container finds those volumes."""
    found: List[Object] = []
    if work.chunks or work.clone:
        found.append({"name": "workspace", "mountPath": WORKSPACE})
    if work.chunks:
        found.append({"name": "source", "mountPath": ARCHIVE_MOUNT, "readOnly": True})
    if work.tables:
        found.append({"name": EACH, "mountPath": ROWS_MOUNT, "readOnly": True})
    for number, use in enumerate(work.secrets):
        path = f"{SECRET_MOUNT}/{use.name}"
        found.append({"name": f"secret-{number}", "mountPath": path, "readOnly": True})
    for name, path in list_result_volumes(work).items():
        found.append({"name": name, "mountPath": path})
    for number, (_, place) in enumerate(work.options.volume):
        path, _, mode = place.partition(":")
        mount = {"name": f"volume-{number}", "mountPath": path, "readOnly": mode == "ro" or None}
        found.append(prune(mount))
    return found + [{"name": "shm", "mountPath": "/dev/shm"}] * has_shm(work)


def build_git_settings(settings: Mapping[str, str]) -> Dict[str, str]:
    """The variables that configure git (git-config(1), GIT_CONFIG_COUNT)."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, key in enumerate(settings):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = settings[key]
    return variables


def list_variables(variables: Mapping[str, str]) -> List[Object]:
    """Variables as a container has them."""
    return [{"name": key, "value": escape_references(variables[key])} for key in variables]


SAFE_DIRECTORY = {"safe.directory": "*"}
"""Lets git work in a workspace that belongs to another user."""


def build_clone_variables(clone: Clone) -> Dict[str, str]:
    """What the script that clones has to know."""
    return {
        "K8R_GIT_URL": clone.url,
        "K8R_GIT_REF": clone.options.ref or "HEAD",
        "K8R_GIT_DEPTH": str(clone.options.depth),
        "K8R_GIT_HOST_KEYS": "no" if clone.options.any_host_key else "yes",
    }


def build_local_clone_variables(clone: Clone, user: str, password: str) -> Dict[str, str]:
    """What the script that clones on this machine has to know. A login from the URL is in
    no argument and no file, and no helper of the user's git is asked for one or keeps it.
    """
    settings = {"core.hooksPath": "/dev/null", "core.fsmonitor": "false"}
    login = {"K8R_GIT_USER": user, "K8R_GIT_PASSWORD": password} if user or password else {}
    if login:
        settings[f"credential.{get_origin(clone.url)}.helper"] = ""
    return {**build_clone_variables(clone), **build_git_settings(settings), **login}


def build_resources(work: Workload) -> Object:
    """What a container asks of a node; a quota counts the one that clones, too."""
    return prune({key: dict(amounts) for key, amounts in work.options.resources._asdict().items()})


def build_clone_container(work: Workload, clone: Clone) -> Object:
    """The init container that clones a repository."""
    settings = {**SAFE_DIRECTORY, "core.hooksPath": "/dev/null", "credential.useHttpPath": "false"}
    variables = {**build_clone_variables(clone), **build_git_settings(settings)}
    places: List[Object] = [
        {"name": "workspace", "mountPath": WORKSPACE},
        {"name": "git-home", "mountPath": GIT_HOME},
    ]
    if clone.secret:
        places.append({"name": "git-secret", "mountPath": GIT_SECRET_MOUNT, "readOnly": True})
    return prune(
        {
            "name": CLONE_NAME,
            "image": clone.options.image,
            "command": ["sh", "-c", escape_references(build_clone_script())],
            "env": list_variables(variables),
            "resources": build_resources(work),
            "volumeMounts": places,
            "securityContext": HARDENED if work.options.restricted else None,
        }
    )


def build_command_line(
    work: Workload, escape: Callable[[str], str] = escape_references
) -> Tuple[List[str], List[str]]:
    """The container's command and args, each word through ``escape``.

    A command reaches the container as the argument list that it is: the shell
    that unpacks gets it as "$@" and replaces itself by it.
    """
    options = work.options
    setup = (AWAIT_TERMINAL if options.tty and options.command else "") + work.setup
    setup += build_setup_script(work) + (AWAIT_NODES if options.nodes else "")
    setup = (PICK_ROW if work.tables else "") + setup
    if not setup:
        return [escape(word) for word in options.command], []
    words = [escape(word) for word in build_words(options)]
    return ["sh", "-c", escape(setup + RUN), "sh"], words


def find_runtime(options: RunOptions) -> str:
    """The first word of the command, else of --setup, that needs an image of its own, or ""."""
    words = [*options.command[:1], *(options.setup or "").split()[:1]]
    return next((word for word in map(posixpath.basename, words) if word in RUNTIME_IMAGES), "")


def get_spec_field(template: Object, field: str) -> Any:
    """What stands in the spec of a pod template; where a patch made that, it may be anything."""
    spec = template.get("spec")
    return spec.get(field) if isinstance(spec, dict) else None


def find_container(template: Object, name: str) -> Object:
    """A container of a pod or its template, {} if there is none of that name."""
    every = get_spec_field(template, "containers")
    found = [item for item in every if isinstance(item, dict)] if isinstance(every, list) else []
    return next((item for item in found if item.get("name") == name), {})


def build_results_container(work: Workload) -> Object:
    """The container that keeps what --out names. An image that unpacks can pack, too; of that
    of another source it is not known.
    """
    grace = get_spec_field(work.options.patch, "terminationGracePeriodSeconds")
    late = (grace if isinstance(grace, int) else 30) * 2 // 3
    script = KEEP.format(mount=RESULTS_MOUNT, late=late, limit=LOG_LIMIT, hold=work.hold)
    mounts = build_mounts(work)
    return prune(
        {
            "name": RESULTS_NAME,
            "image": work.image if work.chunks else DEFAULT_IMAGE,
            "command": ["sh", "-c", escape_references(script), "k8r"]
            + [escape_references(f".{locate(path)}") for path, _ in work.options.out],
            "workingDir": WORKSPACE if work.chunks or work.clone else None,
            "resources": {
                "requests": {"cpu": "10m", "memory": "32Mi"},
                "limits": {"cpu": "1", "memory": "64Mi"},
            },
            "volumeMounts": [
                item for item in mounts if re.match("workspace|results-", item["name"])
            ],
            "securityContext": HARDENED if work.options.restricted else None,
        }
    )


HARDENED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""What the Pod Security Standard "restricted" asks of each container."""


def build_container(work: Workload) -> Object:
    """The container that runs the user's command."""
    begin = BEGIN.format(mount=RESULTS_MOUNT) if work.options.out else ""
    command, args = build_command_line(work._replace(setup=begin + work.setup))
    return prune(
        {
            "name": CONTAINER_NAME,
            "image": work.image,
            "command": command,
            "args": args,
            "workingDir": WORKSPACE if work.chunks or work.clone else None,
            "env": build_environment(work)
            + (list_variables(build_git_settings(SAFE_DIRECTORY)) if work.clone else []),
            "ports": [{"containerPort": port} for port in work.ports],
            "resources": build_resources(work),
            "volumeMounts": build_mounts(work),
            "securityContext": HARDENED if work.options.restricted else None,
            "stdin": work.options.stdin or work.options.tty or None,
            "stdinOnce": (work.options.stdin and not work.options.tty) or None,
            "tty": work.options.tty or None,
        }
    )


GPU_LABELS = "nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "skypilot.co/accelerator"
"""By which nodes tell the type of their GPUs: of NVIDIA's feature discovery, GKE, SkyPilot."""
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def build_gpu_affinity(kind: str) -> Object:
    """What keeps a pod to nodes with GPUs of a type, which each label writes in its own way."""
    low = kind.lower()
    forms = dict.fromkeys([kind, low, f"nvidia-{low}", f"nvidia-tesla-{low}", f"NVIDIA-{kind}"])
    wanted = {"operator": "In", "values": [form for form in forms if len(form) <= NAME_LIMIT]}
    terms = [{"matchExpressions": [{"key": key, **wanted}]} for key in GPU_LABELS]
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}


def build_pod_template(work: Workload, restart: str) -> Object:
    """The pod that every kind of workload runs.

    enableServiceLinks is off, for a namespace with many Services would fill the
    environment. No code gets the token of an account that was not asked for, and
    without that volume the kubelet starts a container some 0.2 s sooner. The
    security context is that of the Pod Security Standard "restricted".
    """
    options = work.options
    named = options.service_account or get_spec_field(options.patch, "serviceAccountName")
    restricted = {
        "runAsNonRoot": True,
        "runAsUser": RESTRICTED_UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    annotations = {ANNOTATION_RUN_ID: work.run_id, **(STAY_ANNOTATIONS if work.lasting else {})}
    annotations.update(build_index_notes(options))
    template = {
        "metadata": {"labels": build_labels(work), "annotations": annotations},
        "spec": prune(
            {
                "restartPolicy": restart,
                "subdomain": work.name * options.nodes,
                "nodeSelector": dict(options.node_selector),
                "affinity": build_gpu_affinity(options.gpu_type) if options.gpu_type else None,
                "tolerations": list(options.toleration),
                "serviceAccountName": options.service_account,
                "enableServiceLinks": False,
                "priorityClassName": None if options.queue else options.priority,
                "automountServiceAccountToken": None if named else False,
                "imagePullSecrets": [{"name": name} for name in options.pull_secrets],
                "securityContext": restricted if options.restricted else None,
                "initContainers": [build_clone_container(work, work.clone)] if work.clone else None,
                "containers": [build_container(work)]
                + ([build_results_container(work)] if options.out else []),
                "volumes": build_volumes(work),
            }
        ),
    }
    merged: Object = merge(template, options.patch)
    context = find_container(merged, CONTAINER_NAME).get("securityContext")
    results = find_container(merged, RESULTS_NAME)
    if isinstance(context, dict) and results:  # nobody else may be able to read the results
        results["securityContext"] = {**results.get("securityContext", {}), **context}
    return merged


MERGE_KEYS = {
    "hostAliases": ["ip"],
    "ownerReferences": ["uid"],
    "ports": ["containerPort", "protocol"],
    "topologySpreadConstraints": ["topologyKey"],
    "volumeDevices": ["devicePath"],
    "volumeMounts": ["mountPath"],
}
MERGE_KEYS.update(dict.fromkeys("containers env ephemeralContainers".split(), ["name"]))
MERGE_KEYS.update(dict.fromkeys("imagePullSecrets initContainers".split(), ["name"]))
MERGE_KEYS.update(dict.fromkeys("resourceClaims schedulingGates volumes".split(), ["name"]))
"""What tells the elements of a pod template's lists apart (patchMergeKey in the API's types);
of ports also the protocol, since one number may stand for both of TCP and UDP."""


def merge(base: Any, patch: Any, field: str = "") -> Any:
    """Merge a patch into JSON data as kubectl patch does (strategic merge patch): objects
    by key, the lists of MERGE_KEYS by element, anything else is replaced; null removes,
    and `$patch` may say replace or delete. Raises UsageError for other directives.
    """
    if isinstance(patch, list) and field in MERGE_KEYS:
        return merge_lists(base or [], patch, MERGE_KEYS[field], field)
    if not isinstance(patch, dict):
        return patch
    how = read_directive(patch)
    if how == "delete":
        return {}
    base = base if isinstance(base, dict) and how == "merge" else {}
    both = {**base, **{key: merge(base.get(key), item, key) for key, item in patch.items()}}
    both.pop("$patch", None)
    return {key: item for key, item in both.items() if patch.get(key, item) is not None}


def read_directive(patch: Object) -> str:
    """What `$patch` says of an object. Raises UsageError for all else that begins so."""
    how = patch.get("$patch", "merge")
    for word in patch:
        if word == "$patch" and how in ("merge", "replace", "delete"):
            continue
        if str(word).startswith("$"):
            raise UsageError(
                f"the patch has {word}, which k8r does not know so",
                "write null to remove a field, `$patch: delete` to remove a list's element",
            )
    return str(how)


def find_element(items: Mapping[int, Any], wanted: Object, keys: List[str]) -> Optional[int]:
    """Where among the items one has these keys in common with another."""
    place = [wanted.get(key, "TCP") for key in keys]
    for at, item in items.items():
        if place == [item.get(key, "TCP") for key in keys]:
            return at
    return None


def merge_lists(base: List[Any], patch: List[Any], keys: List[str], field: str) -> List[Any]:
    """Merge elements with equal keys. No two of one patch are made one."""
    for item in patch:
        if not isinstance(item, dict) or not {keys[0], "$patch"} & set(item):
            raise UsageError(f"in the patch an element of {field} has no {keys[0]}", "add it")
    replaced = any(item.get("$patch") == "replace" for item in patch)
    merged = dict(enumerate([] if replaced else base))
    left = dict(merged)
    for item in patch:
        if item.get("$patch") != "replace":
            at = find_element(left, item, keys)
            at = len(merged) if at is None else at
            merged[at] = merge(left.pop(at, None), item) or None
    return [item for item in merged.values() if item is not None]


# Objects


def build_object(kind: str, metadata: Object, **rest: Any) -> Object:
    """An object of the API: what all of them have, and the rest."""
    version = {"Job": "batch/v1", "Deployment": "apps/v1"}.get(kind, "v1")
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


PASSING = "build total detach former local remove remove_secrets replace rows show_yaml".split()
"""Options that say nothing of what a run is, or that would keep what is no affair of a Job."""
NOTE_LIMIT = 1 << 16


def build_notes(work: Workload) -> Dict[str, str]:
    """Annotations of a Job for `retry`: its options, if they are not too long, and its indexes."""
    options, plain = work.options, RunOptions("")._asdict()
    kept = {k: v for k, v in options._asdict().items() if v != plain[k] and k not in PASSING}
    if work.clone:
        kept["source"] = work.clone.url
    note = json.dumps(prune({**kept, "digest": work.digest}))
    notes = {ANNOTATION_OPTIONS: note} if len(note) < NOTE_LIMIT else {}
    return {**notes, **build_index_notes(options)}


def build_index_notes(options: RunOptions) -> Dict[str, str]:
    """Annotations of a Job that has indexes of another, and of its pods."""
    if options.total is None:
        return {}
    indexes = ",".join(list_ranges(row.number for row in options.rows))
    return {ANNOTATION_INDEXES: indexes, ANNOTATION_COUNT: str(options.total)}


MOST_RETRIES = (1 << 31) - 1
"""What the API's number holds."""


def build_job(work: Workload) -> Object:
    """The Job of a run.

    restartPolicy Never keeps each attempt's pod, and so its log. With several
    indexes the limit counts for each of them, so that one that fails takes no
    other down (Kubernetes 1.29 or newer); backoffLimit bounds older clusters. The first
    failure of several nodes ends all; that no rank is there twice older ones leave out.
    """
    options, template = work.options, build_pod_template(work, "Never")
    many, attempts = options.num > 1, options.num * (options.retry + 1)
    apart = many and not options.nodes
    restart = get_spec_field(template, "restartPolicy")
    lenient = options.retry and restart == "Never"  # the API wants both
    spec = {
        "completions": options.num,
        "parallelism": min(options.parallel or options.num, options.num),
        "completionMode": "Indexed" if many else None,
        "backoffLimitPerIndex": options.retry if apart else None,
        "backoffLimit": min(attempts, MOST_RETRIES) if apart else options.retry,
        "podReplacementPolicy": "Failed" * options.nodes,
        "podFailurePolicy": DISRUPTIONS_IGNORED if lenient else None,
        "activeDeadlineSeconds": work.timeout,
        "ttlSecondsAfterFinished": work.ttl,
        "template": template,
    }
    metadata = build_metadata(work, work.name)
    if options.queue:
        labels = {QUEUE_LABEL: options.queue, PRIORITY_LABEL: options.priority}
        metadata["labels"].update(prune(labels))
    metadata["annotations"].update(build_notes(work))
    if options.out:
        metadata["annotations"][ANNOTATION_OUT] = json.dumps([path for path, _ in options.out])
    if options.nodes:
        metadata["annotations"][ANNOTATION_NODES] = str(options.num)
    return build_object("Job", metadata, spec=prune(spec))


def build_deployment(work: Workload) -> Object:
    """The Deployment of a run. Its selector never changes, the run id may."""
    spec = {
        "replicas": work.options.num,
        "minReadySeconds": STABLE_AFTER,
        "selector": {"matchLabels": {LABEL_JOB: work.name, LABEL_TYPE: DEPLOYMENT}},
        "template": build_pod_template(work, "Always"),
    }
    metadata = build_metadata(work, work.name)
    metadata["annotations"].update(prune({ANNOTATION_ORIGIN: work.origin}))
    return build_object("Deployment", metadata, spec=spec)


def build_service(work: Workload) -> Object:
    """The Service in front of a Deployment, or the one by which nodes have names."""
    spec: Object = {
        "selector": {LABEL_JOB: work.name, LABEL_TYPE: DEPLOYMENT},
        "ports": [{"name": f"port-{port}", "port": port} for port in work.ports],
    }
    if work.options.nodes:
        spec = {"selector": {"job-name": work.name}, "clusterIP": "None"}
        spec["publishNotReadyAddresses"] = True  # before any of them is ready
    return build_object("Service", build_metadata(work, work.name), spec=spec)


def build_root(work: Workload) -> Object:
    """The object that owns all others of a run. Raises UsageError for a name that its Service
    cannot have (RFC 1035).
    """
    if (work.ports or work.options.nodes) and work.name[0].isdigit():
        what = f"the name {work.name} begins with a digit, and that of a Service must not"
        raise UsageError(what, "choose a --job-name")
    return build_deployment(work) if work.options.as_deployment else build_job(work)


def build_secret(name: str, job: str, data: Mapping[str, bytes], given: bool = False) -> Object:
    """A secret of the user. Raises UsageError. Which keys can be variables is noted beside the
    values, so that a run need not read these; and whether the job's name was ``given``.
    """
    parse_secret_name(name)
    check_secret_data(name, data)
    usable = [
        key for key in sorted(data) if is_variable_value(make_variable_name(name, key), data[key])
    ]
    notes = {ANNOTATION_KEYS: json.dumps(usable), ANNOTATION_GIVEN: json.dumps(given)}
    metadata = {
        "name": f"{job}-{name}",
        "labels": {LABEL_CREATED_BY: CREATED_BY, LABEL_JOB: job, LABEL_SECRET: name},
        "annotations": notes,
    }
    return build_object("Secret", metadata, type="Opaque", data=encode_data(data))


def build_clone_secret(work: Workload, user: str, password: str) -> Object:
    """The Secret for the credentials that a git URL had in it."""
    data = {"username": user.encode(), "password": password.encode()}
    metadata = build_metadata(work, name_clone_secret(work))
    return build_object("Secret", metadata, type="Opaque", data=encode_data(data))


def name_clone_secret(work: Workload) -> str:
    """The name of the Secret for a git URL's credentials."""
    return f"{work.name}-{work.run_id}-git"


def encode_data(data: Mapping[str, bytes]) -> Dict[str, str]:
    """The data of a Secret."""
    return {key: base64.b64encode(data[key]).decode("ascii") for key in sorted(data)}


def mask_values(item: Object) -> Object:
    """A Secret with its values hidden."""
    hidden = base64.b64encode(b"***").decode("ascii")
    return dict(item, data={key: hidden for key in item["data"]})


def build_configmap(work: Workload, part: int, data: bytes) -> Object:
    """One part of the archive."""
    content = {"archive": base64.b64encode(data).decode("ascii")}
    metadata = build_metadata(work, name_archive_part(work, part))
    metadata["annotations"][ANNOTATION_SIZE] = str(len(data))
    return build_object("ConfigMap", metadata, immutable=True, binaryData=content)


def name_table(work: Workload, number: int) -> str:
    """The name of the ConfigMap with that table of rows."""
    return f"{work.name}-{work.run_id}-{EACH}-{number:02d}"


def build_table_configmap(work: Workload, number: int) -> Object:
    """One table of rows. It is kept for `ls` and `retry`, also when the archive goes."""
    metadata = build_metadata(work, name_table(work, number))
    metadata["labels"][LABEL_TYPE] = EACH
    return build_object("ConfigMap", metadata, immutable=True, data=work.tables[number])


def suspend_root(root: Object) -> Object:
    """A Job or Deployment that is not to start yet, be it by a queue."""
    if root["kind"] == "Deployment":
        return dict(root, spec={**root["spec"], "replicas": 0})
    metadata = merge(root["metadata"], {"annotations": {GATE_ANNOTATION: GATE}})
    return dict(root, metadata=metadata, spec={**root["spec"], "suspend": True})


def build_resumption(root: Object, queued: bool = False) -> Object:
    """The patch that starts what `suspend_root` held back, or lets a queue start it."""
    if root["kind"] == "Deployment":
        return {"spec": {"replicas": root["spec"]["replicas"]}}
    gate = {"metadata": {"annotations": {GATE_ANNOTATION: None}}}
    return gate if queued else dict(gate, spec={"suspend": False})


def set_owner(child: Object, owner: Object) -> Object:
    """A child that is removed with its owner."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }
    return dict(child, metadata=dict(child["metadata"], ownerReferences=[reference]))


# ==============================================================================
# Objects
# ==============================================================================


def get_annotations(item: Object) -> Dict[str, str]:
    """The annotations of an object, which may have none."""
    return item["metadata"].get("annotations") or {}


def get_labels(item: Optional[Object]) -> Dict[str, str]:
    """The labels of an object, which may have none, or be None."""
    return ((item or {}).get("metadata") or {}).get("labels") or {}


def is_ours(item: Optional[Object]) -> bool:
    """Whether k8r has made that object."""
    return get_labels(item).get(LABEL_CREATED_BY) == CREATED_BY


def get_run_id(item: Object) -> str:
    """The id of the run that an object belongs to."""
    return str(get_annotations(item).get(ANNOTATION_RUN_ID) or "")


def find_setup_mark(root: Object) -> str:
    """The mark of the setup in the logs of a Job or Deployment, "" if it has none."""
    mark = make_setup_mark(get_run_id(root))
    script = find_container(root["spec"]["template"], CONTAINER_NAME).get("command")
    return mark if mark in str(script) else ""


def get_clone_note(pod: Object) -> str:
    """What the container that cloned has to say although it succeeded."""
    message = get_state(find_status(pod, CLONE_NAME), "terminated").get("message") or ""
    return str(message).partition(COMMIT_MARK)[0]


def get_revision(pod: Object) -> str:
    """The commit that a pod has cloned, else what its image is by its digest, "" if its node
    does not tell: an image that was loaded into a node has none.
    """
    clone = get_state(find_status(pod, CLONE_NAME), "terminated").get("message") or ""
    if CLONE_NAME in str(pod["spec"].get("initContainers")):
        return str(clone).partition(COMMIT_MARK)[2].strip()
    image = str(find_container(pod, CONTAINER_NAME).get("image"))
    name = re.sub(r"(?::[^:/@]+)?(?:@.*)?\Z", "", image)
    known, at, digest = str(find_status(pod, CONTAINER_NAME).get("imageID") or "").partition("@")
    return f"{name}@{digest}" if at and f"/{known}".endswith(f"/{name}") else ""


def get_completions(job: Object) -> int:
    """How many pods of a Job are to succeed."""
    return int(job["spec"].get("completions") or 1)


def list_job_indexes(job: Object) -> Sequence[int]:
    """The indexes that a Job runs; of a `retry` those of the run before."""
    noted = get_annotations(job).get(ANNOTATION_INDEXES)
    return parse_indexes(noted) if noted else range(get_completions(job))


def is_numbered(root: Object) -> bool:
    """Whether results and lines are of one index among several."""
    return get_completions(root) > 1 or ANNOTATION_INDEXES in get_annotations(root)


def get_base_name(root: Object) -> str:
    """The name of a run without the `-1` of a second one."""
    return str(get_annotations(root).get(ANNOTATION_BASE) or root["metadata"]["name"])


def get_secrets(root: Object) -> Set[str]:
    """The Secrets that the pods of a run mount."""
    volumes = root["spec"]["template"]["spec"].get("volumes") or []
    return {volume["secret"].get("secretName", "") for volume in volumes if volume.get("secret")}


def belongs_to(pod: Object, uid: str) -> bool:
    """Whether a pod is owned by the object with that uid."""
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == uid for owner in owners)


# Pods


def get_pod_index(pod: Object) -> int:
    """The completion index of a Job's pod, 0 where it has none; of a `retry` that before."""
    notes = get_annotations(pod)
    index, noted = int(notes.get(INDEX_ANNOTATION, 0)), notes.get(ANNOTATION_INDEXES)
    return parse_indexes(noted)[index] if noted else index


def get_pod_suffix(pod: Object) -> str:
    """What tells a Deployment's pods apart: the last part of the name."""
    return str(pod["metadata"]["name"]).rpartition("-")[2]


def get_age_key(pod: Object) -> Tuple[str, int, str]:
    """A key that sorts pods by creation, attempts of one index in their order."""
    metadata = pod["metadata"]
    return get_creation(pod), get_pod_index(pod), metadata["name"]


def list_container_statuses(pod: Object) -> List[Object]:
    """The statuses of init and other containers, in the order they run."""
    status = pod.get("status") or {}
    return (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])


def find_status(pod: Object, container_name: str) -> Object:
    """The status of a container; empty while there is none."""
    statuses = list_container_statuses(pod)
    return next((status for status in statuses if status["name"] == container_name), {})


def get_state(status: Object, kind: str, which: str = "state") -> Object:
    """What a container's status says of its state, or of its `lastState`, if that is of
    this kind ("waiting", "running", "terminated"); else {}.
    """
    found: Object = (status.get(which) or {}).get(kind) or {}
    return found


def get_main_state(pod: Object) -> Object:
    """The state of the container that runs the user's command."""
    return find_status(pod, CONTAINER_NAME).get("state") or {}


def has_started(pod: Object) -> bool:
    """Whether the user's command runs or has run."""
    return bool({"running", "terminated"} & set(get_main_state(pod)))


def has_logs(pod: Object) -> bool:
    """Whether the user's command has run, be it in a container restarted since."""
    restarted = any(status.get("lastState") for status in list_container_statuses(pod))
    return restarted or has_started(pod)


def list_beside(pod: Object) -> List[Object]:
    """The statuses of containers that a pod cannot end without, beside the command's."""
    every = (pod.get("status") or {}).get("containerStatuses") or []
    return [status for status in every if status["name"] != CONTAINER_NAME]


def list_bystanders(pod: Object) -> List[Object]:
    """The statuses of containers that others have added, and that do not decide how a pod
    ends: native sidecars, which are restarted always, and whatever runs beside the command.
    """
    inits = pod["spec"].get("initContainers") or []
    natives = {item["name"] for item in inits if item.get("restartPolicy") == "Always"}
    found = list_container_statuses(pod)
    return [item for item in found if item["name"] in natives or item in list_beside(pod)]


def judge_pod(pod: Object) -> Optional[Outcome]:
    """How a pod ended; None while it has not, or if it will be tried again here.

    The command decides, and the init containers that end before it begins.
    """
    failed = (pod.get("status") or {}).get("phase") == "Failed"
    if pod["spec"].get("restartPolicy") != "Never" and not failed:
        return None
    bystanders = list_bystanders(pod)
    for container in list_container_statuses(pod):
        ended = get_state(container, "terminated")
        if container in bystanders:
            continue
        if not ended:
            break
        if ended.get("exitCode") or container["name"] == CONTAINER_NAME:
            return judge_end(pod, container["name"], ended)
    return judge_end(pod, CONTAINER_NAME, {}) if failed else None


def judge_end(pod: Object, name: str, ended: Object) -> Outcome:
    """How a pod ended whose deciding container came to that end, or {} if to none."""
    begun, finished = find_disruption(pod), parse_timestamp(ended.get("finishedAt") or "")
    disrupted = bool(begun) and not 0 < finished < begun
    reason = explain_disruption(pod) if disrupted else "" if begun else explain_phase(pod, ended)
    code = int(ended.get("exitCode", 0))
    if code:
        return Outcome(code, explain_end(ended, reason), name, disrupted)
    said = f"{reason}; its command ended with 0" if reason and ended else reason
    return Outcome(ExitCode.FAILED if reason else 0, said, name, disrupted)


def explain_phase(pod: Object, ended: Object) -> str:
    """Why a pod has failed, beside that end of its command and the ends of bystanders."""
    status = pod.get("status") or {}
    codes = [get_state(item, "terminated").get("exitCode") for item in list_beside(pod)]
    enough = ended.get("exitCode") or (ended and any(codes)) or status.get("phase") != "Failed"
    return str(status.get("reason") or ("" if enough else "the pod failed"))


DISRUPTIONS = {
    "EvictionByEvictionAPI": "it was evicted, as from a node that is drained",
    "PreemptionByScheduler": "it had to make room for a pod of higher priority",
    "DeletionByTaintManager": "its node does not tolerate it any more",
    "TerminationByKubelet": "its node ended it",
    "DeletionByPodGC": "its node is gone",
}
"""The reasons of a pod's condition DisruptionTarget."""


def find_disruption(pod: Object) -> float:
    """When something else began to end a pod, in seconds since the epoch; 0 if nothing did."""
    metadata, found = pod["metadata"], find_condition(pod, "DisruptionTarget")
    asked = parse_timestamp(metadata.get("deletionTimestamp") or "")
    asked -= int(metadata.get("deletionGracePeriodSeconds") or 0) if asked else 0
    return parse_timestamp(found.get("lastTransitionTime") or "") or asked


def explain_disruption(pod: Object) -> str:
    """What ended a pod, and why."""
    found = find_condition(pod, "DisruptionTarget")
    reason = str(found.get("reason") or "deleted")
    words = DISRUPTIONS.get(reason, found.get("message") or "it was told to end")
    return f"{pod['status'].get('reason') or reason}: {words}"


def list_failures(pod: Object) -> List[Tuple[str, Outcome]]:
    """The containers of others that have failed. Native sidecars are told to end after the
    command; how they end then is not a failure.
    """
    over, found = "terminated" in get_main_state(pod), []
    for status in [] if pod["metadata"].get("deletionTimestamp") else list_bystanders(pod):
        ends = [get_state(status, "terminated"), get_state(status, "terminated", "lastState")]
        told = status["name"] == RESULTS_NAME or (over and status not in list_beside(pod))
        code = next((end["exitCode"] for end in ends[told:] if end), 0)
        found += [(status["name"], Outcome(int(code)))] if code else []
    return found


def is_over(pod: Object) -> bool:
    """Whether a pod has come to its last phase."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_on_node(pod: Object) -> bool:
    """Whether a kubelet has the pod in its care, and has not ended it yet."""
    left = is_over(pod) or pod["metadata"].get("deletionTimestamp")
    return bool(pod["spec"].get("nodeName")) and not left


def list_keepers(pod: Object) -> List[str]:
    """The containers of others that keep a pod from ending, unless it is being deleted."""
    deleted = pod["metadata"].get("deletionTimestamp")
    beside = [] if deleted else list_beside(pod)
    alive = [item["name"] for item in beside if not get_state(item, "terminated")]
    return [name for name in alive if name != RESULTS_NAME]


def holds_results(pod: Object) -> bool:
    """Whether the command has ended, and what it has left is packed, or waits to be fetched."""
    held = get_state(find_status(pod, RESULTS_NAME), "running")
    return bool(held) and "terminated" in get_main_state(pod) and not failed_to_start(pod)


def is_ending(pod: Object) -> bool:
    """Whether a pod was told to end, and has not yet."""
    return "deletionTimestamp" in pod["metadata"] and not is_over(pod) and not judge_pod(pod)


def failed_to_start(pod: Object) -> bool:
    """Whether the command could not be started."""
    return get_state(find_status(pod, CONTAINER_NAME), "terminated").get("reason") == START_ERROR


def explain_end(ended: Object, pod_reason: str) -> str:
    """Why a container ended, "" if its exit code says it all. A reason of the pod, such
    as Evicted, explains that of its container.
    """
    reason = pod_reason or str(ended.get("reason") or "")
    if reason == START_ERROR and ended.get("message"):
        return f"{reason}: {extract_cause(ended['message'])}"
    return "" if reason in ("Error", "Completed") else reason


START_ERROR = "StartError"
"""The reason of a container whose command is not there, or cannot be run."""

WRAPPINGS = (
    r'^Back-off pulling image "[^"]*"(: ErrImagePull)?(: )?',
    r"^rpc error: code = \w+ desc = ",
    r'^failed to pull and unpack image "[^"]*": ',
    r'^failed to resolve reference "[^"]*": ',
    r"^(?s:.*)unable to start container process: (error during container init: )?",
    r'^(Error creating: )?pods "[^"]*" is forbidden: ',
    r' \(pod: "[^"]*", container: (?s:.*)\)$',
    r": unknown$",
)
"""What kubelet, container runtime and controllers put around the cause of a trouble.
Some of it differs each time."""

REMEDIES = (
    (r"PodSecurity|runAsNonRoot", "--restricted may help"),
    (r"must specify .*memory", "give --mem"),
    (r"must specify .*cpu", "give --cpu"),
)


def extract_cause(message: str) -> str:
    """The words of a message that say what is wrong, and which option may mend it."""
    for wrapping in WRAPPINGS:
        message = re.sub(wrapping, "", message)
    remedies = [remedy for pattern, remedy in REMEDIES if re.search(pattern, message)]
    return message + (f" ({'; '.join(remedies)})" if remedies else "")


# Jobs and Deployments


def find_condition(item: Object, kind: str, status: str = "True") -> Object:
    """The condition of that type and status, {} if the object has none."""
    found: Object = {}
    for condition in (item.get("status") or {}).get("conditions") or []:
        if condition["type"] == kind and condition["status"] == status:
            found = condition
    return found


def find_failure(job: Object) -> Object:
    """The condition that says that a Job has failed, {} if there is none. FailureTarget
    comes first, up to a pod's grace time before Failed does.
    """
    return find_condition(job, "Failed") or find_condition(job, "FailureTarget")


def is_final(failure: Object, pods: Iterable[Object]) -> bool:
    """Whether a Job has failed and no word of its pods is on its way: after FailureTarget, and
    before Kubernetes 1.31 also after Failed, they may have yet to end.
    """
    return failure.get("type") == "Failed" and not any(map(is_ending, pods))


def find_end(job: Object) -> str:
    """The condition that says that a Job has ended, or is about to; "" without one."""
    ends = (kind for kind in ("Complete", "Failed", "FailureTarget") if find_condition(job, kind))
    return next(ends, "")


def get_creation(item: Object) -> str:
    """When an object was created, in a form that sorts."""
    return str(item["metadata"].get("creationTimestamp") or "")


def is_held(root: Object) -> bool:
    """Whether a Job is suspended: a queue has it, or somebody holds it."""
    return bool(root["spec"].get("suspend"))


def is_deployment(root: Object) -> bool:
    """Whether this is a Deployment rather than a Job. The items of a list lack a kind."""
    return "replicas" in root["spec"]


def is_rolled_out(item: Object) -> bool:
    """Whether a Deployment's pods are all of its latest template, and available."""
    status, wanted = item.get("status") or {}, int(item["spec"].get("replicas", 1))
    observed = int(status.get("observedGeneration") or 0)
    counts = (status.get(key) for key in ("updatedReplicas", "availableReplicas", "replicas"))
    return observed >= int(item["metadata"].get("generation", 0)) and all(
        int(count or 0) == wanted for count in counts
    )


def count_pods(root: Object, pods: Iterable[Object]) -> str:
    """How far a run is: `1 pending, 2 running, 3 of 8 done, 1 failed`."""
    counts = {"pending": 0, "running": 0, "done": 0, "failed": 0}
    for pod in pods:
        outcome, state = judge_pod(pod), "running" if has_started(pod) else "pending"
        counts[("failed" if outcome.code else "done") if outcome else state] += 1
    total = get_completions(root)
    words = {"done": f"of {total} done"} if total > 1 else {}
    parts = [f"{number} {words.get(word, word)}" for word, number in counts.items() if number]
    return ", ".join(parts) or "no pod yet"


def decide_indexes(pods: Iterable[Object], retry: int, final: bool) -> Dict[int, Outcome]:
    """For each index that is decided: success, or the last of all its failures.
    Once the Job has ended (``final``), there are no further ones.
    """
    decided: Dict[int, Outcome] = {}
    failures: Dict[int, int] = {}
    for pod in sorted(pods, key=get_age_key):
        outcome, index = judge_pod(pod), get_pod_index(pod)
        if outcome is None or (index in decided and decided[index].code == 0):
            continue
        if outcome.disrupted and not final:
            continue  # whether it counts is the Job's to say
        failures[index] = failures.get(index, 0) + (outcome.code != 0)
        if outcome.code == 0 or failures[index] > retry or final:
            decided[index] = outcome
    return decided


def may_be_over(root: Object, ended: int) -> bool:
    """Whether `judge_job`, which looks at every pod, may give a verdict once so many have
    ended: each index needs one of them, unless the Job itself has ended.
    """
    return is_deployment(root) or find_end(root) != "" or ended >= get_completions(root)


def judge_job(job: Object, pods: Sequence[Object]) -> Optional[Verdict]:
    """Judge a run by its Job and pods; None while it is not decided.

    The states of the containers decide as soon as each index has succeeded or
    used up its retries. The Job's own condition follows some two seconds later
    and decides the rest: deadlines, pods that were deleted, quotas.
    """
    name, count = job["metadata"]["name"], get_completions(job)
    retry, failure = get_retries(job), find_failure(job)
    reason = str(failure.get("reason") or "")
    decided = decide_indexes(pods, retry, bool(failure))
    verdict = blame_first(job, pods, summarize(name, count, decided, reason))
    if get_annotations(job).get(ANNOTATION_STOPPED) and verdict.code:
        verdict = verdict._replace(text=f"{name} was stopped; {verdict.text}", status="Stopped")
    elif reason == "DeadlineExceeded" and verdict.code:
        return make_timeout_verdict(name, job["spec"].get("activeDeadlineSeconds"))
    if len(decided) == count or is_final(failure, pods):
        return verdict
    if find_condition(job, "Complete"):
        # For the Job, a command that was told to end and ended with 0 has succeeded.
        taken = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Succeeded"]
        believed = dict.fromkeys(list_job_indexes(job), Outcome(0))
        return summarize(name, count, {**believed, **decide_indexes(taken, retry, True)}, "")
    return None


def blame_first(job: Object, pods: Iterable[Object], verdict: Verdict) -> Verdict:
    """The verdict on a program of several nodes: the failure that came first, which has ended
    the others. Of one second it is that of the pod that nobody deleted, then the first given.
    """
    ends = [(pod, judge_pod(pod)) for pod in pods if ANNOTATION_NODES in get_annotations(job)]
    failed = [(pod, outcome) for pod, outcome in ends if outcome and outcome.code]

    def key(pair: Tuple[Object, Outcome]) -> Tuple[float, bool]:
        ended = get_state(find_status(pair[0], pair[1].container), "terminated")
        finished = parse_timestamp(ended.get("finishedAt") or "")
        return finished or find_disruption(pair[0]) or float("inf"), pair[1].disrupted

    if not failed:
        return verdict
    pod, first = min(failed, key=key)
    text = f"{job['metadata']['name']}: rank {get_pod_index(pod)} failed first: {first}"
    return Verdict(first.code, text, f"Failed: {first}")


def get_retries(job: Object) -> int:
    """How many failures of an index are followed by another attempt."""
    return int(job["spec"].get("backoffLimitPerIndex", job["spec"].get("backoffLimit", 6)))


def measure_run(job: Object, pods: Iterable[Object]) -> Optional[float]:
    """Seconds from a Job's start to its last command's end, or its own; None if not known."""
    status = job.get("status") or {}
    mains = [find_status(pod, CONTAINER_NAME) for pod in pods]
    ends = [get_state(status, "terminated").get("finishedAt") for status in mains]
    own = [status.get("completionTime"), find_failure(job).get("lastTransitionTime")]
    start = parse_timestamp(status.get("startTime") or "")
    end = max(map(parse_timestamp, filter(None, ends if any(ends) else own)), default=0.0)
    return end - start if 0 < start <= end else None


def make_timeout_verdict(name: str, limit: Optional[int]) -> Verdict:
    """The end of a run that has taken too long."""
    text = f"{name} timed out after {limit} s (DeadlineExceeded), its --timeout"
    return Verdict(ExitCode.TIMEOUT, text, "Failed (DeadlineExceeded)")


def summarize(name: str, count: int, decided: Mapping[int, Outcome], reason: str) -> Verdict:
    """Put the outcomes of all indexes into one verdict."""
    bad = {index: decided[index] for index in sorted(decided) if decided[index].code}
    good = len(decided) - len(bad)
    if good == count:
        return Verdict(ExitCode.OK, f"{name} succeeded", "Complete")
    if not bad:
        why = reason or "its pods are gone"
        return Verdict(ExitCode.FAILED, f"{name} failed ({why})", f"Failed ({why})")
    first = bad[min(bad)]
    groups: Dict[str, List[int]] = {}
    for index, outcome in bad.items():
        groups.setdefault(str(outcome), []).append(index)
    shown = [f"{words}: {format_indexes(indexes)}" for words, indexes in groups.items()]
    more = f"; and {len(shown) - 10} more" if len(shown) > 10 else ""
    text = f"{name}: {good} of {count} succeeded; {'; '.join(shown[:10])}{more}"
    text = text if count > 1 else f"{name} failed: {first}"
    return Verdict(first.code, text, f"Failed: {first}")


def format_indexes(indexes: Iterable[int]) -> str:
    """Sorted indexes as people write them: `indexes 1, 3, 5-9`."""
    words = ", ".join(list_ranges(indexes))
    return f"index{'' if words.isdigit() else 'es'} {words}"


RECORD = re.compile(
    r"""\d+\)\nexport((?: \w+='[^']*(?:'\\''[^']*)*')+)\n"""
    r"""set --(?: "\$\{\d+\}"| '[^']*(?:'\\''[^']*)*')*\n;;\n"""
)


def read_rows_of(tables: Iterable[Object]) -> Dict[int, Row]:
    """The rows by their numbers, from the ConfigMaps that `build_tables` has filled."""
    rows = {}
    for record in (
        match[1]
        for table in tables
        for text in (table.get("data") or {}).values()
        for match in RECORD.finditer(text)
    ):
        found = re.findall(r"(\w+)='([^']*(?:'\\''[^']*)*)'", record)
        (_, number), _, *others = [(key, value.replace("'\\''", "'")) for key, value in found]
        rows[int(number)] = Row(int(number), tuple(others))
    return rows


# What is run again


def list_projected(job: Object, volume: str) -> List[str]:
    """The names of the ConfigMaps in a volume of a Job."""
    volumes = get_spec_field(job["spec"]["template"], "volumes") or []
    found = [item.get("projected") or {} for item in volumes if item.get("name") == volume]
    return [part["configMap"]["name"] for item in found for part in item.get("sources") or []]


def read_options(job: Object) -> Tuple[RunOptions, str]:
    """The options of a run and its archive's digest. Raises K8rError if they are not noted."""

    def freeze(value: Any) -> Any:
        return tuple(map(freeze, value)) if isinstance(value, list) else value

    text = get_annotations(job).get(ANNOTATION_OPTIONS)
    if not text:
        problem = f"{job['metadata']['name']} has no note of its options"
        raise K8rError(f"{problem}: they were too long, or an older k8r made it", "run it anew")
    try:
        note = json.loads(text)
        fields = {key: freeze(note[key]) for key in RunOptions._fields if key in note}
        for key, kind in (("resources", Resources), ("git", GitOptions)):
            fields.update({key: kind(*fields[key])} if key in fields else {})
        return RunOptions(**{"source": "", **fields}), note.get("digest", "")
    except (ValueError, TypeError, AttributeError) as error:
        problem = f"the note of the options of {job['metadata']['name']} is damaged"
        raise K8rError(problem, "run it anew") from error


def list_failed_indexes(job: Object, pods: Sequence[Object]) -> List[int]:
    """The indexes of a Job that has ended that had no success."""
    every = list_job_indexes(job)
    done = set(every if find_condition(job, "Complete") else ())
    completed = str((job.get("status") or {}).get("completedIndexes") or "")
    done.update(every[at] for at in parse_indexes(completed))
    decided = decide_indexes(pods, get_retries(job), True)
    return [index for index in every if decided.get(index, Outcome(index not in done)).code]


def choose_indexes(
    job: Object, pods: Sequence[Object], wanted: Sequence[int], hint: Callable[[str, str], str]
) -> Sequence[int]:
    """The indexes to run again: those wanted, or those without success. Raises UsageError."""
    name, every = job["metadata"]["name"], list_job_indexes(job)
    if judge_job(job, pods) is None:
        how = f"wait for its end, or end it: {hint('stop', name)}"
        raise UsageError(f"{name} still runs", how)
    unknown = sorted(set(wanted) - set(every))
    if unknown:
        has = f"it has {format_indexes(every)}"
        raise UsageError(f"{name} has no {format_indexes(unknown)}", has)
    failed = list_failed_indexes(job, pods)
    if not wanted and not failed:
        raise UsageError(f"{name} succeeded", "--index I runs one of its indexes again")
    if len(wanted or failed) > MOST_ROWS:
        raise UsageError(f"more than {MOST_ROWS} indexes failed", "give some of them: --index 0-99")
    return wanted or failed


def propose_retry(root: Object, ended: Verdict, hint: Callable[[str, str], str]) -> str:
    """How to run again what failed, "" where that is of no use."""
    short = "OOMKilled" in ended.text
    if not ended.code or ANNOTATION_OPTIONS not in get_annotations(root):
        return ""
    if not short and not is_numbered(root):
        return ""
    limits = find_container(root["spec"]["template"], CONTAINER_NAME).get("resources") or {}
    size = re.match(r"(\d+)(\w+)", str((limits.get("limits") or {}).get("memory")))
    more = f" --mem {f'{2 * int(size[1])}{size[2]}' if size else 'SIZE'}" if short else ""
    return f"run what failed again: {hint('retry', root['metadata']['name'])}{more}"


# Lists


def read_secret_use(item: Object) -> SecretUse:
    """How a secret of the user is used, from its metadata."""
    metadata, notes = item["metadata"], get_annotations(item)
    keys, given = json.loads(notes.get(ANNOTATION_KEYS) or "[]"), notes.get(ANNOTATION_GIVEN)
    return SecretUse(
        metadata["labels"][LABEL_SECRET], metadata["name"], tuple(keys), given == "true"
    )


def build_secret_row(item: Object) -> Object:
    """What `k8r secret --list` says of a secret."""
    use = read_secret_use(item)
    return {
        "name": use.name,
        "job": item["metadata"]["labels"].get(LABEL_JOB, ""),
        "object": use.object_name,
        "variables": sorted(list_secret_variables(use)),
        "created": item["metadata"].get("creationTimestamp", ""),
    }


def build_row(root: Object, kind: str, status: str, **counts: int) -> Object:
    """What `k8r ls` says of a Job or a Deployment, as plain data."""
    return {
        "name": root["metadata"]["name"],
        "type": kind,
        "source": get_labels(root).get(LABEL_SOURCE_TYPE, ""),
        **counts,
        "status": status,
        "created": root["metadata"].get("creationTimestamp", ""),
        **build_container_row(root),
        "exit_code": None,
        "seconds": None,
    }


def build_job_row(job: Object) -> Object:
    """What `k8r ls` says of a Job."""
    status, judged = job.get("status") or {}, judge_job(job, [])
    row = build_row(
        job,
        "job",
        describe_status(job),
        desired=get_completions(job),
        running=int(status.get("ready", status.get("active")) or 0),
        complete=int(status.get("succeeded") or 0),
        failed=int(status.get("failed") or 0),
    )
    row.update(exit_code=judged and int(judged.code), seconds=measure_run(job, []))
    return row


def build_row_and_job(job: Object) -> Tuple[Object, Optional[Object]]:
    """The row of a Job, and what matters of the Job if its pods know more than it does."""
    row = build_job_row(job)
    if row["exit_code"] != ExitCode.FAILED and (row["status"] != "Running" or row["running"]):
        return row, None
    kept = ("name", "uid", "creationTimestamp", "annotations")
    metadata = {key: job["metadata"].get(key) for key in kept}
    spec = {key: value for key, value in job["spec"].items() if key != "template"}
    return row, {"metadata": metadata, "spec": spec, "status": job.get("status")}


def correct_by_pods(row: Object, job: Object, pods: Sequence[Object]) -> Object:
    """What changes in the row of a Job without a running pod by what its pods say: they
    know their end two seconds before the Job does, and why and how they failed.
    """
    ended = [outcome.code for outcome in map(judge_pod, pods) if outcome]
    changes: Object = {
        "complete": max(row["complete"], ended.count(0)),
        "failed": max(row["failed"], len(ended) - ended.count(0)),
    }
    judged = judge_job(job, pods)
    waiting = [pod for pod in pods if not judge_pod(pod) and not has_started(pod)]
    if judged:
        changes.update(status=judged.status, exit_code=int(judged.code))
        changes["seconds"] = measure_run(job, pods)
        if any(map(holds_results, pods)):
            changes["status"] = "Holding"
    elif waiting:
        changes["status"] = f"Pending ({explain_pending(waiting[0])[1]})"
    elif not pods:
        changes["status"] = "Pending"
    return changes


def build_row_by_pods(root: Object, pods: Iterable[Object]) -> Object:
    """The row of a Job or Deployment, with what its pods say where they know more."""
    if is_deployment(root):
        row, waiting = build_deployment_row(root), [pod for pod in pods if not has_started(pod)]
        if waiting and row["status"] == "Running" and not row["running"]:
            row["status"] = f"Pending ({explain_pending(waiting[0])[1]})"
        return row
    row, job = build_row_and_job(root)
    if job:
        mine = [pod for pod in pods if belongs_to(pod, job["metadata"]["uid"])]
        row.update(correct_by_pods(row, job, mine))
    return row


def build_container_row(root: Object) -> Object:
    """What a Job or Deployment runs: the image and the user's command."""
    containers = root["spec"]["template"]["spec"].get("containers") or []
    mine: Object = next((item for item in containers if item["name"] == CONTAINER_NAME), {})
    words = mine.get("args") or mine.get("command") or []
    return {"image": mine.get("image", ""), "command": words}


def describe_status(job: Object) -> str:
    """A word for a Job's state, with the reason of a failure."""
    failed = find_failure(job)
    if failed and get_annotations(job).get(ANNOTATION_STOPPED):
        return "Stopped"
    if failed:
        return f"Failed ({failed.get('reason')})"
    if find_condition(job, "Complete") or find_condition(job, "SuccessCriteriaMet"):
        return "Complete"
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if is_held(job):
        return "Suspended"
    return "Running"


def explain_pending(pod: Object) -> Tuple[str, str]:
    """The run that a pending pod belongs to, and one word for why it waits."""
    reason = find_condition(pod, "PodScheduled", "False").get("reason") or "Pending"
    for status in list_container_statuses(pod):
        reason = get_state(status, "waiting").get("reason") or reason
    return get_labels(pod).get(LABEL_JOB, ""), reason


def build_deployment_row(item: Object) -> Object:
    """What `k8r ls` says of a Deployment."""
    desired = item["spec"].get("replicas", 1)
    ready = (item.get("status") or {}).get("readyReplicas")
    stuck = find_condition(item, "Progressing", "False")
    status = f"Failed ({stuck.get('reason')})" if stuck else "Running"
    counts = {"desired": int(desired), "running": int(ready or 0), "complete": 0, "failed": 0}
    return build_row(item, "deployment", status, **counts)


# ==============================================================================
# Waiting
# ==============================================================================

PULL_FAILURE = "the image {image}{whose} cannot be pulled: {cause}"
CREATION_FAILURE = "its container{whose} cannot be created ({reason}): {cause}"
FATAL_REASONS = {
    "ErrImagePull": PULL_FAILURE,
    "ImagePullBackOff": PULL_FAILURE,
    "RegistryUnavailable": PULL_FAILURE,
    "SignatureValidationFailed": PULL_FAILURE,
    "ImageInspectError": "the image {image}{whose} cannot be used: {cause}",
    "InvalidImageName": "'{image}' is not a valid image name",
    "ErrImageNeverPull": "the image {image}{whose} is not present on the node: {cause}",
}
"""What is said of some reasons of a waiting container (kubernetes, pkg/kubelet/images
and kuberuntime). Those that are not here are CREATION_FAILURE."""
ORDINARY_REASONS = ("", "ContainerCreating", "PodInitializing", "CrashLoopBackOff")
"""All other reasons of a waiting container are troubles that time alone does not mend."""
NOT_FOUND_GRACE = 10
"""Seconds for an image that its registry does not have: it may be on its way there."""
VOLUME_TROUBLES = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
NODE_TROUBLES = (
    "FailedCreatePodSandBox NetworkNotReady FailedPrepareDynamicResources "
    "FailedCreatePodContainer InspectFailed".split()
)


def is_idle(pod: Object) -> bool:
    """Whether a pod has yet to begin, or waits to begin again."""
    return not judge_pod(pod) and "running" not in get_main_state(pod)


def is_under_way(root: Object) -> bool:
    """Whether a Deployment has been rolled out; then its troubles are its own."""
    return is_deployment(root) and is_rolled_out(root)


def explain_root(
    root: Object, events: Sequence[Object], workloads: Sequence[Object] = ()
) -> Optional[Wait]:
    """Why a Job or a Deployment has no pod; ``workloads`` are what Kueue says of it."""
    if is_held(root):
        for message in (find_condition(item, "QuotaReserved", "False") for item in workloads):
            if message:
                name = get_labels(root).get(QUEUE_LABEL, "")
                return Wait(f"the queue {name} holds the Job back: {message['message']}", False)
        return Wait("the Job is suspended, a queue may be holding it back", False)
    tries = [
        event for event in events if event.get("reason") in ("FailedCreate", "SuccessfulCreate")
    ]
    failure = find_condition(root, "ReplicaFailure") or next(reversed(tries), {})
    if failure.get("reason") != "FailedCreate":
        return None
    text = str(failure.get("message", ""))
    return Wait(f"the cluster refuses its pod: {extract_cause(text)}", not is_quota_in_use(text))


def is_quota_in_use(refusal: str) -> bool:
    """Whether a pod is refused by a quota that has room for it once others have ended."""
    found = re.search(r"exceeded quota: .*?requested: (.*), used: .*, limited: (.*)", refusal)
    if not found:
        return False
    wanted, limits = (dict(re.findall(r"([^=, ]+)=([^=, ]+)", text)) for text in found.groups())
    return all(
        convert_quantity(amount) <= convert_quantity(limits.get(name, "0"))
        for name, amount in wanted.items()
    )


def explain_pod(
    pod: Object, events: Sequence[Object], nodes: Sequence[Object] = ()
) -> Optional[Wait]:
    """Why a pod does not run, in words; ``nodes`` are the cluster's, if known."""
    for status in list_container_statuses(pod):
        wait = explain_container(pod, status)
        if wait:
            return wait
    held = find_condition(pod, "PodScheduled", "False")
    reason, said = held.get("reason"), str(held.get("message", ""))
    if not reason:
        return explain_events(events)
    if reason != "Unschedulable":
        return Wait(f"it is not scheduled ({reason}): {said}", False)
    claim = re.search(r'persistentvolumeclaim "([^"]*)" not found', said)
    if claim:
        return Wait(f'the volume claim "{claim.group(1)}" does not exist', True)
    return Wait(explain_unschedulable(pod, said, nodes), False)


def explain_events(events: Sequence[Object]) -> Optional[Wait]:
    """What the latest event that matters says of a pod that is being started."""
    pulled = [e for e in events if e.get("reason") in ("Pulled", "Created", "Started")]
    past = max(map(get_event_time, pulled), default="")
    for event in reversed(events):
        reason, message = event.get("reason"), str(event.get("message", ""))
        if reason in VOLUME_TROUBLES:
            return Wait(f"a volume is missing: {message}", "not found" in message)
        if reason in NODE_TROUBLES:
            # Each try has an id of its own, and would be told as something new.
            message = re.sub(r"\b[0-9a-f]{64}\b", "...", message)
            return Wait(f"the node cannot start it: {message}", False)
        # Events of one second come in any order.
        if reason == "Pulling" and get_event_time(event) > past:
            return Wait(f"the node pulls its image: {message}", False)
    return None


def get_event_time(event: Object) -> str:
    """When an event was last seen; of the newer kind only the first time is set."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def explain_container(pod: Object, status: Object) -> Optional[Wait]:
    """What keeps a container from running, if it is the container itself."""
    name, own = status["name"], status["name"] == CONTAINER_NAME
    running, waiting = get_state(status, "running"), get_state(status, "waiting")
    ended = get_state(status, "terminated", "lastState")
    if ended and not running:
        what = "its command" if own else f"init container {name}"
        return Wait(explain_restarts(ended, what), True)
    if running and not own and status not in list_bystanders(pod):
        return Wait(f"init container {name} runs", False)
    reason = waiting.get("reason", "")
    if reason in ORDINARY_REASONS:
        return None
    text = FATAL_REASONS.get(reason, CREATION_FAILURE).format(
        image=status.get("image", ""),
        whose="" if own else f" of {'init ' * (name != RESULTS_NAME)}container {name}",
        reason=reason,
        cause=extract_cause(waiting.get("message", "")) or reason,
    )
    return Wait(text, True)


def shorten_grace(grace: float, reason: str) -> float:
    """The grace time, less after a registry has said that it has no such image. A reader,
    who waits without an end, goes on with that.
    """
    missing = re.search("cannot be pulled: .*(: not found|manifest unknown)", reason)
    return min(grace, NOT_FOUND_GRACE) if missing and grace < float("inf") else grace


def explain_platform(wanted: str, nodes: Iterable[Object]) -> str:
    """What is said of an image for a platform, or several, that no node has, "" for nothing."""
    kinds = {get_labels(node).get("kubernetes.io/arch", "") for node in nodes} - {""}
    asked = re.split("[/,]", wanted.replace("x86_64", "amd64").replace("aarch64", "arm64"))
    if not kinds or kinds.intersection(asked) or asked == ["linux"]:
        return ""
    return f"the image will be for {wanted}, but all nodes are {' or '.join(sorted(kinds))}"


def explain_restarts(ended: Object, what: str) -> str:
    """Why a container of a Deployment is restarted again and again."""
    if ended.get("reason") == START_ERROR:
        return f"{what} cannot be started: {extract_cause(ended.get('message', ''))}"
    code = int(ended.get("exitCode", 0))
    text = f"{what} ends again and again: exit code {code} ({ended.get('reason', '')})"
    return text if code else text + "; a Deployment's command must not end"


INSUFFICIENT = re.compile(r"Insufficient ([^\s,]+[^\s,.])")


def explain_unschedulable(pod: Object, refusal: str, nodes: Sequence[Object] = ()) -> str:
    """What a pod asks of a node beside what the nodes have, and the scheduler's words."""
    words = re.sub(r"( no new claims to deallocate,)? preemption: .*", "", refusal).rstrip(". ")
    lacking = list(dict.fromkeys(INSUFFICIENT.findall(words)))
    wanted, most = requested_resources(pod), {it: find_largest(nodes, it) for it in lacking}
    short = [it for it in lacking if not nodes or is_less(most[it], wanted.get(it, "0"))]
    what = f"no node has enough {' and '.join(short)}" if short else "no node can take it"
    if len(short) < len(lacking) and "taint" in words:
        what += ", as a rule because of a taint"
    facts = {
        "requested": format_amounts(dict(sorted(wanted.items()))),
        "the largest node": format_amounts(most if nodes else {}),
        **describe_place(pod, nodes, words),
    }
    told = "; ".join(f"{key}: {facts[key]}" for key in filter(facts.get, facts))
    return f"{what}: {words}" + (f" ({told})" if told else "")


def list_wanted_labels(pod: Object) -> Dict[str, str]:
    """The labels that a pod wants of a node; of those for a type of GPU it wants one."""
    wanted = dict(sorted((pod["spec"].get("nodeSelector") or {}).items()))
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    for term in (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or []:
        for item in term.get("matchExpressions") or []:
            wanted.setdefault(item["key"], (item.get("values") or ["?"])[0])
    return wanted


def describe_taints(node: Object) -> List[str]:
    """The taints of a node, as --toleration takes them."""
    taints = (node.get("spec") or {}).get("taints") or []
    told = [f"{item['key']}={item.get('value', '')}:{item['effect']}" for item in taints]
    return [f"the taint {text} (see --toleration)" for text in told]


def describe_place(pod: Object, nodes: Sequence[Object], refusal: str) -> Dict[str, str]:
    """The labels that a pod wants of a node, and what nodes have: other values of these, and
    taints; each where the scheduler refuses it for that.
    """
    wanted = list_wanted_labels(pod) if "selector" in refusal else {}
    found: Set[str] = set()
    for node in nodes:
        labels = get_labels(node)
        found.update(f"{key}={labels[key]}" for key in wanted if key in labels)
        found.update(describe_taints(node) if "taint" in refusal else ())
    nothing = "none of these labels" if nodes and wanted else ""
    words = ", ".join(f"{key}={wanted[key]}" for key in wanted)
    return {"wanted": words, "nodes have": ", ".join(sorted(found)) or nothing}


def requested_resources(pod: Object) -> Dict[str, str]:
    """What a pod requests of a node, by resource."""
    wanted: Dict[str, str] = {}
    for container in reversed(pod["spec"].get("containers") or []):  # the user's own is first
        asked = container.get("resources") or {}
        wanted.update({**(asked.get("limits") or {}), **(asked.get("requests") or {})})
    return wanted


def find_largest(nodes: Iterable[Object], resource: str) -> str:
    """The most of a resource that a node has for pods, "0" if none has any."""
    rooms = [(node.get("status") or {}).get("allocatable") or {} for node in nodes]
    return max((str(room.get(resource, "0")) for room in rooms), key=convert_quantity, default="0")


def is_less(amount: str, other: str) -> bool:
    """Whether one quantity is smaller than another."""
    return convert_quantity(amount) < convert_quantity(other)


def format_amounts(amounts: Mapping[str, str]) -> str:
    """Quantities by resource, for people; the API server has made 5k of 5000 CPUs."""
    numbers = {name: convert_quantity(text) for name, text in amounts.items()}
    texts = {name: f"{number:.12g}" for name, number in numbers.items()}
    if "memory" in numbers:
        texts["memory"] = format_size(int(numbers["memory"]))
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def explain_last_words(last: bytes) -> str:
    """What the end of a failed command's output means for k8r, "" for nothing."""
    module = re.search(rb"ModuleNotFoundError: No module named '([\w-]+)", last)
    if module:
        name = module.group(1).decode()
        return f"to install it first: --setup 'pip install {name}'; --show-files has what was sent"
    if b"exec format error" in last.lower():
        cpu = "it is for another kind of CPU than the node's, for which --platform builds an image"
        return f"{cpu}; or it is a script without a first line like #!/bin/sh"
    return ""


def explain_exit_code(code: int, options: RunOptions, last: bytes, image: str = "") -> str:
    """What the options, or the ``image``, may have to do with an exit code, and with the
    ``last`` that was said; "" for nothing.
    """
    command = options.command
    word = command[0] if command else ""
    told = explain_last_words(last) if code else ""
    if told:
        return told
    if code in (126, 127) and len(command) == 1 and " " in word:
        how = f"for shell syntax write: -- sh -c {json.dumps(word)}"
        return f"the command is a single word; {how}"
    if code == 127 and word and image:
        words = f"'{word}'" + " or a word of --setup" * bool(options.setup)
        what = f"if it was {words} that was not found: the image {image} lacks it"
        return f"{what}; --base-image NAME sets another"
    if code == 135:  # 128 + SIGBUS
        return "the shared memory may be too small: --shm 1Gi makes it larger"
    return ""


# Rows of pods


def build_pod_row(pod: Object) -> Object:
    """What `k8r ls NAME` says of a pod, as plain data; `number_attempts` completes it."""
    own, outcome = find_status(pod, CONTAINER_NAME), judge_pod(pod)
    ended = get_state(own, "terminated")
    started = (ended or get_state(own, "running")).get("startedAt") or ""
    seconds = parse_timestamp(ended.get("finishedAt") or "") - parse_timestamp(started)
    return {
        "name": pod["metadata"]["name"],
        "index": None if LABEL_TYPE in get_labels(pod) else get_pod_index(pod),
        "attempt": 1,
        "node": pod["spec"].get("nodeName", ""),
        "created": get_creation(pod),
        "started": started,
        "seconds": seconds if ended else None,
        "restarts": int(own.get("restartCount") or 0),
        "exit_code": outcome and int(outcome.code),
        "status": describe_pod(pod, outcome),
    }


def describe_pod(pod: Object, outcome: Optional[Outcome]) -> str:
    """A word for a pod's state, with the reason why it failed or waits."""
    if outcome:
        return f"Failed: {outcome}" if outcome.code else "Complete"
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if has_started(pod):
        return "Holding" if holds_results(pod) else "Running"
    wait = explain_pod(pod, [])
    return f"Pending ({wait.text})" if wait else "Pending"


def number_attempts(rows: Iterable[Object]) -> List[Object]:
    """The rows of a run's pods by index, the attempts at one in the order they were made."""
    ordered = sorted(rows, key=lambda row: (row["index"] or 0, row["created"], row["name"]))
    for before, row in zip(ordered, ordered[1:]):
        if row["index"] is not None and row["index"] == before["index"]:
            row["attempt"] = before["attempt"] + 1
    return ordered


def list_failed(rows: Sequence[Object]) -> List[Object]:
    """The rows of pods that failed, but of indexes that another attempt has brought to success."""
    done = {row["index"] for row in rows if row["exit_code"] == 0}
    return [row for row in rows if row["exit_code"] and row["index"] not in done]


# ==============================================================================
# Output
# ==============================================================================

LAST_DATA = 500
"""Bytes at the end of what a run has printed that may tell why it failed."""
SHOWN_AFTER = 1.0
"""Seconds that something takes before its progress is shown."""


class StatusLine:
    """The last line of a terminal, which shows how things are until something
    else is to be printed there. Without a terminal it shows nothing.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float], dumb: bool = False) -> None:
        self._stream = stream
        self._clock = clock
        self._live = stream.isatty() and not dumb
        self._shown = ""
        self._width = 0
        self._next = 0.0
        self._free = True  # whether the terminal's cursor is at the start of a line

    def show(self, text: str) -> None:
        """Show a text, cut to the terminal's present width; "" for none."""
        if not self._live or text == self._shown:
            return
        now = self._clock()
        if text and (not self._free or now < self._next):
            return
        self._next = now + REDRAW_EVERY
        self.make_way(b"\n")
        if text:
            line, self._width = clip(f"k8r: {text}", self._columns() - 1)
            self.write(line)
            self._shown = text

    def is_due(self) -> bool:
        """Whether another text would be shown now."""
        return self._live and self._free and self._clock() >= self._next

    def make_way(self, data: bytes) -> None:
        """Remove the line, since ``data`` is about to be printed."""
        if self._shown:
            # A terminal that has become narrower has broken the line.
            lines = self._width // self._columns()
            self.write((f"\x1b[{lines}A" if lines else "") + "\r\x1b[J")
            self._shown = ""
        self._free = data.endswith(b"\n")

    def write(self, text: str) -> None:
        """Write to the stream as it is."""
        # The terminal may be gone (SIGHUP); that must not hide the exit code.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def _columns(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        return 80


class Console:
    """All that k8r prints: data to stdout, everything else to stderr."""

    def __init__(self, env: Environment, quiet: bool, verbose: bool, color: str) -> None:
        self._out = env.stdout
        self._err = getattr(env.stderr, "buffer", io.BytesIO())
        self._quiet = quiet
        self._verbose = verbose
        self._clock = env.clock
        dumb = env.environ.get("TERM") == "dumb"
        self._answers = env.stdin if env.stdin.isatty() and env.stderr.isatty() else None
        self._status = StatusLine(env.stderr, env.clock, dumb)
        self.last_data = b""
        self.shared = env.stdout.isatty()
        plain = dumb or env.environ.get("NO_COLOR")
        self.colored = color == "always" or (color == "auto" and self.shared and not plain)

    def data(self, data: bytes) -> None:
        """Write what the user asked for, at once. Raises BrokenPipeError."""
        if self.shared:
            self._status.make_way(data)
        self._out.write(data)
        self._out.flush()
        self.last_data = (self.last_data + data[-LAST_DATA:])[-LAST_DATA:]

    def errors(self, data: bytes) -> None:
        """Write what a command has written to its stderr, at once."""
        self._status.make_way(data)
        with contextlib.suppress(OSError):
            self._err.write(data)
            self._err.flush()

    def abandon(self) -> None:
        """After a BrokenPipeError: drop what Python would still try to write."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())

    def text(self, text: str) -> None:
        """Write a line of data."""
        self.data(escape_unprintable(text, "\n").encode() + b"\n")

    def say(self, text: str) -> None:
        """Tell how things go, unless --quiet."""
        if not self._quiet:
            self._line(text)

    def confirm(self, text: str) -> None:
        """Say what is to come, and on a terminal ask. Raises K8rError if it is not wanted."""
        if not self._answers:
            self.say(text)
            return
        self._status.make_way(b"\n")
        self._status.write(f"k8r: {text}; go on? [y/N] ")
        if not self._answers.readline().strip().lower().startswith(b"y"):
            raise K8rError("that was not wanted")

    def debug(self, text: str) -> None:
        """Tell more, if --verbose."""
        if self._verbose:
            self._line(text)

    def warn(self, text: str) -> None:
        """Tell what the user must know, even with --quiet."""
        self._line(text)

    def error(self, error: K8rError) -> None:
        """Say what went wrong and what to do."""
        mark = "" if error.message.endswith("?") else ";"
        self._line(error.message + (f"{mark} {error.hint}" if error.hint else ""))

    def progress(self, text: str) -> None:
        """Show a state on a terminal, in place of the one before; "" for none."""
        if not self._quiet:
            self._status.show(escape_unprintable(text))

    @property
    def shows_progress(self) -> bool:
        """Whether a state would be shown now: to put it into words may take long."""
        return not self._quiet and self._status.is_due()

    def meter(self, what: str, total: int, sized: bool = False) -> Callable[[int], None]:
        """What to call with each amount done of a work, to show a bar of it; of bytes also how
        many have come and do in a second. A ``total`` of 0 is not known, and has no bar.
        """
        started, done = self._clock(), 0

        def add(amount: int) -> None:
            nonlocal done
            done += amount
            seconds = self._clock() - started
            if seconds > SHOWN_AFTER and self.shows_progress:
                bar = format_bar(done, total) if total else ""
                pace = f"{format_size(done)}, {format_size(int(done / seconds))}/s" if sized else ""
                self.progress(" ".join(filter(None, (what, bar, pace))))

        return add

    def foreign(self, data: bytes) -> None:
        """Pass on what a container wrote that is not the user's command."""
        self._write(data.decode("utf-8", "backslashreplace").rstrip("\n"))

    def plain(self, text: str) -> None:
        """Pass on a line of another program, unless --quiet."""
        if not self._quiet:
            self._write(text)

    def lend(self) -> Any:
        """What another program may write to that `plain` passes on: a file, or PIPE for none."""
        self._status.make_way(b"\n")
        return subprocess.PIPE if self._quiet else self._err

    def trace(self) -> None:
        """Show where the error being handled came from, if --verbose."""
        if self._verbose:
            import traceback

            text = re.sub("(?i)(header value).*", r"\1 ***", traceback.format_exc())
            self._write(text.rstrip())

    def _line(self, text: str) -> None:
        self._write("k8r: " + re.sub(r"\n(?! )", "\n  ", text))  # no line that looks like k8r's

    def _write(self, text: str) -> None:
        self._status.make_way(b"\n")
        self._status.write(escape_unprintable(text, "\n\t") + "\n")


class LogPrinter:
    """Prints the logs of several pods, each line with its index in front, or what ``labels``
    has for that.
    """

    COLORS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)

    def __init__(
        self, console: Console, prefixed: bool, mark: str = "", labels: Mapping[str, str] = {}
    ) -> None:
        self._console = console
        self._prefixed = prefixed
        self._labels = labels
        self._out = console.data
        self._rest: Dict[Any, bytes] = {}
        self._torn: Any = None
        self._returned = False
        self._mark = mark and rf"(?:\d{{4}}-\S+Z )?{mark} (begin|end)\n"
        self._stages: Dict[Any, bytes] = {}
        self._held: Dict[Any, bytes] = {}
        self._setup = LogPrinter(console, prefixed, labels=labels) if mark else self
        if mark:
            self._setup._out = console.errors

    def write(self, key: Any, label: str, data: bytes) -> None:
        """Print bytes of one log. What is between lines with the ``mark`` is of --setup, and
        goes to stderr; what may be the start of such a line is held back.
        """
        if self._mark and self._stages.get(key) != b"end":
            data = self._held.pop(key, b"") + data
            *passed, data = re.split(self._mark.encode(), data)
            for text, stage in zip(passed[::2], passed[1::2]):
                self._get_printer(key)._write(key, label, text)
                if not self._stages:
                    self._console.say("setup:")
                self._stages[key] = stage
            start = re.search(rb"k[^\n]{0,30}\Z", data)
            if start and self._stages.get(key) != b"end":
                data, self._held[key] = data[: start.start()], start.group()
        self._get_printer(key)._write(key, label, data)

    def _get_printer(self, key: Any) -> LogPrinter:
        """What prints the part of a log that it has come to."""
        return self._setup if self._stages.get(key) == b"begin" else self

    def _write(self, key: Any, label: str, data: bytes) -> None:
        """Print bytes. Prefixed lines wait for their end, unless they are long; on a terminal
        a carriage return is an end, too.
        """
        if not self._prefixed:
            self._out(data)
            return
        data = self._rest.pop(key, b"") + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r") if self._console.shared else -1) + 1
        end = end if end or len(data) < MIB else len(data)
        if end:
            self._print(key, label, data[:end])
        if data[end:]:
            self._rest[key] = data[end:]

    def end(self, key: Any, label: str) -> None:
        """Print a last line that has no end of its own."""
        if self._mark:
            self._get_printer(key)._write(key, label, self._held.pop(key, b""))
            self._setup.end(key, label)
        rest = self._rest.pop(key, b"")
        if rest or self._torn == key:
            self._print(key, label, rest + b"\n")

    def _print(self, key: Any, label: str, data: bytes) -> None:
        """Print lines. The last may lack its end, and gets one if another log is next."""
        label = self._labels.get(label, label)
        prefix = f"[{label}] ".encode()
        if self._console.colored:
            color = self.COLORS[sum(label.encode()) % len(self.COLORS)]
            prefix = b"\x1b[%dm%s\x1b[0m" % (color, prefix)
        before = b"" if self._torn in (None, key) else b"\n"
        before += prefix if self._torn != key or self._returned else b""
        lines = data[:-1].replace(b"\n", b"\n" + prefix)
        if self._console.shared:
            lines = re.sub(rb"\r(?!\n|$)", b"\r" + prefix, lines)
        self._out(before + lines + data[-1:])
        self._torn, self._returned = None if data[-1:] == b"\n" else key, data[-1:] == b"\r"


def format_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], widths: Optional[List[int]] = None
) -> str:
    """Columns three spaces apart, as kubectl prints them. ``widths`` are the
    least, and are widened for a table that goes on.
    """
    table = [row for row in [header, *rows] if row]
    widths = widths if widths is not None else []
    widths.extend([0] * (len(table[0]) - len(widths)))
    for row in table:
        widths[:] = [max(width, len(cell)) for width, cell in zip(widths, row)]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in table]
    return "\n".join(line.rstrip() for line in lines)


COLUMNS = "name type source desired running complete failed status took age".split()
POD_COLUMNS = "index attempt node started took exit status".split()


def format_row(row: Object, columns: Iterable[str], now: float = 0.0) -> List[str]:
    """A row of `k8r ls`, as text; the time is only for an age."""
    shown = {
        **row,
        "age": format_age(now - parse_timestamp(row["created"])),
        "command": " ".join(row.get("command", ()))[:60],
        "line": row.get("line", "")[:60],
        "took": row["seconds"] if row["seconds"] is None else format_age(row["seconds"]),
        "exit": row["exit_code"],
    }
    cells = ["-" if shown[name] in (None, "") else str(shown[name]) for name in columns]
    return [cell.replace("\n", " ") for cell in cells]


def format_rows(rows: Iterable[Object], columns: Iterable[str], now: float = 0.0) -> str:
    """The table of `k8r ls`."""
    table = [format_row(row, columns, now) for row in rows]
    return format_table([name.upper() for name in columns], table)


def format_yaml(documents: Iterable[Any]) -> Iterator[str]:
    """YAML documents, one by one, since an archive's parts are large."""
    import yaml

    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc, valid-type]
        """Writes text of several lines as a block, for people to read."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def block_text(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, block_text)
    for document in documents:
        yield "---\n" + yaml.dump(
            document, Dumper=Dumper, sort_keys=False, width=1 << 30, allow_unicode=True
        )


# ==============================================================================
# Sources
# ==============================================================================

# Directories

IGNORE_FILE = ".k8rignore"
ALWAYS_IGNORED = (".git", ".venv", "node_modules", "__pycache__")
CHUNK_SIZE = MIB
"""Bytes in one ConfigMap. The API server counts binaryData decoded and takes
at most 1 MiB of it (kubernetes/kubernetes, pkg/apis/core/validation:
MaxSecretSize)."""
ARCHIVE_LIMIT = 64 * MIB
LARGE_ARCHIVE = 10 * MIB
NO_DATA = re.compile(
    r"(^|/)(\.[^/]*|node_modules|__pycache__|venv|env|build|dist|target|[^/]*cache|"
    r"[^/]*\.(py[co]|o|so|class|egg-info|log|tmp|swp)|[^/]*~)(/|$)"
)
"""What is ignored because it is made or kept here, and which no command will miss."""
TAR_MTIME = 315_532_800
"""1980-01-01, the earliest time that a zip archive can hold: a fixed time makes
equal directories equal archives, and Python's zip and wheel tools accept it."""


class Archive:
    """A packed directory: a gzipped tar in a temporary file, and what is in it."""

    def __init__(self, file: IO[bytes], size: int, listing: Listing) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._listing = listing
        self.size = size
        self.notes = listing.notes

    @property
    def chunks(self) -> int:
        """The number of ConfigMaps that hold it."""
        return -(-self.size // CHUNK_SIZE)

    def chunk(self, part: int) -> bytes:
        """The bytes of one ConfigMap; threads may ask at the same time."""
        with self._lock:
            self._file.seek(part * CHUNK_SIZE)
            return self._file.read(CHUNK_SIZE)

    def __str__(self) -> str:
        sent = f"{pluralize(len(self._listing.paths), 'file')}, {format_size(self.size)}"
        left = {path: rule for path, rule in self._listing.left.items() if not NO_DATA.search(path)}
        names = ", ".join([*itertools.islice(left, 3), *["..."] * (len(left) > 3)])
        rules = " and ".join(sorted(set(left.values())))
        more = f"; {len(left)} left out by {rules}: {escape_unprintable(names)}" if left else ""
        return sent + more

    def write_parts(self, folder: str) -> None:
        """Write the archive as a pod finds it. Raises K8rError."""
        try:
            os.mkdir(folder)
            for part in range(self.chunks):
                with open(os.path.join(folder, f"part-{part:02d}"), "wb") as file:
                    file.write(self.chunk(part))
        except OSError as error:
            raise K8rError(
                f"cannot write to {escape_unprintable(folder)}: {error.strerror}",
                "free some space, or set TMPDIR",
            ) from error

    def digest(self) -> str:
        """The SHA-256 of the whole, in hexadecimal."""
        import hashlib

        digest = hashlib.sha256()
        for part in range(self.chunks):
            digest.update(self.chunk(part))
        return digest.hexdigest()

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()


class Listing(NamedTuple):
    """What belongs to a directory: paths relative to it, what was left out for its kind, and
    what was by an ignore file, with the name of that: directories end with a slash.
    """

    paths: List[str]
    notes: List[str]
    left: Dict[str, str]
    size: int = 0


class GitError(K8rError):
    """git is missing, or refuses to work."""


GIT = ("git", "-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null")
GIT_VARIABLES = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}
"""With these git runs no program that a repository's configuration names, fetches nothing,
and does not write to an index."""


def run_git(folder: str, *args: str, given: bytes = b"") -> List[str]:
    """The NUL-separated answer of git. Raises GitError with git's own words."""
    command = [*GIT, "-C", folder, *args]
    environ = {**drop_repository(os.environ), **GIT_VARIABLES}
    try:
        done = subprocess.run(command, input=given, capture_output=True, env=environ)
    except OSError as error:
        raise GitError(f"git is needed to read what {folder} ignores", "install git") from error
    words = os.fsdecode(done.stderr).strip()
    if done.returncode != 0:
        remedy = re.search(r"git config --global --add safe\.directory .*", words)
        hint = remedy.group() if remedy else f"see: git -C {shlex.quote(folder)} status"
        first = escape_unprintable(words.split("\n")[0]) or f"exit code {done.returncode}"
        raise GitError(f"git refuses to read {folder}: {first}", hint)
    unread = re.search(r"could not open directory '(.*)'", words)
    if unread:  # git goes on without it
        raise PermissionError(errno.EACCES, "Permission denied", unread.group(1))
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def find_work_tree_prefix(folder: str) -> Optional[str]:
    """Where in a work tree of git a directory is: "" at its top, else `sub/`; None if
    it is in none. Raises GitError if there is a repository that git refuses.
    """
    try:
        answer = run_git(folder, "rev-parse", "--is-inside-work-tree", "--show-prefix")
    except GitError:
        if any(map(is_work_tree_root, list_parents([f"{folder}/x"]) - {""})):
            raise
        return None
    inside, _, prefix = answer[0].partition("\n")
    return prefix[:-1] if inside == "true" else None


def list_with_git(folder: str) -> List[str]:
    """What git says belongs to a directory of a work tree: tracked or untracked,
    not ignored. A repository inside it (a submodule, say) speaks for itself.
    """
    paths: List[str] = []
    for path in dict.fromkeys(run_git(folder, "ls-files", "-z", "-co", "--exclude-standard")):
        path = path[:-1] if path.endswith("/") else path
        inner = os.path.join(folder, path)
        if not {"", ".", "..", ".git"}.isdisjoint(path.lower().split("/")):
            raise GitError(
                f"git lists '{escape_unprintable(path)}', which is not a path inside of {folder}",
                f"its index is damaged; see: git -C {shlex.quote(folder)} ls-files",
            )
        if os.path.isdir(inner) and os.path.realpath(inner) == inner:
            inside = list_with_git(inner) if is_work_tree_root(inner) else []
            paths.extend(f"{path}/{name}" for name in inside)
        else:
            paths.append(path)
    return paths


def is_work_tree_root(folder: str) -> bool:
    """Whether a directory is the top of a repository of its own."""
    return os.path.lexists(os.path.join(folder, ".git"))


def walk_directory(folder: str) -> List[str]:
    """Everything in a directory but what is never wanted; links are not followed."""
    paths: List[str] = []
    for top, folders, files in os.walk(folder, onerror=raise_error):
        relative = os.path.relpath(top, folder)
        prefix = "" if relative == "." else relative + "/"
        folders[:] = [name for name in folders if name not in ALWAYS_IGNORED]
        files += [name for name in folders if os.path.islink(os.path.join(top, name))]
        if not files and not folders and prefix:
            paths.append(prefix.rstrip("/"))
        paths.extend(prefix + name for name in files if name not in ALWAYS_IGNORED)
    return paths


def raise_error(error: OSError) -> NoReturn:
    """For os.walk, which would pass over what it cannot read."""
    raise error


def find_ignored_paths(folder: str, paths: Sequence[str], prefix: Optional[str]) -> Dict[str, str]:
    """What ignore files take out of a listing, and which it is.

    In a work tree (``prefix`` is not None) that is .k8rignore alone, for git has
    spoken of the rest; those of the directories above count, as with .gitignore.
    Elsewhere .gitignore counts as well: who wrote one does not want those files
    to leave. git itself reads them, in any case, so that their syntax is git's to
    the letter: it is given an index of its own with the listing's names, and so
    tells of tracked files, and of those in a submodule, too.
    """
    rules = {IGNORE_FILE: f"--exclude-per-directory={IGNORE_FILE}"}
    if prefix is None:
        rules[".gitignore"] = "--exclude-standard"
    prefix = prefix or ""
    top = os.path.normpath(os.path.join(folder, *[os.pardir] * prefix.count("/")))
    names = [prefix + path for path in paths]
    folders = list_parents(names)
    used = {
        name: option
        for name, option in rules.items()
        if any(os.path.lexists(os.path.join(top, parent, name)) for parent in folders)
    }
    found = list_excluded(top, names, used) if used else {}
    return {path[len(prefix) :]: name for path, name in found.items()}


def list_excluded(top: str, paths: Iterable[str], options: Mapping[str, str]) -> Dict[str, str]:
    """Those of the paths below a directory that git excludes by any of these options of
    `git ls-files`, whether it tracks them or not, with the option's name. Raises K8rError.
    """
    import tempfile

    entries = [b"100644 %s\t%s\0" % (EMPTY_BLOB, os.fsencode(path)) for path in paths]
    with tempfile.TemporaryDirectory(prefix="k8r-") as scratch:
        where = (f"--git-dir={scratch}", f"--work-tree={top}", "-c", "core.bare=false")
        index = ("update-index", "-z", "--index-info")
        run_git(scratch, "-c", "init.defaultObjectFormat=sha1", "init", "-q", "--bare")
        run_git(top, *where, *index, given=b"".join(entries))
        ask = ("ls-files", "-z", "-c", "-i")
        return {
            path: name
            for name, option in options.items()
            for path in run_git(top, *where, *ask, option)
        }


EMPTY_BLOB = b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def list_parents(paths: Iterable[str]) -> Set[str]:
    """All directories that lead to the paths, "" for the top."""
    parents = {""}
    for path in paths:
        path = posixpath.dirname(path)
        while path not in parents:
            parents.add(path)
            path = posixpath.dirname(path)
    return parents


def list_directory(folder: str, without: Iterable[str] = ()) -> Listing:
    """What is packed of a directory, sorted, and what is not for its kind. What is at paths
    ``without`` which it is meant to be is so only if git tracks it.
    """
    folder = os.path.realpath(folder)
    prefix = find_work_tree_prefix(folder)
    paths = walk_directory(folder) if prefix is None else list_with_git(folder)
    notes: List[str] = []
    kept: List[str] = []
    size = 0
    if prefix is not None:
        links = {path for path in list_parents(paths) if os.path.islink(os.path.join(folder, path))}
        # What git knows below a directory that is a link by now is gone.
        paths = [path for path in paths if not links & list_parents([path])]
        paths += find_special_files(folder, paths)
    left = find_ignored_paths(folder, paths, prefix)
    unwanted = set(left) | find_untracked(folder, paths, prefix, without)
    if prefix is not None:
        ask = ("ls-files", "-z", "-o", "-i", "--exclude-standard", "--directory")
        left.update(dict.fromkeys(run_git(folder, *ask), ".gitignore"))
    for path in sorted(set(paths) - unwanted, key=os.fsencode):
        try:
            status = os.lstat(os.path.join(folder, path))
        except (FileNotFoundError, NotADirectoryError):
            continue  # tracked by git, but deleted here
        note = explain_refusal(folder, path, status.st_mode)
        if note:
            notes.append(note)
        else:
            kept.append(path)
            size += status.st_size
    return Listing(kept, notes, left, size)


def find_untracked(
    folder: str, paths: Iterable[str], prefix: Optional[str], tops: Iterable[str]
) -> Set[str]:
    """Which paths are below some that git does not track, if this is in a work tree at all."""
    tops = [os.path.relpath(os.path.realpath(path), folder) for path in tops]
    below = {path for path in paths if is_below(path, tops)}
    ask = below and prefix is not None
    return below - set(run_git(folder, "ls-files", "-z") if ask else [])


def is_below(path: str, tops: Iterable[str]) -> bool:
    """Whether a path is one of others, or in one of them."""
    return any(f"{path}/".startswith(f"{top}/") for top in tops)


def find_special_files(folder: str, paths: Sequence[str]) -> List[str]:
    """Sockets, FIFOs and devices beside the files of a work tree: git does not
    list these, but whoever runs the directory should hear that they stay here.
    """
    found: List[str] = []
    for parent in {posixpath.dirname(path) for path in paths}:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(os.path.join(folder, parent)):
                if not (entry.is_symlink() or entry.is_dir() or entry.is_file()):
                    found.append(posixpath.join(parent, entry.name))
    return found


def explain_refusal(folder: str, path: str, mode: int) -> str:
    """Why a path is not packed; "" if it is."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    if stat.S_ISLNK(mode):
        target = os.readlink(os.path.join(folder, path))
        if resolve_link(folder, path, target) is None:
            return f"left out {path}: the link leads out of the directory, to {target}"
        return ""
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return f"left out {path}: it is {kinds.get(stat.S_IFMT(mode), 'a device')}"


def resolve_link(folder: str, path: str, target: str) -> Optional[str]:
    """The target of a link in a directory, relative to the link; None if it leads out.

    ``folder`` is a real path, which an absolute target may name by another way.
    """
    parent, top = os.path.join(folder, posixpath.dirname(path)), folder.rstrip("/") + "/"
    if target.startswith("/"):
        above, name = os.path.split(os.path.normpath(target))
        for absolute in (os.path.join(above, name), os.path.join(os.path.realpath(above), name)):
            if f"{absolute}/".startswith(top):
                return os.path.relpath(absolute, parent)
        return None
    inside = os.path.normpath(os.path.join(parent, target))
    return target if f"{inside}/".startswith(top) else None


Meter = Callable[[str, int], Callable[[int], None]]
"""Makes, for a work with a name and a size, what is told of each amount done."""


def ignore_progress(what: str, total: int) -> Callable[[int], None]:
    """A meter that shows nothing."""
    return lambda amount: None


def pack_directory(
    folder: str, meter: Meter = ignore_progress, without: Iterable[str] = ()
) -> Archive:
    """Pack a directory. Raises UsageError if it is empty, unreadable or too large.

    Equal directories give equal bytes: names are sorted, owners and times fixed,
    and of the permissions only the executable bit is kept. GNU format, since
    every tar, that of busybox too, reads its long names in any encoding.
    """
    import gzip
    import tempfile

    try:
        listing = list_directory(folder, without)
    except OSError as error:
        raise unreadable_error(error) from error
    if not listing.paths:
        raise UsageError(
            f"there is nothing to send in {folder}",
            "the directory is empty, or everything in it is ignored",
        )
    file = tempfile.SpooledTemporaryFile(max_size=4 * MIB, prefix="k8r-")

    def advance(amount: int) -> None:
        show(amount)
        if file.tell() > ARCHIVE_LIMIT:
            raise too_large_error(folder, listing.paths)

    try:
        show = meter("packing", listing.size)
        packed: Any = gzip.GzipFile("", "wb", 6, file, mtime=0)
        with io.BufferedWriter(packed, STREAM_CHUNK) as out:
            with contextlib.closing(Packer(out, folder, advance)) as packer:
                for path in listing.paths:
                    packer.add(path)
            out.write(bytes(1024))  # the end of the archive
        advance(0)
    except UsageError:
        file.close()
        raise
    except OSError as error:
        file.close()
        raise unreadable_error(error) from error
    for path in packer.pointers[:1]:
        count = pluralize(len(packer.pointers), "file")
        listing.notes.append(f"{count}, such as {path}, are pointers of git LFS: git lfs pull")
    if file.tell() > LARGE_ARCHIVE:
        sizes = list_largest(folder, listing.paths)[:3]
        largest = ", ".join(f"{path} ({format_size(size)})" for size, path in sizes)
        listing.notes.append(f"{format_size(file.tell())} are sent; the largest files: {largest}")
    return Archive(file, file.tell(), listing)


def build_tar_header(
    path: str, kind: bytes, mode: int = 0o755, size: int = 0, target: str = ""
) -> bytes:
    """What stands before a file in a tar archive of GNU format: for a link or a name of more
    than 100 bytes that as well. Three times as fast as tarfile, and alike in all its versions.
    """
    name, link = os.fsencode(path), os.fsencode(target)
    parts = []
    for text, long_kind in ((link, b"K"), (name, b"L")):
        if len(text) > 100:
            parts.append(build_tar_header("././@LongLink", long_kind, 0, len(text) + 1))
            parts.append(text + bytes(512 - len(text) % 512))
    count = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    head = b"%s%07o\0%s%s%011o\0" % (
        name[:100].ljust(100, b"\0"),
        mode,
        b"0000000\0" * 2,
        count,
        TAR_MTIME,
    )
    tail = b"%s%sustar  %s" % (kind, link[:100].ljust(100, b"\0"), bytes(248))
    checksum = sum(head) + 8 * ord(" ") + sum(tail)
    return b"".join([*parts, head, b"%06o\0 " % checksum, tail])


class Packer:
    """Adds the files of a directory to an archive. Each is opened from the directory that
    it is in, and no link is followed: what is swapped for one meanwhile sends nothing from
    elsewhere.
    """

    def __init__(self, out: Any, folder: str, read: Callable[[int], None]) -> None:
        self._out = out
        self._folder = os.path.realpath(folder)
        self._read = read
        self._parent = "."
        self._opened = os.open(self._folder, os.O_RDONLY)
        self._first: Dict[Tuple[int, int], str] = {}
        self._holes = 0
        self.pointers: List[str] = []

    def close(self) -> None:
        """Close the directory that is open."""
        os.close(self._opened)

    def _enter(self, parent: str) -> None:
        """Open the directory of a path, unless it is the one that is open."""
        if parent == self._parent:
            return
        self._parent, flags = ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        for name in filter(None, [self._folder, *parent.split("/")]):
            above, self._opened = self._opened, os.open(name, flags, dir_fd=self._opened)
            os.close(above)
        self._parent = parent

    def add(self, path: str) -> None:
        """Add a file, link or empty directory. Raises OSError."""
        parent, name = posixpath.split(path)
        try:
            self._enter(parent)
            status = os.lstat(name, dir_fd=self._opened)
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(name, dir_fd=self._opened)
                target = resolve_link(self._folder, path, target) or target
                self._out.write(build_tar_header(path, b"2", target=target))
            elif stat.S_ISDIR(status.st_mode):
                self._out.write(build_tar_header(f"{path}/", b"5"))
            else:
                # O_NONBLOCK: should a FIFO have taken the file's place, do not hang.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                with open(os.open(name, flags, dir_fd=self._opened), "rb", 0) as content:
                    self._add_file(path, content)
        except OSError as error:
            if error.filename:
                error.filename = os.path.join(self._folder, path)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                error.strerror = "it, or a directory above it, was replaced meanwhile"
            raise

    def _add_file(self, path: str, content: io.FileIO) -> None:
        """Add a regular file; a further name of one as a link to the first."""
        status = os.fstat(content.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a file any more", path)
        first = self._first.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            self._out.write(build_tar_header(path, b"1", target=first))
            return
        unkept = status.st_size - status.st_blocks * 512
        # A file that its file system compresses takes less room as well, but has no hole.
        if unkept > 0 and os.lseek(content.fileno(), 0, os.SEEK_HOLE) < status.st_size:
            self._holes += unkept
            os.lseek(content.fileno(), 0, os.SEEK_SET)
        if self._holes > ARCHIVE_LIMIT:
            size = format_size(status.st_size)
            what = f"it is sparse, and would arrive with all of {size}"
            raise OSError(errno.EFBIG, what, path)
        mode, left = 0o755 if status.st_mode & 0o100 else 0o644, status.st_size
        self._out.write(build_tar_header(path, b"0", mode, left))
        while left:
            data = content.read(min(left, STREAM_CHUNK))
            if not data:
                raise OSError("unexpected end of data")
            if status.st_size < 1024 and data.startswith(b"version https://git-lfs."):
                self.pointers.append(path)  # git-lfs, docs/spec.md
            self._out.write(data)
            self._read(len(data))
            left -= len(data)
        self._out.write(bytes(-status.st_size % 512))


def unreadable_error(error: OSError) -> UsageError:
    """The error of a file that cannot be read, or that shrank while it was."""
    name = os.fspath(error.filename) if error.filename else ""
    if not name:
        return UsageError(
            f"the directory cannot be packed: {error.strerror or error}",
            "a file changed meanwhile, or the disk for temporary files is full",
        )
    return UsageError(
        f"cannot read {escape_unprintable(str(name))}: {error.strerror}",
        f"correct its permissions, or leave it out with {IGNORE_FILE}",
    )


def list_largest(folder: str, paths: Iterable[str]) -> List[Tuple[int, str]]:
    """The sizes of files and their paths, the largest first."""
    sizes = []
    for path in paths:
        with contextlib.suppress(OSError):
            sizes.append((os.lstat(os.path.join(folder, path)).st_size, path))
    return sorted(sizes, key=lambda entry: (-entry[0], entry[1]))


def too_large_error(folder: str, paths: Iterable[str]) -> UsageError:
    """The refusal of a directory over the limit, with its largest files."""
    lines = [
        f"  {format_size(size):>10}  {escape_unprintable(path)}"
        for size, path in list_largest(folder, paths)[:10]
    ]
    return UsageError(
        f"the directory has more than {format_size(ARCHIVE_LIMIT)} when packed; "
        "its largest files are:\n" + "\n".join(lines),
        f"leave files out with {IGNORE_FILE}, or let the command fetch them",
    )


# Files


def read_secret(name: str, value: str, path: str) -> Dict[str, bytes]:
    """The data of a secret from a file, a directory, a pipe, or the value itself, which no
    error shows. ``path`` is ``value`` as a path. Raises UsageError.
    """
    try:
        if value and os.path.isdir(path):
            return read_secret_directory(path)
        if value and os.path.lexists(path):
            key = os.path.basename(path) if os.path.isfile(path) else name  # not a pipe's number
            with open(path, "rb") as file:
                return {key: file.read(SECRET_LIMIT + 1)}
    except OSError as error:
        raise unreadable_error(error) from error
    if is_path_like(value):
        raise UsageError(
            f"the value of the secret {name} looks like a path, and nothing is there",
            f"check the spelling; a value as such: k8r secret {name} - < FILE",
        )
    return {name: os.fsencode(value)}


def read_secret_directory(path: str) -> Dict[str, bytes]:
    """A key for each file of a directory, but for what Kubernetes keeps behind the files of
    a mounted secret (`..data`). Raises UsageError and OSError.
    """
    data: Dict[str, bytes] = {}
    for entry in sorted(os.listdir(path)):
        full = os.path.join(path, entry)
        if entry.startswith("..") and os.path.isdir(full):
            continue
        if not os.path.isfile(full):
            raise UsageError(f"{full} is not a file", "make one secret of each directory")
        with open(full, "rb") as file:
            data[entry] = file.read(SECRET_LIMIT + 1)
    if not data:
        raise UsageError(f"{escape_unprintable(path)} is empty", "a secret needs at least one file")
    return data


def read_text(path: str, what: str, theirs: bool = False, limit: int = MIB) -> str:
    """A text file of at most so many bytes that an option names, or of 16 KiB that others may
    have written (``theirs``): no device, pipe or link out of its directory. Raises UsageError.
    """
    limit, flags = (CONFIG_LIMIT, os.O_NONBLOCK) if theirs else (limit, 0)
    folder = os.path.realpath(os.path.dirname(path))
    try:
        if theirs and os.path.commonpath([folder, os.path.realpath(path)]) != folder:
            raise ValueError("it is a link that leads out of its directory")
        with open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags)) as file:
            if theirs and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is not a regular file")
            return read_stream(file, limit)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{what} {path} cannot be read: {reason}", "check the file") from error


def read_stream(stream: BinaryIO, limit: int) -> str:
    """Text of at most so many bytes. Raises ValueError in words."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {format_size(limit)}")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("it is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error


def load_yaml(text: Union[str, bytes], aliases: int = sys.maxsize) -> Any:
    """The content of YAML. Raises yaml.YAMLError, whatever the conversion of a value raises, and
    ValueError for more aliases, or deeper nesting, by which libyaml's loader would crash.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        aliases -= isinstance(event, yaml.AliasEvent)
        if depth > YAML_DEPTH:
            raise ValueError(f"it is nested more than {YAML_DEPTH} deep")
        if aliases < 0:
            raise ValueError(f"it has more than {YAML_ALIASES} aliases")
    return yaml.load(text, loader)


def read_yaml(path: str, what: str, theirs: bool = False) -> Any:
    """The content of a YAML file, as JSON has it. Raises UsageError."""
    import yaml

    text = read_text(path, what, theirs)
    try:
        return json.loads(json.dumps(load_yaml(text, YAML_ALIASES), default=str))
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = f"{what} {path} is not valid YAML: {error}"
        raise UsageError(" ".join(reason.split()), "check the file") from error


def read_patch(path: str) -> Object:
    """The content of --patch FILE. Raises UsageError."""
    patch = read_yaml(path, "the patch")
    if not isinstance(patch, dict):
        raise UsageError(
            f"the patch {path} is not a mapping", "it is merged into a pod template: spec: ..."
        )
    unknown = sorted(set(patch) - {"metadata", "spec"})
    if unknown:
        raise UsageError(
            f"the patch {path} has '{unknown[0]}', which a pod template lacks",
            "its top level is metadata and spec",
        )
    return patch


def find_installation() -> str:
    """The directory of this program. That of an installation by install.sh is a
    link to its present version, which stays right when the version changes.
    """
    folder = os.path.dirname(os.path.realpath(__file__))
    versions, current = os.path.split(os.path.dirname(folder))
    current = os.path.join(versions, "current")
    return current if os.path.islink(current) else folder


def find_commit(folder: str) -> str:
    """The short id of the commit that a program's directory has, "" if it is not
    known. install.sh names a version after it.
    """
    if os.path.islink(folder):
        return os.path.basename(os.readlink(folder))
    if is_work_tree_root(folder):
        with contextlib.suppress(GitError):
            return run_git(folder, "rev-parse", "--short", "HEAD")[0].strip()
    return ""


def find_origin(source: Source) -> str:
    """Where a source comes from: an image without its tag, a repository with the path in
    it, or the path of a directory that has no remote repository.
    """
    if source.kind == CONTAINER:
        return re.sub(r"(:[^/:@]*)?(@.*)?$", "", source.path)
    if source.kind == GITHUB:
        return name_repository(source.path)
    folder = source.path if source.kind == DIRECTORY else os.path.dirname(source.path)
    with contextlib.suppress(GitError):  # no repository, or one without a remote
        prefix = find_work_tree_prefix(folder)
        if prefix is not None:
            remote = run_git(folder, "config", "-z", "--get", "remote.origin.url")[0]
            return f"{name_repository(remote)}/{prefix}".rstrip("/")
    return folder


def get_path_type(path: str) -> str:
    """What the file system has under a name: "directory", "file" or ""."""
    if os.path.isdir(path):
        return DIRECTORY
    return "file" if os.path.lexists(path) else ""


# ==============================================================================
# Repositories
# ==============================================================================

LOOKUP_TIMEOUT = 5.0
"""Seconds to wait for a part of a git server's answer before leaving it to the cluster."""
LOOKUP_TIME = 10.0
LOOKUP_SIZE = 32 * MIB


def fetch_refs(url: str, user: str, password: str, answers: queue.Queue[Any]) -> None:
    """Put an HTTP git server's answer to the question for its refs into a queue: the status, the
    content and who gave it, or an exception. A login goes to no other host that the server
    redirects to, and none is taken from ~/.netrc.
    """
    import requests

    headers = {"User-Agent": f"git/2.0 (k8r/{__version__})", "Accept-Encoding": "identity"}
    if user or password:
        login = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        headers["Authorization"] = f"Basic {login}"

    def keep_login(request: Any, response: Any) -> None:
        if get_origin(request.url) != get_origin(url):
            request.headers.pop("Authorization", None)

    try:
        with requests.Session() as session:
            setattr(session, "rebuild_auth", keep_login)  # what requests calls after a redirect
            place, query = url.rstrip("/") + "/info/refs", {"service": "git-upload-pack"}
            options: Object = {"params": query, "headers": headers, "timeout": LOOKUP_TIMEOUT}
            # With a function for auth, even if that does nothing, ~/.netrc is not read.
            answer = session.get(place, auth=lambda request: request, stream=True, **options)
            content = bytearray()
            for chunk in answer.iter_content(STREAM_CHUNK):
                content += chunk
                if len(content) > LOOKUP_SIZE:
                    raise ValueError("its answer is too long")
        answers.put((answer.status_code, bytes(content), get_origin(answer.url)))
    except (OSError, ValueError) as error:  # those of requests are among them
        answers.put(error)


def look_up_repository(url: str, ref: Optional[str], user: str, password: str) -> str:
    """Ask an HTTP git server for a repository and a ref, so that a typo costs a
    second and no pod. Returns a warning, "" if all is well.

    Raises UsageError if the server says that it has no such thing. A server out
    of reach is left to the cluster, which may see what this machine cannot.
    """
    answers: queue.Queue[Any] = queue.Queue()
    arguments = (url, user, password, answers)
    threading.Thread(target=fetch_refs, args=arguments, daemon=True).start()
    answer: Any = TimeoutError(f"no answer within {LOOKUP_TIME:.0f} s")
    with contextlib.suppress(queue.Empty):
        answer = answers.get(timeout=LOOKUP_TIME)
    if isinstance(answer, Exception):
        return f"{url} cannot be checked from here: {find_root_cause(answer)}"
    status, content, origin = answer
    if status in (401, 403):
        raise no_entry_error(url, origin, bool(user or password))
    if status in (404, 410):
        raise UsageError(f"there is no repository {url}", "check the spelling")
    try:
        refs = parse_refs(content if status == 200 else b"")
    except ValueError:
        return f"{url} cannot be checked from here: its answer is not that of git"
    if not refs:
        raise UsageError(f"the repository {url} is empty", "push a commit to it")
    check_ref(url, refs, ref or "HEAD")
    return ""


def no_entry_error(url: str, origin: str, login: bool) -> UsageError:
    """The error for a repository that its host, or one that this leads to, does not show."""
    if origin != get_origin(url):
        words = f"{url} leads to {origin}, which asks for a login of its own"
        return UsageError(words, "give the URL that the repository has there")
    if login:
        return UsageError(f"{url} refuses the credentials in the URL", "check the token")
    hint = "check the spelling, or give --git-secret NAME"
    return UsageError(f"{url} is private, or does not exist", hint)


def find_root_cause(error: BaseException) -> str:
    """The words of the first in a chain of exceptions, where HTTP libraries hide
    the system's own.
    """
    explained = getattr(error, "explanation", None)  # docker's word for its daemon's answer
    while not explained and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__ or error
    words = explained or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(words.split())


# ==============================================================================
# Images
# ==============================================================================

DEFAULT_REGISTRY = "gcr.io"
DEFAULT_PROJECT = "default-project"


CLASSIC = "classic"
BUILDERS = {
    "buildx": ("docker buildx build --load", "docker version", "docker buildx version"),
    "docker": ("docker build", "docker version", "docker build --help"),
    "podman": ("podman build", "podman version"),
    "nerdctl": ("nerdctl build", "nerdctl version"),
}
"""The programs that build all that a Dockerfile may have, the first that can, and what each is
asked for that: docker itself says by its help that it lacks its plugin."""
STORES = {"podman", "nerdctl"}
"""Those that keep their images elsewhere than the docker daemon."""
ASK_TIME = 20.0
"""Seconds that a program may take to say whether it can build."""


def find_builder(environ: Mapping[str, str], local: bool) -> str:
    """The builder that K8R_BUILDER names, else the first that can build, for a ``local`` run
    where docker finds the image. Raises K8rError.
    """
    wanted = environ.get("K8R_BUILDER")
    if wanted and wanted not in (*BUILDERS, CLASSIC):
        names = ", ".join([*BUILDERS, CLASSIC])
        raise UsageError(f"K8R_BUILDER is '{wanted}'", f"the builders are {names}")
    for name in BUILDERS if not wanted else {wanted} - {CLASSIC}:
        questions = () if local and name in STORES else BUILDERS[name][1:]
        if questions and all(can_answer(question, environ) for question in questions):
            return name
        if wanted:
            hint = f"try: {questions[-1]}" if questions else "a local run needs docker's"
            raise K8rError(f"the builder {wanted} cannot be used", hint)
    return CLASSIC


def can_answer(question: str, environ: Mapping[str, str]) -> bool:
    """Whether a program ends with 0, and soon."""
    settings = {**environ, "DOCKER_BUILDKIT": "1"}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            question.split(),
            env=settings,
            timeout=ASK_TIME,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode == 0
    return False


SECRET_NAME = re.compile("(?i)(key|token|secret|password|passwd|credentials?|auth)$")
"""Build arguments that the builder gets by its environment, so that no command line shows them.
Others could be settings of its own there: a directory may name any."""


def run_builder(
    builder: str, dockerfile: str, options: BuildOptions, environ: Mapping[str, str], output: Any
) -> str:
    """Build an image by one of BUILDERS; its id. What that says goes to ``output``, a file or
    subprocess.PIPE. Raises K8rError.
    """
    import tempfile

    folder, name = os.path.split(dockerfile)
    words = [*BUILDERS[builder][0].split(), "--file", dockerfile]
    args = dict(options.args)
    environ = {**environ, **{key: args[key] for key in args if SECRET_NAME.search(key)}}
    for key, value in args.items():
        words.append(f"--build-arg={key}" + f"={value}" * (environ.get(key) != value))
    words += [f"--secret={secret}" for secret in options.secrets]
    words += [f"--target={options.target}"] * bool(options.target)
    words += [f"--platform={options.platform}"] * bool(options.platform)
    with tempfile.TemporaryDirectory(prefix="k8r-") as scratch:
        path = os.path.join(scratch, "id")
        run_program(f"the build of {name}", [*words, "--iidfile", path, folder], environ, output)
        return read_text(path, "the image's id").strip()


def run_program(
    what: str, command: Sequence[str], environ: Mapping[str, str], output: Any = subprocess.PIPE
) -> str:
    """Run a program for a work; what it says, if nobody sees it. Raises K8rError."""
    settings = {**environ, "DOCKER_BUILDKIT": "1"}
    try:
        done = subprocess.run(
            command, env=settings, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    except OSError as error:
        hint = f"install {command[0]}"
        raise K8rError(f"cannot run {command[0]}: {error.strerror}", hint) from error
    text = (done.stdout or b"").decode("utf-8", "replace").strip()
    if done.returncode:
        raise K8rError(f"{what} failed" + f": {text}" * bool(text), "")
    return text


class ImageStore(NamedTuple):
    """The images of podman or nerdctl, as far as k8r needs them."""

    program: str
    environ: Mapping[str, str]

    def tag(self, image: str, repository: str) -> str:
        """Name an image by its own id, so that equal builds have equal names."""
        reference = f"{repository}:{image.rpartition(':')[2][:12]}"
        run_program("the image's name", [self.program, "tag", image, reference], self.environ)
        return reference

    def push(self, reference: str) -> str:
        """Push an image; its name by digest, which never changes. Raises K8rError."""
        import tempfile

        repository, _, _ = reference.rpartition(":")
        with tempfile.NamedTemporaryFile("r", prefix="k8r-") as file:
            digest = ["--digestfile", file.name] if self.program == "podman" else []
            command = [self.program, "push", *digest, reference]
            text = run_program(f"the push to {repository}", command, self.environ)
            found = re.search(r"(?:^|manifest-|index-)(sha256:[0-9a-f]{64})", file.read() or text)
        if not found:
            raise K8rError(f"{self.program} named no digest of {reference}")
        return f"{repository}@{found.group(1)}"


def check_ignore_files(builder: str, dockerfile: str) -> None:
    """Raise UsageError for an ignore file that a builder does not read, or not as BuildKit does
    today: by `!**/NAME` docker's older one and podman find nothing in what is left out.
    """
    bases = (dockerfile, os.path.join(os.path.dirname(dockerfile), ""))
    names = [f"{base}.{kind}ignore" for base in bases for kind in ("container", "docker")]
    found = list(filter(os.path.lexists, names))
    read = [name for name in found if builder == "podman" or name.endswith(".dockerignore")]
    if found and not read:
        what = f"{os.path.basename(found[0])} is read by podman, not by {builder}"
        raise UsageError(what, "call it .dockerignore, which all builders read")
    text = read_text(read[0], "the file") if read and builder in ("docker", "podman") else ""
    rule = re.search(r"(?m)^!.*\*\*.*", text)
    if rule:
        what = f"'{escape_unprintable(rule[0])}' in {os.path.basename(read[0])} needs buildx"
        raise UsageError(what, "name the directories in it, or install docker's plugin buildx")


NEEDS_BUILDKIT = re.compile(r"""(?ix) ^\#\s*(?P<syntax>syntax)\s*=
    | ^\s*(?:run|copy|add)\s(?:.*\s)?(?P<heredoc><<-?["']?\w)
    | ^\s*(?:run|copy|add)\s+(?:--\S+\s+)*--(?P<flag>
        mount|network|security|device|link|chmod|exclude|parents|checksum|keep-git-dir|unpack)\b
    | ^\s*[a-z].*\b(?P<variable>(?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT))\b""")
"""What the classic builder refuses without a line's number, ignores or takes for empty text."""
_NAME = r"(?!\.{1,2}(?:/|$)|.*\*\*)[\w.@+*?-]+"
SIMPLE_IGNORED = re.compile(rf"#.*|(?P<kept>!)?(?P<deep>\*\*/)?/?{_NAME}(?:/{_NAME})*/?|")
"""A line of a .dockerignore of which docker's client and its SDK think alike."""


def check_classic_build(dockerfile: str, options: BuildOptions) -> List[str]:
    """The rules of .dockerignore. Raises UsageError for what the classic builder does wrong."""
    folder, name = os.path.split(dockerfile)
    own, text = f"{dockerfile}.dockerignore", read_text(dockerfile, "the file")
    found = ["--build-secret needs"] * bool(options.secrets)
    found += [f"{name}.dockerignore needs"] * os.path.lexists(own)
    for match, number in find_unsupported(text):
        found.append(f"line {number} of {name} has {match}, which needs")
    path = os.path.join(folder, ".dockerignore")
    rules = read_text(path, "the file") if os.path.lexists(path) else ""
    line = find_unclear_rule(rules)
    found += [f"'{line}' in .dockerignore needs"] * bool(line)
    if found:
        hint = "install docker's buildx, podman or nerdctl"
        raise UsageError(f"{found[0]} BuildKit, and only docker's classic builder is here", hint)
    return [line.strip() for line in rules.split("\n") if line.strip() and line[0] != "#"]


def find_unclear_rule(text: str) -> str:
    """The first line of a .dockerignore that docker's SDK may read otherwise, "" for none."""
    rules = {line: SIMPLE_IGNORED.fullmatch(line.rstrip()) for line in text.split("\n")}
    kept = any(rule and rule["kept"] for rule in rules.values())
    unclear = (line for line, rule in rules.items() if not rule or (rule["deep"] and kept))
    return escape_unprintable(next(unclear, "").strip())


def find_unsupported(text: str) -> Iterator[Tuple[str, int]]:
    """What of a Dockerfile the classic builder does not do, with the line's number."""
    number, whole = 1, ""
    for line in text.split("\n"):
        number += 1
        whole += line.rstrip()
        if whole.endswith("\\") and not whole.lstrip().startswith("#"):
            whole = whole[:-1] + " "
            continue
        match = NEEDS_BUILDKIT.search(whole)
        if match:
            flag = match["flag"] and f"--{match['flag']}"
            yield flag or match["variable"] or match["syntax"] or "a heredoc", number - 1
        whole = ""


@contextlib.contextmanager
def explain_docker_errors(what: str, hint: str = "") -> Iterator[None]:
    """Translate the errors of the docker SDK, which raises TypeError and ValueError, too."""
    import docker

    try:
        yield
    except (docker.errors.DockerException, OSError, TypeError, ValueError) as error:
        raise K8rError(f"{what}: {find_root_cause(error)}", hint) from error


class Docker:
    """The docker daemon, as far as k8r needs one.

    ``tell`` takes a line of a build's output, ``progress`` a state that the next
    one replaces.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        tell: Callable[[str], None],
        progress: Callable[[str], None],
    ) -> None:
        self._tell = tell
        self._progress = progress
        self._api = self._connect(environ)

    @staticmethod
    def _connect(environ: Mapping[str, str]) -> Any:
        """The daemon of DOCKER_HOST, else that of docker's current context."""
        import docker

        host = environ.get("DOCKER_HOST")
        with explain_docker_errors("docker's context cannot be read"):
            context = None if host else docker.ContextAPI.get_current_context()
        host = host or (context and context.Host)
        what = f"the docker daemon at {host or 'its default socket'} cannot be reached"
        with explain_docker_errors(what, "start docker, or set DOCKER_HOST"):
            settings = {**environ, **({"DOCKER_HOST": host} if host else {})}
            return docker.from_env(version="auto", environment=settings).api

    def build(self, dockerfile: str, options: BuildOptions) -> str:
        """Build an image by the classic builder; its id. Raises K8rError."""
        import docker

        folder, name = os.path.split(dockerfile)
        rules, image = check_classic_build(dockerfile, options), ""
        with explain_docker_errors(f"the build of {name} failed"):
            for event in self._events(
                "build",
                fileobj=docker.utils.tar(folder, exclude=rules, dockerfile=(name, None)),
                custom_context=True,
                dockerfile=name,
                buildargs=dict(options.args),
                target=options.target,
                platform=options.platform,
                rm=True,
                forcerm=True,
            ):
                for line in filter(None, str(event.get("stream") or "").splitlines()):
                    self._tell(line)
                    step = re.match(r"Step (\d+)/(\d+) :", line)
                    if step:
                        done, total = int(step.group(1)) - 1, int(step.group(2))
                        self._progress(f"building {name} {format_bar(done, total)}")
                image = (event.get("aux") or {}).get("ID") or image
        return image

    def _events(self, what: str, *args: Any, **options: Any) -> Iterator[Object]:
        """What the daemon tells of a work; an error that it tells of is raised."""
        import docker

        for event in getattr(self._api, what)(*args, decode=True, **options):
            detail = (event.get("errorDetail") or {}).get("message") or event.get("error")
            if detail:
                raise docker.errors.DockerException(detail)
            yield event

    def tag(self, image: str, repository: str) -> str:
        """Name an image by its own id, so that equal builds have equal names."""
        tag = image.rpartition(":")[2][:12]
        self._api.tag(image, repository, tag)
        return f"{repository}:{tag}"

    def push(self, reference: str) -> str:
        """Push an image; its name by digest, which never changes. Raises K8rError."""
        repository, _, tag = reference.rpartition(":")
        digest, layers = "", LayerProgress()
        hint = "check K8R_REGISTRY and K8R_PROJECT, and docker login"
        with explain_docker_errors(f"the image cannot be pushed to {repository}", hint):
            for event in self._events("push", repository, tag, stream=True):
                digest = (event.get("aux") or {}).get("Digest") or digest
                self._progress(f"pushing {layers.take(event)}")
            if not digest:
                raise ValueError("the registry named no digest")
        return f"{repository}@{digest}"

    def pull(self, image: str) -> None:
        """Fetch an image, unless it is here. Raises K8rError."""
        import docker

        repository, tag = docker.utils.parse_repository_tag(image)
        layers = LayerProgress()
        with explain_docker_errors(f"the image {image} cannot be pulled", "check its name"):
            with contextlib.suppress(docker.errors.ImageNotFound):
                self._api.inspect_image(image)
                return
            for event in self._events("pull", repository, tag or "latest", stream=True):
                self._progress(f"pulling {image}: {layers.take(event)}")

    def container(
        self,
        work: Workload,
        variables: Mapping[str, str],
        results: Mapping[str, str],
        source: int,
    ) -> LocalContainer:
        """A container like a pod's, without volumes. Its limit of memory is for swap, too,
        and that of CPUs may be for more than there are. With `-i` it reads a descriptor.
        """
        limits = {name: convert_quantity(text) for name, text in work.options.resources.limits}
        memory = int(limits.get("memory", 0)) or None
        quota = max(int(limits["cpu"] * 100_000), 1000) if "cpu" in limits else None
        entrypoint, command = build_command_line(work, str)
        settings = {
            "image": work.image,
            "entrypoint": entrypoint or None,
            "command": command or None,
            "environment": dict(variables),
            "labels": build_labels(work),
            "stdin_open": work.options.stdin,
            "host_config": self._api.create_host_config(
                mem_limit=memory, memswap_limit=memory, cpu_period=100_000, cpu_quota=quota
            ),
        }
        return LocalContainer(self._api, settings, results, source)


class LocalContainer:
    """A container, with the interface of `LocalProcess`. Its output is had by attaching
    to it, since docker's log replaces what is not UTF-8.

    At its end the archives of its ``results``, paths in it, are the files that these have here.
    """

    def __init__(self, api: Any, settings: Object, results: Mapping[str, str], source: int) -> None:
        self._api = api
        self._settings = settings
        self._results = results
        self._source = source
        self._lock = threading.Lock()
        self._stopped = False
        self._id = ""
        self.outcome = Outcome(128 + signal.SIGTERM)

    def output(self) -> Iterator[bytes]:
        """Run it and yield what it writes; `outcome` is then how it ended."""
        import docker

        with explain_docker_errors(f"docker cannot run {self._settings['image']}"):
            try:
                with self._lock:
                    if self._stopped:
                        return
                    self._id = self._api.create_container(**self._settings)["Id"]
                    self._make_folders()
                    pieces = self._api.attach(self._id, stream=True)
                    if self._settings["stdin_open"]:
                        stream = self._api.attach_socket(self._id, {"stdin": 1, "stream": 1})
                        threading.Thread(target=self._feed, args=(stream,), daemon=True).start()
                    try:
                        self._api.start(self._id)
                    except docker.errors.APIError as error:
                        self.outcome = Outcome(128, f"StartError: {error.explanation}")
                        return
                yield from pieces
                code = int(self._api.wait(self._id, timeout=None)["StatusCode"])
                state = self._api.inspect_container(self._id)["State"]
                self.outcome = Outcome(code, "OOMKilled" if state.get("OOMKilled") else "")
                for path, file in self._results.items():
                    parts: Iterable[bytes] = [bytes(1024)]  # an empty archive
                    with contextlib.suppress(docker.errors.NotFound):
                        parts, _ = self._api.get_archive(self._id, path)
                    with open(file, "wb") as archive:
                        archive.writelines(parts)
            finally:
                self._do("remove_container", v=True, force=True)

    def _make_folders(self) -> None:
        """Have directories for results, to which anybody may write, as a pod has volumes."""
        import tarfile

        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for path in self._results:
                folder = tarfile.TarInfo(path[1:])
                folder.type, folder.mode = tarfile.DIRTYPE, 0o777
                tar.addfile(folder)
        self._api.put_archive(self._id, "/", file.getvalue())

    def _feed(self, stream: Any) -> None:
        """What the input's thread does. A command may end before its input."""
        import socket

        connection = getattr(stream, "_sock", stream)
        with contextlib.suppress(OSError):
            for data in iter(lambda: os.read(self._source, STREAM_CHUNK), b""):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    def stop(self, signum: int) -> None:
        """Send the container a signal; it will not be started any more."""
        with self._lock:
            self._stopped = True
            self._do("kill", signal=signum)

    def _do(self, what: str, **options: Any) -> None:
        """Do something to a container, which may have ended meanwhile, or be gone."""
        import docker

        if self._id:
            with contextlib.suppress(docker.errors.DockerException, OSError):
                getattr(self._api, what)(self._id, **options)


class LayerProgress:
    """Adds up what a push or a pull says of each layer."""

    def __init__(self) -> None:
        self._done: Dict[str, int] = {}
        self._total: Dict[str, int] = {}

    def take(self, event: Object) -> str:
        """The state after one more event."""
        detail, layer = event.get("progressDetail") or {}, str(event.get("id"))
        if detail.get("total"):
            self._total[layer] = int(detail["total"])
            self._done[layer] = min(int(detail.get("current") or 0), self._total[layer])
        done, total = sum(self._done.values()), sum(self._total.values())
        return f"{format_bar(done, total)} of {format_size(total)}" if total else "..."


def build_image(
    builder: str,
    dockerfile: str,
    options: BuildOptions,
    environ: Mapping[str, str],
    console: Console,
) -> Tuple[Union[Docker, ImageStore], str]:
    """Build an image; where it is then, and its id. Raises K8rError."""
    console.debug(f"the image is built by {builder}")
    check_ignore_files(builder, dockerfile)
    if builder in STORES:
        image = run_builder(builder, dockerfile, options, environ, console.lend())
        return ImageStore(builder, environ), image
    docker = Docker(environ, console.plain, console.progress)
    if builder == CLASSIC:
        return docker, docker.build(dockerfile, options)
    return docker, run_builder(builder, dockerfile, options, environ, console.lend())


def build_load_command(context: str, image: str) -> Optional[List[str]]:
    """The command that loads an image into a local cluster's nodes, None if the
    context is none of kind, k3d or minikube.
    """
    kind, _, name = context.partition("-")
    commands = {
        "kind": ["kind", "load", "docker-image", image, "--name", name],
        "k3d": ["k3d", "image", "import", image, "--cluster", name],
        "minikube": ["minikube", "image", "load", image],
    }
    return commands.get(kind) if bool(name) != (kind == "minikube") else None


def is_local_node(context: str, node: str) -> bool:
    """Whether a node's name fits the local cluster that a context's name means."""
    start = context[5:] if context.startswith("kind-") else context
    return node.startswith(f"{start}-") or node == context == "minikube"


# ==============================================================================
# Access
# ==============================================================================

PLUGIN_TIMEOUT = 120.0
"""Seconds that a credential plugin may take; somebody may be logging in."""
PLUGIN_API = "client.authentication.k8s.io/"
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its credentials and its namespace."""
LOOPBACK = ("localhost", "127.0.0.0/8", "::1")
REPAIR = "repair the kubeconfig or use another --context"
LOGIN_HINT = "log in with your cloud's tool, or repair the user in the kubeconfig"

LOGINS = ("token", "tokenFile", "username", "password", "client-certificate")
PLUGIN_SHAPE: Object = dict.fromkeys("apiVersion command installHint interactiveMode".split(), str)
PLUGIN_SHAPE.update(args=[str], env=[{"name": str, "value": str}], provideClusterInfo=bool)
EXTENSIONS = [{"name": str, "extension": object}]
SHAPES: Dict[str, Object] = {
    "context": {"cluster": str, "user": str, "namespace": str, "extensions": EXTENSIONS},
    "cluster": {
        **dict.fromkeys(("server", "tls-server-name", "proxy-url", "certificate-authority"), str),
        **dict.fromkeys(("insecure-skip-tls-verify", "disable-compression"), bool),
        **{"certificate-authority-data": str, "extensions": EXTENSIONS},
    },
    "user": {
        **dict.fromkeys((*LOGINS, "client-certificate-data", "client-key", "client-key-data"), str),
        **{"as": str, "as-uid": str, "as-groups": [str], "as-user-extra": {str: [str]}},
        **{"exec": PLUGIN_SHAPE, "auth-provider": {str: object}, "extensions": EXTENSIONS},
    },
}
"""What kubectl knows of a kubeconfig (client-go, tools/clientcmd/api/v1)."""
FILE_SHAPE: Dict[Any, Any] = {f"{kind}s": [{"name": str, str: object}] for kind in SHAPES}
FILE_SHAPE.update({"current-context": str, str: object})
SUCCESSORS = {"gcp": "gke-gcloud-auth-plugin", "azure": "kubelogin", "oidc": "kubectl oidc-login"}
"""The credential plugins that took the place of auth-provider's kinds."""


def check_shape(value: Any, shape: Any, where: str) -> Any:
    """Check the types in data that was read, and that k8r knows all of it, since what it would
    pass over may protect. ``shape`` has types, lists of one shape, and mappings with a shape for
    each key, or for any (str). Returns the data without nulls; raises K8rError without a value.
    """
    kind: Any = shape if isinstance(shape, type) else type(shape)
    if not isinstance(value, kind):
        words = {str: "text", bool: "true or false", list: "a list", dict: "a mapping"}[kind]
        raise K8rError(f"{where} is not {words}", "text like a number or a date needs quotes")
    if isinstance(shape, list):
        return [check_shape(item, shape[0], where) for item in value]
    if not isinstance(shape, dict):
        return value
    for key in value:
        if not isinstance(key, str) or not {key, str} & set(shape):
            name = escape_unprintable(str(key))
            raise K8rError(f"{where} has '{name}', which k8r does not know", REPAIR)
    return {
        key: check_shape(item, shape.get(key, shape.get(str)), f"'{key}' of {where}")
        for key, item in value.items()
        if item is not None
    }


def merge_kubeconfigs(parts: Iterable[Tuple[str, Object]]) -> Object:
    """Merge kubeconfigs by kubectl's rules: of equal names the first counts.

    ``parts`` are directory and content of each file. Each section of the result has by its
    name the directory and the content of an entry. Raises K8rError if one is malformed.
    """
    merged: Object = {"clusters": {}, "users": {}, "contexts": {}, "current-context": ""}
    for folder, part in parts:
        part = check_shape(part, FILE_SHAPE, "the kubeconfig")
        merged["current-context"] = merged["current-context"] or part.get("current-context", "")
        for kind in SHAPES:
            for entry in part.get(f"{kind}s", []):
                merged[f"{kind}s"].setdefault(entry.get("name", ""), (folder, entry.get(kind, {})))
    return merged


def pick_entry(merged: Object, kind: str, name: str) -> Object:
    """A context, cluster or user, whose relative paths are relative to its file. Raises
    K8rError.
    """
    folder, content = merged[f"{kind}s"][name]
    body: Object = check_shape(content, SHAPES[kind], f"the kubeconfig's {kind} '{name}'")
    for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        if body.get(key):
            body[key] = os.path.join(folder, body[key])
    plugin = body.get("exec", {})
    if "/" in plugin.get("command", ""):
        plugin["command"] = os.path.join(folder, plugin["command"])
    return body


def pick_context(merged: Object, context: Optional[str]) -> Object:
    """Reduce a merged kubeconfig to one context; one without a user is anonymous. Raises
    K8rError.
    """
    contexts, name = merged["contexts"], context or merged["current-context"]
    known = ", ".join(sorted(contexts)) or "none"
    if not name:
        raise UsageError("the kubeconfig has no current context", f"use --context, one of: {known}")
    if name not in contexts:
        raise UsageError(f"there is no context '{name}' in the kubeconfig", f"there are: {known}")
    chosen = pick_entry(merged, "context", name)
    picked: Object = {"current-context": name, "namespace": chosen.get("namespace"), "user": {}}
    for kind in ("cluster", "user"):
        wanted = chosen.get(kind, "")
        if wanted in merged[f"{kind}s"]:
            picked[kind] = pick_entry(merged, kind, wanted)
        elif wanted or kind == "cluster":
            words = f"context '{name}' names the {kind} '{wanted}', which the kubeconfig lacks"
            raise UsageError(words, REPAIR)
    check_user(picked["user"])
    return picked


def check_user(user: Object) -> None:
    """Check a user and its credential plugin by kubectl's rules. Raises K8rError."""
    plugin, wrong = user.get("exec", {"command": "-", "apiVersion": PLUGIN_API + "v1beta1"}), ""
    needed = ["command"] + ["interactiveMode"] * (plugin.get("apiVersion") == PLUGIN_API + "v1")
    modes = ("", "Never", "IfAvailable", "Always")
    if user.get("token") and (user.get("username") or user.get("password")):
        wrong = "has both a token and a password"
    elif not user.get("as") and any(map(user.get, ("as-uid", "as-groups", "as-user-extra"))):
        wrong = "has as-uid, as-groups or as-user-extra without 'as'"
    elif plugin.get("apiVersion") not in (PLUGIN_API + "v1", PLUGIN_API + "v1beta1"):
        wrong = f"has an exec whose apiVersion is neither {PLUGIN_API}v1 nor v1beta1"
    elif not all(map(plugin.get, needed)) or plugin.get("interactiveMode", "") not in modes:
        wrong = "has an exec without a command, or an interactiveMode (Never, IfAvailable, Always)"
    if "auth-provider" in user:
        successor = SUCCESSORS.get(str(user["auth-provider"].get("name")), "a credential plugin")
        wrong = f"logs in by auth-provider, which has a successor: {successor}"
    if wrong:
        raise K8rError(f"the kubeconfig's user {wrong}", LOGIN_HINT)


def run_plugin(plugin: Object, cluster: Object, environ: Mapping[str, str]) -> Tuple[Object, float]:
    """Run a credential plugin; give what a kubeconfig's user would have, and when that expires.
    Its stderr is k8r's own, since a login may ask or tell a code there. Raises K8rError.
    """
    mode, command, terminal = plugin.get("interactiveMode"), plugin["command"], os.isatty(0)
    spec: Object = {"interactive": terminal and mode != "Never"}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = describe_cluster(cluster)
    asked = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": spec}
    env = plugin.get("env", [])
    variables = {item.get("name") or "=": item.get("value", "") for item in env}  # refused below
    hint = LOGIN_HINT
    try:
        if mode == "Always" and not terminal:
            raise ValueError("it needs a terminal, and standard input is not one")
        done = subprocess.run(
            [command, *plugin.get("args", [])],
            env={**environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
            stdin=None if spec["interactive"] else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=PLUGIN_TIMEOUT,
        )
        if done.returncode:
            raise ValueError(f"it ended with exit status {done.returncode}")
        return read_credentials(done.stdout, plugin["apiVersion"])
    except subprocess.TimeoutExpired:
        reason = f"no answer within {PLUGIN_TIMEOUT:.0f} s"
    except OSError as error:
        reason = str(error.strerror)
        hint = " ".join(plugin.get("installHint", hint).split())
    except (ValueError, K8rError) as error:
        reason = str(error)
    raise K8rError(
        f"the credential plugin '{escape_unprintable(command)}' failed: {reason}",
        escape_unprintable(hint),
    )


def read_credentials(printed: bytes, version: str) -> Tuple[Object, float]:
    """What an ExecCredential gives a user, and when that expires
    (https://kubernetes.io/docs/reference/config-api/client-authentication.v1). Raises ValueError
    and K8rError, which show nothing of it.
    """
    words = "token clientCertificateData clientKeyData expirationTimestamp".split()
    shape: Dict[Any, Any] = {"status": {**dict.fromkeys(words, str), str: object}, str: object}
    try:
        answer = check_shape(json.loads(printed), shape, "what it prints")
    except (ValueError, RecursionError):
        raise ValueError("what it prints is not JSON") from None
    if (answer.get("apiVersion"), answer.get("kind")) != (version, "ExecCredential"):
        raise ValueError(f"what it prints is not an ExecCredential of {version}")
    token, certificate, key, time_ = (answer.get("status", {}).get(word, "") for word in words)
    if not (token or key) or bool(certificate) != bool(key):
        raise ValueError("it gave neither a token nor a certificate with its key")
    pair = (base64.b64encode(pem.encode("utf-8", "replace")).decode() for pem in (certificate, key))
    names = ("client-certificate-data", "client-key-data")
    return {"token": token, **dict(zip(names, pair))}, parse_timestamp(time_) or float("inf")


def describe_cluster(cluster: Object) -> Object:
    """What a credential plugin is told about its cluster. Raises K8rError."""
    authority = read_credential(cluster, "certificate-authority")
    told = {key: value for key, value in cluster.items() if key != "certificate-authority"}
    told["certificate-authority-data"] = base64.b64encode(authority).decode()
    for extension in told.pop("extensions", []):
        if extension.get("name") == PLUGIN_API + "exec":
            told["config"] = extension.get("extension")
    return told


class Access(NamedTuple):
    """How to reach an API server: its URL, the headers that carry the credentials, urllib3's
    pool of connections, and when the credentials expire, in seconds since 1970.
    """

    host: str
    headers: Any
    pool: Any
    expires: float = float("inf")


def list_keepalive_options() -> List[Tuple[int, int, int]]:
    """Socket options that notice a peer that is gone after some 25 seconds."""
    import socket

    wanted = {"TCP_NODELAY": 1, "TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    known = {name: value for name, value in wanted.items() if hasattr(socket, name)}
    options = [(socket.IPPROTO_TCP, getattr(socket, name), known[name]) for name in known]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *options]


def parse_server(text: str) -> str:
    """The URL of a server as kubectl takes it: what has no scheme is http. Raises K8rError,
    which does not show it, since passwords are put into URLs.
    """
    host = r"((?:[^][\s@/?#:]+|\[[\da-f:.]+\])(?::0*[1-9]\d{0,4})?)"
    match = re.fullmatch(rf"(?:(https?)://)?{host}(/[^\s@?#]*)?([?#][^\s@]*)?", text, re.I)
    if match and (match[1] or match[3] in (None, "/")):  # without a scheme kubectl takes no path
        return f"{(match[1] or 'http').lower()}://{match[2]}{(match[3] or '').rstrip('/')}"
    raise K8rError("the kubeconfig's server is not a URL such as https://HOST:6443", REPAIR)


def find_proxy(url: str, environ: Mapping[str, str]) -> str:
    """The proxy that the environment names for a URL, or "", by the rules of Go's
    golang.org/x/net/http/httpproxy: none for this machine, and none for what NO_PROXY lists.
    """
    scheme = url.partition(":")[0]
    names = [f"{scheme}_proxy", "no_proxy"]
    proxy, listed = (environ.get(name.upper()) or environ.get(name) or "" for name in names)
    if not proxy or is_listed(url, [*LOOPBACK, *listed.lower().split(",")]):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def is_listed(url: str, entries: Iterable[str]) -> bool:
    """Whether entries of NO_PROXY are for a URL's host: `*`, an address, a network, or a domain,
    of which `.a.b` and `*.a.b` mean those below it only; each with a port or without.
    """
    import ipaddress
    import urllib.parse

    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", str(parts.port or {"http": 80}.get(parts.scheme, 443))
    is_name = not re.fullmatch(r"[\d.]+|.*:.*", host)
    for entry in filter(None, map(str.strip, entries)):
        match = re.fullmatch(r"(\[[^\[\]]+\]|[^:\[\]]+):(\d*)", entry)
        name, wanted = (match[1].strip("[]"), match[2]) if match else (entry, "")
        below = name.startswith((".", "*."))
        text, end = (host, name.lstrip("*")) if below else (f".{host}", f".{name}")
        found = name == "*" or (is_name and text.endswith(end))
        with contextlib.suppress(ValueError):
            found |= ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
        if found and wanted in ("", port):
            return True
    return False


def make_pool(proxy: str, options: Object) -> Any:
    """urllib3's connections, through a proxy if there is one. Raises K8rError, which shows
    no password of the proxy's.
    """
    import urllib.parse

    import urllib3

    options["maxsize"], options["socket_options"] = STREAMS_AT_ONCE + 14, list_keepalive_options()
    if not proxy:
        return urllib3.PoolManager(**options)
    shown = redact(escape_unprintable(proxy))
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(proxy)
        host = parts.netloc.rpartition("@")[2]
        user, password = (urllib.parse.unquote(t or "") for t in (parts.username, parts.password))
        if parts.hostname and parts.port != 0 and parts.scheme in ("http", "https"):
            login = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}") if user else None
            return urllib3.ProxyManager(f"{parts.scheme}://{host}", proxy_headers=login, **options)
        if parts.hostname and parts.scheme in ("socks5", "socks5h"):
            try:
                __import__("socks")  # which urllib3 would miss by a warning, too
                from urllib3.contrib.socks import SOCKSProxyManager
            except ImportError:
                raise K8rError(
                    f"the proxy {shown} needs the Python package PySocks, which is not installed",
                    "install it beside k8r, or use an http:// proxy",
                ) from None
            return SOCKSProxyManager(f"socks5h://{host}", user, password, **options)
    raise K8rError(
        f"the proxy {shown} is not a URL such as http://HOST:3128 or socks5://HOST:1080",
        "check proxy-url in the kubeconfig, or HTTPS_PROXY",
    )


def make_headers(user: Object) -> Any:
    """The headers that carry a user's credentials, and those of impersonation (client-go,
    transport/round_trippers.go). Raises K8rError, which shows no credentials.
    """
    import urllib.parse

    from urllib3._collections import HTTPHeaderDict

    token = read_credential(user, "tokenFile").decode("latin-1").strip() or user.get("token", "")
    login = f"{user.get('username', '')}:{user.get('password', '')}"
    encoded = base64.b64encode(login.encode("utf-8", "replace")).decode()
    values = {
        "Authorization": [f"Bearer {token}" if token else f"Basic {encoded}" * (login != ":")],
        "Impersonate-User": [user.get("as", "")],
        "Impersonate-Uid": [user.get("as-uid", "")],
        "Impersonate-Group": user.get("as-groups", []),
    }
    for key, extra in user.get("as-user-extra", {}).items():
        values["Impersonate-Extra-" + urllib.parse.quote(key, "!#$&'*+^`|~")] = extra
    headers = HTTPHeaderDict()
    for name, value in ((name, value) for name in values for value in values[name] if value):
        odd = "[^\x20-\x7e]" if name == "Authorization" else "[\x00-\x1f\x7f\ud800-\udfff]"
        if re.search(odd, value):
            words = f"the kubeconfig's user has a character that no header {name} can have"
            raise K8rError(f"{words}, such as a newline", LOGIN_HINT)
        headers.add(name, value.encode().decode("latin-1"))
    return headers


def read_credential(entry: Object, key: str) -> bytes:
    """What a kubeconfig has under a key: in itself, or in a file. Raises K8rError."""
    data, path, content = entry.get(f"{key}-data"), entry.get(key), b""
    try:
        if data and path:
            raise ValueError(f"there is a {key}-data as well")
        if path:
            with open(path, "rb") as file:
                content = file.read()
        elif data:
            content = base64.b64decode(re.sub("[\r\n]", "", data), validate=True)
        if (data or path) and not content.strip():
            raise ValueError("it is empty")
    except (OSError, ValueError) as error:
        raise K8rError(f"the kubeconfig's {key} cannot be used: {error}", REPAIR) from error
    return content


def make_tls_context(cluster: Object, user: Object, insecure: bool) -> Any:
    """The certificates of a cluster and of its user. Raises K8rError."""
    import ssl

    certificate, key = (read_credential(user, f"client-{name}") for name in ("certificate", "key"))
    blamed, flag = "certificate-authority", cluster.get("insecure-skip-tls-verify")
    authority = read_credential(cluster, blamed).decode("ascii", "ignore")
    try:
        if flag and authority:
            raise ValueError("insecure-skip-tls-verify is there as well")
        context = ssl.create_default_context(cadata=None if insecure else authority or None)
        if insecure or flag:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        blamed = "client-certificate"
        if certificate:
            with lay_open(certificate) as first, lay_open(key) as second:
                context.load_cert_chain(first, second, password="")
    except (OSError, ValueError) as error:
        raise K8rError(f"the kubeconfig's {blamed} cannot be used: {error}", REPAIR) from error
    return context


@contextlib.contextmanager
def lay_open(data: bytes) -> Iterator[str]:
    """A path for what OpenSSL takes from a file only. Where processes have their open files as
    paths this one has no name, hence is gone with k8r even if that is killed.
    """
    import tempfile

    nameless = os.path.isdir("/dev/fd")
    with tempfile.TemporaryFile() if nameless else tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}" if nameless else file.name


def make_access(
    cluster: Object, user: Object, insecure: bool, environ: Mapping[str, str]
) -> Access:
    """The access to a cluster for a user, both as a kubeconfig has them. Raises K8rError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import urllib3

    server, expires = parse_server(cluster.get("server", "")), float("inf")
    proxy = cluster.get("proxy-url") or find_proxy(server, environ)
    secure = server.startswith("https:")
    if any(user.values()) and not secure and (proxy or not is_listed(server, LOOPBACK)):
        raise K8rError(
            f"k8r sends no credentials to {server}: anybody on the way could read them",
            "have the server begin with https:// in the kubeconfig",
        )
    if user.get("exec") and not any(user.get(key) or user.get(f"{key}-data") for key in LOGINS):
        login, expires = run_plugin(user["exec"], cluster, environ)
        user = {**user, **login}
    options: Dict[str, Any] = {}
    if secure:
        options["ssl_context"] = make_tls_context(cluster, user, insecure)
        options["server_hostname"] = cluster.get("tls-server-name")
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Access(server, make_headers(user), make_pool(proxy, options), expires)


class Kubeconfig:
    """The kubeconfig files and the context in them that is used, read when it is asked for.

    Inside of a cluster there may be none; a pod has its namespace and credentials as files.
    """

    def __init__(self, target: Target, environ: Mapping[str, str], cwd: str) -> None:
        self.target = target
        self._environ = environ
        self._cwd = cwd
        self._context: Optional[Object] = None

    @property
    def context(self) -> Optional[Object]:
        """The kubeconfig reduced to its context; None inside of a cluster."""
        if self._context is None:
            self._load(self.target.context)
        if self._context is None and not self._is_in_cluster():
            raise NoKubeconfig(
                "there is no kubeconfig",
                "set KUBECONFIG or use --kubeconfig FILE; your cluster's provider has it",
            )
        return self._context

    @property
    def namespace(self) -> str:
        """The namespace: of the command line, the context, or the pod k8r runs in."""
        if self.target.namespace:
            return self.target.namespace
        context = self.context
        if context:
            return context["namespace"] or "default"
        with contextlib.suppress(OSError), open(SERVICE_ACCOUNT + "/namespace") as file:
            return file.read().strip() or "default"
        return "default"

    @property
    def context_name(self) -> str:
        """The name of the context, for messages."""
        context = self.context
        return str(context["current-context"]) if context else "in-cluster"

    def list_contexts(self) -> List[str]:
        """The names of all contexts."""
        return list(merge_kubeconfigs(self._read_files())["contexts"])

    def reload(self) -> None:
        """Read the context anew that was used, from files that may have changed."""
        self._load(self._context["current-context"] if self._context else None)

    def make_access(self) -> Access:
        """The way to the API server, with credentials read now. Raises K8rError."""
        context, host = self.context, self._environ.get("KUBERNETES_SERVICE_HOST", "")
        if context is None:
            address = f"[{host}]" if ":" in host else host
            server = f"https://{address}:{self._environ.get('KUBERNETES_SERVICE_PORT') or 443}"
            cluster = {"server": server, "certificate-authority": SERVICE_ACCOUNT + "/ca.crt"}
            context = {"cluster": cluster, "user": {"tokenFile": SERVICE_ACCOUNT + "/token"}}
        return make_access(context["cluster"], context["user"], self.target.insecure, self._environ)

    def _load(self, name: Optional[str]) -> None:
        parts = self._read_files()
        self._context = pick_context(merge_kubeconfigs(parts), name) if parts else None

    def _read_files(self) -> List[Tuple[str, Object]]:
        """The directory and content of each file that exists and is not empty."""
        listed = self.target.kubeconfig or self._environ.get("KUBECONFIG")
        paths = (listed or "~/.kube/config").split(os.pathsep)
        if self.target.kubeconfig:
            paths = [self.target.kubeconfig]
        parts = [part for part in map(self._read_file, filter(None, paths)) if part]
        if listed and not parts and not self._is_in_cluster():
            raise K8rError(
                f"there is no kubeconfig at {listed}, or it is empty",
                "check KUBECONFIG or use --kubeconfig FILE",
            )
        return parts

    def _read_file(self, path: str) -> Optional[Tuple[str, Object]]:
        """The directory and content of a file; None if it is empty, or missing where others
        may be. No words of the YAML reader are shown, since these quote a file's content.
        """
        full = os.path.join(self._cwd, os.path.expanduser(path))
        try:
            with open(full, "rb") as file:
                content = load_yaml(file.read())
        except FileNotFoundError:
            if self.target.kubeconfig:
                raise UsageError(f"there is no kubeconfig {path}", "check --kubeconfig") from None
            return None
        except Exception as error:  # the reader lets through what converting a value raises
            mark = getattr(error, "problem_mark", None)
            where = f" (line {mark.line + 1})" if mark else ""
            reason = isinstance(error, OSError) and error.strerror or f"not valid YAML{where}"
            raise K8rError(f"the kubeconfig {path} cannot be read: {reason}", "repair it") from None
        if not isinstance(content, (dict, type(None))):
            raise K8rError(f"{path} is not a valid kubeconfig", "repair it")
        return (os.path.dirname(full), content) if content is not None else None

    def _is_in_cluster(self) -> bool:
        return "KUBERNETES_SERVICE_HOST" in self._environ and os.path.exists(
            SERVICE_ACCOUNT + "/token"
        )


# ==============================================================================
# Cluster
# ==============================================================================

CONNECT_TIMEOUT = 5.0
"""Seconds for a connection to be made."""
READ_TIMEOUT = 25.0
"""Seconds without a byte after which a connection counts as dead. Watches and
quiet logs are then opened again, which costs one request."""
FIRST_RETRY_TIME = 3.0
"""Seconds to retry a server that has never answered."""
OVERLOAD_RETRIES = 6
"""Tries after the first, of a request that is not part of following a run."""
LONGEST_PAUSE = 30.0
"""Seconds to pause at most, whatever Retry-After says."""
RENEW_EVERY = 5.0
"""Seconds between two looks for new credentials while those at hand are refused."""
LIST_PAGE = 500
FEW = 100
"""Objects that are asked for beside others, in case they are needed."""
GATHER_TIME = 0.005
"""Seconds in which a busy stream may gather what comes next. API servers send logs in
chunks of 2 KiB, and to be woken for each costs as much as the rest of the work."""
BUSY_READ_TIME = 4 * GATHER_TIME
"""Seconds that a read of a busy stream takes at most."""


def make_api_error(status: int, body: bytes, method: str, namespace: str) -> ApiError:
    """Translate an error answer. ``body`` is a Status object, or any text."""
    text, about = parse_status(status, body)
    if status == 401:
        return Unauthorized(
            "the cluster does not accept your credentials (Unauthorized)",
            "log in again, or check the user in the kubeconfig",
            status,
        )
    if status == 403:
        return make_forbidden_error(text)
    if status == 404 and about == "namespaces":
        return NotFound(
            f"the namespace '{namespace}' does not exist",
            "check --namespace, or create it: kubectl create namespace " + namespace,
            status,
        )
    if status == 404:
        return NotFound(text, "", status)
    webhook = re.search(r'failed calling webhook "([^"]*)": (.*)', text)
    if webhook:
        text = f"it has to ask the webhook {webhook.group(1)}, and cannot: {webhook.group(2)}"
    if status in (408, 429) or status >= 500:
        full = "space exceeded" in text
        remedy = f"k8r rm --done -n {namespace} makes room" if full else "try again later"
        return Overloaded(f"the API server cannot serve k8r now: {text}", remedy, status)
    kinds: Dict[int, Type[ApiError]] = {409: Conflict, 410: Gone}
    return kinds.get(status, ApiError)(f"the API server refused to {method}: {text}", "", status)


def parse_object(body: bytes) -> Optional[Object]:
    """The Kubernetes object that a body is; None if it is anything else."""
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and "kind" in answer else None


def parse_status(status: int, body: bytes) -> Tuple[str, str]:
    """The text of an error answer, and the kind of object that it is about, if it says so."""
    answer = parse_object(body) or {}
    text = str(answer.get("message") or "") or " ".join(body.decode("utf-8", "replace").split())
    details = answer.get("details")
    about = details.get("kind") if isinstance(details, dict) else None
    return text or f"HTTP status {status}", str(about)


def make_forbidden_error(text: str) -> ApiError:
    """A 403 in words. RBAC's own text names verb, resource and namespace."""
    match = re.search(
        r'cannot (\w+) resource "([^"]+)"'
        r'(?: in API group "[^"]*")?(?: in the namespace "([^"]+)")?',
        text,
    )
    if not match:
        return ApiError(f"the cluster refused: {text}", "", 403)
    verb, resource, namespace = match.groups()
    where = f" in namespace {namespace}" if namespace else ""
    return ApiError(
        f"you have no permission to {verb} {resource}{where}",
        "ask your administrator for the Role in k8r's README",
        403,
    )


def suggest_remedy(text: str) -> str:
    """What to do about a connection that cannot be made, from its error's text."""
    if "KEY_VALUES_MISMATCH" in text:
        return "the client certificate in the kubeconfig does not belong to its key; log in again"
    if "Missing Authority Key Identifier" in text or "not marked critical" in text:
        return (
            "the cluster's CA certificate breaks RFC 5280, which Python 3.13 and newer check; "
            "run k8r with Python 3.12, renew the CA, or use --insecure"
        )
    if "CERTIFICATE" in text.upper():
        return "check certificate-authority in the kubeconfig, or use --insecure"
    return "check the network and the server in the kubeconfig, or use another --context"


def describe_trouble(error: BaseException) -> str:
    """What went wrong on the way, in words: libraries wrap the errors that say it."""
    import socket

    import urllib3.exceptions as kinds

    if type(error) is kinds.ConnectTimeoutError:
        return f"no answer within {CONNECT_TIMEOUT:.0f} s"
    beneath = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if isinstance(error, kinds.HTTPError) and beneath:
        proxy = "the proxy fails: " if isinstance(error, kinds.ProxyError) else ""
        return proxy + describe_trouble(beneath)
    if isinstance(error, (kinds.ReadTimeoutError, socket.timeout)):
        return f"silence for {READ_TIMEOUT:.0f} s"
    if not isinstance(error, (OSError, kinds.LocationValueError)):
        return "the answer is torn, or not HTTP"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def generate_pauses() -> Iterator[float]:
    """Seconds to pause between tries, growing, with jitter."""
    pause = 0.1
    while True:
        yield pause * (0.75 + os.urandom(1)[0] / 512)
        pause = min(pause * 2, 5.0)


class ByteStream:
    """The body of an answer that goes on: a watch, or a log that is followed.

    Iterating gives the bytes as they arrive and ends where the server ended
    the body properly; ConnectionTrouble says that it broke off.
    """

    def __init__(self, response: Any, translate: Callable[[Exception], ConnectionTrouble]) -> None:
        self._response = response
        self._translate = translate
        self._ended = False
        self._waits_since = float("inf")

    def __iter__(self) -> Iterator[bytes]:
        import select

        poll, short_waits = select.poll(), 0  # of the last reads
        try:
            if self._sock is not None:
                poll.register(self._sock, select.POLLIN)
            # Chunk by chunk, each once it is there. Of a body without chunks, as a proxy that
            # speaks HTTP/1.0 sends it, `stream` would wait for STREAM_CHUNK bytes.
            pieces = iter(lambda: self._response._fp.read1(STREAM_CHUNK), b"")
            if self._response.chunked:
                pieces = self._response.stream(STREAM_CHUNK)
            while True:
                self._waits_since = time.monotonic()
                data = next(pieces, b"")
                short_waits = short_waits + 1 if self.waits_less_than(BUSY_READ_TIME) else 0
                self._waits_since = float("inf")
                if not data:
                    break
                yield data
                if short_waits > 1 and not poll.poll(0):
                    time.sleep(GATHER_TIME)
        except Exception as error:
            raise self._translate(error) from error
        self._ended = True
        self._response.drain_conn()  # gives the connection back to the pool

    def waits_less_than(self, seconds: float) -> bool:
        """Whether its reader is at work, or has waited for a shorter time."""
        return time.monotonic() - self._waits_since < seconds

    @property
    def _sock(self) -> Any:
        return getattr(getattr(self._response, "connection", None), "sock", None)

    def interrupt(self) -> None:
        """End it from another thread: the one that reads is woken, and closes it.

        Not by SSLSocket.shutdown, after which the other thread would read on without
        decryption; and not by close, after which it could read from what has got the
        file descriptor since.
        """
        import socket

        sock = self._sock
        if isinstance(sock, socket.socket) and not self._ended:
            # In the pool again, this dead connection would be the next one to be taken.
            self._response.release_conn = lambda: None
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """End it. Read to its end, it has given its connection back to the pool."""
        if not self._ended:
            with contextlib.suppress(Exception):
                self._response.close()


CONNECTIONS_AHEAD = 4
"""For a watch of the Job, one of its pods, a log, and what comes after these."""


class Question(threading.Thread):
    """Something that is asked for beside what else is done."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self._answers: queue.Queue[Tuple[Any, Optional[Exception]]] = queue.Queue()

    def run(self) -> None:
        """What the thread does."""
        try:
            self._answers.put((self._ask(), None))
        except Exception as error:
            self._answers.put((None, error))

    def get_answer(self, seconds: Optional[float] = None) -> Any:
        """Wait for the answer, so many seconds (None: without an end, else queue.Empty is
        raised). Raises what went wrong.
        """
        answer, failure = self._answers.get(timeout=seconds)
        self._answers.put((answer, failure))
        if failure:
            raise failure
        return answer


def ask_beside(ask: Callable[[], Any]) -> Question:
    """Begin to ask for something in a thread."""
    question = Question(ask)
    question.start()
    return question


class Cluster:
    """The only way to the API server: dicts in and out, errors translated.

    Requests and answers are plain JSON over a pool of connections: the typed models
    of the official client cost half of a short command's time, and refuse fields
    that they do not know.
    """

    def __init__(self, kubeconfig: Kubeconfig, env: Environment, console: Console) -> None:
        self.kubeconfig = kubeconfig
        self._env = env
        self._console = console
        self._lock = threading.RLock()
        self._generation = 0
        self.retry_time = RETRY_TIME
        self.followed = False  # whether requests are part of following a run
        self._access: Optional[Access] = None
        self._answered = False
        self._renew_at = 0.0
        self._date = ""

    def get_time(self) -> float:
        """When the API server gave its last answer, by its own clock; 0 if it did not say."""
        import email.utils

        parsed = email.utils.parsedate_tz(self._date)
        return email.utils.mktime_tz(parsed) if parsed else 0.0

    def connect(self) -> Access:
        """The way to the API server; made at the first request, and when credentials expire."""
        with self._lock:
            if self._access is None or self._env.now() >= self._access.expires:
                self._access = self.kubeconfig.make_access()
            return self._access

    def _reconnect(self, generation: int) -> None:
        """Load credentials anew, after the server refused those at hand: once, however
        many threads ask for it, and again after a while.
        """
        with self._lock:
            if generation == self._generation and self._env.clock() >= self._renew_at:
                self.kubeconfig.reload()
                self._access = self.kubeconfig.make_access()
                self._generation += 1
                self._renew_at = self._env.clock() + RENEW_EVERY

    def request(
        self,
        method: str,
        path: str,
        query: Optional[Mapping[str, Any]] = None,
        body: Optional[Object] = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        patient: bool = True,
    ) -> Object:
        """Send a request, again if need be and ``patient``; give the answer's JSON object.

        Raises ApiError and its children, and ConnectionTrouble.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": accept}
        if data:
            headers["Content-Type"] = content_type

        def ask() -> Object:
            response = self._send(method, path, query, headers, body=data)
            return parse_object(response.data) or self._refuse(response, method)

        answer: Object = self._patiently(ask, patient)
        return answer

    def open(self, path: str, query: Mapping[str, Any], patient: bool) -> ByteStream:
        """Start an answer that goes on. Raises as `request` does."""
        options = {"preload_content": False}
        answer = self._patiently(lambda: self._send("GET", path, query, {}, **options), patient)
        return ByteStream(answer, self._trouble)

    def upgrade(self, path: str, query: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        """Turn a connection into one of another protocol; the answer to that has its socket.
        Sent once, lest a command be started twice. Raises as `request` does.
        """
        options = {"preload_content": False}
        return self._patiently(lambda: self._send("GET", path, query, headers, **options), False)

    @contextlib.contextmanager
    def requiring(self, minor: int, what: str) -> Iterator[None]:
        """Raise K8rError at its end where this is not Kubernetes 1.``minor`` or newer, which
        ``what`` needs. It is asked beside what is done in it; 0 asks nothing.
        """
        asked = minor and ask_beside(lambda: self._send("GET", "/version", None, {}).data)
        yield
        with contextlib.suppress(ApiError, ConnectionTrouble):  # who may not ask goes on
            found = re.search(rb'"minor": *"(\d+)', asked.get_answer()) if asked else None
            if found and int(found[1]) < minor:
                text = f"Kubernetes 1.{minor} is needed for {what}, and the cluster has 1.%d"
                raise K8rError(text % int(found[1]))

    def open_ahead(self, count: int) -> None:
        """Open connections, each of which costs two round trips, beside the first request.
        Raises K8rError if there is no way to the API server.
        """
        self.connect()  # a credential plugin is run once, and its failure told
        for _ in range(count):
            ask_beside(lambda: self._send("GET", "/version", None, {}))

    def _patiently(self, once: Callable[[], Any], patient: bool) -> Any:
        """Retry what another try can mend, for a bounded time.

        A POST may be sent twice by this; `ApiGroup.create` knows its own.
        """
        started, pauses, overloads, renewed = self._env.clock(), generate_pauses(), 0, False
        while True:
            generation = self._generation
            try:
                answer = once()
                self._answered = True
                return answer
            except (Unauthorized, Overloaded, ConnectionTrouble) as error:
                if isinstance(error, Unauthorized):
                    self._reconnect(generation)
                    if not renewed:
                        renewed = True
                        continue
                overloads += isinstance(error, Overloaded)
                pause = min(max(getattr(error, "pause", 0.0), next(pauses)), LONGEST_PAUSE)
                patience = self._get_patience(error, overloads) if patient else 0.0
                if self._env.clock() - started + pause > patience:
                    raise
                self._console.debug(f"{error.message}; next try in {pause:.1f} s")
            if self._pause(pause):
                raise ConnectionTrouble("stopped")

    def _get_patience(self, error: K8rError, overloads: int) -> float:
        """Seconds to retry: in a run that is followed as long as after lost connections."""
        lost = isinstance(error, ConnectionTrouble)
        if self._answered and (lost or self.followed):
            return self.retry_time
        if lost:
            return FIRST_RETRY_TIME
        futile = isinstance(error, Unauthorized if self._answered else (Unauthorized, Foreign))
        return 0.0 if futile or overloads > OVERLOAD_RETRIES else float("inf")

    @staticmethod
    def _pause(seconds: float) -> bool:
        """Wait; whether the thread is a `Reader` that was stopped meanwhile."""
        stopped = getattr(threading.current_thread(), "stopped", None)
        return (stopped or threading.Event()).wait(seconds)

    def _send(
        self,
        method: str,
        path: str,
        query: Optional[Mapping[str, Any]],
        headers: Mapping[str, str],
        **options: Any,
    ) -> Any:
        """One exchange, no retries."""
        import urllib.parse

        import urllib3

        access = self.connect()
        url = access.host + path
        if query:
            url += "?" + urllib.parse.urlencode(query, doseq=True)
        sent = access.headers.copy()
        sent.update({"User-Agent": f"k8r/{__version__}", **headers})
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
        try:
            response = access.pool.urlopen(
                method, url, headers=sent, timeout=timeout, retries=False, **options
            )
            self._date = response.headers.get("Date") or ""
            if response.status >= 300 or "html" in response.headers.get("Content-Type", ""):
                self._refuse(response, method)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._trouble(error) from error
        return response

    def _refuse(self, response: Any, method: str) -> NoReturn:
        if response.status == 400 and response.data.strip() == b"400 Bad Request":
            # The HTTP library of the server has seen half a request, and no more.
            raise self._trouble(ConnectionError("the request did not arrive in full"))
        error = make_api_error(response.status, response.data, method, self.kubeconfig.namespace)
        if (response.status < 400 or response.status == 404) and not parse_object(response.data):
            text = f"the server at {self.connect().host} is not a Kubernetes API"
            error = Foreign(text, "check the server in the kubeconfig, and proxies before it")
        wait = response.headers.get("Retry-After") or ""
        if isinstance(error, Overloaded) and re.fullmatch("[0-9]{1,9}", wait):
            error.pause = float(wait)
        raise error

    def _trouble(self, error: Exception) -> ConnectionTrouble:
        """Translate what went wrong on the way."""
        text = describe_trouble(error)
        where = f"cannot reach the cluster at {self.connect().host}"
        return ConnectionTrouble(f"{where}: {text}", suggest_remedy(text))


class ApiGroup:
    """One group and version of the API, in the gateway's namespace. What it lacks is looked
    up in the official client's class of that group, such as BatchV1Api.
    """

    def __init__(self, cluster: Cluster, prefix: str, typed: str = "") -> None:
        self._cluster = cluster
        self._prefix = prefix
        self._typed = typed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not self._typed:
            raise AttributeError(name)
        from kubernetes import client

        access = self._cluster.connect()
        api = client.ApiClient(client.Configuration(host=access.host))
        api.rest_client.pool_manager = access.pool
        api.default_headers.update(access.headers)
        return getattr(getattr(client, self._typed)(api), name)

    def path(self, resource: str, name: str = "", part: str = "") -> str:
        """The URL path of a resource, an object, or a part (subresource) of one."""
        import urllib.parse

        namespace = urllib.parse.quote(self._cluster.kubeconfig.namespace, safe="")
        path = f"{self._prefix}/namespaces/{namespace}/{resource}"
        for word in filter(None, (name, part)):
            path += "/" + urllib.parse.quote(word, safe="")
        return path

    def workloads(self, uid: str) -> List[Object]:
        """Kueue's Workloads of a Job, for messages: none if they cannot be read."""
        query = {"labelSelector": f"kueue.x-k8s.io/job-uid={uid}"}
        for version in ("v1beta2", "v1beta1"):
            group = ApiGroup(self._cluster, f"/apis/kueue.x-k8s.io/{version}")
            with contextlib.suppress(K8rError):
                answer = self._cluster.request("GET", group.path("workloads"), query, patient=False)
                return list(answer.get("items") or [])
        return []

    def create(self, resource: str, body: Object, dry_run: bool = False) -> Object:
        """Create an object, once, even if the first answer was lost.

        A Conflict with an object of the same run id is an earlier try of this
        request that the server had carried out. Raises Conflict otherwise.
        """
        try:
            query = {"dryRun": "All"} if dry_run else None
            return self._cluster.request("POST", self.path(resource), query, body)
        except Conflict:
            existing = self.get(resource, body["metadata"]["name"])
            if existing and get_run_id(body) and get_run_id(existing) == get_run_id(body):
                return existing
            raise

    def get(self, resource: str, name: str) -> Optional[Object]:
        """An object, or None."""
        try:
            return self._cluster.request("GET", self.path(resource, name))
        except NotFound:
            return None

    def list(
        self,
        resource: str,
        query: Mapping[str, str],
        convert: Callable[[Object], Any],
        patient: bool = True,
    ) -> Tuple[List[Any], str]:
        """All objects, converted one by one so that only that much is kept, and
        the resourceVersion of the list.
        """
        items: List[Any] = []
        page: Dict[str, Any] = dict(query, limit=LIST_PAGE)
        while True:
            try:
                answer = self._cluster.request("GET", self.path(resource), page, patient=patient)
            except Gone:  # the list's snapshot has expired between two pages
                if "continue" not in page:
                    raise
                items, page = [], dict(query)
                continue
            # One page is gone before the next is there.
            items.extend(convert(item) for item in answer.pop("items", None) or [])
            meta = answer.get("metadata") or {}
            if not meta.get("continue"):
                return items, str(meta.get("resourceVersion") or "")
            page = dict(query, limit=LIST_PAGE)
            page["continue"] = meta["continue"]

    def list_few(self, resource: str, query: Mapping[str, str]) -> Optional[List[Object]]:
        """All objects, None if they are more than FEW or cannot be had now."""
        with contextlib.suppress(K8rError):
            page = dict(query, limit=FEW)
            answer = self._cluster.request("GET", self.path(resource), page, patient=False)
            if not answer["metadata"].get("continue"):
                return list(answer.get("items") or [])
        return None

    def nodes(self) -> List[Object]:
        """The cluster's nodes, for messages: none if they may not be listed."""
        with contextlib.suppress(K8rError):
            path, query = f"{self._prefix}/nodes", {"limit": LIST_PAGE}
            answer = self._cluster.request("GET", path, query, patient=False)
            return list(answer.get("items") or [])
        return []

    def metadata(self, resource: str, query: Mapping[str, str]) -> List[Object]:
        """All objects without what is in them: a Secret's values stay where they are."""
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
        path = self.path(resource)
        answer = self._cluster.request("GET", path, query, accept=accept)
        return list(answer.get("items") or [])

    def replace(self, resource: str, name: str, body: Object) -> Object:
        """Put an object in the place of another, whatever that was."""
        return self._cluster.request("PUT", self.path(resource, name), None, body)

    def patch(self, resource: str, name: str, body: Object) -> Object:
        """Merge into an object (RFC 7396)."""
        path = self.path(resource, name)
        return self._cluster.request("PATCH", path, None, body, "application/merge-patch+json")

    def delete(self, resource: str, name: str, options: Optional[Object] = None) -> bool:
        """Delete an object and what it owns, in the background unless ``options`` say
        otherwise; False if absent.
        """
        body = {"propagationPolicy": "Background", **(options or {})}
        try:
            self._cluster.request("DELETE", self.path(resource, name), None, body)
        except NotFound:
            return False
        return True

    def watch(self, resource: str, query: Mapping[str, Any]) -> ByteStream:
        """Start a watch, at once or not at all: the list before the next is waited for."""
        return self._cluster.open(self.path(resource), dict(query, watch="true"), False)

    def log(self, pod: str, query: Mapping[str, Any], patient: bool = True) -> ByteStream:
        """Start a pod's log."""
        return self._cluster.open(self.path("pods", pod, "log"), query, patient)

    def upgrade(
        self, pod_name: str, part: str, query: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Any:
        """Turn a connection into a channel to a part of a pod."""
        return self._cluster.upgrade(self.path("pods", pod_name, part), query, headers)


# ==============================================================================
# Channels
# ==============================================================================

STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)
"""The channels of an exec or attach (KEP-4006). A port has 0 for data and 1 for an error."""
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
"""The opcodes of a websocket's frames (RFC 6455, 5.2)."""
CHANNEL_FRAME = 1 << 15
"""The most bytes in one frame: larger ones are slower, and some servers refuse them."""
PING_EVERY = 20.0
"""Seconds between two pings: load balancers drop connections that are silent."""
SILENCE_LIMIT = 60.0
"""Seconds without a byte, be it an answer to a ping, after which a connection is lost."""
UNREAD_LIMIT = 4.0
"""Seconds without a byte after which it is said that input is not taken."""
QUIET_LIMIT = 10.0
"""Seconds without output after which it is said that input may have been left unread. Of a
command that ends so some container runtimes, such as containerd 1.6, never tell the end."""
PIPED_FRAMES = 2
"""Frames of input that a pipe and what lies on the way may hold."""
LEAST_AHEAD, MOST_AHEAD = 4, 64
"""Frames of input that are sent before the server has said that it took the earlier ones, which
start low and double. What passes a command's status on (the API server, Kubernetes 1.37) breaks
off without it where it cannot pass on input to a command that has ended.
"""
FIRST_PAUSE = 0.1
"""Seconds in which a command ends that needs no more than the beginning of its input."""


def build_frame(opcode: int, data: bytes) -> bytes:
    """A whole message of less than 64 KiB as a websocket's client sends it: masked (RFC 6455,
    5.2). To load the library that kubernetes has for it takes a tenth of a short exec's time.
    """
    size, mask = len(data), os.urandom(4)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
    return b"%c%s%s%s" % (0x80 | opcode, length, mask, masked)


class Channel:
    """A connection to a command in a container (exec, attach) or to a port of a pod.

    Iterating does all the work: it gives ``(channel, bytes)`` as they come, and sends what
    `send` was given and what the descriptor ``source`` has, until the command or the
    connection has ended. Raises ConnectionTrouble for a connection that broke.
    """

    first_pause = 0.0
    """Seconds to wait after each of the first full frames of input."""

    def __init__(self, response: Any, source: Optional[int]) -> None:
        self._response = response
        self._sock = response.connection.sock
        self._source = source
        self._queue: List[bytes] = []  # frames to send
        self._status = b""
        self._pushed = self._taken = 0  # frames of input sent, and read by the server
        self._quiet_since = float("inf")  # the last of much input, or what came after that
        self._pause = 0  # milliseconds to wait for something to do
        self._heard_at = self._asked_at = time.monotonic()  # a ping, or its answer
        self.sent = 0  # bytes from the source
        self.closed = False
        """Set, from any thread, to end it soon."""
        self.warn: Callable[[str], None] = lambda text: None
        """Told, once, that input is not taken."""
        self.advance: Callable[[int], None] = lambda size: None
        """Told how many bytes each piece of input has."""
        self._sock.settimeout(0)
        self._received = bytearray()
        with contextlib.suppress(OSError):  # the first frames may have come with the answer
            self._received += response._fp.fp.peek()

    def __iter__(self) -> Iterator[Tuple[int, bytes]]:
        channel = STATUS
        try:
            while True:
                first, data = self._read_frame()
                opcode = first & 15
                if data and opcode in (TEXT, BINARY):
                    channel, data = data[0], data[1:]
                if opcode == CLOSE:
                    return
                if opcode > CLOSE:
                    self._answer(opcode, data)
                elif data and channel != STATUS:
                    if self._quiet_since < float("inf"):
                        self._quiet_since = time.monotonic()
                    yield channel, data
                elif data:
                    self._status += data
                    if first & 128:
                        return
        except OSError as error:
            text = f"the connection to the container was lost: {error}"
            raise ConnectionTrouble(text, self._get_hint()) from error
        finally:
            self._response.close()

    def get_exit_code(self) -> int:
        """The command's exit code, when iterating has ended. Raises ConnectionTrouble where no
        end was seen, and K8rError for a command that could not be started.
        """
        try:
            status = json.loads(self._status)
        except ValueError:
            text = "the connection was lost before the command had ended"
            raise ConnectionTrouble(text, self._get_hint()) from None
        if status.get("status") == "Success":
            return ExitCode.OK
        for cause in (status.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        error = K8rError(f"the command does not start: {extract_cause(str(status['message']))}")
        if "executable file not found" in error.message or "no such file" in error.message:
            error.exit_code = 127  # as shells have it
        elif "permission denied" in error.message:
            error.exit_code = 126
        raise error

    def send(self, channel: int, data: bytes) -> None:
        """Have bytes sent, from any thread. They are kept until then: more than a few should
        come from the source.
        """
        for start in range(0, len(data), CHANNEL_FRAME):
            self._post(BINARY, bytes([channel]) + data[start : start + CHANNEL_FRAME])

    def close_stdin(self) -> None:
        """Let the command see the end of its input, as the source's end does. Where v5 is not
        spoken, only the end of all can be told.
        """
        newer = self._response.headers["Sec-WebSocket-Protocol"].startswith("v5")
        self._post(*((BINARY, bytes([255, STDIN])) if newer else (CLOSE, b"")))

    def _answer(self, opcode: int, data: bytes) -> None:
        if opcode == PING:
            self._post(PONG, data)
        elif opcode == PONG and data.isdigit():  # one may come unasked, with any data
            self._taken, self._asked_at = int(data), time.monotonic()

    def _post(self, opcode: int, data: bytes) -> None:
        self._queue.append(build_frame(opcode, data))

    def _read_frame(self) -> Tuple[int, bytes]:
        """The first byte of a frame and its data, which servers do not mask (RFC 6455, 5.2)."""
        first, size = self._read(2)
        if size > 125:
            size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
        return first, self._read(size)

    def _read(self, size: int) -> bytes:
        """So many of the next bytes."""
        while len(self._received) < size:
            self._take_turn()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _take_turn(self) -> None:
        """Take input, send and receive what can be, or wait a little."""
        if self._pause or self._queue or self._source is not None:
            self._await_bytes()
        try:
            if self._queue:
                rest = self._queue[0][self._attempt("send", self._queue[0]) or 0 :]
                self._queue[:1] = [rest] if rest else []
        except OSError:  # what came before says more
            self._source, self._queue = None, []
        fresh = self._attempt("recv", STREAM_CHUNK)
        if fresh == b"" or self.closed:
            raise OSError("it was closed")
        self._pause = 0 if fresh else 250
        if fresh:
            self._received += fresh
            self._heard_at = time.monotonic()
        else:
            self._check_silence(time.monotonic())

    def _await_bytes(self) -> None:
        """Wait a little for what can be sent or received, or taken from the source."""
        import select

        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLOUT * bool(self._queue))
        window = self._get_window()
        held = self._queue or self._pushed - self._taken >= window
        pause, rest = self._pause, self._asked_at + self.first_pause - time.monotonic()
        if window == 1 and rest > 0:
            held, pause = True, min(pause, int(rest * 1000) + 1)
        if self._source is not None and not held:
            poll.register(self._source, select.POLLIN)
        if self._source in dict(poll.poll(pause)):
            self._take_input(self._source)

    def _attempt(self, method: str, argument: Any) -> Any:
        """Call a method of the socket; None if it would have to wait."""
        import ssl

        try:
            return getattr(self._sock, method)(argument)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def _take_input(self, source: Any) -> None:
        data = b""
        with contextlib.suppress(OSError):  # a terminal or a connection that is gone
            data = os.read(source, CHANNEL_FRAME)
        # The keys of a terminal are few, and taken at once: who waits for that has lost it.
        self._pushed += not os.isatty(source)
        if self._pushed and self.sent > PIPED_FRAMES * CHANNEL_FRAME:
            self._quiet_since = time.monotonic()
        if data:
            self.sent += len(data)
            self.advance(len(data))
            self.send(STDIN, data)
        else:
            self._source = None
            self.close_stdin()
        # Often enough that one is on its way whenever the window is full.
        every = (LEAST_AHEAD if self._pushed < MOST_AHEAD else MOST_AHEAD) // 2
        if self._pushed and (self._get_window() == 1 or self._pushed % every == 0):
            self._ask_what_is_read()

    def _get_hint(self) -> str:
        """Whether a command ended in the midst of its input, or has seen a false end of it since
        the connection was lost, cannot be told apart.
        """
        much = self.first_pause and self.sent >= CHANNEL_FRAME
        rest = "a command that needs only a part may read the rest, too: 'COMMAND; cat > /dev/null'"
        return rest if much else ""

    def _get_window(self) -> int:
        """How many frames of input may be on their way: one, while the first two are full."""
        full = self.sent == self._pushed * CHANNEL_FRAME
        if full and self.first_pause and self._pushed in (1, 2):
            return 1
        return min(max(self._taken, LEAST_AHEAD), MOST_AHEAD)

    def _ask_what_is_read(self) -> None:
        """A server reads in order, and waits until the command takes its input: a ping is
        answered after the frames before it, which it counts. It goes together with the last
        of them, lest it come to a command that this has ended.
        """
        self._asked_at = time.monotonic()
        ping = build_frame(PING, b"%d" % self._pushed)
        self._queue[-1:] = [b"".join(self._queue[-1:]) + ping]

    def _check_silence(self, now: float) -> None:
        silence, waits = now - self._heard_at, self._taken < self._pushed
        if silence > SILENCE_LIMIT and not waits:
            raise OSError(f"silence for {SILENCE_LIMIT:.0f} s")
        if silence > UNREAD_LIMIT and waits or now - self._quiet_since > QUIET_LIMIT:
            self.warn(
                "nothing comes from the command; if it has ended without reading its input, or the "
                "connection is lost, that may not be told: Ctrl-C ends the wait"
            )
            self.warn = lambda text: None
        if now - self._asked_at > (UNREAD_LIMIT / 2 if waits else PING_EVERY) and not self._queue:
            self._ask_what_is_read()


def open_channel(
    core: ApiGroup, pod_name: str, part: str, source: Optional[int] = None, **query: Any
) -> Channel:
    """Connect to a part of a pod: "exec" with a ``command`` (a list), "attach", or
    "portforward" with its ``ports``. The input is read from the descriptor ``source``.

    The ``query`` may name the ``container``, and ask for a ``tty``, with which both outputs
    are one. Raises ApiError and ConnectionTrouble.
    """
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": "v5.channel.k8s.io, v4.channel.k8s.io",
    }
    flags = {"stdin": source is not None, "stdout": True, "stderr": not query.get("tty")}
    query = {"container": CONTAINER_NAME, **flags, **query}
    try:
        response = core.upgrade(pod_name, part, query, headers)
    except ApiError as error:
        if error.status != 403 or not error.message.endswith(" is forbidden: "):
            raise
        # Kubernetes 1.35 and newer want `create` beside `get`, and give no reason without it.
        raise make_forbidden_error(f'cannot create resource "pods/{part}"') from error
    if response.status != 101 or "Sec-WebSocket-Protocol" not in response.headers:
        text = f"the cluster opens no channel for {part} (HTTP status {response.status})"
        raise ConnectionTrouble(text, "a proxy on the way may not let websockets through")
    return Channel(response, source)


# ==============================================================================
# Log lines
# ==============================================================================

_SECOND, _FRACTION = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", rb"(?:\.\d+)?(Z|[+-]\d\d:\d\d) "
STAMP = re.compile(b"(%s)%s" % (_SECOND, _FRACTION))
STAMPS = re.compile(b"^(%s)%s" % (_SECOND, _FRACTION), re.MULTILINE)
LONGEST_STAMP = 40
MARKS = 64
"""Seconds from which a log can be resumed that are kept; of the older ones ever fewer."""
LONG_LINE = 8192
"""Bytes of a line that is surely one entry of the container's log file; the
limit of containerd and CRI-O is twice that."""


def strip_stamps(block: bytes, second: bytes) -> bytes:
    """Lines without their timestamps. To search for a literal is several times faster,
    so the ``second`` of one line, if any, is tried first: in a fast log all are of one.
    """
    stamps = re.compile(b"\n%s%s" % (second or _SECOND, _FRACTION))
    text, count = stamps.subn(b"\n", b"\n" + block)
    if second and count < block.count(b"\n"):
        return strip_stamps(block, b"")
    return text[1:]


def has_long_line(block: bytes) -> bool:
    """Whether a line may be too long for one entry; cheap, and on the safe side."""
    windows = range(0, len(block) - LONG_LINE + 1, LONG_LINE)
    return any(block.find(b"\n", start, start + LONG_LINE) < 0 for start in windows)


class LogCursor:
    """A place in a container's log from which reading can be resumed.

    The log is asked for with timestamps. `feed` gets it as it comes, in any
    pieces, and gives back the bytes that the container wrote. After a broken
    connection `resume` gives the `sinceTime` to ask from; `feed` then drops
    what was seen before. The API's sinceTime has a granularity of one second,
    so the cursor counts the lines seen since the start of a second, and the
    bytes seen of a line that has not ended.

    Time may go back: a clock is set, stdout and stderr are stored out of order. The
    kubelet leaves out each line before sinceTime (cri-client, pkg/logs), so the cursor
    forgets seconds when a line comes that is earlier, and asks from the last but one.

    The container runtime writes a line of over 16 KiB as several entries, each
    with a time of its own. Asked from a second in between, the API gives the
    rest of the line; so the cursor never counts from a second that begins right
    after a long line.
    """

    def __init__(self, keep_stamps: bool = False, from_middle: bool = False) -> None:
        self._keep = keep_stamps
        # The time of the first line, if the log does not come from its beginning:
        # what lies before that comes along when it is asked for from a second.
        self._first: Optional[bytes] = None if from_middle else b""
        self._head = b""  # the start of a line, too short to hold its timestamp
        # Seconds to resume from, each later than all lines before it: second, zone, and how
        # many lines and bytes came before it.
        self._marks = [] if from_middle else [(b"", b"", 0, 0)]
        self._greatest = b""  # the latest second of a line
        self._lines = 0  # whole lines up to here
        self._volume = 0  # about their bytes
        self._inside = False  # whether a line was begun that has not ended
        self._given = 0  # bytes of that line in this stream
        self._drop = 0  # bytes at its start that are not wanted again
        self._long = False  # whether the last line may have several entries
        self._counts = False  # whether the line has a timestamp, and does not lie before
        self._before = b""  # in a resumed stream, where the line begins that was asked from
        self._replay: Optional[Tuple[int, int]] = None  # lines, bytes of the next: all known
        self._tail = b""  # the last line as it came, or the start of a long one

    def is_at(self, end: bytes) -> bool:
        """Whether the log's last two lines, with timestamps, end in the last one that was
        read. Lines of one time, which CRI-O gives to all that it reads at once, could be
        taken for each other.
        """
        before, _, line = end[:-1].rpartition(b"\n")
        stamp = STAMP.match(line)
        if not stamp or before.startswith(stamp.group()):
            return False
        return line + b"\n" == self._tail

    @property
    def is_costly(self) -> bool:
        """Whether to resume means to read much again."""
        return bool(self._marks) and self._volume - self._marks[-2:][0][3] > MIB

    def resume(self) -> Optional[str]:
        """Prepare for a new stream; None if it must start at the beginning."""
        begun = max(self._given, self._drop) if self._inside else 0
        self._replay = self._replay or (self._lines, begun)
        self._long, self._head, self._inside, self._before = False, b"", False, b""
        if not self._greatest:
            self._replay, self._lines = None, 0
            return None
        second, zone, self._lines, self._volume = self._marks[-2:][0]
        self._before = second if len(self._marks) > 2 else self._first or b""
        return (second + zone).decode() or None

    def feed(self, data: bytes) -> bytes:
        """Turn raw bytes into those that the container wrote."""
        data = self._head + data
        self._head = b""
        out = []
        while data:
            block = self._whole_lines(data)
            if block:
                self._pass(block)
                if not self._replay:
                    out.append(block if self._keep else strip_stamps(block, self._greatest))
                data = data[len(block) :]
                continue
            if not self._inside:
                stamp = STAMP.match(data)
                if not stamp and len(data) < LONGEST_STAMP and b"\n" not in data:
                    self._head = data
                    break
                self._begin(stamp)
                if stamp and not self._keep:
                    self._tail, data = stamp.group(), data[stamp.end() :]
            piece, newline, data = data.partition(b"\n")
            out.append(self._piece(piece + newline))
        return b"".join(out)

    @property
    def in_doubt(self) -> bool:
        """Whether this stream lacked lines that others had, or no stream had any."""
        if self._replay:
            return self._lines < self._replay[0]
        return not self._greatest and not self._inside

    def finish(self) -> bytes:
        """What is left when the log has ended."""
        rest, self._head = self._head, b""
        return rest

    def _whole_lines(self, data: bytes) -> bytes:
        """What can be passed without a step of Python for each line: whole ones, none of
        them long, and while known ones come again, all of them known.
        """
        if self._inside or self._long or self._before:
            return b""
        whole, newline, _ = data.rpartition(b"\n")
        if not newline or has_long_line(whole):
            return b""
        block = whole + newline
        return block if not self._replay or self._is_known(block) else b""

    def _pass(self, block: bytes) -> None:
        """Move on over whole lines."""
        start = block.rfind(b"\n", 0, -1) + 1
        last, count = STAMP.match(block, start), block.count(b"\n")
        if not last:
            return
        self._tail = block[start:]
        self._note_first(STAMP.match(block))
        if self._replay:
            self._lines += count
        elif count == block.count(b"\n" + last.group(1), 0, -1) + block.startswith(last.group(1)):
            self._enter(*last.groups())
            self._lines += count
        else:
            for (second, zone), same in itertools.groupby(STAMPS.findall(block)):
                self._enter(second, zone)
                self._lines += sum(1 for _ in same)
        self._volume += len(block)

    def _is_known(self, block: bytes) -> bool:
        """Whether whole lines are all among those that were seen."""
        assert self._replay
        last = STAMP.match(block, block.rfind(b"\n", 0, -1) + 1)
        known = last and last.group(1) <= self._greatest
        return bool(known) and self._lines + block.count(b"\n") <= self._replay[0]

    def _begin(self, stamp: Optional[re.Match[bytes]]) -> None:
        self._inside, self._given, self._drop, self._tail = True, 0, 0, b""
        self._note_first(stamp)
        self._counts = bool(stamp and stamp.group() >= self._before)
        self._before = b"" if self._counts else self._before
        if self._replay:
            known, begun = self._replay
            if self._counts and self._lines >= known:
                self._drop, self._replay = begun, None
            elif stamp and stamp.group(1) > self._greatest:  # what was known is rotated away
                self._replay, self._marks = None, []
            else:
                self._drop = sys.maxsize
        if stamp and not self._replay:
            self._enter(*stamp.groups())

    def _piece(self, piece: bytes) -> bytes:
        fresh = piece[max(self._drop - self._given, 0) :]
        self._given += len(piece)
        self._volume += len(piece)
        if self._given <= LONG_LINE:
            self._tail += piece
        if piece.endswith(b"\n"):
            self._inside = False
            self._long = self._given > LONG_LINE
            self._lines += self._counts
        return fresh

    def _note_first(self, stamp: Optional[re.Match[bytes]]) -> None:
        if stamp and self._first is None:
            self._first = stamp.group()

    def _enter(self, second: bytes, zone: bytes) -> None:
        """Note the second of a line that was not known."""
        marks = self._marks
        while len(marks) > 1 and marks[-1][0] > second:
            del marks[-1]
        if not marks or (second > self._greatest and not self._long):
            marks.append((second, zone, self._lines, self._volume))
        elif marks[0][0] > second:
            marks[0] = (second, zone, *marks[0][2:])
        if len(marks) > MARKS:
            del marks[1 : MARKS // 2 : 2]
        self._greatest = max(self._greatest, second)


# ==============================================================================
# Streams
# ==============================================================================

HELD_AT_MOST = 1 << 18
"""Bytes of a log that may wait to be printed."""
COSTLY_READ_TIME = 0.2
"""Seconds that a read of a busy stream takes at most where the log is costly to resume, since
the server may be busy, too."""


class Message(NamedTuple):
    """What a thread of a run has for the one that prints.

    ``kind`` is "added" or "deleted" (of what the ``reader`` watches), "synced" (its list
    is complete), "log", "end" or "paused" (of a log) or "error". What is new of a log
    is the ``item``, or a `Tail` has it in its buffer.
    """

    kind: str
    reader: Any
    item: Any = None


class Reader(threading.Thread):
    """A thread with one open stream at a time that can be stopped at once."""

    def __init__(self, messages: queue.Queue[Message], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._messages = messages
        self._stream: Optional[ByteStream] = None
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Ask it to end; it may still be waiting to hand over its messages."""
        self.stopped.set()
        self._cut()

    def _cut(self, unless_within: float = 0.0) -> None:
        """End the stream, unless it has brought something in the last seconds."""
        stream = self._stream
        if stream is None or (unless_within and stream.waits_less_than(unless_within)):
            return
        stream.interrupt()

    def send(self, kind: str, item: Any = None) -> None:
        """Hand over a message, unless it was stopped: then none is expected any more."""
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._messages.put(Message(kind, self, item), timeout=0.5)
                return

    def run(self) -> None:
        """What the thread does. An error ends up with the one who prints."""
        try:
            self.read()
        except K8rError as error:
            self.send("error", error)
        except Exception as error:
            self.send("error", K8rError(f"internal error: {type(error).__name__}"))

    def read(self) -> None:
        """To be overridden."""
        raise NotImplementedError


class Reflector(Reader):
    """Sends what a list and a watch see, for as long as it is not stopped.

    The end of a watch means nothing, so that the list is asked for again after
    each; what vanished between two lists is sent as deleted.
    """

    def __init__(
        self,
        messages: queue.Queue[Message],
        group: ApiGroup,
        resource: str,
        query: Mapping[str, str],
    ) -> None:
        super().__init__(messages, resource)
        self._group = group
        self._query = query
        self._known: Dict[str, Object] = {}

    def read(self) -> None:
        pauses = generate_pauses()
        while not self.stopped.is_set():
            version = self._list()
            started = time.monotonic()
            try:
                self._watch(version)
            except Overloaded as error:
                self.stopped.wait(min(error.pause, LONGEST_PAUSE))
            except (Gone, ConnectionTrouble, Unauthorized):
                pass
            if time.monotonic() - started > 5:
                pauses = generate_pauses()
            self.stopped.wait(next(pauses))

    def _list(self) -> str:
        items, version = self._group.list(self.name, self._query, lambda item: item)
        # By age, not by name: attempts are to be sent in their order.
        found = {item["metadata"]["uid"]: item for item in sorted(items, key=get_age_key)}
        for uid in [uid for uid in self._known if uid not in found]:
            self.send("deleted", self._known.pop(uid))
        for uid, item in found.items():
            old = self._known.get(uid)
            if not old or old["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._add(item)
        self.send("synced", set(found))
        return version

    def _watch(self, version: str) -> None:
        query = dict(self._query, resourceVersion=version, timeoutSeconds="300")
        self._stream = self._group.watch(self.name, query)
        try:
            for kind, uid, item in decode_events(self._stream):
                if self.stopped.is_set():
                    return
                if kind == "DELETED":
                    self._known.pop(uid, None)
                    self.send("deleted", item)
                elif kind in ("ADDED", "MODIFIED"):
                    self._add(item)
        finally:
            self._stream.close()

    def _add(self, item: Object) -> None:
        self._known[item["metadata"]["uid"]] = item
        self.send("added", item)


def decode_events(stream: Iterable[bytes]) -> Iterator[Tuple[str, str, Object]]:
    """Type, uid and object of a watch's events: JSON, one a line. A torn one is dropped.
    They end at what is not about an object, such as an ERROR with its Status.
    """
    rest = b""
    for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        for line in filter(None, lines):
            try:
                event = json.loads(line)
                found = event["type"], event["object"]["metadata"]["uid"], event["object"]
            except (ValueError, LookupError, TypeError):
                return
            yield found


class Board:
    """The Jobs and Deployments of a namespace and their pods, as watches tell of them."""

    def __init__(self) -> None:
        self._unlisted = {"jobs", "deployments", "pods"}
        self._items: Dict[Tuple[str, str], Dict[str, Object]] = {}  # by resource and run, by uid

    def note(self, message: Message) -> List[Tuple[str, str]]:
        """Take what a watch has told; the resources and names of what that may change, once
        all has been listed. Raises the error that a watch has ended with.
        """
        resource, item = message.reader.name, message.item
        if message.kind == "error":
            raise item
        if message.kind == "synced":
            self._unlisted.discard(resource)
            changed = list(self._items)
        else:
            own = item["metadata"]
            name = get_labels(item).get(LABEL_JOB, "") if resource == "pods" else own["name"]
            items = self._items.setdefault((resource, name), {})
            items[own["uid"]] = item
            if message.kind == "deleted":
                del items[own["uid"]]
            changed = [("jobs", name), ("deployments", name)]
        return [] if self._unlisted else changed

    def build_row(self, resource: str, name: str) -> Optional[Object]:
        """The row of a Job or Deployment, None if there is none."""
        roots = list(self._items.get((resource, name), {}).values())
        pods = self._items.get(("pods", name), {}).values()
        return build_row_by_pods(roots[-1], pods) if roots and resource != "pods" else None


def watch_rows(
    watched: Iterable[Tuple[ApiGroup, str]], known: Iterable[Object]
) -> Iterator[Object]:
    """The rows of Jobs and Deployments that are new or have changed, as these or their pods do."""
    messages: queue.Queue[Message] = queue.Queue(maxsize=64)
    query = {"labelSelector": SELECTOR}
    readers = [Reflector(messages, group, resource, query) for group, resource in watched]
    board, last = Board(), {(row["type"] + "s", row["name"]): row for row in known}
    try:
        for reader in readers:
            reader.start()
        while True:
            for key in board.note(messages.get()):
                # The pods of what is gone told more than it, and are gone as well.
                row = board.build_row(*key) or dict(last.get(key, {}), status="Deleted")
                if "name" in row and last.get(key) != row:
                    last[key] = row
                    yield row
    finally:
        for reader in readers:
            reader.stop()


class LogQuery(NamedTuple):
    """Which part of the logs is asked for, with ``quiet`` none of it, and what stands before the
    lines of an index in its place.
    """

    follow: bool = True
    tail: Optional[int] = None
    since: Optional[int] = None
    timestamps: bool = False
    only_index: Optional[int] = None
    previous: bool = False
    quiet: bool = False
    labels: Mapping[str, str] = {}

    def parameters(self) -> Dict[str, Any]:
        """The API's query parameters."""
        previous = "true" if self.previous else None
        wanted = {"tailLines": self.tail, "sinceSeconds": self.since, "previous": previous}
        return {key: value for key, value in wanted.items() if value is not None}

    def wants(self, pod: Object) -> bool:
        """Whether the log of that pod is asked for."""
        return not self.quiet and self.only_index in (None, get_pod_index(pod))


class TailKey(NamedTuple):
    """One run of one container, whose pod has the ``uid``."""

    uid: str
    container: str
    restarts: int


class LogBuffer:
    """What has come of a log and is not printed yet. One thread adds to it, which must not
    be ahead by much, and another collects.

    A log comes in small pieces, and to hand over each would cost more than the rest.
    """

    def __init__(self, cursor: LogCursor) -> None:
        self.cursor = cursor
        self.count = 0  # bytes of all that the container wrote
        self.torn = True  # whether the last answer has broken off, or there was none
        self._changed = threading.Condition()  # guards all others
        self._raw: List[bytes] = []  # what came since
        self._fresh: List[bytes] = []  # what the container wrote of that
        self._held = 0  # bytes of both that the one who collects knows of

    def add(self, data: bytes, announce: Callable[[], None], stopped: threading.Event) -> None:
        """Keep bytes as they came; announce the first, and wait until most are collected."""
        with self._changed:
            first = not self._held
            self._raw.append(data)
            self._held += len(data)
        if first:
            announce()
        with self._changed:
            while self._held > HELD_AT_MOST and not stopped.is_set():
                self._changed.wait(LOOK_EVERY)

    def digest(self) -> None:
        """Move the cursor over what came."""
        with self._changed:
            if self._raw:
                fresh = self.cursor.feed(b"".join(self._raw))
                self._raw = []
                self._fresh.append(fresh)
                self.count += len(fresh)

    def collect(self) -> bytes:
        """What is new, as the container wrote it."""
        with self._changed:
            self.digest()
            data = b"".join(self._fresh)
            self._fresh, self._held = [], 0
            self._changed.notify()
        return data

    def finish(self) -> bool:
        """Add what is left when the log has ended; whether there is something."""
        with self._changed:
            rest = self.cursor.finish()
            self._fresh.append(rest)
        return bool(rest)


class Step(enum.Enum):
    """What a `Tail` does after an answer with a part of its log."""

    ASK_AGAIN = "ask for the rest at once"
    RETRY = "ask for it after a pause: the answer has broken off"
    GO_ON = "ask for it once there may be more: the answer has ended properly"
    FINISH = "stop: there is no log, or no more of it"


class Tail(Reader):
    """Reads one container's log to its end, over broken connections. What has come is
    announced once, and is then in the ``buffer``.

    `pause` ends it early, with all that is needed for a `make_successor` to go on.
    """

    def __init__(
        self,
        messages: queue.Queue[Message],
        core: ApiGroup,
        pod: Object,
        container_name: str,
        logs: LogQuery,
        label: str,
    ) -> None:
        super().__init__(messages, "log")
        self.key = get_tail_key(pod, container_name)
        self.label = label
        self._core = core
        self._pod = pod
        self._logs = logs
        self._query = {"timestamps": "true", "container": container_name, **logs.parameters()}
        self._doubted = False  # whether an empty answer was asked for again
        self._looks = 0  # answers from a container that is not followed
        self._paused = False
        self.since = 0.0
        from_middle = logs.tail is not None or logs.since is not None
        self.buffer = LogBuffer(LogCursor(logs.timestamps, from_middle))
        self.ended = threading.Event()
        self.replaced = threading.Event()

    def make_successor(self) -> Tail:
        """A reader that goes on where this one was paused."""
        parts = self._pod, self.key.container, self._logs, self.label
        tail = Tail(self._messages, self._core, *parts)
        tail.buffer, tail.ended, tail.replaced = self.buffer, self.ended, self.replaced
        return tail

    @property
    def _restarts(self) -> bool:
        return bool(self._pod["spec"].get("restartPolicy") != "Never")

    def read(self) -> None:
        """Read until the log has ended, and nothing came after that."""
        pauses, step = generate_pauses(), Step.ASK_AGAIN
        while step is not Step.FINISH and not self.stopped.is_set():
            last = self.ended.is_set() or not self._logs.follow
            before = self.buffer.count
            step = self._read_answer(last)
            if self._paused:
                self.send("paused")
                return
            new = self.buffer.count > before
            if step is Step.GO_ON:
                step = self._decide(last, new)
            if new:
                pauses, self._doubted = generate_pauses(), False
            if step is Step.RETRY:
                (self.stopped if last else self.ended).wait(next(pauses))
            elif step is Step.GO_ON:
                step = self._await_more(last)
        if self.buffer.finish():
            self.send("log")
        self.send("end")

    def _decide(self, last: bool, new: bool) -> Step:
        """What to do after an answer that has ended properly, and is the ``last`` if there is
        nothing ``new``.

        A proper end of the body is not yet the log's: a proxy or the API server
        may have gone down. The log has ended when the container was known to have
        ended before it was asked for, and there was nothing new: twice if there was
        nothing at all, for a server that takes its client to be gone ends so, too.
        Of a container that still runs, two looks are enough where it is not followed.
        """
        if last and not new:
            if self._doubted or not self.buffer.cursor.in_doubt:
                return Step.FINISH
            self._doubted = True
            return Step.ASK_AGAIN
        self._looks += 1
        if last and self._looks > 1 and not self.ended.is_set():
            return Step.FINISH
        return Step.GO_ON

    def _await_more(self, last: bool) -> Step:
        """Wait for the container's end where it is not known. The log of one that has ended
        and starts again may be that of its next run, until that is known to be another.
        """
        if not last:
            self.ended.wait(10.0 if self._restarts else 3.0)
        foreign = self._restarts and self.ended.is_set() and not self.replaced.is_set()
        return Step.FINISH if foreign else Step.ASK_AGAIN

    def _is_at_end(self) -> bool:
        """Whether the log's last line was read before. To ask for the end alone saves what
        was written within its second, and the kubelet a search from the start.
        """
        if not self.buffer.cursor.is_costly or self.replaced.is_set():
            return False
        query = dict(self._query, tailLines=2)
        query.pop("sinceSeconds", None)
        try:
            with contextlib.closing(self._open(query, patient=False)) as stream:
                return self.buffer.cursor.is_at(b"".join(stream))
        except (ApiError, ConnectionTrouble):
            return False

    def conclude(self, replaced: bool) -> None:
        """The container has ended, and maybe another has ``replaced`` it.

        The kubelet takes up to a second to notice that and to end a log that is
        followed; what is left is had sooner by asking for it without following. Not
        so if the reader is behind: then the kubelet knows when the log is at its end.
        """
        if replaced:
            self.replaced.set()
        known = self.ended.is_set()  # then the stream at hand is the last one already
        self.ended.set()
        if not known and not self._restarts:
            costly = self.buffer.cursor.is_costly
            self._cut(unless_within=COSTLY_READ_TIME if costly else BUSY_READ_TIME)

    def pause(self) -> None:
        """End it for now, unless its log is at its end; "paused" is then sent."""
        if not self.ended.is_set():
            self._paused = True
            self._cut()

    def stop(self) -> None:
        super().stop()
        self.ended.set()

    def _next_query(self, last: bool) -> Dict[str, Any]:
        """The query that goes on where the cursor is."""
        query, since = dict(self._query), self.buffer.cursor.resume()
        if since:
            query["sinceTime"] = since
            query.pop("tailLines", None)
            query.pop("sinceSeconds", None)
        if not last:
            query["follow"] = "true"
        if self.replaced.is_set():
            query["previous"] = "true"
        return query

    def _open(self, query: Mapping[str, Any], patient: bool = True) -> ByteStream:
        self._stream = self._core.log(self._pod["metadata"]["name"], query, patient)
        return self._stream

    def _has_all(self, status: int) -> bool:
        """Whether nothing is lost by an error that says that the log is not there: 400, the
        container has not started, or is gone; 404, its pod is.
        """
        if self.buffer.torn:
            return status == 400 and not self.buffer.count
        return status in (400, 404)

    def _read_answer(self, last: bool) -> Step:
        """Ask for the log, and keep what comes. Raises ApiError if no more of it can be had."""
        if last and self._is_at_end():
            return Step.FINISH
        try:
            stream = self._open(self._next_query(last))
        except ApiError as error:
            if error.status == 400 and not self.ended.is_set():
                return Step.RETRY
            if not self._has_all(error.status):
                raise
            return Step.FINISH
        self.buffer.torn = True
        try:
            if not self._paused:
                for data in stream:
                    self.buffer.add(data, lambda: self.send("log"), self.stopped)
                self.buffer.torn = False
        except ConnectionTrouble:
            return Step.RETRY
        finally:
            stream.close()
            self.buffer.digest()
        return Step.GO_ON


def read_log(core: ApiGroup, pod: Object, container: str, logs: LogQuery) -> Iterator[bytes]:
    """What there is of one container's log. Raises K8rError."""
    messages: queue.Queue[Message] = queue.Queue()
    tail = Tail(messages, core, pod, container, logs, "")
    if has_ended(pod, tail.key):
        tail.ended.set()
    tail.start()
    try:
        message = messages.get()
        while message.kind == "log":
            yield tail.buffer.collect()
            message = messages.get()
        if message.kind == "error":
            raise message.item
    finally:
        tail.stop()
        tail.join()


def get_tail_key(pod: Object, container_name: str) -> TailKey:
    """The run of a container that a pod's status is about."""
    restarts = int(find_status(pod, container_name).get("restartCount") or 0)
    return TailKey(pod["metadata"]["uid"], container_name, restarts)


def has_ended(pod: Object, key: TailKey) -> bool:
    """Whether that run of a container is over."""
    if is_over(pod):
        return True
    ended = "terminated" in (find_status(pod, key.container).get("state") or {})
    return ended or get_tail_key(pod, key.container).restarts > key.restarts


# ==============================================================================
# Results
# ==============================================================================

MOST_FILES, DEEPEST = 1_000_000, 100
FETCH_PIECE = 256 * MIB
"""Bytes asked for at once; each request lets the container wait for longer."""
MUCH = 1024 * MIB
"""Bytes above which it is asked before they are written."""
SIZE_WIDTH = 20
FETCH_TRIES = 10
"""Requests in a row that bring nothing, after which there is no hope."""


def list_places(outs: Outs, cwd: str, index: str = "") -> Dict[str, Tuple[str, str]]:
    """By its path in an archive, where the content of a result is to be if it is a directory,
    and where it is to be itself if it is a file. The ``index`` is "" for a single pod.
    """
    places = {}
    for path, given in outs:
        name = posixpath.basename(path)
        folder = os.path.normpath(os.path.join(cwd, given or name, index))
        file = os.path.join(folder, name) if given or index else folder
        places[locate(path)[1:]] = folder, file
    return places


def check_places(outs: Outs, cwd: str, many: bool) -> None:
    """Raise UsageError if results cannot be written where they are to be."""
    import tempfile

    taken: Set[str] = set()
    for path, given in outs:
        where = os.path.realpath(os.path.join(cwd, given or posixpath.basename(path)))
        if where in taken or sum(is_below(locate(path), [locate(other)]) for other, _ in outs) > 1:
            raise UsageError(f"two --out are for {where}", "give each a :DIR of its own")
        taken.add(where)
        try:
            with contextlib.suppress(FileNotFoundError):  # but not that one is a file
                os.lstat(os.path.join(where, "." * bool(given or many)).rstrip("/"))
            tempfile.TemporaryFile(dir=find_folder(where)).close()
        except OSError as error:
            text = f"results cannot be written to {where}: {error.strerror}"
            hint = "choose another DIR: --out PATH:DIR, or k8r cp NAME DIR"
            raise UsageError(text, hint) from error


def find_folder(path: str) -> str:
    """The innermost directory of a path that exists."""
    return path if os.path.isdir(path) else find_folder(os.path.dirname(path))


def stays_inside(depth: int, target: str) -> bool:
    """Whether a link that is so many directories deep in another leads to somewhere in that
    one, also by way of further such links.
    """
    steps = [step for step in target.split("/") if step not in ("", ".")]
    up = len(list(itertools.takewhile(lambda step: step == "..", steps)))
    return not target.startswith("/") and up <= depth and ".." not in steps[up:]


class Inflow(NamedTuple):
    """An archive that comes in pieces, the names in it below a directory ``top``. What is wrong
    with its bytes the iterator raises, at their end at the latest.
    """

    pieces: Iterator[bytes]
    top: str = ""

    def read(self, _: int = 0) -> bytes:
        """The next bytes, however many; none at the end."""
        return next(self.pieces, b"")


Places = Mapping[str, Tuple[str, str]]
"""By its path in an archive, where the content of a directory is to be, and a file itself."""


class Unpacker:
    """Writes files of archives that anybody may have made, first to a directory where nothing
    is yet, then, when all have come, each to where it is to be, and through no link there.

    Links that lead out, devices and the like are left away, and of owners and permissions
    all but that to execute. The ``notes`` say what is not as it was, ``missing`` has paths
    at which nothing was. ``ask`` is told a size before more than `MUCH` is written.
    """

    def __init__(self, ask: Callable[[int], None] = lambda size: None) -> None:
        self._ask = ask
        self.files = self.size = self.failed = 0
        self.notes: List[str] = []
        self.missing: List[str] = []

    def unpack(self, archive: Inflow, places: Places) -> None:
        """Write what is at these paths. Raises K8rError, and then all is as it was, if the
        archive is damaged or the disk full.
        """
        import tarfile
        import tempfile

        with contextlib.ExitStack() as stack:
            try:
                tops = {}
                for path, (folder, _) in places.items():
                    new = tempfile.TemporaryDirectory(prefix=".k8r-", dir=find_folder(folder))
                    top = os.path.realpath(stack.enter_context(new))
                    tops[path] = os.path.join(top, "content")
                self._unpack(archive, tops)
            except (tarfile.TarError, ValueError, RecursionError) as error:
                raise K8rError(f"the archive is damaged: {error}") from error
            except OSError as error:
                raise K8rError(f"nothing was written: {error.strerror}") from error
            for path, (folder, file) in places.items():
                target = os.path.realpath(folder) if os.path.isdir(tops[path]) else file
                if os.path.lexists(tops[path]):
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    self._try(target, lambda: self._move(tops[path], target))
                else:
                    self.missing.append(f"/{path}")

    def _unpack(self, archive: Any, tops: Mapping[str, str]) -> None:
        """Write what is at these paths below new directories; links when nothing can be
        written through them any more.
        """
        import tarfile

        links, tar = [], tarfile.open(fileobj=archive, mode="r|", errors="surrogateescape")
        for member in list_members(tar):
            path, depth = locate_member(posixpath.join(archive.top, member.name), tops)
            if path and member.issym():
                links.append((path, depth, member))
            elif path:
                here, _ = locate_member(posixpath.join(archive.top, member.linkname), tops)
                self._try(member.name, lambda: self._write(tar, member, path, here))
        while archive.read():
            pass  # only then all is known to be whole
        self._write_links(links)

    def _write_links(self, links: Iterable[Tuple[str, int, Any]]) -> None:
        for path, depth, link in links:
            parent = os.path.dirname(path)
            if stays_inside(depth, link.linkname) and os.path.realpath(parent) == parent:
                self._try(link.name, lambda: os.symlink(link.linkname, path))
                self.files += 1
            else:
                self._note(link.name, "is a link that leads out")

    def _try(self, name: str, act: Callable[[], None]) -> None:
        """Do something, and note it where it cannot be done."""
        try:
            act()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise K8rError(f"nothing was written: {error.strerror}") from error
            self.failed += 1
            self._note(name, f"cannot be written: {error.strerror}")

    def _note(self, name: str, what: str) -> None:
        self.notes.append(f"{escape_unprintable(posixpath.normpath(name))} {what}; it is left away")

    def _write(self, tar: Any, member: Any, path: str, linked: str) -> None:
        if member.isdir():
            os.makedirs(path, exist_ok=True)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if linked and member.islnk():
            os.link(linked, path)
        elif member.isreg() and not member.issparse():
            self._write_file(tar.fileobj, path, member.mode & 0o111, member.size)
        else:
            self._note(member.name, "is not a file")
            return
        self.files += 1

    def _write_file(self, stream: Any, path: str, execute: int, size: int) -> None:
        if self.size <= MUCH < self.size + size:
            self._ask(self.size + size)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(path, flags, 0o777 if execute else 0o666)
        with open(descriptor, "wb") as file:
            for start in range(0, size, STREAM_CHUNK):
                file.write(stream.read(min(size - start, STREAM_CHUNK)))
        self.size += size

    def _move(self, source: str, target: str) -> None:
        """Move a file, or a directory's content where a directory is already."""
        if os.path.islink(source) or not os.path.isdir(source) or not os.path.lexists(target):
            os.replace(source, target)
            return
        if os.path.islink(target):
            raise OSError(errno.ENOTDIR, "a link is in its place")
        os.makedirs(target, exist_ok=True)
        for name in os.listdir(source):
            inner, place = os.path.join(source, name), os.path.join(target, name)
            self._try(place, lambda: self._move(inner, place))


def list_members(tar: Any) -> Iterator[Any]:
    """The members of an archive. Raises TarError or ValueError for what is damaged or has no
    end: tarfile's own iterator takes both for the end.
    """
    import tarfile

    member = tar.firstmember
    with contextlib.suppress(tarfile.EOFHeaderError):  # type: ignore[attr-defined]
        for _ in range(MOST_FILES if member else 0):
            yield member
            tar.fileobj.seek(tar.offset)
            member = tarfile.TarInfo.fromtarfile(tar)
        if member:
            raise ValueError(f"it has more than {MOST_FILES} files")


def locate_member(name: str, tops: Mapping[str, str]) -> Tuple[str, int]:
    """Where a member of an archive is to be, and how deep below what is at its path; "" if it
    is at none of the paths, or too deep.
    """
    name = posixpath.normpath(name)
    for path, top in tops.items():
        if f"{name}/".startswith(f"{path}/") and name.count("/") <= DEEPEST:
            return top + name[len(path) :], name[len(path) :].count("/") - 1
    return "", 0


def pack_files(archive: Any, files: Mapping[str, str]) -> None:
    """Pack files and directories that are here, each under a name."""
    import tarfile

    form = tarfile.GNU_FORMAT
    with tarfile.open(fileobj=archive, mode="w|", format=form, errors="surrogateescape") as tar:
        for name, path in files.items():
            with contextlib.suppress(FileNotFoundError):
                tar.add(path, name)


def unpack_here(archive: Inflow, places: Places, console: Console) -> Unpacker:
    """Unpack an archive, and say what is not here. Raises K8rError if that is not its fault."""
    unpacker = Unpacker(lambda size: console.confirm(f"{format_size(size)} or more are to come"))
    unpacker.unpack(archive, places)
    told = [*(f"there is no {path}" for path in unpacker.missing), *unpacker.notes]
    for text in told[:10] + [f"and {len(told) - 10} more"] * (len(told) > 10):
        console.warn(text)
    if unpacker.failed:
        raise K8rError(f"{pluralize(unpacker.failed, 'file')} could not be written")
    return unpacker


def read_output(channel: Channel, told: Callable[[bytes], None]) -> Iterator[bytes]:
    """What a command writes; what it writes to its stderr is ``told``. Raises ConnectionTrouble
    unless its end is seen.
    """
    for number, data in channel:
        if number == STDOUT:
            yield data
        else:
            told(data)
    channel.get_exit_code()


def copy_here(channel: Channel, path: str, target: str, console: Console) -> None:
    """Unpack what a command packs of a path. Raises K8rError."""
    said = bytearray()

    def tell(data: bytes) -> None:
        console.errors(data)
        said.extend(data)
        if b"padding with zeros" in said[-MIB:]:  # as GNU tar has it, and goes on
            raise K8rError("a file became smaller while it was read; nothing is here", "try again")

    def receive() -> Iterator[bytes]:
        advance = console.meter("copying", 0, sized=True)
        for data in read_output(channel, tell):
            advance(len(data))
            yield data
        console.progress("")

    inflow = Inflow(receive(), posixpath.dirname(path))
    done = unpack_here(inflow, {path: (target, target)}, console)
    here = f"{target}: {pluralize(done.files, 'file')}, {format_size(done.size)}"
    if done.missing:
        raise K8rError("nothing of it is here", "see above")
    if channel.get_exit_code():
        raise K8rError(f"{here} are here, but not all could be read whole", "see above")
    console.say(here)


def copy_out(channel: Channel, console: Console) -> None:
    """Pass on a file, behind which its size stands. Raises K8rError."""
    count, last = 0, b""
    for data in read_output(channel, console.errors):
        data = last + data
        last = data[-SIZE_WIDTH:]
        console.data(data[:-SIZE_WIDTH])
        count += len(data[:-SIZE_WIDTH])
    if channel.get_exit_code() or count < int(last.strip() or b"0"):
        raise K8rError("not all of it has come", "try again")


DRAIN = "|| { cat > /dev/null; exit 1; }"
"""Of a command that leaves input unread containerd 1.6 does not tell the end."""


def send_file(open_command: Callable[..., Channel], source: int, path: str, mode: str) -> None:
    """Write a file there, under another name until all has arrived. Raises K8rError."""
    # The shell stays: once nobody holds its output, containerd 1.6 passes no input on.
    script = f'[ ! -d "$2" ] && cat > "$1" && wc -c < "$1" {DRAIN}'
    part, problems = f"{path}.k8r", bytearray()
    channel = open_command("sh", "-c", script, "k8r", part, path, source=source)
    size = b"".join(read_output(channel, problems.extend))
    arrived = not channel.get_exit_code() and int(size) == channel.sent
    if arrived:
        # Only now: in a container a lost connection is the end of the input, too.
        script = 'chmod "$3" "$1" && mv -f "$1" "$2"'
        channel = open_command("sh", "-c", script, "k8r", part, path, mode)
        list(read_output(channel, problems.extend))
    if size and not arrived:
        raise ConnectionTrouble(f"of {channel.sent} bytes {int(size)} have arrived", "try again")
    if channel.get_exit_code():
        words = problems.decode("utf-8", "backslashreplace").strip() or "it is a directory"
        raise K8rError(f"{path} could not be written: {words}", "check the path and the disk there")


class Spool:
    """The archive of a pod's results: a small one comes with the log of the results container,
    whose words this follows, a larger one is kept there.
    """

    def __init__(self, pod: Object) -> None:
        self.pod = pod
        self.start = 0  # where it is in the store
        self.size, self.sum = -1, ""
        self.told = False  # whether the log has no more to say
        self.notes: List[str] = []
        self._log = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take some of the log; gives the archive, if it is in there, once all of it is."""
        self._log += data
        head = re.search(rb"(?m)^k8r-results (\d+) (\w+)\n", self._log)
        if not head or self.told:
            return b""
        self.size, self.sum = int(head.group(1)), head.group(2).decode()
        words = self._log[: head.start()].decode("utf-8", "backslashreplace")
        self.notes = re.findall("(?m)^(?:k8r-note )?(.+)", words)
        complete = self._log.endswith(b"k8r-end\n")
        self.told = complete or self.size > LOG_LIMIT
        archive = base64.b64decode(self._log[head.end() : -8]) if complete else b""
        if self.told:
            self._log.clear()
        return archive


class Results:
    """Brings here what the pods of a run have left: of each index the last attempt's."""

    def __init__(self, core: ApiGroup, console: Console, outs: Outs, cwd: str, many: bool) -> None:
        import tempfile

        (folder, _), *_ = list_places(outs, cwd).values()
        self._core = core
        self._console = console
        self._outs = outs
        self._cwd = cwd
        self._many = many
        self._store = tempfile.TemporaryFile(dir=find_folder(folder))
        self.spools: Dict[int, Spool] = {}

    def feed(self, pod: Object, data: bytes) -> Spool:
        """Take some of the log of a pod's results container."""
        index = get_pod_index(pod)
        spool = self.spools.get(index)
        if spool is None or get_age_key(spool.pod) < get_age_key(pod):
            spool = self.spools[index] = Spool(pod)
        if get_age_key(spool.pod) == get_age_key(pod):
            archive = spool.feed(data)
            try:
                if archive:
                    spool.start = self._store.seek(0, os.SEEK_END)
                    self._store.write(archive)
            except OSError as error:
                spool.notes.append(f"they cannot be kept: {error.strerror}")
        return spool

    def take(self, indexes: Iterable[int], hold: bool) -> None:
        """Have them here, and let what keeps them end, but not to ``hold`` them. Raises K8rError
        that says what is not here, when all else is.
        """
        total, files, size, failures = sum(each.size for each in self.spools.values()), 0, 0, {}
        if total > MUCH:
            self._console.confirm(f"{format_size(total)} of results are to be fetched")
        for index in indexes:
            try:
                done = self._take(index, hold)
                files, size = files + done.files, size + done.size
            except K8rError as error:
                failures[index] = error
        where = ", ".join(given or posixpath.basename(path) for path, given in self._outs)
        if files or not failures:
            self._console.say(f"{where}: {pluralize(files, 'file')}, {format_size(size)}")
        if failures:
            who, first = f" of {format_indexes(failures)}" * self._many, min(failures)
            text = f"the results{who} are not here: {failures[first].message}"
            raise K8rError(text, failures[first].hint)

    def _take(self, index: int, hold: bool) -> Unpacker:
        if index not in self.spools:
            raise K8rError("its pod kept none (the image must have sh)")
        spool, label = self.spools[index], str(index) if self._many else ""
        for note in spool.notes:
            self._console.warn(escape_unprintable(note))
        places = list_places(self._outs, self._cwd, label)
        done = unpack_here(Inflow(self._read(spool)), places, self._console)
        if spool.size > LOG_LIMIT and not hold:
            self.release(spool.pod)
        return done

    def _read(self, spool: Spool) -> Iterator[bytes]:
        """An archive. Raises K8rError, at its end at the latest, if it is not all of it."""
        import hashlib

        if spool.size < 1:
            raise K8rError("; ".join(["they were not packed", *spool.notes]))
        disk = os.fstatvfs(self._store.fileno())
        if spool.size > disk.f_bavail * disk.f_frsize:
            text = f"the disk lacks room for {format_size(spool.size)}"
            raise K8rError(text)
        found, count = hashlib.sha256(), 0
        advance = self._console.meter("fetching", spool.size, sized=True)
        for data in self._fetch(spool) if spool.size > LOG_LIMIT else self._load(spool):
            found.update(data)
            count += len(data)
            advance(len(data))
            yield data
        self._console.progress("")
        if (count, found.hexdigest()) != (spool.size, spool.sum):
            raise K8rError(f"of {spool.size} bytes {count} have come, or others")

    def _load(self, spool: Spool) -> Iterator[bytes]:
        self._store.seek(spool.start)
        for start in range(0, spool.size, STREAM_CHUNK):
            yield self._store.read(min(spool.size - start, STREAM_CHUNK))

    def _fetch(self, spool: Spool) -> Iterator[bytes]:
        """What is not in a log, over broken connections."""
        script = f": > fetch; tail -c +$1 spool | head -c {FETCH_PIECE}"
        count, before, pauses, tries = 0, 0, generate_pauses(), 0
        while count < spool.size:
            if count > before:
                pauses, tries = generate_pauses(), 0
            before, tries = count, tries + 1
            if tries > FETCH_TRIES:
                raise ConnectionTrouble(f"the connection broke off {FETCH_TRIES} times in a row")
            try:
                channel = self._exec(spool.pod, script, str(count + 1))
                for number, data in channel:
                    if number == STDOUT:
                        count += len(data)
                        yield data
                channel.get_exit_code()
            except ConnectionTrouble:
                time.sleep(next(pauses))
            except K8rError as error:  # older API servers tell it by the channel
                if getattr(error, "status", 0) == 403:
                    raise
                if count > before:
                    continue  # it was there, and a node may be lost for a moment only
                text = f"{format_size(spool.size)} are too many for a log, and it has ended"
                raise K8rError(text, "run it with --hold 1h, say") from error

    def _exec(self, pod: Object, script: str, *words: str) -> Channel:
        command = ["sh", "-c", f"cd {RESULTS_MOUNT} && {script}", "k8r", *words]
        name = pod["metadata"]["name"]
        return open_channel(self._core, name, "exec", container=RESULTS_NAME, command=command)

    def release(self, pod: Object) -> None:
        """Let a container end that keeps results. It does by itself, later."""
        with contextlib.suppress(K8rError):
            list(self._exec(pod, ": > done"))


# ==============================================================================
# Following
# ==============================================================================

LOG_TURN = 2.0
"""Seconds for which a log is followed where more are to be than may at once."""
WAIT_EXPLAINED_AFTER = 2.0
"""Seconds without a pod that starts after which the reason is looked for."""
EXPLAIN_EVERY = 3.0
"""Seconds between two looks for it, which cost a request each."""
KEPT_FOR = 5.0
"""Seconds that containers of others may go on after a command, unless the next one waits."""
RESULTS_TIME = 40.0
"""Seconds for a command that is told to end, and then for its results."""
JOIN_TIMEOUT = 2.0
"""Seconds to wait for threads whose requests the server does not answer."""


class Subject(NamedTuple):
    """What is followed, and how its kind differs.

    ``judge`` gives the verdict, or None; ``label`` is what stands before a line of a pod's
    log; ``hint`` makes a command line to paste of a command and a name.
    """

    group: ApiGroup
    resource: str
    root: Object
    judge: Callable[[Object, Sequence[Object]], Optional[Verdict]]
    label: Callable[[Object], str]
    prefixed: bool
    hint: Callable[[str, str], str]

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.root["metadata"]["name"])

    @property
    def pods_query(self) -> Dict[str, str]:
        """The query for its pods; `owns` distinguishes them from others that it finds. A policy
        may change the labels that k8r gives, but not those that the cluster itself goes by.
        """
        labels = self.root["spec"]["selector"]["matchLabels"]
        return {"labelSelector": ",".join(f"{key}={labels[key]}" for key in labels)}

    def owns(self, pod: Object) -> bool:
        """Whether that is one of its pods, and not of an earlier shape of a Deployment."""
        if self.resource == "jobs":
            return belongs_to(pod, self.root["metadata"]["uid"])
        return get_run_id(pod) == get_run_id(self.root)


def make_job_subject(batch: ApiGroup, root: Object, hint: Callable[[str, str], str]) -> Subject:
    """A Job, judged by its containers and conditions."""

    def label(pod: Object) -> str:
        return str(get_pod_index(pod))

    return Subject(batch, "jobs", root, judge_job, label, get_completions(root) > 1, hint)


def make_deployment_subject(
    apps: ApiGroup, root: Object, hint: Callable[[str, str], str], rollout_only: bool = False
) -> Subject:
    """A Deployment. It has no end of its own, but its rollout has."""

    def judge(item: Object, _: Sequence[Object]) -> Optional[Verdict]:
        if rollout_only and is_rolled_out(item):
            return Verdict(ExitCode.OK, f"{item['metadata']['name']} is rolled out")
        return None

    many = int(root["spec"].get("replicas", 1)) > 1
    return Subject(apps, "deployments", root, judge, get_pod_suffix, many, hint)


class Tails:
    """The logs of a run's pods: those that are being read, and those that wait for that.

    STREAMS_AT_ONCE may be open, and of an index one: its attempts come one after the other.
    ``make`` gives none where a log is not asked for; ``pods`` has those that there are. Those
    of results containers, if asked for, are for ``results``.
    """

    def __init__(
        self,
        make: Callable[[Object, str], Optional[Tail]],
        pods: Mapping[str, Object],
        results: Optional[Results],
    ) -> None:
        self._make = make
        self.results = results
        self._pods = pods
        self._known: Dict[str, Set[TailKey]] = {}
        self._waiting: Dict[TailKey, Tail] = {}
        self.unread = False  # whether one could not be read to its end
        self.open: Dict[TailKey, Tail] = {}

    def __bool__(self) -> bool:
        return bool(self.open or self._waiting)

    def add(self, pod: Object) -> None:
        """Queue the log of each container that has begun, once."""
        outcome = judge_pod(pod)
        known = self._known.setdefault(pod["metadata"]["uid"], set())
        names = {CONTAINER_NAME, outcome.container if outcome else CONTAINER_NAME}
        for name in names | self._list_results(pod, bool(outcome)):
            key = get_tail_key(pod, name)
            if key not in known and (name != CONTAINER_NAME or has_started(pod)):
                known.add(key)
                tail = self._make(pod, name)
                if tail:
                    self._waiting[key] = tail

    def _list_results(self, pod: Object, ended: bool) -> Set[str]:
        """The results container, once it has something to say: it costs one more stream."""
        if not self.results or not (ended or pod["metadata"].get("deletionTimestamp")):
            return set()
        if failed_to_start(pod):
            self.results.release(pod)  # what it waits for will not come
            return set()
        return {RESULTS_NAME}

    def conclude(self, pod: Object, deleted: bool) -> None:
        """Let the logs of the pod's containers that have ended come to their end."""
        for key in self._known.get(pod["metadata"]["uid"], ()):
            tail = self.open.get(key) or self._waiting.get(key)
            if tail and (deleted or has_ended(pod, key)):
                tail.conclude(replaced=get_tail_key(pod, key.container) != key)

    def remove(self, tail: Reader) -> bool:
        """Forget one that has ended; False if it is the reader of something else."""
        return isinstance(tail, Tail) and self.open.pop(tail.key, None) is not None

    def requeue(self, tail: Tail) -> None:
        """Let one that was paused wait for its next turn."""
        self._waiting[tail.key] = self.open.pop(tail.key).make_successor()

    def start(self, now: float) -> None:
        """Open as many as may be; where more wait, those that have had their turn make room."""
        while self._waiting and len(self.open) < STREAMS_AT_ONCE:
            busy = {tail.label for tail in self.open.values()}
            tail = next((tail for tail in self._waiting.values() if tail.label not in busy), None)
            if tail is None:
                return
            del self._waiting[tail.key]
            if self._is_complete(tail):
                tail.ended.set()
            self.open[tail.key] = tail
            tail.since = now
            tail.start()
        for tail in itertools.islice(self.open.values(), len(self._waiting)):
            if now - tail.since < LOG_TURN:
                break  # the others are younger
            tail.pause()

    def has_log_of(self, uid: str) -> bool:
        """Whether a log of that pod is yet to be read."""
        return any(key.uid == uid for key in [*self.open, *self._waiting])

    def has_complete(self) -> bool:
        """Whether a log is left to which nothing will be added: it is read to its end."""
        return any(map(self._is_complete, [*self.open.values(), *self._waiting.values()]))

    def _is_complete(self, tail: Tail) -> bool:
        """Whether nothing will be added to a log, since its container has ended."""
        pod = self._pods.get(tail.key.uid)
        return pod is None or has_ended(pod, tail.key)


class Run:
    """Follows a Job or a Deployment: its pods' logs to stdout, its troubles to
    stderr, and its end as a `Verdict`.

    One thread watches the object, one its pods, one reads each container's log;
    they hand what they get to this object, which alone decides and prints.
    """

    def __init__(
        self,
        subject: Subject,
        core: ApiGroup,
        console: Console,
        clock: Callable[[], float],
        logs: LogQuery,
        results: Optional[Results] = None,
    ) -> None:
        def make_tail(pod: Object, container_name: str) -> Optional[Tail]:
            if not logs.wants(pod):
                return None
            label = subject.label(pod) + " results" * (container_name == RESULTS_NAME)
            return Tail(self._messages, core, pod, container_name, logs, label)

        self._subject = subject
        self._core = core
        self._console = console
        self._clock = clock
        self._root = subject.root
        self._messages: queue.Queue[Message] = queue.Queue(maxsize=64)
        self._pods: Dict[str, Object] = {}
        self._ended: Dict[str, Optional[int]] = {}
        self._tails = Tails(make_tail, self._pods, results)
        prefixed = subject.prefixed and logs.only_index is None
        mark = find_setup_mark(subject.root)
        self._printer = LogPrinter(console, prefixed, mark, logs.labels)
        self._listed = False
        self._caught_up = ""
        self._gone = False
        self._changed = False
        self._verdict: Optional[Verdict] = None
        self._decided_at = 0.0

    def follow(self, options: FollowOptions, timeout: Optional[float]) -> Verdict:
        """Follow to the end. ``timeout`` is how many seconds it may take from the Job's start.

        Raises TimedOut, UnreadLog, and K8rError when the cluster stays out of reach.
        """
        subject, started = self._subject, self._clock()
        start_time, running_since = "", started
        startup = StartupWatch(self._core, self._console, self._clock, options.grace)
        bystanders = Bystanders(subject, self._core, self._console, options)
        name = {"fieldSelector": f"metadata.name={subject.name}"}
        watchers = [
            Reflector(self._messages, subject.group, subject.resource, name),
            Reflector(self._messages, self._core, "pods", subject.pods_query),
        ]
        try:
            for watcher in watchers:
                watcher.start()
            while not self._is_over():
                self._handle_messages(0.25 if self._verdict else 0.5)
                self._enter(options)
                self._judge()
                start = str((self._root.get("status") or {}).get("startTime") or "")
                if start != start_time or is_held(self._root):
                    start_time, running_since = start, self._clock()
                if self._verdict is None:
                    self._check(running_since + timeout if timeout else None)
                    startup.check(self._root, self._pods)
                bystanders.check(self._pods, self._tails, self._clock(), bool(self._verdict))
                self._show(startup.reason, started)
            assert self._verdict is not None
            if self._verdict.code == ExitCode.OK:
                bystanders.conclude(self._root, self._pods.values())
            self._list_failed(self._verdict)
            self._check_logs(self._verdict)
            return self._verdict
        finally:
            self._stop([*watchers, *self._tails.open.values()])
            self._console.progress("")

    def _enter(self, options: FollowOptions) -> None:
        if self._listed:
            options.enter(self._pods.values())

    def _list_failed(self, verdict: Verdict) -> None:
        """Say of some indexes that failed how their last attempts ended, the worst first."""
        alone = get_completions(self._root) == 1 or ANNOTATION_NODES in get_annotations(self._root)
        if alone or not verdict.code or verdict.status == "Stopped":
            return
        failed = list_failed(number_attempts(map(build_pod_row, self._pods.values())))
        last = sorted({it["index"]: it for it in failed}.values(), key=lambda it: -it["exit_code"])
        if last:
            self._console.warn(f"these failed:\n{format_rows(last[:10], POD_COLUMNS)}")

    def _check_logs(self, verdict: Verdict) -> None:
        """Raise UnreadLog, with the command's own code if it failed, if a log has no end."""
        if self._tails.unread:
            text = f"{verdict.text}, but its log could not be read to its end"
            error = UnreadLog(text, f"try again: {self._subject.hint('logs', self._subject.name)}")
            error.exit_code = verdict.code or ExitCode.FAILED
            raise error

    def _show(self, reason: str, started: float) -> None:
        if not self._console.shows_progress:
            return
        counts = count_pods(self._root, self._pods.values())
        age = format_age(self._clock() - started)
        wait = f"; waiting: {reason}" if reason else ""
        self._console.progress(f"{self._subject.name}: {counts}, {age}{wait}")

    def _handle_messages(self, timeout: float) -> None:
        """Wait for a message, then handle what is there, but not without end."""
        with contextlib.suppress(queue.Empty):
            self._handle(self._messages.get(timeout=timeout))
            for _ in range(self._messages.maxsize):
                self._handle(self._messages.get_nowait())
        self._tails.start(self._clock())

    def _handle(self, message: Message) -> None:
        reader = message.reader
        if message.kind == "log":
            self._print(reader)
        elif message.kind == "end":
            self._printer.end(reader.key, reader.label)
            self._tails.remove(reader)
            reader.join()
        elif message.kind == "paused":
            self._tails.requeue(reader)
        elif message.kind == "error":
            # A log that cannot be read is not a reason to give up; a watch is.
            if not self._tails.remove(reader):
                raise message.item
            self._tails.unread = reader.key.container != RESULTS_NAME or self._tails.unread
            self._console.warn(f"a log cannot be read to its end: {message.item.message}")
        elif reader.name == self._subject.resource:
            self._note_root(message)
        else:
            self._note_pod(message)

    def _print(self, tail: Tail) -> None:
        data = tail.buffer.collect()
        if tail.key.container == CONTAINER_NAME:
            self._printer.write(tail.key, tail.label, data)
        elif tail.key.container == RESULTS_NAME:
            self._take_results(tail, data)
        elif data:
            self._console.foreign(data)

    def _take_results(self, tail: Tail, data: bytes) -> None:
        """Read no further than there is something. What holds up a retry is let go."""
        pod, results = self._pods.get(tail.key.uid), self._tails.results
        if not pod or not results:
            return
        spool = results.feed(pod, data)
        if spool.told and self._tails.remove(tail):
            tail.stop()
            ended = decide_indexes(self._pods.values(), get_retries(self._root), False)
            if get_pod_index(pod) not in ended and spool.size > LOG_LIMIT:
                results.release(pod)

    def _note_root(self, message: Message) -> None:
        self._changed = True
        uid = self._root["metadata"]["uid"]
        if message.kind == "synced":
            self._gone = uid not in message.item
        elif message.item["metadata"]["uid"] == uid:
            self._root = message.item
            self._gone = message.kind == "deleted"

    def _note_pod(self, message: Message) -> None:
        self._changed = True
        if message.kind == "synced":
            self._listed = True
            return
        pod, deleted = message.item, message.kind == "deleted"
        if not self._subject.owns(pod):
            return
        uid, note = pod["metadata"]["uid"], get_clone_note(pod)
        if note and not any(map(get_clone_note, self._pods.values())):
            self._console.warn(note.strip())
        before = self._pods.get(uid, pod)["metadata"]
        if before.get("deletionTimestamp"):  # at its end the kubelet deletes it a second time
            keys = ("deletionTimestamp", "deletionGracePeriodSeconds")
            pod["metadata"].update({key: before.get(key) for key in keys})
        self._pods[uid] = pod
        outcome = judge_pod(pod)
        if outcome:
            self._note_end(pod, outcome)
        elif deleted:
            del self._pods[uid]
        self._tails.conclude(pod, deleted)
        if not deleted or get_main_state(pod):
            self._tails.add(pod)

    def _note_end(self, pod: Object, outcome: Outcome) -> None:
        """Say that an index has failed, once it will not be tried again."""
        uid, index = pod["metadata"]["uid"], get_pod_index(pod)
        if uid in self._ended:
            return
        self._pods[uid] = self._pods.pop(uid)  # they are judged in the order of their ends
        self._ended[uid] = index if outcome.code and not outcome.disrupted else None
        if self._ended[uid] is not None and get_completions(self._root) > 1:
            if list(self._ended.values()).count(index) == get_retries(self._root) + 1:
                self._console.warn(f"index {index} has failed: {outcome}")

    def _judge(self) -> None:
        """Decide, once both the object and its pods are known."""
        if self._verdict or not self._listed or not self._changed:
            return
        if not (self._gone or may_be_over(self._root, len(self._ended))):
            return
        if not self._catch_up("gone" if self._gone else find_end(self._root)):
            return
        self._changed = False
        pods = list(self._pods.values())
        verdict = self._subject.judge(self._root, pods)
        self._verdict = verdict and verdict._replace(seconds=measure_run(self._root, pods))
        if self._verdict is None and self._gone:
            text = f"{self._subject.name} was deleted before it had finished"
            self._verdict = Verdict(ExitCode.FAILED, text)
        self._decided_at = self._clock()

    def _catch_up(self, end: str) -> bool:
        """Once the object has come to that end, or is about to, ask for its pods: the news of
        the last of them, and so their logs and codes, may still be on the way. Whether that
        has been done; the one who prints does not wait for a server that is out of reach.
        """
        if end != self._caught_up:
            try:
                pods, _ = self._core.list("pods", self._subject.pods_query, lambda pod: pod, False)
            except (Unauthorized, Overloaded, ConnectionTrouble):
                return False  # the watches give up on it in time
            for pod in sorted(pods, key=get_age_key):
                self._note_pod(Message("added", None, pod))
            # The watch has yet to say how those ended that are not there any more.
            if self._pods.keys() - self._ended.keys() - {pod["metadata"]["uid"] for pod in pods}:
                return False
            self._caught_up = end
        return True

    def _is_over(self) -> bool:
        """Decided, and every log read. Pods that the cluster stops, because of a
        deadline say, get a few seconds to end theirs; the log of a container that
        has ended is read to its end, however long that takes.
        """
        if self._verdict is None:
            return False
        if not self._tails:
            return True
        if is_deployment(self._root) and not self._gone:
            return True
        kept = any(map(holds_results, self._pods.values())) or not self._tails.results
        if kept and not (self._gone or find_failure(self._root)):
            return False
        patience = RESULTS_TIME if self._tails.results else 5.0
        return self._clock() - self._decided_at > patience and not self._tails.has_complete()

    def _check(self, deadline: Optional[float]) -> None:
        if deadline is not None and self._clock() > deadline:
            raise TimedOut(
                f"{self._subject.name} did not end in time, and the cluster does not stop it",
                f"remove it: {self._subject.hint('rm -f', self._subject.name)}",
            )

    def _stop(self, readers: Sequence[Reader]) -> None:
        """End threads, and wait a while for what they do."""
        for reader in readers:
            reader.stop()
        until = self._clock() + JOIN_TIMEOUT
        for reader in readers:
            if reader.ident is not None:
                reader.join(max(0.0, until - self._clock()))


def follow_removal(
    subject: Subject,
    core: ApiGroup,
    console: Console,
    clock: Callable[[], float],
    timeout: Optional[float],
) -> None:
    """Wait until what is being deleted after its pods is gone. Raises TimedOut."""
    if subject.root["metadata"].get("deletionTimestamp"):
        subject = subject._replace(judge=lambda root, pods: None)  # its end is not enough
        run = Run(subject, core, console, clock, LogQuery(quiet=True))
        run.follow(FollowOptions(), timeout)


def print_log(core: ApiGroup, pod: Object, label: str, logs: LogQuery, printer: LogPrinter) -> None:
    """Print one pod's log."""
    key = get_tail_key(pod, CONTAINER_NAME)
    for data in read_log(core, pod, CONTAINER_NAME, logs):
        printer.write(key, label, data)
    printer.end(key, label)


def print_logs(
    core: ApiGroup, console: Console, subject: Subject, logs: LogQuery
) -> Optional[Verdict]:
    """Print the logs that there are, one pod after the other; returns how the run has ended."""
    pods, _ = core.list("pods", subject.pods_query, lambda pod: pod)
    mine = sorted((pod for pod in pods if subject.owns(pod)), key=get_age_key)
    wanted = [pod for pod in mine if logs.wants(pod) and has_logs(pod)]
    if not wanted:
        console.warn(f"{subject.name} has no logs (yet): no pod has started")
    prefixed = subject.prefixed and logs.only_index is None
    printer = LogPrinter(console, prefixed, find_setup_mark(subject.root), logs.labels)
    for pod in sorted(wanted, key=get_pod_index):
        print_log(core, pod, subject.label(pod), logs, printer)
    verdict = subject.judge(subject.root, mine)
    return verdict and verdict._replace(seconds=measure_run(subject.root, mine))


class Bystanders:
    """Tells of containers that k8r has not added where they fail or outlast the command. An
    owned run has all of its attempts in spite of them, and no more than these.
    """

    def __init__(
        self, subject: Subject, core: ApiGroup, console: Console, options: FollowOptions
    ) -> None:
        self._subject, self._options = subject, options
        self._core, self._console = core, console
        self._said: Set[str] = set()
        self._kept_since: Dict[str, float] = {}

    def check(self, pods: Mapping[str, Object], tails: Tails, now: float, over: bool) -> None:
        """Look at the pods of a run, which is ``over`` or goes on."""
        crowded = [(pod, judge_pod(pod)) for pod in filter(list_bystanders, pods.values())]
        done = {get_pod_index(pod) for pod, outcome in crowded if outcome == Outcome(0)}
        for pod, outcome in crowded:
            self._tell_failures(pod)
            if outcome and list_keepers(pod):
                since = self._kept_since.setdefault(pod["metadata"]["uid"], now)
                if now - since >= (0 if over else KEPT_FOR):
                    self._tell_keeper(pod, outcome, None if over else tails)
            elif not outcome and get_pod_index(pod) in done:
                self._end(pod)  # the failure of a bystander had a success tried again

    def conclude(self, root: Object, pods: Iterable[Object]) -> None:
        """After a success, let no failure of a bystander have it tried again."""
        if self._options.owned and any(map(list_beside, pods)) and not find_end(root):
            spec = {"backoffLimit": int((root.get("status") or {}).get("failed") or 0)}
            with contextlib.suppress(K8rError):
                self._subject.group.patch("jobs", self._subject.name, {"spec": spec})

    def _tell_failures(self, pod: Object) -> None:
        for name, end in list_failures(pod):
            self._say(f"the container {name}, which k8r has not added, failed: {end}")

    def _tell_keeper(self, pod: Object, outcome: Outcome, tails: Optional[Tails]) -> None:
        """Say which container outlasts the command. What is to be tried again waits for it."""
        if not self._options.remove:
            self._say(
                f"the command has ended with {outcome.code}; the container "
                f"{list_keepers(pod)[0]}, which k8r has not added, keeps the pod running; "
                f"{self._subject.hint('rm', self._subject.name)} removes it"
            )
        if outcome.code and tails is not None and not tails.has_log_of(pod["metadata"]["uid"]):
            self._end(pod)

    def _end(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if self._options.owned and uid not in self._said:
            self._said.add(uid)
            with contextlib.suppress(K8rError):
                wanted = {"preconditions": {"uid": uid}}
                self._core.delete("pods", pod["metadata"]["name"], wanted)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._console.warn(text)


JOBS_LOOKED_INTO = 20
"""Jobs whose pods `ls` looks at one by one."""


def list_pods_of(
    core: ApiGroup, jobs: Sequence[Object], few: Optional[Question] = None
) -> Dict[str, List[Object]]:
    """The pods of Jobs, by the Job's uid: out of ``few`` pods, if that has an answer."""
    found: Dict[str, List[Object]] = {job["metadata"]["uid"]: [] for job in jobs}
    if not jobs:
        return found
    selector = f"{SELECTOR},{LABEL_JOB}"
    if len(jobs) <= JOBS_LOOKED_INTO:
        selector = f"{UID_LABEL} in ({','.join(found)})"
    pods = few.get_answer() if few else None
    if pods is None:
        pods, _ = core.list("pods", {"labelSelector": selector}, lambda pod: pod)
    for pod in pods:
        for uid in found:
            if belongs_to(pod, uid):
                found[uid].append(pod)
    return found


class StartupWatch:
    """Explains why a run does not begin, and gives up on what cannot get better."""

    def __init__(
        self, core: ApiGroup, console: Console, clock: Callable[[], float], grace: float
    ) -> None:
        self._core = core
        self._console = console
        self._clock = clock
        self._grace = grace
        self._next = 0.0
        self._next_question = clock() + WAIT_EXPLAINED_AFTER
        self._said: Set[str] = set()
        self._hopeless_since: Optional[float] = None
        self._nodes: Optional[List[Object]] = None
        self.reason = ""

    def check(self, root: Object, pods: Mapping[str, Object]) -> None:
        """Say what is new. Raises CannotStart after the grace time."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + LOOK_EVERY
        alive = [pod for pod in pods.values() if not judge_pod(pod)]
        idle = [pod for pod in alive if is_idle(pod)]
        if not is_held(root) and (alive and not idle or is_under_way(root)):
            self._hopeless_since, self.reason = None, ""
        elif now >= self._next_question:
            self._next_question = now + EXPLAIN_EVERY
            alone = len(idle) == len(alive) or ANNOTATION_NODES in get_annotations(root)
            self._announce(now, self._explain(root, idle), alone)

    def _announce(self, now: float, wait: Optional[Wait], alone: bool) -> None:
        """Warn of a reason once; it stays in the status line. Give up when nothing but waits
        that cannot get better were seen for too long.
        """
        self.reason = wait.text if wait else ""
        grace = shorten_grace(self._grace, self.reason)
        if wait and wait.text not in self._said:
            self._said.add(wait.text)
            self._console.warn(f"waiting: {wait.text}")
        if not wait or not wait.fatal or not alone:
            self._hopeless_since = None
        elif self._hopeless_since is None:
            self._hopeless_since = now
        elif now - self._hopeless_since >= grace:
            raise CannotStart(f"gave up after {grace:.0f} s: {wait.text}", "mend that first")

    def _explain(self, root: Object, idle: Sequence[Object]) -> Optional[Wait]:
        """Events are asked for only if the object does not speak for itself."""
        if is_held(root):
            return explain_root(root, [], self._core.workloads(root["metadata"]["uid"]))
        if not idle:
            return explain_root(root, []) or explain_root(root, self._events(root))
        pod = idle[0]
        return explain_pod(pod, [], self._look_up_nodes(pod)) or explain_pod(pod, self._events(pod))

    def _look_up_nodes(self, pod: Object) -> List[Object]:
        """The nodes, asked for once, if a pod finds none that takes it."""
        said = find_condition(pod, "PodScheduled", "False").get("message", "")
        if self._nodes is None and re.search("Insufficient|selector|taint", said):
            self._nodes = self._core.nodes()
        return self._nodes or []

    def _events(self, item: Object) -> List[Object]:
        """The events about an object, oldest first; none if they cannot be had."""
        query = {"fieldSelector": f"involvedObject.uid={item['metadata']['uid']}"}
        try:
            events, _ = self._core.list("events", query, lambda event: event, patient=False)
        except K8rError as error:
            self._console.debug(f"no events: {error.message}")
            return []
        return sorted(events, key=get_event_time)


# ==============================================================================
# Doors
# ==============================================================================

SHELL = ("sh", "-c", "command -v bash >/dev/null && exec bash; exec sh")
"""The best shell of an image."""


@contextlib.contextmanager
def pass_terminal_on(descriptor: int, channel: Channel) -> Iterator[None]:
    """Have each key of a terminal, and its size, go to the other side; restored at the end."""
    import termios
    import tty

    def send_size(*_: Any) -> None:
        size = os.get_terminal_size(descriptor)
        channel.send(RESIZE, json.dumps({"Width": size.columns, "Height": size.lines}).encode())

    kept, handler = termios.tcgetattr(descriptor), signal.signal(signal.SIGWINCH, send_size)
    try:
        tty.setraw(descriptor)
        send_size()
        yield
    finally:
        signal.signal(signal.SIGWINCH, handler)
        with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, kept)


def converse(channel: Channel, console: Console, terminal: Optional[int] = None) -> int:
    """Pass on what a command writes until its end; its exit code. Raises K8rError."""
    channel.warn = console.warn
    with contextlib.ExitStack() as stack:
        if terminal is not None:
            stack.enter_context(pass_terminal_on(terminal, channel))
        for number, data in channel:
            (console.errors if number == STDERR else console.data)(data)
    return channel.get_exit_code()


def has_input(stream: BinaryIO) -> bool:
    """Whether a pipe or file has bytes that nobody has read."""
    import fcntl
    import termios

    try:
        if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            return False
        return any(fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4)))
    except OSError:  # there is none
        return False


END_SHOWN_AFTER = 5.0
"""Seconds after the loss of its connection in which a command's end is known."""
REFUSED_WITHIN = 2.0
"""Seconds in which the node refuses to attach, mostly since the command has ended."""


class Attachment:
    """Connects standard input, and with ``tty`` the terminal, to the command of a run's pod."""

    def __init__(self, core: ApiGroup, console: Console, source: int, tty: bool) -> None:
        self._core = core
        self._console = console
        self._source = source
        self._tty = tty
        self._feed: Optional[threading.Thread] = None
        self._entered = self._fatal = False
        self._over = threading.Event()
        self._trouble: Optional[K8rError] = None

    def enter(self, pods: Iterable[Object]) -> None:
        """Attach to the first pod that runs, once: with a terminal until its end, else while
        its log is read. Raises K8rError where the command cannot have its input.
        """
        if self._fatal and self._trouble:
            raise self._trouble
        for pod in pods:
            if "running" in get_main_state(pod) and not self._entered:
                self._entered = True
                name = pod["metadata"]["name"]
                if self._tty:
                    self._console.progress("")
                    self._pass_on(name)
                else:
                    self._feed = threading.Thread(target=self._pass_on, args=(name,), daemon=True)
                    self._feed.start()

    def _pass_on(self, pod_name: str) -> None:
        """Attach, with a terminal again if the connection is lost. The command's end may be its
        reason, and is waited for; a command that was not reached would wait for its input.
        """
        tty, until = self._tty, time.monotonic() + RETRY_TIME
        for pause in generate_pauses():
            try:
                self._converse(pod_name)
                return
            except ConnectionTrouble as error:
                text = f"{error.message}, before the end of the command's "
                text += "terminal" if tty else "input"
                self._trouble = ConnectionTrouble(text, error.hint)
                if not tty or time.monotonic() > until:
                    self._over.wait(END_SHOWN_AFTER)
                    self._fatal = True
                    return
            except K8rError as error:  # it was refused
                if getattr(error, "status", 0) == 403:
                    self._trouble, self._fatal = CannotStart(error.message, error.hint), True
                elif not tty and not self._over.wait(END_SHOWN_AFTER):
                    self._trouble, self._fatal = error, True
                return
            time.sleep(pause)

    def _converse(self, pod_name: str) -> None:
        """Until the command's end, or until it has had all of its input. Raises ConnectionTrouble
        for a connection that was lost, another K8rError for one that was refused.
        """
        query = {"tty": True} if self._tty else {"stdout": False, "stderr": False}
        channel = open_channel(self._core, pod_name, "attach", self._source, **query)
        channel.first_pause = 0 if self._tty else FIRST_PAUSE
        self._trouble = None  # a terminal is connected again
        refused_until = time.monotonic() + REFUSED_WITHIN
        try:
            converse(channel, self._console, self._source if self._tty else None)
        except K8rError as error:
            if time.monotonic() > refused_until:  # it may have had a part
                raise ConnectionTrouble(error.message, error.hint) from error
            raise

    def conclude(self, code: int) -> bool:
        """After the command's end: raise what kept its input or output from being whole. Whether
        there is input on its way still.
        """
        self._over.set()
        if self._feed and not self._trouble:
            self._feed.join(JOIN_TIMEOUT)  # a connection that is lost shows soon
        if self._trouble and code != ExitCode.TIMEOUT:
            raise self._trouble
        return bool(self._feed and self._feed.is_alive() and not self._trouble)


class Stopper:
    """Ends the commands of a Job, and no other begins. What a Job deletes has no log any more,
    but the kubelet ends a pod at a deadline of its own, which may be lowered.
    """

    def __init__(self, subject: Subject, core: ApiGroup) -> None:
        if is_deployment(subject.root) or is_held(subject.root):
            what = "is a Deployment" if is_deployment(subject.root) else "has not begun"
            hint = f"remove it: {subject.hint('rm -f', subject.name)}"
            raise K8rError(f"{subject.name} {what}, and has nothing to stop", hint)
        self._subject = subject
        self._core = core
        self._told: Set[str] = set()
        self._parallel = int(subject.root["spec"].get("parallelism", 1))
        self._mark("true")

    def _mark(self, value: Optional[str]) -> None:
        self._change({"metadata": {"annotations": {ANNOTATION_STOPPED: value}}})

    def _change(self, body: Object) -> None:
        with contextlib.suppress(NotFound):  # who follows it with --rm is sooner
            self._subject.group.patch("jobs", self._subject.name, body)

    def enter(self, pods: Iterable[Object]) -> None:
        """End pods that are on a node. The Job may have no more pods than these, else it would
        begin others; when they have ended, so may the Job. Raises ApiError.
        """
        going = [pod["metadata"] for pod in pods if is_on_node(pod)]
        for metadata in going:
            if metadata["uid"] not in self._told:
                self._told.add(metadata["uid"])
                try:
                    soon = {"spec": {"activeDeadlineSeconds": 1}}
                    self._core.patch("pods", metadata["name"], soon)
                except NotFound:
                    continue
                except ApiError:
                    self._mark(None)
                    raise
        if len(going) < self._parallel:
            self._parallel = len(going)
            ended: Object = {} if going else {"activeDeadlineSeconds": 1}
            self._change({"spec": {"parallelism": len(going), **ended}})


def listen(wanted: int) -> Any:
    """A socket that listens on this machine alone, on the first free port from that one on."""
    import socket

    for port in range(wanted, 65_536):
        with contextlib.suppress(OSError):  # taken, or only for root
            return socket.create_server(("127.0.0.1", port))
    raise K8rError(f"no port from {wanted} on is free on this machine", "name another: LOCAL:PORT")


class Forward(threading.Thread):
    """Passes connections to a port of this machine on to a port of a pod, which is looked up
    for each of them.
    """

    def __init__(
        self,
        core: ApiGroup,
        console: Console,
        find_pod: Callable[[], Object],
        local: int,
        port: int,
    ) -> None:
        super().__init__(daemon=True)
        self._core = core
        self._console = console
        self._find_pod = find_pod
        self._port = port
        self._server = listen(local)
        self._local = self._server.getsockname()[1]
        self._said = ""
        if self._local != local:
            console.warn(f"port {local} is taken on this machine, {self._local} is not")

    def run(self) -> None:
        """What the thread does."""
        threading.Thread(target=self._announce, daemon=True).start()
        while True:
            connection, _ = self._server.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _read(self, channel: Channel) -> Iterator[bytes]:
        """What the port sends. Raises K8rError if nothing listens there."""
        begun = set()
        for number, data in channel:
            if number in begun and number:
                text = data.decode("utf-8", "replace").strip()
                why = "nothing listens there" if "connection refused" in text else text
                raise K8rError(f"port {self._port} of the pod cannot be reached: {why}")
            if number in begun:
                yield data
            begun.add(number)  # the first says which port it is

    def _open(self, source: Optional[int]) -> Channel:
        pod = self._find_pod()["metadata"]["name"]
        return open_channel(self._core, pod, "portforward", source, ports=self._port)

    def _serve(self, connection: Any) -> None:
        import socket

        with connection:
            try:
                for data in self._read(self._open(connection.fileno())):
                    connection.sendall(data)
            except (NotFound, OSError):  # there is no pod, or the client is gone
                pass
            except ConnectionTrouble:  # what has come is not all: a reset tells the client so
                linger = (1).to_bytes(4, sys.byteorder) + bytes(4)  # on, for no seconds
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            except K8rError as error:
                if error.message != self._said:
                    self._said = error.message
                    self._console.warn(error.message)

    def _announce(self) -> None:
        """Say where it is, once something answers there: a refusal comes at once."""
        answers = False
        while not answers:
            time.sleep(LOOK_EVERY)
            try:
                channel = self._open(None)
            except K8rError as error:
                if isinstance(error, ApiError) and error.status == 403:
                    self._console.warn(f"no port is forwarded: {error.message}; {error.hint}")
                    return
                continue
            threading.Timer(1.0, setattr, (channel, "closed", True)).start()
            try:
                any(self._read(channel))
                answers = True
            except K8rError:  # refused, unless it is the timer's doing
                answers = channel.closed
        self._console.say(f"http://127.0.0.1:{self._local} is port {self._port} of the pod")


# ==============================================================================
# Local runs
# ==============================================================================

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OWN_FILES = 64
"""Files that k8r itself may have open at a time; a program needs up to two."""
STOP_GRACE = 5.0
"""Seconds that a local program may take to end after SIGTERM."""
PIPE_SIZE = MIB
"""The most bytes that an unprivileged program's pipe holds on Linux (pipe(7))."""


class LocalProcess:
    """A command in a session of its own. As in a container, both of its outputs are
    one, and what it has started ends with it.

    ``folder`` is made for it and, unless ``keep``, removed after it. At its end the archives of
    its ``results`` are the files that these have here.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: str,
        environ: Mapping[str, str],
        keep: bool = False,
        stdin: Any = subprocess.DEVNULL,
        results: Mapping[str, str] = {},
    ) -> None:
        self._results = results
        self._command = command
        self._stdin = stdin
        self._folder = folder
        self._environ = environ
        self._keep = keep
        self._lock = threading.Lock()
        self._stopped = False
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.outcome = Outcome(128 + signal.SIGTERM)

    def output(self) -> Iterator[bytes]:
        """Run it and yield what it writes; `outcome` is then how it ended."""
        with self._lock:
            if self._stopped:
                return
            try:
                os.makedirs(self._folder)
                self._process = process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env={**self._environ, MARK: self._folder},
                    stdin=self._stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise K8rError(f"the command cannot be started: {error.strerror}") from error
        with process:
            yield from self._pieces(process)
            code = process.wait()
            self.stop(signal.SIGKILL)
        with self._lock:
            self._process = None
        self.outcome = Outcome(code if code >= 0 else 128 - code)
        for path, file in self._results.items():
            with open(file, "wb") as archive:
                pack_files(archive, {posixpath.basename(path): path})
        if not self._keep:
            remove_tree(self._folder)

    def _pieces(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        """What comes out of the pipe, and of one that outlives the process, what was in it."""
        assert process.stdout
        import select

        pipe, poll = process.stdout.fileno(), select.poll()
        poll.register(pipe, select.POLLIN)
        left = sys.maxsize
        while left > 0:
            ended = process.poll() is not None
            if ended:
                self.stop(signal.SIGKILL)
                left = min(left, PIPE_SIZE)
            if poll.poll(250):
                data = os.read(pipe, STREAM_CHUNK)
                if not data:
                    return
                left -= len(data)
                yield data
            elif ended:
                return

    def stop(self, signum: int) -> None:
        """Send it a signal, to all of it; it will not be started any more."""
        with self._lock:
            self._stopped = True
            if self._process:
                signal_session(self._process.pid, signum, os.fsencode(f"{MARK}={self._folder}"))


MARK = "K8R_LOCAL"
"""The variable by which a program's descendants are known that have left its session."""


def signal_session(session: int, signum: int, mark: bytes) -> None:
    """Send a signal to the processes of a session: to the group of its leader, and where
    /proc tells of them to those of others, as timeout(1) makes one, and to those with
    ``mark`` in their environment, as setsid(1) starts them.
    """
    with contextlib.suppress(OSError):
        os.killpg(session, signum)
    with contextlib.suppress(FileNotFoundError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
                mine = os.getsid(int(name)) == session or mark in environ.read().split(b"\0")
                if mine and session != os.getpgid(int(name)):
                    os.kill(int(name), signum)


def remove_tree(folder: str) -> None:
    """Remove a directory and all that is in it, be it read-only."""
    import shutil

    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
    for top, folders, _ in os.walk(folder):
        for path in (os.path.join(top, name) for name in folders):
            with contextlib.suppress(OSError):
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


Program = Union[LocalProcess, LocalContainer]


class AttemptKey(NamedTuple):
    """One run of a program: the ``number`` counts the attempts of a completion index."""

    completion: int
    container: str
    number: int = 0


class Attempt(Reader):
    """Runs a program, and sends what it writes and how it ended."""

    def __init__(self, messages: queue.Queue[Message], key: AttemptKey, program: Program) -> None:
        super().__init__(messages, "attempt")
        self.key = key
        self.program = program

    def read(self) -> None:
        for data in self.program.output():
            self.send("log", data)
        self.send("end", self.program.outcome)


class LocalRun:
    """Runs on this machine what the cluster would run: each attempt has a thread that
    reads its output, and this object alone decides and prints.

    With ``docker`` each is a container, else a process in a directory of its own.
    ``login`` are the credentials for a repository.
    """

    def __init__(
        self,
        work: Workload,
        archive: Optional[Archive],
        login: Tuple[str, str],
        docker: Optional[Docker],
        env: Environment,
        console: Console,
    ) -> None:
        self._work = work._replace(run_id=env.token())
        self._options = work.options
        self._archive = archive
        self._login = login
        self._docker = docker
        self._env = env
        self._console = console
        self._scratch = ""
        self._messages: queue.Queue[Message] = queue.Queue(maxsize=64)
        mark = make_setup_mark(self._work.run_id) if work.options.setup else ""
        labels = label_rows(work.options.rows) if work.options.prefix else {}
        self._printer = LogPrinter(console, work.options.num > 1, mark, labels)
        self._waiting = [AttemptKey(index, CONTAINER_NAME) for index in list_indexes(work.options)]
        self._running: Dict[AttemptKey, Attempt] = {}
        self._decided: Dict[int, Outcome] = {}
        self._kill_at = 0.0
        self._muted = False
        self.failure: Optional[Exception] = None
        """Why results are not here."""

    def follow(self) -> Verdict:
        """Run it to its end. Whatever happens, nothing of it stays."""
        import tempfile

        work, clock = self._work, self._env.clock
        deadline = clock() + work.timeout if work.timeout else float("inf")
        self._scratch = tempfile.mkdtemp(prefix="k8r-")
        try:
            self._prepare()
            while len(self._decided) < work.options.num:
                left = deadline - clock()
                if left <= 0:
                    return make_timeout_verdict(work.name, work.timeout)
                self._start_attempts()
                self._handle_message(min(left, LOOK_EVERY))
            return summarize(work.name, work.options.num, self._decided, "")
        finally:
            with defer_signals(self._hurry):
                self._stop()
                self._bring_results()
                remove_tree(self._scratch)

    def _prepare(self) -> None:
        where, sent = escape_unprintable(self._scratch), ""
        if self._docker:
            self._docker.pull(self._work.image)
            where = "docker"
        elif self._archive:
            self._archive.write_parts(self._path("source"))
            sent = f" ({self._archive})"
        else:
            self._waiting.insert(0, AttemptKey(0, CLONE_NAME))
        self._console.say(f"{self._work.name} runs on this machine, in {where}{sent}")
        asked, flags = dict(self._options.resources.limits), {"--gpu": GPU}
        if not self._docker:
            flags.update({"--mem": "memory", "--cpu": "cpu"})
        unused = [flag for flag in sorted(flags) if flags[flag] in asked]
        if unused:
            self._console.warn(f"not applied to a local run: {', '.join(unused)}")

    def _path(self, name: str) -> str:
        return os.path.join(self._scratch, name)

    def _start_attempts(self) -> None:
        """As many as may run at a time; the clone alone."""
        most, files = self._options.parallel or self._options.num, os.sysconf("SC_OPEN_MAX")
        if files > 0:  # not without a limit
            most = min(most, max((files - OWN_FILES) // 2, 1))
        while self._waiting and len(self._running) < most:
            if any(key.container == CLONE_NAME for key in self._running):
                break
            key = self._waiting.pop(0)
            self._running[key] = Attempt(self._messages, key, self._make_program(key))
            self._running[key].start()

    def _make_program(self, key: AttemptKey) -> Program:
        """The program of an attempt, with the shell text, command line and variables of a pod."""
        environ, clone = drop_repository(self._env.environ), self._path("clone")
        if self._work.clone and key.container == CLONE_NAME:
            variables = build_local_clone_variables(self._work.clone, *self._login)
            script = build_local_clone_script(clone, self._scratch)
            return LocalProcess(["sh", "-c", script], clone, {**environ, **variables}, keep=True)
        work, variables = self._work, build_own_variables(self._work, str(key.completion))
        variables.update(self._options.env)
        for row in (row for row in self._options.rows if row.number == key.completion):
            words = tuple(expand(word, row) for word in self._options.command)
            work = work._replace(options=self._options._replace(command=words), tables=())
            variables.update(row.variables)
        workspace = self._path(f"{key.completion}-{key.number}/workspace")
        results = {
            os.path.join(workspace, path): self._path(f"results-{key.completion}-{number}")
            for number, (path, _) in enumerate(self._options.out)
        }
        if self._docker:
            source = self._env.stdin.fileno()
            return self._docker.container(work, variables, results, source)
        setup = build_cloned_script(workspace, clone)
        if self._archive:
            setup = build_unpack_script(self._archive.chunks, workspace, self._path("source"))
        command, args = build_command_line(work._replace(setup=setup), str)
        return LocalProcess(
            [*command, *args],
            workspace,
            {**environ, **variables},
            stdin=self._env.stdin if self._options.stdin else subprocess.DEVNULL,
            results=results,
        )

    def _handle_message(self, timeout: float) -> None:
        """Wait for a message, and handle it. Raises K8rError."""
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return
        self._show(message)
        if message.kind != "log":
            del self._running[message.reader.key]
            if message.kind == "error":
                raise message.item
            self._decide(message.reader.key, message.item)

    def _decide(self, key: AttemptKey, outcome: Outcome) -> None:
        """Try again, or leave it at that; without a clone none can begin."""
        if key.container == CLONE_NAME:
            if outcome.code:
                outcome = outcome._replace(container=CLONE_NAME)
                self._decided = dict.fromkeys(list_indexes(self._options), outcome)
        elif outcome.code and key.number < self._options.retry:
            self._waiting.insert(0, key._replace(number=key.number + 1))
        else:
            self._decided[key.completion] = outcome

    def _show(self, message: Message) -> None:
        key, label = message.reader.key, str(message.reader.key.completion)
        if self._muted:
            return
        try:
            if message.kind != "log":
                self._printer.end(key, label)
            elif key.container == CONTAINER_NAME:
                self._printer.write(key, label, message.item)
            else:
                self._console.foreign(message.item)
        except OSError:
            self._muted = True
            raise

    def _stop(self) -> None:
        """End what still runs, by and by, and print what it has to say."""
        attempts, clock = list(self._running.values()), self._env.clock
        self._kill_at = clock() + STOP_GRACE
        give_up = self._kill_at + STOP_GRACE
        for attempt in attempts:
            attempt.program.stop(signal.SIGTERM)
        while any(attempt.is_alive() for attempt in attempts) or not self._messages.empty():
            if clock() > give_up:
                break
            if clock() >= self._kill_at:
                for attempt in attempts:
                    attempt.program.stop(signal.SIGKILL)
                self._kill_at = clock() + LOOK_EVERY
            with contextlib.suppress(queue.Empty, OSError):
                self._show(self._messages.get(timeout=0.1))

    def _bring_results(self) -> None:
        for index in list_indexes(self._options) if self._options.out else ():
            label = str(index) if self._options.total or self._options.num > 1 else ""
            for number, out in enumerate(self._options.out):
                ((path, place),) = list_places([out], self._env.cwd, label).items()
                try:
                    with open(self._path(f"results-{index}-{number}"), "rb") as archive:
                        pieces = iter(lambda: archive.read(STREAM_CHUNK), b"")
                        inflow = Inflow(pieces, posixpath.dirname(path))
                        unpack_here(inflow, {path: place}, self._console)
                except (K8rError, OSError) as error:
                    self.failure = self.failure or error

    def _hurry(self) -> None:
        self._kill_at = 0.0


def set_stop_handler(handler: Any) -> None:
    """Handle the signals that end k8r, except those ignored from its start, as by nohup."""
    for signum in STOP_SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, handler)


@contextlib.contextmanager
def defer_signals(handler: Callable[[], None]) -> Iterator[None]:
    """Let a signal call this, in place of ending k8r before all is tidied up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals do not come here
        return
    kept = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    set_stop_handler(lambda *_: handler())
    try:
        yield
    finally:
        for signum, old in kept.items():
            signal.signal(signum, old)


# ==============================================================================
# Creating
# ==============================================================================

HURRIED_RETRY_TIME = 5.0
"""Seconds to retry a server when the user has asked k8r to stop."""
UPLOADS_AT_ONCE = 4
NAMES_TRIED = 3
"""Names of which each costs two requests if it is taken; then all that are taken are listed."""


class Plan(NamedTuple):
    """A run that is ready to be created: all but its final name."""

    work: Workload
    archive: Optional[Archive] = None
    credentials: Tuple[str, str] = ("", "")

    def named(self, name: str, run: str) -> Workload:
        """The workload under a name."""
        work = self.work._replace(name=name, run_id=run)
        if work.clone and any(self.credentials):
            clone = work.clone._replace(secret=name_clone_secret(work))
            work = work._replace(clone=clone)
        return work

    def children(self, work: Workload) -> Iterator[Object]:
        """What the Job or Deployment needs besides itself."""
        if work.clone and any(self.credentials):
            yield build_clone_secret(work, *self.credentials)
        if work.ports or work.options.nodes:
            yield build_service(work)
        for number in range(len(work.tables)):
            yield build_table_configmap(work, number)
        for part in range(work.chunks):
            assert self.archive is not None
            yield build_configmap(work, part, self.archive.chunk(part))

    @property
    def has_children(self) -> bool:
        """Whether there are any."""
        work = self.work
        service = work.ports or work.options.nodes
        return bool(work.chunks or work.tables or service or any(self.credentials))

    def close(self) -> None:
        """Remove the temporary file."""
        if self.archive:
            self.archive.close()


class Launcher(NamedTuple):
    """Creates a Job or Deployment and what it needs: all of it, or nothing.

    ``run`` is the run's id; ``hint`` makes a command line to paste of a command and a name.
    """

    cluster: Cluster
    group: ApiGroup
    resource: str
    core: ApiGroup
    run: str
    console: Console
    hint: Callable[[str, str], str]

    def launch(self, plan: Plan, replace: bool = False) -> Object:
        """Create it under the first free name, or update a Deployment, by ``replace`` also one
        of another origin. Returns it.
        """
        if not plan.work.options.as_deployment:
            return self._create(plan, generate_names(plan.work.name, plan.work.options.num))
        name = plan.work.name
        old = self.group.get(self.resource, name)
        if old is None:
            return self._create(plan, [name])
        if not is_ours(old):
            raise name_taken_error("Deployment", name)
        origin = get_annotations(old).get(ANNOTATION_ORIGIN)
        if origin and origin != plan.work.origin and not replace:
            what = f"the Deployment {name} is of {origin}, not of {plan.work.origin}"
            raise K8rError(what, "choose a --job-name, or add --replace")
        return self._update(plan, plan.named(name, self.run), old)

    def _update(self, plan: Plan, work: Workload, old: Object) -> Object:
        """Renew a Deployment, and its Service only when that has been accepted. Whatever
        goes wrong, both are put back, and no part of this run stays.
        """
        before: Dict[str, Optional[Object]] = {self.resource: old}
        if work.ports:
            before["services"] = service = self.core.get("services", work.name)
            if service and not is_ours(service):
                raise name_taken_error("Service", work.name)
        try:
            self._create_children(plan, work._replace(ports=()), old)
            root = build_deployment(work)
            made: Object = self._carry_out(
                lambda: self.group.replace(self.resource, work.name, root)
            )
            if work.ports:
                service = set_owner(build_service(work), old)
                self._carry_out(lambda: self._create_child(service))
            return made
        except BaseException:
            self._roll_back(work.name, before, True)
            raise

    def _create(self, plan: Plan, names: Iterable[str]) -> Object:
        """It is created suspended, so that its ConfigMaps have an owner from the
        start and its pods find all of them. Whatever goes wrong, a signal
        included, it is removed again, and the rest goes with it.
        """
        taken: Set[str] = set()
        for number, name in enumerate(names):
            if number == NAMES_TRIED:
                taken = {item["metadata"]["name"] for item in self.group.metadata("jobs", {})}
            if name in taken:
                continue
            work, made = plan.named(name, self.run), None
            root = build_root(work)
            try:
                try:
                    first = suspend_root(root) if plan.has_children else root
                    made = self._carry_out(lambda: self.group.create(self.resource, first))
                except Conflict:
                    continue
                self._check_labels(work, made)
                if plan.has_children:
                    held: List[bool] = []
                    self._create_children(
                        plan, work, made, lambda: held.append(self._is_queued(root, made))
                    )
                    patch = build_resumption(root, any(held))
                    made = self.group.patch(self.resource, name, patch)
                return made
            except BaseException as error:
                # A refusal leaves nothing; a request without an answer may have left something.
                uncertain = bool(made) or not isinstance(error, ApiError)
                self._roll_back(name, {self.resource: None}, uncertain)
                raise
        raise name_taken_error("Job", plan.work.name)

    def _check_labels(self, work: Workload, made: Object) -> None:
        """Warn if a policy of the cluster has changed what k8r finds a run by."""
        for item in (made, made["spec"]["template"]):
            if not build_labels(work).items() <= get_labels(item).items():
                what = f"a policy of the cluster has changed the labels of {work.name}"
                remedy = f"kubectl delete {made['kind'].lower()} {work.name} removes it"
                self.console.warn(f"{what}: k8r ls, logs and rm may not find it; {remedy}")
                return

    def _is_queued(self, root: Object, made: Object) -> bool:
        """Whether it is not k8r that is to start a Job: it names a queue or a manager, or the
        cluster suspends any such Job by itself, which a dry run tells.
        """
        if QUEUE_LABEL in get_labels(made) or made["spec"].get("managedBy"):
            return True
        if root["kind"] == "Job":
            probe = dict(root, metadata=dict(root["metadata"], name=f"k8r-{self.run}"))
            with contextlib.suppress(K8rError):  # what cannot be asked is not so
                return is_held(self.group.create(self.resource, probe, dry_run=True))
        return False

    def _carry_out(self, ask: Callable[[], Any]) -> Any:
        """Ask for it in a thread: a signal must not leave a request under way that
        the server carries out later, when k8r is not there to undo it.
        """
        question = Question(ask)
        try:
            question.start()
            return question.get_answer()
        except (KeyboardInterrupt, Interrupted):
            self.cluster.retry_time = HURRIED_RETRY_TIME
            with contextlib.suppress(Exception):
                question.get_answer(HURRIED_RETRY_TIME)
            raise

    def _create_children(self, plan: Plan, work: Workload, owner: Object, *also: Any) -> None:
        """Create what the owner needs, some at a time; call functions that raise nothing, too."""
        children = plan.children(work)
        lock = threading.Lock()
        failures: List[BaseException] = []
        done: queue.Queue[int] = queue.Queue()

        def upload() -> None:
            while not failures:
                with lock:
                    child = next(children, None)
                if child is None:
                    return
                try:
                    self._create_child(set_owner(child, owner))
                    done.put(1)
                except Exception as error:
                    failures.append(error)

        count = min(UPLOADS_AT_ONCE, max(work.chunks + len(work.tables), 1))
        targets = [*also, *[upload] * count]
        threads = [threading.Thread(target=target, daemon=True) for target in targets]
        try:
            for thread in threads:
                thread.start()
            advance = self.console.meter("sending", max(work.chunks + len(work.tables), 1))
            for thread in threads:
                while thread.is_alive():
                    thread.join(REDRAW_EVERY)
                    while not done.empty():
                        advance(done.get())
        except BaseException as error:
            failures.append(error)
            raise
        if failures:
            raise failures[0]

    def _create_child(self, child: Object) -> None:
        """Create one, or renew the Service of a Deployment that is updated. That of an earlier
        run of several nodes may be about to go with its Job.
        """
        resource, name = CHILD_RESOURCES[child["kind"]], child["metadata"]["name"]
        try:
            self.core.create(resource, child)
        except Conflict:
            old = self.core.get(resource, name) if resource == "services" else None
            kinds = [get_labels(item).get(LABEL_TYPE) for item in (old, child)]
            if (old and not is_ours(old)) or resource != "services" or kinds[0] != kinds[1]:
                raise name_taken_error(child["kind"], name) from None
            if kinds[1]:
                self.core.patch(resource, name, child)
            else:
                self.core.delete(resource, name)
                self.core.create(resource, child)

    def _roll_back(self, name: str, before: Dict[str, Optional[Object]], uncertain: bool) -> None:
        """Undo in a short time what this run has made of the objects of that name: ``before``
        has what there was of each resource. If it fails, that is told where ``uncertain``.
        """
        self.cluster.retry_time = HURRIED_RETRY_TIME
        try:
            for resource, old in before.items():
                group = self.core if resource == "services" else self.group
                found = group.get(resource, name)
                if not found or get_run_id(found) != self.run:
                    continue
                if old:
                    del old["metadata"]["resourceVersion"]
                    put = group.patch if group is self.core else group.replace
                    put(resource, name, old)
                else:
                    uid = {"uid": found["metadata"]["uid"]}
                    group.delete(resource, name, {"preconditions": uid})
            if before[self.resource]:
                labels, parts = f"{LABEL_JOB}={name}", CHILD_RESOURCES.values()
                remove_parts(self.core, parts, labels, lambda run: run == self.run)
        except K8rError as error:
            if uncertain:
                remedy = f"look, and remove it: {self.hint('rm -f', name)}"
                self.console.warn(f"{name} may be left, half made: {error.message}; {remedy}")
        self.cluster.retry_time = RETRY_TIME


def note_revision(batch: ApiGroup, name: str, found: Sequence[str]) -> None:
    """Note on a Job which commit or image it ran, for its pods may vanish."""
    if found:
        with contextlib.suppress(K8rError):
            note = {"metadata": {"annotations": {ANNOTATION_REVISION: found[0]}}}
            batch.patch("jobs", name, note)


def pack_again(former: Optional[Former], path: str, own: List[str], console: Console) -> Archive:
    """The archive of a directory; of a former run its own, if it is still there."""
    if former and former.archive:
        kept: Archive = former.archive
        return kept
    archive = pack_directory(path, console.meter, own)
    for note in archive.notes:
        console.warn(escape_unprintable(note))
    if former and archive.digest() != former.digest:
        console.warn(f"{path} has changed since the run before; what it has now is run")
    return archive


def fetch_archive(core: ApiGroup, names: Sequence[str], digest: str) -> Optional[Archive]:
    """The archive in these ConfigMaps, None if one is gone. Raises K8rError if it has not that
    digest, or the disk is full.
    """
    import tarfile
    import tempfile

    with contextlib.ExitStack() as stack:
        file = tempfile.SpooledTemporaryFile(max_size=4 * MIB, prefix="k8r-")
        stack.callback(file.close)
        try:
            for name in names:
                part = core.get("configmaps", name)
                if part is None:
                    return None
                file.write(base64.b64decode(part["binaryData"]["archive"]))
            size = file.tell()
            file.seek(0)
            with tarfile.open(fileobj=file) as listed:
                paths = [item.name for item in listed if not item.isdir()]
            archive = Archive(file, size, Listing(paths, [], {}))
            if archive.digest() != digest:
                raise ValueError
        except (OSError, EOFError, LookupError, TypeError, ValueError, tarfile.TarError) as error:
            text = getattr(error, "strerror", "") or "it is damaged"
            hint = "free some space, or set TMPDIR; else run the directory anew"
            raise K8rError(f"the archive of the run before cannot be had: {text}", hint) from error
        stack.pop_all()
        return archive


class Retrial(NamedTuple):
    """Makes of a run's Job and pods the options of another one."""

    core: ApiGroup
    console: Console
    job: Object
    pods: Sequence[Object]
    hint: Callable[[str, str], str]

    def prepare(self, wanted: Sequence[int]) -> RunOptions:
        """Options for the indexes wanted, or those that failed. Raises K8rError."""
        name, (options, digest) = self.job["metadata"]["name"], read_options(self.job)
        indexes = choose_indexes(self.job, self.pods, wanted, self.hint)
        if options.nodes:
            indexes = list_job_indexes(self.job)
            self.console.say(f"all {len(indexes)} nodes run again, since they are one program")
        kind = get_labels(self.job).get(LABEL_SOURCE_TYPE, "")
        image = build_container_row(self.job)["image"]
        base, login = get_base_name(self.job), ("", "")
        source, archive = Source(kind, options.source, base), None
        if kind == DIRECTORY:
            archive = self._fetch_archive(source.path, digest)
        elif kind == GITHUB:
            login = self._fetch_login()
            commit = self._find_revision(options.git.ref or "HEAD")
            options = options._replace(git=options.git._replace(ref=commit))
        else:
            source = Source(CONTAINER, self._find_revision(image), base)
        limit = get_name_limit(len(indexes)) - len(RETRY_SUFFIX)
        again = re.sub(rf"{RETRY_SUFFIX}(-\d+)?\Z", "", name)[:limit].rstrip("-") + RETRY_SUFFIX
        options = options._replace(former=Former(again, source, archive, digest, login))
        if kind in (DIRECTORY, GITHUB):
            options = options._replace(base_image=image)
        return self._add_rows(options, indexes)

    def _add_rows(self, options: RunOptions, indexes: Sequence[int]) -> RunOptions:
        """With their lines, and the former number of pods."""
        tables = list_projected(self.job, EACH)
        lines = read_rows_of(self.core.get("configmaps", name) or {} for name in tables)
        if tables and not lines.keys() >= set(indexes):
            raise K8rError(f"the lines of {self.job['metadata']['name']} are gone", "run it anew")
        count = int(get_annotations(self.job).get(ANNOTATION_COUNT) or get_completions(self.job))
        rows = tuple(lines.get(index, Row(index)) for index in indexes)
        if not lines and list(indexes) == list(range(count)):
            return options._replace(num=count)
        kind = get_labels(self.job).get(LABEL_SOURCE_TYPE)
        if len(rows) > 1 and not options.command and kind not in (DIRECTORY, GITHUB):
            raise UsageError("the image's own command cannot be told its index", "add --index I")
        return options._replace(num=len(rows), rows=rows, total=count)

    def _fetch_archive(self, path: str, digest: str) -> Optional[Archive]:
        archive = fetch_archive(self.core, list_projected(self.job, "source"), digest)
        if archive is None and not os.path.isdir(path):
            what = f"the archive of {self.job['metadata']['name']} is gone"
            raise UsageError(f"{what}, and here is no directory {path}", "run it anew")
        return archive

    def _fetch_login(self) -> Tuple[str, str]:
        """What the URL had in it, which is in a Secret of the run's own."""
        run = f"{self.job['metadata']['name']}-{get_run_id(self.job)}-git"
        data = (self.core.get("secrets", run) or {}).get("data") or {}
        user, password = (base64.b64decode(data.get(key, "")) for key in ("username", "password"))
        return user.decode(), password.decode()

    def _find_revision(self, otherwise: str) -> str:
        """The commit, or the image by its digest, that ran."""
        noted = [get_annotations(self.job).get(ANNOTATION_REVISION), *map(get_revision, self.pods)]
        known = next(filter(None, noted), "")
        if not known and "@" not in otherwise:
            name = self.job["metadata"]["name"]
            self.console.warn(
                f"which {otherwise} {name} has run is not known; it is looked up anew"
            )
        return known or otherwise


RETRY_SUFFIX = "-retry"


def name_taken_error(kind: str, name: str) -> K8rError:
    """The error for a name that somebody else's object has."""
    return K8rError(f"there is a {kind} {name} that k8r has not made", "choose a --job-name")


def remove_parts(
    core: ApiGroup, resources: Iterable[str], labels: str, is_stale: Callable[[str], bool]
) -> None:
    """Remove parts with these labels that are of runs whose ids say so."""
    for resource in resources:
        for item in core.metadata(resource, {"labelSelector": f"{SELECTOR},{labels}"}):
            if is_stale(get_run_id(item)):
                core.delete(resource, item["metadata"]["name"])


def list_stuck_pods(core: ApiGroup, name: str, get_time: Callable[[], float]) -> List[str]:
    """A run's pods that were to end long ago, and wait for their node."""
    query = {"labelSelector": f"{SELECTOR},{LABEL_JOB}={name}"}
    pods, _ = core.list("pods", query, lambda pod: pod["metadata"])
    ends = [(pod["name"], parse_timestamp(pod.get("deletionTimestamp") or "")) for pod in pods]
    return [name for name, end in ends if 0 < end < get_time()]


CHILD_RESOURCES = {"ConfigMap": "configmaps", "Secret": "secrets", "Service": "services"}


# ==============================================================================
# K8sRun
# ==============================================================================

SMALL_ARCHIVE = 8
STORAGE_LIMIT = 512 * MIB
"""Bytes of archives in a namespace above which k8r warns, before it sends more than
SMALL_ARCHIVE parts: etcd, where they are kept, holds 2 to 8 GiB."""
DEADLINE_SLACK = 30.0
"""Seconds that the cluster may take to report a deadline of its own."""
STALE_AFTER = 1.0
"""Seconds after which pods that were listed before their Jobs are listed anew."""
TTL_AFTER_RM = 600
"""Seconds after which the cluster itself removes a finished `--rm` Job, should
k8r not live to do it."""

NO_CLUSTER_HINT = (
    "kind makes one on this machine, and k8r --local SOURCE -- COMMAND runs without any"
)


class K8sRun:
    """What k8r does, one method for each thing.

    From Python::

        k8s = K8sRun(namespace="default")
        job = k8s.create_job("./", ["python", "train.py"], base_image="python:3-slim")
        code = k8s.monitor_job(job["metadata"]["name"])

    Every method raises K8rError, which has a message, a hint and an exit code.
    """

    def __init__(
        self,
        namespace: Optional[str] = None,
        context: Optional[str] = None,
        kubeconfig: Optional[str] = None,
        *,
        insecure: bool = False,
        env: Optional[Environment] = None,
        console: Optional[Console] = None,
    ) -> None:
        self.env = env or Environment.of_process()
        self.console = console or Console(self.env, quiet=True, verbose=False, color="never")
        target = Target(namespace, context, kubeconfig, insecure)
        self._kubeconfig = Kubeconfig(target, self.env.environ, self.env.cwd)
        self._cluster = Cluster(self._kubeconfig, self.env, self.console)
        self.batch_v1 = ApiGroup(self._cluster, "/apis/batch/v1", "BatchV1Api")
        self.core_v1 = ApiGroup(self._cluster, "/api/v1", "CoreV1Api")
        self.apps_v1 = ApiGroup(self._cluster, "/apis/apps/v1", "AppsV1Api")

    @property
    def namespace(self) -> str:
        """The namespace that all methods work in."""
        return self._kubeconfig.namespace

    # Sources

    def detect_source_type(self, source: str) -> str:
        """ "directory", "github", "dockerfile" or "container". Raises UsageError."""
        return detect_source_type(source, get_path_type(self._path(source)))

    def generate_job_name(self, options: RunOptions) -> str:
        """The name that a run gets if nothing else has it. Raises UsageError."""
        return next(generate_names(self.find_source(options).name, options.num))

    def find_source(self, options: RunOptions) -> Source:
        """Decide what SOURCE is, where it is, and what its runs are called. Raises UsageError."""
        if options.former:
            return options.former.source
        path = os.path.realpath(self._path(options.source))
        kind = detect_source_type(options.source, get_path_type(path))
        if kind not in (DIRECTORY, DOCKERFILE):
            path = options.source
        if options.job_name:
            return Source(kind, path, parse_job_name(options.job_name, options.num))
        return Source(kind, path, make_dns_label(name_source(kind, path)))

    def create_directory_container(self, options: RunOptions, source: Source) -> Plan:
        """Pack a directory and plan its run in the base image."""
        startup = os.path.join(source.path, STARTUP_SCRIPT)
        if not (options.command or options.former or os.path.isfile(startup)):
            raise UsageError(
                "there is no command to run", f"add one: k8r {options.source} -- COMMAND"
            )
        own = [place[1] for place in list_places(options.out, self.env.cwd).values()]
        archive = pack_again(options.former, source.path, own, self.console)
        work = self._workload(options, source, self._choose_base_image(options))
        setup = build_unpack_script(archive.chunks)
        digest = archive.digest()
        return Plan(work._replace(setup=setup, chunks=archive.chunks, digest=digest), archive)

    def create_github_container(self, options: RunOptions, source: Source) -> Plan:
        """Check a repository and plan its run in the base image."""
        url, user, password = split_credentials(source.path)
        user, password = options.former.login if options.former else (user, password)
        secret = options.git.secret
        if secret and (user or password):
            hint = "leave it out of the URL; a secret of a directory may have a file `username`"
            raise UsageError(f"{url} has a login in the URL, and --git-secret is another", hint)
        if url.lower().startswith("http") and not (secret or options.offline or options.former):
            warning = look_up_repository(url, options.git.ref, user, password)
            if warning:
                self.console.warn(warning)
        if secret and not options.offline:
            secret = self._find_secret(secret, source.name)
        work = self._workload(options, source, self._choose_base_image(options))
        work = work._replace(setup=build_cloned_script(), clone=Clone(url, options.git, secret))
        return Plan(work, None, (user, password))

    def build_and_push_dockerfile(self, options: RunOptions, source: Source) -> str:
        """Build an image and bring it where the cluster finds it; its reference."""
        environ = self.env.environ
        registry = environ.get("K8R_REGISTRY") or DEFAULT_REGISTRY
        project = environ.get("K8R_PROJECT") or DEFAULT_PROJECT
        repository = f"{registry}/{project}/{source.name}"
        if not IMAGE.fullmatch(repository):
            raise UsageError(
                f"'{repository}' is not a valid name for an image",
                "check K8R_REGISTRY and K8R_PROJECT",
            )
        if options.show_yaml:
            return f"{repository}:latest"
        builder = find_builder(environ, options.local)
        if options.build.platform and not options.local:
            self._hint(explain_platform(options.build.platform, self.core_v1.nodes()))
        store, image = build_image(builder, source.path, options.build, environ, self.console)
        reference = store.tag(image, repository)
        if options.local:
            return reference
        context = self._kubeconfig.context_name
        loader = build_load_command(context, reference)
        nodes = self.core_v1.nodes() if loader else []
        if loader and any(is_local_node(context, node["metadata"]["name"]) for node in nodes):
            self.console.say(f"loading {reference} into the nodes of the local cluster")
            run_program(" ".join(loader[:3]), loader, environ)
            return reference
        self.console.say(f"pushing {reference}")
        return store.push(reference)

    def create_container_container(self, options: RunOptions, source: Source) -> Plan:
        """Plan the run of an image, one's own or one built from a Dockerfile."""
        image = source.path
        inside = [path for path, _ in options.out if not path.startswith("/")]
        if inside or ((options.out or options.setup) and not options.command):
            what = "--out and --setup need a command"
            what = f"--out {inside[0]} is of no directory" if inside else what
            raise UsageError(f"{what}, for this is an image", "--out /out -- COMMAND, say")
        if source.kind == DOCKERFILE:
            image = self.build_and_push_dockerfile(options, source)
        return Plan(self._workload(options, source, image))

    def plan(self, options: RunOptions) -> Plan:
        """Do all that comes before the first object. Raises UsageError."""
        source = self.find_source(options)
        uses, packed = ([], None) if options.offline else self._look_ahead(options, source)
        create = {
            DIRECTORY: self.create_directory_container,
            GITHUB: self.create_github_container,
        }.get(source.kind, self.create_container_container)
        plan = packed or create(options, source)
        origin = find_origin(source) if options.as_deployment else ""
        return plan._replace(work=plan.work._replace(secrets=tuple(uses), origin=origin))

    def _look_ahead(
        self, options: RunOptions, source: Source
    ) -> Tuple[List[SecretUse], Optional[Plan]]:
        """The secrets of a run, and the plan of a directory, which is packed meanwhile. All else
        comes after that, since a cluster out of reach should not cost a build.
        """
        self._cluster.open_ahead(0 if options.detach else CONNECTIONS_AHEAD)
        asked, packed = options.secret_job, None
        many = options.num > 1 and not options.as_deployment
        need = (30, "-i") if options.stdin and not options.tty else (29 * many, "several pods")
        with self._cluster.requiring(*need):
            secrets = ask_beside(lambda: self.get_job_secrets(asked or source.name, bool(asked)))
            if source.kind == DIRECTORY:
                packed = self.create_directory_container(options, source)
            uses: List[SecretUse] = secrets.get_answer()
        if source.kind != DIRECTORY and not (asked or options.job_name):
            uses = [use for use in uses if use.given]  # not a directory's of that name
        check_collisions(uses, self.command_hint("secret --delete"))
        return uses, packed

    def manifests(self, plan: Plan) -> Iterator[Object]:
        """The objects of a run, in the order in which they can be created. Values
        of secrets are hidden.
        """
        run = plan.work.digest[:8] or "0"
        work = plan.named(plan.work.name, run)
        for child in plan.children(work):
            yield mask_values(child) if child["kind"] == "Secret" else child
        yield build_root(work)

    # Jobs and Deployments

    def create_job(self, source: str, command: Sequence[str] = (), **options: Any) -> Object:
        """Create and start a Job; ``options`` are those of RunOptions.

        Returns the Job. Nothing is left behind if it fails.
        """
        return self._create_from(RunOptions(source, tuple(command), **options))

    def create_deployment(self, source: str, command: Sequence[str] = (), **options: Any) -> Object:
        """Create a Deployment, or update the one of that name, as `create_job`."""
        return self._create_from(RunOptions(source, tuple(command), as_deployment=True, **options))

    def create_directory_configmap(self, source: str, name: str) -> Object:
        """Pack a small directory into one ConfigMap of that name, to mount elsewhere."""
        with contextlib.closing(pack_directory(self._path(source))) as archive:
            if archive.chunks > 1:
                raise UsageError(f"{source} is larger than one ConfigMap", "use create_job")
            work = Workload(name, self.env.token(), DIRECTORY, "", RunOptions(source), name)
            body = build_configmap(work, 0, archive.chunk(0))
        return self.core_v1.create("configmaps", dict(body, metadata=build_metadata(work, name)))

    def run_job_with_options(self, options: RunOptions) -> int:
        """`k8r run`: returns the exit code."""
        if options.show_yaml:
            with contextlib.closing(self.plan(options)) as plan:
                for text in format_yaml(self.manifests(plan)):
                    self.console.data(text.encode())
            return ExitCode.OK
        check_places(options.out, self.env.cwd, options.num > 1 or bool(options.total))
        if options.local:
            return self.run_locally(options)
        self._has_terminal(options.tty)
        try:
            root = self._create_from(options)
        except NoKubeconfig as error:
            raise NoKubeconfig(error.message, f"{error.hint}; {NO_CLUSTER_HINT}") from error
        name = root["metadata"]["name"]
        secrets = (options.secret_job or get_base_name(root)) if options.remove_secrets else ""
        follow = FollowOptions(
            options.grace, options.limit, options.remove, secrets, True, options.out, options.hold
        )
        if not options.detach:
            self._start_forwards(name, options.port)
        if options.as_deployment:
            return self._follow_deployment(root, options.port, options.detach, follow)
        if options.detach:
            return self._leave(name, bool(options.out))
        return self._follow_run(root, follow, options)

    def _leave(self, name: str, results: bool) -> int:
        """Print the name of a run that goes on, and say how to come back to it."""
        self.console.text(name)
        self.console.say(f"follow it: {self.command_hint('logs -f', name)}")
        if results:
            self.console.say(f"its results, at its end: {self.command_hint('cp', name)}")
        return ExitCode.OK

    def _follow_run(self, root: Object, follow: FollowOptions, options: RunOptions) -> int:
        """Follow a Job that was just made, and tidy up after it."""
        found: List[str] = []

        def enter(pods: Iterable[Object]) -> None:
            few = () if found else itertools.islice(pods, 4)
            found.extend(filter(None, map(get_revision, few)))

        code = self._follow_attached(root, follow._replace(enter=enter), options)
        kind = get_labels(root).get(LABEL_SOURCE_TYPE)
        if kind == DIRECTORY and not options.remove:
            self._drop_archives(root, code)
        elif code and kind != DIRECTORY and not options.remove:
            note_revision(self.batch_v1, root["metadata"]["name"], found)
        image = build_container_row(root)["image"] if kind in (DIRECTORY, GITHUB) else ""
        self._hint(explain_exit_code(code, options, self.console.last_data, image))
        return code

    def _hint(self, text: str) -> None:
        if text:
            self.console.warn(text)

    def _follow_attached(self, root: Object, follow: FollowOptions, options: RunOptions) -> int:
        """Follow a Job whose command may have standard input or a terminal."""
        if not options.stdin and not options.tty:
            labels = label_rows(options.rows) if options.prefix else {}
            code = self._follow_job(root, follow, LogQuery(labels=labels))
            if has_input(self.env.stdin):
                self.console.say("nothing of standard input was sent; k8r -i does that")
            return code
        source = self.env.stdin.fileno()
        door = Attachment(self.core_v1, self.console, source, options.tty)
        follow = follow._replace(enter=door.enter)
        code = self._follow_job(root, follow, LogQuery(quiet=options.tty))
        unread = door.conclude(code)
        if not options.tty:
            self._warn_of_unread_input(unread)
        return code

    def _warn_of_unread_input(self, sent: bool) -> None:
        """Where input was ``sent`` that the command did not read, or is here still."""
        if sent or has_input(self.env.stdin):
            self.console.warn("the command has ended without reading all of its input")

    def retry_job(
        self, name: str, indexes: Sequence[int], change: Callable[[RunOptions], RunOptions]
    ) -> int:
        """`k8r retry`: run indexes of a Job again, those that failed if none is given."""
        subject = self._find(name, False)
        if subject is None:
            raise self.no_such_job_error(name)
        (pods,) = list_pods_of(self.core_v1, [subject.root]).values()
        retrial = Retrial(self.core_v1, self.console, subject.root, pods, self.command_hint)
        return self.run_job_with_options(change(retrial.prepare(indexes)))

    def run_locally(self, options: RunOptions) -> int:
        """`k8r run --local`: on this machine, without a cluster; returns the exit code."""
        with contextlib.closing(self.plan(options)) as plan:
            work, docker, started = plan.work, None, self.env.clock()
            if not work.setup:
                docker = Docker(self.env.environ, self.console.plain, self.console.progress)
            run = LocalRun(work, plan.archive, plan.credentials, docker, self.env, self.console)
            try:
                ended = run.follow()
            except (KeyboardInterrupt, Interrupted, BrokenPipeError):
                self.console.warn(f"{work.name} was stopped, and nothing of it goes on")
                raise
        if run.failure:
            error = UnreadLog(f"{ended.text}, but the results are not here: {run.failure}")
            error.exit_code = ended.code or ExitCode.FAILED
            raise error
        self._tell_end(ended, started)
        self._hint(explain_exit_code(ended.code, options, self.console.last_data))
        return ended.code

    def monitor_job(self, name: str, logs: LogQuery = LogQuery()) -> int:
        """Follow a Job or Deployment, print its logs, return its exit code."""
        self._cluster.open_ahead(CONNECTIONS_AHEAD)
        subject = self._subject(name)
        if subject.resource == "jobs":
            return self._follow_job(subject.root, FollowOptions(), logs)
        return self._follow(subject, FollowOptions(), logs).code

    def job_exists(self, name: str) -> bool:
        """Whether k8r has made a Job or Deployment of that name."""
        return self._find(name) is not None

    def list_jobs(self) -> List[Object]:
        """What `k8r ls` shows, as plain data, oldest first."""
        self._cluster.connect()  # lest several threads run a credential plugin that fails
        query, started = {"labelSelector": SELECTOR}, self.env.clock()
        services = ask_beside(
            lambda: self.apps_v1.list("deployments", query, build_deployment_row)[0]
        )
        pods = ask_beside(lambda: self.core_v1.list_few("pods", {"labelSelector": UID_LABEL}))
        found, _ = self.batch_v1.list("jobs", query, build_row_and_job)
        rows = [*(row for row, _ in found), *services.get_answer()]
        if not rows:
            self._check_namespace()
        late = self.env.clock() - started > STALE_AFTER
        self._correct([(row, job) for row, job in found if job], None if late else pods)
        self._explain_pending(rows)
        return sorted(rows, key=lambda row: (row["created"], row["name"]))

    def list_pods(self, name: str, failed: bool = False) -> List[Object]:
        """What `k8r ls NAME` shows, as plain data, by index and attempt; of those that failed."""
        subject = self._subject(name)
        pods, _ = self.core_v1.list(
            "pods", subject.pods_query, lambda pod: subject.owns(pod) and build_pod_row(pod)
        )
        rows = number_attempts(filter(None, pods))
        lines = self._read_rows(subject.root)
        for row in filter(lambda row: row["index"] in lines, rows):
            row["line"] = dict(lines[row["index"]].variables)["K8R_LINE"]
        return list_failed(rows) if failed else rows

    def read_rows(self, name: str) -> Dict[int, Row]:
        """What --each gave the pods of a Job, by their index."""
        return self._read_rows(self._subject(name).root)

    def _read_rows(self, root: Object) -> Dict[int, Row]:
        tables = (self.core_v1.get("configmaps", name) for name in list_projected(root, EACH))
        return read_rows_of(filter(None, tables))

    def names(self) -> List[str]:
        """The names of all Jobs and Deployments that k8r has made."""
        query = {"labelSelector": SELECTOR}
        items = self.batch_v1.metadata("jobs", query) + self.apps_v1.metadata("deployments", query)
        return [item["metadata"]["name"] for item in items]

    def contexts(self) -> List[str]:
        """The names of the kubeconfig's contexts."""
        return self._kubeconfig.list_contexts()

    def namespaces(self) -> List[str]:
        """The names of the cluster's namespaces."""
        answer = self._cluster.request("GET", "/api/v1/namespaces")
        return [item["metadata"]["name"] for item in answer.get("items") or []]

    def list_files(self, name: str, folder: str) -> List[str]:
        """What is in a directory of a run that goes on; a directory's name ends with a slash."""
        words = ("sh", "-c", 'cd "$1" && ls -Ap', "k8r", folder)
        pod = self._find_running_pod(name, None, held=True)
        text = b"".join(read_output(self._open_copy(pod, folder, *words), lambda _: None))
        return text.decode("utf-8", "replace").splitlines()

    def watch_jobs(self, known: Iterable[Object] = ()) -> Iterator[Object]:
        """Rows as in `list_jobs`, each when it is new or has changed since ``known``;
        without end.
        """
        self._cluster.followed = True
        groups = (self.batch_v1, "jobs"), (self.apps_v1, "deployments"), (self.core_v1, "pods")
        return watch_rows(groups, known)

    def get_job_logs(self, name: str, logs: LogQuery = LogQuery(follow=False)) -> int:
        """`k8r logs`: print what the pods wrote; the exit code."""
        if logs.follow:
            return self.monitor_job(name, logs)
        ended = print_logs(self.core_v1, self.console, self._subject(name), logs)
        if ended:
            self._tell_end(ended, self.env.clock())
        return ExitCode.OK

    def read_job_logs(self, name: str, logs: LogQuery = LogQuery(follow=False)) -> bytes:
        """What the pods have written so far, as `k8r logs` prints it."""
        written = io.BytesIO()
        console = Console(self.env._replace(stdout=written), True, False, "never")
        print_logs(self.core_v1, console, self._subject(name), logs)
        return written.getvalue()

    def exec_in_job(
        self,
        name: str,
        command: Sequence[str] = (),
        index: Optional[int] = None,
        stdin: bool = False,
        tty: bool = False,
    ) -> int:
        """`k8r exec`: run a command, or a shell, where a Job's own runs; its exit code."""
        tty = self._has_terminal(tty) and (tty or not stdin)
        source = self.env.stdin.fileno() if stdin or tty else None
        with self._cluster.requiring(30 * (stdin and not tty), "-i"):
            pod = self._find_running_pod(name, index, held=True)
        part: Object = {"tty": tty, "command": list(command or SHELL)}
        if "running" not in get_main_state(pod):
            self.console.say("the command has ended; this is where its results are kept")
            part["container"] = RESULTS_NAME
        channel = open_channel(self.core_v1, pod["metadata"]["name"], "exec", source, **part)
        channel.first_pause = 0 if tty else FIRST_PAUSE
        code = converse(channel, self.console, source if tty else None)
        if stdin and not tty:
            self._warn_of_unread_input(False)
        return code

    def forward_ports(self, name: str, ports: Forwards) -> int:
        """`k8r forward`: until the Job has ended; its exit code."""
        self._subject(name)
        self._start_forwards(name, ports)
        return self.monitor_job(name, LogQuery(quiet=True))

    def copy_results(self, name: str, folder: str = "") -> int:
        """`k8r cp NAME`: bring what --out named into a directory, when the pods have ended."""
        subject, cwd = self._subject(name), os.path.join(self.env.cwd, folder)
        paths = json.loads(get_annotations(subject.root).get(ANNOTATION_OUT) or "[]")
        outs, many = [(path, "") for path in paths], is_numbered(subject.root)
        if not outs:
            raise K8rError(f"{name} was run without --out", "k8r cp NAME:PATH copies while it runs")
        check_places(outs, cwd, many)
        results = Results(self.core_v1, self.console, outs, cwd, many)
        pods, _ = self.core_v1.list("pods", subject.pods_query, lambda pod: pod)
        for pod in filter(subject.owns, pods):
            if "terminated" in get_main_state(pod):
                for data in read_log(self.core_v1, pod, RESULTS_NAME, LogQuery(follow=False)):
                    results.feed(pod, data)
        if not results.spools:
            hint = f"follow it: {self.command_hint('logs -f', name)}"
            raise K8rError(f"{name} has no results yet, or its pods are gone", hint)
        results.take(sorted(results.spools), hold=True)
        return ExitCode.OK

    def copy_from_job(self, name: str, path: str, local: str, index: Optional[int] = None) -> int:
        """`k8r cp NAME:PATH LOCAL`: copy from a run, into LOCAL if that is a directory."""
        top, base = posixpath.split(posixpath.normpath(path))
        target = os.path.normpath(os.path.join(self.env.cwd, local))
        target = os.path.join(target, base) if os.path.isdir(target) else target
        pod = self._find_running_pod(name, index, held=True)
        if local == "-":
            size = f'printf %{SIZE_WIDTH}s "$([ ! -f "$1" ] || wc -c < "$1")"'
            script = f'cat "$1" && {size}'
            channel = self._open_copy(pod, path, "sh", "-c", script, "k8r", path)
            copy_out(channel, self.console)
            return ExitCode.OK
        words = ("tar", "-cf", "-", "-C", top or ".", f"./{base}")
        packed = self._open_copy(pod, path, *words)
        copy_here(packed, locate(posixpath.normpath(path))[1:], target, self.console)
        return ExitCode.OK

    def copy_to_job(self, local: str, name: str, path: str, index: Optional[int] = None) -> int:
        """`k8r cp LOCAL NAME:PATH`: copy into a run, below PATH if that ends with a slash."""
        import tempfile

        here = os.path.join(self.env.cwd, local)
        if local != "-" and not os.path.lexists(here):
            raise UsageError(f"there is no {local}", "check the path")
        if path.endswith("/"):
            path += os.path.basename(os.path.realpath(here))
        # The connection that this opens is for the command that names what was written.
        with self._cluster.requiring(30, "cp into a run"):
            pod = self._find_running_pod(name, index, held=True)
        open_command = functools.partial(self._open_copy, pod, path)
        if local == "-":
            send_file(open_command, self.env.stdin.fileno(), path, "u+r")
        elif os.path.isfile(here):
            with open(here, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                send_file(open_command, file.fileno(), path, f"{mode:o}")
        else:
            with tempfile.TemporaryFile() as file:
                pack_files(file, {posixpath.basename(path): here})
                file.seek(0)
                words = ("sh", "-c", f'tar -xof - -C "$1" {DRAIN}', "k8r")
                channel = open_command(*words, posixpath.dirname(path) or ".", source=file.fileno())
                code = converse(channel, self.console)
            if code:
                raise K8rError(f"not all of {local} could be written", "see above")
        return ExitCode.OK

    def _open_copy(
        self, pod: Object, path: str, *words: str, source: Optional[int] = None
    ) -> Channel:
        """A channel to a command where a path is: to the results container, if that has it."""
        mounts = find_container(pod, RESULTS_NAME).get("volumeMounts") or []
        tops = [item["mountPath"] for item in mounts]
        container = RESULTS_NAME if is_below(locate(path), tops) else CONTAINER_NAME
        part = {"container": container, "command": list(words)}
        channel = open_channel(self.core_v1, pod["metadata"]["name"], "exec", source, **part)
        if source is not None:
            channel.advance = self.console.meter("sending", os.fstat(source).st_size, sized=True)
        return channel

    def stop_job(self, name: str) -> Iterator[None]:
        """`k8r stop`, in two steps: have a Job's command end, whose log is kept, and wait for
        that. Raises K8rError for what cannot be stopped.
        """
        subject = self._subject(name)
        if self._ended_jobs([subject.root]):
            self.console.say(f"{name} has ended already")
            return
        door = Stopper(subject, self.core_v1)
        [pods] = list_pods_of(self.core_v1, [subject.root]).values()
        door.enter(pods)
        options = FollowOptions(enter=door.enter)
        yield
        marked = self._find(name)
        if marked:  # who follows it with --rm may be sooner
            self._follow(marked, options, LogQuery(quiet=True))

    def delete_job(
        self, name: str, force: bool = True, secrets: bool = False, wait: bool = False
    ) -> bool:
        """Delete a Job or Deployment with all that it owns; False if there is none.

        ``secrets`` deletes the user's secrets for it, too; with ``wait`` it goes after its pods,
        see `wait_for_removal`. Raises K8rError if it has not finished, unless ``force``; that
        also removes pods which a lost node keeps from ending.
        """
        self._cluster.open_ahead(int(force))  # what is deleted has pods that are looked at beside
        subject = self._find(name)
        if subject is None:
            return False
        root = subject.root
        going = not self._ended_jobs([root])
        if going and not force:
            raise K8rError(
                f"{name} has not finished",
                f"to stop and remove it: {self.command_hint('rm -f', name)}",
            )
        self._delete(subject, force, "Foreground" if wait else "Background")
        if going and not wait and not is_held(root):
            grace = root["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
            self.console.say(f"the pods of {name} have {grace} s to end; --wait waits for that")
        if secrets:
            among = (
                None if get_labels(root).get(LABEL_SOURCE_TYPE) == DIRECTORY else get_secrets(root)
            )
            self.delete_job_secrets(get_base_name(root), among)
        return True

    def wait_for_removal(self, name: str, timeout: Optional[float] = None) -> None:
        """Wait until a run that goes after its pods is gone. Raises TimedOut."""
        subject = self._find(name)
        if subject:
            follow_removal(subject, self.core_v1, self.console, self.env.clock, timeout)

    def sort_jobs(self) -> Tuple[List[str], List[str]]:
        """The names of all Jobs of k8r that have ended, and of those that go on."""
        roots, _ = self.batch_v1.list("jobs", {"labelSelector": SELECTOR}, lambda item: item)
        ended, names = self._ended_jobs(roots), [root["metadata"]["name"] for root in roots]
        return ended, [name for name in names if name not in ended]

    # Secrets

    def create_secret(self, name: str, data: Mapping[str, bytes], job_name: str) -> Object:
        """Create a secret for the runs of that name, images included, or replace it."""
        return self._keep_secret(build_secret(name, job_name, data, True))

    def _keep_secret(self, body: Object) -> Object:
        full_name = body["metadata"]["name"]
        try:
            return self.core_v1.create("secrets", body)
        except Conflict:
            found = self.core_v1.get("secrets", full_name)
            if (
                not is_ours(found)
                or get_labels(found).get(LABEL_JOB) != get_labels(body)[LABEL_JOB]
            ):
                raise K8rError(
                    f"there is a Secret {full_name} already, and it is not this one",
                    "choose another name",
                ) from None
            return self.core_v1.replace("secrets", full_name, body)

    def create_secret_with_options(
        self, name: str, value: Union[str, bytes], job_name: str = "", show_yaml: bool = False
    ) -> Object:
        """`k8r secret NAME VALUE`: VALUE is a file, a directory or the value; bytes are that."""
        data = (
            read_secret(name, value, self._path(value)) if isinstance(value, str) else {name: value}
        )
        body = build_secret(name, job_name or self.get_directory_name(), data, bool(job_name))
        return mask_values(body) if show_yaml else self._keep_secret(body)

    def get_job_secrets(self, job_name: str, asked: bool = True) -> List[SecretUse]:
        """The secrets for runs of that name, unread. If ``asked``, a lack of rights is said."""
        query = {"labelSelector": f"{SELECTOR},{LABEL_SECRET},{LABEL_JOB}={job_name}"}
        try:
            found = self.core_v1.metadata("secrets", query)
        except ApiError as error:
            if error.status != 403:
                raise
            # Whoever may not list secrets has not made any with k8r.
            tell = self.console.warn if asked else self.console.debug
            tell(f"no secrets are used: {error.message}")
            return []
        return sorted((read_secret_use(item) for item in found), key=lambda use: use.name)

    def list_secrets(self) -> List[Object]:
        """What `k8r secret --list` shows."""
        found = self.core_v1.metadata("secrets", {"labelSelector": f"{SELECTOR},{LABEL_SECRET}"})
        return sorted((build_secret_row(item) for item in found), key=lambda row: row["object"])

    def delete_secret(self, name: str, job_name: str) -> bool:
        """Delete one secret; False if there is none."""
        uses = [use for use in self.get_job_secrets(job_name) if use.name == name]
        return any([self.core_v1.delete("secrets", use.object_name) for use in uses])

    def delete_job_secrets(self, job_name: str, among: Optional[Set[str]] = None) -> None:
        """Delete the secrets for the runs of that name, all or those ``among`` some objects."""
        for use in self.get_job_secrets(job_name):
            if among is None or use.object_name in among:
                self.core_v1.delete("secrets", use.object_name)

    def get_directory_name(self) -> str:
        """The name that runs of the working directory get."""
        return make_dns_label(os.path.basename(os.path.realpath(self.env.cwd)))

    def command_hint(self, command: str, name: str = "") -> str:
        """A command line for the same cluster and namespace, to paste into a shell."""
        namespace, context, kubeconfig, insecure = self._kubeconfig.target
        if os.path.lexists(os.path.join(self.env.cwd, DIRECTORY_CONFIG)):
            namespace = self.namespace  # that file may name another one
        words = ["k8r", *command.split(), *filter(None, [name])]
        options = {"-n": namespace, "--context": context, "--kubeconfig": kubeconfig}
        for option, value in options.items():
            words += [option, value] if value else []
        return " ".join(map(shlex.quote, words + ["--insecure"] * insecure))

    def no_such_job_error(self, name: str) -> K8rError:
        """The error for a name that is none of k8r's."""
        names = [row["name"] for row in self.list_jobs()]
        hint = did_you_mean(name, names, f"see: {self.command_hint('ls')}")
        return K8rError(f"k8r has no job '{name}' in namespace {self.namespace}", hint)

    # Details: before

    def _path(self, source: str) -> str:
        return os.path.join(self.env.cwd, os.path.expanduser(source))

    def _workload(self, options: RunOptions, source: Source, image: str) -> Workload:
        """What the options say, for any source."""
        return Workload(
            name=next(generate_names((options.former or source).name, options.num)),
            base=source.name,  # uncut, since secrets are found by it
            run_id="",
            source_type=source.kind,
            image=image,
            options=options._replace(source=source.path),
            tables=build_tables(options),
            timeout=options.limit,
            ttl=TTL_AFTER_RM if options.remove else options.keep or None,
            lasting=bool(options.timeout),
            ports=tuple(dict.fromkeys(port for _, port in options.port if options.as_deployment)),
            hold=(0 if options.detach else DEFAULT_HOLD) if options.hold is None else options.hold,
        )

    def _choose_base_image(self, options: RunOptions) -> str:
        """The image for a directory or repository, by what runs in it if none is set."""
        word = find_runtime(options)
        image = options.base_image or RUNTIME_IMAGES.get(word, DEFAULT_IMAGE)
        if not options.base_image and not options.local and image != DEFAULT_IMAGE:
            self.console.say(f"{word} runs in {image}; --base-image NAME for another")
        return image

    def _find_secret(self, name: str, job_name: str) -> str:
        """The object behind --git-secret: of that very name, or k8r's own."""
        for candidate in (name, f"{job_name}-{name}", f"{self.get_directory_name()}-{name}"):
            query = {"fieldSelector": f"metadata.name={candidate}"}
            if self.core_v1.metadata("secrets", query):
                return candidate
        raise UsageError(
            f"there is no secret '{name}' in namespace {self.namespace}",
            f"make one: {self.command_hint('secret', name)} FILE --job-name {job_name}",
        )

    # Details: creating

    def _create_from(self, options: RunOptions) -> Object:
        with contextlib.closing(self.plan(options)) as plan:
            name = plan.work.name
            if options.replace and not options.as_deployment:
                self._remove_old(name)
            if options.as_deployment and self.batch_v1.get("jobs", name):
                remedy = f"{self.command_hint('rm', name)}, or choose a --job-name"
                raise K8rError(f"there is a Job {name} already", remedy)
            if plan.work.chunks > SMALL_ARCHIVE:
                self._check_storage()
            made = self._make_launcher(plan.work).launch(plan, options.replace)
        name, names = made["metadata"]["name"], ", ".join(use.name for use in plan.work.secrets)
        sent = f" ({plan.archive})" if plan.archive else ""
        given = f", with the secret{'s' * (', ' in names)} {names}" if names else ""
        where = f"{self.namespace} of {self._kubeconfig.context_name}"
        verb = "waits" if is_held(made) else "runs"
        self.console.say(f"{name} {verb} in namespace {where}{sent}{given}")
        return made

    def _check_storage(self) -> None:
        """Warn if the archives of earlier runs fill the cluster's database, etcd."""
        with contextlib.suppress(ApiError):  # whoever may not list them is not warned
            parts = self.core_v1.metadata("configmaps", {"labelSelector": SELECTOR})
            used = sum(int(get_annotations(part).get(ANNOTATION_SIZE, 0)) for part in parts)
            if used > STORAGE_LIMIT:
                what = (
                    f"earlier runs hold {format_size(used)} of archives in the cluster's database"
                )
                remedy = self.command_hint("rm --done")
                self.console.warn(f"{what}; remove what has ended: {remedy}")

    def _drop_archives(self, root: Object, code: int) -> None:
        """After a success its archive is of no use; after a failure, for a new try, only that
        of the latest run of a name. What cannot be removed goes with its Job.
        """
        base, stale = get_base_name(root), [get_run_id(root)]
        with contextlib.suppress(K8rError):
            if code:
                jobs, _ = self.batch_v1.list("jobs", {"labelSelector": SELECTOR}, lambda job: job)
                others = [job for job in jobs if get_run_id(job) not in stale]
                ended = self._ended_jobs([job for job in others if get_base_name(job) == base])
                stale = [get_run_id(job) for job in others if job["metadata"]["name"] in ended]
            labels = f"{LABEL_SOURCE_TYPE}={DIRECTORY},!{LABEL_TYPE}"
            remove_parts(self.core_v1, ["configmaps"], labels, lambda run: run in stale)

    def _make_launcher(self, work: Workload) -> Launcher:
        group, resource = self.batch_v1, "jobs"
        if work.options.as_deployment:
            group, resource = self.apps_v1, "deployments"
        token = self.env.token()
        return Launcher(
            self._cluster, group, resource, self.core_v1, token, self.console, self.command_hint
        )

    def _remove_old(self, name: str) -> None:
        """For --replace: remove a Job, and wait for the end of its pods and of its name."""
        subject = self._find(name, False)  # a Deployment of that name does not stand in the way
        if subject is None:
            return
        self._delete(subject, True, "Foreground")
        try:
            self.wait_for_removal(name, RETRY_TIME)
        except TimedOut:
            text = f"{name} is still being deleted"
            raise K8rError(text, "choose a --job-name") from None

    # Details: following

    def _follow(self, subject: Subject, options: FollowOptions, logs: LogQuery) -> Verdict:
        """Follow to the end, and say how to come back if that is cut short."""
        name, started = subject.name, self.env.clock()
        self._cluster.followed = True
        timeout = options.timeout + DEADLINE_SLACK if options.timeout else None
        results = None
        if options.out:
            many = is_numbered(subject.root)
            results = Results(self.core_v1, self.console, options.out, self.env.cwd, many)
        run = Run(subject, self.core_v1, self.console, self.env.clock, logs, results)
        try:
            ended = run.follow(options, timeout)
        except (CannotStart, TimedOut, UnreadLog):
            raise
        except (KeyboardInterrupt, Interrupted, BrokenPipeError, K8rError) as error:
            if options.remove and not isinstance(error, K8rError):
                self._cluster.retry_time = HURRIED_RETRY_TIME
                if self._clean_up(subject, options):
                    self.console.say(f"removed {name}")
                raise
            self.console.warn(
                f"{name} goes on in the cluster; follow it: {self.command_hint('logs -f', name)}; "
                f"remove it: {self.command_hint('rm -f', name)}"
            )
            raise
        self._tell_end(ended, started)
        if not options.remove:
            self._hint(propose_retry(subject.root, ended, self.command_hint))
        if results:
            self._take_results(subject, results, ended, options.hold)
        return ended

    def _take_results(
        self, subject: Subject, results: Results, ended: Verdict, hold: Optional[int]
    ) -> None:
        """Bring results here. Raises UnreadLog, with the command's own code if it failed."""
        if any(spool.size > LOG_LIMIT for spool in results.spools.values()):
            with contextlib.suppress(K8rError):  # it has ended in time
                lifted = {"spec": {"activeDeadlineSeconds": None}}
                subject.group.patch(subject.resource, subject.name, lifted)
        hint = f"what is kept there, for a while: {self.command_hint('cp', subject.name)}"
        try:
            results.take(list_job_indexes(subject.root), hold is not None)
        except (KeyboardInterrupt, Interrupted):
            self.console.warn(f"the results are not here; {hint}")
            raise
        except K8rError as error:
            unread = UnreadLog(error.message, "; ".join(filter(None, [error.hint, hint])))
            unread.exit_code = ended.code or ExitCode.FAILED
            raise unread from error

    def _tell_end(self, ended: Verdict, started: float) -> None:
        tell = self.console.warn if ended.code else self.console.say
        seconds = self.env.clock() - started if ended.seconds is None else ended.seconds
        tell(f"{ended.text} after {format_age(seconds)}")

    def _follow_job(self, root: Object, options: FollowOptions, logs: LogQuery) -> int:
        """Follow a Job, and clean up after it as the options say."""
        subject = make_job_subject(self.batch_v1, root, self.command_hint)
        try:
            code = self._follow(subject, options, logs).code
        except CannotStart:
            self._clean_up(subject, FollowOptions(remove=True))
            raise
        except TimedOut as error:
            if options.remove and self._clean_up(subject, options):
                error.hint = ""
            raise
        self._clean_up(subject, options)
        return code

    def _clean_up(self, subject: Subject, options: FollowOptions) -> bool:
        """Remove what the options say. A failure is told, and changes no exit code."""
        name = subject.name
        try:
            if options.remove:
                self._delete(subject, True)
            if options.secrets and get_secrets(subject.root):
                self.delete_job_secrets(options.secrets, get_secrets(subject.root))
        except K8rError as error:
            option = "rm -f --secrets" if options.secrets else "rm -f"
            remedy = f"remove it: {self.command_hint(option, name)}"
            self.console.warn(f"{name} is not removed wholly: {error.message}; {remedy}")
            return False
        return True

    def _follow_deployment(
        self, root: Object, ports: Forwards, detach: bool, options: FollowOptions
    ) -> int:
        """Wait for a rollout, tidy up after the one before, then follow the logs."""
        name = root["metadata"]["name"]
        rollout = make_deployment_subject(self.apps_v1, root, self.command_hint, True)
        try:
            self._follow(rollout, options, LogQuery(quiet=True))
        except CannotStart:
            if not detach:
                print_logs(self.core_v1, self.console, rollout, LogQuery(follow=False))
            raise
        labels = f"{LABEL_JOB}={name},{LABEL_TYPE}={DEPLOYMENT}"
        parts = CHILD_RESOURCES.values()
        remove_parts(self.core_v1, parts, labels, lambda run: run != get_run_id(root))
        if detach:
            if ports:
                words = " ".join(f"{local}:{port}" for local, port in ports)
                self.console.say(f"reach it: {self.command_hint('forward', name)} {words}")
            self.console.text(name)
            return ExitCode.OK
        return self._follow(
            make_deployment_subject(self.apps_v1, root, self.command_hint), options, LogQuery()
        ).code

    def _find(self, name: str, deployments: bool = True) -> Optional[Subject]:
        """A Job that k8r has made, or such a Deployment."""
        root = self.batch_v1.get("jobs", name)
        if root and is_ours(root):
            return make_job_subject(self.batch_v1, root, self.command_hint)
        root = self.apps_v1.get("deployments", name) if deployments else None
        if root and is_ours(root):
            return make_deployment_subject(self.apps_v1, root, self.command_hint)
        return None

    def _subject(self, name: str) -> Subject:
        subject = self._find(name)
        if subject is None:
            raise self.no_such_job_error(name)
        return subject

    def _has_terminal(self, wanted: bool) -> bool:
        found = self.env.stdin.isatty() and self.console.shared
        if wanted and not found:
            raise UsageError("-t needs a terminal for its input and output", "leave it out")
        return found

    def _start_forwards(self, name: str, ports: Forwards) -> None:
        """Forward ports of this machine to one pod of a run, as long as k8r goes on."""

        def find_pod() -> Object:
            return self._find_running_pods(self._subject(name))[0]

        for local, port in ports:
            Forward(self.core_v1, self.console, find_pod, local, port).start()

    def _find_running_pod(self, name: str, index: Optional[int], held: bool = False) -> Object:
        """The first of the run's pods; where there are others, it is said which."""
        subject = self._subject(name)
        pod, *others = self._find_running_pods(subject, index, held)
        if others:
            self.console.say(f"{len(others) + 1} pods run; this is {subject.label(pod)}")
        return pod

    def _find_running_pods(
        self, subject: Subject, index: Optional[int] = None, held: bool = False
    ) -> List[Object]:
        """Pods of a run that go on, or are ``held``, or the one with an index. Raises NotFound
        where there is none.
        """
        pods, _ = self.core_v1.list("pods", subject.pods_query, lambda pod: pod)
        running = [
            pod
            for pod in filter(subject.owns, pods)
            if "running" in get_main_state(pod) or (held and holds_results(pod))
        ]
        if index is not None:
            running = [pod for pod in running if get_pod_index(pod) == index]
        if not running:
            where = "" if index is None else f" with index {index}"
            hint = f"what it has printed: {self.command_hint('logs', subject.name)}"
            raise NotFound(f"{subject.name} has no pod{where} that runs", hint)
        ending = "deletionTimestamp"
        return sorted(running, key=lambda pod: (ending in pod["metadata"], get_pod_index(pod)))

    def _ended_jobs(self, roots: List[Object]) -> List[str]:
        """The names of those that have ended, by their pods where the Job's own
        status has yet to say so: a run's end is known two seconds earlier.
        """
        jobs = [root for root in roots if not is_deployment(root)]
        pods = list_pods_of(self.core_v1, [job for job in jobs if not judge_job(job, [])])
        ended = [job for job in jobs if judge_job(job, pods.get(job["metadata"]["uid"], []))]
        return [job["metadata"]["name"] for job in ended]

    def _correct(self, found: Sequence[Tuple[Object, Object]], few: Optional[Question]) -> None:
        """Put into rows what the pods of some Jobs say: of those that go on, then of the latest
        that have failed, as far as they are not too many.
        """
        going = [job for _, job in found if not find_end(job)]
        going = going if len(going) <= JOBS_LOOKED_INTO else []
        ended = [job for _, job in found if find_end(job)]
        ended.sort(key=get_creation, reverse=True)
        pods = list_pods_of(self.core_v1, going + ended[: JOBS_LOOKED_INTO - len(going)], few)
        for row, job in found:
            if job["metadata"]["uid"] in pods:
                row.update(correct_by_pods(row, job, pods[job["metadata"]["uid"]]))

    def _explain_pending(self, rows: Sequence[Object]) -> None:
        """Put the reason for which pods wait into the rows that have none running."""
        idle = [row for row in rows if row["status"] == "Running" and not row["running"]]
        if idle:
            query = {"labelSelector": SELECTOR, "fieldSelector": "status.phase=Pending"}
            reasons = dict(self.core_v1.list("pods", query, explain_pending)[0])
            for row in filter(lambda row: row["name"] in reasons, idle):
                row["status"] = f"Pending ({reasons[row['name']]})"

    def _check_namespace(self) -> None:
        """Raise K8rError if the namespace does not exist; not everybody may know."""
        try:
            self._cluster.request("GET", f"/api/v1/namespaces/{self.namespace}")
        except NotFound as error:
            raise K8rError(f"there is no namespace {self.namespace}", "see -n NAME") from error
        except K8rError as error:
            self.console.debug(f"it is not known whether the namespace exists: {error.message}")

    def _delete(self, subject: Subject, force: bool, policy: str = "Background") -> None:
        """Delete it with all that it owns; by ``force`` also pods that do not end."""
        uid = {"uid": subject.root["metadata"]["uid"]}
        options = {"preconditions": uid, "propagationPolicy": policy}
        ask = functools.partial(list_stuck_pods, self.core_v1, subject.name, self._cluster.get_time)
        stuck = ask_beside(ask) if force else None
        with contextlib.suppress(Conflict):  # by now something else has its name
            subject.group.delete(subject.resource, subject.name, options)
        for name in stuck.get_answer() if stuck else ():
            self.core_v1.delete("pods", name, {"gracePeriodSeconds": 0})


# ==============================================================================
# Parser
# ==============================================================================


def split_command(argv: Sequence[str]) -> Tuple[List[str], Optional[List[str]]]:
    """Cut a command line at its first `--`; None where there is none."""
    if "--" not in argv:
        return list(argv), None
    at = list(argv).index("--")
    return list(argv[:at]), list(argv[at + 1 :])


def find_first_word(argv: Sequence[str], valued: Set[str]) -> Optional[int]:
    """The position of the first word that is neither an option nor an option's value.

    ``valued`` are the options that take one.
    """
    skip = False
    for position, word in enumerate(argv):
        if skip:
            skip = False
        elif word.startswith("-") and word != "-":
            skip = word in valued or ends_with_option(word, valued)
        else:
            return position
    return None


def ends_with_option(word: str, valued: Set[str]) -> bool:
    """Whether short options are written together, and the last takes a value."""
    letters = [f"-{letter}" for letter in word[1:]]
    return (
        word[:2] != "--"
        and letters[-1] in valued
        and not any(letter in valued for letter in letters[:-1])
    )


SUBCOMMANDS = tuple(
    "run ls logs exec forward cp stop retry delete rm secret config env update".split()
)
FOREIGN_COMMANDS = {
    "help": "--help",
    "version": "--version",
    **dict.fromkeys(("describe", "get", "jobs", "list", "ps", "status", "top"), "ls"),
    **dict.fromkeys(("cancel", "kill", "remove"), "delete"),
    **dict.fromkeys(("apply", "create", "launch", "start", "submit"), "run"),
    **dict.fromkeys(("connect", "shell", "ssh"), "exec"),
    **dict.fromkeys(("copy", "download", "pull", "push", "scp", "upload"), "cp"),
    **dict.fromkeys(("attach", "tail"), "logs -f"),
    "uninstall": "sh install.sh --uninstall",
    "upgrade": "update",
}
"""What other programs call a command, and the one of k8r: `k8r help` means no image."""
COMMON_IMAGES = (
    "alpine busybox caddy debian fedora hello-world httpd mariadb mongo mysql nginx node perl "
    "postgres python rabbitmq redis registry ruby ubuntu"
).split()
"""Images that may be run by their name alone; another word that stands alone is asked about."""
COMPLETION_WORD = "__complete"
"""The word with which a shell asks for what a command line may go on with."""
DASH_HINT = "a VALUE with blanks is quoted, one that begins with '-' stands after --"


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError. ``text`` is its help, if not argparse's;
    ``examples`` are command lines that stand below that.
    """

    examples: Tuple[str, ...] = ()

    def __init__(self, text: str = "", **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self._text = text
        self._words: List[str] = []

    def format_help(self) -> str:
        told = "\n  ".join(("\nexamples:", *self.examples)) + "\n" if self.examples else ""
        return self._text or super().format_help() + told

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> Tuple[argparse.Namespace, List[str]]:
        self._words = list(args or ())
        return super().parse_known_args(args, namespace)

    def print_help(self, file: Any = None) -> NoReturn:
        """Hand the text over, since only the console prints. Python 3.13 takes `-hunter2`
        for -h and an unknown option.
        """
        if not any(re.fullmatch("--help|-[a-z]*h", word) for word in self._words):
            self.error("-h takes no value")
        raise PrintAndExit(self.format_help())

    def error(self, message: str) -> NoReturn:
        if self.prog.endswith(" secret") and re.search("['\"]", message):  # it may show the value
            raise UsageError(f"{message.partition(': ')[0]} is wrong", DASH_HINT) from None
        raise UsageError(message, f"see {self.prog} --help") from None


def list_subcommands(parser: argparse.ArgumentParser) -> Dict[str, argparse.ArgumentParser]:
    """The parsers of the subcommands, by name."""
    (found,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(found.choices)


def walk_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments and options of a parser and of its subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from walk_actions(sub)
        else:
            yield action


def list_options(parser: argparse.ArgumentParser, valued: bool = False) -> Set[str]:
    """All options, of the subcommands too; ``valued`` those that take a value."""
    actions = [action for action in walk_actions(parser) if action.nargs is None or not valued]
    return {option for action in actions for option in action.option_strings}


def wrap_parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse put the option's name before what a parser complains of."""

    def convert(text: str) -> Any:
        try:
            if not text:
                raise UsageError("it has an empty value", "give it one, or leave it out")
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(f"{error.message}; {error.hint}") from error

    return convert


def open_group(parser: argparse.ArgumentParser, title: str = "") -> Callable[..., None]:
    """What adds options to a group of a parser's help, or to none: their names, what stands
    for a value ("" for a flag), the help, and what parses the value.
    """
    group = parser.add_argument_group(title) if title else parser

    def add(
        names: str,
        metavar: str,
        text: str,
        parse: Optional[Callable[[str], Any]] = None,
        **more: Any,
    ) -> None:
        kind: Dict[str, Any] = {"action": "store_true"}
        if metavar:
            kind = {"metavar": metavar, "type": wrap_parser(parse or str)}
        group.add_argument(*names.split(), help=text, **{**kind, **more})

    return add


REPEATED: Dict[str, Any] = {"action": "append", "default": []}
"""What an option has that may be given several times."""


def add_global_options(parser: argparse.ArgumentParser, top: bool = False) -> None:
    """Options that may stand before or after the subcommand.

    The copies of the subcommands have no default of their own, lest that
    replaces what was given before the subcommand.
    """
    adder = open_group(parser, "options for all commands")

    def add(names: str, metavar: str, text: str, default: Any = None, **more: Any) -> None:
        adder(names, metavar, text, default=default if top else argparse.SUPPRESS, **more)

    add("-n --namespace", "NAME", "the namespace (default: that of the context)")
    add("--context", "NAME", "the kubeconfig context")
    add("--kubeconfig", "FILE", "the kubeconfig (default: $KUBECONFIG, ~/.kube/config)")
    add("--insecure", "", "do not verify the API server's certificate", False)
    whens = ("auto", "always", "never")
    add("--color", "WHEN", "auto, always or never", "auto", choices=whens)
    add("-v --verbose", "", "say more, and show tracebacks", False)


def add_run(subparsers: Any) -> None:
    """`k8r run`."""
    parser = subparsers.add_parser(
        "run",
        usage="k8r [run] SOURCE [OPTIONS] [-- COMMAND [ARG ...]]",
        description="Run COMMAND in the cluster, show its output, end with its exit code.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a directory, git URL, Dockerfile or container image"
    )
    for add in (add_many_options, add_job_options, add_container_options, add_source_options):
        add(parser)
    add_kind_options(parser)


def add_many_options(parser: argparse.ArgumentParser) -> None:
    """How many pods, and what each is for."""
    add = open_group(parser, "several pods")
    add("--num", "N", "run N pods, numbered by K8R_INDEX", parse_count, default=1)
    nodes = "run N pods as one program, which find each other by name, for torchrun say"
    add("--nodes", "N", nodes, lambda text: parse_whole(text, "number of nodes", 2, MOST_NODES))
    each = (
        "run a pod for each line, its K8R_LINE and {line}; .csv, .tsv: {COLUMN}, too; - for stdin"
    )
    add("--each", "FILE", each)
    add("--prefix", "", "with --each: lines of output begin with the first column, not the index")


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """What kind of Job."""
    add = open_group(parser, "the job")
    add("--parallel", "P", "at most P of them at a time (default: all)", parse_count)
    limit = "stop after 90, 30m, 1h30m or 2d (default: 1h), or none; exit status 124"
    add("--timeout", "TIME", limit, parse_limit)
    keep = "remove it so long after its end (default: 7d), or forever"
    add("--keep", "TIME", keep, parse_limit, default=DEFAULT_KEEP)
    add("--retry", "N", "try a failed pod N more times (default: 0)", parse_number, default=0)
    add("--queue", "NAME", "let this queue of Kueue start the Job")
    add("--priority", "CLASS", "its priority class: of the queue if there is one, else of pods")
    add("--label", "KEY=VALUE", "label the Job and its pods", parse_own_label, **REPEATED)
    add("--job-name", "NAME", "the Job's name (default: SOURCE's)")
    add("--replace", "", "first remove a Job of this name; update a Deployment of other source")
    add("--rm", "", "remove the Job and all of its parts when it has ended")


def add_container_options(parser: argparse.ArgumentParser) -> None:
    """What the container is made of, and which secrets it sees."""
    add = open_group(parser, "the container")
    base = f"the image that a directory runs in; it needs sh and tar (default: {DEFAULT_IMAGE}, or "
    base += f"what the command's first word wants: {RUNTIME_IMAGES['python']} for python)"
    add("--base-image", "IMAGE", base, parse_image)
    add("--setup", "COMMAND", "shell text that runs there before the command")
    env = "set a variable; without VALUE to what it is here"
    add("--env", "KEY[=VALUE]", env, **REPEATED)
    file = "set the variables in FILE, one KEY=VALUE on each line"
    add("--env-file", "FILE", file, **REPEATED)
    add("--mem", "SIZE", "memory: 512Mi, 2gb, or 2gb-8gb for a range")
    add("--cpu", "CPUS", "CPUs: 2, 500m, or 500m-2 for a range")
    add("--gpu", "[TYPE:]N", "NVIDIA GPUs, of that type as a node's label has it", parse_gpu)
    shm = "shared memory (default: 64 MiB; with --gpu as much as --mem)"
    add("--shm", "SIZE", shm, parse_memory)
    volume = "mount a volume claim that there is"
    add("-V --volume", "CLAIM:/PATH[:ro]", volume, parse_volume, **REPEATED)
    add("--patch", "FILE", "merge FILE (YAML) into the pod template")
    restricted = 'meet the Pod Security Standard "restricted": no root, no privileges'
    add("--restricted", "", restricted)
    add = open_group(parser, "its place")
    add("--node-selector", "KEY=VALUE", "a node with this label", parse_label, **REPEATED)
    taint = "also a node with this taint; without VALUE or EFFECT whichever it has"
    add("--toleration", "KEY[=VALUE][:EFFECT]", taint, parse_toleration, **REPEATED)
    account = "run as this service account, and give the command its token"
    add("--service-account", "NAME", account)
    add = open_group(parser, "secrets")
    add("--secret-job", "NAME", "use the secrets made for jobs of this name (default: the job's)")
    add("--rm-secrets", "", "remove these secrets when the Job has ended")
    add("--pull-secret", "NAME", "a Secret with which the nodes pull the image", **REPEATED)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """How a repository is cloned, and how a Dockerfile is built."""
    add = open_group(parser, "a git repository")
    add("--ref", "REF", "the branch, tag or commit", parse_ref)
    add("--depth", "N", "clone the last N commits (default: 1)", parse_count, default=1)
    add("--git-secret", "NAME", "a Secret with a token, or with an SSH key and known_hosts")
    image = f"the image that clones (default: {DEFAULT_GIT_IMAGE})"
    add("--git-image", "IMAGE", image, parse_image, default=DEFAULT_GIT_IMAGE)
    add("--git-insecure-host-key", "", "accept any SSH host key")
    add = open_group(parser, "a Dockerfile")
    add("--build-arg", "KEY[=VALUE]", "set an ARG of the Dockerfile", **REPEATED)
    secret = "a file (or variable: ,env=KEY) for RUN --mount=type=secret"
    names = "id=NAME[,src=FILE]"
    add("--build-secret", names, secret, parse_build_secret, **REPEATED)
    add("--target", "STAGE", "build this stage")
    add("--platform", "OS/ARCH", "build for this platform")
    add = open_group(parser, "a service that does not end")
    add("--as-deployment", "", "make a Deployment with --num replicas, or update it")


def add_kind_options(parser: argparse.ArgumentParser) -> None:
    """What k8r does here meanwhile."""
    add = open_group(parser, "here")
    add("-i --stdin", "", "pass standard input on to the command")
    add("-t --tty", "", "give it this terminal")
    port = "reach this port of the pod by one of this machine; a Deployment gets a Service, too"
    add("--port", "[LOCAL:]PORT", port, parse_forward, **REPEATED)
    out = "bring PATH here at the command's end, into DIR (default: its own name)"
    add("--out", "PATH[:DIR]", out, parse_out, **REPEATED)
    hold = "how long to keep it above 5 MiB (default: until it is here; with -d not at all)"
    add("--hold", "TIME", hold, parse_duration)
    add("-d --detach", "", "start it, print its name, return")
    add("-f --follow", "", "show its output to the end (the default)")
    grace = "give up on a pod that cannot start after this time (default: 60 s)"
    add("--grace", "TIME", grace, parse_duration, default=DEFAULT_GRACE)
    add("--show-yaml", "", "print the objects and touch no cluster")
    add("--show-files", "", "list what a directory sends, and what not, and touch no cluster")
    add("--local", "", "run it on this machine instead, without a cluster")
    add("-q --quiet", "", "print errors only")


def add_ls(subparsers: Any) -> None:
    """`k8r ls`."""
    parser = subparsers.add_parser(
        "ls", description="List the Jobs and Deployments made by k8r, or the pods of one."
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the pods of this one instead")
    add = open_group(parser)
    formats = ("table", "wide", "json", "yaml", "name")
    text = "table, wide, json, yaml or name"
    add("-o --output", "FORMAT", text, choices=formats, default="table")
    add("-w --watch", "", "go on with what changes")
    add("--failed", "", "only pods that failed, of indexes that have not succeeded since")


def add_logs(subparsers: Any) -> None:
    """`k8r logs`."""
    parser = subparsers.add_parser(
        "logs",
        description="Show the output of a Job's pods. With -f also the rest of it, and end with "
        "the Job's exit code.",
    )
    parser.add_argument("name", metavar="NAME", help="the Job")
    add = open_group(parser)
    add("-f --follow", "", "go on until the Job ends")
    add("--tail", "N", "only the last N lines of each pod", parse_number)
    add("--since", "TIME", "only the last 90, 30m or 1h", parse_duration)
    add("--timestamps", "", "the time before each line")
    add("--index", "I", "only the pods with this index, and no prefix", parse_number)
    add("--previous", "", "the container's run before it was restarted")
    add("--prefix", "", "of --each: the first column before each line, not the index")


def add_exec(subparsers: Any) -> None:
    """`k8r exec`."""
    parser = subparsers.add_parser(
        "exec",
        usage="k8r exec NAME [OPTIONS] [-- COMMAND [ARG ...]]",
        description="Run COMMAND, or a shell, in a container of a Job that runs, and end with "
        "its exit code. On a terminal it has that.",
    )
    parser.add_argument("name", metavar="NAME", help="the Job or Deployment")
    add = open_group(parser)
    add("--index", "I", "in the pod with this index (default: the first that runs)", parse_number)
    add("-i --stdin", "", "pass standard input on")
    add("-t --tty", "", "with a terminal (the default on one)")


def add_forward(subparsers: Any) -> None:
    """`k8r forward`."""
    parser = subparsers.add_parser(
        "forward",
        description="Listen on 127.0.0.1, and pass connections on to a pod that runs.",
    )
    parser.add_argument("name", metavar="NAME", help="the Job or Deployment")
    ports = "a port of the pod, and one of this machine (default: of the same number)"
    parser.add_argument("ports", metavar="[LOCAL:]PORT", nargs="+", help=ports)


def add_cp(subparsers: Any) -> None:
    """`k8r cp`."""
    parser = subparsers.add_parser(
        "cp",
        usage="k8r cp NAME [DIR] | NAME:PATH LOCAL | LOCAL NAME:PATH [OPTIONS]",
        description="Bring here what --out named, when a Job has ended, or copy from or to a "
        "run that goes on. As LOCAL a - is standard input or output.",
    )
    parser.add_argument("origin", metavar="FROM", help="the Job, NAME:PATH or LOCAL")
    parser.add_argument("target", metavar="TO", nargs="?", default="", help="where to")
    add = open_group(parser)
    add("--index", "I", "the pod with this index (default: the first that runs)", parse_number)


def add_stop(subparsers: Any) -> None:
    """`k8r stop`."""
    parser = subparsers.add_parser(
        "stop",
        description="End the commands of Jobs by SIGTERM, and keep the Jobs and their logs.",
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="Jobs")


def add_retry(subparsers: Any) -> None:
    """`k8r retry`. What is not given is as it was."""
    parser = subparsers.add_parser(
        "retry",
        description="Run the indexes of a Job that failed again, with its code, lines and "
        "options but for those given here.",
    )
    parser.add_argument("name", metavar="NAME", help="a Job that has ended")
    indexes = "these instead, whether they failed or not: 3,7-9"
    open_group(parser)("--index", "I[-J],...", indexes, parse_indexes, default=())
    for add in (add_job_options, add_container_options, add_kind_options):
        add(parser)
    for action in parser._actions:
        action.default = () if action.dest == "index" else argparse.SUPPRESS


def add_delete(subparsers: Any) -> None:
    """`k8r delete` and `k8r rm`."""
    parser = subparsers.add_parser(
        "delete",
        aliases=["rm"],
        description="Remove Jobs with their pods, logs and ConfigMaps.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="Jobs")
    add = open_group(parser)
    add("--all", "", "all Jobs made by k8r")
    add("--done", "", "all of them that have ended")
    add("-f --force", "", "those that still run, too")
    add("--wait", "", "wait until their pods have ended")
    add("--secrets", "", "the secrets made for them, too")


def add_secret(subparsers: Any) -> None:
    """`k8r secret`."""
    parser = subparsers.add_parser(
        "secret",
        usage="k8r secret NAME [VALUE] [OPTIONS]",
        description="Keep a secret for all Jobs of a directory. They find it in the file "
        "/k8r/secret/NAME/KEY and in the variable NAME_KEY.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the secret's name")
    parser.add_argument(
        "value",
        metavar="VALUE",
        nargs="?",
        help="a file, a directory, the value itself, or - for standard input; "
        "without it you are asked",
    )
    add = open_group(parser)
    add("--list", "", "list the secrets made by k8r")
    add("--delete", "", "remove the secret")
    add("--job-name", "JOB", "for jobs of this name (default: the directory's)")
    add("--show-yaml", "", "print it, its values hidden")


def add_config(subparsers: Any) -> None:
    """`k8r config`."""
    parser = subparsers.add_parser(
        "config",
        description=f"Show the defaults of options: the user's ($XDG_CONFIG_HOME/{USER_CONFIG}), "
        f"this directory's ({DIRECTORY_CONFIG}), and those of variables such as K8R_BASE_IMAGE.",
    )
    open_group(parser)("--show", "", "all options that have one, and where it comes from")


def add_env(subparsers: Any) -> None:
    """`k8r env`."""
    subparsers.add_parser(
        "env",
        description="Print text for bash, zsh or sh: the function k8r, and its completion. "
        'In your rc file: eval "$(k8r env)"',
    )


def add_update(subparsers: Any) -> None:
    """`k8r update`."""
    parser = subparsers.add_parser(
        "update",
        description="Bring a k8r that install.sh has installed up to date. The present version "
        "stays if the new one does not start.",
    )
    parser.add_argument("branch", metavar="BRANCH", nargs="?", help="from this branch on")


EXAMPLES = {
    "run": (
        "k8r ./ --setup 'pip install .' --out model -- python train.py",
        "k8r https://github.com/org/repo --ref v2 --mem 2gb --cpu 2 -- make test",
    ),
    "ls": ("k8r ls -o json", "k8r ls sweep --failed"),
    "logs": ("k8r logs -f train", "k8r logs sweep --index 3 --tail 20"),
    "exec": ("k8r exec train", "k8r exec sweep --index 3 -- df -h"),
    "forward": ("k8r forward notebook 8888", "k8r forward web 8080:80 9090"),
    "cp": ("k8r cp train", "k8r cp train:logs/loss.csv ./", "k8r cp data.csv train:/workspace"),
    "stop": ("k8r stop train", "k8r stop sweep-1 sweep-2"),
    "retry": ("k8r retry sweep --mem 16gb", "k8r retry sweep --index 3,7-9"),
    "delete": ("k8r rm train", "k8r rm --done"),
    "secret": ("k8r secret token - < token.txt", "k8r secret --list"),
    "config": ("k8r config", "K8R_MEM=2gb k8r config --show"),
    "env": ('eval "$(k8r env)"', "k8r env > ~/.k8r-env"),
    "update": ("k8r update", "k8r update main"),
}
"""For each subcommand what it is used for most, as one types it."""


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(__doc__ or "", prog="k8r")
    parser.add_argument("--version", action="store_true", help=argparse.SUPPRESS)
    add_global_options(parser, top=True)
    parser.set_defaults(quiet=False)
    subparsers = parser.add_subparsers(parser_class=Parser, dest="subcommand")
    for add in (add_run, add_ls, add_logs, add_exec, add_forward, add_cp, add_stop):
        add(subparsers)
    for add in (add_retry, add_delete, add_secret, add_config, add_env, add_update):
        add(subparsers)
    for name, subparser in subparsers.choices.items():
        if name in EXAMPLES:
            add_global_options(subparser)
            subparser.examples = EXAMPLES[name]
    return parser


def parse_args(
    argv: Sequence[str],
    parser: Parser,
    defaults: Tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> argparse.Namespace:
    """Parse a command line; `run` is implied. ``defaults`` are words that count less than
    its own: those of all commands, and those of `run`. Raises UsageError.
    """
    words, command = split_command(argv)
    at = name_subcommand(words, command, parser)
    common, own = defaults
    if at is not None and words[at] == "run":
        words[at + 1 : at + 1] = own
    args, unknown = parser.parse_known_args([*common, *words])
    if args.subcommand == "secret":
        take_secret_words(args, unknown, command or [])
    elif unknown:
        raise unknown_word_error(unknown[0], args.subcommand, parser)
    if args.subcommand is None and not args.version:
        raise UsageError("give a SOURCE, for instance ./", "k8r ./ -- COMMAND; see k8r --help")
    if command is not None and args.subcommand not in ("run", "secret", "exec"):
        raise UsageError(f"k8r {args.subcommand} takes no command", "leave out the --")
    args.command = command
    args.bare = list(argv) == [getattr(args, "source", None)]
    return args


def take_secret_words(args: argparse.Namespace, unknown: List[str], command: List[str]) -> None:
    """Take NAME and VALUE of `k8r secret` from wherever they stand; those after `--` may begin
    with '-'. Raises UsageError, which does not show what may be a value.
    """
    words = [word for word in (args.name, args.value, *unknown, *command) if word is not None]
    if len(words) > 2 or any(word.startswith("-") for word in unknown):
        raise UsageError("k8r secret takes a NAME, one VALUE and its own options", DASH_HINT)
    args.name, args.value = (*words, None, None)[:2]


def name_subcommand(
    words: List[str], command: Optional[Sequence[str]], parser: Parser
) -> Optional[int]:
    """Put the subcommand before its options, `run` where none is named; its position."""
    at = find_first_word(words, list_options(parser, valued=True))
    if at is not None and words[at] not in SUBCOMMANDS:
        check_mistyped(words[at], command)
        words.insert(0, "run")
        return 0
    if has_options_of_subcommands(words[:at], parser):
        words.insert(0, "run" if at is None else words.pop(at))
        return 0
    return at


def has_options_of_subcommands(words: Iterable[str], parser: Parser) -> bool:
    """Whether there are options among the words that only subcommands have."""
    own = {option for action in parser._actions for option in action.option_strings}
    return not (list_options(parser) - own).isdisjoint(word.partition("=")[0] for word in words)


def unknown_word_error(word: str, subcommand: Optional[str], parser: Parser) -> UsageError:
    """The error for a word that the subcommand does not know."""
    if not word.startswith("-"):
        first = {"run": "SOURCE", "exec": "NAME"}.get(subcommand or "run")
        hint = f"the command goes after --: {first} -- COMMAND" if first else ""
        return UsageError(f"'{word}' is one word too many", hint or f"see k8r {subcommand} --help")
    option, parsers = word.partition("=")[0], list_subcommands(parser)
    owners = [f"k8r {name}" for name in parsers if option in list_options(parsers[name])]
    if owners and subcommand:
        hint = f"that is for {', '.join(owners)}"
        return UsageError(f"k8r {subcommand} has no option {option}", hint)
    asked = parsers[subcommand] if subcommand else parser
    hint = did_you_mean(option, sorted(list_options(asked)), f"see {asked.prog} --help")
    return UsageError(f"there is no option {option}", hint)


def check_mistyped(word: str, command: Optional[Sequence[str]]) -> None:
    """Raise UsageError for `k8r lgos NAME`, which would run an image of that name."""
    if command is not None or re.search(r"[/:.]", word):
        return
    import difflib

    close = difflib.get_close_matches(word, SUBCOMMANDS, 1, 0.7)
    meant = FOREIGN_COMMANDS.get(word) or "".join(close)
    if meant:
        raise unknown_command_error(word, f"did you mean {meant}?")


def unknown_command_error(word: str, hint: str) -> UsageError:
    """The error for a word that is rather a mistake than an image."""
    return UsageError(
        f"there is no command '{word}'", f"{hint} An image of that name: k8r run {word}"
    )


# ==============================================================================
# Configuration
# ==============================================================================

CONFIGURABLE_FLAGS = {"restricted", "rm", "quiet", "verbose", "insecure"}
DIRECTORY_OPTIONS = dict.fromkeys(
    "base-image cpu depth gpu grace keep label mem namespace num parallel platform queue ref "
    "restricted retry setup shm target timeout".split(),
    "",
)
DIRECTORY_OPTIONS.update({"env": ".+=", "build-arg": ".+=", "out": "[^:]+$", "port": "[0-9]+$"})
"""What a directory may decide, since others may have written its file: what concerns the
container and its size. With each what its values begin with: KEY=VALUE, since KEY alone
would take the user's own variable; a PATH without a DIR; the pod's port alone."""
DIRECTORY_FORMS = "env and build-arg: KEY=VALUE; out: PATH; port: PORT"
PATHS = {"patch", "env-file", "each", "kubeconfig"}
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Setting(NamedTuple):
    """The default of an option, as the values that a command line could give it."""

    name: str
    values: List[str]
    origin: str


def list_configurable(parser: argparse.ArgumentParser) -> Dict[str, argparse.Action]:
    """The options that may have a default of one's own, by name without dashes."""
    found: Dict[str, argparse.Action] = {}
    for action in [*list_subcommands(parser)["run"]._actions, *parser._actions]:
        name = action.option_strings[-1][2:] if action.option_strings else ""
        if name and (action.nargs is None or name in CONFIGURABLE_FLAGS):
            found[name] = action
    return found


def list_values(action: argparse.Action, value: Any) -> List[str]:
    """What YAML or a variable holds, as values of an option. Raises UsageError."""
    if isinstance(action, argparse._StoreTrueAction):
        if str(value).lower() not in BOOLEANS:
            raise UsageError(f"'{value}' is neither true nor false", "write true or false")
        return ["true"] if BOOLEANS[str(value).lower()] else []
    many = isinstance(action, argparse._AppendAction)
    if many and isinstance(value, dict):
        pairs = value.items()
        return [key if item is None else f"{key}={format_setting(item)}" for key, item in pairs]
    items = value if many and isinstance(value, list) else [value]
    return [format_setting(item) for item in items]


def format_setting(value: Any) -> str:
    """A YAML value as text: `true` is not a word of Python's. Raises UsageError."""
    if value is None or isinstance(value, (dict, list)):
        raise UsageError("it takes one value", "write a word or a number")
    return str(value).lower() if isinstance(value, bool) else str(value)


def format_words(action: argparse.Action, values: Iterable[str]) -> List[str]:
    """The words that stand for an option with these values on a command line."""
    option = action.option_strings[-1]
    if isinstance(action, argparse._StoreTrueAction):
        return [option] * len(list(values))
    return [f"{option}={value}" for value in values]


class Defaults:
    """The defaults in files and variables, as words in front of the command line's own:
    what they may be is argparse's to check, and checked in one place.
    """

    def __init__(self, env: Environment, parser: Parser, args: argparse.Namespace) -> None:
        self._env = env
        self._args = args
        folder = env.cwd
        if args.subcommand == "run":
            folder = os.path.realpath(os.path.join(folder, os.path.expanduser(args.source)))
            kind = get_path_type(folder)
            if kind != DIRECTORY:  # a Dockerfile's directory counts, none for an image or a URL
                folder = os.path.dirname(folder) if kind and is_dockerfile(args.source) else ""
        self._file = os.path.normpath(os.path.join(folder, DIRECTORY_CONFIG)) if folder else ""
        self._run = list_subcommands(parser)["run"]
        self._common = {action.dest for action in parser._actions}
        self.known = list_configurable(parser)

    def load(self, console: Console) -> List[Setting]:
        """All defaults, those that count less first: of the user, of the directory, of the
        environment. Raises UsageError; of a directory, for commands that make something.
        """
        environ = self._env.environ
        home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        found = list(self._read(os.path.join(home, USER_CONFIG), True))
        try:
            found += self._read(self._file, False) if self._file else []
        except UsageError as error:
            if self._args.subcommand in ("run", "secret", "config"):
                raise
            console.warn(f"{error.message}; {error.hint}")
        for name, action in self.known.items():
            variable = "K8R_" + name.upper().replace("-", "_")
            value = environ.get(variable, "")
            if value and not isinstance(action, argparse._AppendAction):
                found.append(self._check(name, value, f"${variable}"))
        self._tell_namespace(found, console)
        return found

    def _tell_namespace(self, found: Iterable[Setting], console: Console) -> None:
        """Say which namespace is a directory's choice. Raises UsageError for a secret."""
        last = [setting for setting in found if setting.name == "namespace"][-1:]
        if self._args.namespace or not last or last[0].origin != self._file:
            return
        text = f"namespace {last[0].values[0]} of {self._file}"
        if self._args.subcommand == "secret" and not self._args.list:
            raise UsageError(f"others may have written '{text}'", "confirm it with -n NAMESPACE")
        console.say(text)

    def _read(self, path: str, own: bool) -> Iterator[Setting]:
        """The defaults in a file, the user's ``own`` or a directory's."""
        content = os.path.lexists(path) and read_yaml(path, "the file", not own) or {}
        if not isinstance(content, dict):
            raise UsageError(f"{path} is not a mapping", "write one OPTION: VALUE on each line")
        for name, value in sorted(content.items(), key=lambda item: item[0] != "namespace"):
            yield self._check(str(name), value, path, own)

    def _check(self, name: str, value: Any, origin: str, own: bool = True) -> Setting:
        """One default, tried on the parser of `run`."""
        if name not in self.known:
            hint = did_you_mean(name, self.known, "see k8r config --show")
            raise UsageError(f"{origin}: there is no option '{name}' to set", hint)
        if name not in DIRECTORY_OPTIONS and not own:
            raise UsageError(
                f"{origin}: a directory must not set {name}, which reaches beyond its container",
                f"that is for --{name}, ~/.config/{USER_CONFIG} or a variable K8R_...",
            )
        try:
            values = list_values(self.known[name], value)
            self._try(name, values, own)
        except UsageError as error:
            message = error.message.replace(f"argument --{name}: ", "")
            hint = error.hint if message == error.message else ""
            place = origin if origin.startswith("$") else f"{origin}: {name}"
            raise UsageError(f"{place}: {message}", hint) from error
        if name in PATHS:
            folder = os.path.dirname(origin)  # "" of a variable
            values = [os.path.join(folder, os.path.expanduser(item)) for item in values]
        return Setting(name, values, origin)

    def _try(self, name: str, values: List[str], own: bool) -> None:
        for item in values:
            if not own and not re.match(DIRECTORY_OPTIONS[name], item):
                raise UsageError(f"a directory must not say '{item}'", DIRECTORY_FORMS)
            if name in ("env", "build-arg") and "=" in item:
                parse_variable(item, {})
        self._run.parse_args([*format_words(self.known[name], values), "SOURCE"])

    def merge(self, found: Iterable[Setting]) -> Dict[str, List[str]]:
        """The values that count of each option; of lists, all there are."""
        merged: Dict[str, List[str]] = {}
        for name, values, _ in found:
            many = isinstance(self.known[name], argparse._AppendAction)
            merged[name] = [*merged.get(name, []), *values] if many else values
        return merged

    def split(self, found: Iterable[Setting]) -> Tuple[List[str], List[str]]:
        """The words for all commands, and those for `run` alone."""
        common: List[str] = []
        own: List[str] = []
        for name, values in self.merge(found).items():
            action = self.known[name]
            (common if action.dest in self._common else own).extend(format_words(action, values))
        return common, own


# ==============================================================================
# Commands
# ==============================================================================

# Defaults, runs


def cmd_config(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Show the defaults and where they come from."""
    defaults = Defaults(k8s.env, build_parser(), args)
    found = defaults.load(k8s.console)
    merged, rows = defaults.merge(found), []
    for name, action in sorted(defaults.known.items()):
        origins = [setting.origin for setting in found if setting.name == name]
        values = merged.get(name)
        if values is None:
            if not args.show:
                continue
            set_by_itself = action.default not in (None, [], False)
            origins, values = (["k8r"], [str(action.default)]) if set_by_itself else (["-"], ["-"])
        last = origins if isinstance(action, argparse._AppendAction) else origins[-1:]
        rows.append([name, ", ".join(values) or "false", ", ".join(last)])
    if rows:
        k8s.console.text(format_table(["OPTION", "VALUE", "FROM"], rows))
    else:
        k8s.console.say(f"no defaults are set, neither in {DIRECTORY_CONFIG} nor for the user")
    return ExitCode.OK


def build_run_options(args: argparse.Namespace, env: Environment) -> RunOptions:
    """Check the options of `run` together, and read its files. Raises UsageError."""
    check_run(args)
    rows = read_rows(args, env) if args.each else ()
    given = {name: value for name, value in vars(args).items() if name in RunOptions._fields}
    given.update({name: tuple(value) for name, value in given.items() if isinstance(value, list)})
    gpu_type, gpus = args.gpu or ("", None)
    given.update(
        command=tuple(args.command or ()),
        rows=rows,
        env=read_variables(args, env),
        num=args.nodes or len(rows) or args.num,
        nodes=bool(args.nodes),
        resources=parse_resources(args.mem, args.cpu, gpus),
        gpu_type=gpu_type,
        remove=args.rm,
        remove_secrets=args.rm_secrets,
        git=GitOptions(
            args.ref, args.depth, args.git_image, args.git_secret, args.git_insecure_host_key
        ),
        build=BuildOptions(
            tuple(parse_variable(text, env.environ) for text in args.build_arg),
            args.target,
            args.platform,
            tuple(args.build_secret),
        ),
        pull_secrets=tuple(args.pull_secret),
        patch=read_patch(os.path.join(env.cwd, args.patch)) if args.patch else {},
    )
    return RunOptions(**given)


def read_variables(args: argparse.Namespace, env: Environment) -> Tuple[Tuple[str, str], ...]:
    """Those of --env-file, then those of --env. Raises UsageError."""
    found: List[Tuple[str, str]] = []
    for path in args.env_file:
        text = read_text(os.path.join(env.cwd, path), "the env file")
        found += parse_env_file(text, path, env.environ)
    return (*found, *(parse_variable(text, env.environ) for text in args.env))


def read_rows(args: argparse.Namespace, env: Environment) -> Tuple[Row, ...]:
    """What --each names: a file, or `-` for standard input. Raises UsageError."""
    path = args.each
    if args.num > 1:
        raise UsageError("--each has a pod for each line", "leave out --num")
    if not args.command:
        raise UsageError("--each needs a command", "for instance -- echo {line}")
    if path != "-":
        text = read_text(os.path.join(env.cwd, path), "the file of --each", limit=ROWS_LIMIT)
        return parse_rows(text, path)
    try:
        text = read_stream(env.stdin, ROWS_LIMIT)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"standard input cannot be read: {reason}", "check its lines") from error
    return parse_rows(text, "standard input")


def check_run(args: argparse.Namespace) -> None:
    """Raise UsageError for options that are wrong, or wrong together."""
    if args.command is not None and not args.command:
        raise UsageError("there is no command after --", f"for instance k8r {args.source} -- env")
    for word in args.command or ():
        check_argument("an argument of the command", word)
    check_argument("the text of --setup", args.setup or "")
    if args.num > MOST_PODS:
        raise UsageError(f"--num {args.num} is more than a Job may have", f"at most {MOST_PODS}")
    if args.num > 1 and (args.stdin or args.tty):
        raise UsageError("-i and -t are for one pod", "leave out --num")
    if args.as_deployment and args.out:
        hint = "copy from it while it runs: k8r cp NAME:PATH DIR"
        raise UsageError("a Deployment does not end, and so takes no --out", hint)
    check_exclusions(args)


MOST_PODS = 100_000
EXCLUSIONS = {
    "detach": ("--detach", "follow rm_secrets stdin tty"),
    "local": ("a local run", "detach as_deployment replace show_yaml rm_secrets tty volume"),
    "service_account": ("--service-account", "local"),
    "nodes": ("--nodes", "as_deployment each local parallel retry stdin tty"),
    "each": ("--each", "as_deployment nodes stdin tty"),
    "stdin": ("--stdin", "as_deployment retry"),
    "tty": ("--tty", "as_deployment retry"),
    "as_deployment": ("a Deployment", "parallel timeout retry rm rm_secrets queue"),
}
"""What each of these options is called, and what it does not go with."""


def check_exclusions(args: argparse.Namespace) -> None:
    """Raise UsageError for options that exclude each other."""
    for option, (what, others) in EXCLUSIONS.items():
        for other in others.split():
            if getattr(args, option, None) and getattr(args, other, None):
                name = other.replace("_", "-")
                raise UsageError(f"{what} takes no --{name}", "leave it out")
    if args.prefix and not args.each:
        raise UsageError("--prefix is for --each", "leave it out")
    if args.nodes and (args.num > 1 or not args.command):
        what = "takes no --num" if args.command else "needs a command"
        raise UsageError(f"--nodes {what}", "for instance --nodes 2 -- torchrun train.py")


def cmd_run(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Run something. Raises UsageError for `k8r login`, which would run an image."""
    word = args.source
    unsure = args.bare and not re.search("[/:.]", word) and word not in COMMON_IMAGES
    if unsure and k8s.detect_source_type(word) == CONTAINER:
        raise unknown_command_error(word, "see k8r --help.")
    options = build_run_options(args, k8s.env)
    return print_listing(k8s, options) if args.show_files else k8s.run_job_with_options(options)


def print_listing(k8s: K8sRun, options: RunOptions) -> int:
    """`k8r run --show-files`: the largest first, then what an ignore file leaves out."""
    source = k8s.find_source(options)
    if source.kind != DIRECTORY:
        raise UsageError("--show-files is for directories", "leave it out")
    own = [place[1] for place in list_places(options.out, k8s.env.cwd).values()]
    listing = list_directory(source.path, own)
    rows = [
        [format_size(size), path, ""] for size, path in list_largest(source.path, listing.paths)
    ]
    rows += [["-", path, rule] for path, rule in sorted(listing.left.items())]
    k8s.console.text(format_table(["SIZE", "FILE", "LEFT OUT BY"], rows))
    for note in listing.notes:
        k8s.console.warn(escape_unprintable(note))
    return ExitCode.OK


RENAMED = {
    **dict.fromkeys(("mem", "cpu", "gpu"), "resources"),
    "env_file": "env",
    "pull_secret": "pull_secrets",
    "rm": "remove",
    "rm_secrets": "remove_secrets",
}


ADDED = set("env label node_selector out port pull_secrets toleration volume".split())
"""Options that may be given several times: what a retry is given comes to what there was."""


def override(old: RunOptions, new: RunOptions, given: Set[str]) -> RunOptions:
    """The options of a run with those that are ``given`` anew; repeatable ones are added."""
    changes = {name: getattr(new, name) for name in given & set(RunOptions._fields)}
    for name in ADDED & given:
        fresh = getattr(new, name)
        changes[name] = (*(item for item in getattr(old, name) if item not in fresh), *fresh)
    if "resources" in given:
        pairs = zip(old.resources, new.resources)
        both = [tuple({**dict(one), **dict(other)}.items()) for one, other in pairs]
        changes["resources"] = Resources(*both)
    if new.job_name and old.former:
        changes.update(job_name=old.job_name, former=old.former._replace(name=new.job_name))
    return old._replace(**changes)


def cmd_retry(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Run again what failed."""
    every = parse_args(["run", os.curdir], build_parser())
    del args.command
    vars(every).update(vars(args))
    new = build_run_options(every, k8s.env)
    given = {RENAMED.get(name, name) for name in vars(args)}
    given.update({"gpu_type"} if "resources" in given and every.gpu else ())
    return k8s.retry_job(args.name, args.index, lambda old: override(old, new, given))


# Lists, logs, secrets


def cmd_ls(k8s: K8sRun, args: argparse.Namespace) -> int:
    """List Jobs and Deployments, or the pods of one."""
    if args.watch if args.name else args.failed:
        what = ["--failed is for the NAME of one job", "-w is for all jobs"][bool(args.name)]
        raise UsageError(what, "leave it out, or see k8r ls --help")
    rows = k8s.list_pods(args.name, args.failed) if args.name else k8s.list_jobs()
    columns, more = (POD_COLUMNS, ["name"]) if args.name else (COLUMNS, ["image", "command"])
    columns = columns + more * (args.output == "wide") + ["line"] * any("line" in it for it in rows)
    texts: Dict[str, Callable[[], str]] = {
        "json": lambda: json.dumps(rows, indent=2) + "\n",
        "yaml": lambda: "".join(format_yaml([rows])),
        "name": lambda: "".join(f"{row['name']}\n" for row in rows),
    }
    if args.watch:
        return watch_ls(k8s, rows, args.output, columns)
    if args.output in texts:
        k8s.console.data(texts[args.output]().encode())
    elif rows:
        k8s.console.text(format_rows(rows, columns, k8s.env.now()))
    else:
        failed = " that failed" * args.failed
        what = f"no pod of {args.name}{failed} is" if args.name else "nothing runs"
        k8s.console.say(f"{what} in namespace {k8s.namespace}")
    return ExitCode.OK


def watch_ls(k8s: K8sRun, rows: List[Object], output: str, columns: List[str]) -> int:
    """`k8r ls -w`: the list, then a row for each change, until it is interrupted."""
    title, widths = [name.upper() for name in columns], [0] * len(columns)
    for row in itertools.chain(rows, k8s.watch_jobs(rows)):
        if output in ("json", "yaml"):
            k8s.console.text(json.dumps(row))
        elif output == "name":
            k8s.console.text(row["name"])
        else:
            now = k8s.env.now()
            if title:
                format_table(title, [format_row(row, columns, now) for row in rows], widths)
            k8s.console.text(format_table(title, [format_row(row, columns, now)], widths))
            title = []
    return ExitCode.OK


def cmd_logs(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Show logs."""
    wanted = LogQuery(
        args.follow, args.tail, args.since, args.timestamps, args.index, args.previous
    )
    if args.prefix:
        wanted = wanted._replace(labels=label_rows(k8s.read_rows(args.name).values()))
    return k8s.get_job_logs(args.name, wanted)


def cmd_exec(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Run a command in a container that runs."""
    for word in args.command or ():
        check_argument("an argument of the command", word)
    return k8s.exec_in_job(args.name, args.command or (), args.index, args.stdin, args.tty)


def cmd_forward(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Forward ports until the run has ended."""
    return k8s.forward_ports(args.name, list(map(parse_forward, args.ports)))


def cmd_cp(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Copy files."""
    remote = r"([a-z0-9][-a-z0-9.]*):(.+)"
    origin, target = re.fullmatch(remote, args.origin), re.fullmatch(remote, args.target)
    if origin and args.target and not target:
        return k8s.copy_from_job(origin.group(1), origin.group(2), args.target, args.index)
    if target and not origin:
        return k8s.copy_to_job(args.origin, target.group(1), target.group(2), args.index)
    if origin or target or args.index is not None:
        raise UsageError("one of both is NAME:PATH, the other one is here", "see k8r cp --help")
    if args.target == "-":
        raise UsageError("results go to a directory", "k8r cp NAME:PATH - passes a file on")
    return k8s.copy_results(args.origin, args.target)


def do_for_each(
    console: Console, names: Iterable[str], act: Callable[[str], Iterator[None]]
) -> int:
    """Do all that can be done, then complain about the rest: raises the last K8rError. What an
    act waits for stands behind its `yield`, and comes when all others have begun.
    """
    failures: List[K8rError] = []
    acts = list(map(act, names))
    for steps in acts * 2:
        try:
            next(steps, None)
        except K8rError as error:
            failures.append(error)
    for failure in failures[:-1]:
        console.error(failure)
    if failures:
        raise failures[-1]
    return ExitCode.OK


def cmd_stop(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Stop Jobs."""
    return do_for_each(k8s.console, args.names, k8s.stop_job)


def sort_out_going(k8s: K8sRun, force: bool) -> Tuple[List[str], List[str]]:
    """What there is to remove, and what is not removed without ``force`` since it goes on."""
    ended, going = k8s.sort_jobs()
    services = k8s.apps_v1.metadata("deployments", {"labelSelector": SELECTOR})
    going += [item["metadata"]["name"] for item in services]
    return (ended + going, []) if force else (ended, going)


def cmd_delete(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Remove Jobs."""
    if bool(args.names) + args.all + args.done != 1:
        raise UsageError("nothing says what to remove", "give names, or --done, or --all")
    going: List[str] = []
    names = args.names or (k8s.sort_jobs()[0] if args.done else [])
    if args.all:
        names, going = sort_out_going(k8s, args.force)

    def delete(name: str) -> Iterator[None]:
        if k8s.delete_job(name, args.force, args.secrets, args.wait):
            if args.wait:
                yield
                k8s.wait_for_removal(name)
            k8s.console.say(f"removed {name}")
        elif args.names:
            raise k8s.no_such_job_error(name)

    do_for_each(k8s.console, names, delete)
    if going:
        what = f"not finished: {', '.join(going[:10])}{', ...' * (len(going) > 10)}"
        raise K8rError(what, f"to stop and remove them: {k8s.command_hint('rm -f --all')}")
    return ExitCode.OK


def cmd_secret(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Keep, list or remove secrets."""
    console = k8s.console
    if args.list:
        rows = k8s.list_secrets()
        header = "NAME JOB VARIABLES AGE".split()
        if rows:
            table = [format_secret_row(row, k8s.env.now()) for row in rows]
            console.text(format_table(header, table))
        return ExitCode.OK
    if not args.name:
        raise UsageError("give the secret's name", "k8r secret NAME VALUE, or k8r secret --list")
    name = parse_secret_name(args.name)
    job_name = parse_job_name(args.job_name, 1) if args.job_name else k8s.get_directory_name()
    if args.delete:
        if not k8s.delete_secret(name, job_name):
            remedy = f"see {k8s.command_hint('secret --list')}"
            raise K8rError(f"there is no secret '{name}' for {job_name}", remedy)
        console.say(f"removed the secret {name} of {job_name}")
        return ExitCode.OK
    value = args.value
    if value is None or value == "-":
        value = read_secret_value(name, value, k8s.env)
    made = k8s.create_secret_with_options(name, value, args.job_name or "", args.show_yaml)
    if args.show_yaml:
        console.data("".join(format_yaml([made])).encode())
        return ExitCode.OK
    console.say(f"jobs named {job_name} in namespace {k8s.namespace} now have the secret {name}")
    return ExitCode.OK


def read_secret_value(name: str, value: Optional[str], env: Environment) -> bytes:
    """A secret's value from standard input, or asked for without echo."""
    if value == "-":
        return env.stdin.read(SECRET_LIMIT + 1)
    if not env.stdin.isatty():
        raise UsageError(f"the secret {name} has no value", f"k8r secret {name} - < FILE")
    import getpass

    return getpass.getpass(f"value of {name}: ").encode()


def format_secret_row(row: Object, now: float) -> List[str]:
    """A row of `k8r secret --list`."""
    age = format_age(now - parse_timestamp(row["created"]))
    return [row["name"], row["job"], ",".join(row["variables"]) or "-", age]


# The shell

SHELL_FUNCTION = """\
k8r() {{
{prepare}  K8R_ORIGINAL_PWD="$PWD" {command} "$@"
}}
if [ -n "${{BASH_VERSION:-}}" ]; then
  eval {bash}
elif [ -n "${{ZSH_VERSION:-}}" ]; then
  eval {zsh}
fi
"""

PREPARE = """\
  if ! [ -x {command} ]; then
    command -v uv > /dev/null || {{
      echo "k8r: uv is missing; install it, or run: sh "{folder}/install.sh >&2
      return 125
    }}
    (cd {folder} && uv sync -q --locked --no-default-groups < /dev/null >&2) || return 125
  fi
"""

BASH_COMPLETION = """
_k8r() {
  local IFS=$'\\n'
  COMPREPLY=($(k8r __complete "${COMP_WORDS[@]:1:COMP_CWORD}" < /dev/null 2> /dev/null))
  [[ ${COMPREPLY[0]-} != */ ]] || compopt -o nospace 2> /dev/null
}
complete -o bashdefault -o default -F _k8r k8r
"""

ZSH_COMPLETION = """
_k8r() {
  local -a found
  found=(${(f)"$(k8r __complete "${(@Q)words[2,CURRENT]}" < /dev/null 2> /dev/null)"})
  if [[ ${found[1]-} = */ ]]; then compadd -S "" -a found
  elif (( $#found )); then compadd -a found; else _files; fi
}
if [[ -o interactive ]] && (( ! $+functions[compdef] )); then
  autoload -Uz compinit && compinit -i
fi
(( ! $+functions[compdef] )) || compdef _k8r k8r
"""
"""Both ask k8r for each word; without an answer the shell completes file names."""


def build_shell_function(folder: str, python: str) -> str:
    """The text of `k8r env`. A checkout gets its dependencies at the first use; a k8r
    without a uv.lock has them in ``python``.
    """
    prepare, folder_word = "", shlex.quote(folder)
    command = f"{shlex.quote(python)} {shlex.quote(os.path.join(folder, 'k8r.py'))}"
    if os.path.exists(os.path.join(folder, "uv.lock")):
        command = shlex.quote(os.path.join(folder, ".venv/bin/k8r"))
        prepare = PREPARE.format(command=command, folder=folder_word)
    bash, zsh = shlex.quote(BASH_COMPLETION), shlex.quote(ZSH_COMPLETION)
    return SHELL_FUNCTION.format(prepare=prepare, command=command, bash=bash, zsh=zsh)


def cmd_env(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Print the shell function."""
    k8s.console.data(build_shell_function(find_installation(), sys.executable).encode())
    return ExitCode.OK


def cmd_update(k8s: K8sRun, args: argparse.Namespace) -> int:
    """Let install.sh of this installation bring it up to date."""
    folder = find_installation()
    if not os.path.islink(folder):
        raise K8rError(
            f"the k8r in {folder} was not installed by install.sh",
            "update it the way you installed it, for instance with git pull",
        )
    command = ["sh", os.path.join(folder, "install.sh"), "--update", *filter(None, [args.branch])]
    environ = dict(k8s.env.environ, K8R_HOME=os.path.dirname(folder))
    return subprocess.run(command, env=environ).returncode


# Completion

COMPLETION_TIMEOUT = 2
"""Seconds for which a shell may have to wait at the Tab key."""


def complete_words(words: Sequence[str], env: Environment) -> List[str]:
    """What the last of the words after `k8r` may become; none for file names. bash splits
    them at `=` and `:`, and of the last one wants what comes behind the colon.
    """
    joined = re.sub("\0:(\0|$)", ":", "\0".join(text for text in words if text != "="))
    *before, word = joined.split("\0")
    kept = 0 if word in words else word.rfind(":") + 1
    if "--" in before:
        return []
    parser = build_parser()
    option, equals, _ = word.partition("=")
    if equals:
        values = complete_option(parser, option, before, env)
        found: Iterable[str] = [f"{option}={value}" for value in values]
    elif before and before[-1] in list_options(parser, valued=True):
        found = complete_option(parser, before[-1], before[:-1], env)
    else:
        found = complete_argument(parser, word, before, env)
    return sorted({text[kept:] for text in found if text.startswith(word)})


def complete_argument(
    parser: Parser, word: str, before: Sequence[str], env: Environment
) -> Iterable[str]:
    """The options or arguments of a subcommand, or the subcommands where none is named."""
    at = find_first_word(before, list_options(parser, valued=True))
    name = "run" if at is None or before[at] not in SUBCOMMANDS else before[at]
    if word.startswith("-"):
        version = {"--version"} if at is None else set()
        return list_options(list_subcommands(parser)[name]) | version
    if at is None:
        return SUBCOMMANDS
    if name == "cp" and ":" in word:
        return complete_remote_path(word, make_lookup(before, env))
    if name in ("ls", "logs", "exec", "forward", "cp", "stop", "retry", "delete", "rm"):
        return make_lookup(before, env).names()
    if name == "secret":
        return [row["name"] for row in make_lookup(before, env).list_secrets()]
    return []


def complete_remote_path(word: str, k8s: K8sRun) -> List[str]:
    """What NAME:PATH may become, but for names that a shell would take for more than that."""
    job, _, path = word.partition(":")
    folder = path[: path.rfind("/") + 1]
    files = k8s.list_files(job, folder or ".")
    return [f"{job}:{folder}{file}" for file in files if re.fullmatch(r"[\w.,+@%=/-]+", file)]


def complete_option(
    parser: argparse.ArgumentParser, option: str, before: Sequence[str], env: Environment
) -> Iterable[str]:
    """What an option may be given."""
    if option == "--context":
        return make_lookup(before, env).contexts()
    if option in ("-n", "--namespace"):
        return make_lookup(before, env).namespaces()
    if option == "--index":
        valued = list_options(parser, valued=True)
        words = before[(find_first_word(before, valued) or 0) + 1 :]
        at = find_first_word(words, valued)
        rows = [] if at is None else make_lookup(before, env).list_pods(words[at].split(":")[0])
        return [str(row["index"]) for row in rows if row["index"] is not None]
    for action in walk_actions(parser):
        if option in action.option_strings and action.choices:
            return [str(choice) for choice in action.choices]
    return []


def make_lookup(before: Sequence[str], env: Environment) -> K8sRun:
    """The cluster that the words of a command line, variables and files mean."""
    parser = Parser(add_help=False)
    add_global_options(parser, top=True)
    args, _ = parser.parse_known_args(list(before))
    defaults = Defaults(env, build_parser(), argparse.Namespace(**vars(args), subcommand="ls"))
    common, _ = defaults.split(defaults.load(Console(env, True, False, "never")))
    args, _ = parser.parse_known_args([*common, *before])
    return K8sRun(args.namespace, args.context, args.kubeconfig, insecure=args.insecure, env=env)


def raise_signal(signum: int, frame: Any) -> NoReturn:
    """Turn a signal into an exception, once: the next one, be it another, ends the process."""
    set_stop_handler(signal.SIG_DFL)
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise Interrupted(signum)


def answer_shell(words: Sequence[str], env: Environment, console: Console) -> int:
    """Answer a shell: soon, and silent about whatever goes wrong."""
    signal.signal(signal.SIGALRM, raise_signal)
    signal.alarm(COMPLETION_TIMEOUT)
    with contextlib.suppress(K8rError, Interrupted, PrintAndExit):
        for text in complete_words(words, env):
            console.text(text)
    return ExitCode.OK


# ==============================================================================
# Main
# ==============================================================================

COMMANDS: Dict[str, Callable[[K8sRun, argparse.Namespace], int]] = {
    "run": cmd_run,
    "ls": cmd_ls,
    "logs": cmd_logs,
    "exec": cmd_exec,
    "forward": cmd_forward,
    "cp": cmd_cp,
    "stop": cmd_stop,
    "retry": cmd_retry,
    "delete": cmd_delete,
    "rm": cmd_delete,
    "secret": cmd_secret,
    "config": cmd_config,
    "env": cmd_env,
    "update": cmd_update,
}


def describe_version() -> str:
    """What --version prints: the release, and the commit where it is known."""
    commit = find_commit(find_installation())
    return f"k8r {__version__}" + (f" ({commit})" if commit else "")


def dispatch(words: Sequence[str], env: Environment, console: Console) -> int:
    """Parse a command line and do what it says; the exit status."""
    if words[:1] == [COMPLETION_WORD]:
        return answer_shell(words[1:], env, console)
    try:
        parser = build_parser()
        args = parse_args(words, parser)
        if args.version:
            raise PrintAndExit(describe_version() + "\n")
        if args.subcommand not in ("config", "env", "update"):
            defaults = Defaults(env, parser, args)
            args = parse_args(words, parser, defaults.split(defaults.load(console)))
    except PrintAndExit as answer:
        console.data(str(answer).encode())
        return ExitCode.OK
    k8s = K8sRun(
        args.namespace,
        args.context,
        args.kubeconfig,
        insecure=args.insecure,
        env=env,
        console=Console(env, args.quiet, args.verbose, args.color),
    )
    try:
        return COMMANDS[args.subcommand](k8s, args)
    finally:
        k8s.console.progress("")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run k8r; returns the exit status. Every error ends here."""
    words = list(sys.argv[1:] if argv is None else argv)
    env = Environment.of_process()
    verbose = bool({"-v", "--verbose"} & set(split_command(words)[0]))
    quiet = bool({"-q", "--quiet"} & set(split_command(words)[0]))
    console = Console(env, quiet, verbose, "never")
    try:
        set_stop_handler(raise_signal)
        try:
            return dispatch(words, env, console)
        finally:
            set_stop_handler(signal.SIG_DFL)  # the end has no ladder of excepts
    except K8rError as error:
        console.trace()
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Interrupted as stop:
        return 128 + stop.signum
    except BrokenPipeError:
        console.abandon()
        return 128 + signal.SIGPIPE
    except Exception as error:
        console.trace()
        # Not its words: those of an HTTP library may quote a header with a token.
        what = f"internal error: {type(error).__name__}"
        console.error(K8rError(what, "run it with -v and report that"))
        return ExitCode.FAILED


def run_and_exit() -> NoReturn:
    """The entry point of the installed command."""
    gc.set_threshold(50_000)  # what modules and answers are made of stays: seldom look through it
    code = main()
    # All ends with the process: the collector need not look through it once more first.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    run_and_exit()
