"""A handler is stopped when its time is up. Nothing here asserts how long anything takes."""

import asyncio
import math
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from relayq_core import JobTimeout
from relayq_core.process.deadline import STUBBORN_EXIT, OuterAlarm, deadline
from relayq_core.process.fuse import OVERRUN_SIGNAL
from relayq_core.process.watchdog import Watchdog

#: Far more than any of these tests takes: if it comes to that, the deadline did not work.
LONG = 100


def never() -> None:
    """What the watchdog does in tests that must not come so far."""
    raise AssertionError("the watchdog was not called off")


def spin(times: int) -> None:
    """Compute something."""
    for _ in range(times):
        pass


def in_another_thread(body: Callable[[], None]) -> BaseException | None:
    """What the body raised there."""
    raised: list[BaseException | None] = [None]

    def run() -> None:
        try:
            body()
        except BaseException as error:
            raised[0] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0]


def test_a_blocking_call_in_the_main_thread_is_interrupted() -> None:
    """Lambda runs handlers in the main thread, and most of them wait for a socket."""
    with pytest.raises(JobTimeout) as raised, deadline(0.05, patience=LONG, end=never):
        time.sleep(LONG)
    assert raised.value.seconds == 0.05
    assert str(raised.value) == "the handler was stopped after 0.05 s, the time it had"


def test_a_computation_in_the_main_thread_is_interrupted() -> None:
    """A handler in an endless loop."""
    with pytest.raises(JobTimeout), deadline(0.05, patience=LONG, end=never):
        spin(10**12)


def test_an_async_handler_is_interrupted() -> None:
    """Whatever the loop is doing at that moment."""
    with pytest.raises(JobTimeout), deadline(0.05, patience=LONG, end=never):
        asyncio.run(asyncio.sleep(LONG))


def test_a_computation_in_another_thread_is_interrupted_with_the_same_error() -> None:
    """`relayq work` runs handlers in threads, where there are no signals."""

    def body() -> None:
        with deadline(0.05, patience=LONG, end=never):
            spin(10**12)

    raised = in_another_thread(body)
    assert type(raised) is JobTimeout
    assert raised.seconds == 0.05


def test_a_handler_that_returns_in_time_is_let_be() -> None:
    """Nothing rings afterwards, in this handler's successor."""
    with deadline(0.05, patience=0.05, end=never):
        pass
    time.sleep(0.2)


def on_the_brink() -> set[tuple[type[BaseException] | None, float | None]]:
    """How handlers end that return at the very moment their time is up: some do, some do not."""
    ends: set[tuple[type[BaseException] | None, float | None]] = {(None, None)}
    for n in range(400):
        try:
            with deadline(0.002, patience=LONG, end=never):
                spin(n * 200)
        except JobTimeout as error:
            ends.add((type(error), error.seconds))
    return ends


def test_an_alarm_at_the_last_moment_leaves_nothing_undone() -> None:
    """It may ring between the handler's last line and the deadline's end: a rare failure is a failure."""
    with no_alarm_set():
        before = signal.getsignal(signal.SIGALRM)
        assert on_the_brink() <= {(None, None), (JobTimeout, 0.002)}
        assert signal.getsignal(signal.SIGALRM) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_alarm_at_the_last_moment_does_not_hit_what_comes_next_in_a_thread() -> None:
    """There, it is raised between two bytecodes, some time after it was rung."""

    def body() -> None:
        assert on_the_brink() <= {(None, None), (JobTimeout, 0.002)}
        spin(100_000)

    assert in_another_thread(body) is None


def test_what_the_handler_raises_itself_passes_through() -> None:
    """Only the deadline's own error is the deadline's."""
    with pytest.raises(ValueError, match="mine"), deadline(LONG, patience=LONG, end=never):
        raise ValueError("mine")


@contextmanager
def no_alarm_set() -> Iterator[None]:
    """Inside there is no timer of pytest's; afterwards it goes on."""
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.getsignal(signal.SIGALRM)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left, interval)


@contextmanager
def an_alarm_of_ones_own(seconds: float, ring: Callable[[], object], interval: float = 0) -> Iterator[None]:
    """What pytest-timeout does, or an application around its jobs."""
    with no_alarm_set():
        signal.signal(signal.SIGALRM, lambda signum, frame: ring())
        signal.setitimer(signal.ITIMER_REAL, seconds, interval)
        yield


def test_an_alarm_that_was_set_before_has_its_rest_and_its_handler_back() -> None:
    """A test that hangs after a job must still be stopped by pytest-timeout."""
    with an_alarm_of_ones_own(LONG, never):
        mine = signal.getsignal(signal.SIGALRM)
        with deadline(LONG + 1, patience=LONG, end=never):
            assert signal.getsignal(signal.SIGALRM) is not mine
        assert signal.getsignal(signal.SIGALRM) is mine
        with pytest.raises(JobTimeout), deadline(0.01, patience=LONG, end=never):
            time.sleep(LONG)
        assert signal.getsignal(signal.SIGALRM) is mine
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left < LONG
        assert interval == 0


def test_an_alarm_that_was_set_before_rings_in_the_handler_when_its_time_comes_first() -> None:
    """It rings again, if it repeats; the handler's own time is up all the same."""
    rung: list[None] = []
    with an_alarm_of_ones_own(0.01, lambda: rung.append(None), interval=0.01):
        with pytest.raises(JobTimeout), deadline(0.2, patience=LONG, end=never):
            time.sleep(LONG)
        assert len(rung) > 1
        rings = len(rung)
        while len(rung) == rings:
            time.sleep(0.01)


def test_what_an_alarm_that_was_set_before_raises_is_not_taken_for_the_handlers() -> None:
    """pytest-timeout fails the test with it, and not the job."""

    def hang() -> None:
        raise TimeoutError("the test hangs")

    with an_alarm_of_ones_own(0.01, hang):
        with pytest.raises(OuterAlarm) as raised, deadline(LONG, patience=LONG, end=never):
            time.sleep(LONG)
        assert str(raised.value.error) == "the test hangs"


def test_an_alarm_that_became_due_at_the_last_moment_still_rings() -> None:
    """Its time may come between the handler's last line and the deadline's end."""
    for n in range(100):
        rung: list[None] = []
        with an_alarm_of_ones_own(0.002, lambda rung=rung: rung.append(None)):  # type: ignore[misc]
            with deadline(LONG, patience=LONG, end=never):
                spin(n * 800)
            while not rung:
                time.sleep(0.001)
        assert len(rung) == 1


def test_a_timeout_that_was_rung_in_a_thread_and_not_raised_yet_is_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be raised in what comes next: the settle of a handler that has returned."""
    pending: list[type[BaseException] | None] = []
    rung = threading.Event()

    def set_async(thread_id: int, error: type[BaseException] | None) -> None:
        pending.append(error)
        rung.set()

    monkeypatch.setattr("relayq_core.process.deadline._raise_in", set_async)

    def body() -> None:
        with deadline(0.01, patience=LONG, end=never):
            assert rung.wait(LONG)

    assert in_another_thread(body) is None
    first, last = pending
    assert first is not None
    assert issubclass(first, JobTimeout)
    assert last is None


def test_all_handlers_have_one_watchdog() -> None:
    """A thread for each would cost a tenth of the job."""
    with deadline(LONG, patience=LONG, end=never):
        with_the_first = set(threading.enumerate())
    for _ in range(3):
        with deadline(LONG, patience=LONG, end=never):
            assert set(threading.enumerate()) == with_the_first


def test_a_handler_without_any_time_left_is_stopped_at_once() -> None:
    """0 would switch the timer off instead of ringing it."""
    with pytest.raises(JobTimeout), deadline(0, patience=LONG, end=never):
        time.sleep(LONG)


def test_one_that_swallows_its_timeout_is_ended() -> None:
    """`except Exception` is common; after its patience the watchdog acts."""
    ended = threading.Event()
    with deadline(0.01, patience=0.01, spare=LONG, end=ended.set):
        for _ in range(2):
            try:
                assert ended.wait(LONG)
            except JobTimeout:
                continue
    assert ended.is_set()


def test_last_words_come_before_the_end() -> None:
    """They are what is written down about why the process ended; one that fails holds nothing up."""
    order: list[str] = []
    ended = threading.Event()

    def last_words() -> None:
        order.append("last words")
        raise OSError("no table")

    def end() -> None:
        order.append("end")
        ended.set()

    with suppress(JobTimeout), deadline(0.01, patience=0.01, spare=LONG, last_words=last_words, end=end):
        while not ended.is_set():
            with suppress(JobTimeout):
                ended.wait(LONG)
    assert order == ["last words", "end"]


def in_a_process(body: str) -> subprocess.CompletedProcess[str]:
    """Run this Python in a process of its own."""
    script = "import threading, time\nfrom relayq_core.process.deadline import deadline\n" + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG, check=False)


STUBBORN = """
def stubborn():
    with deadline(0.05, patience=0.05, spare=100):
        until = time.monotonic() + 100
        while time.monotonic() < until:
            try:
                time.sleep(0.01)
            except BaseException:
                print("not me", flush=True)
"""


def test_a_process_whose_handler_will_not_stop_ends() -> None:
    """It would outlive its lease, and work beside the job's next runner."""
    done = in_a_process(STUBBORN + "stubborn()\nprint('survived')")
    assert done.returncode == STUBBORN_EXIT
    assert done.stdout == "not me\n"
    assert done.stderr == "relayq: the handler ignored its timeout; its process ends now\n"


def test_a_process_whose_handler_will_not_stop_in_a_thread_ends_too() -> None:
    """There, a blocking call cannot even be interrupted."""
    done = in_a_process(STUBBORN + "thread = threading.Thread(target=stubborn)\nthread.start()\nthread.join()")
    assert done.returncode == STUBBORN_EXIT
    assert done.stdout == "not me\n"


def test_a_handler_that_blocks_in_a_thread_is_ended_with_its_process() -> None:
    """Python cannot raise in a thread that is inside a system call: there the watchdog is all there is."""
    done = in_a_process(
        """
        def blocked():
            with deadline(0.05, patience=0.05, spare=100):
                time.sleep(100)
        thread = threading.Thread(target=blocked)
        thread.start()
        thread.join()
        """
    )
    assert done.returncode == STUBBORN_EXIT


def test_a_watchdog_that_wakes_late_ends_only_what_is_over_its_own_time() -> None:
    """A frozen Lambda thaws its threads in the next invocation, where they must not end the wrong handler."""
    done = in_a_process(
        """
        import os, signal, subprocess, sys
        with deadline(0.2, patience=0):
            pass
        # frozen, as between two invocations, until long after the first handler's time
        subprocess.Popen([sys.executable, "-c",
            "import os, signal, time; time.sleep(0.5); os.kill(%d, signal.SIGCONT)" % os.getpid()])
        os.kill(os.getpid(), signal.SIGSTOP)
        with deadline(100, patience=100):
            time.sleep(0.1)
        print("survived")
        """
    )
    assert (done.stdout, done.returncode) == ("survived\n", 0), done.stderr


def test_a_shorter_watch_is_not_kept_waiting_by_a_longer_one() -> None:
    """Two handlers in two threads, each with its own time."""
    ended = threading.Event()
    dog = Watchdog()
    longer = dog.watch(LONG, never)
    dog.watch(0.01, ended.set)
    assert ended.wait(LONG)
    dog.release(longer)


def test_an_end_that_fails_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    """The next handler is watched all the same."""
    ended = threading.Event()
    dog = Watchdog()
    dog.watch(0, never)
    dog.watch(0.01, ended.set)
    assert ended.wait(LONG)
    assert "the watchdog could not end" in caplog.text


def test_a_child_process_gets_a_watchdog_of_its_own() -> None:
    """A fork copies no threads."""
    done = in_a_process(
        STUBBORN
        + """
import os
with deadline(100, patience=100):
    pass
child = os.fork()
if child == 0:
    stubborn()
    os._exit(0)
print("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )
    assert f"child ended with {STUBBORN_EXIT}" in done.stdout


# --- C code that holds Python's lock ---

#: Handlers in which no other thread of Python's gets to run.
HOLDING = {
    "it computes": "sum(range(10**12))",
    "it has no end": "all(itertools.repeat(True))",
}


@pytest.mark.parametrize("body", HOLDING.values(), ids=HOLDING)
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_handler_that_holds_pythons_lock_ends_with_its_process(body: str, where: str) -> None:
    """Before it gives the lock back, long after its lease, neither JobTimeout nor the watchdog can run."""
    done = in_a_process(
        f"""
        import itertools
        def handler():
            with deadline(0.1, patience=0.2, spare=3):
                {body}
        if {where == "main"}:
            handler()
        else:
            thread = threading.Thread(target=handler)
            thread.start()
            thread.join()
        print("survived")
        """
    )
    assert done.stdout == ""
    assert done.returncode == -OVERRUN_SIGNAL
    assert "relayq: the handler overran its time and did not stop; its process ends now" in done.stderr
    assert "in handler" in done.stderr, "it says where the handler was"


@pytest.mark.parametrize("body", ["sum(range(10**12))", "stubborn()"], ids=["holds the lock", "swallows its timeout"])
def test_a_stderr_that_is_blocked_holds_no_end_up(body: str) -> None:
    """A terminal that was stopped, a log collector that has hung: a process that waits for it to read would run on."""
    script = f"""
import os, sys
reads, writes = os.pipe()
os.set_blocking(writes, False)
try:
    while True:
        os.write(writes, b"x" * 64)
except BlockingIOError:
    os.set_blocking(writes, True)
os.dup2(writes, 2)
{STUBBORN}
with deadline(0.1, patience=0.2, spare=0.3):
    {body}
print("survived")
"""
    done = in_a_process(script)
    assert done.returncode == -signal.SIGKILL
    assert "survived" not in done.stdout


def test_a_handler_that_blocks_every_signal_ends_too() -> None:
    """One of them cannot be blocked."""
    done = in_a_process(
        """
        import signal
        with deadline(0.1, patience=0.2):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            sum(range(10**12))
        """
    )
    assert done.returncode in (-signal.SIGKILL, -OVERRUN_SIGNAL)


def test_a_child_process_has_a_fuse_of_its_own() -> None:
    """A fork copies no timers, and its parent's do not end the child."""
    done = in_a_process(
        """
        import os
        with deadline(100, patience=100):
            child = os.fork()
            if child == 0:
                with deadline(0.1, patience=0.2, spare=3):
                    sum(range(10**12))
                os._exit(0)
            print("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert done.stdout == f"child ended with {-OVERRUN_SIGNAL}\n"
    assert done.returncode == 0


def test_where_the_kernel_has_no_such_timers_faulthandler_ends_the_process() -> None:
    """macOS, where `relayq dev` and `relayq work` run too."""
    done = in_a_process(
        """
        from relayq_core.process import deadline as module
        from relayq_core.process import fuse
        from relayq_core.process.watchdog import Watchdog
        module._watchdog = Watchdog(fuse._FaulthandlerFuse)
        with deadline(0.1, patience=0.2):
            pass
        time.sleep(0.5)
        print("the first is put out", flush=True)
        with deadline(0.1, patience=0.2):
            sum(range(10**12))
        print("survived")
        """
    )
    assert (done.stdout, done.returncode) == ("the first is put out\n", 1)
    assert "relayq: the handler overran its time" in done.stderr


class RecordingFuse:
    """Remembers when it would burn."""

    def __init__(self) -> None:
        self.lit: list[float] = []

    def arm(self, at: float, last: float) -> None:
        """Keep the moment."""
        self.lit.append(last)


def test_the_fuse_burns_for_whatever_is_over_first_and_is_out_when_nothing_is_watched() -> None:
    """A process that is frozen between two jobs must not find it burning when it thaws."""
    fuse = RecordingFuse()
    dog = Watchdog(lambda: fuse)
    long = dog.watch(LONG, never, spare=1)
    short = dog.watch(LONG / 2, never, spare=1)
    dog.release(short)
    dog.release(long)
    first, second, third, last = fuse.lit
    assert second < first == third
    assert last == math.inf


def test_a_job_costs_two_settings_of_the_fuse() -> None:
    """Each is a system call or two; a thread for each job would take a tenth of it."""
    fuse = RecordingFuse()
    dog = Watchdog(lambda: fuse)
    for _ in range(3):
        dog.release(dog.watch(LONG, never, spare=1))
    assert len(fuse.lit) == 6
