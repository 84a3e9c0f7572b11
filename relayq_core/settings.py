"""Settings: the RELAYQ_... environment variables, read once. An unknown or malformed one is an error."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from relayq_core.errors import InvalidOption, SettingsError, suggest
from relayq_core.model.backoff import DEFAULT_BACKOFF, Backoff, build_backoff, parse
from relayq_core.model.options import parse_tokens, validate_attempts, validate_queue, validate_queue_pattern
from relayq_core.model.policy import Policy
from relayq_core.model.value import Value, field

PREFIX = "RELAYQ_"
#: Read by the layer's build, not by the running code.
_BUILD_ONLY = frozenset({"RELAYQ_ARCH"})

HandoffMode = Literal["lambda", "http", "none"]
_MODES: tuple[HandoffMode, ...] = get_args(HandoffMode)
DashboardMode = Literal["none", "read", "write"]
_DASHBOARDS: tuple[DashboardMode, ...] = get_args(DashboardMode)
#: The path of the API function that takes a handoff.
HTTP_PATH = "/_relayq/run"
#: Names of this machine: what is sent to them in the clear stays on it.
_LOOPBACK = re.compile(r"localhost|[\w.-]+\.localhost|127(\.\d{1,3}){3}|\[::1\]", re.ASCII)
_ENDPOINT = re.compile(r"(?P<scheme>https?)://(?P<host>[\w.-]+|\[[\da-f:]+\])(?P<port>:\d{1,5})?(/[\w.~-]+)*", re.ASCII)
#: What redis-py takes, with or without user and password.
_REDIS = re.compile(
    r"rediss?://(\S*@)?([\w.-]+|\[[\da-fA-F:.]+\])(:(?P<port>\d{1,5}))?(/\d*)?(\?\S*)?|unix://(\S*@)?/\S+",
    re.ASCII,
)
_LAST_PORT = 65_535
#: The variables that Kubernetes sets for a Service (`enableServiceLinks`), and what each of them may hold.
_LINK = re.compile(
    r"RELAYQ(_[A-Z\d_]+?)??_((?P<host>SERVICE_HOST|PORT_\d+_(TCP|UDP|SCTP)_ADDR)|(?P<url>PORT(_\d+_(TCP|UDP|SCTP))?)"
    r"|(?P<port>SERVICE_PORT(_[A-Z\d_]+)?|PORT_\d+_(TCP|UDP|SCTP)_PORT)|(?P<protocol>PORT_\d+_(TCP|UDP|SCTP)_PROTO))",
    re.ASCII,
)
_LINKED = {"host": r"[\w.:-]+", "url": r"(tcp|udp|sctp)://\S+", "port": r"\d{1,5}", "protocol": r"tcp|udp|sctp"}
#: What EventBridge takes for a bus.
_BUS = re.compile(r"(arn:aws[\w-]*:events:[a-z\d-]+:\d{12}:event-bus/)?[\w./-]{1,256}", re.ASCII)


def _read_whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not low <= int(text) <= high:
            raise InvalidOption("", f"expected a whole number from {low} to {high}, got {text[:40]!r}")
        return int(text)

    return read


def _read_bus(text: str) -> str:
    if not _BUS.fullmatch(text):
        raise InvalidOption("", f"expected the name or the ARN of an event bus, got {text[:80]!r}")
    return text


def _read_text(text: str) -> str:
    if not text or text != text.strip():
        raise InvalidOption("", f"expected a name without spaces around it, got {text[:80]!r}")
    return text


def _read_mode(text: str) -> HandoffMode:
    for mode in _MODES:
        if text == mode:
            return mode
    raise InvalidOption("", f"expected lambda, http or none, got {text[:40]!r}.{suggest(text, _MODES)}")


def _read_dashboard(text: str) -> DashboardMode:
    for mode in _DASHBOARDS:
        if text == mode:
            return mode
    raise InvalidOption("", f"expected none, read or write, got {text[:40]!r}.{suggest(text, _DASHBOARDS)}")


def _read_endpoint(text: str) -> str:
    match = _ENDPOINT.fullmatch(text)
    if match is None or not text.endswith(HTTP_PATH):
        raise InvalidOption(
            "",
            f"expected a URL such as https://example.com{HTTP_PATH}, without user, query or fragment",
        )
    if match["scheme"] == "http" and not _LOOPBACK.fullmatch(match["host"]):
        raise InvalidOption("", "expected https: over http the token could be read on its way; got an http URL")
    return text


def _read_functions(text: str) -> dict[str, str]:
    try:
        functions = json.loads(text)
    except (ValueError, RecursionError):
        functions = None
    if not isinstance(functions, dict) or not all(isinstance(v, str) and v for v in functions.values()):
        raise InvalidOption("", 'expected JSON that maps queues to functions, like {"reports": "heavy-runner"}')
    for queue in functions:
        validate_queue_pattern(queue)
    return functions


def _read_modules(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names or not all(re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name, re.ASCII) for name in names):
        raise InvalidOption("", f"expected module names separated by commas, got {text[:80]!r}")
    return names


def _read_redis_url(text: str) -> str:
    match = _REDIS.fullmatch(text)
    if match is None or int(match["port"] or 0) > _LAST_PORT:
        raise InvalidOption(
            "",
            "expected redis://HOST:PORT/DB, rediss:// with TLS, or unix:///PATH; "
            "what was found is not shown, it may hold a password",
        )
    return text


def _read_attempts(text: str) -> int:
    return validate_attempts("", _read_whole(1, 1000)(text))


def _is_foreign(key: str, value: str) -> bool:
    """Return whether a variable is the build's, or one that Kubernetes sets for a Service named relayq..."""
    if key in _BUILD_ONLY:
        return True
    link = _LINK.fullmatch(key)
    return link is not None and any(
        part and re.fullmatch(_LINKED[kind], value, re.ASCII) for kind, part in link.groupdict().items()
    )


def _suggest_dev() -> str:
    """Return what else to do where this is not a Lambda function, but probably a developer's machine."""
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        return ""
    return ", or `. .relayq/dev.env` in this shell while `relayq dev` runs in another"


def _normalize(name: str, value: Any) -> Any:
    if name == "backoff":
        return build_backoff(value)
    return round(value.total_seconds()) if isinstance(value, timedelta) else value


class Settings(Value, kw_only=True):
    """One field for each `RELAYQ_<FIELD>` variable. Durations are in seconds, and may be passed as timedelta."""

    #: the table of live and ended jobs; needed for everything
    jobs_table: str = field(default="", read=_read_text)
    #: the table of failed jobs; needed to run, and to look at failures
    failed_table: str = field(default="", read=_read_text)
    #: the Lambda function that runs jobs: name or ARN
    runner_function: str = field(default="", read=_read_text)
    #: queues whose jobs run in a function of their own, by name, or by how their names begin: `orders-*`
    runner_functions: Mapping[str, str] = field(default={}, read=_read_functions)
    #: how a job is handed off: `lambda` invokes a runner, `http` asks the API function to; `none`: the sweeper does it
    handoff: HandoffMode = field(default="lambda", read=_read_mode)
    #: where `http` sends a handoff: the API function's URL and /_relayq/run
    http_endpoint: str = field(default="", read=_read_endpoint)
    #: what opens the API function; two are valid at once while one replaces the other
    http_token: tuple[str, ...] = field(default=(), read=parse_tokens, shown=False)
    #: where the tokens are kept instead: a secret of Secrets Manager or an SSM parameter, by name or ARN
    http_token_secret: str = field(default="", read=_read_text)
    #: what the API function's dashboard may do: nothing, read, or change things too
    dashboard: DashboardMode = field(default="read", read=_read_dashboard)
    #: modules or packages that define jobs; all submodules are imported
    job_modules: tuple[str, ...] = field(default=("jobs",), read=_read_modules)
    default_queue: str = field(default="default", read=validate_queue)
    #: delays up to this are slept in the runner, longer ones are left to the sweeper
    max_wait_seconds: int = field(default=65, read=_read_whole(0, 600))
    #: how far ahead the sweeper looks, so that delays end on time between its ticks
    lookahead_seconds: int = field(default=75, read=_read_whole(0, 600))
    #: a job that no runner has claimed for this long is handed off again
    stale_seconds: int = field(default=30, read=_read_whole(1, 3600))
    #: how long a lease outlives its handler's deadline
    lease_grace_seconds: int = field(default=10, read=_read_whole(1, 600))
    #: rows the sweeper reads at a time from one shard
    sweep_limit: int = field(default=200, read=_read_whole(1, 1000))
    #: how long completed and cancelled jobs are kept; 0 deletes on success
    retention_seconds: int = field(default=604_800, read=_read_whole(0, 315_360_000))
    #: how long failed jobs are kept
    failed_retention_seconds: int = field(default=7_776_000, read=_read_whole(60, 315_360_000))
    max_attempts: int = field(default=3, read=_read_attempts)
    backoff: Backoff = field(default=DEFAULT_BACKOFF, read=parse)
    #: seconds a handler may take; 0: as long as its runner lives
    timeout: int = field(default=0, read=_read_whole(0, 86_400))
    #: the runner function's timeout, as the template sets it; 0: unknown, so no job's timeout is too long
    runner_timeout_seconds: int = field(default=0, read=_read_whole(0, 900))
    #: how long a chain of jobs that dispatch jobs may be
    max_depth: int = field(default=100, read=_read_whole(1, 100_000))
    #: a Redis or Valkey that remembers which job holds a unique key, to save a duplicate its transaction
    redis_url: str = field(default="", read=_read_redis_url, shown=False)
    #: what the names of its entries begin with
    redis_prefix: str = field(default="relayq:", read=_read_text)
    #: an EventBridge bus that events are published to, by name or ARN; none: they are not published
    event_bus: str = field(default="", read=_read_bus)

    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            """Take timedeltas for durations, and for the backoff whatever a job type may set."""
            super().__init__(**{name: _normalize(name, value) for name, value in values.items()})

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of the RELAYQ_... variables in `environ`, by default the process's.

        Raises SettingsError for the first that is unknown or malformed.
        """
        variables = os.environ if environ is None else environ
        own = {key: value for key, value in variables.items() if key.startswith(PREFIX) and not _is_foreign(key, value)}
        names = {PREFIX + name.upper(): name for name in cls.get_fields()}
        values: dict[str, Any] = {}
        for key, text in sorted(own.items()):
            if key not in names:
                raise SettingsError(key, f"there is no such setting.{suggest(key, names)}")
            if text == "":
                continue  # CloudFormation cannot leave a variable out of one function; empty is the same as not set
            try:
                values[names[key]] = cls.get_fields()[names[key]].read(text)
            except InvalidOption as error:
                raise SettingsError(key, error.problem) from None
        return cls(**values)

    def require(self, *names: str) -> Settings:
        """Return these settings, if those named are set. Raises SettingsError that says where to find them."""
        missing = [PREFIX + name.upper() for name in names if not getattr(self, name)]
        if missing:
            first, *more = missing
            also = f", nor is {' or '.join(more)}" if more else ""
            raise SettingsError(
                first,
                f"it is not set{also}; take it from the outputs of the RelayQ stack (`sam list stack-outputs`)"
                + _suggest_dev(),
            )
        return self

    @property
    def policy(self) -> Policy:
        """The settings that decisions depend on, in milliseconds."""
        return Policy(
            hands_off=self.handoff != "none",
            max_wait_ms=self.max_wait_seconds * 1000,
            stale_ms=self.stale_seconds * 1000,
            grace_ms=self.lease_grace_seconds * 1000,
            retention_ms=self.retention_seconds * 1000,
            failed_retention_ms=self.failed_retention_seconds * 1000,
            max_attempts=self.max_attempts,
            backoff=self.backoff,
            timeout_ms=self.timeout * 1000 or None,
            runner_ms=self.runner_timeout_seconds * 1000 or None,
        )


#: Every variable that `from_environ` knows.
KNOWN = frozenset(PREFIX + name.upper() for name in Settings.get_fields()) | _BUILD_ONLY
