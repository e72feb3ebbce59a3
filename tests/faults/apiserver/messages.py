"""Requests and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, Mapping, Optional

from .faults import Respond
from .resources import Obj


@dataclass
class Request:
    """One request as the server received it."""

    number: int  # 1 is the first of this server
    time: float
    method: str
    path: str
    query: Dict[str, str]
    headers: Dict[str, str]  # names in lower case
    body: Any  # parsed JSON; raw bytes when it is not JSON; None when there is none
    status: Optional[int] = None  # of the answer, once its head is sent

    @property
    def user_agent(self) -> str:
        """The User-Agent header."""
        return self.headers.get("user-agent", "")


@dataclass
class Answer:
    """An answer: a JSON body, or a stream of bytes in which b"" means 'nothing yet'."""

    status: int
    body: Any = None
    headers: Dict[str, str] = field(default_factory=dict)
    stream: Optional[Iterator[bytes]] = None
    content_type: str = "application/json"
    raw: Optional[bytes] = None  # a body as it is, in place of JSON


REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """A refusal, told to the client as a Status object."""

    def __init__(
        self,
        code: int,
        message: str,
        reason: Optional[str] = None,
        details: Optional[Obj] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})
        self.status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or REASONS.get(code, "Unknown"),
            "code": code,
        }
        if details:
            self.status["details"] = details

    def answer(self) -> Answer:
        """The answer that carries it."""
        return Answer(self.code, self.status, self.headers)


def scripted_answer(action: Respond) -> Answer:
    """The answer that a Respond action asks for."""
    headers, details = dict(action.headers), None
    if action.retry_after is not None:
        headers["Retry-After"] = str(action.retry_after)
        details = {"retryAfterSeconds": action.retry_after}
    if action.raw is not None:
        return Answer(action.status, headers=headers, raw=action.raw)
    if action.body is not None:
        return Answer(action.status, action.body, headers)
    return ApiError(action.status, action.message, None, details, headers).answer()
