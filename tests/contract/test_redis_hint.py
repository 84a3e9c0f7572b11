"""The hint on a real Redis (or Valkey) server, which these tests start themselves: alive, dead, slow, and confused."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import moto
import pytest
from redis import Redis

from relayq_core import JobEvent, RelayQ, Settings, SettingsError, on
from relayq_core.adapters import redis as redis_hint
from relayq_core.adapters.dynamodb.store import DynamoStore
from relayq_core.adapters.dynamodb.tables import jobs_table
from relayq_core.adapters.redis import PATIENCE, RedisHint
from relayq_core.engine.unique_hint import REST_MS
from relayq_core.testing import Bench, ManualClock, RecordingHandoff, isolated_registry
from tests.contract.faults import recorded

KEY = "unique#hint.greet#ada"
NAME = f"relayq:{KEY}"
#: For what a loaded machine may take, where a test is not about slowness.
LONG = 10.0
WINDOW = 300
SERVER = shutil.which("redis-server") or shutil.which("valkey-server")


class Server:
    """A Redis of the test's own, on a free port of 127.0.0.1, which keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._command = [str(SERVER), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Until it accepts connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(1000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "redis-server ended at its start"
            time.sleep(0.01)
        pytest.fail("redis-server does not accept connections")

    def kill(self) -> None:
        """As a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections, and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """Another client that uses it."""
        with Redis.from_url(self.url) as client:
            yield client


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that runs."""
    if SERVER is None:
        pytest.skip("there is no redis-server: `make engines` as root installs it")
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def hint_at() -> Iterator[Callable[..., RedisHint]]:
    """Make hints that are closed at the end."""
    made: list[RedisHint] = []

    def make(url: str, *, patience: float = LONG, prefix: str = "relayq:") -> RedisHint:
        made.append(RedisHint(url, prefix, patience=patience))
        return made[-1]

    yield make
    for hint in made:
        hint.close()


@pytest.fixture
def failures() -> Iterator[list[BaseException | None]]:
    """The errors of the hint_failed events."""
    told: list[BaseException | None] = []

    with isolated_registry():

        @on("hint_failed")
        def tell(event: JobEvent) -> None:
            told.append(event.error)

        yield told


def dispatch_twice(bench: Bench) -> None:
    """The right answers, whatever becomes of Redis: one job, and its duplicate."""
    first = bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW)
    assert (first.duplicate, first.handed_off) == (False, True)
    second = bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW)
    assert (second.job_id, second.duplicate) == (first.job_id, True)
    assert set(bench.store.jobs) == {first.job_id}


# --- alive ---


def test_what_is_remembered_is_found_for_its_time(server: Server, hint_at: Callable[..., RedisHint]) -> None:
    """By its prefix and the name of the key's item, with the lifetime in milliseconds."""
    hint = hint_at(server.url)
    assert hint.holder(KEY) is None
    hint.remember(KEY, "job-1", 100_000)
    assert hint.holder(KEY) == "job-1"
    with server.client() as client:
        assert client.keys() == [NAME.encode()]
        assert 90_000 < int(client.pttl(NAME)) <= 100_000
    assert hint_at(server.url, prefix="other:").holder(KEY) is None


def test_a_first_dispatch_leaves_its_window_in_redis(server: Server, hint_at: Callable[..., RedisHint]) -> None:
    """The remaining one, and an hour where a key holds until its job is done."""
    bench = Bench(hint=hint_at(server.url))
    bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW)
    bench.relayq.dispatch("hint.greet", unique="until done")
    with server.client() as client:
        assert 0 < int(client.pttl(NAME)) <= WINDOW * 1000
        assert WINDOW * 1000 < int(client.pttl("relayq:unique#hint.greet#until done")) <= 3_600_000


def test_a_duplicate_costs_one_read_and_a_first_dispatch_nothing_more(
    server: Server, hint_at: Callable[..., RedisHint], clock: ManualClock
) -> None:
    """Counted where botocore sends its requests: a GetItem instead of a transaction."""
    settings = Settings(jobs_table="jobs", runner_function="runner")
    with moto.mock_aws():
        client = boto3.client(
            "dynamodb", region_name="eu-central-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_table(**jobs_table("jobs"))
        store = DynamoStore(lambda: client, "jobs", "", now=clock.now)

        def relayq(hint: RedisHint | None) -> RelayQ:
            made = RelayQ(settings, store=store, handoff=RecordingHandoff(), hint=hint, clock=clock)
            made.dispatch("hint.greet")  # the queue is known from here on
            return made

        def sent(relayq: RelayQ, key: str) -> list[str]:
            with recorded(client) as calls:
                relayq.dispatch("hint.greet", unique=key, unique_for=WINDOW)
            return list(calls)

        without, hinted = relayq(None), relayq(hint_at(server.url))
        assert sent(without, "bea") == ["TransactWriteItems"]
        assert sent(without, "bea") == ["TransactWriteItems"]
        assert sent(hinted, "ada") == ["TransactWriteItems"]
        assert sent(hinted, "ada") == ["GetItem"]
        # the hint did not know of this one, and does from then on
        assert sent(hinted, "bea") == ["TransactWriteItems"]
        assert sent(hinted, "bea") == ["GetItem"]
        client.close()


def test_all_calls_go_through_one_connection(server: Server, hint_at: Callable[..., RedisHint]) -> None:
    """Also from many threads at once."""
    hint = hint_at(server.url)

    def work(number: int) -> None:
        for turn in range(20):
            hint.remember(f"{KEY}{number}", f"job-{turn}", 60_000)
            assert hint.holder(f"{KEY}{number}") == f"job-{turn}"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with server.client() as client:
        assert client.info("stats")["total_connections_received"] <= 3  # this one, the hint's, and the start's probe
        assert len(client.keys("relayq:*")) == 8


def test_a_url_with_a_password_opens_what_is_locked(tmp_path: Path, hint_at: Callable[..., RedisHint]) -> None:
    """A wrong password is reported without being shown."""
    if SERVER is None:
        pytest.skip("there is no redis-server: `make engines` as root installs it")
    server = Server(tmp_path, "--requirepass", "s3cret")
    server.start()
    try:
        right, wrong = (f"redis://:{word}@127.0.0.1:{server.port}/1" for word in ("s3cret", "gue55"))
        hint = hint_at(right)
        hint.remember(KEY, "job-1", 60_000)
        assert hint.holder(KEY) == "job-1"
        with pytest.raises(Exception, match=r"(?i)password") as refused:
            hint_at(wrong).holder(KEY)
        assert "gue55" not in str(refused.value)
    finally:
        server.kill()


# --- dead, slow, confused ---


def test_a_redis_that_is_down_changes_no_answer(
    hint_at: Callable[..., RedisHint], failures: list[BaseException | None]
) -> None:
    """It is asked once, and then left alone."""
    dispatch_twice(Bench(hint=hint_at(f"redis://127.0.0.1:{free_port()}/0")))
    assert len(failures) == 1


def test_an_unknown_host_changes_no_answer(
    hint_at: Callable[..., RedisHint], failures: list[BaseException | None]
) -> None:
    """However long the look-up of its name may take."""
    dispatch_twice(Bench(hint=hint_at("redis://no-such-host.invalid:6379/0", patience=PATIENCE)))
    assert len(failures) == 1


def test_a_redis_that_is_killed_in_the_middle_changes_no_answer(
    server: Server, hint_at: Callable[..., RedisHint], failures: list[BaseException | None]
) -> None:
    """Between two dispatches; and it serves again after its rest, without what it knew."""
    bench = Bench(hint=hint_at(server.url))
    first = bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW)
    server.kill()
    assert bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW).job_id == first.job_id
    assert len(failures) == 1
    server.start()
    assert bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW).job_id == first.job_id
    with server.client() as client:
        assert client.get(NAME) is None  # it rests
        bench.clock.advance(milliseconds=REST_MS)
        assert bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW).job_id == first.job_id
        assert client.get(NAME) == first.job_id.encode()
    assert len(failures) == 1


def test_a_connection_that_was_closed_while_idle_is_no_failure(
    server: Server, hint_at: Callable[..., RedisHint], failures: list[BaseException | None]
) -> None:
    """A Lambda thaws after minutes, and its connection is gone: another is opened, and nothing rests."""
    bench = Bench(hint=hint_at(server.url))
    first = bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW)
    server.kill()
    server.start()
    assert bench.relayq.dispatch("hint.greet", unique="ada", unique_for=WINDOW).job_id == first.job_id
    assert failures == []


def test_a_redis_that_accepts_and_never_answers_changes_no_answer(
    server: Server, hint_at: Callable[..., RedisHint], failures: list[BaseException | None]
) -> None:
    """The caller leaves after 25 ms; the call that it left behind ends by its socket's timeout."""
    bench = Bench(hint=hint_at(server.url, patience=PATIENCE))
    with server.frozen():
        dispatch_twice(bench)
    assert [str(error) for error in failures] == ["no answer within 25 ms"]


@contextmanager
def talker(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Start a server that sends whatever it likes to each client; return its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def drop_by_drop(connection: socket.socket) -> None:
    """An answer that never ends, each piece of which comes before any timeout of a socket."""
    connection.recv(4096)
    for _ in range(50):
        connection.sendall(b"+")
        time.sleep(0.01)


def test_a_call_that_was_given_up_before_its_turn_is_never_made() -> None:
    """Behind a slow Redis they would pile up, and all be made once it answers, for callers that left long ago."""
    line = redis_hint._Line()
    begun, go_on = threading.Event(), threading.Event()
    made: list[str] = []

    def slow() -> None:
        begun.set()
        assert go_on.wait(LONG)

    blocker = threading.Thread(target=line.call, args=(slow, LONG))
    blocker.start()
    assert begun.wait(LONG)
    for number in range(3):
        with pytest.raises(TimeoutError, match="no answer"):
            line.call(lambda number=number: made.append(f"given up {number}"), 0.001)  # type: ignore[misc]
    go_on.set()
    blocker.join()
    line.call(lambda: made.append("the next one"), LONG)
    assert made == ["the next one"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        lambda connection: connection.sendall(b"$-7\r\n\xff\xfe\r\n" * 3),
        lambda connection: connection.sendall(b""),
        drop_by_drop,
    ],
    ids=["another protocol", "nonsense", "hangs up", "drop by drop"],
)
def test_a_server_that_is_no_redis_changes_no_answer(
    hint_at: Callable[..., RedisHint],
    failures: list[BaseException | None],
    answer: Callable[[socket.socket], None],
) -> None:
    """A wrong port in the URL must not cost a job."""
    with talker(answer) as port:
        hint = hint_at(f"redis://127.0.0.1:{port}/0", patience=PATIENCE)
        dispatch_twice(Bench(hint=hint))
        hint.close()
    assert len(failures) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client: client.lpush(NAME, "job-1"),
        lambda client: client.set(NAME, b"\xff\x00garbage"),
        lambda client: client.set(NAME, b""),
        lambda client: client.set(NAME, b"x" * 1_000_000),
        lambda client: client.set(NAME, b"another-job"),
    ],
    ids=["a list", "no text", "empty", "a megabyte", "another job"],
)
def test_whatever_stands_under_a_name_changes_no_answer(
    server: Server,
    hint_at: Callable[..., RedisHint],
    failures: list[BaseException | None],
    spoil: Callable[[Redis], Any],
) -> None:
    """It is no failure of Redis, and is written over after the commit."""
    bench = Bench(hint=hint_at(server.url))
    with server.client() as client:
        spoil(client)
        dispatch_twice(bench)
        (job_id,) = bench.store.jobs
        assert client.get(NAME) == job_id.encode()
    assert failures == []


def test_a_redis_that_refuses_to_write_changes_no_answer(
    server: Server, hint_at: Callable[..., RedisHint], failures: list[BaseException | None]
) -> None:
    """Full, or a replica: the look is answered, the note is not."""
    bench = Bench(hint=hint_at(server.url))
    with server.client() as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")
        dispatch_twice(bench)
    assert len(failures) == 1


def test_a_forked_process_has_a_connection_of_its_own(server: Server) -> None:
    """The parent's thread is not there: a server that forks its workers must not wait for it in each of them."""
    program = (
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"  # from 3.12 on, Python warns of forks beside threads
        "from relayq_core.adapters.redis import RedisHint\n"
        "hint = RedisHint(sys.argv[1], patience=10)\n"
        "hint.remember('k', 'job-1', 60_000)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if hint.holder('k') == 'job-1' else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert hint.holder('k') == 'job-1'\n"
    )
    subprocess.run([sys.executable, "-c", program, server.url], check=True, timeout=60, cwd=Path(__file__).parents[2])


# --- set up ---


def in_a_fresh_python(program: str, **environ: str) -> str:
    """What it prints, with these settings and no others."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "/usr/bin:/bin", "RELAYQ_JOBS_TABLE": "jobs", "RELAYQ_HANDOFF": "none", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FAKE_STORE = (
    "import sys\n"
    "from relayq_core import RelayQ, Settings\n"
    "class Store:\n"
    "    def register_queue(self, queue): pass\n"
    "    def add(self, record):\n"
    "        from relayq_core.ports import Added\n"
    "        return Added()\n"
    "relayq = RelayQ(store=Store())\n"
)
NOWHERE = "redis://127.0.0.1:9/0"


def test_redis_py_is_loaded_by_the_first_unique_dispatch_and_not_before() -> None:
    """It takes longer to load than all of RelayQ."""
    program = FAKE_STORE + (
        "relayq.dispatch('greet')\n"
        "print('redis' in sys.modules)\n"
        "relayq.dispatch('greet', unique='ada')\n"
        "print('redis' in sys.modules)\n"
    )
    assert in_a_fresh_python(program, RELAYQ_REDIS_URL=NOWHERE).split() == ["False", "True"]
    assert in_a_fresh_python(program).split() == ["False", "False"]


def test_without_redis_py_a_unique_dispatch_says_what_to_install() -> None:
    """Before anything is written; and every other dispatch goes on."""
    program = FAKE_STORE + (
        "sys.modules['redis'] = None\n"
        "relayq.dispatch('greet')\n"
        "try:\n"
        "    relayq.dispatch('greet', unique='ada')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    told = in_a_fresh_python(program, RELAYQ_REDIS_URL=NOWHERE)
    assert told.startswith("SettingsError RELAYQ_REDIS_URL: it is set, and redis-py is not installed")
    assert "pip install 'relayq[redis]'" in told


def test_a_url_that_redis_py_cannot_read_is_shown_without_its_password() -> None:
    """The query's options are redis-py's own."""
    hint = RedisHint("redis://:s3cret@127.0.0.1:9/0?socket_timeout=soon")
    with pytest.raises(SettingsError, match="RELAYQ_REDIS_URL: redis-py cannot read this URL") as raised:
        hint.holder(KEY)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_the_environment_alone_sets_a_hint_up() -> None:
    """There is no hint without it."""
    named = {"RELAYQ_JOBS_TABLE": "jobs", "RELAYQ_HANDOFF": "none"}
    assert RelayQ(Settings.from_environ(named)).hint is None
    settings = Settings.from_environ({**named, "RELAYQ_REDIS_URL": "rediss://:s3cret@cache.example:6380/0"})
    assert isinstance(RelayQ(settings).hint, RedisHint)
    assert "s3cret" not in repr(settings)
