"""Changes to one job: dispatch, cancel, redrive, forget. Each does one thing and redirects to a page that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from aws_lambda_powertools.event_handler import Response

from relayq_core.dashboard.fields import list_fields
from relayq_core.errors import RelayQError, StoreError
from relayq_core.handlers.dashboard.forms import parse_payload
from relayq_core.handlers.dashboard.responses import link, link_job, redirect
from relayq_core.handlers.dashboard.site import Site
from relayq_core.handlers.http import HttpError
from relayq_core.jobs.registry import explain_unknown_payload
from relayq_core.model.options import FORM_FIELDS, read_form_options
from relayq_core.text import cut


@dataclass(frozen=True)
class Changes:
    """The handlers of the POST routes that change one job, and the form that dispatches one."""

    site: Site

    @property
    def routes(self) -> dict[str, Callable[[], Response[str]]]:
        """The handler of each path."""
        return {
            "/dispatch": self.dispatch,
            "/cancel": self.cancel,
            "/redrive": self.redrive,
            "/forget": self.forget,
        }

    def show_dispatch_form(self) -> Response[str]:
        """Show a form to dispatch a job: with its fields if its code is available, otherwise for JSON."""
        return self._show_form(self.site.read_query("name").get("name", ""), {}, "")

    def dispatch(self) -> Response[str]:
        """Dispatch the job that was typed; if it is invalid, show the form again with the reason."""
        texts = {name: values[0] for name, values in self.site.read_form().items()}
        name = texts.get("name", "").strip()
        try:
            payload = parse_payload(self.site.jobs.get(name), texts)
            dispatched = self.site.relayq.dispatch(name, payload, **read_form_options(texts))
        except StoreError:
            raise
        except RelayQError as error:
            return self._show_form(name, texts, cut(str(error), 1000), HTTPStatus.UNPROCESSABLE_ENTITY)
        return redirect(link_job(dispatched.job_id, "duplicate" if dispatched.duplicate else "dispatched"))

    def cancel(self) -> Response[str]:
        """Cancel a waiting job; mark a running one."""
        job_id = self.site.read_job_id()
        before = self.site.relayq.get(job_id)
        after = self.site.relayq.cancel(job_id)
        if after is None:
            raise HttpError(HTTPStatus.NOT_FOUND, f"There is no job {job_id}, or it is no longer kept.")
        if before is not None and before.status.is_ended:
            return redirect(link_job(job_id, "ended"))
        return redirect(link_job(job_id, "cancelled" if after.status.is_ended else "marked"))

    def redrive(self) -> Response[str]:
        """Redrive one failed job."""
        job_id = self.site.read_job_id()
        return redirect(link_job(job_id, "gone" if self.site.relayq.redrive(job_id) is None else "redriven"))

    def forget(self) -> Response[str]:
        """Delete one failed job for good."""
        notice = "forgotten" if self.site.relayq.forget(self.site.read_job_id()) else "gone"
        return redirect(link("/failed", {"notice": notice}))

    def _show_form(self, name: str, texts: Mapping[str, str], problem: str, status: int = 200) -> Response[str]:
        job_type = self.site.jobs.get(name)
        schema = None if job_type is None else job_type.build_schema()
        return self.site.show(
            "dispatch.html",
            status=status,
            name=name,
            job_type=job_type,
            schema=schema,
            unknown=None if schema is None else explain_unknown_payload(schema),
            fields=[] if schema is None else list_fields(schema),
            options=FORM_FIELDS,
            has_options=any(texts.get(option) for option in FORM_FIELDS),
            texts=texts,
            problem=problem,
            names=sorted(self.site.jobs),
        )
