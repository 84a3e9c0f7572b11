"""Redrive or forget many jobs, one step a request. The state of the action is kept in the page's form alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from relayq_core.dashboard.failures import FailureScan, format_place
from relayq_core.errors import InvalidOption
from relayq_core.model.options import validate_job_id
from relayq_core.operations.bulk import ERRORS_IN_A_ROW, BulkOutcome, Tally

#: What narrows the list of failures.
FILTERS = ("queue", "job", "error", "hours")
#: One request lasts about this long, and handles at most this many jobs.
_STEP_SECONDS = 4
_STEP_JOBS = 25


@dataclass(frozen=True, slots=True)
class Chunk:
    """The jobs of one request; for each the place in the list after it, and the place after all (None: the end)."""

    ids: tuple[str, ...]
    places: tuple[str, ...]
    end: str | None

    @classmethod
    def from_scan(cls, scan: FailureScan) -> Chunk:
        """Return the jobs that a scan of the list returned."""
        return cls(tuple(job.id for job in scan.jobs), tuple(map(format_place, scan.jobs)), scan.place)


@dataclass(frozen=True, kw_only=True)
class BulkAction:
    """Which jobs to redrive or forget, how many a second, and what is done so far."""

    verb: str
    rate: int
    #: the selected jobs that are not done yet; empty: all jobs that match the filter
    ids: tuple[str, ...]
    filter: Mapping[str, str]
    #: where in the list of failures it goes on; jobs that fail again after it began are not included
    place: str
    done: int = 0
    gone: int = 0
    refused: int = 0
    #: how many times in a row the table has refused
    table_errors: int = 0
    is_over: bool = False

    @classmethod
    def from_form(cls, form: Mapping[str, Sequence[str]], now: int) -> BulkAction:
        """Read the action from a form. Raises InvalidOption."""
        first = {name: values[0] for name, values in form.items()}
        verb = first.get("verb", "")
        if verb not in {"redrive", "forget"}:
            raise InvalidOption("verb", "expected redrive or forget")
        ids = tuple(validate_job_id(job_id) for job_id in form.get("id", ()))
        if first.get("scope") == "selected" and not ids:
            raise InvalidOption("id", "no job is selected; select some, or choose all that match")
        return cls(
            verb=verb,
            rate=_parse_number(first, "rate", 10, 1, 100),
            ids=ids if first.get("scope") == "selected" else (),
            filter={name: first[name] for name in FILTERS if first.get(name)},
            place=first.get("place") or f"{now}-",
            done=_parse_number(first, "done", 0, 0, 10**9),
            gone=_parse_number(first, "gone", 0, 0, 10**9),
            refused=_parse_number(first, "refused", 0, 0, 10**9),
            table_errors=_parse_number(first, "table_errors", 0, 0, 10**9),
        )

    @property
    def step(self) -> int:
        """How many jobs one request handles."""
        return max(1, min(_STEP_JOBS, self.rate * _STEP_SECONDS))

    @property
    def scope(self) -> str:
        """`selected` for jobs selected one by one, `all` for every job that matches the filter."""
        return "selected" if self.ids else "all"

    @property
    def must_pause(self) -> bool:
        """Whether the table has refused ERRORS_IN_A_ROW times in a row: a person should look before it goes on."""
        return self.table_errors >= ERRORS_IN_A_ROW

    def take_selected(self) -> Chunk:
        """Return the next of the selected jobs."""
        ids = self.ids[: self.step]
        return Chunk(ids, (self.place,) * len(ids), self.place if len(self.ids) > len(ids) else None)

    def advance(self, chunk: Chunk, outcomes: Sequence[BulkOutcome], *, gave_up: bool = False) -> BulkAction:
        """Return the action after the outcomes of a chunk's first jobs, in order.

        Jobs that the table refused last are tried again: they were not refused for what they are. `gave_up`: the table
        refused once more, and that ended the step.
        """
        settled = len(outcomes)
        while settled and outcomes[settled - 1].by_table:
            settled -= 1
        counts = Tally.of(outcomes[:settled]).counts
        place = self._find_place(chunk, settled, gave_up=gave_up)
        table_errors = len(outcomes) - settled + gave_up
        return replace(
            self,
            ids=self.ids[settled:],
            place=place or self.place,
            done=self.done + counts["redriven"] + counts["forgotten"],
            gone=self.gone + counts["gone"],
            refused=self.refused + counts["refused"],
            table_errors=table_errors if settled else self.table_errors + table_errors,
            is_over=place is None,
        )

    def _find_place(self, chunk: Chunk, settled: int, *, gave_up: bool) -> str | None:
        if settled == len(chunk.ids) and not gave_up:
            return chunk.end
        return chunk.places[settled - 1] if settled else self.place

    def pause(self) -> BulkAction:
        """Return the action after the list itself could not be read: nothing was done, and it must pause."""
        return replace(self, table_errors=ERRORS_IN_A_ROW)

    def resume(self) -> BulkAction:
        """Return the action as a person continues it after an error: the errors in a row start again at 0."""
        return replace(self, table_errors=0)


def _parse_number(form: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = form.get(name) or str(default)
    if not (text.isdecimal() and text.isascii() and len(text) < 12 and least <= int(text) <= most):
        raise InvalidOption(name, f"expected a whole number from {least} to {most}")
    return int(text)
