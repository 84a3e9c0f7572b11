"""RelayQ: background jobs for AWS Lambda. One dispatch(), no queue to run.

This loads neither boto3 nor pydantic: each public name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relayq_core.api import cancel, dispatch, dispatch_many, get, relayq
    from relayq_core.client import RelayQ
    from relayq_core.engine.dispatcher import Dispatched
    from relayq_core.errors import (
        Bury,
        ChainTooDeep,
        DispatchIncomplete,
        DispatchUnknown,
        DuplicateJobName,
        InvalidJob,
        InvalidOption,
        InvalidPayload,
        JobCrashed,
        JobTimeout,
        KeyTaken,
        LeaseLost,
        PayloadTooLarge,
        RelayQError,
        RetryAfter,
        SettingsError,
        Snooze,
        StoreError,
        UnknownJob,
    )
    from relayq_core.events.listeners import JobEvent, on
    from relayq_core.jobs.classes import Job
    from relayq_core.jobs.context import JobContext
    from relayq_core.jobs.functions import job
    from relayq_core.jobs.request import JobRequest
    from relayq_core.model.backoff import Backoff, Exponential, Fixed, Linear
    from relayq_core.model.record import JobRecord, Status
    from relayq_core.operations.jobs import Failures
    from relayq_core.settings import Settings
else:
    _HOMES = {
        "api": ("cancel", "dispatch", "dispatch_many", "get", "relayq"),
        "model.backoff": ("Backoff", "Exponential", "Fixed", "Linear"),
        "client": ("RelayQ",),
        "jobs.context": ("JobContext",),
        "engine.dispatcher": ("Dispatched",),
        "errors": (
            "Bury",
            "ChainTooDeep",
            "DispatchIncomplete",
            "DispatchUnknown",
            "DuplicateJobName",
            "InvalidJob",
            "InvalidOption",
            "InvalidPayload",
            "JobCrashed",
            "JobTimeout",
            "KeyTaken",
            "LeaseLost",
            "PayloadTooLarge",
            "RelayQError",
            "RetryAfter",
            "SettingsError",
            "Snooze",
            "StoreError",
            "UnknownJob",
        ),
        "events.listeners": ("JobEvent", "on"),
        "jobs.classes": ("Job",),
        "jobs.functions": ("job",),
        "operations.jobs": ("Failures",),
        "model.record": ("JobRecord", "Status"),
        "jobs.request": ("JobRequest",),
        "settings": ("Settings",),
    }
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        from importlib import import_module

        home = _HOME_OF.get(name)
        if home is None:
            msg = f"module 'relayq_core' has no attribute {name!r}"
            raise AttributeError(msg)
        try:
            value = getattr(import_module(f"relayq_core.{home}"), name)
        except ImportError as error:
            from relayq_core.process.extras import explain_unfit_pydantic

            problem = explain_unfit_pydantic(error)
            if problem is None:
                raise
            raise ImportError(problem, name=error.name) from None
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Backoff",
    "Bury",
    "ChainTooDeep",
    "DispatchIncomplete",
    "DispatchUnknown",
    "Dispatched",
    "DuplicateJobName",
    "Exponential",
    "Failures",
    "Fixed",
    "InvalidJob",
    "InvalidOption",
    "InvalidPayload",
    "Job",
    "JobContext",
    "JobCrashed",
    "JobEvent",
    "JobRecord",
    "JobRequest",
    "JobTimeout",
    "KeyTaken",
    "LeaseLost",
    "Linear",
    "PayloadTooLarge",
    "RelayQ",
    "RelayQError",
    "RetryAfter",
    "Settings",
    "SettingsError",
    "Snooze",
    "Status",
    "StoreError",
    "UnknownJob",
    "cancel",
    "dispatch",
    "dispatch_many",
    "get",
    "job",
    "on",
    "relayq",
]
