"""A unique key lets one job in: for a window of time, or until that job has ended.

python examples/small/unique.py
"""

from relayq_core import dispatch, job
from relayq_core.testing import fake


@job(timeout=10)
def send_welcome(user: int) -> str:
    """Return what a real job would mail."""
    return f"Welcome, user {user}!"


def main() -> None:
    """Dispatch with a key that holds for five minutes, then with one that holds until the job has ended."""
    with fake() as relayq:
        first = dispatch(send_welcome.job(user=7), unique="welcome:7", unique_for=300)
        again = dispatch(send_welcome.job(user=7), unique="welcome:7", unique_for=300)
        print(f"within the window: duplicate={again.duplicate}, same job={again.job_id == first.job_id}")

        relayq.drain()
        print(f"the job has run: {relayq.get(first.job_id).result}")
        again = dispatch(send_welcome.job(user=7), unique="welcome:7", unique_for=300)
        print(f"it has ended, the window has not: duplicate={again.duplicate}")

        relayq.time_travel(minutes=6)
        later = dispatch(send_welcome.job(user=7), unique="welcome:7", unique_for=300)
        print(f"after the window: duplicate={later.duplicate}")

        dispatch(send_welcome.job(user=8), unique="user:8")
        again = dispatch(send_welcome.job(user=8), unique="user:8")
        print(f"without a window, before the job has ended: duplicate={again.duplicate}")
        relayq.drain()
        later = dispatch(send_welcome.job(user=8), unique="user:8")
        print(f"without a window, once it has ended: duplicate={later.duplicate}")


if __name__ == "__main__":
    main()
