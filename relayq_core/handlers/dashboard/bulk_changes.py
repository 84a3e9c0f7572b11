"""Redrive or forget many failed jobs: first a plan to confirm, then a step for each request of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aws_lambda_powertools.event_handler import Response

from relayq_core.dashboard import failures
from relayq_core.dashboard.bulk_action import BulkAction, Chunk
from relayq_core.errors import StoreError
from relayq_core.handlers.dashboard.forms import parse_selection
from relayq_core.handlers.dashboard.responses import is_by_script, link
from relayq_core.handlers.dashboard.site import Site
from relayq_core.operations.bulk import BulkOutcome
from relayq_core.process.loggers import logger

#: No job is begun later than this in one request: a function has 30 s, and a table may be slow to refuse.
_STEP_MS = 8000
#: How many different reasons of refusals a page shows.
_MAX_REASONS = 3


@dataclass(frozen=True)
class BulkChanges:
    """The handlers of the POST routes that change many failed jobs."""

    site: Site

    @property
    def routes(self) -> dict[str, Callable[[], Response[str]]]:
        """The handler of each path."""
        return {"/failed/plan": self.show_plan, "/failed/step": self.run_step}

    def show_plan(self) -> Response[str]:
        """Show what redriving or forgetting these jobs would do. Nothing is changed."""
        action = BulkAction.from_form(self.site.read_form(), self.site.now())
        scan = self._scan(action)
        return self.site.show(
            "plan.html",
            action=action,
            count=len(scan.jobs),
            scanned=scan.scanned,
            more=scan.place is not None,
            groups=failures.group_failures(scan.jobs),
            seconds=math.ceil(len(scan.jobs) / action.rate),
            back=link("/failed", action.filter),
        )

    def run_step(self) -> Response[str]:
        """Handle the next few jobs and show the progress; the page asks for the next step itself.

        It pauses when the table has refused five times in a row or the list cannot be read: a person decides whether to
        continue. Jobs that are not done are tried again then.
        """
        action = BulkAction.from_form(self.site.read_form(), self.site.now())
        outcomes: list[BulkOutcome] = []
        problem = ""
        try:
            chunk = self._take_chunk(action)
        except StoreError as error:
            after, problem = action.pause(), str(error)
        else:
            try:
                outcomes.extend(self._carry_out(action, chunk))  # extend() keeps the outcomes before an error
            except StoreError as error:
                problem = str(error)
            after = action.advance(chunk, outcomes, gave_up=bool(problem))
        if after.must_pause and outcomes and not problem:
            problem = outcomes[-1].reason
        return self._show_step(after, outcomes, problem)

    def _scan(self, action: BulkAction) -> failures.FailureScan:
        if action.ids:
            rows = (self.site.relayq.store.get_failed(job_id) for job_id in action.ids)
            return failures.FailureScan(tuple(job for job in rows if job is not None), len(action.ids), None)
        selection = parse_selection(action.filter, self.site.now())
        return failures.scan_failures(self.site.relayq, selection, action.place)

    def _take_chunk(self, action: BulkAction) -> Chunk:
        if action.ids:
            return action.take_selected()
        selection = parse_selection(action.filter, self.site.now())
        return Chunk.from_scan(failures.scan_failures(self.site.relayq, selection, action.place, limit=action.step))

    def _carry_out(self, action: BulkAction, chunk: Chunk) -> Iterator[BulkOutcome]:
        """Yield an outcome for each job until all are done, or no other job should begin in this request."""
        until = self.site.now() + _STEP_MS
        bulk = self.site.relayq.bulk
        change = bulk.redrive if action.verb == "redrive" else bulk.forget
        return change(chunk.ids, rate=action.rate, stop=lambda: self.site.now() >= until)

    def _show_step(self, action: BulkAction, outcomes: Sequence[BulkOutcome], problem: str) -> Response[str]:
        # htmx swaps in only a response with a status of success
        is_failure = problem and not is_by_script(self.site.event)
        if problem:
            logger.error("redriving or forgetting many jobs has paused: %s", problem)
        reasons = (outcome.reason for outcome in outcomes if outcome.what == "refused" and outcome.reason != problem)
        return self.site.show(
            "step.html",
            part="step_live.html",
            status=HTTPStatus.SERVICE_UNAVAILABLE if is_failure else HTTPStatus.OK,
            action=action.resume() if problem else action,
            problem=problem,
            moment=failures.parse_moment(action.place),
            reasons=[*dict.fromkeys(reasons)][:_MAX_REASONS],
            back=link("/failed", action.filter),
        )
