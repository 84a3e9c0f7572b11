"""Sweeping: the index of rows by when they are due, how a sweep moves them, and the record of a tick."""

from __future__ import annotations

import json

from relayq_core.adapters.dynamodb.access import TableAccess, read_refusal
from relayq_core.adapters.dynamodb.calls import ConditionFailed
from relayq_core.adapters.dynamodb.expressions import STATUS_NAME, WAITING, WAITING_VALUES, encode_number
from relayq_core.adapters.dynamodb.items import JOB_PREFIX, parse_moment, read_job, read_tick
from relayq_core.adapters.dynamodb.tables import DUE_INDEX
from relayq_core.ports import Answer, Due, Page

_SWEEPER_KEY = {"pk": {"S": "sweeper"}}


class DynamoSweeps(TableAccess):
    """SweepStore and TickStore: the due index, which is eventually consistent, and the sweeper's own item."""

    def list_due(self, shard: str, until: int, limit: int, cursor: object | None = None) -> Page:
        start = {"ExclusiveStartKey": cursor} if cursor is not None else {}
        answer = self._call(
            "Query",
            TableName=self._jobs,
            IndexName=DUE_INDEX,
            KeyConditionExpression="due_shard = :shard AND due_at <= :until",
            ExpressionAttributeValues={":shard": {"S": shard}, ":until": encode_number(until)},
            Limit=limit,
            **start,
        )
        queue = shard.rpartition("#")[0]
        rows = tuple(
            Due(parse_moment(item["due_at"]["N"]), item["pk"]["S"].removeprefix(JOB_PREFIX), queue)
            for item in answer["Items"]
            if item["pk"]["S"].startswith(JOB_PREFIX)  # a row with another key is no job, however it came here
        )
        return Page(rows, answer.get("LastEvaluatedKey"))

    def nudge(self, row: Due, nudges: int, due_at: int) -> Answer:
        never = "attribute_not_exists(nudges) OR " if nudges == 0 else ""
        try:
            answer = self._update(
                row.job_id,
                UpdateExpression="SET due_at = :next, nudges = :more",
                ConditionExpression=f"due_at = :seen AND {WAITING} AND ({never}nudges = :nudges)",
                ExpressionAttributeNames=STATUS_NAME,
                ExpressionAttributeValues={
                    **WAITING_VALUES,
                    ":seen": encode_number(row.due_at),
                    ":next": encode_number(due_at),
                    ":nudges": encode_number(nudges),
                    ":more": encode_number(nudges + 1),
                },
                ReturnValues="ALL_NEW",
            )
        except ConditionFailed as refused:
            return Answer(False, read_refusal(refused))
        return Answer(True, read_job(answer["Attributes"]))

    def postpone(self, row: Due, due_at: int) -> bool:
        try:
            self._update(
                row.job_id,
                UpdateExpression="SET due_at = :next",
                # an index key that was written by hand may have a fraction, and has to move as well
                ConditionExpression="due_at >= :seen AND due_at < :after",
                ExpressionAttributeValues={
                    ":seen": encode_number(row.due_at),
                    ":after": encode_number(row.due_at + 1),
                    ":next": encode_number(due_at),
                },
            )
        except ConditionFailed:
            return False
        return True

    def record_tick(self, at: int, counts: dict[str, int], by: str = "") -> None:
        # an attribute on the right is what it was before this update
        name = ", swept_before = if_not_exists(swept_by, :by), swept_by = :by" if by else ""
        self._call(
            "UpdateItem",
            TableName=self._jobs,
            Key=_SWEEPER_KEY,
            UpdateExpression=f"SET ticked_at = :at, counts = :counts{name}",
            ExpressionAttributeValues={
                ":at": encode_number(at),
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
