"""Make a runner die at the moment that a test chooses."""

from __future__ import annotations

from typing import Any, Literal, cast

from relayq_core.model.leases import Lease
from relayq_core.ports import Answer, JobStore

#: When a runner dies: before its handler begins, or after the handler ends and before that is written.
Moment = Literal["before", "after"]


class RunnerKilled(BaseException):
    """The process is gone: a BaseException, so that the runner does not handle it and writes nothing more."""


class DyingStore:
    """The store of a runner that dies: it can claim a job, and settle none."""

    def __init__(self, store: JobStore, moment: Moment) -> None:
        self._store = store
        self._moment = moment

    def claim(self, job_id: str, lease: Lease) -> Answer:
        """Write the claim; a runner that dies before its handler gets no answer."""
        answer = self._store.claim(job_id, lease)
        if answer.done and self._moment == "before":
            raise RunnerKilled
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _die(self, *args: Any) -> Any:
        raise RunnerKilled

    settle = _die


def build_dying_store(store: JobStore, moment: Moment) -> JobStore:
    """Return the store of one runner that dies at this moment."""
    return cast("JobStore", DyingStore(store, moment))
