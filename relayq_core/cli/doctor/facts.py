"""What the doctor looks at: a stack as it was read, each fact by itself, since any of them may not be readable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from relayq_core.errors import Portable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unread:
    """A fact that could not be read: by which action of AWS, and why."""

    action: str
    reason: str = "access denied"
    #: there is no such thing
    absent: bool = False


class Unknown(Portable, Exception):
    """Nothing can be said, since this was not read."""

    def __init__(self, unread: Unread) -> None:
        self.unread = unread
        super().__init__(unread.action)


def known(fact: T | Unread) -> T:
    """The fact, if it was read. Raises Unknown."""
    if isinstance(fact, Unread):
        raise Unknown(fact)
    return fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a function is configured; its timeout in seconds."""

    arn: str
    role: str
    timeout: int
    environ: Mapping[str, str]
    layers: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invokes:
    """What Lambda does with asynchronous invocations; without a configuration of its own, its defaults hold."""

    retries: int = 2
    #: seconds
    event_age: int = 21_600


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFacts:
    """One function, as handoffs name it: by its name or ARN, with an alias or a version or without."""

    name: str
    config: Config | Unread
    invokes: Invokes | Unread
    #: Allow or Terminate
    recursive_loop: str | Unread

    @property
    def function(self) -> str:
        """Its name or ARN without alias or version."""
        return split_name(self.name)[0]

    @property
    def qualifier(self) -> str:
        """The alias or version that is invoked; without one it is $LATEST."""
        return split_name(self.name)[1]


def split_name(name: str) -> tuple[str, str]:
    """`heavy:live`, or an ARN like that, as the function and its alias or version; $LATEST where none is named."""
    place, separator, rest = name.rpartition(":function:")
    function, _, qualifier = rest.partition(":")
    return place + separator + function, qualifier or "$LATEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table: the keys of its indexes, hash and range, by the index's name."""

    name: str
    indexes: Mapping[str, tuple[str, ...]] | Unread
    #: the attribute that time to live goes by; None: it is off
    ttl: str | Unread | None
    pitr: bool | Unread
    #: the other regions of a global table
    replicas: Sequence[str] | Unread = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What calls the sweeper."""

    enabled: bool
    expression: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Whether a role may do what its function does."""

    who: str
    action: str
    resource: str
    allowed: bool | Unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A stack. `runner` and `sweeper` are always there, `api` only with EnableApi=true."""

    stack: str
    #: how long ago it was made, milliseconds; None: that was not said
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
    #: the layer that the SSM parameter hands to other stacks
    layer: str | Unread | None
    layer_parameter: str
    #: the managed policies of the runner's role
    runner_policies: Sequence[str] | Unread
    grants: Sequence[Grant]
    #: how long ago the sweeper last began, milliseconds; None: it never did
    last_tick_age_ms: int | Unread | None
    #: the runners that the last two ticks handed off to
    sweepers: Sequence[str] | Unread = ()
    #: the longest timeout of the jobs whose code is at hand, seconds; None: no code is at hand, or it names none
    longest_timeout: float | None

    @property
    def runners(self) -> tuple[FunctionFacts, ...]:
        """The stack's own, and those of queues that have another."""
        return (self.runner, *self.own_runners)

    @property
    def functions(self) -> tuple[FunctionFacts, ...]:
        """Those of the stack that are there."""
        return (self.runner, self.sweeper) if self.api is None else (self.runner, self.sweeper, self.api)
