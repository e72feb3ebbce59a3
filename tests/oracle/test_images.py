"""Image references as distribution/reference reads them, for docker, containerd and the kubelet."""

from __future__ import annotations

import re
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import k8r
from oracle import Oracle
from oracle.tables import strings

REFERENCE = "github.com/distribution/reference"

KNOWN = {
    r"repository name must not be more than 255 characters": "a" * 250,
}
"""Where k8r takes what the original refuses: a pattern of the original's words, and an example."""


def difference(oracle: Oracle, text: str) -> Optional[str]:
    """How k8r and the original differ over a text: a pattern of `KNOWN`, or words; or None."""
    original = oracle.image(text)
    taken = k8r.IMAGE.fullmatch(text) is not None
    error = original.get("error")
    if taken and error:
        known = (pattern for pattern in KNOWN if re.search(pattern, error))
        return next(known, f"k8r takes {text!r}; the original says: {error}")
    if not taken and not error:
        return f"k8r refuses {text!r}; to the original it is {original['text']}"
    if taken:
        last = original["path"].rpartition("/")[2]
        if k8r.get_image_name(text) != last:
            return (
                f"k8r calls {text!r} {k8r.get_image_name(text)!r}; to the original it is {last!r}"
            )
    return None


def test_the_original_s_own_references(oracle: Oracle) -> None:
    """No text in the tests of the original is read otherwise, but for the known differences."""
    texts = strings(REFERENCE, "*_test.go")
    assert len(texts) > 400
    assert {difference(oracle, text) for text in texts} <= {None, *KNOWN}


@pytest.mark.parametrize("pattern, example", KNOWN.items())
def test_a_known_difference(oracle: Oracle, pattern: str, example: str) -> None:
    """One that is mended has to leave the table, which would hide it when it comes back."""
    assert difference(oracle, example) == pattern


WORDS = st.sampled_from(["a", "A", "0", "localhost", "docker.io", "library", "sha256", "5000"])
JOINTS = st.sampled_from([*"-_.:/@+[]", "__", "___", "..", "--", "-_", "\n", " ", "é", ""])
HEX = st.builds(
    lambda digit, length: digit * length, st.sampled_from("0fFg"), st.sampled_from([31, 32, 64])
)
ALGORITHMS = st.sampled_from(["sha256", "sha384", "sha512", "md5", "SHA256", "a+b", "0a"])
DIGESTS = st.builds("@{}:{}".format, ALGORITHMS, HEX)
PIECES = st.one_of(WORDS, JOINTS, DIGESTS, st.text(max_size=3))
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@settings(max_examples=2000)
@given(TEXTS)
def test_generated_references(oracle: Oracle, text: str) -> None:
    """Nor are texts made of a reference's parts, put together well or badly."""
    assert difference(oracle, text) in (None, *KNOWN)
