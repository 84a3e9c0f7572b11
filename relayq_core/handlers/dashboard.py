"""The dashboard's routes: each reads what its screen shows, or does one thing and says what became of it."""

from __future__ import annotations

import hmac
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response
from aws_lambda_powertools.shared.cookies import Cookie, SameSite

from relayq_core.client import RelayQ
from relayq_core.dashboard import charts, failures, render, screens
from relayq_core.dashboard.fields import fields_of, json_payload, payload_of
from relayq_core.dashboard.history import WINDOWS
from relayq_core.dashboard.session import LIFETIME_MS, Sessions
from relayq_core.dashboard.work import FILTERS, Batch, Work
from relayq_core.errors import InvalidOption, KeyTaken, RelayQError, StoreError
from relayq_core.handlers.http import (
    READING,
    Refused,
    as_event,
    cookie,
    form,
    header,
    method_of,
    resolved,
    text_headers,
)
from relayq_core.jobs.registry import JobType, explain_unknown_payload
from relayq_core.model.options import FORM_FIELDS, read_form_options, validate_job_id, validate_queue
from relayq_core.operations.bulk import Outcome
from relayq_core.operations.jobs import Failures
from relayq_core.operations.serialize import decoded, list_other_facts, unique_key
from relayq_core.ports import History
from relayq_core.process.loggers import logger
from relayq_core.text import cut, summarize_error

ROOT = "/dashboard"
_COOKIE = "relayq"
#: A payload of 300 KB may be typed, and every byte of it may need an escape.
_FORM_BYTES = 1024 * 1024
_LOGIN_BYTES = 2048
#: No job is begun later than this in one request of many: a function has 30 s, and a table may be slow to refuse.
_STEP_MS = 8000
_RATES = (1, 5, 10, 25, 50)
#: Nothing from elsewhere, nothing inline, no frame around it, no form to elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
#: What is said after a change: a code in the address, so that an address can put no words on the page.
_SAID = {
    "cancelled": "Cancelled.",
    "marked": "It runs: if it does not succeed it ends as cancelled.",
    "ended": "It had ended already; nothing was changed.",
    "redriven": "Brought back: it starts again with its first attempt.",
    "forgotten": "Forgotten for good.",
    "gone": "Somebody was faster: it is not in the failed table any more.",
    "dispatched": "Dispatched.",
    "duplicate": "Not dispatched: this job has the unique key.",
}


@dataclass(kw_only=True)
class Dashboard:
    """The web application, for events of a Function URL.

    `may_change`: whether it may dispatch, cancel, redrive and forget. `jobs`: the job types, where their code is at
    hand. `history` may be missing. `is_secure`: it is reached by https. `one_time_key` opens one session, once.
    """

    relayq: RelayQ
    sessions: Sessions
    may_change: bool = False
    history: History | None = None
    jobs: Mapping[str, JobType] = field(default_factory=dict)
    is_secure: bool = True
    one_time_key: str | None = None
    #: what tells the cookie of one dashboard from that of another on the same host
    cookie_suffix: str = ""
    #: how the command line is told where these jobs are, for commands to copy
    command: str = "relayq"
    _app: LambdaFunctionUrlResolver = field(init=False)

    def __post_init__(self) -> None:
        self._app = LambdaFunctionUrlResolver(debug=False)  # POWERTOOLS_DEV would show tracebacks to whoever asks
        for path, screen in self._screens.items():
            self._app.get(ROOT + path)(screen)
        for path, change in self._changes.items():
            self._app.post(ROOT + path)(change)
        for kind, told in ((Refused, self._refused), (RelayQError, self._told), (Exception, self._defect)):
            self._app.exception_handler(kind)(told)
        self._app.not_found(self._no_route)

    @property
    def _screens(self) -> dict[str, Callable[[], Response[str]]]:
        return {
            "": self.overview,
            "/queue": self.queue,
            "/job": self.job,
            "/failed": self.failed,
            "/jobs": self.registered,
            "/dispatch": self.dispatch_form,
            "/health": self.health,
        }

    @property
    def _changes(self) -> dict[str, Callable[[], Response[str]]]:
        return {
            "/logout": self.logout,
            "/dispatch": self.dispatch,
            "/cancel": self.cancel,
            "/redrive": self.redrive,
            "/forget": self.forget,
            "/failed/plan": self.plan,
            "/failed/step": self.step,
        }

    # --- who is let in ---

    def answer(self, event: Mapping[str, Any], context: Any = None) -> dict[str, Any]:
        """Answer one request. Never raises."""
        try:
            return self._answered({**event, "headers": text_headers(event)}, context)
        except Refused as refused:
            return as_event(self._refused(refused))
        except Exception as error:
            return as_event(self._defect(error))

    def _answered(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        path = str(event.get("rawPath", "")).rstrip("/")
        method = method_of(event)
        if path.startswith(f"{ROOT}/static/") and method == "GET":
            return as_event(_static(path.removeprefix(f"{ROOT}/static/")))
        if path == f"{ROOT}/login":
            return self._as_event(self._login(event, method))
        if path == f"{ROOT}/enter" and method == "GET":
            return self._as_event(self._enter(event))
        session = cookie(event, self._cookie_name)
        if session is None or not self.sessions.is_open(session):
            return self._as_event(_to_login(event))
        if method not in READING:
            self._check_change(event, path, session)
        return resolved(self._app, {**event, "rawPath": path}, context)

    def _check_change(self, event: dict[str, Any], path: str, session: str) -> None:
        """Raises Refused unless the form was made for this session, and changes are allowed."""
        given = form(event, _FORM_BYTES).get("form_token", [""])
        if not self.sessions.is_own_form(session, given[0]):
            raise Refused(HTTPStatus.FORBIDDEN, "This form was not made for your session. Go back, reload, try again.")
        if not self.may_change and path != f"{ROOT}/logout":
            raise Refused(HTTPStatus.FORBIDDEN, "This dashboard is read-only: nothing was changed.")

    @property
    def _cookie_name(self) -> str:
        """With this prefix a browser takes it over https only, and from nobody but this very host."""
        return (f"__Host-{_COOKIE}" if self.is_secure else _COOKIE) + self.cookie_suffix

    def _login(self, event: dict[str, Any], method: str) -> Response[str]:
        if method != "POST":
            return self._login_page(HTTPStatus.OK, "")
        opened = self.sessions.begin(form(event, _LOGIN_BYTES).get("token", [""])[0].strip())
        if opened is None:
            return self._login_page(HTTPStatus.FORBIDDEN, "That is not the token.")
        return self._opened(opened)

    def _login_page(self, status: int, problem: str) -> Response[str]:
        return _html(status, render.page("login.html", problem=problem))

    def _enter(self, event: dict[str, Any]) -> Response[str]:
        """Let in whoever was shown the key; it serves once."""
        given = (event.get("queryStringParameters") or {}).get("key", "")
        key = self.one_time_key
        if key is None or not hmac.compare_digest(given.encode("utf-8", "replace"), key.encode()):
            return self._login_page(HTTPStatus.FORBIDDEN, "This link has been used. Give the token instead.")
        self.one_time_key = None
        opened = self.sessions.begin_own()
        return self._login_page(HTTPStatus.FORBIDDEN, "") if opened is None else self._opened(opened)

    def _opened(self, opened: str) -> Response[str]:
        return _to(ROOT, self._cookie(opened, LIFETIME_MS // 1000))

    def _cookie(self, value: str, seconds: int) -> Cookie:
        return Cookie(
            name=self._cookie_name,
            value=value,
            path="/" if self.is_secure else ROOT,  # what the prefix demands, or no more than is needed
            secure=self.is_secure,
            http_only=True,
            max_age=seconds,
            same_site=SameSite.STRICT_MODE,
        )

    def logout(self) -> Response[str]:
        """Forget the cookie. The session itself ends with its time, or with its token."""
        return _to(f"{ROOT}/login", self._cookie("", 0))

    # --- the screens ---

    def overview(self) -> Response[str]:
        """Every queue, what happened lately, and what the sweeper did."""
        asked = self._asked("window")
        window = asked.get("window", "1h") if asked.get("window", "1h") in WINDOWS else "1h"
        past = screens.past(self.history, WINDOWS[window], self._now())
        return self._page(
            "overview.html",
            part="overview_live.html",
            seen=screens.overview(self.relayq),
            past=past,
            window=window,
            windows=WINDOWS,
            bars=charts.stacked(past.bins),
            lines=charts.lines(past.bins),
        )

    def queue(self) -> Response[str]:
        """One queue and its live jobs, a page at a time."""
        asked = self._asked("name", "cursor")
        name = validate_queue(asked.get("name"))
        return self._page(
            "queue.html",
            part="queue_live.html",
            view=self.relayq.operations.queue(name, limit=screens.COUNTED),
            page=screens.queue_page(self.relayq, name, asked.get("cursor")),
            is_first=not asked.get("cursor"),
        )

    def job(self) -> Response[str]:
        """One job, from its dispatch to its end."""
        job_id = validate_job_id(self._asked("id", "said").get("id"))
        job = self.relayq.get(job_id)
        if job is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"There is no job {job_id}, or it is no longer kept.")
        return self._page(
            "job.html",
            part="job_live.html",
            job=job,
            steps=screens.timeline(job),
            payload=decoded(job.payload_json),
            result=decoded(job.result_json),
            progress=decoded(job.progress_json) if job.progress_json else None,
            unique=unique_key(job),
            others=list_other_facts(job, screens.PLACED),
        )

    def failed(self) -> Response[str]:
        """Failed jobs by job and error, and a page of them."""
        asked = self._asked(*FILTERS, "before")
        return self._page(
            "failed.html",
            page=failures.failed_page(self.relayq, self._meant(asked), asked.get("before")),
            asked=asked,
            is_filtered=any(asked.get(name) for name in FILTERS),
            queues=self.relayq.store.list_queues(),
            rates=_RATES,
            narrowed=lambda **changes: _link("/failed", {**asked, "before": "", **changes}),
        )

    def registered(self) -> Response[str]:
        """The job types whose code is at hand."""
        self._asked()
        schemas = [(name, self.jobs[name], self.jobs[name].build_schema()) for name in sorted(self.jobs)]
        types = [
            (name, job_type, fields_of(schema), explain_unknown_payload(schema)) for name, job_type, schema in schemas
        ]
        return self._page("jobs.html", types=types, settings=self.relayq.settings)

    def dispatch_form(self) -> Response[str]:
        """A form to dispatch a job: by its fields where its code is at hand, else as JSON."""
        name = self._asked("name").get("name", "")
        return self._dispatch_page(name, {}, "")

    def health(self) -> Response[str]:
        """Whether all is well, and what is not."""
        self._asked()
        return self._page("health.html", part="health_live.html", health=self.relayq.health())

    def _dispatch_page(self, name: str, typed: Mapping[str, str], problem: str, status: int = 200) -> Response[str]:
        job_type = self.jobs.get(name)
        schema = None if job_type is None else job_type.build_schema()
        return self._page(
            "dispatch.html",
            status=status,
            name=name,
            job_type=job_type,
            schema=schema,
            unknown=None if schema is None else explain_unknown_payload(schema),
            fields=[] if schema is None else fields_of(schema),
            options=FORM_FIELDS,
            has_options=any(typed.get(option) for option in FORM_FIELDS),
            typed=typed,
            problem=problem,
            names=sorted(self.jobs),
        )

    # --- the changes ---

    def dispatch(self) -> Response[str]:
        """Dispatch what was typed; show the form again where it cannot be."""
        typed = {name: values[0] for name, values in self._form().items()}
        name = typed.get("name", "").strip()
        try:
            dispatched = self.relayq.dispatch(name, self._typed_payload(name, typed), **read_form_options(typed))
        except (StoreError, RelayQError) as error:
            if isinstance(error, StoreError):
                raise
            return self._dispatch_page(name, typed, cut(str(error), 1000), HTTPStatus.UNPROCESSABLE_ENTITY)
        return _to(_job_link(dispatched.job_id, "duplicate" if dispatched.duplicate else "dispatched"))

    def _typed_payload(self, name: str, typed: Mapping[str, str]) -> dict[str, Any]:
        if name in self.jobs and "payload" not in typed:
            inputs = {key.removeprefix("field."): text for key, text in typed.items() if key.startswith("field.")}
            return payload_of(fields_of(self.jobs[name].build_schema()), inputs)
        return json_payload(typed.get("payload", ""))

    def cancel(self) -> Response[str]:
        """Cancel a waiting job, mark a running one."""
        job_id = self._named()
        before = self.relayq.get(job_id)
        after = self.relayq.cancel(job_id)
        if after is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"There is no job {job_id}, or it is no longer kept.")
        if before is not None and before.status.is_ended:
            return _to(_job_link(job_id, "ended"))
        return _to(_job_link(job_id, "cancelled" if after.status.is_ended else "marked"))

    def redrive(self) -> Response[str]:
        """Bring one failed job back."""
        job_id = self._named()
        return _to(_job_link(job_id, "gone" if self.relayq.redrive(job_id) is None else "redriven"))

    def forget(self) -> Response[str]:
        """Delete one failed job for good."""
        said = "forgotten" if self.relayq.forget(self._named()) else "gone"
        return _to(_link("/failed", {"said": said}))

    def plan(self) -> Response[str]:
        """Say what redriving or forgetting many would do; nothing is done yet."""
        work = Work.of(self._form(), self._now())
        chosen = self._chosen(work)
        return self._page(
            "plan.html",
            work=work,
            count=len(chosen.jobs),
            looked_at=chosen.looked_at,
            more=chosen.place is not None,
            groups=failures.grouped(chosen.jobs),
            seconds=math.ceil(len(chosen.jobs) / work.rate),
            back=_link("/failed", work.filter),
        )

    def _chosen(self, work: Work) -> failures.Look:
        if work.ids:
            found = (self.relayq.store.get_failed(job_id) for job_id in work.ids)
            return failures.Look(tuple(job for job in found if job is not None), len(work.ids), None)
        return failures.look(self.relayq, self._meant(work.filter), work.before)

    def step(self) -> Response[str]:
        """Do the next few jobs of the work, and say how far it is: the page asks for the next step itself.

        It waits for somebody where the table has refused five in a row, or the list: what is not done is meant again.
        """
        work = Work.of(self._form(), self._now())
        outcomes: list[Outcome] = []
        problem = ""
        try:
            batch = self._batch(work)
        except StoreError as error:
            after, problem = work.in_trouble(), str(error)
        else:
            try:
                outcomes.extend(self._carried_out(work, batch))  # what was told before the table gave up is kept
            except StoreError as error:
                problem = str(error)
            after = work.after(batch, outcomes, gave_up=bool(problem))
        if after.is_hopeless and outcomes and not problem:
            problem = outcomes[-1].reason
        return self._stepped(after, outcomes, problem)

    def _batch(self, work: Work) -> Batch:
        if work.ids:
            return work.ticked()
        return Batch.of(failures.look(self.relayq, self._meant(work.filter), work.before, wanted=work.step))

    def _carried_out(self, work: Work, batch: Batch) -> Iterator[Outcome]:
        """What becomes of each, until all are done or no other should be begun in this request."""
        until = self._now() + _STEP_MS
        do = self.relayq.bulk.redrive if work.verb == "redrive" else self.relayq.bulk.forget
        return do(batch.ids, rate=work.rate, stop=lambda: self._now() >= until)

    def _stepped(self, work: Work, outcomes: Sequence[Outcome], problem: str) -> Response[str]:
        """A page that goes on by itself takes an answer for one only if it is called a success."""
        is_asked_by_script = header(self._app.current_event.raw_event, "hx-request") == "true"
        status = HTTPStatus.SERVICE_UNAVAILABLE if problem and not is_asked_by_script else HTTPStatus.OK
        if problem:
            logger.error("redriving or forgetting many waits: %s", problem)
        told = (outcome.reason for outcome in outcomes if outcome.what == "refused" and outcome.reason != problem)
        return self._page(
            "step.html",
            part="step_live.html",
            status=status,
            work=work.begun_again() if problem else work,
            problem=problem,
            moment=failures.moment_of(work.before),
            reasons=[*dict.fromkeys(told)][:3],
            back=_link("/failed", work.filter),
        )

    # --- what goes wrong ---

    def _refused(self, error: Refused) -> Response[str]:
        return self._problem(error.status, str(error), error.headers)

    def _told(self, error: RelayQError) -> Response[str]:
        if isinstance(error, KeyTaken):
            return self._problem(HTTPStatus.CONFLICT, str(error))
        if isinstance(error, StoreError):
            logger.error("%s", summarize_error(error))
            return self._problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return self._problem(HTTPStatus.BAD_REQUEST, str(error))

    def _defect(self, error: Exception) -> Response[str]:
        """Where, but not what: the text of an error that nobody foresaw may hold a payload."""
        places = traceback.format_tb(error.__traceback__)[-4:]
        logger.error("a defect of RelayQ: %s", type(error).__name__, extra={"at": places})
        return self._problem(HTTPStatus.INTERNAL_SERVER_ERROR, "This is a defect of RelayQ; the log has the place.")

    def _no_route(self, error: Exception) -> Response[str]:
        return self._problem(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _problem(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> Response[str]:
        shown = render.page("problem.html", title=status.phrase, message=cut(message, 2000))
        return _html(status, shown, headers)

    # --- the parts ---

    def _page(self, template: str, *, part: str | None = None, status: int = 200, **shown: Any) -> Response[str]:
        """A whole page; for a page that refreshes itself only the `part` that changes."""
        event = self._app.current_event.raw_event
        session = cookie(event, self._cookie_name) or ""
        said = (event.get("queryStringParameters") or {}).get("said", "")
        shown |= {
            "now": self._now(),
            "may_change": self.may_change,
            "form_token": self.sessions.form_token(session),
            "said": _SAID.get(said, ""),
            "command": self.command,
            "path": self._app.current_event.path.removeprefix(ROOT),
            "link": _link,
        }
        wanted = part if part is not None and header(event, "hx-request") == "true" else template
        return _html(status, render.page(wanted, **shown))

    def _asked(self, *known: str) -> dict[str, str]:
        found = self._app.current_event.raw_event.get("queryStringParameters") or {}
        return {name: str(found[name]) for name in (*known, "said") if found.get(name)}

    def _form(self) -> dict[str, list[str]]:
        return form(self._app.current_event.raw_event, _FORM_BYTES)

    def _named(self) -> str:
        return validate_job_id(self._form().get("id", [None])[0])

    def _meant(self, asked: Mapping[str, str]) -> Failures:
        hours = asked.get("hours", "")
        if hours and not (hours.isdecimal() and hours.isascii() and len(hours) <= 5):
            raise InvalidOption("hours", "expected a whole number of hours")
        return Failures(
            queue=validate_queue(asked["queue"]) if asked.get("queue") else None,
            job=asked.get("job") or None,
            error=asked.get("error") or None,
            since=self._now() - int(hours) * 3_600_000 if hours else None,
        )

    def _as_event(self, response: Response[str]) -> dict[str, Any]:
        found = as_event(response)
        return {**found, "cookies": [str(made) for made in response.cookies]}

    def _now(self) -> int:
        return self.relayq.clock.now()


def _static(name: str) -> Response[str]:
    try:
        text = render.static_file(name)
    except KeyError:
        return Response(status_code=404, content_type="text/plain", body="", headers=dict(_HEADERS))
    return Response(status_code=200, content_type=render.STATIC[name], body=text, headers=dict(_KEPT))


def _html(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    return Response(
        status_code=int(status),
        content_type="text/html; charset=utf-8",
        body=body,
        headers={**_HEADERS, **(headers or {})},
    )


def _to(address: str, set_cookie: Cookie | None = None) -> Response[str]:
    """See there: a reload after a change changes nothing again."""
    return Response(
        status_code=HTTPStatus.SEE_OTHER.value,
        content_type="text/plain",
        body="",
        headers={**_HEADERS, "Location": address},
        cookies=[] if set_cookie is None else [set_cookie],
    )


def _to_login(event: Mapping[str, Any]) -> Response[str]:
    """A page that refreshes itself is told to leave, others are sent."""
    if header(event, "hx-request") == "true":
        headers = {**_HEADERS, "HX-Redirect": f"{ROOT}/login"}
        return Response(status_code=401, content_type="text/plain", body="", headers=headers)
    return _to(f"{ROOT}/login")


def _link(path: str, asked: Mapping[str, str | None] | None = None, **more: str | None) -> str:
    """The address of a screen, with what is asked of it; what is empty is left out."""
    given = {name: value for name, value in {**(asked or {}), **more}.items() if value}
    return f"{ROOT}{path}?{urlencode(given)}" if given else ROOT + path


def _job_link(job_id: str, said: str) -> str:
    return _link("/job", {"id": job_id, "said": said})
