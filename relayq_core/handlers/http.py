"""HTTP for the API function: read requests without trusting them, and make JSON responses that are never cached."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response

from relayq_core.dashboard.tokens import find_token
from relayq_core.errors import Portable

TOKEN_HEADER = "x-relayq-token"  # noqa: S105 - its name
#: The methods that change nothing. Every other one, in any spelling, is treated as a change.
READING = frozenset({"GET", "HEAD"})
#: More than any form of the dashboard has.
_MOST_FIELDS = 1000
#: Responses hold payloads: no proxy and no browser may cache them, or treat them as anything but JSON.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


class HttpError(Portable, Exception):
    """The request cannot be served: a status, and a sentence that says what was expected."""

    def __init__(self, status: HTTPStatus, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {}
        super().__init__(message)


def make_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response[str]:
    """Return a response in JSON."""
    return Response(
        status_code=status,
        content_type="application/json",
        body=json.dumps(body, separators=(",", ":")),
        headers={**_HEADERS, **(headers or {})},
    )


def make_error(status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """Return a response in JSON that says what was wrong."""
    return make_response(status, {"error": error, "message": message}, headers)


def serialize_response(response: Response[str]) -> dict[str, Any]:
    """Convert a response that was made without the resolver to what a Function URL expects."""
    return {
        "statusCode": response.status_code,
        "headers": {"Content-Type": response.content_type, **response.headers},
        "body": response.body,
        "isBase64Encoded": False,
    }


def read_method(event: Any) -> str:
    """Return the method in upper case, as the resolver reads it; empty if the event is not from a Function URL."""
    context = event.get("requestContext") if isinstance(event, Mapping) else None
    http = context.get("http") if isinstance(context, Mapping) else None
    method = http.get("method") if isinstance(http, Mapping) else None
    return method.upper() if isinstance(method, str) else ""


def resolve(app: LambdaFunctionUrlResolver, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Return the response of the route for this event's method, in any spelling. HEAD is GET without the body."""
    method = read_method(event)
    request = event["requestContext"]
    routed = {**request, "http": {**request["http"], "method": "GET" if method == "HEAD" else method}}
    response: dict[str, Any] = app.resolve({**event, "requestContext": routed}, context)
    return {**response, "body": ""} if method == "HEAD" else response


def read_headers(event: Any) -> dict[str, str]:
    """Return the headers whose value is text, as all of a Function URL's are."""
    headers = event.get("headers") if isinstance(event, Mapping) else None
    if not isinstance(headers, Mapping):
        return {}
    return {key: value for key, value in headers.items() if isinstance(key, str) and isinstance(value, str)}


def read_header(event: Any, name: str) -> str | None:
    """Return a header's value, whatever its case; None if it is missing, or present in more than one spelling."""
    values = [value for key, value in read_headers(event).items() if key.lower() == name]
    return values[0] if len(values) == 1 else None


def is_authorised(event: Any, tokens: Sequence[str]) -> bool:
    """Whether the request carries one of the tokens; without tokens none is. The time it takes reveals nothing."""
    return find_token(read_header(event, TOKEN_HEADER) or "", tokens) is not None


def parse_query(event: Mapping[str, Any], *known: str) -> dict[str, str]:
    """Return the query parameters. Raise HttpError for one that is not known: it may be a token in the wrong place."""
    parameters = event.get("queryStringParameters") or {}
    if set(parameters) - set(known) or (event.get("rawQueryString") and not parameters):
        allowed = f"known here: {', '.join(known)}" if known else "this route takes none"
        raise HttpError(
            HTTPStatus.BAD_REQUEST, f"unknown query parameter; {allowed}. Send the token in the header X-RelayQ-Token"
        )
    return dict(parameters)


def parse_json_object(event: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return the body, a JSON object of at most `limit` bytes. Raises HttpError."""
    body = _parse_json(_decode_body(event, limit))
    if not isinstance(body, dict):
        raise HttpError(HTTPStatus.BAD_REQUEST, f"expected a JSON object, got {_KINDS.get(type(body), 'nothing')}")
    return body


def refuse_body(event: Mapping[str, Any]) -> None:
    """Raise HttpError if the request has a body (`{}` counts as empty)."""
    if _decode_body(event, 64).strip() not in {b"", b"{}"}:
        raise HttpError(HTTPStatus.BAD_REQUEST, "this route takes no body")


def parse_form(event: Mapping[str, Any], limit: int) -> dict[str, list[str]]:
    """Return the body, a form as browsers send it, of at most `limit` bytes. Raises HttpError."""
    body = _decode_body(event, limit, "application/x-www-form-urlencoded")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the form cannot be read") from None


def read_cookie(event: Any, name: str) -> str | None:
    """Return a cookie's value; None if it is missing, or present more than once."""
    cookies = event.get("cookies") if isinstance(event, Mapping) else None
    pairs = [pair for pair in cookies if isinstance(pair, str)] if isinstance(cookies, list) else []
    if not pairs:
        pairs = (read_header(event, "cookie") or "").split(";")
    values = [value for key, _, value in (pair.strip().partition("=") for pair in pairs) if key == name]
    return values[0] if len(values) == 1 else None


def _decode_body(event: Mapping[str, Any], limit: int, expected: str = "application/json") -> bytes:
    raw = event.get("body")
    if not raw:
        return b""
    if not isinstance(raw, str):
        raise HttpError(HTTPStatus.BAD_REQUEST, "the body cannot be read")
    if (read_header(event, "content-encoding") or "identity").strip().lower() != "identity":
        raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding")
    content_type = read_header(event, "content-type")
    if content_type is not None and content_type.partition(";")[0].strip().lower() != expected:
        raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send Content-Type: {expected}")
    encoded = bool(event.get("isBase64Encoded"))
    if len(raw) > (limit * 4 // 3 + 4 if encoded else limit):
        raise _describe_size(limit)
    try:
        body = base64.b64decode(raw, validate=True) if encoded else raw.encode()
    except ValueError:  # invalid base64, or a lone surrogate
        raise HttpError(HTTPStatus.BAD_REQUEST, "the body cannot be read") from None
    if len(body) > limit:
        raise _describe_size(limit)
    return body


def _describe_size(limit: int) -> HttpError:
    return HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large; the limit is {limit:,} bytes")


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise HttpError(
            HTTPStatus.BAD_REQUEST, "the body is not JSON in UTF-8 (each name once, no NaN, not nested deeply)"
        ) from None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raise ValueError if a name occurs twice: which of its values counts would be a guess."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _refuse_constant(constant: str) -> Any:
    raise ValueError(constant)
