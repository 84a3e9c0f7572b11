"""Print what happens under `relayq dev`, line by line: handoffs, ends of jobs, and what their code logs and prints."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relayq_core.cli.output import STATUS_STYLES, is_fancy, print_json, say

if TYPE_CHECKING:
    from relayq_core.client import RelayQ
    from relayq_core.local.journal import Entry, Journal

#: The fields in which a function's log line names its job.
_TOLD = ("job_id", "job_name", "queue", "attempt")
#: How many characters of a result are shown.
_RESULT_CHARACTERS = 80
#: A line's text begins in this column, after its time and its kind; with less than _LEAST_ROOM left it is not folded.
_INDENT = 22
_LEAST_ROOM = 30


class DevReporter:
    """Reports what is new in a journal. `handed`: the ids of the jobs that were handed off, and when each may start."""

    def __init__(self, relayq: RelayQ, journal: Journal, handed: deque[tuple[str, int]], *, as_json: bool) -> None:
        self._relayq = relayq
        self._journal = journal
        self._handed = handed
        self._as_json = as_json
        self.counts: Counter[str] = Counter()

    def report(self) -> None:
        """Print what happened since the last call."""
        entries = [*self._journal.read_new()]  # read before `handed`: every job in it has been handed off by then
        self._report_handoffs(_collect_names(entries))
        for entry in entries:
            self._report_entry(entry)

    def _report_handoffs(self, known: Mapping[str, str]) -> None:
        """Print the handoffs since the last call. `known`: names by job id, for jobs that are gone from the table."""
        handed = [self._handed.popleft() for _ in range(len(self._handed))]
        names = self._look_up_names(job_id for job_id, _ in handed if job_id not in known) | dict(known)
        for job_id, run_at in handed:
            wait = max(0, run_at - self._relayq.clock.now())
            when = f"  to start in {wait / 1000:.0f} s" if wait >= 1000 else ""
            fields = {"job_id": job_id, "job_name": names.get(job_id), "run_at": run_at}
            self.say("handed off", fields, f"{names.get(job_id, '')}  {job_id}{when}".strip(), style="dim")

    def _look_up_names(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Return the names of these jobs by id, for those that are still in the table."""
        return {job.id: job.name for job in self._relayq.store.get_many(job_ids)}

    def _report_entry(self, entry: Entry) -> None:
        what, _, more = entry.message.partition(": ")
        if entry.level == "":
            self.say("printed", {"text": entry.message}, entry.message, style="dim")
        elif what in {"job completed", "job cancelled"}:
            what = what.removeprefix("job ")
            self.counts[what] += 1
            self._report_job(what, entry, self._find_result(entry), STATUS_STYLES.get(what, ""))
        elif what == "job failed":
            will_retry = "tried again" in more
            self.counts["retried" if will_retry else "failed"] += 1
            self._report_job("retrying" if will_retry else "failed", entry, more, "yellow" if will_retry else "red")
        elif entry.level != "DEBUG":
            self._report_job(entry.level.lower(), entry, entry.message, "" if entry.level == "INFO" else "yellow")

    def _report_job(self, what: str, entry: Entry, more: str, style: str) -> None:
        fields = _collect_job_fields(entry)
        if entry.job_id is not None and "job_name" not in fields:
            fields["job_name"] = self._look_up_names([entry.job_id]).get(entry.job_id, entry.function)
        duration = entry.fields.get("duration_ms")
        fields |= {"message": entry.message} | ({} if duration is None else {"duration_ms": duration})
        name = fields.get("job_name", entry.function)
        # a handler may log a field of this name with any value
        seconds = f"  {duration / 1000:.2f} s" if isinstance(duration, int | float) else ""
        self.say(
            what, fields, f"{name}  {fields.get('job_id', '')}{seconds}  {_shorten_paths(more)}".rstrip(), style=style
        )

    def _find_result(self, entry: Entry) -> str:
        job = None if entry.job_id is None else self._relayq.get(entry.job_id)
        if job is None or job.result is None:
            return ""
        text = json.dumps(job.result, ensure_ascii=False)
        return text if len(text) <= _RESULT_CHARACTERS else text[:_RESULT_CHARACTERS] + "…"

    def say(self, what: str, fields: dict[str, Any], text: str, *, style: str = "") -> None:
        """Print one line, or for programs an object with these fields."""
        if self._as_json:
            print_json({"event": what, **fields}, line=True)
        else:
            say(f"{time.strftime('%H:%M:%S')}  {what:<10}  {_fold(text)}", style=style)
            sys.stdout.flush()


def _shorten_paths(text: str) -> str:
    """Make the paths in a text relative to the current folder."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")


def _fold(text: str) -> str:
    """Fold a text between words to the terminal's width, indented below its beginning; a pipe gets one line."""
    room = shutil.get_terminal_size().columns - _INDENT
    if not is_fancy(sys.stdout) or room < _LEAST_ROOM:
        return text
    lines = [
        piece
        for line in text.splitlines()
        for piece in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return ("\n" + " " * _INDENT).join(lines)


def _collect_names(entries: Iterable[Entry]) -> dict[str, str]:
    """Return the names that the lines give to jobs, by id."""
    return {
        entry.job_id: str(entry.fields["job_name"])
        for entry in entries
        if entry.job_id is not None and "job_name" in entry.fields
    }


def _collect_job_fields(entry: Entry) -> dict[str, Any]:
    """Return the fields in which a line names its job."""
    return {str(name): value for name, value in entry.fields.items() if name in _TOLD}
