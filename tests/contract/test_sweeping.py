"""Contract of what the sweeper asks: due, nudge, postpone, the queues and the ticks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from relayq_core.errors import InvalidOption, UnreadableRow
from relayq_core.model.record import JobRecord, compute_shard, list_shards
from relayq_core.ports import Answer, Due, JobStore
from relayq_core.testing import ManualClock
from tests.support.factories import NOW, a_job, a_lease, completion

Claimed = Callable[..., JobRecord]
MINUTE = 60_000


def pages(store: JobStore, shard: str, until: int, limit: int) -> Iterator[tuple[Due, ...]]:
    """Every page of a shard."""
    cursor: object | None = None
    while True:
        page = store.list_due(shard, until, limit, cursor)
        yield page.rows
        if (cursor := page.cursor) is None:
            return


def ids_in(shard: str, count: int) -> list[str]:
    """Ids of jobs that fall into one shard."""
    queue = shard.rpartition("#")[0]
    found = (f"job-{n}" for n in range(10_000) if compute_shard(queue, f"job-{n}") == shard)
    return [next(found) for _ in range(count)]


def seen(record: JobRecord) -> Due:
    """The row as the index shows it."""
    assert record.due_at is not None
    return Due(record.due_at, record.id, record.queue)


# --- due ---


def test_rows_come_oldest_first_and_only_up_to_the_moment_asked_for(store: JobStore) -> None:
    """What has waited longest is looked at first."""
    shard = "emails#3"
    for n, job_id in enumerate(ids_in(shard, 5)):
        store.add(a_job(id=job_id, due_at=NOW + (4 - n) * MINUTE))
    rows = store.list_due(shard, NOW + 3 * MINUTE, 100).rows
    assert [row.due_at - NOW for row in rows] == [0, MINUTE, 2 * MINUTE, 3 * MINUTE]
    assert rows[0] == Due(NOW, ids_in(shard, 5)[4], "emails")


def test_a_shard_shows_only_its_own_rows(store: JobStore) -> None:
    """Every job is in exactly one shard of its queue."""
    for n in range(30):
        store.add(a_job(id=f"job-{n}", queue="emails" if n % 2 else "reports"))
    found = {queue: [row.job_id for s in list_shards(queue) for row in store.list_due(s, NOW + MINUTE, 100).rows]
             for queue in ("emails", "reports")}  # fmt: skip
    assert {queue: len(ids) for queue, ids in found.items()} == {"emails": 15, "reports": 15}
    assert set(found["emails"]).isdisjoint(found["reports"])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_join_to_the_whole_without_a_gap(store: JobStore, limit: int) -> None:
    """A page full of rows that nothing can be done about must not hide those behind it."""
    shard = "emails#0"
    ids = ids_in(shard, 7)
    for n, job_id in enumerate(ids):
        store.add(a_job(id=job_id, due_at=NOW + n // 2))  # some at the same moment
    found = list(pages(store, shard, NOW + MINUTE, limit))
    assert all(len(rows) <= limit for rows in found)
    joined = [row for rows in found for row in rows]
    assert sorted(joined) == sorted(Due(NOW + n // 2, job_id, "emails") for n, job_id in enumerate(ids))
    assert [row.due_at for row in joined] == sorted(row.due_at for row in joined)


def test_paging_goes_on_though_a_row_has_left_since(store: JobStore) -> None:
    """The sweeper acts on a page before it asks for the next."""
    shard = "emails#0"
    ids = ids_in(shard, 4)
    for n, job_id in enumerate(ids):
        store.add(a_job(id=job_id, due_at=NOW + n))
    first = store.list_due(shard, NOW + MINUTE, 2)
    for row in first.rows:
        assert store.nudge(row, 0, NOW + 10 * MINUTE).done
    assert [row.job_id for row in store.list_due(shard, NOW + MINUTE, 2, first.cursor).rows] == ids[2:]


def test_an_empty_shard_is_one_empty_page(store: JobStore) -> None:
    """Nothing to do costs one read."""
    assert list(pages(store, "emails#0", NOW, 10)) == [()]


def test_a_running_job_stays_in_the_index(store: JobStore, claimed: Claimed) -> None:
    """Its runner may die: the sweeper has to come across it."""
    before = claimed()
    assert store.list_due(compute_shard("emails", before.id), 10**15, 10).rows == (seen(before),)


# --- nudge ---


def test_a_nudge_moves_the_next_look_and_is_counted(store: JobStore) -> None:
    """The next look comes later each time; the answer shows the row for the handoff."""
    job = a_job()
    store.add(job)
    assert store.nudge(seen(job), 0, NOW + MINUTE) == Answer(True, job.evolve(due_at=NOW + MINUTE, nudges=1))
    assert store.list_due(compute_shard(job.queue, job.id), 10**15, 10).rows == (Due(NOW + MINUTE, job.id, job.queue),)


def test_a_second_nudge_names_the_first(store: JobStore) -> None:
    """Only who knows how often it was nudged decides when to look again."""
    job = a_job()
    store.add(job)
    nudged = store.nudge(seen(job), 0, NOW + MINUTE).record
    assert nudged is not None
    assert store.nudge(seen(nudged), 0, NOW + 2 * MINUTE) == Answer(False, nudged)
    assert store.nudge(seen(nudged), 1, NOW + 2 * MINUTE) == Answer(
        True, nudged.evolve(due_at=NOW + 2 * MINUTE, nudges=2)
    )


def test_of_two_sweepers_one_nudges(store: JobStore) -> None:
    """Both saw the same row; the second finds its due_at moved, and invokes no runner."""
    job = a_job()
    store.add(job)
    nudged = store.nudge(seen(job), 0, NOW + MINUTE).record
    assert store.nudge(seen(job), 0, NOW + MINUTE) == Answer(False, nudged)


def test_a_running_job_is_not_nudged(store: JobStore, claimed: Claimed) -> None:
    """It has a runner; the refusal shows the row, so that its lease can be judged."""
    before = claimed()
    assert store.nudge(seen(before), 0, NOW + MINUTE) == Answer(False, before)


def test_an_ended_job_is_not_nudged(store: JobStore, claimed: Claimed) -> None:
    """The index may lag behind: it nominates, the row decides."""
    before = claimed()
    store.settle(before, completion(before))
    answer = store.nudge(seen(before), 0, NOW + MINUTE)
    assert not answer.done
    assert answer.record is not None
    assert answer.record.due_at is None


def test_a_job_that_is_gone_is_not_nudged_into_being(store: JobStore) -> None:
    """An update would make a row where there is none."""
    assert store.nudge(Due(NOW, "nobody", "emails"), 0, NOW + MINUTE) == Answer(False, None)
    assert store.get("nobody") is None


def test_a_claim_forgets_the_nudges(store: JobStore) -> None:
    """A retry is nudged from the beginning again."""
    job = a_job()
    store.add(job)
    store.nudge(seen(job), 0, NOW + MINUTE)
    answer = store.claim(job.id, a_lease())
    assert answer.record is not None
    assert answer.record.nudges == 0


# --- postpone ---


def test_any_row_may_be_postponed_from_where_it_was_seen(store: JobStore, claimed: Claimed) -> None:
    """A live lease is looked at again when it has run out."""
    before = claimed()
    assert store.postpone(seen(before), NOW + MINUTE)
    assert store.get(before.id) == before.evolve(due_at=NOW + MINUTE)
    assert not store.postpone(seen(before), NOW + 2 * MINUTE)


def test_a_job_that_is_gone_is_not_postponed_into_being(store: JobStore) -> None:
    """An update must not make a row here either."""
    assert not store.postpone(Due(NOW, "nobody", "emails"), NOW + MINUTE)
    assert store.get("nobody") is None


# --- rows that make no sense ---


def test_a_row_that_makes_no_sense_says_where_the_index_has_it(store: JobStore, spoil: Callable[[str], None]) -> None:
    """The sweeper moves it out of its way; it is never deleted."""
    job = a_job()
    store.add(job)
    spoil(job.id)
    with pytest.raises(UnreadableRow) as refused:
        store.nudge(seen(job), 0, NOW + MINUTE)
    assert refused.value.due_at is not None
    assert store.postpone(Due(refused.value.due_at, job.id, job.queue), NOW + 60 * MINUTE)
    (row,) = store.list_due(compute_shard(job.queue, job.id), 10**15, 10).rows
    assert row.due_at == NOW + 60 * MINUTE


def test_a_row_that_makes_no_sense_cannot_be_claimed(store: JobStore, spoil: Callable[[str], None]) -> None:
    """Nothing is run on a guess."""
    store.add(a_job())
    spoil("job-1")
    with pytest.raises(UnreadableRow, match="job-1"):
        store.claim("job-1", a_lease())


def test_a_row_that_makes_no_sense_cannot_be_read(store: JobStore, spoil: Callable[[str], None]) -> None:
    """A caller who asks for it alone gets an error; in a list it is left out."""
    store.add(a_job())
    store.add(a_job(id="job-2"))
    spoil("job-1")
    with pytest.raises(UnreadableRow, match="job-1"):
        store.get("job-1")
    assert [record.id for record in store.get_many(["job-1", "job-2"])] == ["job-2"]


def test_the_id_of_a_row_that_makes_no_sense_is_taken(store: JobStore, spoil: Callable[[str], None]) -> None:
    """A dispatch does not overwrite what it cannot read."""
    store.add(a_job())
    spoil("job-1")
    with pytest.raises(UnreadableRow, match="job-1"):
        store.add(a_job())


# --- queues and ticks ---


def test_queues_are_known_once_and_sorted(store: JobStore) -> None:
    """The sweeper asks the index for each of them."""
    assert store.list_queues() == []
    for queue in ("reports", "emails", "reports"):
        store.register_queue(queue)
    assert store.list_queues() == ["emails", "reports"]


def test_the_hundred_and_first_queue_is_refused_in_plain_words(store: JobStore) -> None:
    """A queue per customer would make every tick a scan; those that exist stay usable."""
    for n in range(100):
        store.register_queue(f"queue-{n}")
    store.register_queue("queue-7")
    with pytest.raises(InvalidOption, match="'one-more' would be queue number 101; the limit is 100"):
        store.register_queue("one-more")
    assert len(store.list_queues()) == 100


def test_a_queue_that_is_forgotten_makes_room_and_is_swept_for_a_day_more(store: JobStore, clock: ManualClock) -> None:
    """A job may be on its way to it: a process that dispatches one registers it again after some minutes."""
    for n in range(100):
        store.register_queue(f"queue-{n}")
    assert store.forget_queue("queue-7")
    assert not store.forget_queue("queue-7")
    assert not store.forget_queue("never-there")
    store.register_queue("one-more")
    assert {"queue-7", "one-more"} < set(store.list_queues())
    with pytest.raises(InvalidOption, match=r"the limit is 100\. `relayq queues forget NAME` takes back one"):
        store.register_queue("queue-7")
    clock.advance(hours=23, minutes=59)
    assert "queue-7" in store.list_queues()
    clock.advance(minutes=1)
    assert len(store.list_queues()) == 100
    assert "queue-7" not in store.list_queues()


def test_a_queue_that_was_forgotten_is_known_again_by_its_next_registration(
    store: JobStore, clock: ManualClock
) -> None:
    """For good; and it can be forgotten again, for another day."""
    for _ in range(3):
        store.register_queue("emails")
        clock.advance(days=2)
        assert store.list_queues() == ["emails"]
        assert store.forget_queue("emails")
        assert store.list_queues() == ["emails"]
        clock.advance(days=2)
        assert store.list_queues() == []


def test_the_last_tick_is_remembered(store: JobStore) -> None:
    """Whether the sweeper lives is the first question when jobs are late."""
    assert store.read_last_tick() is None
    store.record_tick(NOW, {"nudged": 2})
    store.record_tick(NOW + MINUTE, {})
    assert store.read_last_tick() == (NOW + MINUTE, {})


def test_the_last_two_sweepers_are_known_by_name(store: JobStore) -> None:
    """Two stacks on one table take turns; a tick by hand, which names no runner, changes nothing."""
    assert store.list_sweepers() == ()
    store.record_tick(NOW, {}, "runner")
    assert store.list_sweepers() == ("runner",)
    store.record_tick(NOW + MINUTE, {})
    assert store.list_sweepers() == ("runner",)
    for round_ in range(3):
        store.record_tick(NOW + round_, {}, "other-runner")
        assert store.list_sweepers() == ("runner", "other-runner")
        store.record_tick(NOW + round_, {}, "runner")
        assert store.list_sweepers() == ("other-runner", "runner")
    store.record_tick(NOW, {}, "runner")
    assert store.list_sweepers() == ("runner",)
    assert store.read_last_tick() == (NOW, {})
