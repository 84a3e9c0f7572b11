"""Many dispatch at once: of one key, of one id, into ever new queues."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from relayq_core import job
from relayq_core.client import RelayQ
from relayq_core.engine.dispatcher import Dispatched
from relayq_core.engine.results import RunOutcome, RunResult
from relayq_core.errors import InvalidOption
from relayq_core.model.queues import MOST_QUEUES
from tests.adversity.races.track import MOST, Track
from tests.support.figures import tell

pytestmark = [pytest.mark.dynamodb_local, pytest.mark.timeout(300)]

ROUNDS = 10


@pytest.mark.parametrize("window", [None, 300])
def test_of_64_dispatches_with_one_key_one_makes_a_job(track: Track, window: int | None) -> None:
    """One job row, 64 equal answers, and no error: that is what a unique key promises."""
    relayqs = track.relayqs(MOST)
    made = set()
    for n in range(ROUNDS):
        answers = track.at_once(
            *(
                partial(relayq.dispatch, "greet", {"n": n}, unique=f"welcome:{n}", unique_for=window)
                for relayq in relayqs
            )
        )
        (winner,) = {answer.job_id for answer in answers}
        assert sorted(answer.duplicate for answer in answers) == [False] + [True] * (MOST - 1)
        made.add(winner)
    assert track.job_rows() == made
    assert {offer.job_id for offer in track.handoff.offers} == made
    assert len(track.handoff.offers) == ROUNDS
    tell(f"{ROUNDS} rounds of {MOST} dispatches with one key: one job and {MOST} equal answers in each")


def test_of_64_dispatches_one_takes_over_a_key_that_has_expired(track: Track) -> None:
    """TTL deletes days late, so the item of the last window stands in everybody's way."""
    relayqs = track.relayqs(MOST)
    made = set()
    for _ in range(ROUNDS):
        answers = track.at_once(
            *(partial(relayq.dispatch, "greet", unique="daily", unique_for=60) for relayq in relayqs)
        )
        (winner,) = {answer.job_id for answer in answers}
        assert [answer.duplicate for answer in answers].count(False) == 1
        assert winner not in made
        made.add(winner)
        track.clock.advance(minutes=2)
    assert track.job_rows() == made


def test_64_dispatches_of_one_id_make_one_job(track: Track) -> None:
    """An id of one's own makes a dispatch safe to repeat: no caller hears of a duplicate or of an error."""
    relayqs = track.relayqs(MOST)
    for n in range(ROUNDS):
        answers = track.at_once(
            *(
                partial(relayq.dispatch, "greet", {"n": n}, job_id=f"order-{n}", unique=f"order:{n}")
                for relayq in relayqs
            )
        )
        assert set(answers) == {Dispatched(f"order-{n}", duplicate=False, handed_off=True)}
    assert track.job_rows() == {f"order-{n}" for n in range(ROUNDS)}
    tell(f"{ROUNDS} rounds of {MOST} dispatches of one id: one job and {MOST} equal answers in each")


def test_an_id_that_two_jobs_want_is_one_of_theirs(track: Track) -> None:
    """The other caller gets an error: no job is taken for another caller's."""
    relayqs = track.relayqs(16)

    def dispatch(relayq: RelayQ, name: str, job_id: str) -> str:
        try:
            return relayq.dispatch(name, job_id=job_id).job_id
        except InvalidOption:
            return "refused"

    for n in range(ROUNDS):
        names = ["greet", "charge"] * 8
        told = track.at_once(
            *(partial(dispatch, relayq, name, f"order-{n}") for relayq, name in zip(relayqs, names, strict=True))
        )
        record = relayqs[0].get(f"order-{n}")
        assert record is not None
        assert told == [f"order-{n}" if name == record.name else "refused" for name in names]


def test_a_key_passes_from_the_job_that_ends_to_one_other(track: Track) -> None:
    """The key is released in the write that ends its job: a dispatch before that write is a duplicate of that job."""

    @job
    def greet() -> None:
        """Done at once; the gate holds the settle until the dispatches come."""

    callers = track.relayqs(15)
    for _ in range(3 * ROUNDS):
        first = callers[0].dispatch(greet, unique="welcome").job_id
        line = threading.Barrier(16)
        runner = track.relayq(15, gate=(line, "settle")).runner

        def dispatch(relayq: RelayQ, line: threading.Barrier = line) -> Dispatched:
            line.wait(60)
            return relayq.dispatch(greet, unique="welcome")

        ran, *answers = track.at_once(
            partial(runner.run, first, None, lambda: 900_000),
            *(partial(dispatch, relayq) for relayq in callers),
        )
        assert isinstance(ran, RunResult)
        assert ran.ended is RunOutcome.COMPLETED
        accepted = [answer.job_id for answer in answers if isinstance(answer, Dispatched) and not answer.duplicate]
        assert len(accepted) <= 1
        assert {answer.job_id for answer in answers if isinstance(answer, Dispatched)} <= {first, *accepted}
        assert callers[0].dispatch(greet, unique="welcome").duplicate == bool(accepted)
        for found in callers[0].live():
            assert callers[0].cancel(found.id) is not None


def test_of_many_new_queues_a_hundred_are_taken(track: Track) -> None:
    """The sweeper asks for each of them, so there is a limit; a race does not get past it."""
    relayqs = track.relayqs(MOST)

    def dispatch(relayq: RelayQ, queue: str) -> bool:
        try:
            relayq.dispatch("greet", queue=queue)
        except InvalidOption:
            return False
        return True

    taken = [
        track.at_once(*(partial(dispatch, relayq, f"queue-{turn}-{n}") for n, relayq in enumerate(relayqs)))
        for turn in range(2)
    ]
    assert sum(map(sum, taken)) == MOST_QUEUES
    assert len(relayqs[0].store.list_queues()) == MOST_QUEUES
    assert len(track.job_rows()) == MOST_QUEUES
