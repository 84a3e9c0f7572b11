"""Items: a JobRecord as DynamoDB attributes, and back. Written by hand: a serializer would cost more than the call."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from relayq_core.errors import LONGEST_DELAY, RelayQError, UnreadableRow
from relayq_core.events.tracing import is_trace
from relayq_core.model.backoff import parse
from relayq_core.model.budgets import ERROR_HEAD_BYTES
from relayq_core.model.options import validate_job_id, validate_name, validate_queue
from relayq_core.model.record import UNIQUE_PREFIX, JobRecord, Status, compute_shard
from relayq_core.text import cut, take_head

Item: TypeAlias = Mapping[str, Mapping[str, Any]]

JOB_PREFIX = "job#"

#: Fields that are not attributes of their own.
_APART = frozenset({"id", "extra"})
#: Attributes that are built from several fields.
_DERIVED = frozenset({"pk", "id", "due_shard", "failed_at", "error_head"})
#: 0 where the next claim does not count: the claim adds this, or 1 where it is absent.
_NEXT_COUNTS = "next_counts"
#: field of JobRecord -> (attribute, DynamoDB type). What is None, 0 or False here has no attribute at all.
ATTRIBUTES: dict[str, tuple[str, str]] = {
    name: (
        _NEXT_COUNTS if name == "exhausted" else name.removesuffix("_json"),
        "N" if field.kind in {"int", "int | None", "bool"} else "S",
    )
    for name, field in JobRecord.get_fields().items()
    if name not in _APART
}
#: Arithmetic needs it, or a reader does, so it is there even when it is 0.
_ALWAYS = frozenset({"attempt", "created_at", "updated_at", "available_at", "due_at"})
#: How a status of a newer version may look; anything else is no status.
_STATUS = re.compile(r"[a-z][a-z_-]{0,31}")
#: DynamoDB takes no longer key.
_LONGEST_PK = 2048
_ERROR = frozenset({"attempt", "at", "error"})
_PROGRESS = frozenset({"fraction", "note"})
#: No count and no epoch millisecond is beyond it, and no duration beyond the other.
_LARGEST = 10**15
_LONGEST_MS = round(LONGEST_DELAY * 1000)
_REQUIRED = frozenset(
    {"name", "queue", "status", "attempt", "payload_json", "created_at", "updated_at", "available_at"}
)


def encode_field(field: str, value: Any) -> dict[str, str] | None:
    """Return the value of a field as DynamoDB has it, or None where it has no attribute."""
    if value is None or (not value and field not in _ALWAYS and not isinstance(value, str)):
        return None
    if isinstance(value, bool):
        value = 0 if field == "exhausted" else 1
    return {ATTRIBUTES[field][1]: str(value)}


def encode_job_id(job_id: str) -> dict[str, dict[str, str]]:
    """Return the key of a job's row."""
    return {"pk": {"S": JOB_PREFIX + job_id}}


def encode_job(record: JobRecord) -> dict[str, dict[str, str]]:
    """Return a record as a row of the jobs table."""
    item = {**encode_job_id(record.id), **_encode(record)}
    if record.due_at is not None:
        item["due_shard"] = {"S": compute_shard(record.queue, record.id)}
    return item


def encode_failed(record: JobRecord) -> dict[str, dict[str, str]]:
    """Return a record as a row of the failed table, where `finished_at` is `failed_at`."""
    item = {"id": {"S": record.id}, **_encode(record)}
    item["failed_at"] = item.pop("finished_at")
    item["error_head"] = {"S": take_head(record.error or "", ERROR_HEAD_BYTES)}
    return item


def encode_key(record: JobRecord, now: int) -> dict[str, dict[str, str]]:
    """Return the item that holds a job's unique key.

    It expires only if the key has a window. `taken_at` distinguishes it from an earlier one of the same job.
    """
    assert record.unique_pk is not None
    item = {"pk": {"S": record.unique_pk}, "job_id": {"S": record.id}, "taken_at": {"N": str(now)}}
    if record.unique_for_ms is not None:
        item["expires_at"] = {"N": str(-(-(now + record.unique_for_ms) // 1000))}
    return item


def read_job(item: Item) -> JobRecord:
    """Return the job of a row of the jobs table. Raises UnreadableRow."""
    return _read(item, str(item.get("pk", {}).get("S", "")).removeprefix(JOB_PREFIX), item)


def read_beside(item: Item) -> dict[str, Any]:
    """Return what is written beside a claim, of a row that cannot be read as a whole, as fields of its record.

    That is its progress, where this makes sense, and what this version does not know.
    """
    extra = {name: typed for name, typed in item.items() if name not in _READERS and name not in _DERIVED}
    fields: dict[str, Any] = {"extra": extra} if extra else {}
    with suppress(KeyError, TypeError, ValueError, RecursionError):
        fields["progress_json"] = _validate_progress(item["progress"]["S"])
    return fields


def read_failed(item: Item) -> JobRecord:
    """Return the job of a row of the failed table. Raises UnreadableRow."""
    renamed = {**item, "finished_at": item.get("failed_at", {"N": "0"})}
    record = _read(item, str(item.get("id", {}).get("S", "")), renamed)
    if record.status is not Status.FAILED:
        raise UnreadableRow(record.id, f"its status is {record.status}, in the table of failed jobs")
    return record


def read_failed_head(item: Item) -> JobRecord:
    """Return what the failed table's index shows of a job: no payload, the head of its error, one time for all."""
    at = item.get("failed_at", {"N": "0"})
    filled = {
        "status": {"S": Status.FAILED.value},
        "payload": {"S": "{}"},
        "error": item.get("error_head", {"S": ""}),
        **dict.fromkeys(("created_at", "updated_at", "available_at", "finished_at"), at),
    }
    return _read(item, str(item.get("id", {}).get("S", "")), {**item, **filled})


def read_tick(item: Item) -> tuple[int, dict[str, int]] | None:
    """Return when the sweeper last ran, and what it did; None if it is unreadable: the next tick writes it again."""
    try:
        counts = json.loads(item["counts"]["S"])
        return int(item["ticked_at"]["N"]), {str(action): int(count) for action, count in counts.items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def parse_moment(number: str) -> int:
    """Return the millisecond of an index key. One that was written by hand may have a fraction."""
    return math.floor(float(number))


def _encode(record: JobRecord) -> dict[str, dict[str, str]]:
    attributes = dict(record.extra or {})
    for field, value in vars(record).items():
        if value is not None and field not in _APART and (typed := encode_field(field, value)) is not None:
            attributes[ATTRIBUTES[field][0]] = typed
    return attributes


def _read(original: Item, job_id: str, item: Item) -> JobRecord:
    due = original.get("due_at", {}).get("N")
    try:
        fields: dict[str, Any] = {"id": validate_job_id(job_id)}
        extra: dict[str, Any] = {}
        for name, typed in item.items():
            reader = _READERS.get(name)
            if reader is not None:
                field, kind, read = reader
                fields[field] = read(typed[kind])
            elif name not in _DERIVED:
                extra[name] = typed
        if extra:
            fields["extra"] = extra
        if not fields.keys() >= _REQUIRED:
            raise ValueError(f"it lacks {', '.join(sorted(_REQUIRED - fields.keys()))}")
        record = JobRecord(**fields)
        if record.status is Status.PROCESSING and (record.lease_id is None or record.lease_until is None):
            raise ValueError("its status is processing, but it has no lease")
        return record
    except (KeyError, TypeError, ValueError, RecursionError, RelayQError) as error:
        problem = f"attribute of another type ({error})" if isinstance(error, KeyError) else str(error)
        raise UnreadableRow(job_id, cut(problem, 300), due_at=parse_moment(due) if due else None) from None


def _limit_to(most: int) -> Callable[[str], int]:
    def read(raw: str) -> int:
        number = int(raw)
        if not 0 <= number <= most:
            raise ValueError(f"the number {raw[:40]} is out of range")
        return number

    return read


_count = _limit_to(_LARGEST)
_duration = _limit_to(_LONGEST_MS)


def _parse_flag(raw: str) -> bool:
    return _count(raw) != 0


def _parse_status(raw: str) -> Status:
    known = _STATUSES.get(raw)
    if known is None:
        if not _STATUS.fullmatch(raw):
            raise ValueError(f"its status {raw[:40]!r} is not valid")
        return Status.make_unknown(raw)
    return known


#: Enum's own way from a value to its member takes four times as long.
_STATUSES = {status.value: status for status in Status}


def _validate_errors(raw: str) -> str:
    errors = json.loads(raw)
    if not isinstance(errors, list) or not all(isinstance(each, dict) and each.keys() >= _ERROR for each in errors):
        raise ValueError("its errors are not a list of {attempt, at, error}")
    return raw


def _validate_progress(raw: str) -> str:
    progress = json.loads(raw)
    if not isinstance(progress, dict) or not progress.keys() >= _PROGRESS:
        raise ValueError("its progress is not {fraction, note}")
    return raw


def _validate_unique_pk(raw: str) -> str:
    if not raw.startswith(UNIQUE_PREFIX) or len(raw.encode()) > _LONGEST_PK:
        raise ValueError("its unique key is not valid")
    return raw


def _choose_reader(field: str, kind: str) -> Callable[[str], Any]:
    """Return what turns an attribute into its field. It is checked: anything that can write the table may have."""
    if kind == "N":
        if JobRecord.get_fields()[field].kind == "bool":
            return _CHECKS.get(field, _parse_flag)
        return _CHECKS.get(field) or (_duration if field.endswith("_ms") else _count)
    return _CHECKS.get(field, str)


_CHECKS: dict[str, Callable[[str], Any]] = {
    "name": validate_name,
    "queue": validate_queue,
    "unique_pk": _validate_unique_pk,
    "status": _parse_status,
    "backoff": parse,
    "exhausted": lambda raw: _count(raw) == 0,
    # nothing rests on it: one that makes no sense does not make the row unreadable
    "trace_id": lambda raw: raw if is_trace(raw) else None,
    "errors_json": _validate_errors,
    "progress_json": _validate_progress,
}
#: attribute -> (field, DynamoDB type, what turns the one into the other)
_READERS = {name: (field, kind, _choose_reader(field, kind)) for field, (name, kind) in ATTRIBUTES.items()}
