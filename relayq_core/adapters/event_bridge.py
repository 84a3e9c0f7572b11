"""Announcements by EventBridge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from relayq_core.ports import Announcement

#: What every event says of where it comes from; rules match on it.
SOURCE = "relayq"


class EventBridge:
    """Puts announcements on one bus, by its name or ARN. `client` returns a boto3 client."""

    def __init__(self, client: Callable[[], Any], bus: str) -> None:
        self._client = client
        self._bus = bus

    def put(self, announcements: Sequence[Announcement]) -> list[str | None]:
        """Put all of them with one PutEvents. Raises what boto3 raises; each entry may be refused by itself."""
        answer = self._client().put_events(Entries=[self._build_entry(announcement) for announcement in announcements])
        return [entry.get("ErrorCode") for entry in answer["Entries"]]

    def _build_entry(self, announcement: Announcement) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": SOURCE,
            "DetailType": announcement.title,
            "Detail": announcement.detail_json,
            "Time": datetime.fromtimestamp(announcement.at / 1000, UTC),
        }
