"""Access to the two tables: how every part of the store reads, writes and takes a unique key."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from relayq_core.adapters.dynamodb.calls import ConditionFailed, call
from relayq_core.adapters.dynamodb.expressions import FREE, encode_number, require_free_key
from relayq_core.adapters.dynamodb.items import Item, encode_job, encode_job_id, encode_key, read_job
from relayq_core.errors import SettingsError, StoreError, UnreadableRow
from relayq_core.model.record import JobRecord, Status
from relayq_core.process.loggers import logger

_ENDED = frozenset(status.value for status in Status if status.is_ended)


class TableAccess:
    """The two tables. `client` returns a low-level boto3 client, `now` epoch milliseconds."""

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

    @property
    def _failed(self) -> str:
        """The name of the failed table. A caller that only dispatches may leave it unset."""
        if not self._failed_table:
            raise SettingsError("RELAYQ_FAILED_TABLE", "it is not set; take it from the stack's outputs")
        return self._failed_table

    # --- calls ---

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        send = getattr(self._client(), _name_method(operation))
        return call(operation, send, request)

    def _get(self, table: str, key: Mapping[str, Any], *, consistently: bool = True) -> Item | None:
        answer = self._call("GetItem", TableName=table, Key=key, ConsistentRead=consistently)
        item: Item | None = answer.get("Item")
        return item

    def _update(self, job_id: str, **request: Any) -> dict[str, Any]:
        try:
            return self._call(
                "UpdateItem",
                TableName=self._jobs,
                Key=encode_job_id(job_id),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **request,
            )
        except StoreError as error:
            if error.code == "ValidationException" and "expression" in str(error).lower():
                # arithmetic on an attribute that is missing or of another type
                raise UnreadableRow(job_id, str(error)[:300]) from error
            raise

    def _transact(self, actions: list[dict[str, Any]]) -> None:
        """Do all or nothing.

        All tries send one token and one frozen body, so that a lost answer is no second write.
        """
        self._call("TransactWriteItems", TransactItems=actions, ClientRequestToken=secrets.token_hex(16))

    # --- rows ---

    def _put_new(self, record: JobRecord) -> dict[str, Any]:
        return {
            "TableName": self._jobs,
            "Item": encode_job(record),
            "ConditionExpression": FREE,
            "ExpressionAttributeValues": {":now": encode_number(self._now() // 1000)},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _drop_expired(self, record: JobRecord) -> JobRecord | None:
        """Return the record unless it has expired: TTL deletes days late."""
        expired = record.expires_at is not None and record.expires_at <= self._now() // 1000
        return None if expired else record

    # --- unique keys ---

    def _take_key(self, record: JobRecord, abandoned: Item | None = None) -> dict[str, Any]:
        now = self._now()
        return {
            "Put": {
                "TableName": self._jobs,
                "Item": encode_key(record, now),
                **require_free_key(record, now, abandoned),
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

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

    def _release_key_alone(self, record: JobRecord) -> None:
        """Release the key of a job that has ended, where that could not be done in the same transaction.

        If this fails too, the next job that is dispatched with the key takes it over.
        """
        logger.warning(
            "a unique key could not be released in one transaction with its job: the role lacks dynamodb:DeleteItem "
            "there, or AWS judges it by other keys; the job has ended all the same",
            extra={"job_id": record.id},
        )
        try:
            self._call("DeleteItem", **self._release_key(record)["Delete"])
        except (ConditionFailed, StoreError):
            return

    def _find_abandoned(self, refused: ConditionFailed | None) -> Item | None:
        """Return the key's item that refused a write if its job has ended without releasing it, or None."""
        item = None if refused is None else refused.item
        return item if item is not None and self._is_abandoned(item) else None

    def _is_abandoned(self, key: Item) -> bool:
        """Return whether the job that has the key has ended.

        A key without a window is held until its job ends; whatever ended the job may have had no right to delete it.
        """
        if "expires_at" in key or "taken_at" not in key or "job_id" not in key:
            return False
        row = self._get(self._jobs, encode_job_id(key["job_id"]["S"]))
        return row is None or row.get("status", {}).get("S") in _ENDED


def read_refusal(refused: ConditionFailed) -> JobRecord | None:
    """Return the row that did not meet a condition, or None if there was no row."""
    return None if refused.item is None else read_job(refused.item)


def read_holder(item: Item | None) -> str:
    """Return the id of the job that has a unique key; an item without one was not written by RelayQ."""
    return str((item or {}).get("job_id", {}).get("S", "unknown"))


@functools.cache
def _name_method(operation: str) -> str:
    """Return the name of boto3's method: put_item for PutItem."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in operation).lstrip("_")
