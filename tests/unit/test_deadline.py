"""A handler is stopped when its time is up. Nothing here asserts how long anything takes."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from relayq_core import JobTimeout
from relayq_core.deadline import STUBBORN_EXIT, deadline
from relayq_core.watchdog import Watchdog

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


def test_the_alarm_signal_is_as_it_was_before() -> None:
    """A process that uses SIGALRM for itself keeps its own handler, and no timer is left running."""
    rung: list[int] = []
    earlier = signal.signal(signal.SIGALRM, lambda signum, frame: rung.append(signum))
    mine = signal.getsignal(signal.SIGALRM)
    try:
        with deadline(LONG, patience=LONG, end=never):
            assert signal.getsignal(signal.SIGALRM) is not mine
        assert signal.getsignal(signal.SIGALRM) is mine
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        with pytest.raises(JobTimeout), deadline(0.01, patience=LONG, end=never):
            time.sleep(LONG)
        assert signal.getsignal(signal.SIGALRM) is mine
        signal.raise_signal(signal.SIGALRM)
        assert rung == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, earlier)


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
    with deadline(0.01, patience=0.01, end=ended.set):
        for _ in range(2):
            try:
                assert ended.wait(LONG)
            except JobTimeout:
                continue
    assert ended.is_set()


def in_a_process(body: str) -> subprocess.CompletedProcess[str]:
    """Run this Python in a process of its own."""
    script = "import threading, time\nfrom relayq_core.deadline import deadline\n" + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG, check=False)


STUBBORN = """
def stubborn():
    with deadline(0.05, patience=0.05):
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
            with deadline(0.05, patience=0.05):
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
    dog.watch(LONG, never)
    dog.watch(0.01, ended.set)
    assert ended.wait(LONG)


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
