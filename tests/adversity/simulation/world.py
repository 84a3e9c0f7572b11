"""The world of the simulation: one thread, a virtual clock, and actors that only move when the schedule says so.

Each actor is a greenlet that runs the real dispatcher, runner, sweeper or operations. Wherever that code meets the
world (a store call, a handoff, a sleep) it pauses here, and the world decides what happens next: nothing, a fault, or
some other actor first. A seed decides everything, so a schedule can be played again.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from relayq_core.errors import JobTimeout

#: Where every schedule begins, epoch milliseconds; a round number keeps histories readable.
EPOCH = 1_800_000_000_000
#: It is in every payload, and must never be in an error.
CANARY = "canary-b7f3"
_HISTORY = 400
#: What an ended process has for its last words, as a part of its patience.
_SPARE = 0.2


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(eq=False)
class Actor:
    """One process: a caller's Lambda, one invocation of the runner or the sweeper, an operator."""

    name: str
    kind: str
    #: what its clock is ahead by, milliseconds; a clock may be set while its actor runs
    skew: int
    #: when the platform ends it, by true time
    killed_at: int | None = None
    dead: bool = False
    #: it was held up from outside, for longer than its lease may have allowed for
    frozen: bool = False
    thread: greenlet | None = None
    #: a call of its own has met a fault
    met_a_fault: bool = False
    #: its leases are renewed by its worker while it runs
    renews: bool = False
    #: the worker whose process this is, and the processes of a worker: they die with it
    works_for: Actor | None = None
    children: list[Actor] = field(default_factory=list)
    #: while a handler runs: when it is stopped with JobTimeout, and when its process is ended, by true time
    stopped_at: int | None = None
    ended_at: int | None = None
    last_words: Callable[[], object] = lambda: None
    spare: int = 0


class World:
    """The schedule: who moves when."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = EPOCH
        self.events = 0
        #: the first law that was broken, wherever its exception went
        self.broken: Violation | None = None
        self.history: list[str] = []
        self.hits: Counter[tuple[str, str]] = Counter()
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._turn = 0
        self._hub = getcurrent()
        self._actors: dict[greenlet, Actor] = {}
        self._names: Counter[str] = Counter()

    # --- the schedule ---

    def at(self, delay: int, action: Callable[[], None]) -> None:
        """Do something `delay` milliseconds from now."""
        self._turn += 1
        heapq.heappush(self._queue, (self.now + max(0, delay), self._turn, action))

    def play(self, until: int | None = None) -> None:
        """Let everything happen that is due until then (true time), or until nothing is left."""
        while self._queue and (until is None or self._queue[0][0] <= until):
            self.now, _, action = heapq.heappop(self._queue)
            self.events += 1
            action()
            if self.broken is not None:
                raise self.broken
        if until is not None:
            self.now = max(self.now, until)

    def close(self) -> None:
        """End what is suspended: their code runs no further than the next time it meets the world."""
        self._queue.clear()
        for thread, actor in list(self._actors.items()):
            actor.dead = True
            if thread and not thread.dead:
                thread.throw(GreenletExit)
        self._actors.clear()

    @property
    def busy(self) -> bool:
        """Something is still to happen."""
        return bool(self._queue)

    def note(self, text: str) -> None:
        """One line of the history that a failure prints."""
        self.history.append(f"{(self.now - EPOCH) / 1000:10.3f}  {text}")
        if len(self.history) > _HISTORY:
            del self.history[: _HISTORY // 2]

    # --- actors ---

    def spawn(
        self, kind: str, body: Callable[[Actor], Any], *, delay: int = 0, skew: int = 0, lives: int | None = None
    ) -> Actor:
        """Start an actor later; `lives` is how long its platform lets it run, milliseconds."""
        self._names[kind] += 1
        actor = Actor(f"{kind}{self._names[kind]}", kind, skew)

        def run() -> None:
            try:
                body(actor)
            except GreenletExit:
                pass
            finally:
                self._actors.pop(getcurrent(), None)

        def start() -> None:
            if lives is not None:
                actor.killed_at = self.now + lives
            actor.thread = greenlet(run, parent=self._hub)
            self._actors[actor.thread] = actor
            actor.thread.switch()

        self.at(delay, start)
        return actor

    @property
    def actor(self) -> Actor:
        """The actor that moves now."""
        return self._actors[getcurrent()]

    @property
    def actors(self) -> list[Actor]:
        """All that are alive, in the order in which they came."""
        return [actor for actor in self._actors.values() if not actor.dead]

    def pause(self, delay: int) -> None:
        """The moving actor waits; a kill that comes first is the end of it."""
        actor = self.actor
        if actor.dead:
            raise GreenletExit
        if actor.killed_at is not None and self.now + delay >= actor.killed_at:
            self.kill(actor)
        thread = actor.thread
        assert thread is not None
        self.at(delay, lambda: None if actor.dead else thread.switch())
        self._hub.switch()
        if actor.dead:
            raise GreenletExit

    def kill(self, actor: Actor) -> None:
        """SIGKILL: it never moves again, and no code of its own runs."""
        self.note(f"{actor.name} is killed")
        actor.dead = True
        for child in actor.children:
            if not child.dead:
                self.kill(child)
        if actor is self._actors.get(getcurrent()):
            self._hub.switch()
            raise GreenletExit


@dataclass
class SimClock:
    """The clock of an actor: the true time and its skew; without an actor it is right. Sleeping lets others move."""

    world: World
    owner: Actor | None = None
    #: looks at what a handler is allowed: the actor, and until when it may run by its clock, however stubborn it is
    watch: Callable[[Actor, int], None] = lambda actor, ends: None

    def now(self) -> int:
        return self.world.now + (self.owner.skew if self.owner else 0)

    def sleep(self, ms: int) -> None:
        actor, now = self.world.actor, self.world.now
        if actor.stopped_at is not None and now + ms > actor.stopped_at:
            stops, actor.stopped_at = actor.stopped_at, None
            self.world.pause(max(0, stops - now))
            raise JobTimeout(0)
        if actor.ended_at is not None and now + ms > actor.ended_at:
            self.world.pause(max(0, actor.ended_at - now))
            self._end(actor)
        self.world.pause(ms)

    @contextmanager
    def stop(
        self, seconds: float, *, patience: float, last_words: Callable[[], object] = lambda: None
    ) -> Iterator[None]:
        """What deadline() does, in virtual time; timers run by the time that passes, whatever clocks are set to."""
        actor = self.world.actor
        spare = round(patience * _SPARE * 1000)
        self.watch(actor, self.now() + round((seconds + patience) * 1000) + spare)
        actor.stopped_at = self.world.now + round(seconds * 1000)
        actor.ended_at = actor.stopped_at + round(patience * 1000)
        actor.last_words, actor.spare = last_words, spare
        try:
            yield
        finally:
            actor.stopped_at = actor.ended_at = None

    def _end(self, actor: Actor) -> None:
        """The process of a handler that would not stop: it has a moment for its last words."""
        actor.stopped_at = actor.ended_at = None
        actor.killed_at = self.world.now + actor.spare
        with suppress(Exception):
            actor.last_words()
        self.world.kill(actor)


@dataclass
class Faults:
    """Which call meets which fault: by its number in the schedule, or by chance."""

    planned: dict[int, str] = field(default_factory=dict)
    chance: float = 0.0
    on: bool = True
    calls: int = 0
    sites: list[str] = field(default_factory=list)

    def next(self, world: World, site: str, kinds: tuple[str, ...]) -> str | None:
        """The fault of this call, if any."""
        if not self.on:
            return None
        number, self.calls = self.calls, self.calls + 1
        self.sites.append(site)
        fault = self.planned.get(number)
        if fault is None and self.chance and world.random.random() < self.chance:
            fault = world.random.choice(kinds)
        if fault is not None and fault in kinds:
            world.hits[site, fault] += 1
            world.actor.met_a_fault = True
            world.note(f"  fault: {fault} at {site} (call {number})")
            return fault
        return None
