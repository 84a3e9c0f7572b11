"""What a run came by, counted: a run in which nothing went wrong would prove nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from relayq_core import Status
from tests.adversity.chaos.history import History

#: What every run of some length must have met.
MUST_HAPPEN = (
    "killed in their handler",
    "killed anywhere",
    "died of their own accord",
    "stopped past their lease",
    "stopped at their settle",
    "timed out",
    "handoffs dropped",
    "handoffs doubled",
    "answers lost",
    "sweepers started beside the schedule",
    "leases ended by a sweeper",
    "saved by the sweeper",
    "late settles refused",
    "duplicates turned away",
    "dispatches whose answer nobody got",
)


def figures(history: History) -> dict[str, int | str]:
    """The run in numbers."""
    acts = Counter(act.what for act in history.acts)
    faults = Counter(fault.name for fault in history.faults)
    ends = Counter(row.status for row in [*history.tables.jobs.values(), *history.tables.failed.values()])
    starts = [start for starts in history.starts.values() for start in starts]
    how = Counter(start.ended.how for start in starts if start.ended)
    deaths = Counter(start.last.how for start in starts if start.last.kind == "dies")
    stubborn = sum(any(line.how == "ignored its timeout" for line in start.lines) for start in starts)
    handoffs = Counter(ack.handoff for ack in history.acks)
    return {
        "jobs accepted": len(history.accepted),
        "duplicates turned away": sum(ack.answer.duplicate for ack in history.acks if ack.answer),
        "dispatches whose answer nobody got": sum(ack.unknown_id is not None for ack in history.acks),
        "completed": ends[Status.COMPLETED],
        "failed": ends[Status.FAILED],
        "cancelled": ends[Status.CANCELLED],
        "starts of handlers": len(starts),
        "starts per attempt": _listed(Counter(start.first.attempt for start in starts)),
        "calls of failed()": sum(len(lines) for lines in history.told_failed.values()),
        "killed in their handler": acts["kill a handler"],
        "killed anywhere": acts["kill any runner"],
        "sweepers killed": acts["kill a sweeper"],
        "died of their own accord": deaths.total() - deaths["ignored its timeout"],
        "timed out": how["JobTimeout"] + stubborn,
        "ended for ignoring their timeout": stubborn,
        "stopped past their lease": acts["stop a handler past its lease"],
        "stopped at their settle": acts["stop a runner at its settle"],
        "stopped for a moment": acts["stop a handler for a moment"],
        "let go after another had begun": acts["let go after its job went on"],
        "overlaps with a stopped handler": sum(1 for _ in history.overlaps()),
        "late settles refused": history.leases_lost,
        "handoffs dropped": faults["dropped"] + handoffs["dropped"] + handoffs["refused"],
        "handoffs doubled": faults["doubled"] + handoffs["doubled"],
        "handoffs late": faults["late"],
        "answers lost": faults["answer lost"] + faults["broken after"] + faults["answers cut"],
        "requests lost, refused or held up": sum(
            faults[name] for name in ("not sent", "requests cut", "throttled", "conflict", "broken", "held up")
        ),
        "sweeps": history.sweeps,
        "sweepers started beside the schedule": acts["start a sweeper"] + 2 * acts["start two sweepers"],
        "handed off again by a sweeper": history.swept["nudged"],
        "leases ended by a sweeper": history.swept["released"] + history.swept["buried"] + history.swept["cancelled"],
        "saved by the sweeper": len(saved(history)),
        "seconds of chaos": round(history.calm_from - history.began.mono),
        "seconds of calm": round(history.ended - history.calm_from),
    }


def saved(history: History) -> set[str]:
    """Jobs that only a sweeper could bring to their end: it ended a lease of theirs, or their handoff was lost."""
    unheard = {
        ack.unknown_id or (ack.answer.job_id if ack.answer else "")
        for ack in history.acks
        if ack.unknown_id is not None or ack.handoff in {"dropped", "refused"}
    }
    return history.crashed | (unheard & history.starts.keys())


def missing(found: Mapping[str, int | str]) -> list[str]:
    """What did not happen, and should have."""
    return [name for name in MUST_HAPPEN if not found[name]]


def told(history: History) -> list[str]:
    """The figures, line by line, and which fault met which call."""
    lines = [f"seed {history.seed}, {history.asked_jobs} jobs ({history.again})"]
    lines += [f"  {name:40} {value:>8}" for name, value in figures(history).items()]
    lines.append("  faults on the wire:")
    found = Counter((fault.call.operation, fault.name) for fault in history.faults)
    lines += [f"    {operation:20} {name:38} {count:>6}" for (operation, name), count in sorted(found.items())]
    return lines


def _listed(counts: Mapping[int, int]) -> str:
    return ", ".join(f"{attempt}: {count}" for attempt, count in sorted(counts.items()))
