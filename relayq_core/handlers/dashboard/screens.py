"""The screens: each reads its data and shows it. None changes anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from aws_lambda_powertools.event_handler import Response

from relayq_core.dashboard import charts, failures, screens
from relayq_core.dashboard.bulk_action import FILTERS
from relayq_core.dashboard.fields import list_fields
from relayq_core.dashboard.history import WINDOWS
from relayq_core.handlers.dashboard.forms import parse_selection
from relayq_core.handlers.dashboard.responses import link
from relayq_core.handlers.dashboard.site import Site
from relayq_core.handlers.http import HttpError
from relayq_core.jobs.registry import explain_unknown_payload
from relayq_core.model.options import validate_job_id, validate_queue
from relayq_core.operations.serialize import decode_json, get_unique_key, list_other_facts

#: The paces that the list of failed jobs offers, jobs a second.
_RATES = (1, 5, 10, 25, 50)


@dataclass(frozen=True)
class Screens:
    """The handlers of the GET routes."""

    site: Site

    @property
    def routes(self) -> dict[str, Callable[[], Response[str]]]:
        """The handler of each path."""
        return {
            "": self.show_overview,
            "/queue": self.show_queue,
            "/job": self.show_job,
            "/failed": self.list_failed,
            "/jobs": self.list_job_types,
            "/health": self.show_health,
        }

    def show_overview(self) -> Response[str]:
        """Show every queue, recent runs, and the last sweep."""
        window = self.site.read_query("window").get("window", "1h")
        window = window if window in WINDOWS else "1h"
        activity = screens.read_activity(self.site.history, WINDOWS[window], self.site.now())
        return self.site.show(
            "overview.html",
            part="overview_live.html",
            overview=screens.read_overview(self.site.relayq),
            activity=activity,
            window=window,
            windows=WINDOWS,
            bars=charts.draw_bars(activity.bins),
            lines=charts.draw_lines(activity.bins),
        )

    def show_queue(self) -> Response[str]:
        """Show one queue and its live jobs, a page at a time."""
        query = self.site.read_query("name", "cursor")
        name = validate_queue(query.get("name"))
        return self.site.show(
            "queue.html",
            part="queue_live.html",
            view=self.site.relayq.operations.queue(name, limit=screens.COUNTED),
            page=screens.read_queue_page(self.site.relayq, name, query.get("cursor")),
            is_first=not query.get("cursor"),
        )

    def show_job(self) -> Response[str]:
        """Show one job, from its dispatch to its end."""
        job_id = validate_job_id(self.site.read_query("id").get("id"))
        job = self.site.relayq.get(job_id)
        if job is None:
            raise HttpError(HTTPStatus.NOT_FOUND, f"There is no job {job_id}, or it is no longer kept.")
        return self.site.show(
            "job.html",
            part="job_live.html",
            job=job,
            steps=screens.build_timeline(job),
            payload=decode_json(job.payload_json),
            result=decode_json(job.result_json),
            progress=decode_json(job.progress_json) if job.progress_json else None,
            unique=get_unique_key(job),
            others=list_other_facts(job, screens.PLACED),
        )

    def list_failed(self) -> Response[str]:
        """Show a page of failed jobs, grouped by job and error."""
        query = self.site.read_query(*FILTERS, "before")
        selection = parse_selection(query, self.site.now())
        return self.site.show(
            "failed.html",
            page=failures.read_failed_page(self.site.relayq, selection, query.get("before")),
            query=query,
            is_filtered=any(query.get(name) for name in FILTERS),
            queues=self.site.relayq.store.list_queues(),
            rates=_RATES,
            narrow=lambda **changes: link("/failed", {**query, "before": "", **changes}),
        )

    def list_job_types(self) -> Response[str]:
        """Show the job types whose code is available, with their fields."""
        types = []
        for name, job_type in sorted(self.site.jobs.items()):
            schema = job_type.build_schema()
            types.append((name, job_type, list_fields(schema), explain_unknown_payload(schema)))
        return self.site.show("jobs.html", types=types, settings=self.site.relayq.settings)

    def show_health(self) -> Response[str]:
        """Show whether all is well, and what is not."""
        return self.site.show("health.html", part="health_live.html", health=self.site.relayq.health())
