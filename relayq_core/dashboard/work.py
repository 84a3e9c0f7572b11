"""Redriving or forgetting many, a batch at a time: where it stands, and how it goes on. It lives in a form alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from relayq_core.dashboard.failures import Look, place_of
from relayq_core.errors import InvalidOption
from relayq_core.model.options import validate_job_id
from relayq_core.operations.bulk import ERRORS_IN_A_ROW, Outcome, Tally

#: What narrows the list of failures.
FILTERS = ("queue", "job", "error", "hours")
#: One request takes about so long, and does at most so many.
_STEP_SECONDS = 4
_STEP_JOBS = 25


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that one request is to do, for each where the list goes on after it, and after them all (None: nowhere)."""

    ids: tuple[str, ...]
    places: tuple[str, ...]
    end: str | None

    @classmethod
    def of(cls, seen: Look) -> Batch:
        """What was found of the list."""
        return cls(tuple(job.id for job in seen.jobs), tuple(map(place_of, seen.jobs)), seen.place)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is meant, how fast, and how far it is."""

    verb: str
    rate: int
    #: those that were ticked and are not done yet; none: all that the filter means
    ids: tuple[str, ...]
    filter: Mapping[str, str]
    #: where in the list of failures it goes on: what fails again meanwhile is not meant
    before: str
    done: int = 0
    gone: int = 0
    refused: int = 0
    #: refusals by the table in a row, with nothing done in between
    troubles: int = 0
    is_over: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Sequence[str]], now: int) -> Work:
        """What a form says. Raises InvalidOption."""
        first = {name: values[0] for name, values in given.items()}
        verb = first.get("verb", "")
        if verb not in {"redrive", "forget"}:
            raise InvalidOption("verb", "expected redrive or forget")
        ids = tuple(validate_job_id(job_id) for job_id in given.get("id", ()))
        if first.get("scope") == "selected" and not ids:
            raise InvalidOption("id", "no job is selected: tick some, or take all that match")
        return cls(
            verb=verb,
            rate=_number(first, "rate", 10, 1, 100),
            ids=ids if first.get("scope") == "selected" else (),
            filter={name: first[name] for name in FILTERS if first.get(name)},
            before=first.get("place") or f"{now}-",
            done=_number(first, "done", 0, 0, 10**9),
            gone=_number(first, "gone", 0, 0, 10**9),
            refused=_number(first, "refused", 0, 0, 10**9),
            troubles=_number(first, "troubles", 0, 0, 10**9),
        )

    @property
    def step(self) -> int:
        """How many jobs one request does."""
        return max(1, min(_STEP_JOBS, self.rate * _STEP_SECONDS))

    @property
    def scope(self) -> str:
        """Which they are."""
        return "selected" if self.ids else "all"

    @property
    def is_hopeless(self) -> bool:
        """The table has refused so many in a row that somebody should look before it goes on."""
        return self.troubles >= ERRORS_IN_A_ROW

    def ticked(self) -> Batch:
        """The next of those that were ticked."""
        ids = self.ids[: self.step]
        return Batch(ids, (self.before,) * len(ids), self.before if len(self.ids) > len(ids) else None)

    def after(self, batch: Batch, outcomes: Sequence[Outcome], *, gave_up: bool = False) -> Work:
        """The work after what became of the first of a batch, in its order.

        Those that the table refused last are meant again: they were not refused for what they are. `gave_up`: it
        refused another, and that ended it.
        """
        told = len(outcomes)
        while told and outcomes[told - 1].by_table:
            told -= 1
        counts = Tally.of(outcomes[:told]).counts
        is_whole = told == len(batch.ids) and not gave_up
        place = batch.end if is_whole else batch.places[told - 1] if told else self.before
        troubles = len(outcomes) - told + gave_up
        return replace(
            self,
            ids=self.ids[told:],
            before=place or self.before,
            done=self.done + counts["redriven"] + counts["forgotten"],
            gone=self.gone + counts["gone"],
            refused=self.refused + counts["refused"],
            troubles=troubles if told else self.troubles + troubles,
            is_over=place is None,
        )

    def in_trouble(self) -> Work:
        """The work as it stands when the list itself could not be read: nothing was done."""
        return replace(self, troubles=ERRORS_IN_A_ROW)

    def begun_again(self) -> Work:
        """Whoever goes on after trouble has looked: it is counted anew."""
        return replace(self, troubles=0)


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name) or str(default)
    if not (text.isdecimal() and text.isascii() and len(text) < 12 and least <= int(text) <= most):
        raise InvalidOption(name, f"expected a whole number from {least} to {most}")
    return int(text)
