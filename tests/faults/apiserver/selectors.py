"""Label and field selectors."""

from __future__ import annotations

import re
from typing import Any, List, Sequence, Tuple

from .messages import ApiError
from .resources import Obj, Predicate


def label_selector(text: str) -> Predicate:
    """The predicate of a labelSelector."""
    terms = [_label_term(term.strip()) for term in re.split(r",(?![^(]*\))", text) if term.strip()]
    return lambda obj: all(term(obj["metadata"].get("labels") or {}) for term in terms)


def _label_term(term: str) -> Predicate:
    """One requirement of a labelSelector, as a predicate on the labels."""
    match = re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", term)
    if match:
        name, word, values = match[1], match[2], {v.strip() for v in match[3].split(",")}
        return lambda labels: (labels.get(name) in values) == (word == "in")
    match = re.fullmatch(r"([^!=\s]+)\s*(!=|==?)\s*(\S*)", term)
    if match:
        name, word, value = match[1], match[2], match[3]
        return lambda labels: (labels.get(name) == value) == (word != "!=")
    match = re.fullmatch(r"(!?)([\w./-]+)", term)
    if match:
        absent, name = bool(match[1]), match[2]
        return lambda labels: (name in labels) != absent
    raise ApiError(400, f"unable to parse requirement: {term}")


FIELDS = {
    "pods": {"status.phase", "spec.nodeName", "spec.restartPolicy"},
    "jobs": {"status.successful"},
    "secrets": {"type"},
    "namespaces": {"status.phase"},
    "events": {f"involvedObject.{name}" for name in ("uid", "name", "kind", "namespace")}
    | {"reason", "type"},
}


def field_selector(text: str, plural: str) -> Predicate:
    """The predicate of a fieldSelector; only the fields that the real server knows."""
    terms: List[Tuple[List[str], bool, str]] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([\w.]+)(!=|==?)(.*)", term)
        if not match:
            raise ApiError(400, f"invalid selector: '{term}'; can't understand '{term}'")
        if match[1] not in {"metadata.name", "metadata.namespace"} | FIELDS.get(plural, set()):
            raise ApiError(400, f"field label not supported: {match[1]}")
        terms.append((match[1].split("."), match[2] != "!=", match[3]))

    def accepts(obj: Obj) -> bool:
        return all((_field(obj, path) == value) == wanted for path, wanted, value in terms)

    return accepts


def _field(obj: Any, path: Sequence[str]) -> str:
    for name in path:
        obj = obj.get(name, "") if isinstance(obj, dict) else ""
    return str(obj)
