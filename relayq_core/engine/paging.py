"""Paging: read all rows of one shard of the index, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from relayq_core.ports import Due, Page

#: Later than any row is due, epoch milliseconds.
FOREVER = 10**15


class DueIndex(Protocol):
    """The part of the store that lists rows by when they are due."""

    def list_due(self, shard: str, until: int, limit: int, cursor: object | None = None) -> Page:
        """See ports.py."""
        ...


def read_pages(index: DueIndex, shard: str, *, limit: int, until: int = FOREVER) -> Iterator[tuple[Due, ...]]:
    """Yield the rows of a shard that are due by `until`, oldest first, at most `limit` of them at a time.

    Each page is read when it is asked for. Raises StoreError.
    """
    cursor: object | None = None
    while True:
        page = index.list_due(shard, until, limit, cursor)
        yield page.rows
        if (cursor := page.cursor) is None:
            return
