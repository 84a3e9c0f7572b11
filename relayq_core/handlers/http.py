"""HTTP for the API function: requests read with suspicion, answers in JSON that nobody keeps or misreads."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response

from relayq_core.errors import Portable

TOKEN_HEADER = "x-relayq-token"  # noqa: S105 - its name
#: The methods that change nothing. Every other one, however it is spelled, is judged as a change.
READING = frozenset({"GET", "HEAD"})
#: More than a form of ours ever has.
_MOST_FIELDS = 1000
#: Answers hold payloads: no proxy and no browser may keep them, or take them for something else than JSON.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
#: What is compared where there is no token, so that the work is the same.
_NO_TOKEN = ""


class Refused(Portable, Exception):
    """The request cannot be served: a status, and a sentence that says what was expected."""

    def __init__(self, status: HTTPStatus, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {}
        super().__init__(message)


def answer(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response[str]:
    """An answer in JSON."""
    return Response(
        status_code=status,
        content_type="application/json",
        body=json.dumps(body, separators=(",", ":")),
        headers={**_HEADERS, **(headers or {})},
    )


def failure(status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """An answer that says what was wrong."""
    return answer(status, {"error": error, "message": message}, headers)


def as_event(response: Response[str]) -> dict[str, Any]:
    """An answer that was made without the resolver, in the form that a Function URL takes."""
    return {
        "statusCode": response.status_code,
        "headers": {"Content-Type": response.content_type, **response.headers},
        "body": response.body,
        "isBase64Encoded": False,
    }


def method_of(event: Any) -> str:
    """The method in upper case, as the resolver reads it; empty where the event has none, as a Function URL's has."""
    context = event.get("requestContext") if isinstance(event, Mapping) else None
    http = context.get("http") if isinstance(context, Mapping) else None
    method = http.get("method") if isinstance(http, Mapping) else None
    return method.upper() if isinstance(method, str) else ""


def resolved(app: LambdaFunctionUrlResolver, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The answer of the route for this event's method, in any spelling. HEAD is GET without its body."""
    method = method_of(event)
    request = event["requestContext"]
    routed = {**request, "http": {**request["http"], "method": "GET" if method == "HEAD" else method}}
    answered: dict[str, Any] = app.resolve({**event, "requestContext": routed}, context)
    return {**answered, "body": ""} if method == "HEAD" else answered


def text_headers(event: Any) -> dict[str, str]:
    """The headers that are text, as all of a Function URL's are."""
    headers = event.get("headers") if isinstance(event, Mapping) else None
    if not isinstance(headers, Mapping):
        return {}
    return {key: value for key, value in headers.items() if isinstance(key, str) and isinstance(value, str)}


def header(event: Any, name: str) -> str | None:
    """A header's value, whatever its case; None where it is missing, or there in more than one spelling."""
    found = [value for key, value in text_headers(event).items() if key.lower() == name]
    return found[0] if len(found) == 1 else None


def is_authorised(event: Any, tokens: Sequence[str]) -> bool:
    """Whether the request bears one of the tokens. No tokens: nobody is. The time it takes says nothing."""
    given = _digest(header(event, TOKEN_HEADER) or _NO_TOKEN)
    same = [hmac.compare_digest(given, _digest(token)) for token in tokens or [_NO_TOKEN]]
    return bool(tokens) and any(same)


def _digest(text: str) -> bytes:
    """Of one length, so that not even a token's length can be measured."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def query(event: Mapping[str, Any], *known: str) -> dict[str, str]:
    """The query parameters. Raises Refused for one that is not known: a token belongs into its header."""
    found = event.get("queryStringParameters") or {}
    if set(found) - set(known) or (event.get("rawQueryString") and not found):
        may = f"known here: {', '.join(known)}" if known else "this route takes none"
        raise Refused(HTTPStatus.BAD_REQUEST, f"unknown query parameter; {may}. The token goes into X-RelayQ-Token")
    return dict(found)


def json_object(event: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """The body, a JSON object of at most `limit` bytes. Raises Refused."""
    found = _json(_body(event, limit))
    if not isinstance(found, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, f"expected a JSON object, got {_KINDS.get(type(found), 'nothing')}")
    return found


def no_body(event: Mapping[str, Any]) -> None:
    """Raises Refused where there is one; `{}` is none."""
    if _body(event, 64).strip() not in {b"", b"{}"}:
        raise Refused(HTTPStatus.BAD_REQUEST, "this route takes no body")


_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


def form(event: Mapping[str, Any], limit: int) -> dict[str, list[str]]:
    """The body, a form as browsers send it, of at most `limit` bytes. Raises Refused."""
    body = _body(event, limit, "application/x-www-form-urlencoded")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST, "the form cannot be read") from None


def cookie(event: Any, name: str) -> str | None:
    """A cookie's value; None where it is missing, or there more than once."""
    found = event.get("cookies") if isinstance(event, Mapping) else None
    pairs = [pair for pair in found if isinstance(pair, str)] if isinstance(found, list) else []
    if not pairs:
        pairs = (header(event, "cookie") or "").split(";")
    values = [value for key, _, value in (pair.strip().partition("=") for pair in pairs) if key == name]
    return values[0] if len(values) == 1 else None


def _body(event: Mapping[str, Any], limit: int, expected: str = "application/json") -> bytes:
    raw = event.get("body")
    if not raw:
        return b""
    if not isinstance(raw, str):
        raise Refused(HTTPStatus.BAD_REQUEST, "the body cannot be read")
    if (header(event, "content-encoding") or "identity").strip().lower() != "identity":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body as it is, without Content-Encoding")
    kind = header(event, "content-type")
    if kind is not None and kind.partition(";")[0].strip().lower() != expected:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send Content-Type: {expected}")
    encoded = bool(event.get("isBase64Encoded"))
    if len(raw) > (limit * 4 // 3 + 4 if encoded else limit):
        raise _too_large(limit)
    try:
        body = base64.b64decode(raw, validate=True) if encoded else raw.encode()
    except ValueError:  # of base64, and of a lone surrogate
        raise Refused(HTTPStatus.BAD_REQUEST, "the body cannot be read") from None
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> Refused:
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large; the limit is {limit:,} bytes")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused(
            HTTPStatus.BAD_REQUEST, "the body is not JSON in UTF-8 (each name once, no NaN, not nested deeply)"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values under one name nobody knows which is meant."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(constant: str) -> Any:
    raise ValueError(constant)
