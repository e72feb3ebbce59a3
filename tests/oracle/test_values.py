"""Env files, names of variables and quantities, as docker and Kubernetes read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import k8r
from oracle import Oracle
from oracle.tables import strings

# Env files

STRICTER = {
    r"is not a valid variable name": b"a\xc3\xa9=1",
    r"contains a NUL byte": b"A=\0",
}
"""Where k8r refuses a line that docker takes, by k8r's own words, and an example."""
HERE = {"A": "1"}


def read(path: Path) -> Union[str, List[str]]:
    """The lines that k8r makes of an env file, or its words for what is wrong."""
    try:
        text = k8r.read_text(str(path), "the file")
        return [f"{key}={value}" for key, value in k8r.parse_env_file(text, "f", HERE)]
    except k8r.UsageError as error:
        return error.message


def env_difference(oracle: Oracle, path: Path, data: bytes) -> Optional[str]:
    """How k8r and docker differ over an env file: a pattern of `STRICTER`, or words; or None."""
    path.write_bytes(data)
    mine, answer = read(path), oracle.env_file(path, HERE)
    original = answer.get("error") or answer["lines"] or []
    if isinstance(mine, str):
        known = (pattern for pattern in STRICTER if re.search(pattern, mine))
        refused = isinstance(original, str)
        return None if refused else next(known, f"{data!r}: {mine}; docker: {original}")
    return None if mine == original else f"{data!r}: {mine}; docker: {original}"


def test_docker_s_own_env_files(oracle: Oracle, tmp_path: Path) -> None:
    """No text in the tests of docker's client is read otherwise."""
    texts = strings("github.com/docker/cli", "pkg/kvfile/kvfile_test.go")
    assert len(texts) > 30
    found = [
        env_difference(oracle, tmp_path / "env", text.encode("utf-8", "surrogateescape"))
        for text in texts
    ]
    assert set(found) <= {None, *STRICTER}


@pytest.mark.parametrize("pattern, example", STRICTER.items())
def test_a_known_difference(oracle: Oracle, tmp_path: Path, pattern: str, example: bytes) -> None:
    """One that is mended has to leave the table, which would hide it when it comes back."""
    assert env_difference(oracle, tmp_path / "env", example) == pattern


WORDS = "A,B,=,=,\n,\r\n,\r,#, ,\t,export ,\",',\ufeff,a.b,my-var,é,\u2028,\x85,\xa0,\0,\x0b,$A,\\"
LINES = st.lists(st.sampled_from([word.encode() for word in WORDS.split(",")] + [b"\xff", b","]))


@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES.map(b"".join))
def test_generated_env_files(oracle: Oracle, tmp_path: Path, data: bytes) -> None:
    """Nor are lines put together of what such files have, well or badly."""
    assert env_difference(oracle, tmp_path / "env", data) in (None, *STRICTER)


# Names of variables

STRICTER_NAME = " "
"""What k8r refuses in a name, and the API takes: docker's env files cannot have it."""


@settings(max_examples=1000)
@given(st.text(st.sampled_from("aZ_09-.=!~ \x7f\x1fé$/\n"), max_size=5))
def test_names_of_variables(oracle: Oracle, name: str) -> None:
    """k8r takes what the API takes as of 1.34, but for blanks."""
    try:
        taken = k8r.parse_variable(f"{name}=x", {})[0] == name
    except k8r.UsageError:
        taken = False
    original = oracle.wrong_name("env", name) is None
    assert taken == (original and STRICTER_NAME not in name)


# Quantities

QUANTITIES: Dict[str, str] = {r"-.*": "-1"}
"""Quantities that are another number to k8r, 0; an example."""
LARGEST = 2.0**63
"""What is more is as much to k8r, and to Go's own numbers."""


def quantity_difference(oracle: Oracle, text: str) -> Optional[str]:
    """How k8r and the original differ over a quantity: a pattern of `QUANTITIES`, or words."""
    answer, mine = oracle.quantity(text), k8r.convert_quantity(text)
    original = 0.0 if "error" in answer else min(float(answer["decimal"]), LARGEST)
    # Beyond nano the original rounds up.
    if abs(mine - original) <= max(1e-9, 1e-12 * original):
        return None
    known = (pattern for pattern in QUANTITIES if re.fullmatch(pattern, text))
    return next(known, f"{text!r} is {mine}; to the original it is {original}")


def test_kubernetes_own_quantities(oracle: Oracle) -> None:
    """All in the tests of the original, and what once ended in a traceback."""
    texts = strings("k8s.io/apimachinery", "pkg/api/resource/quantity_test.go")
    assert len(texts) > 300
    found = [quantity_difference(oracle, text) for text in [*texts, ".", "1.1.M", "1e3M", "1E"]]
    assert set(found) <= {None, *QUANTITIES}


@pytest.mark.parametrize("pattern, example", QUANTITIES.items())
def test_a_known_quantity(oracle: Oracle, pattern: str, example: str) -> None:
    """One that is mended has to leave the table."""
    assert quantity_difference(oracle, example) == pattern


PARTS = st.sampled_from([*"0159.+-eEnumkKMGTPi", "Ki", "Mi", "1000", "25", " ", "e-3", "E6", "٣"])


@settings(max_examples=2000)
@given(st.lists(PARTS, max_size=6).map("".join))
def test_generated_quantities(oracle: Oracle, text: str) -> None:
    """Nor are texts made of a quantity's parts."""
    assert quantity_difference(oracle, text) in (None, *QUANTITIES)
