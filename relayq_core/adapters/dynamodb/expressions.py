"""Expressions: the conditions that say when a row may change, and the update that turns one record into another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relayq_core.adapters.dynamodb.items import ATTRIBUTES, Item, encode_field
from relayq_core.model.lifecycle import YIELDS_TO_CANCEL, Transition, find_changes
from relayq_core.model.record import CAN, JobRecord, compute_shard

STATUS_NAME = {"#status": "status"}

#: An ended row that TTL has not deleted yet counts as absent.
FREE = "attribute_not_exists(pk) OR expires_at <= :now"
WAITING = "#status IN (:pending, :retrying)"
WAITING_VALUES = {":pending": {"S": "pending"}, ":retrying": {"S": "retrying"}}
#: A job that was dispatched without a delay may start at once, whatever the clocks say: its caller's may be ahead.
DUE = "(available_at <= :now OR (attempt = :zero AND available_at = created_at))"
HELD = "#status = :processing AND lease_id = :lease"
#: A row of a newer version may need more than this one can do.
SUPPORTED = "(attribute_not_exists(needs) OR needs <= :can)"
SUPPORTED_VALUES = {":can": {"N": str(CAN)}}
_UNMARKED = "attribute_not_exists(cancel_requested_at)"


def encode_number(value: int) -> dict[str, str]:
    """Return a number as DynamoDB takes it."""
    return {"N": str(value)}


def encode_holder(before: JobRecord) -> dict[str, dict[str, str]]:
    """Return the values of HELD: the job runs under the lease that `before` has."""
    return {":processing": {"S": "processing"}, ":lease": {"S": before.lease_id or ""}}


def fence(before: JobRecord, transition: Transition) -> dict[str, Any]:
    """Return the condition of a settle: only the holder of the lease may settle.

    Once a cancel was requested, only a success or the cancel itself is accepted.
    """
    unmarked = f" AND {_UNMARKED}" if transition in YIELDS_TO_CANCEL else ""
    return {
        "ConditionExpression": f"{HELD} AND {SUPPORTED}{unmarked}",
        "ExpressionAttributeNames": STATUS_NAME,
        "ExpressionAttributeValues": {**SUPPORTED_VALUES, **encode_holder(before)},
    }


def require_waiting(before: JobRecord) -> dict[str, Any]:
    """Return the condition of a cancel: the job still waits for the attempt that `before` waits for."""
    return {
        "ConditionExpression": f"{WAITING} AND attempt = :attempt AND {SUPPORTED}",
        "ExpressionAttributeNames": STATUS_NAME,
        "ExpressionAttributeValues": {
            **WAITING_VALUES,
            **SUPPORTED_VALUES,
            ":attempt": encode_number(before.attempt),
        },
    }


def require_same_failure(seen: JobRecord) -> dict[str, Any]:
    """Return the condition of a redrive: it is the failure that was read; the job may have failed again since."""
    if seen.settled_by is None:
        same, values = "attribute_not_exists(settled_by)", {}
    else:
        same, values = "settled_by = :seen", {":seen": {"S": seen.settled_by}}
    return {
        "ConditionExpression": f"attribute_exists(id) AND {same} AND {SUPPORTED}",
        "ExpressionAttributeValues": {**SUPPORTED_VALUES, **values},
    }


def require_free_key(record: JobRecord, now: int, abandoned: Item | None = None) -> dict[str, Any]:
    """Return the condition of taking a unique key: it is free, or this job has it already.

    `abandoned` is the item of a key that its job did not release: it is taken over unless another job was faster.
    """
    condition = f"{FREE} OR job_id = :me"
    values: dict[str, Any] = {":now": encode_number(now // 1000), ":me": {"S": record.id}}
    if abandoned is not None:
        condition += " OR (job_id = :left AND taken_at = :then)"
        values |= {":left": abandoned["job_id"], ":then": abandoned["taken_at"]}
    return {"ConditionExpression": condition, "ExpressionAttributeValues": values}


def change(before: JobRecord, after: JobRecord, condition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the update that turns one record into the other under a condition. Unchanged fields are not named."""
    names = dict(condition["ExpressionAttributeNames"])
    values = dict(condition["ExpressionAttributeValues"])
    sets: list[str] = []
    removes: list[str] = []
    for field, value in find_changes(before, after).items():
        name, new = ATTRIBUTES[field][0], encode_field(field, value)
        alias = f"#{name}"
        names[alias] = name
        if new is None:
            removes.append(alias)
        else:
            sets.append(f"{alias} = :{name}_")
            values[f":{name}_"] = new
    if after.due_at is None:
        removes.append("due_shard")
    else:
        sets.append("due_shard = :due_shard_")
        values[":due_shard_"] = {"S": compute_shard(after.queue, after.id)}
    remove = f" REMOVE {', '.join(removes)}" if removes else ""
    return {
        "UpdateExpression": f"SET {', '.join(sets)}{remove}",
        "ConditionExpression": condition["ConditionExpression"],
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }
