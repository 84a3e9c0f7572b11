"""Reports, on a queue that has a runner of its own."""

from relayq_core import JobContext, job


@job(queue="reports", max_attempts=5)
def build_report(context: JobContext, month: str, lines: int = 100) -> dict[str, str | int]:
    """Count to `lines`, and say how far it has come on the way."""
    for line in range(lines):
        if line % 50 == 0:
            context.progress(line / lines, f"line {line}")
    return {"month": month, "lines": lines, "attempt": context.attempt}
