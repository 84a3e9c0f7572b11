"""A long job reports how far it is, and a second attempt goes on where the first one stopped.

python examples/small/progress.py
"""

from relayq_core import JobContext, dispatch, job
from relayq_core.testing import inline

#: What the job has done. A real job keeps this where all runners see it: a table, a bucket.
imported: list[int] = []


@job(max_attempts=2, backoff=5, timeout=60)
def import_rows(context: JobContext, rows: int) -> str:
    """Import the rows that are not there yet, and fail once in the middle."""
    for row in range(len(imported), rows):
        if row == 60 and context.attempt == 1:
            raise TimeoutError("the database went away")
        imported.append(row)
        if len(imported) % 50 == 0:
            context.progress(len(imported) / rows, f"{len(imported)} of {rows} rows")
    return f"{len(imported)} rows imported"


def main() -> None:
    """Let the first attempt fail, look at its progress, and let the second one finish."""
    with inline() as relayq:
        job_id = dispatch(import_rows.job(rows=100)).job_id
        record = relayq.get(job_id)
        print(f"{record.status} after attempt {record.attempt}: {record.progress}")
        relayq.time_travel(minutes=1)
        record = relayq.get(job_id)
        print(f"{record.status} after attempt {record.attempt}: {record.result}")


if __name__ == "__main__":
    main()
