"""What is typed on the command line, read and checked: a mistake is told in a sentence, and is a usage error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from relayq_core.errors import InvalidOption, suggest
from relayq_core.model.options import validate_attempts, validate_job_id, validate_name, validate_queue
from relayq_core.model.record import Status

T = TypeVar("T")

_PART = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)(ms|s|m|h|d)")
_LIVE = (Status.PENDING.value, Status.PROCESSING.value, Status.RETRYING.value)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str | float) -> float:
    """Seconds: `5`, `90s`, `5m`, `1h30m`, `2d`, `250ms`."""
    if not isinstance(text, str):  # a default, read already
        return text
    plain = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", plain, re.ASCII):
        return float(plain)
    if plain and not _PART.sub("", plain):
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(plain))
    raise typer.BadParameter(f"expected a duration like 5, 90s, 5m or 2h, got {text!r}")


def at_time(text: str) -> datetime:
    """A moment in ISO 8601, with its zone."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"expected a time like 2030-01-31T09:00:00Z, got {text!r}") from None
    if found.tzinfo is None:
        whole = text if "T" in text or " " in text else f"{text}T00:00"
        raise typer.BadParameter(f"{text!r} names no zone; write {whole}Z for UTC, or {whole}+01:00")
    return found


def epoch_ms(text: str | int) -> int:
    """A moment as epoch milliseconds, the form that handoffs use, or in ISO 8601."""
    if isinstance(text, int) or re.fullmatch(r"\d{1,13}", text, re.ASCII):
        return int(text)
    return round(at_time(text).timestamp() * 1000)


def payload(text: str | None) -> dict[str, Any]:
    """The payload: JSON, `@file`, or `-` for stdin. None at all is the empty payload."""
    if text is None:
        return {}
    source = _content(text)
    try:
        found = json.loads(source, parse_constant=_not_json)
    except RecursionError:
        _wrong_payload("it is nested too deeply")
    except ValueError as error:
        _wrong_payload(f'not valid JSON: {error}; quote it whole, like \'{{"to": "ada@example.com"}}\'')
    if not isinstance(found, dict):
        _wrong_payload(f'expected a JSON object like {{"to": "ada@example.com"}}, got {_json_type(found)}')
    return found


def _content(text: str) -> str:
    try:
        if text == "-":
            return sys.stdin.read()
        if text.startswith("@"):
            return Path(text[1:]).read_text(encoding="utf-8")
    except OSError as error:
        _wrong_payload(f"{text[1:]}: {error.strerror}")
    except UnicodeDecodeError:
        _wrong_payload(f"{text[1:] or 'stdin'}: it is not UTF-8 text")
    return text


def _json_type(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _wrong_payload(problem: str) -> NoReturn:
    raise typer.BadParameter(problem, param_hint="'JSON'")


def _checked(check: Callable[[Any], T]) -> Callable[[str], T]:
    """The core's own check, as a reader of the command line."""

    def read(text: str) -> T:
        try:
            return check(text)
        except InvalidOption as error:
            raise typer.BadParameter(str(error).removeprefix(f"{error.option}: ")) from None

    return read


def _attempts(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII):
        raise InvalidOption("", f"expected a whole number of attempts from 1 to 1000, got {text!r}")
    return validate_attempts("", int(text))


def _live(text: str) -> Status:
    """Of ended jobs there is no index, so they cannot be listed."""
    if text in _LIVE:
        return Status(text)
    elsewhere = " (`relayq failed list` has the failed ones)" if text == "failed" else ""
    near = suggest(text, _LIVE).rstrip("?")
    raise InvalidOption("", f"expected {', '.join(_LIVE)}, got {text!r}{elsewhere}{'.' + near + '?' if near else ''}")


id_of_job = _checked(validate_job_id)
queue_name = _checked(validate_queue)
name_of_job = _checked(validate_name)

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as dispatch printed it.", parser=id_of_job)]
JobName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The job's name; `relayq registry` lists them.", parser=name_of_job),
]
Queue = Annotated[str | None, typer.Option("--queue", metavar="QUEUE", help="Only this queue.", parser=queue_name)]
Attempts = Annotated[
    int | None,
    typer.Option("--max-attempts", metavar="N", help="How often it is tried at most.", parser=_checked(_attempts)),
]
LiveStatus = Annotated[
    Status | None,
    typer.Option("--status", metavar="|".join(_LIVE), help="Only jobs in this state.", parser=_checked(_live)),
]


def flag(*names: str, help: str, **more: Any) -> Any:
    """An option that is there or not; no type is shown beside it."""
    return typer.Option(*names, metavar="", help=help, **more)


Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show so many at most.")]
