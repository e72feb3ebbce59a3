"""Where paths lead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from .resources import RESOURCES, Key, Obj, Resource


@dataclass(frozen=True)
class Route:
    """Where a path leads."""

    resource: Resource
    namespace: str
    name: str
    sub: str

    @property
    def key(self) -> Key:
        """The key of the object in the store."""
        return self.resource.plural, self.namespace, self.name

    @property
    def details(self) -> Obj:
        """For Status objects."""
        found = {"name": self.name, "group": self.resource.group, "kind": self.resource.plural}
        return {name: value for name, value in found.items() if value}


def parse_route(path: str) -> Optional[Route]:
    """The route of a resource path, or None."""
    match = re.fullmatch(r"/(?:api|apis/(batch|apps))/v1/(.+)", path)
    if not match:
        return None
    group, parts = match[1] or "", match[2].rstrip("/").split("/")
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    resource = RESOURCES.get(parts[0])
    if resource is None or resource.group != group or len(parts) > 3:
        return None
    name, sub = (parts[1:] + ["", ""])[:2]
    return Route(resource, namespace, name, sub)
