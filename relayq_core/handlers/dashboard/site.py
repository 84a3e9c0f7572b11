"""What every screen and every change shares: the jobs behind it, the request being answered, and how a page is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response

from relayq_core.client import RelayQ
from relayq_core.dashboard.render import render
from relayq_core.handlers.dashboard.access import FORM_BYTES, Access
from relayq_core.handlers.dashboard.responses import ROOT, is_by_script, link, make_html
from relayq_core.handlers.http import parse_form
from relayq_core.jobs.registry import JobType
from relayq_core.model.options import validate_job_id
from relayq_core.ports import History

#: The sentence after a change. An address carries only its code, so that a link cannot put words on the page.
_NOTICES = {
    "cancelled": "Cancelled.",
    "marked": "Cancellation requested. The job is running; unless it succeeds, it will end as cancelled.",
    "ended": "The job had already ended; nothing was changed.",
    "redriven": "Redriven: its attempts restart at 1.",
    "forgotten": "Forgotten for good.",
    "gone": "The job is no longer in the failed table: it was already redriven or forgotten.",
    "dispatched": "Dispatched.",
    "duplicate": "Not dispatched: this job already holds the unique key.",
}


@dataclass(kw_only=True)
class Site:
    """The jobs, the access rules, and the resolver with the request that is being answered.

    `history` may be None. `jobs`: the job types whose code is available. `command`: the command line with the options
    that lead it to these jobs, for commands to copy.
    """

    relayq: RelayQ
    access: Access
    history: History | None
    jobs: Mapping[str, JobType]
    command: str
    resolver: LambdaFunctionUrlResolver

    @property
    def event(self) -> Mapping[str, Any]:
        """The event of the request that is being answered."""
        return self.resolver.current_event.raw_event

    def now(self) -> int:
        """Return the current time in epoch milliseconds."""
        return self.relayq.clock.now()

    def read_query(self, *names: str) -> dict[str, str]:
        """Return these query parameters, without the empty ones."""
        parameters = self.event.get("queryStringParameters") or {}
        return {name: str(parameters[name]) for name in names if parameters.get(name)}

    def read_form(self) -> dict[str, list[str]]:
        """Return the fields of the form. Raises HttpError."""
        return parse_form(self.event, FORM_BYTES)

    def read_job_id(self) -> str:
        """Return the form's job id. Raises HttpError, InvalidOption."""
        return validate_job_id(self.read_form().get("id", [None])[0])

    def show(self, template: str, *, part: str | None = None, status: int = 200, **values: Any) -> Response[str]:
        """Return a page; for a page that refreshes itself, only the `part` that changes."""
        values |= {
            "now": self.now(),
            "may_change": self.access.may_change,
            "form_token": self.access.make_form_token(self.event),
            "notice": _NOTICES.get(self.read_query("notice").get("notice", ""), ""),
            "command": self.command,
            "path": self.resolver.current_event.path.removeprefix(ROOT),
            "link": link,
        }
        return make_html(status, render(part if part is not None and is_by_script(self.event) else template, **values))
