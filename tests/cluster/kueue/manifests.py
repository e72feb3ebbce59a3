"""Kueue's definitions and webhooks for a Kueue that runs as a plain process.

Reads what kubectl prints of the files in the module's config/components, on stdin, and prints
one List: manifests.py URL CA-BUNDLE LABEL <objects >list
"""

import json
import sys
from typing import Any, Dict, Iterator, List

Object = Dict[str, Any]
OWN_GROUP = "kueue.x-k8s.io"
JOB_GROUP = "batch"


def objects(text: str) -> Iterator[Object]:
    """All objects of a text in which one follows the other, or is in a List."""
    decoder = json.JSONDecoder()
    while text:
        found, end = decoder.raw_decode(text)
        yield from found["items"] if found["kind"] == "List" else [found]
        text = text[end:].lstrip()


def definition(crd: Object) -> Object:
    """A definition with the one version that is stored: others need a webhook to convert."""
    spec = crd["spec"]
    spec["versions"] = [version for version in spec["versions"] if version["storage"]]
    return {**crd, "metadata": {"name": crd["metadata"]["name"]}}


def group(webhook: Object) -> str:
    """The API group that a webhook is for."""
    return str(webhook["rules"][0]["apiGroups"][0])


def webhooks(configuration: Object, url: str, bundle: str, label: str) -> Object:
    """The webhooks for Kueue's own objects, and those for Jobs in namespaces with the label."""
    kept: List[Object] = []
    for webhook in configuration["webhooks"]:
        if group(webhook) not in (OWN_GROUP, JOB_GROUP):
            continue
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"url": url + path, "caBundle": bundle}
        if group(webhook) == JOB_GROUP:
            exists = {"key": label, "operator": "Exists"}
            webhook["namespaceSelector"] = {"matchExpressions": [exists]}
        kept.append(webhook)
    name = "kueue-" + configuration["metadata"]["name"]
    return {**configuration, "metadata": {"name": name}, "webhooks": kept}


def main(url: str, bundle: str, label: str) -> None:
    """Convert stdin to stdout."""
    made: List[Object] = []
    for found in objects(sys.stdin.read().lstrip()):
        if found["kind"] == "CustomResourceDefinition":
            made.append(definition(found))
        else:
            made.append(webhooks(found, url, bundle, label))
    json.dump({"apiVersion": "v1", "kind": "List", "items": made}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
