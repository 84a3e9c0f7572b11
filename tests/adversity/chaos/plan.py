"""What is dispatched, and when: made from a seed, so that a run that failed can be dispatched again as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

QUEUES = ("mail", "reports", "webhooks", "thumbnails", "billing", "search")
#: Jobs dispatched in a second.
PACE = 2.5
#: Longer than RELAYQ_MAX_WAIT_SECONDS: there is no handoff, the sweeper starts it.
BEYOND_A_TICK = (66.0, 80.0)
#: A key's window that ends within the run, and one that does not (seconds).
SHORT_WINDOW = 5.0
LONG_WINDOW = 3600.0

#: What the attempts of a job do, and how common that is.
_SCRIPTS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (46, ("return",)),
    (7, ("raise", "return")),
    (3, ("raise", "raise", "return")),
    (4, ("raise",)),
    (4, ("later", "return")),
    (3, ("bury",)),
    (5, ("kill", "return")),
    (3, ("exit", "return")),
    (4, ("overrun", "return")),
    (3, ("ignore", "return")),
    (2, ("freeze", "return")),
    (2, ("raise", "kill", "return")),
    (4, ("child",)),
)
#: These cost a lease and a tick for each attempt: dispatched early, so that a run does not wait for them alone.
_HOPELESS: tuple[tuple[int, tuple[str, ...]], ...] = ((2, ("kill",)), (1, ("ignore",)), (1, ("overrun",)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call of dispatch()."""

    #: in the payload, and different for each job
    number: str
    #: seconds after the run began
    after: float
    name: str
    queue: str
    steps: tuple[str, ...]
    hold: float
    snoozes: int
    delay: float
    max_attempts: int
    backoff: float
    timeout: float
    unique: str | None = None
    unique_for: float | None = None
    #: chosen by the caller where the wire is to cut this job's dispatch off
    job_id: str | None = None
    #: "answers": it is written, and the answer is lost; "requests": nothing arrives
    cut: str | None = None
    #: after DispatchUnknown: with the same id
    again: bool = False
    #: cancelled this many seconds after it was dispatched
    cancel_after: float | None = None

    def payload(self, log: str) -> dict[str, object]:
        """What the job is given."""
        return {
            "log": log,
            "number": self.number,
            "steps": list(self.steps),
            "hold": self.hold,
            "snoozes": self.snoozes,
        }


def plan(seed: int, jobs: int) -> list[Order]:
    """Plan this many jobs, and the second dispatches of those with a key, ordered by when they are due."""
    luck = random.Random(f"{seed}/plan")
    span = jobs / PACE
    orders = [order for number in range(jobs) for order in _orders(seed, number, span, luck)]
    return sorted(orders, key=lambda order: order.after)


def _orders(seed: int, number: int, span: float, luck: random.Random) -> Iterator[Order]:
    after = luck.uniform(0, span)
    scripts = _SCRIPTS if after > span / 3 else _SCRIPTS + _HOPELESS
    steps = _drawn(scripts, luck)
    hopeless = any(steps == script for _, script in _HOPELESS)
    order = Order(
        number=f"{number}",
        after=after,
        name=luck.choice(("Trial", "Trial", "AsyncTrial")),
        queue=luck.choice(QUEUES),
        steps=steps,
        hold=luck.choice((0.0, 0.1, 0.3, 1.0, 2.0)),
        snoozes=luck.choice((0,) * 12 + (1, 2)),
        delay=_delay(number, after, span, luck),
        max_attempts=2 if hopeless else luck.choice((3, 4, 5)),
        backoff=luck.choice((0.0, 0.5, 1.0, 3.0)),
        timeout=luck.choice((3.0, 4.0, 5.0)),
        cancel_after=luck.uniform(0, 6) if number % 20 == 11 else None,
    )
    if number % 30 == 7:
        job_id = f"cut-{seed}-{number}"
        yield replace(order, job_id=job_id, cut=luck.choice(("answers", "requests")), again=luck.random() < 0.5)
    elif number % 8 == 3:
        yield from _keyed(order, luck)
    else:
        yield order


def _keyed(order: Order, luck: random.Random) -> Iterator[Order]:
    """Dispatched more than once: at the same moment, while the key is held, and when it may be free again."""
    keyed = replace(order, unique=f"key-{order.number}", unique_for=luck.choice((None, SHORT_WINDOW, LONG_WINDOW)))
    yield keyed
    later = (0.0, luck.uniform(0.2, 4), SHORT_WINDOW + luck.uniform(3, 8))
    for letter, after in zip("bcd", later, strict=True):
        if luck.random() < 0.6:
            # the key belongs to the name: the same type again, with a payload of its own
            yield replace(keyed, number=f"{order.number}{letter}", after=order.after + after, cancel_after=None)


def _delay(number: int, after: float, span: float, luck: random.Random) -> float:
    if number % 10 == 5 and after < span / 2:  # the run is not to wait for the last ones alone
        return luck.uniform(*BEYOND_A_TICK)
    limits = luck.choices(((0.0, 0.0), (0.5, 6.0), (15.0, 30.0)), (73, 22, 5))[0]
    return luck.uniform(*limits)


def _drawn(scripts: tuple[tuple[int, tuple[str, ...]], ...], luck: random.Random) -> tuple[str, ...]:
    return luck.choices([script for _, script in scripts], [weight for weight, _ in scripts])[0]
