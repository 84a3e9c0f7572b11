"""The rows about queues as a whole and about tools: primitives, commands, scaffolding, workers, test kit, health."""

from __future__ import annotations

import typer

from relayq_core import Job, Status, dispatch, job
from relayq_core.cli.main import app
from relayq_core.cli.scaffold import find_layout, parse_names, render_files
from relayq_core.engine.sweeper import Scope
from relayq_core.model.settling import return_unfinished
from relayq_core.testing import Bench, fake, inline
from relayq_core.worker.worker import Worker
from tests.support.factories import a_lease
from tests.support.slots import FakeSlots


def working(bench: Bench, stopping: int = 0) -> Worker:
    """A worker on the bench."""
    relayq = bench.relayq
    return Worker(
        relayq,
        FakeSlots(bench),
        stopping=lambda: stopping,
    )


def test_row_38_a_queue_can_be_filled_reserved_released_buried_recovered_counted_and_cleared(bench: Bench) -> None:
    """The verbs of a queue, each by its name here: dispatch, claim, settle, bury, sweep, queues, clear."""

    @job(max_attempts=1)
    def fail() -> None:
        raise OSError

    first, second, third = (bench.relayq.dispatch(fail, queue="q", timeout=5).job_id for _ in range(3))
    assert bench.relayq.queues()[0].live == 3
    bench.run(first)
    assert [failure.id for failure in bench.relayq.failed("q")] == [first]
    claim = bench.store.claim(second, a_lease("dead", now=bench.clock.now())).record
    assert claim is not None
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"released": 1, "nudged": 1}
    assert bench.relayq.clear("q").counts["cancelled"] == 2
    assert bench.relayq.queues()[0].live == 0
    assert third in bench.store.jobs


def test_row_39_there_is_a_command_for_all_of_it() -> None:
    """run, sweep, work, queues, list, status, make-job, tables and the rest, each with a help of its own."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wanted = (
        *("demo", "dev", "dispatch", "run", "work", "sweep", "queues", "list", "status", "cancel", "clear", "failed"),
        *("registry", "make-job", "tables", "health", "doctor", "dashboard", "logs"),
    )
    assert set(wanted) <= set(commands)
    assert all(commands[name].help for name in wanted)


def test_row_40_a_job_is_made_by_a_command(tmp_path: object) -> None:
    """It comes with its test and its event, which pass as they are written (tests/surfaces/cli has them run)."""
    from pathlib import Path

    written = render_files(parse_names("SendInvoice"), "billing", find_layout(Path(str(tmp_path))))
    assert [path.as_posix() for path in written] == [
        "src/jobs/send_invoice.py",
        "tests/test_send_invoice.py",
        "events/dispatch_send_invoice.json",
        "tests/conftest.py",
    ]
    assert 'class SendInvoice(Job, queue="billing"' in written[Path("src/jobs/send_invoice.py")]


def test_row_42_a_worker_finishes_what_it_has_in_hand(bench: Bench) -> None:
    """The first signal lets it end, the second gives it back uncounted (tests/surfaces/worker sends real ones)."""
    bench = Bench(handoff="none")

    @job
    def greet() -> None: ...

    job_id = bench.relayq.dispatch(greet).job_id
    assert working(bench, stopping=1).work() == {}
    claimed = bench.store.claim(job_id, a_lease("mine", now=bench.clock.now())).record
    assert claimed is not None
    back = return_unfinished(claimed, bench.relayq.policy, now=bench.clock.now()).after
    assert (back.status, back.attempt) == (Status.RETRYING, 0)


def test_row_43_a_worker_runs_one_job_or_a_number_of_some_queues() -> None:
    """--once, --max-jobs and --queue."""
    bench = Bench(handoff="none")
    ran: list[str] = []

    @job
    def greet(queue: str) -> None:
        ran.append(queue)

    for queue in ("a", "b", "c", "c"):
        bench.relayq.dispatch(greet.job(queue=queue), queue=queue)
    assert working(bench).work(["b"], most=1, once=True) == {"completed": 1}
    assert working(bench).work(["c", "a"], most=2) == {"completed": 2}
    assert ran == ["b", "c", "c"]


def test_row_51_there_is_a_store_in_memory_for_tests() -> None:
    """Nothing runs but what is asked for, or all at once; either way through JSON."""

    class Greet(Job):
        name: str

        def handle(self) -> str:
            return f"Hello, {self.name}!"

    with fake() as kit:
        job_id = dispatch(Greet(name="Ada")).job_id
        kit.assert_dispatched(Greet, name="Ada")
        assert kit.get(job_id).status is Status.PENDING
        kit.drain()
        assert kit.get(job_id).result == "Hello, Ada!"
    with inline() as kit:
        assert kit.get(dispatch(Greet(name="Bob")).job_id).result == "Hello, Bob!"


def test_row_53_health_counts_and_judges(bench: Bench) -> None:
    """Tables reachable, how much waits in each queue, the oldest, the last sweep; and what is wrong, in words."""
    bench.relayq.dispatch("greet", queue="emails")
    bench.sweep()
    assert bench.relayq.health().problems == ()
    assert [(view.queue, view.live) for view in bench.relayq.health().queues] == [("emails", 1)]
    bench.clock.advance(minutes=10)
    assert bench.relayq.health().problems
