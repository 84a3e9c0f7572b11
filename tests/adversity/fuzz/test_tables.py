"""Tables into which other programs have written: the sweeper goes on, runners keep away, operators see it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from relayq_core import job
from relayq_core.adapters.dynamodb.items import ATTRIBUTES, encode_failed, encode_job
from relayq_core.client import RelayQ
from relayq_core.engine.results import RunOutcome
from relayq_core.engine.sweeper import SweepResult
from relayq_core.errors import RelayQError, StoreError
from relayq_core.model.record import JobRecord, Status, compute_shard
from relayq_core.testing import ManualClock, RecordingHandoff, isolated_registry
from tests.support.dynamo import Tables
from tests.support.factories import NOW, a_job
from tests.support.figures import tell

pytestmark = [pytest.mark.dynamodb_local, pytest.mark.timeout(300)]

Value = dict[str, Any]

#: Of every type that DynamoDB has, and of every size.
VALUES: list[Value | None] = [
    None,
    *({"S": text} for text in ("", "x", "os.system", "__class__", "processing", "failed")),
    *({"S": text} for text in ("null", "[1]", "\ud800", "a\nb")),
    *({"S": text} for text in ("[" * 5_000 + "]" * 5_000, "9" * 5_000, "x" * 100_000)),
    *({"N": text} for text in ("-1", "0", "1.5", "1E+125", "-1E+125", "1E-130", "9" * 38, "253402300799999")),
    *({"N": text} for text in ("999999999999999", "-253402300799999")),
    {"BOOL": True},
    {"NULL": True},
    {"B": b"\xff"},
    {"L": [{"M": {}}]},
    {"M": {"a": {"NULL": True}}},
    {"SS": ["a"]},
    {"NS": ["1"]},
]  # fmt: skip
WHOLE = {
    "waiting": {},
    "running": {"status": Status.PROCESSING, "attempt": 1, "lease_id": "lease-1", "lease_until": NOW - 60_000},
    "exhausted": {"status": Status.RETRYING, "attempt": 3, "exhausted": True, "error": "JobCrashed: x"},
    "cancelled": {"status": Status.PROCESSING, "lease_id": "l", "lease_until": 1, "cancel_requested_at": 1},
}  # fmt: skip
#: DynamoDB itself keeps other types out of its keys.
KEYS = {"pk": "S", "due_shard": "S", "due_at": "N", "failed_at": "N", "queue": "S"}


def _short(value: object) -> str:
    return repr(value)[:30]


@pytest.fixture(autouse=True)
def _jobs() -> Iterator[None]:
    """What the rows are said to be."""
    with isolated_registry():

        @job(name="send_email")
        def send_email() -> None: ...

        yield


@pytest.fixture(scope="module")
def tried() -> Iterator[list[int]]:
    """How many odd rows each test has put into the table."""
    counts: list[int] = []
    yield counts
    tell(f"odd rows in the table of jobs, before sweepers, runners and operators: {sum(counts):,}")


@pytest.fixture
def clock() -> ManualClock:
    """Five minutes after the rows were written."""
    return ManualClock(NOW + 300_000)


@pytest.fixture
def handoff() -> RecordingHandoff:
    """What the sweeper says to the runners."""
    return RecordingHandoff()


@pytest.fixture
def relayq(tables: Tables, clock: ManualClock, handoff: RecordingHandoff) -> RelayQ:
    """RelayQ on the tables; its queue is known."""
    made = tables.relayq(clock=clock, handoff=handoff)
    made.store.register_queue("emails")
    return made


def _spoilt_rows(attribute: str) -> Iterator[tuple[str, dict[str, Value]]]:
    """A row for each value that the attribute can be given."""
    wholes = itertools.cycle(WHOLE.values())
    for n, (value, whole) in enumerate(zip(VALUES, wholes, strict=False)):
        allowed = KEYS.get(attribute)
        if allowed is not None and (value is None or not 0 < len(value.get(allowed, "")) < 1_000):
            continue
        row: dict[str, Any] = {**encode_job(a_job(id=f"odd-{n}", due_at=NOW, **whole))}
        row.pop(attribute, None)
        if value is not None:
            row[attribute] = value
        yield row["pk"]["S"].removeprefix("job#"), row


def _put(tables: Tables, table: str, rows: list[dict[str, Value]]) -> None:
    for row in rows:
        tables.client.put_item(TableName=table, Item=row)


def _good_jobs(tables: Tables, count: int = 3) -> set[str]:
    """Jobs that were due a little later than all the others, one in the shard of each."""
    jobs = [a_job(id=f"good-{n}", due_at=NOW + 200_000) for n in range(count)]
    _put(tables, tables.jobs, [encode_job(each) for each in jobs])
    return {each.id for each in jobs}


def _sweep(relayq: RelayQ) -> SweepResult:
    return relayq.sweeper.sweep(lambda: 150_000)


def _only_what_is_documented(ask: Callable[[], object]) -> None:
    """An answer, or one of RelayQ's errors, in one sentence of bearable length."""
    try:
        ask()
    except RelayQError as error:
        told = str(error)
        assert len(told) < 2_000
    else:
        return
    assert "\n" not in told


@pytest.mark.parametrize("attribute", sorted({*(name for name, _ in ATTRIBUTES.values()), "due_shard"}))
def test_no_value_of_any_attribute_harms_a_reader(
    attribute: str, tables: Tables, relayq: RelayQ, clock: ManualClock, handoff: RecordingHandoff, tried: list[int]
) -> None:
    """The sweeper reaches the jobs behind such rows, tick for tick; a runner ends quietly; operators get an answer."""
    odd = dict(_spoilt_rows(attribute))
    _put(tables, tables.jobs, list(odd.values()))
    good = _good_jobs(tables)
    for _ in range(3):
        handoff.offers.clear()
        counts = _sweep(relayq).counts
        assert good <= {offer.job_id for offer in handoff.offers}, counts
        assert counts["error"] == 0, counts
        clock.advance(minutes=16)
    for job_id in odd:
        try:
            ran = relayq.runner.run(job_id, None, lambda: 900_000)
        except StoreError:
            pass  # only before the claim
        else:
            assert ran.ended is not RunOutcome.UNSETTLED
        for ask in (relayq.get, relayq.cancel, relayq.redrive, relayq.forget, relayq.store.get_failed):
            _only_what_is_documented(lambda ask=ask, job_id=job_id: ask(job_id))  # type: ignore[misc]
        _only_what_is_documented(lambda job_id=job_id: relayq.dispatch("send_email", job_id=job_id))  # type: ignore[misc]
    for ask_all in (relayq.live, relayq.queues, relayq.failed):
        _only_what_is_documented(ask_all)
    assert good <= {record.id for record in relayq.live()}
    tried.append(len(odd))


@pytest.mark.parametrize("attribute", sorted({*(name for name, _ in ATTRIBUTES.values()), "failed_at", "error_head"}))
def test_no_odd_row_hides_the_failures_beside_it(attribute: str, tables: Tables, relayq: RelayQ) -> None:
    """An operator sees those that can be read, and can forget those that cannot."""
    good = a_job(id="good", status=Status.FAILED, due_at=None, finished_at=NOW)
    odd = []
    for n, value in enumerate(VALUES):
        allowed = KEYS.get(attribute)
        if allowed is not None and value is not None and not 0 < len(value.get(allowed, "")) < 1_000:
            continue
        row: dict[str, Any] = {**encode_failed(good.evolve(id=f"odd-{n}"))}
        row.pop(attribute, None)
        if value is not None:
            row[attribute] = value
        odd.append(row)
    _put(tables, tables.failed, [encode_failed(good), *odd])
    assert "good" in {record.id for record in relayq.failed()}
    for row in odd:
        job_id = row["id"]["S"]
        _only_what_is_documented(lambda job_id=job_id: relayq.get(job_id))  # type: ignore[misc]
        _only_what_is_documented(lambda job_id=job_id: relayq.redrive(job_id))  # type: ignore[misc]
        _only_what_is_documented(lambda job_id=job_id: relayq.forget(job_id))  # type: ignore[misc]
    assert {record.id for record in relayq.failed()} == {"good"}


def _fill(tables: Tables, row: dict[str, Value]) -> int:
    """The longest payload with which DynamoDB takes the row."""
    most, too_many = 400_000, 409_600
    while too_many - most > 1:
        size = (most + too_many) // 2
        try:
            tables.client.put_item(TableName=tables.jobs, Item={**row, "payload": {"S": "x" * size}})
        except ClientError:
            too_many = size
        else:
            most = size
    return most


def test_rows_that_dynamodb_refuses_to_write_do_not_keep_the_sweeper_from_the_rest(
    tables: Tables, relayq: RelayQ, clock: ManualClock, handoff: RecordingHandoff
) -> None:
    """They are too large for one attribute more: forty of them, oldest of all, in the shard of a job that is well."""
    shard = compute_shard("emails", "good-0")
    ids = [f"odd-{n:04}" for n in range(2_000) if compute_shard("emails", f"odd-{n:04}") == shard][:40]
    running = {"status": Status.PROCESSING, "attempt": 1, "lease_id": "lease-1", "lease_until": 1}
    for whole in ({}, running):
        rows: list[dict[str, Any]] = [{**encode_job(a_job(id=job_id, due_at=NOW, **whole))} for job_id in ids[:20]]
        payload = "x" * _fill(tables, rows[0])
        _put(tables, tables.jobs, [{**row, "payload": {"S": payload}} for row in rows])
        ids = ids[20:]
    good = _good_jobs(tables)
    seen = []
    for _ in range(3):
        handoff.offers.clear()
        seen.append(_sweep(relayq).counts)
        assert good <= {offer.job_id for offer in handoff.offers}, seen
        clock.advance(minutes=16)
    assert seen[1] == {"nudged": 3}  # the others are looked at again in an hour


def test_what_stands_in_the_index_and_is_no_job_is_passed_by(
    tables: Tables, relayq: RelayQ, handoff: RecordingHandoff
) -> None:
    """Forty items with the index's attributes and a key that is no job's, oldest of all."""
    keys = ["x", "job", "job#", "unique#a#b", "sweeper", "job#a#b", "job#" + "x" * 2_000, "y" * 2_048, "job#\u2028"]
    for n in range(8):
        for key in keys:
            _put(
                tables,
                tables.jobs,
                [{"pk": {"S": key[: 2_048 - n] + "z" * min(n, 2_048 - len(key[: 2_048 - n]))},
                  "due_shard": {"S": f"emails#{n}"}, "due_at": {"N": "1"}}],
            )  # fmt: skip
    good = _good_jobs(tables)
    counts = _sweep(relayq).counts
    assert good <= {offer.job_id for offer in handoff.offers}, counts
    assert counts["error"] == 0


@pytest.mark.parametrize("names", [["a#b", "emails"], ["x" * 3_000, "emails"], ["", "emails"], ["\u2028", "emails"]])
def test_queues_that_cannot_be_queues_are_passed_by(
    names: list[str], tables: Tables, relayq: RelayQ, handoff: RecordingHandoff
) -> None:
    """Each is asked for by name, and DynamoDB refuses names that are too long."""
    names = [name for name in names if name]
    tables.client.put_item(TableName=tables.jobs, Item={"pk": {"S": "queues"}, "queue_names": {"SS": names}})
    good = _good_jobs(tables)
    _sweep(relayq)
    assert good <= {offer.job_id for offer in handoff.offers}
    assert [view.queue for view in relayq.queues()] == ["emails"]
    relayq.dispatch("send_email", queue="emails")


@pytest.mark.parametrize("value", [value for value in VALUES if value and value.get("S") != ""], ids=_short)
def test_odd_items_of_relayqs_own_are_survived(value: Value, tables: Tables, clock: ManualClock) -> None:
    """The queues, the sweeper's mark, a unique key: whatever stands there, a dispatch and a tick end in their way."""
    relayq = tables.relayq(clock=clock, handoff=RecordingHandoff())
    _put(
        tables,
        tables.jobs,
        [
            {"pk": {"S": "queues"}, "queue_names": value},
            {"pk": {"S": "sweeper"}, "ticked_at": value, "counts": value},
            {"pk": {"S": "unique#send_email#a"}, "job_id": value},
            {"pk": {"S": "unique#send_email#b"}, "job_id": {"S": "x"}, "expires_at": value},
        ],
    )
    for ask in (
        relayq.store.read_last_tick,
        lambda: relayq.dispatch("send_email", unique="a"),
        lambda: relayq.dispatch("send_email", unique="b"),
        lambda: relayq.dispatch("send_email"),
        relayq.queues,
        relayq.live,
        relayq.failed,
    ):
        _only_what_is_documented(ask)
    _only_what_is_documented(lambda: _sweep(relayq))
    if "SS" in value:
        _sweep(relayq)


def test_a_lease_that_lasts_until_the_year_9999_is_left_alone(
    tables: Tables, relayq: RelayQ, clock: ManualClock
) -> None:
    """It is looked at again when it runs out, and until then costs nothing."""
    row = a_job(id="odd", status=Status.PROCESSING, attempt=1, lease_id="l", lease_until=253_402_300_799_999)
    _put(tables, tables.jobs, [encode_job(row)])
    assert _sweep(relayq).counts == {"postponed": 1}
    clock.advance(days=365)
    assert _sweep(relayq).counts == {}
    found = relayq.get("odd")
    assert isinstance(found, JobRecord)
    assert found.due_at == 253_402_300_799_999 + 2_000
