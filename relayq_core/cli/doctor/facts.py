"""The facts that the doctor checks. Each is read by itself, because you may not be allowed to read all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from relayq_core.errors import Portable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unread:
    """A fact that could not be read: the AWS action that would read it, and why it could not."""

    action: str
    reason: str = "access denied"
    #: the thing itself does not exist
    absent: bool = False


class Unknown(Portable, Exception):
    """A check has no verdict, because this fact was not read."""

    def __init__(self, unread: Unread) -> None:
        self.unread = unread
        super().__init__(unread.action)


def require(fact: T | Unread) -> T:
    """Return the fact, if it was read. Raises Unknown otherwise."""
    if isinstance(fact, Unread):
        raise Unknown(fact)
    return fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The configuration of a function; its timeout in seconds."""

    arn: str
    role: str
    timeout: int
    environ: Mapping[str, str]
    layers: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invokes:
    """How Lambda treats asynchronous invocations; the defaults are Lambda's own."""

    retries: int = 2
    #: seconds
    event_age: int = 21_600


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFacts:
    """One function, named as in handoffs: its name or ARN, with or without an alias or version."""

    name: str
    config: Config | Unread
    invokes: Invokes | Unread
    #: Allow or Terminate
    recursive_loop: str | Unread

    @property
    def function(self) -> str:
        """The name or ARN without alias or version."""
        return split_name(self.name)[0]

    @property
    def qualifier(self) -> str:
        """The alias or version that is invoked; $LATEST by default."""
        return split_name(self.name)[1]


def split_name(name: str) -> tuple[str, str]:
    """Split `heavy:live`, or such an ARN, into the function and its alias or version ($LATEST by default)."""
    place, separator, rest = name.rpartition(":function:")
    function, _, qualifier = rest.partition(":")
    return place + separator + function, qualifier or "$LATEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table; `indexes` maps an index's name to its hash and range key."""

    name: str
    indexes: Mapping[str, tuple[str, ...]] | Unread
    #: the attribute used for time to live; None: it is off
    ttl: str | Unread | None
    pitr: bool | Unread
    #: the other regions of a global table
    replicas: Sequence[str] | Unread = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The schedule of the sweeper."""

    enabled: bool
    expression: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An action that a function needs, and whether its role allows it."""

    who: str
    action: str
    resource: str
    allowed: bool | Unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of one stack; it has an `api` only with EnableApi=true."""

    stack: str
    #: how long ago it was created, milliseconds; None if unknown
    age_ms: int | None = None
    outputs: Mapping[str, str]
    runner: FunctionFacts
    sweeper: FunctionFacts
    api: FunctionFacts | None
    #: the functions that RELAYQ_RUNNER_FUNCTIONS names, each once
    own_runners: Sequence[FunctionFacts] = ()
    jobs: TableFacts
    failed: TableFacts
    schedule: Schedule | Unread | None
    schedule_name: str
    #: the layer that the SSM parameter offers to other stacks
    layer: str | Unread | None
    layer_parameter: str
    #: the managed policies of the runner's role
    runner_policies: Sequence[str] | Unread
    grants: Sequence[Grant]
    #: how long ago the sweeper last began, milliseconds; None: never
    last_tick_age_ms: int | Unread | None
    #: the runners that the last two ticks handed off to
    sweepers: Sequence[str] | Unread = ()
    #: the longest timeout of the jobs whose code is here, seconds; None: no code is here, or no job has a timeout
    longest_timeout: float | None

    @property
    def runners(self) -> tuple[FunctionFacts, ...]:
        """The stack's own runner, and those of queues that have another."""
        return (self.runner, *self.own_runners)

    @property
    def functions(self) -> tuple[FunctionFacts, ...]:
        """The functions that the stack has."""
        return (self.runner, self.sweeper) if self.api is None else (self.runner, self.sweeper, self.api)
