"""`relayq work` as a process: its own processes, and what signals do to all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from relayq_core import RelayQ, Settings, Status
from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE, EmbeddedAws
from relayq_core.local.environ import isolate
from relayq_core.model.record import JobRecord
from relayq_core.worker.guard import Guard

JOBS = """
import os
import time
from pathlib import Path

from relayq_core import job


def note(line):
    with Path("log").open("a") as log:
        log.write(f"{line} {os.getpid()}\\n")


@job
def greet(name: str) -> str:
    print("printed by the handler")
    return f"Hello, {name}!"


@job
def quiet(number: int) -> int:
    return number


@job(max_attempts=3)
def wait_for(name: str) -> str:
    note(f"begins {name}")
    while not Path(name).exists():
        time.sleep(0.02)
    note(f"ends {name}")
    return name


@job(max_attempts=2, backoff=0)
def die(status: int) -> None:
    os._exit(status)


@job(timeout=60)
def leave_behind(dies: bool) -> int:
    # a process of its own holds what it has inherited
    pid = os.fork()
    if pid == 0:
        time.sleep(300)
        os._exit(0)
    note(f"left {pid}")
    if dies:
        os.kill(os.getpid(), 9)
    while True:
        time.sleep(1)


@job
def ends_its_own(seconds: int) -> float:
    import subprocess
    process = subprocess.Popen(["sleep", str(seconds)])
    process.terminate()
    return process.wait()


@job(timeout=1, max_attempts=1)
def computes() -> None:
    note("begins")
    sum(range(10**12))


@job
def computes_for_long() -> None:
    note("begins")
    sum(range(10**12))


@job
def grandchild() -> str:
    from relayq_core import dispatch
    return dispatch("greet", {"name": "child"}).job_id
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    """DynamoDB, for all tests of this module."""
    embedded = EmbeddedAws()
    yield embedded
    embedded.close()


class Stage:
    """A folder with jobs, tables, and workers in processes of their own."""

    def __init__(self, aws: EmbeddedAws, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs.py").write_text(JOBS)
        self.environ = {**aws.environ, "RELAYQ_HANDOFF": "none", "RELAYQ_JOB_MODULES": "jobs"}
        self.relayq = RelayQ(Settings.from_environ({**self.environ}))
        self.workers: list[subprocess.Popen[str]] = []

    def work(self, *options: str) -> subprocess.Popen[str]:
        """Start a worker."""
        process = subprocess.Popen(
            [sys.executable, "-m", "relayq_core.cli", "work", "--json", *options],
            cwd=self.folder,
            env=isolate(self.environ, os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.workers.append(process)
        return process

    def worked(self, *options: str) -> tuple[list[dict[str, Any]], str]:
        """Return what a worker printed until it left by itself, and its stderr."""
        return self.ended(self.work(*options))

    def ended(self, process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
        """The same of one that was started before."""
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()], err

    def job(self, job_id: str) -> JobRecord:
        """The job as it now is."""
        found = self.relayq.get(job_id)
        assert found is not None
        return found

    @property
    def log(self) -> list[str]:
        """What handlers have noted."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, came: Callable[[], bool]) -> None:
        """Wait for something that must come."""
        for _ in range(1500):
            if came():
                return
            time.sleep(0.02)
        pytest.fail("it did not come within 30 seconds")


@pytest.fixture
def stage(aws: EmbeddedAws, tmp_path: Path) -> Iterator[Stage]:
    """Fresh tables and a folder; whatever still runs at the end is killed."""
    aws.create_tables()
    stage = Stage(aws, tmp_path)
    yield stage
    for process in stage.workers:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    for table in (JOBS_TABLE, FAILED_TABLE):
        aws.dynamodb.delete_table(TableName=table)


def test_jobs_run_in_processes_of_their_own(stage: Stage) -> None:
    """What a handler prints is no part of the JSON, and what it dispatches is run too."""
    job_id = stage.relayq.dispatch("grandchild").job_id
    told, err = stage.worked("--max-jobs", "2")
    assert [(line["event"], line.get("name")) for line in told] == [
        ("started", "grandchild"),
        ("completed", "grandchild"),
        ("started", "greet"),
        ("completed", "greet"),
        ("left", None),
    ]
    assert told[-1]["counts"] == {"completed": 2}
    assert "printed by the handler" in err
    child = stage.job(stage.job(job_id).result)
    assert (child.result, child.parent_id) == ("Hello, child!", job_id)


def test_a_job_module_that_configures_logging_does_not_silence_its_jobs(stage: Stage) -> None:
    """Their own lines, RelayQ's and the worker's; unless asked not to, dictConfig disables whatever logger exists."""
    configure = "import logging.config; logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}})\n"
    speak = (
        "\n@job\ndef speak() -> None:\n    from relayq_core.jobs.context import job_logger; job_logger.info('spoken')\n"
    )
    (stage.folder / "jobs.py").write_text(configure + JOBS + speak + "    return object()\n")
    stage.relayq.dispatch("speak")
    stage.relayq.dispatch("die", {"status": 3}, max_attempts=1)
    _, err = stage.worked("--max-jobs", "2")
    assert "spoken" in err
    assert "the result is not kept" in err
    assert "status 3" in err


def test_a_handler_that_ends_its_process_does_not_end_the_worker(stage: Stage) -> None:
    """The attempt is spent at once, the process replaced; after the last attempt the job has failed."""
    job_id = stage.relayq.dispatch("die", {"status": 3}).job_id
    told, err = stage.worked("--max-jobs", "3")
    assert told[-1]["counts"] == {"crashed": 2, "failed": 1}
    assert "status 3" in err
    assert stage.job(job_id).status is Status.FAILED


def test_it_leaves_at_once_where_nothing_is_due(stage: Stage) -> None:
    """--once is for scripts and cron."""
    told, _ = stage.worked("--once")
    assert told == [{"event": "left", "counts": {}}]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_job_in_hand_end(stage: Stage, number: signal.Signals) -> None:
    """To the whole group, as Ctrl-C does it: the handler hears nothing of it. What waits is left."""
    first, second = (stage.relayq.dispatch("wait_for", {"name": name}).job_id for name in ("one", "two"))
    worker = stage.work()
    stage.until(lambda: bool(stage.log))
    os.killpg(worker.pid, number)
    time.sleep(0.1)
    assert worker.poll() is None
    for name in ("one", "two"):
        (stage.folder / name).touch()
    told, _ = stage.ended(worker)
    assert told[-1]["counts"] == {"completed": 1}
    assert sorted([stage.job(first).status, stage.job(second).status]) == [Status.COMPLETED, Status.PENDING]


def test_the_second_signal_ends_the_handler_and_then_gives_the_job_back(stage: Stage) -> None:
    """Its process is gone when another may take the job; the attempt does not count."""
    ids = [stage.relayq.dispatch("wait_for", {"name": name}).job_id for name in ("one", "two")]
    worker = stage.work("--concurrency", "2")
    stage.until(lambda: len(stage.log) == 2)
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    told, _ = stage.ended(worker)
    assert told[-1]["counts"] == {"interrupted": 2}
    for line in stage.log:
        assert not _is_alive(int(line.split()[-1]))
    assert [(stage.job(job_id).status, stage.job(job_id).attempt) for job_id in ids] == [(Status.RETRYING, 0)] * 2
    for name in ("one", "two"):
        (stage.folder / name).touch()
    told, _ = stage.worked("--max-jobs", "2")
    assert told[-1]["counts"] == {"completed": 2}


def left_behind(stage: Stage) -> int:
    """The process that a handler has started."""
    stage.until(lambda: any(line.startswith("left") for line in stage.log))
    return int(stage.log[0].split()[1])


def test_a_handlers_death_is_noticed_though_its_fork_lives_on(stage: Stage) -> None:
    """A fork holds the other end of the pipe: that alone would say that all is well. It is ended, too."""
    job_id = stage.relayq.dispatch("leave_behind", {"dies": True}, max_attempts=2, backoff=0).job_id
    told, _ = stage.worked("--max-jobs", "2")
    assert told[-1]["counts"] == {"crashed": 2}
    assert stage.job(job_id).attempt == 2
    for line in stage.log:
        pid = int(line.split()[1])
        stage.until(lambda pid=pid: not _is_alive(pid))  # type: ignore[misc]


def test_what_a_handler_has_started_ends_with_it(stage: Stage) -> None:
    """It would go on working beside the next run of its job."""
    stage.relayq.dispatch("leave_behind", {"dies": False})
    worker = stage.work()
    pid = left_behind(stage)
    worker.send_signal(signal.SIGINT)
    time.sleep(0.1)
    worker.send_signal(signal.SIGINT)
    told, _ = stage.ended(worker)
    assert told[-1]["counts"] == {"interrupted": 1}
    stage.until(lambda: not _is_alive(pid))


def test_a_handlers_own_processes_can_be_stopped_by_it(stage: Stage) -> None:
    """They inherit no ignored signal."""
    job_id = stage.relayq.dispatch("ends_its_own", {"seconds": 300}).job_id
    told, _ = stage.worked("--max-jobs", "1")
    assert told[-1]["counts"] == {"completed": 1}
    assert stage.job(job_id).result == -signal.SIGTERM


def test_while_one_process_restarts_the_others_work_and_signals_count(stage: Stage) -> None:
    """Importing the jobs may take long; nothing is claimed for a process that is not ready."""
    stage.relayq.dispatch("wait_for", {"name": "one"})
    worker = stage.work("--concurrency", "2")
    stage.until(lambda: bool(stage.log))
    (stage.folder / "jobs.py").write_text("import time\ntime.sleep(60)\n")
    die = stage.relayq.dispatch("die", {"status": 3}).job_id
    stage.until(lambda: stage.job(die).attempt == 1 and stage.job(die).status is not Status.PROCESSING)
    waiting = stage.relayq.dispatch("greet", {"name": "Ada"}).job_id
    time.sleep(1.5)
    assert stage.job(waiting).attempt == 0
    worker.send_signal(signal.SIGTERM)
    (stage.folder / "one").touch()
    told, _ = stage.ended(worker)
    assert told[-1]["counts"]["completed"] == 1


def test_a_worker_that_is_killed_takes_its_handlers_with_it(stage: Stage) -> None:
    """Their leases are not renewed any more: they must not work on beside the runner that takes the job next."""
    job_id = stage.relayq.dispatch("wait_for", {"name": "one"}).job_id
    worker = stage.work()
    stage.until(lambda: bool(stage.log))
    worker.kill()
    pid = int(stage.log[0].split()[-1])
    stage.until(lambda: not _is_alive(pid))
    record = stage.job(job_id)
    assert record.status is Status.PROCESSING
    assert (record.lease_until or 0) - stage.relayq.clock.now() <= 70_000


def test_jobs_that_cannot_be_imported_stop_it_before_anything_is_claimed(stage: Stage) -> None:
    """In a sentence, with the place."""
    job_id = stage.relayq.dispatch("greet", {"name": "Ada"}).job_id
    (stage.folder / "jobs.py").write_text("import nothing_like_it")
    worker = stage.work()
    out, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert "nothing_like_it" in json.loads(out)["error"]
    assert stage.job(job_id).attempt == 0


def test_tables_that_are_not_there_are_reported_at_once(stage: Stage) -> None:
    """They are not tried again without end."""
    stage.environ["RELAYQ_JOBS_TABLE"] = "elsewhere"
    worker = stage.work("--once")
    out, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert "elsewhere" in json.loads(out)["error"]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- time ---


def test_a_jobs_own_timeout_ends_c_code_too(stage: Stage) -> None:
    """It holds Python's lock: nothing of Python's can stop it. The error names the timeout, not the memory."""
    stage.environ["RELAYQ_LEASE_GRACE_SECONDS"] = "1"
    job_id = stage.relayq.dispatch("computes").job_id
    told, err = stage.worked("--max-jobs", "2")
    assert told[-1]["counts"] == {"crashed": 1, "failed": 1}
    why = "JobCrashed: the runner of attempt 1 was ended: its handler overran its time and did not stop"
    assert stage.job(job_id).error == why
    assert "in computes" in err, "the log says where it was"


def test_a_worker_that_is_killed_takes_c_code_with_it(stage: Stage) -> None:
    """C code hears of no signal: it holds Python's lock."""
    stage.relayq.dispatch("computes_for_long")
    worker = stage.work()
    stage.until(lambda: bool(stage.log))
    worker.kill()
    pid = int(stage.log[0].split()[-1])
    stage.until(lambda: not _is_alive(pid))


@pytest.mark.parametrize("blocked", ["stdout", "stderr"])
def test_an_output_that_is_blocked_holds_no_job_up(stage: Stage, blocked: str) -> None:
    """`relayq work | less`: what is in hand is renewed, what waits is run, and it can leave."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writes, b"x" * 64)
    os.set_blocking(writes, True)
    die = stage.relayq.dispatch("die", {"status": 3}).job_id  # is logged
    ids = [stage.relayq.dispatch("quiet", {"number": number}).job_id for number in range(3)]
    outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, blocked: writes}
    worker = subprocess.Popen(
        [sys.executable, "-m", "relayq_core.cli", "work", "--max-jobs", "4"],
        cwd=stage.folder,
        env=isolate(stage.environ, os.environ),
        start_new_session=True,
        **outputs,  # type: ignore[call-overload]
    )
    stage.workers.append(worker)
    try:
        assert worker.wait(60) == 0
    finally:
        os.close(reads)
        os.close(writes)
    assert [stage.job(job_id).status for job_id in ids] == [Status.COMPLETED] * 3
    assert stage.job(die).status is Status.RETRYING


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard that is gone afterwards."""
    guard = Guard()
    yield guard
    guard.close()


@pytest.fixture
def group() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nothing of Python's can end."""
    process = subprocess.Popen([sys.executable, "-c", "sum(range(10**12))"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def guarding(guard: Guard) -> subprocess.Popen[bytes]:
    """Its process."""
    assert guard._process is not None
    return guard._process


def test_a_process_that_is_not_kept_any_more_ends_at_its_time(guard: Guard, group: subprocess.Popen[bytes]) -> None:
    """Its worker was stopped, or is blocked: it renews no lease, and says nothing."""
    guard.watch(group.pid, time.monotonic() + 0.2)
    assert group.wait(60) == -signal.SIGKILL


def test_a_process_is_kept_by_being_watched_again(guard: Guard, group: subprocess.Popen[bytes]) -> None:
    """As its lease is renewed."""
    begins = time.monotonic()
    guard.watch(group.pid, begins + 1)
    guard.watch(group.pid, begins + 3)
    assert group.wait(60) == -signal.SIGKILL
    assert time.monotonic() >= begins + 3


def test_a_process_that_has_ended_is_watched_no_more(guard: Guard, group: subprocess.Popen[bytes]) -> None:
    """Its number may be another's."""
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        guard.watch(group.pid, time.monotonic() + 0.5)
        guard.forget(group.pid)
        guard.watch(other.pid, time.monotonic() + 0.6)
        assert other.wait(60) == -signal.SIGKILL
        assert group.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_guard_that_was_ended_or_stopped_is_replaced(
    guard: Guard, group: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    """It knows what the former one knew."""
    guard.watch(group.pid, time.monotonic() + 0.3)
    former = guarding(guard)
    former.send_signal(number)
    if number is signal.SIGKILL:
        former.wait()
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        while guarding(guard) is former:
            guard.watch(other.pid)
        assert group.wait(60) == -signal.SIGKILL
    finally:
        other.kill()
        other.wait()


def test_the_end_of_the_worker_is_the_end_of_all_that_it_watches(group: subprocess.Popen[bytes]) -> None:
    """Also of what has no time yet."""
    guard = Guard()
    guard.watch(group.pid)
    guard.close()
    assert group.wait(60) == -signal.SIGKILL
