"""The tables on DynamoDB: the only file with its expressions, one method for each verb of the JobStore port."""

from __future__ import annotations

import functools
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from relayq_core.adapters.dynamodb.calls import Cancelled, Refused, call, is_denied, is_lacking
from relayq_core.adapters.dynamodb.items import (
    ATTRIBUTES,
    JOB_PREFIX,
    Item,
    attribute,
    failed_item,
    job_item,
    job_key,
    moment,
    read_beside,
    read_failed,
    read_failed_head,
    read_job,
    read_tick,
    unique_item,
)
from relayq_core.adapters.dynamodb.tables import BY_QUEUE_INDEX, DUE_INDEX
from relayq_core.errors import JobTimeout, SettingsError, StoreError, StoreUnavailable, UnreadableRow, refuse_queue
from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import YIELDS_TO_CANCEL, Settlement, Transition, find_changes
from relayq_core.model.options import is_queue
from relayq_core.model.queues import FORGOTTEN_MS, MOST_QUEUES
from relayq_core.model.record import CAN, JobRecord, Status, compute_shard
from relayq_core.ports import Added, Answer, Due, Page, Settled
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error

_QUEUES_KEY = {"pk": {"S": "queues"}}
_SWEEPER_KEY = {"pk": {"S": "sweeper"}}
_BATCH = 100

#: An ended row that TTL has not deleted yet counts as absent.
_FREE = "attribute_not_exists(pk) OR expires_at <= :now"
_WAITING = "#status IN (:pending, :retrying)"
_WAITING_VALUES = {":pending": {"S": "pending"}, ":retrying": {"S": "retrying"}}
_ENDED = frozenset(status.value for status in Status if status.is_ended)
#: No clock decides when a job may start that was dispatched without a delay: its caller's may be ahead.
_ITS_TIME = "(available_at <= :now OR (attempt = :zero AND available_at = created_at))"
_HELD = "#status = :processing AND lease_id = :lease"
#: A row of a newer version may need more than this one can do.
_ABLE = "(attribute_not_exists(needs) OR needs <= :can)"
_ABLE_VALUES = {":can": {"N": str(CAN)}}
_UNMARKED = "attribute_not_exists(cancel_requested_at)"
_STATUS = {"#status": "status"}
_NAME = {"#name": "name"}


class DynamoStore:
    """JobStore on two DynamoDB tables. `client` makes or answers with a low-level boto3 client."""

    def __init__(
        self,
        client: Callable[[], Any],
        jobs_table: str,
        failed_table: str,
        *,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._client = client
        self._jobs = jobs_table
        self._failed_table = failed_table
        self._now = now
        self._inserts = True

    @property
    def _failed(self) -> str:
        """A caller that only dispatches needs no failed table; whoever looks for a failure does."""
        if not self._failed_table:
            raise SettingsError("RELAYQ_FAILED_TABLE", "it is not set; take it from the stack's outputs")
        return self._failed_table

    # --- queues ---

    def register_queue(self, queue: str) -> None:
        # each process asks once, and nearly all of them for a queue that is known: a read costs a tenth of a write,
        # and hinders no other. One that is behind only makes the write come all the same
        if self._knows_queue(queue):
            return
        try:
            self._call(
                "UpdateItem",
                TableName=self._jobs,
                Key=_QUEUES_KEY,
                UpdateExpression="ADD queue_names :queues",
                ConditionExpression=(
                    "attribute_not_exists(queue_names) OR contains(queue_names, :queue) OR size(queue_names) < :most"
                ),
                ExpressionAttributeValues={
                    ":queues": {"SS": [queue]},
                    ":queue": {"S": queue},
                    ":most": _number(MOST_QUEUES),
                },
            )
        except Refused:
            raise refuse_queue(queue, MOST_QUEUES) from None

    def forget_queue(self, queue: str) -> bool:
        try:
            self._call(
                "UpdateItem",
                TableName=self._jobs,
                Key=_QUEUES_KEY,
                UpdateExpression="DELETE queue_names :queues ADD forgotten :mark",
                ConditionExpression="contains(queue_names, :queue)",
                ExpressionAttributeValues={
                    ":queues": {"SS": [queue]},
                    ":queue": {"S": queue},
                    ":mark": {"SS": [f"{queue}#{self._now()}"]},
                },
            )
        except Refused:
            return False
        self._drop_old_marks()
        return True

    def _drop_old_marks(self) -> None:
        """Else they would pile up; whoever is too late for it leaves them to the next."""
        item = self._get(self._jobs, _QUEUES_KEY) or {}
        old = [mark for mark in item.get("forgotten", {}).get("SS", []) if not self._is_fresh(mark)]
        if old:
            self._call(
                "UpdateItem",
                TableName=self._jobs,
                Key=_QUEUES_KEY,
                UpdateExpression="DELETE forgotten :old",
                ExpressionAttributeValues={":old": {"SS": old}},
            )

    def _is_fresh(self, mark: str) -> bool:
        at = mark.rpartition("#")[2]
        return at.isdecimal() and int(at) + FORGOTTEN_MS > self._now()

    def _knows_queue(self, queue: str) -> bool:
        try:
            item = self._get(self._jobs, _QUEUES_KEY, consistently=False) or {}
            return queue in item.get("queue_names", {}).get("SS", [])
        except StoreUnavailable:
            raise
        except StoreError:
            return False  # no right to read, as in a policy of the caller's own: the write asks for another

    def list_queues(self) -> list[str]:
        # a name that is none was put there by hand: to ask the index for it may be refused, and would end every sweep
        item = self._get(self._jobs, _QUEUES_KEY) or {}
        names = {name for name in item.get("queue_names", {}).get("SS", []) if is_queue(name)}
        marks = [mark for mark in item.get("forgotten", {}).get("SS", []) if self._is_fresh(mark)]
        return sorted(names | {name for mark in marks if is_queue(name := mark.rpartition("#")[0])})

    # --- dispatch ---

    def add(self, record: JobRecord) -> Added:
        put = self._put_new(record)
        if record.unique_pk is None:
            try:
                self._call("PutItem", **put)
            except Refused as refused:
                return Added(found=_job(refused))
            return Added()
        return self._add_with_key(put, record)

    def _add_with_key(self, put: dict[str, Any], record: JobRecord, left: Item | None = None) -> Added:
        try:
            self._transact([{"Put": put}, self._take_key(record, left)])
        except Cancelled as cancelled:
            job, key = cancelled.reasons
            if job is not None:  # judged first: my own row means that an earlier try was accepted
                return Added(found=_job(job))
            if left is None and (left := self._left_behind(key)) is not None:
                return self._add_with_key(put, record, left)
            return Added(holder=_holder(key))
        return Added()

    def add_many(self, records: Sequence[JobRecord]) -> list[bool]:
        # PartiQL's INSERT refuses a key that is there; BatchWriteItem would put back what has run meanwhile
        if self._inserts:
            try:
                answer = self._client().batch_execute_statement(
                    Statements=[self._insert(job_item(record)) for record in records]
                )
                return ["Error" not in response for response in answer["Responses"]]
            except JobTimeout:
                raise
            except Exception as error:
                # no right to it, an engine that does not know it, no answer: one put for each job is as safe
                was_tried, self._inserts = self._inserts, not is_lacking(error)
                if was_tried:  # and not told by another thread already
                    logger.warning("jobs are written one by one, a batch could not be (%s)", summarize_error(error))
        return [False] * len(records)

    def _insert(self, item: Item) -> dict[str, Any]:
        """Numbers, all of them RelayQ's own, stand in the statement: each parameter takes botocore two steps more."""
        values = ", ".join([f"'{name}': {value.get('N', '?')}" for name, value in item.items()])
        parameters = [value for value in item.values() if "N" not in value]
        return {"Statement": f'INSERT INTO "{self._jobs}" VALUE {{{values}}}', "Parameters": parameters}

    def _put_new(self, record: JobRecord) -> dict[str, Any]:
        return {
            "TableName": self._jobs,
            "Item": job_item(record),
            "ConditionExpression": _FREE,
            "ExpressionAttributeValues": {":now": _number(self._now() // 1000)},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _take_key(self, record: JobRecord, left: Item | None = None) -> dict[str, Any]:
        """`left` is a key that its job left behind: it is taken over unless it was taken meanwhile."""
        now = self._now()
        condition = f"{_FREE} OR job_id = :me"
        values: dict[str, Any] = {":now": _number(now // 1000), ":me": {"S": record.id}}
        if left is not None:
            condition += " OR (job_id = :left AND taken_at = :then)"
            values |= {":left": left["job_id"], ":then": left["taken_at"]}
        return {
            "Put": {
                "TableName": self._jobs,
                "Item": unique_item(record, now),
                "ConditionExpression": condition,
                "ExpressionAttributeValues": values,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _left_behind(self, refused: Refused | None) -> Item | None:
        """The key that stands in the way, if its job has ended without releasing it."""
        item = None if refused is None else refused.item
        return item if item is not None and self._has_left(item) else None

    def _has_left(self, key: Item) -> bool:
        """A key without a window is its job's until that ends, and whoever ended it may have had no right to delete."""
        if "expires_at" in key or "taken_at" not in key or "job_id" not in key:
            return False
        row = self._get(self._jobs, job_key(key["job_id"]["S"]))
        return row is None or row.get("status", {}).get("S") in _ENDED

    def _release_key_alone(self, record: JobRecord) -> None:
        """The job has ended, and its key could not be released with it. Where this fails too, the next to dispatch
        with the key takes it over."""
        logger.warning(
            "a unique key could not be released in one transaction with its job: the role lacks dynamodb:DeleteItem "
            "there, or AWS judges it by other keys; the job has ended all the same",
            extra={"job_id": record.id},
        )
        try:
            self._call("DeleteItem", **self._release_key(record)["Delete"])
        except (Refused, StoreError):
            return

    def _release_key(self, record: JobRecord) -> dict[str, Any]:
        assert record.unique_pk is not None
        return {
            "Delete": {
                "TableName": self._jobs,
                "Key": {"pk": {"S": record.unique_pk}},
                "ConditionExpression": "attribute_not_exists(pk) OR job_id = :me",
                "ExpressionAttributeValues": {":me": {"S": record.id}},
            }
        }

    # --- claim ---

    def claim(self, job_id: str, lease: Lease) -> Answer:
        if lease.sweep_at is None:
            until = " lease_until = :grace_ends + if_not_exists(timeout_ms, :budget),"
            times = {":grace_ends": _number(lease.now + lease.grace_ms), ":budget": _number(lease.budget_ms)}
        else:
            until = " lease_until = :until, due_at = :look,"
            times = {":until": _number(lease.until(None)), ":look": _number(lease.sweep_at)}
        named = {} if lease.name is None else {":name": {"S": lease.name}}
        try:
            answer = self._update(
                job_id,
                UpdateExpression=(
                    f"SET #status = :processing, lease_id = :lease,{until}"
                    " attempt = attempt + if_not_exists(next_counts, :one),"
                    " nudges = :zero, started_at = :now, updated_at = :now"
                ),
                ConditionExpression=f"{_WAITING} AND {_ITS_TIME} AND {_ABLE}" + (" AND #name = :name" if named else ""),
                ExpressionAttributeNames={**_STATUS, **_NAME} if named else _STATUS,
                ExpressionAttributeValues={
                    **_WAITING_VALUES,
                    **_ABLE_VALUES,
                    **times,
                    **named,
                    ":processing": {"S": "processing"},
                    ":lease": {"S": lease.id},
                    ":one": _number(1),
                    ":zero": _number(0),
                    ":now": _number(lease.now),
                },
                ReturnValues="ALL_NEW",
            )
        except Refused as refused:
            record = _job(refused)
            mine = record is not None and record.lease_id == lease.id
            return Answer(mine, record)
        return Answer(True, read_job(answer["Attributes"]))

    def renew_lease(self, before: JobRecord, lease_until: int) -> bool:
        return self._while_held(before, "SET lease_until = :until", {":until": _number(lease_until)})

    # --- settle ---

    def settle(self, before: JobRecord, settlement: Settlement) -> Settled:
        if settlement.transition is Transition.BURY:
            return self._move_to_failed(before, settlement.after)
        if not settlement.keeps_row:
            return self._settle("Delete", self._delete_held(before, settlement.transition), before, None, ends=True)
        after = settlement.after
        update = {
            "TableName": self._jobs,
            "Key": job_key(before.id),
            **_changes(before, after, _fence(before, settlement.transition)),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return self._settle("Update", update, before, after.settled_by, ends=after.status.is_ended)

    def _delete_held(self, before: JobRecord, event: Transition) -> dict[str, Any]:
        return {
            "TableName": self._jobs,
            "Key": job_key(before.id),
            **_fence(before, event),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _settle(
        self, action: str, request: dict[str, Any], before: JobRecord, settled_by: str | None, *, ends: bool
    ) -> Settled:
        try:
            if ends and before.holds_key:
                self._transact([{action: request}, self._release_key(before)])
            else:
                self._call(f"{action}Item", **request)
        except Refused as refused:
            return _refused_settle(refused, before, settled_by, gone_is_done=action == "Delete")
        except Cancelled as cancelled:
            job, _ = cancelled.reasons
            if job is not None:
                return _refused_settle(job, before, settled_by, gone_is_done=action == "Delete")
            # the key alone was refused: somebody else has it now, and that must not keep the job from ending
            return self._settle(action, request, before, settled_by, ends=False)
        except StoreError as error:
            if not (ends and before.holds_key and is_denied(error)):
                raise
            settled = self._settle(action, request, before, settled_by, ends=False)
            if settled is Settled.DONE:
                self._release_key_alone(before)
            return settled
        return Settled.DONE

    def _move_to_failed(self, before: JobRecord, after: JobRecord) -> Settled:
        after = self._as_it_is(before, after)
        actions = [
            {"Delete": self._delete_held(before, Transition.BURY)},
            {"Put": {"TableName": self._failed, "Item": failed_item(after)}},
        ]
        return self._bury(actions, before, after, with_key=before.holds_key)

    def _as_it_is(self, before: JobRecord, after: JobRecord) -> JobRecord:
        """The job as it ends: what the decision changes, and all else as the row has it by now.

        Its progress is written beside the claim, and so may be what a newer version knows of it.
        """
        item = self._get(self._jobs, job_key(before.id))
        if item is None:
            return after
        try:
            return read_job(item).evolve(**find_changes(before, after))
        except UnreadableRow:
            return after.evolve(**read_beside(item))  # it must end all the same

    def _bury(self, actions: list[dict[str, Any]], before: JobRecord, after: JobRecord, *, with_key: bool) -> Settled:
        try:
            self._transact([*actions, self._release_key(before)] if with_key else actions)
        except Cancelled as cancelled:
            job = cancelled.reasons[0]
            if job is None:
                return self._bury(actions, before, after, with_key=False)
            if job.item is None:
                # not there: buried by an earlier try of this very write, or ended by somebody else
                found = self.get_failed(before.id)
                mine = found is not None and found.settled_by == after.settled_by
                return Settled.DONE if mine else Settled.LOST
            return _refused_settle(job, before, after.settled_by, gone_is_done=False)
        except StoreError as error:
            if not (with_key and is_denied(error)):
                raise
            settled = self._bury(actions, before, after, with_key=False)
            if settled is Settled.DONE:
                self._release_key_alone(before)
            return settled
        return Settled.DONE

    def save_progress(self, before: JobRecord, progress_json: str) -> bool:
        values = {":progress": {"S": progress_json}, ":now": _number(self._now())}
        return self._while_held(before, "SET progress = :progress, updated_at = :now", values)

    def _while_held(self, before: JobRecord, update: str, values: Mapping[str, Any]) -> bool:
        """Change what settles nothing; False if the lease is no longer `before.lease_id`."""
        try:
            self._update(
                before.id,
                UpdateExpression=update,
                ConditionExpression=_HELD,
                ExpressionAttributeNames=_STATUS,
                ExpressionAttributeValues={
                    ":processing": {"S": "processing"},
                    ":lease": {"S": before.lease_id or ""},
                    **values,
                },
            )
        except Refused:
            return False
        return True

    # --- sweep ---

    def list_due(self, shard: str, until: int, limit: int, cursor: object | None = None) -> Page:
        start = {"ExclusiveStartKey": cursor} if cursor is not None else {}
        answer = self._call(
            "Query",
            TableName=self._jobs,
            IndexName=DUE_INDEX,
            KeyConditionExpression="due_shard = :shard AND due_at <= :until",
            ExpressionAttributeValues={":shard": {"S": shard}, ":until": _number(until)},
            Limit=limit,
            **start,
        )
        queue = shard.rpartition("#")[0]
        rows = tuple(
            Due(moment(item["due_at"]["N"]), item["pk"]["S"].removeprefix(JOB_PREFIX), queue)
            for item in answer["Items"]
            if item["pk"]["S"].startswith(JOB_PREFIX)  # what bears another key is no job, whoever put it in the index
        )
        return Page(rows, answer.get("LastEvaluatedKey"))

    def nudge(self, row: Due, nudges: int, due_at: int) -> Answer:
        never = "attribute_not_exists(nudges) OR " if nudges == 0 else ""
        try:
            answer = self._update(
                row.job_id,
                UpdateExpression="SET due_at = :next, nudges = :more",
                ConditionExpression=f"due_at = :seen AND {_WAITING} AND ({never}nudges = :nudges)",
                ExpressionAttributeNames=_STATUS,
                ExpressionAttributeValues={
                    **_WAITING_VALUES,
                    ":seen": _number(row.due_at),
                    ":next": _number(due_at),
                    ":nudges": _number(nudges),
                    ":more": _number(nudges + 1),
                },
                ReturnValues="ALL_NEW",
            )
        except Refused as refused:
            return Answer(False, _job(refused))
        return Answer(True, read_job(answer["Attributes"]))

    def postpone(self, row: Due, due_at: int) -> bool:
        try:
            self._update(
                row.job_id,
                UpdateExpression="SET due_at = :next",
                # an index key that was written by hand may have a fraction, and must be got out of the way as well
                ConditionExpression="due_at >= :seen AND due_at < :after",
                ExpressionAttributeValues={
                    ":seen": _number(row.due_at),
                    ":after": _number(row.due_at + 1),
                    ":next": _number(due_at),
                },
            )
        except Refused:
            return False
        return True

    def record_tick(self, at: int, counts: dict[str, int], by: str = "") -> None:
        # an attribute on the right is what it was before this update
        named = ", swept_before = if_not_exists(swept_by, :by), swept_by = :by" if by else ""
        self._call(
            "UpdateItem",
            TableName=self._jobs,
            Key=_SWEEPER_KEY,
            UpdateExpression=f"SET ticked_at = :at, counts = :counts{named}",
            ExpressionAttributeValues={
                ":at": _number(at),
                ":counts": {"S": json.dumps(counts)},
                **({":by": {"S": by}} if by else {}),
            },
        )

    def list_sweepers(self) -> tuple[str, ...]:
        item = self._get(self._jobs, _SWEEPER_KEY) or {}
        names = [item[name]["S"] for name in ("swept_before", "swept_by") if "S" in item.get(name, {})]
        return tuple(dict.fromkeys(names))

    def read_last_tick(self) -> tuple[int, dict[str, int]] | None:
        item = self._get(self._jobs, _SWEEPER_KEY)
        return None if item is None else read_tick(item)

    # --- operations ---

    def get(self, job_id: str) -> JobRecord | None:
        item = self._get(self._jobs, job_key(job_id))
        return None if item is None else self._unless_expired(read_job(item))

    def find_holder(self, unique_pk: str) -> str | None:
        item = self._get(self._jobs, {"pk": {"S": unique_pk}})
        if item is None or _has_expired(item, self._now()) or self._has_left(item):
            return None
        return _holder_in(item)

    def get_many(self, job_ids: Iterable[str]) -> list[JobRecord]:
        wanted = [job_key(job_id) for job_id in dict.fromkeys(job_ids)]
        found: list[JobRecord] = []
        while wanted:
            batch, wanted = wanted[:_BATCH], wanted[_BATCH:]
            keys = {"Keys": batch, "ConsistentRead": True}
            answer = self._call("BatchGetItem", RequestItems={self._jobs: keys})
            for item in answer["Responses"].get(self._jobs, []):
                try:
                    record = self._unless_expired(read_job(item))
                except UnreadableRow:
                    continue  # the sweeper tells of it
                if record is not None:
                    found.append(record)
            wanted += answer.get("UnprocessedKeys", {}).get(self._jobs, {}).get("Keys", [])
        return found

    def get_failed(self, job_id: str) -> JobRecord | None:
        item = self._get(self._failed, {"id": {"S": job_id}})
        return None if item is None else self._unless_expired(read_failed(item))

    def list_failed(self, queue: str, limit: int, until: int | None = None) -> Iterator[JobRecord]:
        condition, values = "#queue = :queue", {":queue": {"S": queue}}
        if until is not None:
            condition, values = f"{condition} AND failed_at <= :until", {**values, ":until": _number(until)}
        start: dict[str, Any] = {}
        while True:
            answer = self._call(
                "Query",
                TableName=self._failed,
                IndexName=BY_QUEUE_INDEX,
                KeyConditionExpression=condition,
                ExpressionAttributeNames={"#queue": "queue"},
                ExpressionAttributeValues=values,
                ScanIndexForward=False,
                Limit=limit,
                **start,
            )
            for item in answer["Items"]:
                try:
                    yield read_failed_head(item)
                except UnreadableRow as error:
                    logger.error("%s", error, extra={"job_id": error.job_id})
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def cancel_waiting(self, before: JobRecord, settlement: Settlement) -> bool:
        after = settlement.after
        condition = {
            "ConditionExpression": f"{_WAITING} AND attempt = :attempt AND {_ABLE}",
            "ExpressionAttributeNames": _STATUS,
            "ExpressionAttributeValues": {
                **_WAITING_VALUES,
                **_ABLE_VALUES,
                ":attempt": _number(before.attempt),
            },
        }
        update = {
            "TableName": self._jobs,
            "Key": job_key(before.id),
            **_changes(before, after, condition),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return self._settle("Update", update, before, None, ends=True) is Settled.DONE

    def mark_cancelled(self, before: JobRecord, now: int) -> Answer:
        try:
            answer = self._update(
                before.id,
                UpdateExpression="SET cancel_requested_at = :now",
                ConditionExpression=f"{_HELD} AND {_ABLE}",
                ExpressionAttributeNames=_STATUS,
                ExpressionAttributeValues={
                    **_ABLE_VALUES,
                    ":processing": {"S": "processing"},
                    ":lease": {"S": before.lease_id or ""},
                    ":now": _number(now),
                },
                ReturnValues="ALL_NEW",
            )
        except Refused as refused:
            return Answer(False, _job(refused))
        return Answer(True, read_job(answer["Attributes"]))

    def redrive(self, failed: JobRecord, settlement: Settlement) -> Added | None:
        return self._redrive(failed, settlement.after)

    def _redrive(self, failed: JobRecord, after: JobRecord, left: Item | None = None) -> Added | None:
        actions = [
            {"Put": self._put_new(after)},
            {
                "Delete": {
                    "TableName": self._failed,
                    "Key": {"id": {"S": failed.id}},
                    **_same_failure(failed),
                }
            },
        ]
        if after.unique_pk is not None:
            actions.append(self._take_key(after, left))
        try:
            self._transact(actions)
        except Cancelled as cancelled:
            job, gone, *key = cancelled.reasons
            if job is not None:
                return Added(found=_job(job))
            if gone is not None:
                return None
            if left is None and (left := self._left_behind(key[0])) is not None:
                return self._redrive(failed, after, left)
            return Added(holder=_holder(key[0]))
        return Added()

    def forget(self, job_id: str) -> bool:
        try:
            self._call(
                "DeleteItem",
                TableName=self._failed,
                Key={"id": {"S": job_id}},
                ConditionExpression="attribute_exists(id)",
            )
        except Refused:
            return False
        return True

    # --- the calls ---

    def _unless_expired(self, record: JobRecord) -> JobRecord | None:
        """TTL deletes days late: what has expired counts as gone."""
        expired = record.expires_at is not None and record.expires_at <= self._now() // 1000
        return None if expired else record

    def _get(self, table: str, key: Mapping[str, Any], *, consistently: bool = True) -> Item | None:
        answer = self._call("GetItem", TableName=table, Key=key, ConsistentRead=consistently)
        item: Item | None = answer.get("Item")
        return item

    def _update(self, job_id: str, **request: Any) -> dict[str, Any]:
        try:
            return self._call(
                "UpdateItem",
                TableName=self._jobs,
                Key=job_key(job_id),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **request,
            )
        except StoreError as error:
            if error.code == "ValidationException" and "expression" in str(error).lower():
                # arithmetic on an attribute that is missing or of another type
                raise UnreadableRow(job_id, str(error)[:300]) from error
            raise

    def _transact(self, actions: list[dict[str, Any]]) -> None:
        """All or nothing. One token and one frozen body over all tries, so that a lost answer is no second write."""
        self._call("TransactWriteItems", TransactItems=actions, ClientRequestToken=secrets.token_hex(16))

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        send = getattr(self._client(), _method(operation))
        return call(operation, send, request)


def _fence(before: JobRecord, event: Transition) -> dict[str, Any]:
    """Only the holder of the lease may settle; and only a success counts once a cancel was asked for."""
    unmarked = f" AND {_UNMARKED}" if event in YIELDS_TO_CANCEL else ""
    return {
        "ConditionExpression": f"{_HELD} AND {_ABLE}{unmarked}",
        "ExpressionAttributeNames": _STATUS,
        "ExpressionAttributeValues": {
            **_ABLE_VALUES,
            ":processing": {"S": "processing"},
            ":lease": {"S": before.lease_id or ""},
        },
    }


def _same_failure(seen: JobRecord) -> dict[str, Any]:
    """Only the failure that was seen is brought back: the same job may have failed again since."""
    if seen.settled_by is None:
        same, by = "attribute_not_exists(settled_by)", {}
    else:
        same, by = "settled_by = :seen", {":seen": {"S": seen.settled_by}}
    return {
        "ConditionExpression": f"attribute_exists(id) AND {same} AND {_ABLE}",
        "ExpressionAttributeValues": {**_ABLE_VALUES, **by},
    }


def _changes(before: JobRecord, after: JobRecord, condition: dict[str, Any]) -> dict[str, Any]:
    """The update that turns the one record into the other: what it does not change is not named."""
    names = dict(condition["ExpressionAttributeNames"])
    values = dict(condition["ExpressionAttributeValues"])
    sets: list[str] = []
    removes: list[str] = []
    for field, value in find_changes(before, after).items():
        name, new = ATTRIBUTES[field][0], attribute(field, value)
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


def _refused_settle(refused: Refused, before: JobRecord, settled_by: str | None, *, gone_is_done: bool) -> Settled:
    """Whether a refused settle was my own earlier try, a cancel that came first, or a lease that is not mine."""
    item = refused.item
    if item is None:
        return Settled.DONE if gone_is_done else Settled.LOST
    if settled_by is not None and item.get("settled_by", {}).get("S") == settled_by:
        return Settled.DONE
    mine = item.get("lease_id", {}).get("S") == before.lease_id and before.lease_id is not None
    return Settled.CANCEL_REQUESTED if mine and "cancel_requested_at" in item else Settled.LOST


def _job(refused: Refused) -> JobRecord | None:
    return None if refused.item is None else read_job(refused.item)


def _holder(refused: Refused | None) -> str:
    """The job that has the unique key; a row without one was not written by RelayQ."""
    return _holder_in(refused.item if refused is not None else None)


def _holder_in(item: Item | None) -> str:
    return str((item or {}).get("job_id", {}).get("S", "unknown"))


def _has_expired(item: Item, now: int) -> bool:
    """As `expires_at <= :now` in a condition has it: false where there is no number."""
    ends = item.get("expires_at", {}).get("N")
    return ends is not None and float(ends) <= now // 1000


def _number(value: int) -> dict[str, str]:
    return {"N": str(value)}


@functools.cache
def _method(operation: str) -> str:
    """PutItem -> put_item, the name of boto3's method."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in operation).lstrip("_")
