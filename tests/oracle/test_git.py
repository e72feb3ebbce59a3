"""URLs and refs as git itself reads them."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Dict, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import k8r

STRICTER = {
    r"^[^/]*[\0-\x20\x7f]|://[^/]*[\0-\x20\x7f]": "ssh://a b/x",
    r"(://|@|^)(-|[^/@]*@-)|:-": "git@-h:x",
    r"[:/].*@": "ssh://me:secret@h/x",
    r"^:|@:|://([^/@]*@)?[:/]": "git:///x",
    r"^[^/@]*:\d+/|^[\w.-]+:[\w.-]+$|^[^/:@.]*:(?![/~])": "host:path",
    r"\[[^]]*\][^:]|\[\]|[^/@[]\[": "ssh://[::1]x/y",
    r"://[^/]*:\d*[^\d/]|:$|::": "git@h:",
}
"""Where k8r refuses what git takes for a URL of SSH or of its own protocol, by patterns of the
text, each with an example: what is odd in a host or empty, an `@` that may end a password (which
neither takes from a URL), and a word with a colon that may be a mistyped image."""


def read(url: str) -> Optional[Dict[str, str]]:
    """What git says of a URL: protocol, host and path; None where it is a path, or refused."""
    done = subprocess.run(
        ["git", "fetch-pack", "--diag-url", url],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    lines = re.findall(r"(?m)^Diag: (\w+)=(.*)$", done.stdout.decode("utf-8", "replace"))
    found = dict(lines)
    return found if found.get("protocol") in ("ssh", "git") and not done.returncode else None


def difference(url: str) -> Optional[str]:
    """How k8r and git differ over a URL: a pattern of `STRICTER`, or words; or None."""
    original = read(re.sub(r"^[^/:]*://", lambda scheme: scheme.group().lower(), url))
    try:
        kind = k8r.detect_source_type(url, "")
    except k8r.UsageError as error:
        kind = error.message
    if kind == "github" and not original:
        return f"k8r clones {url!r}, which is nothing to git"
    if kind != "github" and original:
        known = (pattern for pattern in STRICTER if re.search(pattern, url))
        return next(known, f"{url!r} is {kind}; to git it is {original}")
    if kind == "github" and original:
        last = re.sub(r"(/?\.git)?/*$", "", original["path"].rstrip("/")).split("/")[-1]
        name = k8r.get_repository_name(url)
        if re.fullmatch(r"[\w.-]*[a-z][\w.-]*", last) and name != last:
            return f"{url!r} is called {name}; to git its path ends with {last}"
    return None


URLS = """
ssh://user@host.xz:22/path/to/repo.git/|ssh://host/~user/repo.git|git://host.xz:9418/path/repo.git
git+ssh://host/x|ssh+git://host/x|user@host.xz:path/to/repo.git|user@host.xz:~/repo|host.xz:/a/b
[::1]:repo|git@[::1]:repo|git@[host:22]:repo|ssh://[::1]:22/x|git://[::1]/x|SSH://host/x
user@host:22/x|git@github.com:org/repo|ssh://git@h/a/../b|ssh://h/.git|ssh://host|git://host:22
""".replace("\n", "|").strip("|").split("|")


@pytest.mark.parametrize("url", URLS)
def test_forms_of_urls(url: str) -> None:
    """Those in git's manual, and their like."""
    assert difference(url) is None


@pytest.mark.parametrize("pattern, example", STRICTER.items())
def test_a_known_difference(pattern: str, example: str) -> None:
    """One that is mended has to leave the table."""
    assert difference(example) == pattern


STARTS = st.sampled_from(["ssh://", "git://", "git+ssh://", "", "", "me@", "ssh://me@", "GIT://"])
HOSTS = st.sampled_from(["host", "host.xz", "[::1]", "[host:22]", "h-1.a", "a b", "-h", "", "é"])
MIDDLES = st.sampled_from(["/", ":", ":22/", "/~", ":~/", ":/", "", ":22", "://", ":a@"])
ENDS = st.sampled_from(
    ["repo.git", "a/b", "a/b.git/", "x.git", "", "-x", "a@b", "~u/x", "a:b", "é"]
)


@settings(max_examples=400)
@given(st.tuples(STARTS, HOSTS, MIDDLES, ENDS).map("".join))
def test_generated_urls(url: str) -> None:
    """Nor are URLs put together, well or badly, read otherwise."""
    assert difference(url) in (None, *STRICTER)


@settings(max_examples=300)
@given(st.text(st.sampled_from("aB/.@{~^:?*[\\ lock-\x01\x7fä\n"), max_size=9))
def test_generated_refs(ref: str) -> None:
    """git and k8r agree on every ref, but for those that look like an option."""
    done = subprocess.run(["git", "check-ref-format", "--allow-onelevel", ref])
    try:
        taken = k8r.parse_ref(ref) == ref
    except k8r.UsageError:
        taken = False
    assert taken == (done.returncode == 0 and not ref.startswith("-"))
