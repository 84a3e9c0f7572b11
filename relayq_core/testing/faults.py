"""What can go wrong between a dispatch and its end, at a test's wish: a runner that dies, and how its store sees it."""

from __future__ import annotations

from typing import Any, Literal, cast

from relayq_core.model.leases import Lease
from relayq_core.ports import Answer, JobStore

#: When a runner dies: before its handler has begun, or when it has done its work and nothing is written down yet.
Moment = Literal["before", "after"]


class RunnerKilled(BaseException):
    """The process is gone: no code of the runner sees this, nor writes anything any more."""


class DyingStore:
    """The store as a runner sees it that dies at a moment: it claims, and then it is gone."""

    def __init__(self, store: JobStore, moment: Moment) -> None:
        self._store = store
        self._moment = moment

    def claim(self, job_id: str, lease: Lease) -> Answer:
        """The claim is written; a runner that dies before its handler hears no answer."""
        answer = self._store.claim(job_id, lease)
        if answer.done and self._moment == "before":
            raise RunnerKilled
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _dies(self, *args: Any) -> Any:
        raise RunnerKilled

    settle = _dies


def dying(store: JobStore, moment: Moment) -> JobStore:
    """A store for one runner that dies."""
    return cast("JobStore", DyingStore(store, moment))
