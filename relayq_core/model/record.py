"""JobRecord: one stored request for a job, as it is in the table. Frozen, and without behaviour beyond questions."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from relayq_core.model.backoff import Backoff
from relayq_core.model.value import Value, field

#: The index key is `<queue>#<n>` with n below this: DynamoDB limits writes per key, so one queue is spread.
SHARDS = 8

#: What this version is able to do: a row that `needs` more is left to a newer one.
CAN = 0

#: What the key of a unique key's item begins with.
UNIQUE_PREFIX = "unique#"
#: A longer unique key is hashed.
_LONGEST_PLAIN_KEY = 1024
_HASHED = "sha256:"


class Status(StrEnum):
    """Where a job is; see the drawing at the top of lifecycle.py."""

    PENDING = "pending"
    PROCESSING = "processing"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __hash__ = str.__hash__  # Enum's own is written in Python, and is called at every transition

    @classmethod
    def make_unknown(cls, text: str) -> Status:
        """Return a status that this version does not know, as a newer one wrote it; it is no member."""
        status = str.__new__(cls, text)
        status._name_ = text.upper()
        status._value_ = text
        return status

    @property
    def is_known(self) -> bool:
        """Whether this version has the status."""
        return self.value in Status._value2member_map_

    @property
    def is_waiting(self) -> bool:
        """Whether a runner may claim it."""
        return self in (Status.PENDING, Status.RETRYING)

    @property
    def is_ended(self) -> bool:
        """Whether nothing more happens to it, unless it is redriven."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class JobRecord(Value, kw_only=True):
    """One job. Times (`*_at`, `*_until`) are epoch milliseconds; `payload` and `result` are decoded when asked."""

    id: str
    name: str
    queue: str
    status: Status = Status.PENDING
    #: how many times a runner has claimed it, snoozes and give-backs not counted
    attempt: int = 0
    #: None where the job was dispatched by name and its type was not known: the runner knows it
    max_attempts: int | None = None
    backoff: Backoff | None = None
    timeout_ms: int | None = None
    #: these two hold the user's data: they are left out of repr(), which ends up in logs
    payload_json: str = field(default="{}", shown=False)
    result_json: str | None = field(default=None, shown=False)
    #: why what the handler returned is not kept as the result
    result_problem: str | None = None
    progress_json: str | None = None
    #: what the last attempt ended with, at most 8 KB
    error: str | None = None
    #: the last five errors, oldest first, 500 bytes each, as a JSON list of {attempt, at, error}
    errors_json: str | None = None
    created_at: int
    updated_at: int
    #: not to be started before this, unless it is immediate
    available_at: int
    started_at: int | None = None
    finished_at: int | None = None
    #: the job whose handler dispatched this one, and the first of that chain
    parent_id: str | None = None
    root_id: str | None = None
    depth: int = 0
    #: the X-Ray trace in which the first of that chain was dispatched
    trace_id: str | None = None
    #: the sort key of the index: when the sweeper should next look; None on ended jobs
    due_at: int | None = None
    lease_id: str | None = None
    lease_until: int | None = None
    #: the lease that last settled this job: how a runner recognises its own retried write
    settled_by: str | None = None
    #: how often the sweeper has handed it off since the last claim
    nudges: int = 0
    #: the unique key's item, and for how long it holds; None: until the job ends
    unique_pk: str | None = None
    unique_for_ms: int | None = None
    cancel_requested_at: int | None = None
    #: since when no runner has known the job's name
    unknown_since: int | None = None
    #: the last attempt crashed: the next claim only runs failed() and buries
    exhausted: bool = False
    #: epoch seconds; the row is gone from then on, whether or not TTL has deleted it
    expires_at: int | None = None
    #: what a version must be able to do to claim it, end it or bring it back; see CAN
    needs: int | None = None
    #: attributes that this version does not know, as the table has them: they go wherever the job goes
    extra: Mapping[str, Any] | None = field(default=None, shown=False)

    @property
    def is_newer(self) -> bool:
        """Whether a newer version wrote it and only that one can go on with it: this version leaves it as it is."""
        return not self.status.is_known or (self.needs or 0) > CAN

    @property
    def is_immediate(self) -> bool:
        """It was dispatched without a delay and has not begun: then no clock decides when it may start.

        `available_at` is its caller's time, and that clock may be ahead of the runner's.
        """
        return self.attempt == 0 and self.available_at == self.created_at

    @property
    def payload(self) -> Any:
        """The payload, decoded; raises ValueError where the row holds no JSON."""
        return json.loads(self.payload_json)

    @property
    def result(self) -> Any:
        """What the handler returned, or None."""
        return None if self.result_json is None else json.loads(self.result_json)

    @property
    def progress(self) -> dict[str, Any] | None:
        """`{"fraction": 0.0 to 1.0, "note": str}` as the handler last said it, or None."""
        return None if self.progress_json is None else json.loads(self.progress_json)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The last five errors, oldest first: `{"attempt": int, "at": epoch ms, "error": str}`."""
        return [] if self.errors_json is None else json.loads(self.errors_json)

    @property
    def holds_key(self) -> bool:
        """Whether its unique key is held until it ends, so that whatever ends it must release the key."""
        return self.unique_pk is not None and self.unique_for_ms is None


#: Fields that serve RelayQ's own bookkeeping: no one is shown them. Every other field is shown wherever a job is shown
#: whole: as JSON, and on the dashboard.
INTERNAL = frozenset(
    {
        "due_at",
        "lease_id",
        "lease_until",
        "settled_by",
        "nudges",
        "unique_for_ms",
        "unknown_since",
        "exhausted",
        "expires_at",
        "needs",
        "extra",
    }
)


def compute_shard(queue: str, job_id: str) -> str:
    """Return the index partition of a job."""
    return f"{queue}#{zlib.crc32(job_id.encode()) % SHARDS}"


def list_shards(queue: str) -> list[str]:
    """Return all index partitions of a queue."""
    return [f"{queue}#{n}" for n in range(SHARDS)]


def build_unique_pk(name: str, key: str) -> str:
    """Return the key of a unique key's item. DynamoDB takes 2 KB of key; a long one is stored as its hash."""
    pk = f"{UNIQUE_PREFIX}{name}#{key}"
    # a key that looks like a hash is hashed too: then no key can be that of another
    if len(pk.encode()) <= _LONGEST_PLAIN_KEY and not key.startswith(_HASHED):
        return pk
    import hashlib  # noqa: PLC0415 - few keys are long, and whoever only imports relayq_core would wait for it

    return f"{UNIQUE_PREFIX}{name}#{_HASHED}{hashlib.sha256(key.encode()).hexdigest()}"
