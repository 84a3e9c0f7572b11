"""The laws: what holds in every schedule, whatever goes wrong. Each has its number and its sentence here alone.

The checker's functions judge them (`hold(number, …)`), the mutants must break them, the README's promises and
docs/explanation/reliability.md name them. The numbers are also those of tests/adversity/chaos.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parent
_JUDGES = ("checker.py", "rows.py", "handlers.py", "keys.py", "answers.py", "pace.py")


class Law(NamedTuple):
    """What holds; and for a law that no promise of the README names, what it is needed for."""

    says: str
    internal: str | None = None


LAWS: dict[int, Law] = {
    1: Law("No accepted job is lost: its row is in one of the tables until it expires or an operator forgets it."),
    2: Law(
        "A job changes along the drawing in lifecycle.py only; one that has ended changes no more, unless it is "
        "redriven; it is in one table, never in both.",
        internal="without it laws 1 and 5 could not be judged",
    ),
    3: Law(
        "A claim counts one attempt, a snooze or a return gives it back, nothing else changes the count, and no "
        "handler starts beyond its job's `max_attempts`."
    ),
    4: Law(
        "A lease is taken only where none is held, and ended only by its holder or after it ran out; whatever a "
        "handler, `failed()` or a listener does, two handlers of one job never run at once, unless a process was "
        "frozen from outside."
    ),
    5: Law("Only the holder of the lease settles a job."),
    6: Law("No handler starts after its job's success was written."),
    7: Law("One unique key lets one job in, per window or until that job has ended."),
    8: Law(
        "A dispatch never takes its own write for a duplicate, and a duplicate is answered with the id of a job "
        "that had the key."
    ),
    9: Law("A unique key without a window is free as soon as its job has ended."),
    10: Law(
        "Burying is one step: the row leaves the jobs table as it enters the failed table, its error bounded in size."
    ),
    11: Law(
        "A cancel that was acknowledged holds: no handler starts after it, and a job that is to be cancelled is "
        "neither tried again nor buried. A success still counts."
    ),
    12: Law(
        "A row is in the index while its job lives, and expires only once it has ended.",
        internal="the sweeper finds what is in the index, and DynamoDB deletes what expires",
    ),
    13: Law(
        "No handler starts before its job's time, by the runner's clock; a job that was dispatched without a delay "
        "has no time to wait for."
    ),
    14: Law("Once faults cease every accepted job ends, so each is started that was not cancelled before."),
    15: Law("`get()` finds every accepted job, until it expires or is forgotten."),
    16: Law(
        "No payload reaches an error.",
        internal="errors are logged and shown to people who may not see payloads",
    ),
    17: Law(
        "`failed()` is called before a job is buried, where the job can be built; only then, and again only if its "
        "runner died or lost its lease in it."
    ),
    18: Law("A failed job has its payload, its options, its error and the last five errors, each in its place."),
    19: Law("The result of a completed job is what the handler of the settling attempt returned."),
    20: Law(
        "A job fails only after `max_attempts` attempts, by the row, else its type, else the settings; or by `Bury`, "
        "or when its name has been unknown for 15 minutes."
    ),
    21: Law(
        "A job waits as long as it was asked to: a delay, a backoff, `RetryAfter`, `Snooze`, and nothing else moves "
        "its time."
    ),
    22: Law("Progress that was acknowledged stays until the next attempt reports its own."),
    23: Law("What listeners hear has been written: no event says completed, failed or cancelled of a job that is not."),
    24: Law(
        "A sweep visits every queue and shard before it returns to one that has more.",
        internal="else the backlog of one queue would keep the others waiting, and break law 25",
    ),
    25: Law(
        "A job is claimed within 2 seconds of its time where nothing goes wrong, however far its caller's clock is "
        "ahead if it has no delay; within STALE, a tick and a nudge where only its handoff is lost, and always within "
        "15 minutes, a tick and the index's lag."
    ),
    26: Law("A job writes as much as docs/units.json says, and reads nothing, where nothing goes wrong."),
}


#: Who and what is on the stage, beyond jobs that are dispatched, run and swept.
PARTS = (
    "callers that dispatch again what they could not be sure of, by type and by name, one job or several at once",
    "runners, as many as are asked for or fewer than that, some with a slow start behind them",
    "sweepers, doubled, missed and overlapping",
    "workers with their processes, heartbeats and farewells",
    "two queues, of 1, 2 or 8 shards",
    "job types with a timeout, without one, and with attempts and a backoff of their own",
    "handlers that fail, wait, snooze, bury, die, overrun, report progress and dispatch",
    "`failed()` that takes too long, raises, or dies",
    "listeners that take up to 30 seconds",
    "observers that ask for jobs at any moment",
    "operators that cancel, redrive and forget",
    "deploys of runners that do not know a job's name",
    "rows that cannot be read for a while",
    "TTL, which deletes what has expired",
    "clocks that differ by up to 5 seconds, and are set while their actors run",
    "settings: retention, grace, STALE, MAX_WAIT, backoff, no handoffs at all",
)


def as_table() -> str:
    """The laws as docs/explanation/reliability.md shows them."""
    judges = judged_by()
    lines = ["| | What holds | Judged by |", "|---|---|---|"]
    for number, law in LAWS.items():
        reason = "" if law.internal is None else f" (Internal: {law.internal}.)"
        functions = ", ".join(f"`{name}`" for name in judges[number])
        lines.append(f"| {number} | {law.says}{reason} | {functions} |")
    return "\n".join(lines)


def as_list() -> str:
    """The parts that are played, as the page shows them."""
    return "\n".join(f"- {part}" for part in PARTS)


def judged_by() -> dict[int, list[str]]:
    """The functions that judge each law, as the source has them."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for name in _JUDGES:
        for function in ast.walk(ast.parse((_HERE / name).read_text())):
            if isinstance(function, ast.FunctionDef):
                for number in sorted(_numbers(function)):
                    found[number].append(function.name)
    return dict(found)


def _numbers(function: ast.FunctionDef) -> set[int]:
    """The laws that a function holds."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute | ast.Name)
        and (call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id) in {"hold", "_hold"}
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, int)
    }
