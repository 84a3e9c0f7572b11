"""Failed jobs a page at a time: each look begins where the last one ended, and ends after so many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relayq_core.client import RelayQ
from relayq_core.errors import InvalidOption
from relayq_core.model.record import JobRecord
from relayq_core.operations.jobs import Failures

#: Rows that one look goes through, meant or not, for a page and its groups or for a step of work.
LOOKED_AT = 1000
#: Failed jobs on one page.
PAGE = 50
#: Rows that are read at a time from each queue.
_READ = 100

_Row = tuple[JobRecord, bool]


@dataclass(frozen=True, slots=True)
class Look:
    """Failures that are meant, newest first, among the rows that were looked at."""

    jobs: tuple[JobRecord, ...]
    looked_at: int
    #: where the next look goes on; None: there is nothing further
    place: str | None


def look(
    relayq: RelayQ, meant: Failures, place: str | None, *, wanted: int = LOOKED_AT, looked_at: int = LOOKED_AT
) -> Look:
    """The next of those that are meant, at most `wanted`, among the next `looked_at` rows after this place.

    What comes before the place is not read, but for its very millisecond; of each queue less than a page is read too
    much. Raises InvalidOption for a place that is none, StoreError.
    """
    found: list[JobRecord] = []
    seen = 0
    last: JobRecord | None = None
    for job, is_meant in _after(relayq, meant, place, min(_READ, 2 * wanted)):
        if last is not None and (len(found) == wanted or seen == looked_at):
            return Look(tuple(found), seen, place_of(last))
        seen, last = seen + 1, job
        if is_meant:
            found.append(job)
    return Look(tuple(found), seen, None)


def place_of(job: JobRecord) -> str:
    """Where a failed job stands in the list."""
    return f"{job.finished_at or 0}-{job.id}"


def moment_of(place: str) -> int:
    """When what stands there failed, epoch milliseconds. Raises InvalidOption for what is no place."""
    at = place.partition("-")[0]
    if not at.isdecimal() or not at.isascii() or len(at) > 15:
        raise InvalidOption("before", "it leads nowhere; begin at the first page again")
    return int(at)


def _after(relayq: RelayQ, meant: Failures, place: str | None, page: int) -> Iterator[_Row]:
    if not place:
        return relayq.operations.looked_through(meant, page=page)
    at = moment_of(place)
    return _passed(relayq.operations.looked_through(meant, until=at, page=page), at, place.partition("-")[2])


def _passed(rows: Iterator[_Row], at: int, job_id: str) -> Iterator[_Row]:
    """Those of that very millisecond come once: up to the one that bears the id they have been seen."""
    of_that_moment: list[_Row] = []
    passed = not job_id
    for row in rows:
        job = row[0]
        if (job.finished_at or 0) < at or passed:
            if not passed:  # the one that was to be passed is gone: better once more than never
                yield from of_that_moment
                passed = True
            yield row
        elif job.id == job_id:
            passed = True
        else:
            of_that_moment.append(row)
    if not passed:
        yield from of_that_moment


@dataclass(frozen=True, slots=True)
class Group:
    """Failures of one job with one error."""

    name: str
    error: str
    count: int
    newest_at: int
    oldest_at: int


@dataclass(frozen=True, slots=True)
class FailedPage:
    """A page of failures that are meant, and groups of all that were found among those looked at."""

    jobs: tuple[JobRecord, ...]
    groups: tuple[Group, ...]
    count: int
    looked_at: int
    #: there are failures that were not looked at
    more: bool
    #: failed before this, for the next page
    before: str | None


def failed_page(relayq: RelayQ, meant: Failures, before: str | None) -> FailedPage:
    """A page of failures, newest first, and their groups; LOOKED_AT are looked at. InvalidOption, StoreError."""
    seen = look(relayq, meant, before)
    page = seen.jobs[:PAGE]
    return FailedPage(
        jobs=page,
        groups=tuple(grouped(seen.jobs)),
        count=len(seen.jobs),
        looked_at=seen.looked_at,
        more=seen.place is not None,
        before=place_of(page[-1]) if len(seen.jobs) > len(page) else seen.place,
    )


def grouped(jobs: Sequence[JobRecord]) -> list[Group]:
    """By job and the first line of their error; the largest group first."""
    groups: dict[tuple[str, str], list[int]] = {}
    for job in jobs:
        error = (job.error or "").partition("\n")[0]
        groups.setdefault((job.name, error), []).append(job.finished_at or 0)
    made = [Group(name, error, len(times), max(times), min(times)) for (name, error), times in groups.items()]
    return sorted(made, key=lambda group: (-group.count, -group.newest_at))
