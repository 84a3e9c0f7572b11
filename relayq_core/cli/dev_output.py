"""What happens under `relayq dev`, line by line: handoffs, ends of jobs, and what their code logs and prints."""

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

#: What a line of the functions' tells of its job.
_TOLD = ("job_id", "job_name", "queue", "attempt")
#: Looking a result up shows so much of it.
_RESULT_CHARACTERS = 80
#: What a line says begins here, after its time and its kind; where that leaves too little room, it is not folded.
_INDENT = 22
_LEAST_ROOM = 30


class Teller:
    """Tells what is new in a journal. `handed`: ids of the jobs that a runner was told of, and when each may start."""

    def __init__(self, relayq: RelayQ, journal: Journal, handed: deque[tuple[str, int]], *, as_json: bool) -> None:
        self._relayq = relayq
        self._journal = journal
        self._handed = handed
        self._as_json = as_json
        self.counts: Counter[str] = Counter()

    def tell(self) -> None:
        """What happened since the last time."""
        entries = [*self._journal.new()]  # read first: whatever is in it was handed off before
        self._tell_handed(_names_in(entries))
        for entry in entries:
            self._tell(entry)

    def _tell_handed(self, known: Mapping[str, str]) -> None:
        """A runner was told of jobs; it may be to wait. `known`: names of some, which may be gone from the table."""
        handed = [self._handed.popleft() for _ in range(len(self._handed))]
        names = self._names(job_id for job_id, _ in handed if job_id not in known) | dict(known)
        for job_id, run_at in handed:
            wait = max(0, run_at - self._relayq.clock.now())
            when = f"  to start in {wait / 1000:.0f} s" if wait >= 1000 else ""
            fields = {"job_id": job_id, "job_name": names.get(job_id), "run_at": run_at}
            self.say("handed off", fields, f"{names.get(job_id, '')}  {job_id}{when}".strip(), style="dim")

    def _names(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Of those that are still there."""
        return {job.id: job.name for job in self._relayq.store.get_many(job_ids)}

    def _tell(self, entry: Entry) -> None:
        what, _, more = entry.message.partition(": ")
        if entry.level == "":
            self.say("printed", {"text": entry.message}, entry.message, style="dim")
        elif what in {"job completed", "job cancelled"}:
            what = what.removeprefix("job ")
            self.counts[what] += 1
            self._about(what, entry, self._result(entry), STATUS_STYLES.get(what, ""))
        elif what == "job failed":
            again = "tried again" in more
            self.counts["retried" if again else "failed"] += 1
            self._about("retrying" if again else "failed", entry, more, "yellow" if again else "red")
        elif entry.level != "DEBUG":
            self._about(entry.level.lower(), entry, entry.message, "" if entry.level == "INFO" else "yellow")

    def _about(self, what: str, entry: Entry, more: str, style: str) -> None:
        fields = _told_of(entry)
        if entry.job_id is not None and "job_name" not in fields:
            fields["job_name"] = self._names([entry.job_id]).get(entry.job_id, entry.function)
        took = entry.fields.get("duration_ms")
        fields |= {"message": entry.message} | ({} if took is None else {"duration_ms": took})
        name = fields.get("job_name", entry.function)
        # a handler may name a field of its own like that, and it is whatever it is
        lasted = f"  {took / 1000:.2f} s" if isinstance(took, int | float) else ""
        self.say(what, fields, f"{name}  {fields.get('job_id', '')}{lasted}  {_near(more)}".rstrip(), style=style)

    def _result(self, entry: Entry) -> str:
        job = None if entry.job_id is None else self._relayq.get(entry.job_id)
        if job is None or job.result is None:
            return ""
        told = json.dumps(job.result, ensure_ascii=False)
        return told if len(told) <= _RESULT_CHARACTERS else told[:_RESULT_CHARACTERS] + "…"

    def say(self, what: str, fields: dict[str, Any], text: str, *, style: str = "") -> None:
        """One line; for programs an object with these fields."""
        if self._as_json:
            print_json({"event": what, **fields}, line=True)
        else:
            say(f"{time.strftime('%H:%M:%S')}  {what:<10}  {_folded(text)}", style=style)
            sys.stdout.flush()


def _near(text: str) -> str:
    """Places in files as they are named from here."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")


def _folded(text: str) -> str:
    """Between words, as wide as the terminal, and below where it began; whoever reads a pipe wants one line."""
    room = shutil.get_terminal_size().columns - _INDENT
    if not is_fancy(sys.stdout) or room < _LEAST_ROOM:
        return text
    folded = [
        piece
        for line in text.splitlines()
        for piece in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return ("\n" + " " * _INDENT).join(folded)


def _names_in(entries: Iterable[Entry]) -> dict[str, str]:
    """The jobs' names by their ids, as far as the lines say."""
    return {
        entry.job_id: str(entry.fields["job_name"])
        for entry in entries
        if entry.job_id is not None and "job_name" in entry.fields
    }


def _told_of(entry: Entry) -> dict[str, Any]:
    """Which job it was, as far as the line says."""
    return {str(name): value for name, value in entry.fields.items() if name in _TOLD}
