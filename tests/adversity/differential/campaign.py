"""How many sequences to compare, in how many processes, and what they must have met."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from relayq_core.model import record
from tests.adversity.differential.machine import StoresAgree
from tests.adversity.differential.twins import Engine, Report, engine_at

#: Rules in one sequence at most.
STEPS = 25

#: What must have been answered at least once, or the sequences have proved less than they seem to.
EXPECTED = {
    "add": ("added", "found", "duplicate", "UnreadableRow"),
    "claim": ("done", "refused", "not there", "UnreadableRow"),
    "settle": ("done", "lost", "cancel requested"),
    "settle (delete)": ("done", "lost"),
    "settle (bury)": ("done", "lost", "cancel requested"),
    "save_progress": ("yes", "none"),
    "list_due": ("rows", "none"),
    "nudge": ("done", "refused", "not there", "UnreadableRow"),
    "postpone": ("yes", "none"),
    "get": ("yes", "none", "UnreadableRow"),
    "get_many": ("yes", "none"),
    "get_failed": ("yes", "none"),
    "find_holder": ("yes", "none"),
    "list_failed": ("yes", "none"),
    "cancel_waiting": ("yes", "none"),
    "mark_cancelled": ("done", "refused", "not there", "UnreadableRow"),
    "redrive": ("added", "found", "duplicate", "none", "UnreadableRow"),
    "forget": ("yes", "none"),
    "register_queue": ("none", "InvalidOption"),
    "list_queues": ("yes", "none"),
    "record_tick": ("none",),
    "read_last_tick": ("yes", "none"),
}


def never_met(report: Report) -> list[str]:
    """Answers that no sequence came by."""
    wanted = [(verb, answer) for verb, answers in EXPECTED.items() for answer in answers]
    return [f"{verb}: {answer}" for verb, answer in wanted if (verb, answer) not in report.answers]


def compare(engine: Engine, sequences: int, *, first_seed: int, shrink: bool = True) -> None:
    """Play this many sequences. Raises AssertionError with the (shortest) sequence in which the stores differ."""
    chosen = settings(
        max_examples=sequences,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    @seed(first_seed)
    class Seeded(StoresAgree):
        """Hypothesis takes the seed from the class."""

    with _one_shard():
        run_state_machine_as_test(lambda: Seeded(engine), settings=chosen)  # type: ignore[arg-type]


def compare_in_processes(endpoint: str, sequences: int, *, first_seed: int, processes: int) -> Report:
    """The same in several processes, each with tables and seeds of its own."""
    share = -(-sequences // processes)
    whole = Report()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for report in pool.map(_part, [(endpoint, share, first_seed + n) for n in range(processes)]):
            whole.add(report)
    return whole


def _part(asked: tuple[str, int, int]) -> Report:
    endpoint, sequences, first_seed = asked
    with engine_at(endpoint) as engine:
        compare(engine, sequences, first_seed=first_seed)
        return engine.report


@contextmanager
def _one_shard() -> Iterator[None]:
    """Inside, a queue is one shard of the index: its few jobs then share pages."""
    shards, record.SHARDS = record.SHARDS, 1
    try:
        yield
    finally:
        record.SHARDS = shards
