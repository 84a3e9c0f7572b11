"""A job that fails is tried again after its backoff; after its last attempt it is kept as failed.

    python examples/small/retry.py

It runs on tables in memory and a clock that is set by hand, so two minutes of backoff take no time.
"""

from relayq_core import JobContext, dispatch, job
from relayq_core.testing import inline


@job(max_attempts=3, backoff=[30, 120], timeout=10)
def charge_card(context: JobContext, order: str) -> str:
    """Succeed on the third attempt, or never for order B-2."""
    if context.attempt < 3 or order == "B-2":
        raise ConnectionError("the bank does not answer")
    return f"order {order} is paid"


def main() -> None:
    """Dispatch two jobs and follow them to their ends."""
    with inline() as relayq:
        jobs = [dispatch(charge_card.job(order=order)).job_id for order in ("A-1", "B-2")]
        for minutes in (0, 2, 3):
            relayq.time_travel(minutes=minutes)
            print(f"after {minutes} more minutes:")
            for record in map(relayq.get, jobs):
                order, end = record.payload["order"], record.result or str(record.error).partition("\n")[0]
                print(f"  {order} is {record.status}, attempt {record.attempt}: {end}")


if __name__ == "__main__":
    main()
