"""Running: the claim of a job, what its runner writes while it runs, and how its attempt is settled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from relayq_core.adapters.dynamodb.access import TableAccess, read_refusal
from relayq_core.adapters.dynamodb.calls import ConditionFailed, TransactionRefused, is_denied
from relayq_core.adapters.dynamodb.expressions import (
    DUE,
    HELD,
    STATUS_NAME,
    SUPPORTED,
    SUPPORTED_VALUES,
    WAITING,
    WAITING_VALUES,
    change,
    encode_holder,
    encode_number,
    fence,
    require_waiting,
)
from relayq_core.adapters.dynamodb.items import encode_failed, encode_job_id, read_beside, read_failed, read_job
from relayq_core.errors import StoreError, UnreadableRow
from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Settlement, Transition, find_changes
from relayq_core.model.record import JobRecord
from relayq_core.ports import Answer, Settled


class DynamoClaims(TableAccess):
    """ClaimStore: conditional updates of one row, which read nothing first."""

    def claim(self, job_id: str, lease: Lease) -> Answer:
        if lease.sweep_at is None:
            until = " lease_until = :grace_ends + if_not_exists(timeout_ms, :budget),"
            times = {
                ":grace_ends": encode_number(lease.now + lease.grace_ms),
                ":budget": encode_number(lease.budget_ms),
            }
        else:
            until = " lease_until = :until, due_at = :look,"
            times = {":until": encode_number(lease.until(None)), ":look": encode_number(lease.sweep_at)}
        name = {} if lease.name is None else {":name": {"S": lease.name}}
        try:
            answer = self._update(
                job_id,
                UpdateExpression=(
                    f"SET #status = :processing, lease_id = :lease,{until}"
                    " attempt = attempt + if_not_exists(next_counts, :one),"
                    " nudges = :zero, started_at = :now, updated_at = :now"
                ),
                ConditionExpression=f"{WAITING} AND {DUE} AND {SUPPORTED}" + (" AND #name = :name" if name else ""),
                ExpressionAttributeNames={**STATUS_NAME, "#name": "name"} if name else STATUS_NAME,
                ExpressionAttributeValues={
                    **WAITING_VALUES,
                    **SUPPORTED_VALUES,
                    **times,
                    **name,
                    ":processing": {"S": "processing"},
                    ":lease": {"S": lease.id},
                    ":one": encode_number(1),
                    ":zero": encode_number(0),
                    ":now": encode_number(lease.now),
                },
                ReturnValues="ALL_NEW",
            )
        except ConditionFailed as refused:
            record = read_refusal(refused)
            is_mine = record is not None and record.lease_id == lease.id
            return Answer(is_mine, record)
        return Answer(True, read_job(answer["Attributes"]))

    def renew_lease(self, before: JobRecord, lease_until: int) -> bool:
        return self._update_held(before, "SET lease_until = :until", {":until": encode_number(lease_until)})

    def save_progress(self, before: JobRecord, progress_json: str) -> bool:
        values = {":progress": {"S": progress_json}, ":now": encode_number(self._now())}
        return self._update_held(before, "SET progress = :progress, updated_at = :now", values)

    def _update_held(self, before: JobRecord, update: str, values: Mapping[str, Any]) -> bool:
        """Change a job that runs on; return False if its lease is no longer `before.lease_id`."""
        try:
            self._update(
                before.id,
                UpdateExpression=update,
                ConditionExpression=HELD,
                ExpressionAttributeNames=STATUS_NAME,
                ExpressionAttributeValues={**encode_holder(before), **values},
            )
        except ConditionFailed:
            return False
        return True


class DynamoSettlements(TableAccess):
    """SettleStore: one write, or a transaction where the row moves or a unique key is released with it."""

    def settle(self, before: JobRecord, settlement: Settlement) -> Settled:
        if settlement.transition is Transition.BURY:
            return self._bury(before, self._merge(before, settlement.after), with_key=before.holds_key)
        condition = fence(before, settlement.transition)
        if not settlement.keeps_row:
            return self._end_attempt("Delete", condition, before, None, ends=True)
        after = settlement.after
        update = change(before, after, condition)
        return self._end_attempt("Update", update, before, after.settled_by, ends=after.status.is_ended)

    def cancel_waiting(self, before: JobRecord, settlement: Settlement) -> bool:
        update = change(before, settlement.after, require_waiting(before))
        return self._end_attempt("Update", update, before, None, ends=True) is Settled.DONE

    def mark_cancelled(self, before: JobRecord, now: int) -> Answer:
        try:
            answer = self._update(
                before.id,
                UpdateExpression="SET cancel_requested_at = :now",
                ConditionExpression=f"{HELD} AND {SUPPORTED}",
                ExpressionAttributeNames=STATUS_NAME,
                ExpressionAttributeValues={**SUPPORTED_VALUES, **encode_holder(before), ":now": encode_number(now)},
                ReturnValues="ALL_NEW",
            )
        except ConditionFailed as refused:
            return Answer(False, read_refusal(refused))
        return Answer(True, read_job(answer["Attributes"]))

    def _end_attempt(
        self,
        action: Literal["Update", "Delete"],
        expressions: Mapping[str, Any],
        before: JobRecord,
        settled_by: str | None,
        *,
        ends: bool,
    ) -> Settled:
        """Update or delete the row and, with `ends`, release the key that the job holds, in one step.

        Where the role may not release it, or another job has it, the row is written without it.
        """
        with_key = ends and before.holds_key
        request = self._address(before, expressions)
        try:
            if with_key:
                self._transact([{action: request}, self._release_key(before)])
            else:
                self._call(f"{action}Item", **request)
        except ConditionFailed as refused:
            return _judge_refusal(refused, before, settled_by, is_deletion=action == "Delete")
        except TransactionRefused as refused:
            job, _ = refused.reasons
            if job is not None:
                return _judge_refusal(job, before, settled_by, is_deletion=action == "Delete")
            # only the key was refused: another job has it now, which must not keep this one from ending
            return self._end_attempt(action, expressions, before, settled_by, ends=False)
        except StoreError as error:
            if not (with_key and is_denied(error)):
                raise
            settled = self._end_attempt(action, expressions, before, settled_by, ends=False)
            if settled is Settled.DONE:
                self._release_key_alone(before)
            return settled
        return Settled.DONE

    def _address(self, before: JobRecord, expressions: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "TableName": self._jobs,
            "Key": encode_job_id(before.id),
            **expressions,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _merge(self, before: JobRecord, after: JobRecord) -> JobRecord:
        """Return the job as it is buried: what the settlement changes, and all else as the row has it by now.

        Progress is written after the claim, and so may be attributes of a newer version.
        """
        item = self._get(self._jobs, encode_job_id(before.id))
        if item is None:
            return after
        try:
            return read_job(item).evolve(**find_changes(before, after))
        except UnreadableRow:
            return after.evolve(**read_beside(item))  # it must end all the same

    def _bury(self, before: JobRecord, after: JobRecord, *, with_key: bool) -> Settled:
        actions = [
            {"Delete": self._address(before, fence(before, Transition.BURY))},
            {"Put": {"TableName": self._failed, "Item": encode_failed(after)}},
        ]
        try:
            self._transact([*actions, self._release_key(before)] if with_key else actions)
        except TransactionRefused as refused:
            job = refused.reasons[0]
            if job is None:
                return self._bury(before, after, with_key=False)
            if job.item is not None:
                return _judge_refusal(job, before, after.settled_by, is_deletion=False)
            # not there: an earlier try of this very write buried it, or another writer ended it
            item = self._get(self._failed, {"id": {"S": before.id}})
            failed = None if item is None else self._drop_expired(read_failed(item))
            is_mine = failed is not None and failed.settled_by == after.settled_by
            return Settled.DONE if is_mine else Settled.LOST
        except StoreError as error:
            if not (with_key and is_denied(error)):
                raise
            settled = self._bury(before, after, with_key=False)
            if settled is Settled.DONE:
                self._release_key_alone(before)
            return settled
        return Settled.DONE


def _judge_refusal(
    refused: ConditionFailed, before: JobRecord, settled_by: str | None, *, is_deletion: bool
) -> Settled:
    """Say what a refused settle met: its own earlier try, a cancel that came first, or another's lease."""
    item = refused.item
    if item is None:
        return Settled.DONE if is_deletion else Settled.LOST
    if settled_by is not None and item.get("settled_by", {}).get("S") == settled_by:
        return Settled.DONE
    is_mine = item.get("lease_id", {}).get("S") == before.lease_id and before.lease_id is not None
    return Settled.CANCEL_REQUESTED if is_mine and "cancel_requested_at" in item else Settled.LOST
