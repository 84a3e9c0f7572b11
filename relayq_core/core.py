"""Core: the parts of a RelayQ, built from its settings when they are first needed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from relayq_core.adapters.aws_lambda import LambdaInvoke, NoHandoff
from relayq_core.adapters.clients import Clients
from relayq_core.adapters.system_clock import SystemClock
from relayq_core.engine.dispatcher import Dispatcher
from relayq_core.engine.registration import Registrations
from relayq_core.errors import SettingsError
from relayq_core.events.listeners import Events
from relayq_core.events.listeners import events as all_events
from relayq_core.jobs.registry import registry as all_jobs
from relayq_core.ports import Clock, EventBus, Handoff, History, JobStore, UniqueHint
from relayq_core.process.concurrency import Spreading, spread_in_threads, spread_serially
from relayq_core.process.forks import reset_in_children
from relayq_core.settings import Settings

if TYPE_CHECKING:
    from relayq_core.adapters.secrets import HttpTokens
    from relayq_core.engine.runner import Runner
    from relayq_core.engine.sweeper import Sweeper
    from relayq_core.events.publisher import Publisher
    from relayq_core.operations.bulk import Bulk
    from relayq_core.operations.jobs import Operations


class Core:
    """The parts of one RelayQ: its store, handoff, clock and so on, and what is built on them."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: JobStore | None = None,
        handoff: Handoff | None = None,
        hint: UniqueHint | None = None,
        event_bus: EventBus | None = None,
        clock: Clock | None = None,
        spreading: Spreading | None = None,
        session: Any = None,
        validate_parameters: bool = False,
    ) -> None:
        self.settings = Settings.from_environ() if settings is None else settings
        self.policy = self.settings.policy
        self.clock: Clock = clock or SystemClock()
        self.clients = Clients(session, validate_parameters=validate_parameters)
        self._validate = validate_parameters
        parts = (store, handoff, hint, event_bus, clock, spreading, session)
        self._has_parts = any(part is not None for part in parts)
        # a store of the caller's own may not be safe to use from several threads
        self._spreading: Spreading = spreading or (spread_in_threads if store is None else spread_serially)
        self.store: JobStore = store or _build_store(self.settings, self.clients, self.clock)
        self.handoff: Handoff = handoff or self._build_handoff()
        self.hint: UniqueHint | None = _build_hint(self.settings) if hint is None else hint
        self._publisher = _build_publisher(self.settings, self.clients, self.clock, event_bus)
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Free the locks of cached properties, in the child of a fork: Python has them before 3.12."""
        for part in vars(Core).values():
            if isinstance(part, functools.cached_property) and hasattr(part, "lock"):
                part.lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings alone: another process creates clients of its own."""
        if self._has_parts:
            raise TypeError(
                "a RelayQ with parts of your own cannot be pickled or copied; make one from its settings where it goes"
            )
        return _rebuild, (type(self), self.settings, self._validate)

    def connect(self) -> None:
        """Create the DynamoDB client now, while a function starts, instead of while a job waits for it.

        Raises StoreError where no client can be created.
        """
        self.clients.get("dynamodb")

    def publishing(self, remaining: Callable[[], int] | None = None) -> AbstractContextManager[None]:
        """Return a context in which events are held, and at whose end they are sent to the event bus, if there is one.

        `remaining()` returns the milliseconds that this invocation has left; None stands for enough.
        """
        return nullcontext() if self._publisher is None else self._publisher.hold(remaining)

    def _publish(self) -> None:
        if self._publisher is not None:
            self._publisher.publish()

    @functools.cached_property
    def operations(self) -> Operations:
        """What an operator asks, and does to one job."""
        from relayq_core.operations.jobs import Operations

        return Operations(
            self.store, self.handoff, self.clock, self.policy, self.events, registrations=self._registrations
        )

    @functools.cached_property
    def bulk(self) -> Bulk:
        """What an operator does to many jobs; it yields an outcome for each."""
        from relayq_core.operations.bulk import Bulk

        return Bulk(self.operations, self.store, self.clock)

    @functools.cached_property
    def runner(self) -> Runner:
        """What runs jobs, in the runner function."""
        from relayq_core.engine.runner import Runner

        return Runner(self.store, self.handoff, self.clock, self.policy, all_jobs, self.events)

    @functools.cached_property
    def sweeper(self) -> Sweeper:
        """What looks after jobs that no runner has taken or ended, in the sweeper function."""
        from relayq_core.engine.sweeper import Sweeper

        return Sweeper(
            self.store,
            self.handoff,
            self.clock,
            self.policy,
            self.events,
            page=self.settings.sweep_limit,
            spreading=self._spreading,
            registry=all_jobs,
            name=self.settings.runner_function.rpartition(":function:")[2],
        )

    @functools.cached_property
    def events(self) -> Events:
        """What is notified of events: this process's listeners and, where there is one, the event bus."""
        if self._publisher is None:
            return all_events
        from relayq_core.events.publisher import PublishedEvents

        return PublishedEvents(all_events, self._publisher)

    @functools.cached_property
    def http_tokens(self) -> HttpTokens:
        """The tokens that open the API function."""
        from relayq_core.adapters.secrets import HttpTokens

        return HttpTokens(self.settings.http_token, self.settings.http_token_secret, self.clients.get, self.clock)

    def history(self, service: str) -> History:
        """Return what the functions of a deployed stack counted; `service` is the stack's name."""
        from relayq_core.adapters.cloudwatch import CloudWatchHistory

        return CloudWatchHistory(lambda: self.clients.get("cloudwatch"), service, self.clock)

    @functools.cached_property
    def _registrations(self) -> Registrations:
        """Shared: a queue that is forgotten here has to be registered again by the next dispatch to it."""
        return Registrations(self.store, self.clock)

    @functools.cached_property
    def _dispatcher(self) -> Dispatcher:
        if isinstance(self.handoff, LambdaInvoke):
            self.settings.require("runner_function")
        return Dispatcher(
            self.store,
            self.handoff,
            self.clock,
            self.policy,
            all_jobs,
            self.events,
            default_queue=self.settings.default_queue,
            max_depth=self.settings.max_depth,
            hint=self.hint,
            registrations=self._registrations,
        )

    def _build_handoff(self) -> Handoff:
        match self.settings.handoff:
            case "none":
                return NoHandoff()
            case "http":
                return self._build_http_handoff()
        return LambdaInvoke(
            lambda: self.clients.get("lambda"), self.settings.runner_function, self.settings.runner_functions
        )

    def _build_http_handoff(self) -> Handoff:
        from relayq_core.adapters.http_handoff import HttpHandoff

        self.settings.require("http_endpoint")
        if not self.settings.http_token and not self.settings.http_token_secret:
            raise SettingsError(
                "RELAYQ_HTTP_TOKEN", "it is not set, and RELAYQ_HANDOFF=http needs it: the token of the API function"
            )
        return HttpHandoff(self.settings.http_endpoint, self.http_tokens.first)


def _rebuild(kind: type[Core], settings: Settings, validate_parameters: bool) -> Core:
    return kind(settings, validate_parameters=validate_parameters)


def _build_store(settings: Settings, clients: Clients, clock: Clock) -> JobStore:
    from relayq_core.adapters.dynamodb.store import DynamoStore

    settings.require("jobs_table")
    return DynamoStore(lambda: clients.get("dynamodb"), settings.jobs_table, settings.failed_table, now=clock.now)


def _build_hint(settings: Settings) -> UniqueHint | None:
    if not settings.redis_url:
        return None
    from relayq_core.adapters.redis import RedisHint

    return RedisHint(settings.redis_url, settings.redis_prefix)


def _build_publisher(settings: Settings, clients: Clients, clock: Clock, bus: EventBus | None) -> Publisher | None:
    if bus is None and not settings.event_bus:
        return None
    from relayq_core.adapters.event_bridge import EventBridge
    from relayq_core.events.publisher import Publisher

    bus = bus or EventBridge(lambda: clients.get("events"), settings.event_bus)
    return Publisher(bus, all_events, clock, settings.jobs_table)
