"""The shape of the two tables, for `tables create`, the embedded stack and the tests; the template says the same."""

from __future__ import annotations

from typing import Any

DUE_INDEX = "due"
BY_QUEUE_INDEX = "by_queue"
#: The attribute by which DynamoDB deletes ended rows, epoch seconds.
TTL_ATTRIBUTE = "expires_at"


def jobs_table(name: str) -> dict[str, Any]:
    """The arguments of create_table for the jobs table."""
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": _attributes(pk="S", due_shard="S", due_at="N"),
        "KeySchema": _keys("pk"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": DUE_INDEX,
                "KeySchema": _keys("due_shard", "due_at"),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    }


def failed_table(name: str) -> dict[str, Any]:
    """The arguments of create_table for the failed table."""
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": _attributes(id="S", queue="S", failed_at="N"),
        "KeySchema": _keys("id"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": BY_QUEUE_INDEX,
                "KeySchema": _keys("queue", "failed_at"),
                "Projection": {
                    "ProjectionType": "INCLUDE",
                    "NonKeyAttributes": ["name", "attempt", "error_head"],
                },
            }
        ],
    }


def _attributes(**types: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]


def _keys(partition: str, sort: str | None = None) -> list[dict[str, str]]:
    keys = [{"AttributeName": partition, "KeyType": "HASH"}]
    if sort is not None:
        keys.append({"AttributeName": sort, "KeyType": "RANGE"})
    return keys
