"""Dispatching: new jobs, their unique keys and the list of queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relayq_core.adapters.dynamodb.access import TableAccess, read_holder, read_refusal
from relayq_core.adapters.dynamodb.calls import ConditionFailed, TransactionRefused, is_lacking
from relayq_core.adapters.dynamodb.expressions import encode_number
from relayq_core.adapters.dynamodb.items import Item, encode_job
from relayq_core.errors import JobTimeout, StoreError, StoreUnavailable, refuse_queue
from relayq_core.model.options import is_queue
from relayq_core.model.queues import FORGOTTEN_MS, MOST_QUEUES
from relayq_core.model.record import JobRecord
from relayq_core.ports import Added
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error

_QUEUES_KEY = {"pk": {"S": "queues"}}


class DynamoQueues(TableAccess):
    """QueueStore: all queues are one item, with a mark for each that was forgotten lately."""

    def register_queue(self, queue: str) -> None:
        # each process does so once for each queue, and nearly all of these are known: a read costs a tenth of a write
        # and gets in the way of no other. A read that is behind only makes the write come all the same
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
                    ":most": encode_number(MOST_QUEUES),
                },
            )
        except ConditionFailed:
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
        except ConditionFailed:
            return False
        self._drop_old_marks()
        return True

    def list_queues(self) -> list[str]:
        # a name that is not valid was put there by hand: a query for it may be refused, which would end every sweep
        item = self._get(self._jobs, _QUEUES_KEY) or {}
        names = {name for name in item.get("queue_names", {}).get("SS", []) if is_queue(name)}
        marks = [mark for mark in item.get("forgotten", {}).get("SS", []) if self._is_fresh(mark)]
        return sorted(names | {name for mark in marks if is_queue(name := mark.rpartition("#")[0])})

    def _knows_queue(self, queue: str) -> bool:
        try:
            item = self._get(self._jobs, _QUEUES_KEY, consistently=False) or {}
            return queue in item.get("queue_names", {}).get("SS", [])
        except StoreUnavailable:
            raise
        except StoreError:
            return False  # no right to read, as in a policy that the user wrote: the write needs another right

    def _drop_old_marks(self) -> None:
        """Delete the marks of more than a day ago, or they would pile up."""
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


class DynamoDispatches(TableAccess):
    """DispatchStore: a put for each job, a transaction where it has a unique key, PartiQL for a batch."""

    #: False once this caller was refused a batch for a reason that lasts
    _has_batches = True

    def add(self, record: JobRecord) -> Added:
        put = self._put_new(record)
        if record.unique_pk is None:
            try:
                self._call("PutItem", **put)
            except ConditionFailed as refused:
                return Added(found=read_refusal(refused))
            return Added()
        return self._add_with_key(put, record)

    def _add_with_key(self, put: dict[str, Any], record: JobRecord, abandoned: Item | None = None) -> Added:
        try:
            self._transact([{"Put": put}, self._take_key(record, abandoned)])
        except TransactionRefused as refused:
            job, key = refused.reasons
            if job is not None:  # looked at first: the caller's own row means that an earlier try was accepted
                return Added(found=read_refusal(job))
            if abandoned is None and (abandoned := self._find_abandoned(key)) is not None:
                return self._add_with_key(put, record, abandoned)
            return Added(holder=read_holder(None if key is None else key.item))
        return Added()

    def add_many(self, records: Sequence[JobRecord]) -> list[bool]:
        # PartiQL's INSERT refuses a key that is there; BatchWriteItem would overwrite a row that has run since
        if self._has_batches:
            try:
                answer = self._client().batch_execute_statement(
                    Statements=[self._insert(encode_job(record)) for record in records]
                )
                return ["Error" not in response for response in answer["Responses"]]
            except JobTimeout:
                raise
            except Exception as error:
                # no right to it, an engine that does not know it, no answer: one put for each job is as safe
                was_tried, self._has_batches = self._has_batches, not is_lacking(error)
                if was_tried:  # another thread may have logged it already
                    logger.warning("jobs are written one by one, a batch could not be (%s)", summarize_error(error))
        return [False] * len(records)

    def _insert(self, item: Item) -> dict[str, Any]:
        """Return the statement for one row.

        Numbers, all of them RelayQ's own, stand in its text: each parameter costs botocore two more steps.
        """
        values = ", ".join([f"'{name}': {value.get('N', '?')}" for name, value in item.items()])
        parameters = [value for value in item.values() if "N" not in value]
        return {"Statement": f'INSERT INTO "{self._jobs}" VALUE {{{values}}}', "Parameters": parameters}

    def find_holder(self, unique_pk: str) -> str | None:
        item = self._get(self._jobs, {"pk": {"S": unique_pk}})
        if item is None or _has_expired(item, self._now()) or self._is_abandoned(item):
            return None
        return read_holder(item)


def _has_expired(item: Item, now: int) -> bool:
    """Return what `expires_at <= :now` is in a condition: false where there is no number."""
    ends = item.get("expires_at", {}).get("N")
    return ends is not None and float(ends) <= now // 1000
