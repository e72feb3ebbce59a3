"""Looks for a secret value wherever somebody who may not read Secrets could find it."""

from __future__ import annotations

import base64
import gzip
import urllib.parse
import zlib
from typing import Iterator, List, Tuple

from support import Kubectl

KINDS = "jobs,pods,deployments,replicasets,services,configmaps,events"


def nowhere(kubectl: Kubectl, value: str, *texts: str) -> None:
    """Assert that a value is in none of the namespace's objects (its Secrets
    apart), archives and logs, nor in the texts given; in no usual encoding.
    """
    places = [(f"text {number}", text) for number, text in enumerate(texts)]
    places.append(("the objects", kubectl("get", KINDS, "-o", "yaml")))
    places.extend(archives(kubectl))
    places.extend(logs(kubectl))
    for place, text in places:
        for form in forms(value):
            assert form not in text, f"{form} is in {place}: {text}"


def forms(value: str) -> List[str]:
    """The value as it is, quoted for a URL, and what base64 makes of it at any offset."""
    found = [value, urllib.parse.quote(value), urllib.parse.quote(value, safe="")]
    for offset in range(3):
        code = base64.b64encode(b"\0" * offset + value.encode()).decode()
        found.append(code[(0, 2, 3)[offset] : (len(value) + offset) // 3 * 4])
    assert min(map(len, found)) >= 8, "too short to be looked for"
    return found


def archives(kubectl: Kubectl) -> Iterator[Tuple[str, str]]:
    """What is packed in ConfigMaps, as far as one of them alone can be unpacked."""
    for item in kubectl.items("configmaps"):
        for data in (item.get("binaryData") or {}).values():
            packed = base64.b64decode(data)
            try:
                content = gzip.decompress(packed)
            except (OSError, EOFError, zlib.error):
                content = packed
            yield item["metadata"]["name"], content.decode("latin-1")


def logs(kubectl: Kubectl) -> Iterator[Tuple[str, str]]:
    """The logs of all containers, init containers too."""
    for name in kubectl.names("pods"):
        yield f"the log of {name}", kubectl("logs", name, "--all-containers", check=False)
