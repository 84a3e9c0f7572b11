"""Parse and check the words of the command line; a mistake is a usage error, in one sentence."""

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


def parse_duration(text: str | float) -> float:
    """Return the seconds of `5`, `90s`, `5m`, `1h30m`, `2d` or `250ms`. Raises BadParameter."""
    if not isinstance(text, str):  # a default, which is a number already
        return text
    plain = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", plain, re.ASCII):
        return float(plain)
    if plain and not _PART.sub("", plain):
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(plain))
    raise typer.BadParameter(f"expected a duration like 5, 90s, 5m or 2h, got {text!r}")


def parse_time(text: str) -> datetime:
    """Return the moment of an ISO 8601 text with its zone. Raises BadParameter."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"expected a time like 2030-01-31T09:00:00Z, got {text!r}") from None
    if moment.tzinfo is None:
        whole = text if "T" in text or " " in text else f"{text}T00:00"
        raise typer.BadParameter(f"{text!r} has no time zone; write {whole}Z for UTC, or {whole}+01:00")
    return moment


def parse_epoch_ms(text: str | int) -> int:
    """Return the epoch milliseconds of a moment given as such, as in handoffs, or in ISO 8601. Raises BadParameter."""
    if isinstance(text, int) or re.fullmatch(r"\d{1,13}", text, re.ASCII):
        return int(text)
    return round(parse_time(text).timestamp() * 1000)


def read_payload(text: str | None) -> dict[str, Any]:
    """Return the payload given as JSON, as `@file` or as `-` for stdin; None is the empty one. Raises BadParameter."""
    if text is None:
        return {}
    source = _read_source(text)
    try:
        value = json.loads(source, parse_constant=_refuse_constant)
    except RecursionError:
        _refuse_payload("it is nested too deeply")
    except ValueError as error:
        _refuse_payload(f'not valid JSON: {error}; put single quotes around it, like \'{{"to": "ada@example.com"}}\'')
    if not isinstance(value, dict):
        _refuse_payload(f'expected a JSON object like {{"to": "ada@example.com"}}, got {_name_json_type(value)}')
    return value


def _read_source(text: str) -> str:
    try:
        if text == "-":
            return sys.stdin.read()
        if text.startswith("@"):
            return Path(text[1:]).read_text(encoding="utf-8")
    except OSError as error:
        _refuse_payload(f"{text[1:]}: {error.strerror}")
    except UnicodeDecodeError:
        _refuse_payload(f"{text[1:] or 'stdin'}: it is not UTF-8 text")
    return text


def _name_json_type(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _refuse_payload(problem: str) -> NoReturn:
    raise typer.BadParameter(problem, param_hint="'JSON'")


def _build_parser(check: Callable[[Any], T]) -> Callable[[str], T]:
    """Return a parser that applies the core's own check to a word of the command line."""

    def parse(text: str) -> T:
        try:
            return check(text)
        except InvalidOption as error:
            raise typer.BadParameter(error.problem) from None

    return parse


def _parse_attempts(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII):
        raise InvalidOption("", f"expected a whole number of attempts from 1 to 1000, got {text!r}")
    return validate_attempts("", int(text))


def _parse_status(text: str) -> Status:
    """Return the status of live jobs that the text names; no index lists ended jobs."""
    if text in _LIVE:
        return Status(text)
    elsewhere = " (`relayq failed list` lists those)" if text == "failed" else ""
    near = suggest(text, _LIVE).rstrip("?")
    raise InvalidOption("", f"expected {', '.join(_LIVE)}, got {text!r}{elsewhere}{'.' + near + '?' if near else ''}")


parse_job_id = _build_parser(validate_job_id)
parse_queue = _build_parser(validate_queue)
parse_name = _build_parser(validate_name)

JobId = Annotated[
    str, typer.Argument(metavar="ID", help="The job's id, which `relayq dispatch` prints.", parser=parse_job_id)
]
JobName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The job's name; `relayq registry` lists them.", parser=parse_name),
]
Queue = Annotated[str | None, typer.Option("--queue", metavar="QUEUE", help="Only this queue.", parser=parse_queue)]
Attempts = Annotated[
    int | None,
    typer.Option(
        "--max-attempts", metavar="N", help="Maximum number of attempts.", parser=_build_parser(_parse_attempts)
    ),
]
LiveStatus = Annotated[
    Status | None,
    typer.Option(
        "--status", metavar="|".join(_LIVE), help="Only jobs in this state.", parser=_build_parser(_parse_status)
    ),
]


def flag(*names: str, help: str, **more: Any) -> Any:
    """Return an option without a value; help shows no type for it."""
    return typer.Option(*names, metavar="", help=help, **more)


Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show at most N.")]
