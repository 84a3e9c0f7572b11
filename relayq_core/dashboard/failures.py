"""Failed jobs a page at a time: each scan begins where the previous one ended, and reads a bounded number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relayq_core.client import RelayQ
from relayq_core.errors import InvalidOption
from relayq_core.model.record import JobRecord
from relayq_core.operations.jobs import Failures

#: Rows that one scan reads, matching or not, for a page and its groups or for one step of a bulk action.
SCANNED = 1000
#: Failed jobs on one page.
PAGE = 50
#: Rows read at a time from each queue.
_READ = 100

_Row = tuple[JobRecord, bool]


@dataclass(frozen=True, slots=True)
class FailureScan:
    """The matching failures among the rows of one scan, newest first."""

    jobs: tuple[JobRecord, ...]
    scanned: int
    #: where the next scan goes on; None: the list has been read to its end
    place: str | None


def scan_failures(
    relayq: RelayQ, selection: Failures, place: str | None, *, limit: int = SCANNED, scanned: int = SCANNED
) -> FailureScan:
    """Return the matching failures after a place: at most `limit`, among the next `scanned` rows.

    Reads nothing before the place except rows of the same millisecond, and over-reads by less than a page per queue.
    Raises InvalidOption for text that is not a place, and StoreError.
    """
    jobs: list[JobRecord] = []
    count = 0
    last: JobRecord | None = None
    for job, matches in _scan_after(relayq, selection, place, min(_READ, 2 * limit)):
        if last is not None and (len(jobs) == limit or count == scanned):
            return FailureScan(tuple(jobs), count, format_place(last))
        count, last = count + 1, job
        if matches:
            jobs.append(job)
    return FailureScan(tuple(jobs), count, None)


def format_place(job: JobRecord) -> str:
    """Return where a failed job stands in the list: `epoch milliseconds-id`."""
    return f"{job.finished_at or 0}-{job.id}"


def parse_moment(place: str) -> int:
    """Return when the job at this place failed, epoch milliseconds. Raises InvalidOption for other text."""
    at = place.partition("-")[0]
    if not at.isdecimal() or not at.isascii() or len(at) > 15:
        raise InvalidOption("before", "this is not a place in the list; begin at the first page again")
    return int(at)


def _scan_after(relayq: RelayQ, selection: Failures, place: str | None, page: int) -> Iterator[_Row]:
    if not place:
        return relayq.operations.looked_through(selection, page=page)
    at = parse_moment(place)
    rows = relayq.operations.looked_through(selection, until=at, page=page)
    return _skip_to(rows, at, place.partition("-")[2])


def _skip_to(rows: Iterator[_Row], at: int, job_id: str) -> Iterator[_Row]:
    """Skip the rows up to this job. Only rows of its own millisecond can stand before it."""
    held_back: list[_Row] = []
    is_past = not job_id
    for row in rows:
        job = row[0]
        if (job.finished_at or 0) < at or is_past:
            if not is_past:  # the job at the place is gone: better to show its millisecond again than to skip a row
                yield from held_back
                is_past = True
            yield row
        elif job.id == job_id:
            is_past = True
        else:
            held_back.append(row)
    if not is_past:
        yield from held_back


@dataclass(frozen=True, slots=True)
class Group:
    """Failures of one job type with one error; times in epoch milliseconds."""

    name: str
    error: str
    count: int
    newest_at: int
    oldest_at: int


@dataclass(frozen=True, slots=True)
class FailedPage:
    """A page of matching failures, and groups of all matches of the scan."""

    jobs: tuple[JobRecord, ...]
    groups: tuple[Group, ...]
    count: int
    scanned: int
    #: there are failures that were not scanned
    more: bool
    #: the place where the next page begins
    before: str | None


def read_failed_page(relayq: RelayQ, selection: Failures, before: str | None) -> FailedPage:
    """Scan SCANNED rows and return a page of failures, newest first, with groups. Raises InvalidOption, StoreError."""
    scan = scan_failures(relayq, selection, before)
    page = scan.jobs[:PAGE]
    return FailedPage(
        jobs=page,
        groups=tuple(group_failures(scan.jobs)),
        count=len(scan.jobs),
        scanned=scan.scanned,
        more=scan.place is not None,
        before=format_place(page[-1]) if len(scan.jobs) > len(page) else scan.place,
    )


def group_failures(jobs: Sequence[JobRecord]) -> list[Group]:
    """Group failures by job type and the first line of their error, the largest group first."""
    times_by_error: dict[tuple[str, str], list[int]] = {}
    for job in jobs:
        error = (job.error or "").partition("\n")[0]
        times_by_error.setdefault((job.name, error), []).append(job.finished_at or 0)
    groups = [Group(name, error, len(times), max(times), min(times)) for (name, error), times in times_by_error.items()]
    return sorted(groups, key=lambda group: (-group.count, -group.newest_at))
