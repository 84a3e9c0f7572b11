"""The embedded stack: real handlers in real processes, on DynamoDB and Lambda emulated on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from relayq_core.cli.main import main
from relayq_core.client import RelayQ
from relayq_core.local.environ import apply_environ
from relayq_core.local.functions import Function, Functions
from relayq_core.local.stack import RUNNER, Stack, find_shipped_jobs
from relayq_core.local.workers import WorkerStartFailed
from relayq_core.model.record import JobRecord, Status
from tests.surfaces.template.grants import translated

JOBS = '''
"""Jobs that run in the worker processes."""

import os
import time

from relayq_core import Bury, JobContext, job


@job(name="live.where")
def where() -> dict[str, str]:
    names = ("AWS_LAMBDA_FUNCTION_NAME", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "RELAYQ_MAX_DEPTH")
    return {name: os.environ.get(name, "") for name in names} | {"pid": str(os.getpid())}


@job(name="live.refuse")
def refuse() -> None:
    raise Bury("never")


@job(name="live.linger")
def linger(context: JobContext) -> str:
    if context.attempt == 1:
        context.progress(0.5, "half way")
        time.sleep(60)
    return "done"
'''

HANDLERS = '''
"""Handlers that are no RelayQ."""

import os
import time


def echo(event, context):
    if event.get("sleep"):
        time.sleep(event["sleep"])
    if event.get("die"):
        os._exit(9)
    if event.get("raise"):
        raise RuntimeError("said no")
    with open(event["to"], "a") as file:
        file.write(f"{event['say']} {os.getpid()} {context.function_name}\\n")
'''


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What the condition comes to, once that is true."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with job modules and handlers."""
    made = tmp_path_factory.mktemp("live")
    (made / "live_jobs.py").write_text(JOBS)
    (made / "live_handlers.py").write_text(HANDLERS)
    return made


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    """The stack, with short times and a sweeper that ticks."""
    settings = {
        "RELAYQ_JOB_MODULES": "live_jobs",
        "RELAYQ_STALE_SECONDS": "1",
        "RELAYQ_LEASE_GRACE_SECONDS": "1",
        "RELAYQ_LOOKAHEAD_SECONDS": "1",
    }
    # what the shell of a user may hold, and what must not reach the workers
    foreign = {"AWS_PROFILE": "production", "RELAYQ_MAX_DEPTH": "7", "AWS_ACCESS_KEY_ID": "real"}
    with apply_environ(foreign), Stack(folder / "logs", settings=settings, path=[folder], tick=0.5) as made:
        yield made


@pytest.fixture
def relayq(stack: Stack) -> RelayQ:
    """A client of that stack."""
    assert os.environ["AWS_ENDPOINT_URL"] == stack.aws.endpoint
    return RelayQ(validate_parameters=True)


def ended(relayq: RelayQ, job_id: str) -> JobRecord:
    """The job, once it has ended."""

    def look() -> JobRecord | None:
        job = relayq.get(job_id)
        return job if job and job.status.is_ended else None

    job: JobRecord = until(look)
    return job


def test_a_dispatched_job_runs_in_another_process(stack: Stack, relayq: RelayQ) -> None:
    """It finds Lambda's variables there, and nothing of the user's shell."""
    job = ended(relayq, relayq.dispatch("live.where").job_id)
    assert job.status is Status.COMPLETED
    assert job.result["AWS_LAMBDA_FUNCTION_NAME"] == RUNNER
    assert job.result["AWS_ENDPOINT_URL"] == stack.aws.endpoint
    assert job.result["AWS_ACCESS_KEY_ID"] == stack.environ["AWS_ACCESS_KEY_ID"]
    assert (job.result["AWS_PROFILE"], job.result["RELAYQ_MAX_DEPTH"]) == ("", "")
    assert job.result["pid"] != str(os.getpid())


def test_the_functions_live_as_long_as_in_the_template(stack: Stack) -> None:
    """A runner that lives shorter buries jobs that run in production."""
    template = translated()
    lives = {name.removeprefix("relayq-"): pool._function.timeout for name, pool in stack.functions._pools.items()}
    timeouts = {
        "runner": template["Parameters"]["RunnerTimeout"]["Default"],
        "sweeper": template["Resources"]["SweeperFunction"]["Properties"]["Timeout"],
    }
    assert lives == timeouts


def test_a_killed_runners_job_is_saved_by_the_sweeper(stack: Stack, relayq: RelayQ) -> None:
    """SIGKILL in the middle of a job: the lease runs out, and another runner completes it."""
    job_id = relayq.dispatch("live.linger", timeout=1.5, backoff=0.1).job_id
    until(lambda: (job := relayq.get(job_id)) and job.progress)
    assert stack.kill_runner_of("another-id") is None
    assert stack.kill_runner_of(job_id) is not None
    job = ended(relayq, job_id)
    assert (job.status, job.attempt, job.result) == (Status.COMPLETED, 2, "done")
    assert str(job.errors[0]["error"]).startswith("JobCrashed")


def stack_client() -> Any:
    """A client of the played Lambda."""
    return boto3.Session().client("lambda")


@pytest.mark.usefixtures("stack")
def test_an_event_for_a_function_that_is_not_there_is_refused() -> None:
    """As Lambda refuses it; and only asynchronous invocations are played."""
    with contextlib.closing(stack_client()) as client:
        with pytest.raises(ClientError, match="Function not found: nobody"):
            client.invoke(FunctionName="nobody", InvocationType="Event", Payload="{}")
        with pytest.raises(ClientError, match="only InvocationType=Event"):
            client.invoke(FunctionName=RUNNER, Payload="{}")


@pytest.mark.usefixtures("stack")
def test_an_invocation_is_accepted_with_an_empty_body() -> None:
    """202 and nothing else, as from Lambda; the name may be an ARN."""
    with contextlib.closing(stack_client()) as client:
        arn = f"arn:aws:lambda:us-east-1:123456789012:function:{RUNNER}"
        answer = client.invoke(FunctionName=arn, InvocationType="Event", Payload='{"job_id": "nobody"}')
        assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")


def test_dispatch_with_wait_exits_with_how_the_job_went(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 completed, 3 failed, 5 not ended yet."""
    monkeypatch.chdir(tmp_path)
    with apply_environ({**stack.environ, "RELAYQ_JOB_MODULES": "not_at_hand"}):
        assert main(["dispatch", "live.where", "--wait", "30", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["job"]["result"]["AWS_LAMBDA_FUNCTION_NAME"] == RUNNER
        assert main(["dispatch", "live.where", "--wait"]) == 0
        assert "handed to a runner\ncompleted: {" in capsys.readouterr().out
        assert main(["dispatch", "--wait", "live.refuse"]) == 3
        assert "failed: Bury: never" in capsys.readouterr().out
        assert main(["dispatch", "live.where", "--delay", "1h", "--wait", "0.1"]) == 5
        assert "the sweeper starts it when it is due" in capsys.readouterr().out


# --- functions ---


@pytest.fixture
def functions() -> Iterator[Functions]:
    """Lambda, without functions yet."""
    made = Functions()
    yield made
    made.close()


def started(functions: Functions, folder: Path, tmp_path: Path, timeout: float = 60, concurrency: int = 1) -> Path:
    """The function `echo`, and the file it writes to."""
    function = Function(
        name="echo",
        handler="live_handlers.echo",
        environ={"AWS_REGION": "us-east-1"},
        path=[folder],
        timeout=timeout,
        concurrency=concurrency,
        log=tmp_path / "echo.log",
    )
    functions.begin([function])
    functions.wait()
    return tmp_path / "said"


def said(file: Path) -> list[str]:
    """The first words of what was written."""
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def event(**members: Any) -> bytes:
    """An event as it is on the wire."""
    return json.dumps(members, default=str).encode()


def test_a_worker_that_dies_is_replaced_and_its_event_is_lost(
    functions: Functions, folder: Path, tmp_path: Path
) -> None:
    """As on Lambda with its retries set to 0."""
    file = started(functions, folder, tmp_path)
    functions.invoke("echo", event(die=True, to=file, say="never"))
    functions.invoke("echo", event(to=file, say="next"))
    assert until(lambda: said(file)) == ["next"]
    assert "ended in the middle of its event; the event is lost" in (tmp_path / "echo.log").read_text()


def test_a_worker_that_overruns_the_timeout_is_killed(functions: Functions, folder: Path, tmp_path: Path) -> None:
    """The event after it finds a fresh one."""
    file = started(functions, folder, tmp_path, timeout=0.5)
    functions.invoke("echo", event(sleep=60, to=file, say="never"))
    functions.invoke("echo", event(to=file, say="next"))
    assert until(lambda: said(file)) == ["next"]
    assert "took longer than 0.5 s" in (tmp_path / "echo.log").read_text()


def test_a_handler_that_raises_costs_only_its_event(functions: Functions, folder: Path, tmp_path: Path) -> None:
    """Its worker lives on, and the log says what was raised."""
    file = started(functions, folder, tmp_path)
    functions.invoke("echo", event(**{"raise": True}))
    functions.invoke("echo", event(to=file, say="next"))
    until(lambda: said(file))
    assert "the handler raised: RuntimeError: said no" in (tmp_path / "echo.log").read_text()


def test_no_more_events_run_at_once_than_the_concurrency_allows(
    functions: Functions, folder: Path, tmp_path: Path
) -> None:
    """The rest waits, and is run in order."""
    file = started(functions, folder, tmp_path, concurrency=1)
    functions.invoke("echo", event(sleep=0.2, to=file, say="first"))
    functions.invoke("echo", event(to=file, say="second"))
    assert until(lambda: said(file) == ["first", "second"])


def test_a_worker_is_used_again(functions: Functions, folder: Path, tmp_path: Path) -> None:
    """As a warm Lambda is: it keeps what a module has set."""
    file = started(functions, folder, tmp_path)
    for _ in range(2):
        functions.invoke("echo", event(to=file, say="pid"))
    assert until(lambda: said(file) == ["pid", "pid"])
    assert len(set(file.read_text().splitlines())) == 1


def test_a_function_that_cannot_start_says_why(functions: Functions, folder: Path, tmp_path: Path) -> None:
    """A job module that fails to import is found at the start, with its error."""
    (folder / "live_broken.py").write_text("import no_such_package\n")
    function = Function(name="broken", handler="live_broken.handler", path=[folder], log=tmp_path / "log")
    functions.begin([function])
    with pytest.raises(WorkerStartFailed, match=r"live_broken.handler cannot start: .*no_such_package"):
        functions.wait()


def test_closing_leaves_no_process_behind(folder: Path, tmp_path: Path) -> None:
    """The warm parent ends, and so does a worker that is busy."""
    functions = Functions()
    file = started(functions, folder, tmp_path)
    functions.invoke("echo", event(sleep=60, to=file, say="never", mark="busy"))
    pid = until(lambda: functions.kill("echo", mark="nobody") or _busy_pid(functions))
    functions.close()
    until(lambda: not _runs(pid))


def _busy_pid(functions: Functions) -> int | None:
    [pool] = functions._pools.values()
    return next((worker.pid for worker in pool._busy), None)


def _runs(pid: int) -> bool:
    """Whether this process is still there, and not only its entry in the process table."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_the_jobs_that_relayq_comes_with_are_found() -> None:
    """In the repository they are the runner function's own."""
    assert (find_shipped_jobs() / "jobs" / "webhook.py").is_file()
