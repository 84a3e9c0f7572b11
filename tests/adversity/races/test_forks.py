"""Processes: a program that has used RelayQ may fork, and no process receives another's answers."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import pytest

from relayq_core import RelayQ, Settings
from relayq_core.adapters.http_handoff import HttpHandoff
from relayq_core.adapters.redis import RedisHint
from relayq_core.process.forks import Lock
from tests.support import dynamo

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")

#: Each child asks for many jobs, and then writes some; the parent asks beside them, and a second generation too.
_SCRIPT = """
import multiprocessing, os, sys, threading
from concurrent.futures import ProcessPoolExecutor
from relayq_core import RelayQ, Settings, api, dispatch, dispatch_many, get

def ask(job_id):
    try:
        return job_id, get(job_id).id
    except BaseException as error:
        return job_id, repr(error)[:200]

def put(job_id):
    try:
        return job_id, dispatch("greet", {}, delay=3600, job_id=job_id, unique=job_id).job_id
    except BaseException as error:
        return job_id, repr(error)[:200]

def wrong(pairs):
    return [pair for pair in pairs if pair[0] != pair[1]]

def child_asks(ids):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        found = wrong([ask(job_id) for job_id in ids] + [put(f"own-{os.getpid()}-{n}") for n in range(3)])
        os.write(writing, repr(found).encode()[:4000])
        os._exit(0)
    os.close(writing)
    return pid, reading

def main(way):
    if "session" in sys.argv:
        import boto3
        api.use(RelayQ(session=boto3.Session()))
    ids = [job.job_id for job in dispatch_many([("greet", {})] * 60)]
    assert wrong([ask(job_id) for job_id in ids]) == []
    if way == "os.fork":
        children = [child_asks(ids) for _ in range(4)]
        found = wrong([ask(job_id) for job_id in ids])
        for pid, reading in children:
            os.waitpid(pid, 0)
            found += eval(os.read(reading, 5000))
    elif way == "executor":
        with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as executor:
            found = wrong(executor.map(ask, ids * 2, chunksize=1))
            found += wrong(executor.map(put, [f"own-{n}" for n in range(9)]))
    else:
        with multiprocessing.get_context(way).Pool(3) as pool:
            found = wrong(pool.map(ask, ids * 2, chunksize=1))
            found += wrong(pool.map(put, [f"own-{n}" for n in range(9)]))
    print(found)

if __name__ == "__main__":
    main(sys.argv[1])
"""


@forks
@pytest.mark.parametrize(
    ("way", "session"),
    [
        ("os.fork", []),
        ("os.fork", ["session"]),
        ("fork", []),
        ("executor", ["session"]),
        ("forkserver", []),
        ("spawn", []),
    ],
    ids=lambda given: given if isinstance(given, str) else "the caller's session" if given else "RelayQ's own",
)
def test_no_process_is_given_anothers_answer(
    way: str, session: list[str], dynamodb_local: str, tmp_path: os.PathLike[str]
) -> None:
    """DynamoDB Local keeps connections open, as DynamoDB does: two processes on one would read each other's."""
    script = os.path.join(tmp_path, "script.py")
    with open(script, "w") as file:
        file.write(_SCRIPT)
    with dynamo.clients(dynamodb_local, 1) as (client,), dynamo.tables(client) as tables:
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RELAYQ_", "AWS_"))},
            "RELAYQ_JOBS_TABLE": tables.jobs,
            "RELAYQ_FAILED_TABLE": tables.failed,
            "RELAYQ_HANDOFF": "none",
            "AWS_ENDPOINT_URL": dynamodb_local,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }
        command = [sys.executable, script, way, *session]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=100)
    assert (ran.stdout, ran.returncode) == ("[]\n", 0), ran.stderr


_SETTINGS = Settings(
    jobs_table="jobs",
    failed_table="failed",
    handoff="http",
    http_endpoint="https://example.com/_relayq/run",
    http_token=("a" * 32,),
    redis_url="redis://localhost",
    event_bus="bus",
)


def test_no_client_is_kept_alive_for_the_sake_of_a_fork() -> None:
    """A process may make any number of them."""
    relayq = RelayQ(_SETTINGS)
    kept = [weakref.ref(part) for part in (relayq, relayq.handoff, relayq.hint, relayq._publisher, relayq.http_tokens)]
    del relayq
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


def test_a_child_begins_again_with_all_that_connects() -> None:
    """Locks that another thread of the parent held are free; clients and pools are the child's own."""
    relayq = RelayQ(_SETTINGS)
    handoff, hint = relayq.handoff, relayq.hint
    assert isinstance(handoff, HttpHandoff)
    assert isinstance(hint, RedisHint)
    relayq.clients.by_service["dynamodb"] = of_parent = object()
    pool, line, tokens = handoff._connections, hint._line, relayq.http_tokens
    relayq.clients._lock.acquire()
    hint._lock.acquire()
    tokens._lock.__enter__()
    for one in (relayq, relayq.clients, handoff, hint, tokens._lock, relayq._publisher):
        one.reset_after_fork()  # type: ignore[union-attr]
    assert of_parent not in relayq.clients.by_service.values()
    assert handoff._connections is not pool
    assert hint._line is not line
    assert not relayq.clients._lock.locked()
    assert not hint._lock.locked()
    assert tokens.first() == "a" * 32
    with tokens._lock:
        pass


def test_a_lock_that_was_forked_inside_can_be_left() -> None:
    """The child leaves the block too."""
    lock = Lock()
    with lock:
        lock.reset_after_fork()
    with lock:
        pass


@forks
def test_a_child_publishes_what_happens_in_it_and_nothing_of_its_parent() -> None:
    """What the parent has kept it will publish itself; and no handler ends in the child, to publish at its end."""
    ran = subprocess.run([sys.executable, "-c", _PUBLISHING], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.stdout, ran.stderr) == ("child ['second']\nparent ['first', 'third']\n", "")


_PUBLISHING = """
import os, json, sys
from relayq_core import RelayQ, Settings
from relayq_core.jobs.context import enter_job
from relayq_core.testing import MemoryStore, RecordingHandoff, ManualClock
from tests.support.factories import a_job

class Bus:
    def __init__(self): self.put_ids = []
    def put(self, announcements):
        self.put_ids += [json.loads(one.detail_json)["id"] for one in announcements]
        return [None] * len(announcements)

clock, bus = ManualClock(), Bus()
relayq = RelayQ(Settings(jobs_table="jobs"), store=MemoryStore(clock), handoff=RecordingHandoff(), event_bus=bus,
                clock=clock)
with relayq.publishing(), enter_job(a_job()):
    relayq.dispatch("greet", job_id="first")
    pid = os.fork()
    if pid == 0:
        relayq.dispatch("greet", job_id="second")
        print("child", bus.put_ids, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    relayq.dispatch("greet", job_id="third")
print("parent", bus.put_ids)
"""
