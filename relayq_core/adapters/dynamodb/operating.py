"""Operating: jobs read by id, failed jobs by queue, and what an operator does with these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from relayq_core.adapters.dynamodb.access import TableAccess, read_holder, read_refusal
from relayq_core.adapters.dynamodb.calls import ConditionFailed, TransactionRefused
from relayq_core.adapters.dynamodb.expressions import encode_number, require_same_failure
from relayq_core.adapters.dynamodb.items import Item, encode_job_id, read_failed, read_failed_head, read_job
from relayq_core.adapters.dynamodb.tables import BY_QUEUE_INDEX
from relayq_core.errors import UnreadableRow
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord
from relayq_core.ports import Added
from relayq_core.process.loggers import logger

#: DynamoDB reads no more keys in one call.
_BATCH = 100


class DynamoReads(TableAccess):
    """ReadStore: consistent reads by id, and the failed table's index by queue."""

    def get(self, job_id: str) -> JobRecord | None:
        item = self._get(self._jobs, encode_job_id(job_id))
        return None if item is None else self._drop_expired(read_job(item))

    def get_many(self, job_ids: Iterable[str]) -> list[JobRecord]:
        keys = [encode_job_id(job_id) for job_id in dict.fromkeys(job_ids)]
        records: list[JobRecord] = []
        while keys:
            batch, keys = keys[:_BATCH], keys[_BATCH:]
            request = {self._jobs: {"Keys": batch, "ConsistentRead": True}}
            answer = self._call("BatchGetItem", RequestItems=request)
            for item in answer["Responses"].get(self._jobs, []):
                try:
                    record = self._drop_expired(read_job(item))
                except UnreadableRow:
                    continue  # the sweeper logs it
                if record is not None:
                    records.append(record)
            keys += answer.get("UnprocessedKeys", {}).get(self._jobs, {}).get("Keys", [])
        return records

    def get_failed(self, job_id: str) -> JobRecord | None:
        item = self._get(self._failed, {"id": {"S": job_id}})
        return None if item is None else self._drop_expired(read_failed(item))

    def list_failed(self, queue: str, limit: int, until: int | None = None) -> Iterator[JobRecord]:
        condition, values = "#queue = :queue", {":queue": {"S": queue}}
        if until is not None:
            condition, values = f"{condition} AND failed_at <= :until", {**values, ":until": encode_number(until)}
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


class DynamoFailures(TableAccess):
    """FailureStore: a redrive moves a row in one transaction."""

    def redrive(self, failed: JobRecord, settlement: Settlement) -> Added | None:
        return self._redrive(failed, settlement.after)

    def _redrive(self, failed: JobRecord, after: JobRecord, abandoned: Item | None = None) -> Added | None:
        key = {"id": {"S": failed.id}}
        actions = [
            {"Put": self._put_new(after)},
            {"Delete": {"TableName": self._failed, "Key": key, **require_same_failure(failed)}},
        ]
        if after.unique_pk is not None:
            actions.append(self._take_key(after, abandoned))
        try:
            self._transact(actions)
        except TransactionRefused as refused:
            job, failure, *keys = refused.reasons
            if job is not None:
                return Added(found=read_refusal(job))
            if failure is not None:
                return None
            if abandoned is None and (abandoned := self._find_abandoned(keys[0])) is not None:
                return self._redrive(failed, after, abandoned)
            return Added(holder=read_holder(None if keys[0] is None else keys[0].item))
        return Added()

    def forget(self, job_id: str) -> bool:
        try:
            self._call(
                "DeleteItem",
                TableName=self._failed,
                Key={"id": {"S": job_id}},
                ConditionExpression="attribute_exists(id)",
            )
        except ConditionFailed:
            return False
        return True
