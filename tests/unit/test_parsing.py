"""Parsing: names, the values of options, sources, kubeconfigs, the API server's answers."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import k8r
from common import usage_error as refused

LEGAL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


# Names


@pytest.mark.parametrize(
    "text, label",
    [
        ("traum", "traum"),
        ("Träum süß!", "traum-suss"),
        ("STRAẞE", "strasse"),
        ("éàü", "eau"),
        ("my_project.v2", "my-project-v2"),
        ("--x--", "x"),
        ("...hidden", "hidden"),
        ("a  b\tc\nd", "a-b-c-d"),
        ("🚀rocket🚀", "rocket"),
        ("🚀", "job-ebbc0b28"),
        ("", "job"),
        ("---", "job"),
        ("日本", "job-cf2abf0c"),
        ("9lives", "9lives"),
        ("a/b:c@d", "a-b-c-d"),
        ("\udcff\udcfex", "x"),
        ("ﬁle", "file"),
        ("x" * 63, "x" * 63),
        ("x" * 64, "x" * 63),
        ("x" * 62 + "-y", "x" * 62),
        ("ß" * 40, "s" * 63),
    ],
)
def test_dns_label(text: str, label: str) -> None:
    """Any text becomes a label that people recognise it by."""
    assert k8r.make_dns_label(text) == label


def test_dns_label_of_other_scripts() -> None:
    """Names that differ only in letters without a Latin equal stay apart, however composed."""
    names = ["日本語", "日本", "Привет", "привет", "app-日", "app", "Łódź", "Łóżź", "\udcff日"]
    assert len({k8r.make_dns_label(name) for name in names}) == len(names)
    assert k8r.make_dns_label("app-日").startswith("app-")
    assert k8r.make_dns_label("がくふ") == k8r.make_dns_label("か\u3099くふ")
    assert len(k8r.make_dns_label("x" * 63 + "日")) == 63
    assert k8r.make_dns_label("x" * 63 + "日") != k8r.make_dns_label("x" * 63 + "本")


@given(st.text(), st.integers(3, 63))
def test_dns_label_is_legal_and_stays(text: str, limit: int) -> None:
    """Whatever the text: a legal label within the limit, which is its own label."""
    label = k8r.make_dns_label(text, limit)
    assert LEGAL.fullmatch(label)
    assert len(label) <= limit
    assert k8r.make_dns_label(label, limit) == label


@pytest.mark.parametrize(
    "num, limit", [(1, 63), (2, 61), (10, 61), (11, 60), (100, 60), (101, 59), (1000, 59)]
)
def test_name_limit(num: int, limit: int) -> None:
    """With the last index behind it, a name still is a DNS label."""
    assert k8r.get_name_limit(num) == limit


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a--b", "train-2", "x" * 63])
def test_job_name_is_taken_as_it_is(name: str) -> None:
    """A legal name is not touched."""
    assert k8r.parse_job_name(name, 1) == name


@pytest.mark.parametrize(
    "name, num, offered",
    [
        ("Train", 1, "train"),
        ("a_b", 1, "a-b"),
        ("-a", 1, "a"),
        ("a-", 1, "a"),
        ("a.b", 1, "a-b"),
        ("", 1, "job"),
        ("ä", 1, "a"),
        ("a\n", 1, "a"),
        ("x" * 64, 1, "x" * 63),
        ("x" * 62, 2, "x" * 61),
        ("x" * 61, 11, "x" * 60),
    ],
)
def test_bad_job_name_is_refused(name: str, num: int, offered: str) -> None:
    """An illegal name is refused, and a legal one that is like it is offered."""
    error = refused(k8r.parse_job_name, name, num)
    assert error.hint == f"for instance --job-name {offered}"
    assert k8r.parse_job_name(offered, num) == offered


def test_candidate_names() -> None:
    """First the name itself, then with a number."""
    assert list(islice(k8r.generate_names("train", 1), 3)) == ["train", "train-1", "train-2"]
    long = list(islice(k8r.generate_names("x" * 63, 1), 11))
    assert long[0] == "x" * 63
    assert long[1] == "x" * 61 + "-1"
    assert long[10] == "x" * 60 + "-10"
    assert next(k8r.generate_names("x" * 63, 20)) == "x" * 60


@given(st.text(alphabet="ab-1", min_size=1, max_size=70), st.integers(1, 2000))
def test_candidate_names_are_legal(text: str, num: int) -> None:
    """All candidates are legal names for that many pods, and short enough."""
    for name in islice(k8r.generate_names(k8r.make_dns_label(text), num), 30):
        assert k8r.parse_job_name(name, num) == name


@given(st.text(alphabet="ab-1", min_size=1, max_size=70), st.integers(1, 2000))
def test_candidate_names_differ(text: str, num: int) -> None:
    """No name is tried twice."""
    names = list(islice(k8r.generate_names(k8r.make_dns_label(text), num), 30))
    assert len(set(names)) == len(names)


def test_candidate_names_differ_at_the_limit() -> None:
    """A name that already ends like its own first candidate is not tried twice."""
    names = list(islice(k8r.generate_names("x" * 61 + "-1", 1), 5))
    assert len(set(names)) == len(names)


# Values of options


@pytest.mark.parametrize("text, value", [("1", 1), ("007", 7), ("999999999", 999_999_999)])
def test_count(text: str, value: int) -> None:
    """A count is a plain whole number."""
    assert k8r.parse_count(text) == value
    assert k8r.parse_number(text) == value


NO_NUMBERS = ["", "-1", "+1", "1.0", "1e3", "x", " 1", "1 ", "1_0", "٣", "1000000000", "0x1", "1\n"]


@pytest.mark.parametrize("text", ["0", "00", *NO_NUMBERS])
def test_no_count(text: str) -> None:
    """Less than one is not a valid count."""
    assert "is not a valid count" in refused(k8r.parse_count, text).message


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_no_number(text: str) -> None:
    """Nor is anything but digits a number."""
    assert "is not a valid number" in refused(k8r.parse_number, text).message


def test_zero_is_a_number() -> None:
    """Where none is allowed, 0 is."""
    assert k8r.parse_number("0") == 0


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d1h1m1s", 90_061),
        ("1H", 3600),
        (" 5m ", 300),
        ("0h5m", 300),
        ("90m", 5400),
        ("2147483647", 2**31 - 1),
    ],
)
def test_duration(text: str, seconds: int) -> None:
    """Seconds alone, or units from large to small."""
    assert k8r.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "-5", "1.5h", "5x", "m", "1m1h", "1h 5m", "5 m", "١m", "2147483648", "99999d"],
)
def test_no_duration(text: str) -> None:
    """All else is refused, and so is what the cluster would not take."""
    error = refused(k8r.parse_duration, text)
    assert error.message == f"'{text}' is not a valid duration"
    assert "1h30m" in error.hint


@given(st.integers(1, 2**31 - 1))
def test_durations_round_trip(seconds: int) -> None:
    """However many seconds, written in units they are the same again."""
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    assert k8r.parse_duration(f"{days}d{hours}h{minutes}m{rest}s") == seconds
    units = ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s"))
    assert k8r.parse_duration("".join(f"{n}{unit}" for n, unit in units if n)) == seconds
    assert k8r.parse_duration(str(seconds)) == seconds


@pytest.mark.parametrize(
    "text, pair",
    [
        ("A=b", ("A", "b")),
        ("A=", ("A", "")),
        ("A=b=c", ("A", "b=c")),
        ("_a1=x y\nz", ("_a1", "x y\nz")),
        ("HERE", ("HERE", "found=here")),
        ("EMPTY", ("EMPTY", "")),
        ("discovery.type=single-node", ("discovery.type", "single-node")),
        ("my-var=x", ("my-var", "x")),
        ("1A=x", ("1A", "x")),
    ],
)
def test_variable(text: str, pair: Tuple[str, str]) -> None:
    """The first = divides; without one the value is taken from here."""
    assert k8r.parse_variable(text, {"HERE": "found=here", "EMPTY": ""}) == pair


@pytest.mark.parametrize("text", ["", "=x", "A B=x", " A=x", "Ä=x", "A\tB", "A\x7f=x"])
def test_variable_with_a_bad_name(text: str) -> None:
    """Only names that docker and Kubernetes take."""
    assert "is not a valid variable name" in refused(k8r.parse_variable, text, {}).message


def test_variable_that_is_not_set() -> None:
    """No value here is an error and not an empty value."""
    error = refused(k8r.parse_variable, "GONE", {})
    assert error.message == "the variable GONE is not set here"
    assert error.hint == "write --env GONE=VALUE"


@pytest.mark.parametrize("text", ["x" * 131_071, "ä" * 65_535, "", "🚀"])
def test_argument_that_fits(text: str) -> None:
    """131,071 bytes is what Linux takes, counted in bytes."""
    k8r.check_argument("it", text)


@pytest.mark.parametrize("text", ["x" * 131_072, "ä" * 65_536, "a\0b", "a\udcff", "\ud800"])
def test_argument_that_does_not_fit(text: str) -> None:
    """One more, a NUL, or what JSON cannot carry, is refused where it can be explained."""
    assert refused(k8r.check_argument, "it", text).message.startswith("it ")


def test_variable_counts_with_its_name() -> None:
    """Linux counts NAME=VALUE."""
    assert k8r.parse_variable("A=" + "x" * 131_069, {})[1] == "x" * 131_069
    refused(k8r.parse_variable, "A=" + "x" * 131_070, {})
    refused(k8r.parse_variable, "A", {"A": "x" * 131_070})


@pytest.mark.parametrize(
    "text, quantity",
    [
        ("512Mi", "512Mi"),
        ("2gb", "2Gi"),
        ("2GB", "2Gi"),
        ("2g", "2Gi"),
        ("2G", "2G"),
        ("2M", "2M"),
        ("2m", "2Mi"),
        ("2T", "2T"),
        ("1.5gb", "1.5Gi"),
        ("64k", "64Ki"),
        ("64kb", "64Ki"),
        ("1Ti", "1Ti"),
        ("1tb", "1Ti"),
        ("1000000", "1000000"),
        ("1000000b", "1000000"),
        ("65536", "65536"),
    ],
)
def test_memory(text: str, quantity: str) -> None:
    """Kubernetes' suffixes keep their meaning, docker's are powers of 1024."""
    assert k8r.parse_memory(text) == quantity


@pytest.mark.parametrize("text", ["", "0", "0Gi", "x", "-1", "2x", "2 gb", "gb", "1e3", "2bb", "."])
def test_no_memory(text: str) -> None:
    """Nothing that the cluster would refuse, or take for something else."""
    assert "is not a valid amount of memory" in refused(k8r.parse_memory, text).message


@pytest.mark.parametrize("text", ["4", "512", "1b", "1.5", "65535"])
def test_bytes_are_hardly_meant(text: str) -> None:
    """What has no unit, and is too little for any program."""
    error = refused(k8r.parse_memory, text)
    assert "too few" in error.message and error.hint == f"write {text.rstrip('b')}gb"


@pytest.mark.parametrize("text", ["2", "0.5", "500m", "1.25", "64"])
def test_cpu(text: str) -> None:
    """CPUs are Kubernetes' own notation."""
    assert k8r.parse_cpu(text) == text


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "2k", "m", ".5", "1,5", "2 "])
def test_no_cpu(text: str) -> None:
    """Anything else is refused."""
    assert "is not a valid number of CPUs" in refused(k8r.parse_cpu, text).message


@pytest.mark.parametrize(
    "text, number",
    [("1.5Gi", 1.5 * 2**30), ("100m", 0.1), ("1e3", 1000.0), ("12E-1", 1.2), ("+.5k", 500.0)]
    + [("2E", 2e18), ("5.", 5.0), ("9" * 400, 2.0**63), ("1e999", 2.0**63)]
    + [(text, 0.0) for text in ("", ".", "1.1.M", "1e", "1e3M", "1 Gi", "Gi", "-1", "\u0663")],
)
def test_quantity(text: str, number: float) -> None:
    """What the API server may say; no text ends in a traceback."""
    assert k8r.convert_quantity(text) == pytest.approx(number)


def test_range() -> None:
    """One value is both ends."""
    assert k8r.parse_range("2gb-8gb", k8r.parse_memory) == ("2Gi", "8Gi")
    assert k8r.parse_range("2gb", k8r.parse_memory) == ("2Gi", "2Gi")
    assert k8r.parse_range("500m-2", k8r.parse_cpu) == ("500m", "2")
    for text in ("-", "2-", "-2", "1-2-3"):
        refused(k8r.parse_range, text, k8r.parse_cpu)


def test_resources() -> None:
    """The low end is requested, the high end is the limit; GPUs are a limit only."""
    made = k8r.parse_resources("2gb-8gb", "500m", 2)
    assert made.requests == (("memory", "2Gi"), ("cpu", "500m"))
    assert made.limits == (("memory", "8Gi"), ("cpu", "500m"), ("nvidia.com/gpu", "2"))
    assert k8r.parse_resources(None, None, None) == k8r.Resources()


@pytest.mark.parametrize(
    "mem, cpu", [("8gb-2gb", None), (None, "2-500m"), ("1Gi-1000Mi", None), (None, "1-0.5")]
)
def test_resources_the_wrong_way_round(mem: Optional[str], cpu: Optional[str]) -> None:
    """The API server refuses a request above its limit; k8r says so before."""
    refused(k8r.parse_resources, mem, cpu, None)


# Sources

DIGEST = "sha256:" + "0123456789abcdef" * 4

IMAGES = [
    ("alpine", "alpine"),
    ("alpine:latest", "alpine"),
    ("python:3.12-slim", "python"),
    ("library/python", "python"),
    ("docker.io/library/python:3", "python"),
    ("localhost/app", "app"),
    ("localhost:5000/app", "app"),
    ("localhost:5000/team/app:v1_2", "app"),
    ("registry.example.org:443/a/b/c:1@" + DIGEST, "c"),
    ("[::1]:5000/app", "app"),
    ("app@" + DIGEST, "app"),
    ("gcr.io/default-project/my_app.x--y:t", "my_app.x--y"),
    ("a:" + "t" * 128, "a"),
    ("192.168.0.1:5000/app:x", "app"),
]


@pytest.mark.parametrize("text, name", IMAGES)
def test_image(text: str, name: str) -> None:
    """Every valid reference is an image, and has a name to call a run by."""
    assert k8r.detect_source_type(text, "") == "container"
    assert k8r.get_image_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "alpine:",
        ":latest",
        "alpine:a:b",
        "al pine",
        "alpine\n",
        "-alpine",
        "alpine-",
        "a___b",
        "a//b",
        "alpine:.x",
        "a:" + "t" * 129,
        "älpine",
        "alpine@",
        "--help",
    ],
)
def test_neither_image_nor_directory(text: str) -> None:
    """What is nothing is refused, and both notations are shown."""
    error = refused(k8r.detect_source_type, text, "")
    assert error.message == f"'{text}' is not a directory, git URL, Dockerfile or container image"
    assert "./" in error.hint and "NAME[:TAG]" in error.hint


@pytest.mark.parametrize("text", [".", "./", "..", "src", "src/", "~", "/tmp", "alpine", "a:b"])
def test_directory(text: str) -> None:
    """A directory that exists is meant, even if it is named like an image."""
    assert k8r.detect_source_type(text, "directory") == "directory"


@pytest.mark.parametrize("text", ["./x", "../x", "/x", "~/x", "x/", "a/b/", ".", "..", "~x"])
def test_missing_directory(text: str) -> None:
    """What looks like a path is not taken for an image."""
    assert k8r.is_path_like(text)
    error = refused(k8r.detect_source_type, text, "")
    assert error.message == f"there is no directory '{text}'"


@pytest.mark.parametrize("text", ["x", "a/b", "a:b", ".x", "x.", "..."])
def test_not_path_like(text: str) -> None:
    """A plain word is not clearly a path."""
    assert not k8r.is_path_like(text)


@pytest.mark.parametrize(
    "text, folder",
    [("train.py", "./"), ("./train.py", "./"), ("src/train.py", "src/"), ("/x/y.py", "/x/")],
)
def test_plain_file(text: str, folder: str) -> None:
    """A file is refused with the command line that would do."""
    error = refused(k8r.detect_source_type, text, "file")
    assert error.message == f"'{text}' is a file, neither a directory nor a Dockerfile"
    assert f"k8r {folder} -- COMMAND" in error.hint


GIT_URLS = [
    ("https://github.com/org/repo", "repo"),
    ("https://github.com/org/repo.git", "repo"),
    ("https://user:token@host:8443/a/b/repo.git/", "repo"),
    ("http://localhost:3000/repo", "repo"),
    ("ssh://git@host:22/org/repo.git", "repo"),
    ("git://host/repo", "repo"),
    ("git@github.com:org/repo.git", "repo"),
    ("me@host:repo", "repo"),
    ("deploy-user@my-host.example.org:~/x/repo.git", "repo"),
    ("user@host.xz:/path/to/repo.git/", "repo"),
    ("host.xz:path/to/repo.git/", "repo"),
    ("host.xz:/repo", "repo"),
    ("git:~user/repo.git", "repo"),
    ("me@[::1]:repo", "repo"),
    ("[::1]:org/repo", "repo"),
    ("me@[host:22]:repo", "repo"),
    ("ssh://user@host.xz:22/~user/repo.git", "repo"),
    ("ssh://[::1]:22/repo", "repo"),
    ("git+ssh://host/repo", "repo"),
    ("SSH://host/repo", "repo"),
    ("https://müller.example/repo", "repo"),
    ("https://host.example/repo@v1", "repo@v1"),
    ("https://host/org/repo/.git", "repo"),
    # Nothing of a login or a query is part of a name.
    ("https://user:PASSWORD@host/", "host"),
    ("https://user:PASSWORD@host", "host"),
    ("https://TOKEN@host:8443/", "host"),
    ("https://user:PA@SS@host.example/", "host.example"),
    ("https://host/repo.git?private_token=TOKEN", "repo"),
]


@pytest.mark.parametrize("text, name", GIT_URLS)
def test_git_url(text: str, name: str) -> None:
    """A URL, or scp's notation, is a repository, which gives the run its name."""
    assert k8r.detect_source_type(text, "") == "github"
    assert k8r.get_repository_name(text) == name


@pytest.mark.parametrize(
    "text",
    ["ftp://host/x", "ftps://host/x", "https://", "https://a b", "file:///x", "-u@host:x"]
    + ["@host:x", "git@host", "git@host:", "git@host:-x", "-host.xz:x/y", "ssh:///x", "ssh://-h/x"]
    + ["ssh://-oProxyCommand=x@h/x", "ext::sh", "https://u:p\x1b@h/x", "https://u:p%0A@h/x"]
    + ["alpine@md5:x", "alpine@blake3:ab/c", "ssh://host", "git://host:22", "git+ssh://me@host"]
    + ["C:\\x", "git+https://host/x", "ssh://u:p@host/x", "git+ssh://u:p@host/x", "a.b:c@d/e"],
)
def test_no_git_url(text: str) -> None:
    """Nothing that git in the cluster could not clone, and no option of git."""
    refused(k8r.detect_source_type, text, "")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:SECRET/SECRET@host.example/x",
        "https://user:SECRET@SECRET/SECRET@host/x",
        "https://SECRET/SECRET@host/x",
        "https://first.last:1/SECRET@host/x",
        "https://user:SECRET SECRET@host/x",
        "https://user:SECRET\nSECRET@host/x",
        "https://user:SECRET%0ASECRET@host/x",
        "ssh://git:SECRET@host/x",
        "ssh://git:SECRET/SECRET@host/x",
        "ftp://user:SECRET/@SECRET@host/x",
        "user:SECRET@host.example/x.git",
        "user:SECRET@host.example:org/x.git",
        "user:SECRET/SECRET@host.example:org/x.git",
    ],
)
def test_password_that_is_not_clear(url: str) -> None:
    """A URL whose password cannot be told from the rest is refused, and not repeated."""
    error = refused(k8r.detect_source_type, url, "")
    assert "SECRET" not in error.message + error.hint


@pytest.mark.parametrize("url, protocol", [(url, url.partition("://")[0]) for url, _ in GIT_URLS])
def test_git_urls_are_those_of_git(url: str, protocol: str) -> None:
    """git itself takes what k8r takes for a URL of SSH or of its own protocol for one."""
    if protocol.lower() in ("http", "https"):
        assert "://" in url
        return
    lower = k8r.split_credentials(url)[0]
    told = subprocess.run(
        ["git", "fetch-pack", "--diag-url", lower], stdout=subprocess.PIPE, check=True
    )
    assert f"protocol={'git' if protocol == 'git' else 'ssh'}\n" in told.stdout.decode()


@pytest.mark.parametrize(
    "text, words",
    [
        ("alpine@sha256:abc", "64 digits"),
        ("alpine@sha256:" + "a" * 40, "not 40 characters"),
        ("alpine:3@sha256:" + "A" * 64, "0-9a-f"),
        ("r.example/a/b@sha512:" + "a" * 64, "128 digits"),
        ("user@sha256:org/x.git", "64 digits"),
        ("Alpine", "lower case"),
        ("Alpine:Latest", "lower case"),
        ("registry.example:5000/Team/App", "lower case"),
    ],
)
def test_image_that_is_almost_one(text: str, words: str) -> None:
    """A digest that was not copied whole and capitals are named, and nothing is cloned."""
    for check in (lambda: k8r.detect_source_type(text, ""), lambda: k8r.parse_image(text)):
        assert words in refused(check).hint


@pytest.mark.parametrize("text", ["alpine@" + DIGEST, "a.b-c@" + DIGEST, "x_y@" + DIGEST])
def test_digest_is_not_scp(text: str) -> None:
    """An image by digest is not host and path, though it looks like that."""
    assert k8r.detect_source_type(text, "") == "container"


@pytest.mark.parametrize(
    "text",
    ["Dockerfile", "./Dockerfile", "x/Dockerfile.dev", "gpu.Dockerfile", "/a/Dockerfile"]
    + ["dockerfile", "x.dockerfile", "DOCKERFILE.gpu", "Containerfile", "x/containerfile"],
)
def test_dockerfile(text: str) -> None:
    """A Dockerfile is known by its name, and must be there."""
    assert k8r.detect_source_type(text, "file") == "dockerfile"
    assert refused(k8r.detect_source_type, text, "").message == f"there is no file '{text}'"


@pytest.mark.parametrize("text", ["MyDockerfile", "Dockerfile-x", "x.Containerfile", ".dockerfile"])
def test_no_dockerfile(text: str) -> None:
    """Another name does not make a file one."""
    assert not k8r.is_dockerfile(text)
    refused(k8r.detect_source_type, text, "file")


def test_image_name_of_anything() -> None:
    """What is no reference keeps its last part."""
    assert k8r.get_image_name("X/Y Z") == "Y Z"


@pytest.mark.parametrize(
    "url, parts",
    [
        ("https://host/x", ("https://host/x", "", "")),
        ("https://u:p@host/x", ("https://host/x", "u", "p")),
        ("https://token@host/x", ("https://host/x", "token", "")),
        ("https://u:p%40s%2Fs@host:8443/x", ("https://host:8443/x", "u", "p@s/s")),
        ("https://u:a:b@host/x", ("https://host/x", "u", "a:b")),
        ("http://:p@host/x", ("http://host/x", "", "p")),
        ("https://host/x@y", ("https://host/x@y", "", "")),
        ("ssh://git@host/x", ("ssh://git@host/x", "", "")),
        ("git@host:x", ("git@host:x", "", "")),
        # As git and curl do it: the last @ before the path divides.
        ("https://u:p@ss@host/x", ("https://host/x", "u", "p@ss")),
    ],
)
def test_credentials_in_a_url(url: str, parts: Tuple[str, str, str]) -> None:
    """Nothing of them stays in the URL, which is there for all to see."""
    assert k8r.split_credentials(url) == parts


REFS = (
    ["main", "v1.2", "feature/x-y", "a" * 40, "0123abc", "ä", "x@y", "pull/7/head", "HEAD", "@x"]
    + ["refs/tags/a/b", "refs/pull/7/head", "a./b", "a.lockx", "release/1.0", "{", "a{b}", "#1"]
    + ["", "@", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "/a", "a/", "a//b"]
    + ["a.", "a.lock", "a.lock/b", "a@{1}", "a\n", "\x7f", ".a", "a/.b", "refs/heads/.x", "a\tb"]
)


def is_ref_of_git(ref: str) -> bool:
    """What git itself says of a name."""
    command = ["git", "check-ref-format", "--allow-onelevel", ref]
    return subprocess.run(command).returncode == 0


@pytest.mark.parametrize("ref", REFS)
def test_ref(ref: str) -> None:
    """Branches, tags and commits, as git names them."""
    if is_ref_of_git(ref):
        assert k8r.parse_ref(ref) == ref
    else:
        refused(k8r.parse_ref, ref)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from(list("ab/.@{~^:?*[\\ lock\x01\x7fä-")), max_size=8))
def test_any_ref(ref: str) -> None:
    """git and k8r agree on every name, but for those that look like an option."""
    if not ref.startswith("-"):
        test_ref(ref)


@pytest.mark.parametrize("ref", ["-x", "--upload-pack=x", "\udcff"])
def test_no_ref(ref: str) -> None:
    """What would be an option of git, or cannot be sent."""
    refused(k8r.parse_ref, ref)


# Secrets and variables


def use(name: str, *keys: str) -> k8r.SecretUse:
    """A secret in a container."""
    return k8r.SecretUse(name, f"train-{name}", keys)


@pytest.mark.parametrize(
    "given_use, variables",
    [
        (use("db", "password", "user"), {"DB_PASSWORD": "password", "DB_USER": "user"}),
        (use("token", "token"), {"TOKEN": "token", "TOKEN_TOKEN": "token"}),
        (use("api-key", "api-key"), {"API_KEY": "api-key", "API_KEY_API_KEY": "api-key"}),
        (use("token", "token", "x"), {"TOKEN_TOKEN": "token", "TOKEN_X": "x"}),
        (use("cert", "tls.crt"), {"CERT_TLS_CRT": "tls.crt"}),
        (use("9", "x"), {}),
        (use("9x", "9x"), {}),
        (use("empty"), {}),
    ],
)
def test_variables_of_a_secret(given_use: k8r.SecretUse, variables: Dict[str, str]) -> None:
    """{SECRET}_{KEY}, and plain {SECRET} for a secret that is one value."""
    assert k8r.list_secret_variables(given_use) == variables


def test_secrets_that_collide() -> None:
    """Two secrets for one variable are an error, not a question of order."""
    k8r.check_collisions([use("a", "b"), use("a-c", "b"), use("b", "b")], "rm")
    error = refused(k8r.check_collisions, [use("a-b", "c"), use("a", "b-c")], "k8r secret --delete")
    assert "A_B_C" in error.message and "'a-b'" in error.message and "'a'" in error.message


@pytest.mark.parametrize("name", ["a", "db-password", "0", "x" * 63])
def test_secret_name(name: str) -> None:
    """What can be a part of an object's name."""
    assert k8r.parse_secret_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "a.b", "-a", "a-", "x" * 64, "ä", "a\n"])
def test_bad_secret_name(name: str) -> None:
    """Another name is refused, and one like it offered."""
    error = refused(k8r.parse_secret_name, name)
    assert k8r.parse_secret_name(error.hint.split()[-1])


def test_secret_data() -> None:
    """The API server's rules for keys and size, before it is asked."""
    k8r.check_secret_data("db", {"a": b"", "A-b_c.d": b"x", ".env": b"", "k" * 253: b""})
    k8r.check_secret_data("db", {"a": b"x" * 1_048_575, "b": b"x"})
    assert (
        "1.0 MiB"
        in refused(k8r.check_secret_data, "db", {"a": b"x" * 1_048_576, "b": b"x"}).message
    )
    for key in ("", ".", "..", "..x", "a b", "a/b", "ä", "k" * 254, "a\x1b", "a\n"):
        assert "\x1b" not in refused(k8r.check_secret_data, "db", {key: b""}).message


def test_keys_that_make_one_variable() -> None:
    """Which of them it would hold is nothing to be guessed at."""
    error = refused(k8r.check_secret_data, "db", {"a-b": b"x", "a.b": b""})
    assert "DB_A_B" in error.message and "'a-b'" in error.message and "'a.b'" in error.message


def test_values_that_can_be_variables() -> None:
    """Text without NUL, and not too long; others are files only."""
    for value in (b"", b"x", "ä\n".encode()):
        assert k8r.is_variable_value("NAME", value)
    for value in (b"\0", b"\xff", b"x" * 131_072):
        assert not k8r.is_variable_value("NAME", value)


@pytest.mark.parametrize("length", [131_060, 131_067, 131_068, 131_070])
def test_long_values_count_with_their_names(length: int) -> None:
    """A key is only a variable where Linux takes NAME=VALUE."""
    made = k8r.build_secret("db", "train", {"key": b"x" * length})
    fits = len("DB_KEY=") + length <= 131_071
    assert k8r.read_secret_use(made).keys == (("key",) if fits else ())


def test_env_file() -> None:
    """As docker reads it: nothing is unquoted, comments are lines of their own."""
    text = "# comment\n\nA=1\n  # x\n B=two words # three\nC='q'\nHERE\nD=\r\nE=a=b"
    assert k8r.parse_env_file(text, "f", {"HERE": "h"}) == [
        ("A", "1"),
        ("B", "two words # three"),
        ("C", "'q'"),
        ("HERE", "h"),
        ("D", ""),
        ("E", "a=b"),
    ]
    assert k8r.parse_env_file("", "f", {}) == []


@pytest.mark.parametrize(
    "text, line", [("A=1\nB C=2", 2), ("export A=1", 1), ("export A", 1), ("\n\n=x", 3), ("A ", 1)]
)
def test_bad_env_file(text: str, line: int) -> None:
    """The file and the line are named."""
    assert refused(k8r.parse_env_file, text, "my.env", {}).message.startswith(
        f"my.env, line {line}:"
    )


def test_env_file_as_docker_reads_it() -> None:
    """A name that is not set here is left out; CRLF ends a line, a lone CR does not."""
    text = "UNSET_ELSEWHERE\nA=1\r\nB=x\ry\r\n\r\ndiscovery.type=single-node\nmy-var=2\r"
    assert k8r.parse_env_file(text, "f", {}) == [
        ("A", "1"),
        ("B", "x\ry"),
        ("discovery.type", "single-node"),
        ("my-var", "2"),
    ]


def test_env_file_keeps_values_whole() -> None:
    """Only a newline ends a line: a value may hold what Unicode calls one."""
    assert k8r.parse_env_file("A=x\x0by\u2028z\x85", "f", {}) == [("A", "x\x0by\u2028z\x85")]


@pytest.mark.parametrize("text", ["1", "80", "65535", "08080"])
def test_port(text: str) -> None:
    """What TCP has."""
    assert k8r.parse_port(text) == int(text)


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "http", "1.5", "80/udp"])
def test_no_port(text: str) -> None:
    """And nothing else."""
    refused(k8r.parse_port, text)


# The command line


@pytest.mark.parametrize(
    "argv, before, command",
    [
        ([], [], None),
        (["a", "b"], ["a", "b"], None),
        (["a", "--"], ["a"], []),
        (["--", "a"], [], ["a"]),
        (["a", "--", "b", "--", "c"], ["a"], ["b", "--", "c"]),
        (["a", "--x", "--", "-y"], ["a", "--x"], ["-y"]),
    ],
)
def test_split_command(argv: List[str], before: List[str], command: Optional[List[str]]) -> None:
    """The first -- divides, and later ones belong to the command."""
    assert k8r.split_command(argv) == (before, command)


@given(st.lists(st.sampled_from(["--", "a", "-x", "", "--y=--"])))
def test_split_command_loses_nothing(argv: List[str]) -> None:
    """Put together again it is the same command line."""
    before, command = k8r.split_command(argv)
    assert "--" not in before
    assert before + ([] if command is None else ["--", *command]) == argv


@pytest.mark.parametrize(
    "argv, position",
    [
        ([], None),
        (["-v"], None),
        (["ls"], 0),
        (["-v", "ls"], 1),
        (["-n", "x", "ls"], 2),
        (["-n", "x"], None),
        (["-n"], None),
        (["-n=x", "ls"], 1),
        (["--name=x", "ls"], 1),
        (["--name", "-v", "ls"], 2),
        (["-", "ls"], 0),
    ],
)
def test_first_word(argv: List[str], position: Optional[int]) -> None:
    """Options and their values are passed over."""
    assert k8r.find_first_word(argv, {"-n", "--name"}) == position


# Kubeconfig


def kubeconfig(name: str, current: str = "", **user: Any) -> Dict[str, Any]:
    """A kubeconfig with one cluster, user and context, all of that name."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}"}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }


def test_of_equal_names_the_first_counts() -> None:
    """kubectl's rule for several files."""
    first, second = kubeconfig("a", token="1"), kubeconfig("a", "a", token="2")
    second["clusters"].append({"name": "b", "cluster": {"server": "https://b"}})
    merged = k8r.merge_kubeconfigs([("/1", first), ("/2", second)])
    assert merged["users"] == {"a": ("/1", {"token": "1"})}
    assert list(merged["clusters"]) == ["a", "b"]
    assert merged["current-context"] == "a"


def test_of_current_contexts_the_first_counts() -> None:
    """The first that is set, not the last."""
    parts = [("/", kubeconfig("a", "")), ("/", kubeconfig("b", "b")), ("/", kubeconfig("c", "c"))]
    merged = k8r.merge_kubeconfigs(parts)
    assert merged["current-context"] == "b"
    assert k8r.pick_context(merged, None)["cluster"]["server"] == "https://b"
    assert k8r.pick_context(merged, "c")["cluster"]["server"] == "https://c"


def test_relative_paths() -> None:
    """They are relative to the file that they stand in; a plugin's name is not."""
    part = kubeconfig("a", **{"client-certificate": "c.pem", "client-key": "/k.pem"})
    part["clusters"][0]["cluster"]["certificate-authority"] = "sub/ca.pem"
    part["users"][0]["user"]["tokenFile"] = "../token"
    part["users"].append({"name": "p", "user": {"exec": {"command": "./plugin", "args": ["x"]}}})
    part["users"].append({"name": "q", "user": {"exec": {"command": "plugin"}}})
    merged = k8r.merge_kubeconfigs([("/etc/kube", part)])
    cluster = k8r.pick_entry(merged, "cluster", "a")
    assert cluster["certificate-authority"] == "/etc/kube/sub/ca.pem"
    user, plugin, named = (k8r.pick_entry(merged, "user", name) for name in ("a", "p", "q"))
    assert user["client-certificate"] == "/etc/kube/c.pem"
    assert user["client-key"] == "/k.pem"
    assert user["tokenFile"] == "/etc/kube/../token"
    assert plugin["exec"] == {"command": "/etc/kube/./plugin", "args": ["x"]}
    assert named["exec"] == {"command": "plugin"}
    assert part["users"][1]["user"]["exec"]["command"] == "./plugin", "the input is not changed"


def test_empty_sections() -> None:
    """`kubectl config` writes null for an empty section."""
    part = {"clusters": None, "users": None, "contexts": None}
    merged = k8r.merge_kubeconfigs([("/", part), ("/", kubeconfig("a", "a"))])
    assert k8r.pick_context(merged, None)["current-context"] == "a"
    merged = k8r.merge_kubeconfigs([("/", {"users": [{"name": "a", "user": None}]})])
    assert k8r.pick_entry(merged, "user", "a") == {}


def test_picked_context() -> None:
    """One context, with what it names and nothing else."""
    merged = k8r.merge_kubeconfigs([("/", kubeconfig("a", "a")), ("/", kubeconfig("b"))])
    picked = k8r.pick_context(merged, None)
    assert picked == {
        "current-context": "a",
        "namespace": None,
        "cluster": {"server": "https://a"},
        "user": {},
    }


def test_context_without_user() -> None:
    """It is anonymous, for a cluster behind a proxy."""
    part = kubeconfig("a", "a")
    del part["contexts"][0]["context"]["user"]
    assert k8r.pick_context(k8r.merge_kubeconfigs([("/", part)]), None)["user"] == {}


def test_missing_contexts() -> None:
    """A context that is missing is named, with those that there are."""
    merged = k8r.merge_kubeconfigs([("/", kubeconfig("b")), ("/", kubeconfig("a"))])
    error = refused(k8r.pick_context, merged, None)
    assert error.message == "the kubeconfig has no current context"
    assert error.hint.endswith("a, b")
    error = refused(k8r.pick_context, merged, "c")
    assert error.message == "there is no context 'c' in the kubeconfig"
    assert error.hint == "there are: a, b"
    assert refused(k8r.pick_context, k8r.merge_kubeconfigs([]), None).hint.endswith("none")


@pytest.mark.parametrize("section, kind", [("clusters", "cluster"), ("users", "user")])
def test_missing_parts(section: str, kind: str) -> None:
    """A context that points at nothing is said to."""
    part = kubeconfig("a", "a")
    part[section] = []
    error = refused(k8r.pick_context, k8r.merge_kubeconfigs([("/", part)]), None)
    assert f"names the {kind} 'a', which the kubeconfig lacks" in error.message


def reader(cwd: Path, environ: Dict[str, str], **target: Any) -> k8r.Kubeconfig:
    """The kubeconfig of a command line, which is read when it is asked for."""
    return k8r.Kubeconfig(k8r.Target(**target), environ, str(cwd))


def write_kubeconfig(path: Path, name: str, namespace: str, current: bool = True) -> str:
    """Write one, with a namespace to know it by."""
    part = kubeconfig(name, name if current else "")
    part["contexts"][0]["context"]["namespace"] = namespace
    path.write_text(json.dumps(part))
    return str(path)


def test_kubeconfig_list(tmp_path: Path) -> None:
    """KUBECONFIG is a list: its first current context counts, missing files do not."""
    one = write_kubeconfig(tmp_path / "one", "a", "first", current=False)
    two = write_kubeconfig(tmp_path / "two", "b", "second")
    three = write_kubeconfig(tmp_path / "three", "c", "third")
    environ = {"KUBECONFIG": f"{tmp_path}/gone:{one}::{two}:{three}"}
    assert reader(tmp_path, environ).namespace == "second"
    assert reader(tmp_path, environ).context_name == "b"
    assert reader(tmp_path, environ, context="a").namespace == "first"
    assert reader(tmp_path, environ, context="a", namespace="mine").namespace == "mine"


def test_kubeconfig_option_comes_first(tmp_path: Path) -> None:
    """--kubeconfig replaces the variable, and is relative to the working directory."""
    one = write_kubeconfig(tmp_path / "one", "a", "first")
    write_kubeconfig(tmp_path / "two", "b", "second")
    config = reader(tmp_path, {"KUBECONFIG": one}, kubeconfig="two")
    assert config.namespace == "second"
    with pytest.raises(k8r.UsageError, match="there is no kubeconfig three"):
        reader(tmp_path, {"KUBECONFIG": one}, kubeconfig="three").namespace


def test_namespace_defaults(tmp_path: Path) -> None:
    """A context without a namespace means the namespace default."""
    (tmp_path / "one").write_text(json.dumps(kubeconfig("a", "a")))
    assert reader(tmp_path, {"KUBECONFIG": "one"}).namespace == "default"


@pytest.mark.parametrize(
    "text", ["", "x", "- a", "a: [", "\x00", "clusters: [1]", "contexts: [{}]", "users: 5"]
)
def test_broken_kubeconfig(tmp_path: Path, text: str) -> None:
    """A file that is none is named; it is no internal error."""
    (tmp_path / "one").write_text(text)
    with pytest.raises(k8r.K8rError, match="kubeconfig"):
        reader(tmp_path, {}, kubeconfig="one").namespace


def test_kubeconfigs_that_are_all_missing(tmp_path: Path) -> None:
    """It is said where k8r looked."""
    with pytest.raises(k8r.K8rError, match="there is no kubeconfig at /gone"):
        reader(tmp_path, {"KUBECONFIG": "/gone"}).namespace


# The API server's answers


def status_of(message: str, **more: Any) -> bytes:
    """A Status object."""
    return json.dumps({"kind": "Status", "status": "Failure", "message": message, **more}).encode()


@pytest.mark.parametrize(
    "status, kind",
    [
        (400, k8r.ApiError),
        (401, k8r.Unauthorized),
        (403, k8r.ApiError),
        (404, k8r.NotFound),
        (408, k8r.Overloaded),
        (409, k8r.Conflict),
        (410, k8r.Gone),
        (422, k8r.ApiError),
        (429, k8r.Overloaded),
        (500, k8r.Overloaded),
        (503, k8r.Overloaded),
        (504, k8r.Overloaded),
    ],
)
def test_api_error(status: int, kind: type) -> None:
    """Each status has its error, which keeps it."""
    error = k8r.make_api_error(status, status_of("too bad"), "POST", "team")
    assert type(error) is kind
    assert error.status == status
    assert error.exit_code == 125
    assert status == 401 or "too bad" in error.message


@pytest.mark.parametrize(
    "body, text",
    [
        (b"", "HTTP status 422"),
        (b"plain\n", "plain"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
        (b'"text"', '"text"'),
        (b"null", "null"),
        (b'{"message": null}', '{"message": null}'),
    ],
)
def test_api_error_of_odd_bodies(body: bytes, text: str) -> None:
    """A proxy's answer is shown as it is."""
    error = k8r.make_api_error(422, body, "PATCH", "team")
    assert error.message == f"the API server refused to PATCH: {text}"


def test_missing_namespace() -> None:
    """The namespace is named, with the command that makes it."""
    body = status_of('namespaces "team" not found', details={"kind": "namespaces", "name": "team"})
    error = k8r.make_api_error(404, body, "POST", "team")
    assert error.message == "the namespace 'team' does not exist"
    assert error.hint.endswith("kubectl create namespace team")


@pytest.mark.parametrize(
    "text, message",
    [
        (
            'jobs.batch is forbidden: User "dev" cannot create resource "jobs" in API group '
            '"batch" in the namespace "team"',
            "you have no permission to create jobs in namespace team",
        ),
        (
            'pods is forbidden: User "dev" cannot list resource "pods" in API group "" in the '
            'namespace "team"',
            "you have no permission to list pods in namespace team",
        ),
        (
            'pods "x" is forbidden: User "dev" cannot get resource "pods/log" in API group "" in '
            'the namespace "a-b"',
            "you have no permission to get pods/log in namespace a-b",
        ),
        (
            'nodes is forbidden: User "dev" cannot list resource "nodes" in API group "" at the '
            "cluster scope",
            "you have no permission to list nodes",
        ),
    ],
)
def test_forbidden(text: str, message: str) -> None:
    """RBAC's words become a sentence with verb, resource and namespace."""
    error = k8r.make_api_error(403, status_of(text), "POST", "team")
    assert error.message == message
    assert "Role" in error.hint


def test_forbidden_by_a_quota() -> None:
    """Other refusals are shown as they are."""
    text = 'configmaps "x" is forbidden: exceeded quota: small, requested: count/configmaps=1'
    assert k8r.make_forbidden_error(text).message == f"the cluster refused: {text}"
    assert k8r.make_forbidden_error(text).status == 403


@pytest.mark.parametrize(
    "text, words",
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] Missing Authority Key Identifier", "RFC 5280"),
        ("certificate verify failed: Basic Constraints of CA cert not marked critical", "RFC 5280"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "certificate-authority"),
        ("certificate has expired", "certificate-authority"),
        ("Connection refused", "check the network"),
        ("silence for 25 s", "check the network"),
    ],
)
def test_trouble_hint(text: str, words: str) -> None:
    """Each kind of trouble has its own advice."""
    assert words in k8r.suggest_remedy(text)


def test_errors_carry_their_exit_codes() -> None:
    """An error knows what the process ends with."""
    codes = {
        k8r.K8rError: 125,
        k8r.ApiError: 125,
        k8r.ConnectionTrouble: 125,
        k8r.UsageError: 2,
        k8r.TimedOut: 124,
    }
    assert {kind: kind("x").exit_code for kind in codes} == codes
    assert not issubclass(k8r.Interrupted, Exception)


# Files of a run


@pytest.mark.parametrize(
    "text, parts",
    [
        ("results", ("results", "")),
        ("./a//b/", ("a/b", "")),
        ("a/../b:../here", ("b", "../here")),
        ("/out:./", ("/out", "./")),
        ("/data/out", ("/data/out", "")),
        ("-x y$(A)", ("-x y$(A)", "")),
        ("/workspace/results", ("/workspace/results", "")),
        ("..data", ("..data", "")),
    ],
)
def test_results(text: str, parts: Tuple[str, str]) -> None:
    """PATH, and DIR if there is one."""
    assert k8r.parse_out(text) == parts


@pytest.mark.parametrize(
    "text",
    [".", "..", "../x", "a/../..", ":x", "x:", "/", "//", "/etc", "/etc/x", "/lib64/x", "/tmp"]
    + ["/k8r/x", "/workspace", "/workspace/", "/a/../etc", "a\nb", "a\x1bb"],
)
def test_what_no_results_can_be(text: str) -> None:
    """More than results, outside of the directory, or not a path."""
    refused(k8r.parse_out, text)


def test_volumes() -> None:
    """CLAIM:/PATH, and whether it is only read."""
    assert k8r.parse_volume("data:/data") == ("data", "/data")
    assert k8r.parse_volume("a.b-c:/x y:ro") == ("a.b-c", "/x y:ro")
    for text in ("data", "data:", "data:x", ":/x", "/here:/x", "Data:/x", "d:/x:rw:ro", "-d:/x"):
        refused(k8r.parse_volume, text)
