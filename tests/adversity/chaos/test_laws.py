"""Each law catches the breach it is there for: a checker that never bites proves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relayq_core import Dispatched, JobRecord, Status
from tests.adversity.chaos import laws
from tests.adversity.chaos.history import Ack, CancelAck, History, Moment, Tables
from tests.adversity.chaos.laws import LAWS, Law
from tests.adversity.chaos.log import Line
from tests.adversity.chaos.mutants import MUTANTS
from tests.adversity.chaos.nemesis import Stop
from tests.adversity.chaos.plan import Order, plan
from tests.support.paths import ROOT

#: Epoch milliseconds of the monotonic second 0.
EPOCH = 1_767_225_600_000


def at(mono: float) -> Moment:
    """Both clocks, this many seconds after the run began."""
    return Moment(mono, EPOCH + round(mono * 1000))


def order(number: str = "1", **changes: Any) -> Order:
    """A plain job."""
    plain = Order(
        number=number,
        after=0,
        name="Trial",
        queue="mail",
        steps=("return",),
        hold=0,
        snoozes=0,
        delay=0,
        max_attempts=3,
        backoff=1,
        timeout=4,
    )
    return replace(plain, **changes)


def accepted(job_id: str, mono: float = 1, *, duplicate: bool = False, **changes: Any) -> Ack:
    """A dispatch that took a tenth of a second, with its number in the id of its job: j1."""
    number = changes.pop("number", job_id.removeprefix("j"))
    answer = Dispatched(job_id, duplicate=duplicate, handed_off=not duplicate)
    return Ack(order=order(number, **changes), began=at(mono), ended=at(mono + 0.1), answer=answer)


def ran(job_id: str, nonce: str, *, attempt: int = 1, since: float = 2, until: float = 3, **more: Any) -> list[Line]:
    """The lines of one start: it began, and ended somehow; `how=""` if it was killed."""
    how, pid = more.pop("how", "return"), more.pop("pid", 100)
    kinds = [("start", since, ""), ("end", until, how) if how else ("alive", until, "")]
    return [
        Line(
            kind=kind,
            number=job_id.removeprefix("j"),
            pid=pid,
            mono=mono,
            wall=at(mono).wall,
            job=job_id,
            attempt=attempt,
            nonce=nonce,
            how=said,
            group=1,
        )
        for kind, mono, said in kinds
    ]


def told_failed(number: str, mono: float = 4) -> Line:
    """A call of failed()."""
    return Line(kind="failed", number=number, pid=100, mono=mono, wall=at(mono).wall, error="RuntimeError: no")


def row(job_id: str, status: Status = Status.COMPLETED, **changes: Any) -> JobRecord:
    """A job that was settled by its first attempt in second 3."""
    plain = JobRecord(
        id=job_id,
        name="Trial",
        queue="mail",
        status=status,
        attempt=1,
        max_attempts=3,
        payload_json=json.dumps({"number": job_id.removeprefix("j")}),
        result_json=json.dumps({"nonce": "n1", "attempt": 1}) if status is Status.COMPLETED else None,
        error="RuntimeError: no" if status is Status.FAILED else None,
        created_at=at(1).wall,
        updated_at=at(3).wall,
        available_at=at(1).wall,
        started_at=at(2).wall,
        finished_at=at(3.1).wall,
        expires_at=2_000_000_000,
    )
    return plain.evolve(**changes)


def history(
    acks: Iterable[Ack], lines: Iterable[Line], rows: Iterable[JobRecord], *, due: tuple[str, ...] = (), **more: Any
) -> History:
    """A run with these dispatches, these lines and these rows."""
    rows = list(rows)
    tables = Tables(
        jobs={row.id: row for row in rows if row.status is not Status.FAILED},
        failed={row.id: row for row in rows if row.status is Status.FAILED},
        keys=more.pop("keys", {}),
        due=due,
    )
    given: dict[str, Any] = {"cancels": [], "stops": [], "acts": [], "faults": []} | more
    return History(seed=1, asked_jobs=1, acks=list(acks), lines=list(lines), tables=tables, **given)


def sound() -> History:
    """A run in which all went as it should, with one job of each end."""
    acks = [accepted("j1"), accepted("j2"), accepted("j3", delay=60)]
    acks += [accepted("j1", 2, duplicate=True, number="1b", unique="k"), accepted("j4", 1.5, unique="k")]
    acks[3] = replace(acks[3], answer=Dispatched("j4", duplicate=True, handed_off=False))
    lines = [*ran("j1", "n1"), *ran("j4", "n1-4")]
    for attempt in (1, 2, 3):
        lines += ran("j2", f"f{attempt}", attempt=attempt, since=attempt * 3, until=attempt * 3 + 1, how="RuntimeError")
    lines.append(told_failed("2", 11))
    rows = [
        row("j1"),
        row("j2", Status.FAILED, attempt=3),
        row("j3", Status.CANCELLED, attempt=0, started_at=None),
        row("j4", result_json=json.dumps({"nonce": "n1-4", "attempt": 1})),
    ]
    cancels = [CancelAck(job_id="j3", ended=at(5), record=rows[2])]
    return history(acks, lines, rows, cancels=cancels)


def broken(found: History) -> dict[Law, list[str]]:
    """What each law says of a run, where it says something."""
    said = {law: [breach.what for breach in law(found)] for law in LAWS}
    return {law: whats for law, whats in said.items() if whats}


def breaking(**changes: Any) -> History:
    """One plain job that ran and completed, but for what is changed."""
    given: dict[str, Any] = {"acks": [accepted("j1")], "lines": ran("j1", "n1"), "rows": [row("j1")]}
    return history(**(given | changes))


KEYED: dict[str, Any] = {"unique": "k", "unique_for": 5.0}
CASES: dict[str, tuple[Law, History]] = {
    "a job that is in neither table": (laws.nothing_accepted_is_lost, breaking(rows=[])),
    "a job that waits for ever": (
        laws.every_job_ends_in_one_state,
        breaking(rows=[row("j1", Status.RETRYING, finished_at=None)]),
    ),
    "a row that nobody dispatched": (
        laws.nobody_is_there_uninvited,
        breaking(rows=[row("j1"), row("j9", Status.CANCELLED)]),
    ),
    "a payload that runs as two jobs": (
        laws.nobody_is_there_uninvited,
        breaking(lines=[*ran("j1", "n1"), *[replace(line, number="1") for line in ran("j9", "n9")]]),
    ),
    "a start too many": (
        laws.starts_are_bounded,
        breaking(lines=[*ran("j1", "n0", since=1.2, until=1.5, how=""), *ran("j1", "n1")]),
    ),
    "an attempt too many": (laws.starts_are_bounded, breaking(rows=[row("j1", attempt=4)])),
    "two handlers at once": (
        laws.handlers_do_not_overlap,
        breaking(lines=[*ran("j1", "n1"), *ran("j1", "n2", attempt=2, since=2.5, until=4, pid=101)]),
    ),
    "a result that a stale runner wrote": (
        laws.only_the_holder_settles,
        breaking(lines=[*ran("j1", "n1"), *ran("j1", "n2", attempt=2, since=4, until=5)], rows=[row("j1", attempt=2)]),
    ),
    "a result that nobody returned": (laws.only_the_holder_settles, breaking(lines=ran("j1", "n1", how=""))),
    "a start after the success": (
        laws.nothing_starts_after_its_success,
        breaking(lines=[*ran("j1", "n1"), *ran("j1", "n2", attempt=2, since=4, until=5)]),
    ),
    "two jobs with one key": (
        laws.a_key_has_one_job,
        breaking(acks=[accepted("j1", **KEYED), accepted("j2", 4, **KEYED)]),
    ),
    "two jobs with a key that is held until the end": (
        laws.a_key_has_one_job,
        breaking(acks=[accepted("j1", unique="k"), accepted("j2", 2, unique="k")]),
    ),
    "a duplicate that was named a stranger": (
        laws.duplicates_are_told_of_the_first,
        breaking(acks=[accepted("j1", **KEYED), accepted("j9", 2, duplicate=True, **KEYED)]),
    ),
    "a duplicate that ran": (
        laws.duplicates_are_told_of_the_first,
        breaking(
            acks=[accepted("j1", **KEYED), accepted("j1", 2, duplicate=True, number="1b", **KEYED)],
            lines=[replace(line, number="1b") for line in ran("j1", "n1")],
        ),
    ),
    "a key that is held after its window": (
        laws.an_expired_key_is_free,
        breaking(acks=[accepted("j1", **KEYED), accepted("j1", 8, duplicate=True, number="1b", **KEYED)]),
    ),
    "a failed job without its error": (
        laws.failures_bear_error_and_payload,
        breaking(rows=[row("j1", Status.FAILED, attempt=3, error=None)]),
    ),
    "a failed job with another's payload": (
        laws.failures_bear_error_and_payload,
        breaking(rows=[row("j1", Status.FAILED, attempt=3, payload_json='{"number": "7"}')]),
    ),
    "a job that was given up early": (
        laws.failures_bear_error_and_payload,
        breaking(rows=[row("j1", Status.FAILED, attempt=2)], lines=[*ran("j1", "n1", how=""), told_failed("1")]),
    ),
    "a failure that failed() was not told of": (
        laws.failures_bear_error_and_payload,
        breaking(rows=[row("j1", Status.FAILED, attempt=3)]),
    ),
    "failed() for a job that completed": (
        laws.failed_is_told_to_failures_alone,
        breaking(lines=[*ran("j1", "n1"), told_failed("1")]),
    ),
    "a cancel that nobody asked for": (laws.cancels_hold, breaking(rows=[row("j1", Status.CANCELLED)])),
    "a cancel that was forgotten": (
        laws.cancels_hold,
        breaking(cancels=[CancelAck(job_id="j1", ended=at(1.5), record=row("j1", Status.CANCELLED))]),
    ),
    "a start after the cancel": (
        laws.cancels_hold,
        breaking(
            rows=[row("j1", Status.CANCELLED)],
            cancels=[CancelAck(job_id="j1", ended=at(1.5), record=row("j1", Status.CANCELLED))],
        ),
    ),
    "a failure of a job that was to be cancelled": (
        laws.cancels_hold,
        breaking(
            rows=[row("j1", Status.FAILED, attempt=3)],
            cancels=[CancelAck(job_id="j1", ended=at(2.5), record=row("j1", Status.PROCESSING))],
        ),
    ),
    "an ended job in the index": (laws.the_index_is_empty, breaking(due=("j1",))),
    "an ended job that holds its key": (laws.the_index_is_empty, breaking(keys={"unique#Trial#k": ("j1", None)})),
    "an ended job that never expires": (laws.the_index_is_empty, breaking(rows=[row("j1", expires_at=None)])),
    "a start before its delay": (laws.nothing_starts_early, breaking(acks=[accepted("j1", delay=2)])),
    "a start before the wait after a failure": (
        laws.nothing_starts_early,
        breaking(
            lines=[*ran("j1", "n0", since=1.5, until=2, how="RuntimeError"), *ran("j1", "n1", attempt=2, since=2.5)]
        ),
    ),
    "an error that is not documented": (
        laws.only_documented_errors_come_out,
        breaking(acks=[accepted("j1"), replace(accepted("j2"), answer=None, error="KeyError: 'pk'")]),
    ),
    "a runner that met a defect": (laws.only_documented_errors_come_out, breaking(complaints=["KeyError: 'pk'"])),
    "a dispatch that failed, and ran": (
        laws.only_documented_errors_come_out,
        breaking(acks=[replace(accepted("j1"), answer=None, error="StoreUnavailable: no")]),
    ),
}


def test_a_sound_run_breaks_no_law() -> None:
    """Else every run would fail."""
    assert broken(sound()) == {}


@pytest.mark.parametrize("name", CASES)
def test_a_breach_is_caught(name: str) -> None:
    """By the law that is there for it."""
    law, found = CASES[name]
    assert law in broken(found)


def test_every_law_is_shown_to_bite() -> None:
    """One that catches nothing here may catch nothing anywhere."""
    assert {law for law, _ in CASES.values()} == set(LAWS)


def test_a_runner_that_was_stopped_may_overlap_with_its_successor() -> None:
    """It does not know that its lease is over; that it cannot settle is another law's."""
    lines = [*ran("j1", "n0", since=2, until=30, how=""), *ran("j1", "n1", attempt=2, since=20, until=21, pid=101)]
    rows = [row("j1", attempt=2, result_json='{"nonce": "n1", "attempt": 2}', finished_at=at(22).wall)]
    stop = Stop(100, "j1", 2.5, None, until=25)
    assert broken(breaking(lines=lines, rows=rows, stops=[stop])) == {}
    assert laws.handlers_do_not_overlap in broken(breaking(lines=lines, rows=rows))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_finds_the_line_that_it_breaks(name: str, tmp_path: Path) -> None:
    """Else it would break nothing, and a law that lets it pass would look as if it had failed."""
    mutant = MUTANTS[name]
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text((ROOT / "relayq_core" / mutant.file).read_text())
    mutant.apply(tmp_path)
    assert mutant.instead in copy.read_text()


def test_a_story_says_how_to_run_it_again() -> None:
    """The story shows all that is known of the job, in the order of time."""
    told = sound().story("j1").splitlines()
    assert told[0] == "job j1"
    assert told[-1] == "run it again: make chaos JOBS=1 SEED=1"
    assert [word for line in told for word in line.split() if word in {"dispatched:", "start", "end"}] == [
        "dispatched:",
        "start",
        "end",
    ]


def test_a_seed_gives_the_same_plan_every_time() -> None:
    """What is dispatched can be dispatched again."""
    assert plan(7, 300) == plan(7, 300)
    assert plan(7, 300) != plan(8, 300)


def test_every_plan_has_all_kinds_of_jobs() -> None:
    """Even a short one, whatever its seed."""
    for seed in range(50):
        orders = plan(seed, 150)
        assert len({order.number for order in orders}) == len(orders)
        assert {step for order in orders for step in order.steps} >= {"return", "raise", "kill", "exit", "child"}
        assert any(order.cut for order in orders)
        assert any(order.unique for order in orders)
        assert any(order.snoozes for order in orders)
        assert any(order.cancel_after is not None for order in orders)
        assert any(order.delay > 65 for order in orders)
