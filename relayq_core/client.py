"""RelayQ: the one place where the ports meet boto3."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Unpack

from relayq_core.adapters.aws_lambda import LambdaInvoke, NoHandoff
from relayq_core.adapters.system_clock import SystemClock
from relayq_core.engine.dispatcher import Dispatched, Dispatcher
from relayq_core.engine.registration import Registrations
from relayq_core.errors import SettingsError
from relayq_core.events.listeners import Events
from relayq_core.events.listeners import events as all_events
from relayq_core.jobs.habits import add_hints
from relayq_core.jobs.registry import registry as all_jobs
from relayq_core.model.options import DispatchOptions, Options, iterate_several
from relayq_core.model.record import JobRecord, Status
from relayq_core.ports import Clock, EventBus, Handoff, History, JobStore, UniqueHint
from relayq_core.process.concurrency import Spreading, spread_in_threads, spread_serially
from relayq_core.process.forks import leave_to_parent, reset_in_children
from relayq_core.settings import Settings

if TYPE_CHECKING:
    from relayq_core.adapters.secrets import HttpTokens
    from relayq_core.engine.runner import Runner
    from relayq_core.engine.sweeper import Sweeper
    from relayq_core.events.publisher import Publisher
    from relayq_core.operations.bulk import Bulk, Tally
    from relayq_core.operations.health import Health, QueueView
    from relayq_core.operations.jobs import Failures, Operations

#: A client that is busy in so many threads opens a connection for each.
_POOL = 25
#: How often botocore sends a call, and how long its answer may take. A call to DynamoDB is tried again by RelayQ alone
#: (adapters/dynamodb/calls.py), since two layers of tries multiply; no job needs EventBridge.
_TRIES = {"dynamodb": 1, "events": 1}
_READ_SECONDS = {"dynamodb": 3, "lambda": 2, "events": 1}


class RelayQ:
    """Everything one can do with jobs, for one pair of tables.

    `settings` come from the environment unless given; `store`, `handoff` and `clock` are boto3's and the system's
    unless given; `hint` is Redis's where RELAYQ_REDIS_URL is set, `event_bus` EventBridge's where RELAYQ_EVENT_BUS
    is. `spreading` is how many jobs at a time are worked on where there are many: eight, in threads, unless given or
    the store is. Clients are made when they are first needed.
    """

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
        self._session = session
        self._validate = validate_parameters
        parts = (store, handoff, hint, event_bus, clock, spreading, session)
        self._has_parts = any(part is not None for part in parts)
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        reset_in_children(self)
        # a store of the caller's own may not be for threads
        self._spreading: Spreading = spreading or (spread_in_threads if store is None else spread_serially)
        self.store: JobStore = store or self._dynamo_store()
        self.handoff: Handoff = handoff or self._made_handoff()
        self.hint: UniqueHint | None = self._redis_hint() if hint is None else hint
        self._publisher = self._made_publisher(event_bus)

    def reset_after_fork(self) -> None:
        """Leave clients and their connections to the parent, in a child of a fork: it makes its own when they are
        needed. On a connection that two processes use, one may be given what the other asked for."""
        leave_to_parent((self._clients, vars(self).pop("_new_client", None)))
        self._clients = {}
        self._lock = threading.Lock()
        for part in vars(RelayQ).values():
            if isinstance(part, functools.cached_property) and hasattr(part, "lock"):  # before Python 3.12
                part.lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        """By its settings: another process makes clients of its own."""
        if self._has_parts:
            raise TypeError(
                "a RelayQ with parts of your own cannot be pickled or copied; make one from its settings where it goes"
            )
        return _of_settings, (type(self), self.settings, self._validate)

    # --- what applications do ---

    @add_hints
    def dispatch(
        self, job: Any, args: Mapping[str, Any] | None = None, **options: Unpack[DispatchOptions]
    ) -> Dispatched:
        """Accept a job and hand it off; arguments, result and errors are those of `relayq_core.dispatch`."""
        try:
            return self._dispatcher.dispatch(job, args, Options.validate(**options))
        finally:  # after the handoff: a job does not wait for its events to be published
            self._publish()

    def dispatch_many(self, jobs: Iterable[Any]) -> list[Dispatched]:
        """Accept any number of jobs in one call; see `relayq_core.dispatch_many`."""
        from relayq_core.engine.dispatch_many import BulkDispatcher

        try:
            with self._spreading() as spread:
                return BulkDispatcher(self.store, self._dispatcher, all_jobs, spread).dispatch(jobs)
        finally:
            self._publish()

    def get(self, job_id: str) -> JobRecord | None:
        """The job as it now is, or None if it is unknown or no longer kept. Raises StoreError."""
        return self.operations.get(job_id)

    def cancel(self, job_id: str) -> JobRecord | None:
        """Cancel a waiting job, mark a running one; the job as it then is, or None. Raises StoreError."""
        return self.operations.cancel(job_id)

    # --- what operators do ---

    def redrive(self, job_id: str) -> JobRecord | None:
        """Bring a failed job back with attempt 0; None if it is not failed. Raises KeyTaken, StoreError."""
        return self.operations.redrive(job_id)

    def forget(self, job_id: str) -> bool:
        """Delete a failed job for good; False if there was none. Raises StoreError."""
        return self.operations.forget(job_id)

    def failed(self, queue: str | None = None, *, limit: int = 100) -> list[JobRecord]:
        """Failed jobs, newest first; their payload is left out and their error cut, `get()` has both whole."""
        return self.operations.failed(queue, limit=limit)

    def live(self, queue: str | None = None, status: Status | None = None, *, limit: int = 100) -> list[JobRecord]:
        """Jobs that wait or run, by when the sweeper looks at them next; those of a `status` among the first 10,000."""
        return list(self.operations.find_live(queue, status, limit=limit).jobs)

    def queues(self, *, limit: int = 1000) -> list[QueueView]:
        """Every queue with its live and overdue jobs, counted up to `limit`."""
        return self.operations.queues(limit=limit)

    def queues_forget(self, queue: str) -> bool:
        """Take back the name of a queue without jobs; False if there is none. Raises InvalidOption, StoreError."""
        return self.operations.forget_queue(queue)

    def health(self) -> Health:
        """Whether the tables answer, the sweeper ticks and nothing is long overdue. Raises no StoreError."""
        return self.operations.health()

    # --- what operators do with many jobs; `bulk` does the same step by step ---

    def clear(self, queue: str, *, dry_run: bool = False) -> Tally:
        """Cancel what waits in a queue, leave what runs; how many of each. Raises StoreError."""
        from relayq_core.operations.bulk import Tally

        return Tally.of(self.bulk.clear(queue, dry_run=dry_run))

    def redrive_many(self, failures: Iterable[str | JobRecord] | Failures, *, rate: float | None = None) -> Tally:
        """Bring many failed jobs back, by their ids or as Failures says, at most `rate` a second. Raises StoreError."""
        from relayq_core.operations.bulk import Tally

        return Tally.of(self.bulk.redrive(self._ids(failures), rate=rate))

    def forget_many(self, failures: Iterable[str | JobRecord] | Failures, *, rate: float | None = None) -> Tally:
        """Delete many failed jobs for good, by their ids or as Failures says. Raises StoreError."""
        from relayq_core.operations.bulk import Tally

        return Tally.of(self.bulk.forget(self._ids(failures), rate=rate))

    def _ids(self, failures: Iterable[str | JobRecord] | Failures) -> list[str]:
        """All of them before the first is touched: what fails again meanwhile is not meant."""
        from relayq_core.operations.jobs import Failures

        if isinstance(failures, Failures):
            return [job.id for job in self.operations.failures(failures)]
        ids = iterate_several("failures", failures, "several ids (redrive() and forget() take one)")
        # failed() answers with records: those may be given back as they are
        return [given.id if isinstance(given, JobRecord) else given for given in ids]

    # --- the parts ---

    def connect(self) -> None:
        """Make the DynamoDB client now, in a function's start, and not while a job waits for it. Raises StoreError."""
        self._client("dynamodb")

    def publishing(self, remaining: Callable[[], int] | None = None) -> AbstractContextManager[None]:
        """Inside, what happens to jobs is kept; at the end the event bus is told of it all, if there is one.

        `remaining()` says how many milliseconds this invocation has left; None: enough.
        """
        return nullcontext() if self._publisher is None else self._publisher.hold(remaining)

    def _publish(self) -> None:
        if self._publisher is not None:
            self._publisher.publish()

    @functools.cached_property
    def operations(self) -> Operations:
        """Questions and single writes."""
        from relayq_core.operations.jobs import Operations

        return Operations(
            self.store, self.handoff, self.clock, self.policy, self.events, registrations=self._registrations
        )

    @functools.cached_property
    def bulk(self) -> Bulk:
        """Operations on many jobs, an outcome at a time."""
        from relayq_core.operations.bulk import Bulk

        return Bulk(self.operations, self.store, self.clock)

    @functools.cached_property
    def runner(self) -> Runner:
        """Runs jobs; what the runner function calls."""
        from relayq_core.engine.runner import Runner

        return Runner(self.store, self.handoff, self.clock, self.policy, all_jobs, self.events)

    @functools.cached_property
    def sweeper(self) -> Sweeper:
        """Looks after what nobody ran; what the sweeper function calls."""
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
    def _registrations(self) -> Registrations:
        """Shared: a queue that is forgotten here has to be registered again by the next dispatch to it."""
        return Registrations(self.store, self.clock)

    @functools.cached_property
    def _dispatcher(self) -> Dispatcher:
        if isinstance(self.handoff, LambdaInvoke):
            self.settings.needed("runner_function")
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

    def _dynamo_store(self) -> JobStore:
        from relayq_core.adapters.dynamodb.store import DynamoStore

        self.settings.needed("jobs_table")
        return DynamoStore(
            lambda: self._client("dynamodb"),
            self.settings.jobs_table,
            self.settings.failed_table,
            now=self.clock.now,
        )

    def _made_handoff(self) -> Handoff:
        match self.settings.handoff:
            case "none":
                return NoHandoff()
            case "http":
                return self._http_handoff()
        return LambdaInvoke(
            lambda: self._client("lambda"), self.settings.runner_function, self.settings.runner_functions
        )

    def _http_handoff(self) -> Handoff:
        from relayq_core.adapters.http_handoff import HttpHandoff

        self.settings.needed("http_endpoint")
        if not self.settings.http_token and not self.settings.http_token_secret:
            raise SettingsError(
                "RELAYQ_HTTP_TOKEN", "it is not set, and RELAYQ_HANDOFF=http needs it: the token of the API function"
            )
        return HttpHandoff(self.settings.http_endpoint, self.http_tokens.first)

    @functools.cached_property
    def http_tokens(self) -> HttpTokens:
        """The tokens that open the API function."""
        from relayq_core.adapters.secrets import HttpTokens

        return HttpTokens(self.settings.http_token, self.settings.http_token_secret, self._client, self.clock)

    def history(self, service: str) -> History:
        """What the functions of a deployed stack counted; `service` is the stack's name."""
        from relayq_core.adapters.cloudwatch import CloudWatchHistory

        return CloudWatchHistory(lambda: self._client("cloudwatch"), service, self.clock)

    def _redis_hint(self) -> UniqueHint | None:
        if not self.settings.redis_url:
            return None
        from relayq_core.adapters.redis import RedisHint

        return RedisHint(self.settings.redis_url, self.settings.redis_prefix)

    def _made_publisher(self, bus: EventBus | None) -> Publisher | None:
        if bus is None and not self.settings.event_bus:
            return None
        from relayq_core.adapters.event_bridge import EventBridge
        from relayq_core.events.publisher import Publisher

        bus = bus or EventBridge(lambda: self._client("events"), self.settings.event_bus)
        return Publisher(bus, all_events, self.clock, self.settings.jobs_table)

    @functools.cached_property
    def events(self) -> Events:
        """Who is told what happens to jobs: this process's listeners and, where there is one, the event bus."""
        if self._publisher is None:
            return all_events
        from relayq_core.events.publisher import PublishedEvents

        return PublishedEvents(all_events, self._publisher)

    def _client(self, service: str) -> Any:
        """The low-level client of a service; made once, when it is first needed."""
        found = self._clients.get(service)
        if found is None:
            with self._lock:
                found = self._clients.get(service) or self._made(service)
                self._clients[service] = found
        return found

    @functools.cached_property
    def _new_client(self) -> Callable[..., Any]:
        """Makes a client, of the caller's session or of one like boto3's own.

        What boto3 adds to botocore's session, its resources and transfers, takes an eighth of a client's start.
        """
        if self._session is not None:
            make: Callable[..., Any] = self._session.client
            return make
        from botocore.session import Session

        return Session().create_client

    def _made(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ProfileNotFound

        from relayq_core.errors import StoreError

        config = Config(
            # botocore rebuilds its own user agent twice a call, an eighth of the call's CPU
            user_agent="relayq/0.1",
            # what is sent is written by hand and tested with validation on
            parameter_validation=self._validate,
            retries={"mode": "standard", "total_max_attempts": _TRIES.get(service, 2)},
            connect_timeout=1,
            read_timeout=_READ_SECONDS.get(service, 5),
            tcp_keepalive=True,
            max_pool_connections=_POOL,
        )
        try:
            return self._new_client(service, config=config)
        except BotoCoreError as error:
            from relayq_core.adapters.dynamodb.calls import profile_hint

            fix = (
                profile_hint()
                if isinstance(error, ProfileNotFound)
                else "set AWS_DEFAULT_REGION and the profile or credentials of the stack's account"
            )
            raise StoreError(
                f"no {service} client can be made: {str(error).rstrip('.')}", fix, code=type(error).__name__
            ) from error


def _of_settings(kind: type[RelayQ], settings: Settings, validate_parameters: bool) -> RelayQ:
    return kind(settings, validate_parameters=validate_parameters)
