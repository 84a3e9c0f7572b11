"""The API function's handler: jobs over HTTP, for whoever holds the token. Nothing runs or waits in here."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from relayq_core.extras import extra

with extra("api"):
    from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response

from relayq_core.adapters.secrets import PAUSE_MS, TokensUnread
from relayq_core.client import RelayQ
from relayq_core.errors import (
    DispatchUnknown,
    InvalidOption,
    KeyTaken,
    PayloadTooLarge,
    RelayQError,
    SettingsError,
    StoreError,
    suggest,
)
from relayq_core.events.listeners import events
from relayq_core.handlers.http import (
    Refused,
    answer,
    as_event,
    failure,
    is_authorised,
    json_object,
    method_of,
    no_body,
    query,
    resolved,
    text_headers,
)
from relayq_core.handlers.lambda_events import parse_runner_event
from relayq_core.handlers.telemetry import SERVICE, counted, flushing, own_metrics, structured_logger
from relayq_core.model.options import OPTIONS, read_json_options, validate_job_id
from relayq_core.model.record import JobRecord
from relayq_core.operations.serialize import health_shape, job_shape, queue_shape
from relayq_core.process.budget import calls_within
from relayq_core.settings import Settings
from relayq_core.text import cut, summarize_error

if TYPE_CHECKING:
    from relayq_core.handlers.dashboard import Dashboard

#: A handoff needs less than 400.
_RUN_BYTES = 4096
_RUN_FIELDS = frozenset({"job_id", "run_at", "queue", "name"})
#: A payload may have 300 KB; the rest is for escapes and options.
_JOB_BYTES = 512 * 1024
DASHBOARD_PATH = "/dashboard"

metrics = own_metrics()
counted(events, metrics)
logger = structured_logger()


def _relayq() -> RelayQ:
    settings = Settings.from_environ().needed("jobs_table", "failed_table", "runner_function")
    if settings.handoff == "http":  # it would ask itself
        settings = settings.evolve(handoff="lambda")
    return RelayQ(settings)


_made = _relayq()
app = LambdaFunctionUrlResolver(debug=False)  # POWERTOOLS_DEV would show tracebacks to whoever asks


#: Kept for a call that is on its way when the budget ends, and for the answer.
_ANSWER_MS = 5_000


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer one request of a Function URL. Never raises."""
    budget = (context.get_remaining_time_in_millis() - _ANSWER_MS) / 1000
    with flushing(metrics), _made.publishing(), calls_within(budget):
        try:
            answered = _answered(event, context)
            logger.info("answered", extra={"route": _route(event), "status": answered["statusCode"]})
        finally:
            logger.remove_keys(["job_id"])
        return answered


def _answered(event: Any, context: Any) -> dict[str, Any]:
    tokens = _tokens()
    if tokens is None:
        return as_event(
            failure(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Unavailable",
                "the tokens cannot be read at the moment, so nobody is let in; ask again in some seconds",
                {"Retry-After": str(PAUSE_MS // 1000)},
            )
        )
    if _is_for_the_dashboard(event):
        return _dashboard().answer(event, context)
    if not is_authorised(event, tokens):
        return as_event(
            failure(HTTPStatus.UNAUTHORIZED, "Unauthorized", "send a valid token in the header X-RelayQ-Token")
        )
    if not method_of(event):
        return as_event(
            failure(
                HTTPStatus.BAD_REQUEST,
                "UnknownEvent",
                "this is no event of a Function URL, nor of an HTTP API with payload format 2.0: RelayQ's API reads no "
                "other (a REST API's and a load balancer's have another shape)",
            )
        )
    try:
        return resolved(app, {**event, "headers": text_headers(event)}, context)
    except Exception as error:
        return as_event(_defect(error))


def _is_for_the_dashboard(event: Any) -> bool:
    path = event.get("rawPath") if isinstance(event, Mapping) else None
    return (
        _made.settings.dashboard != "none"
        and isinstance(path, str)
        and (path == DASHBOARD_PATH or path.startswith(f"{DASHBOARD_PATH}/"))
    )


@cache
def _dashboard() -> Dashboard:
    """Made when somebody looks: whoever dispatches does not wait for its templates."""
    from relayq_core.dashboard.session import Sessions
    from relayq_core.handlers.dashboard import Dashboard

    return Dashboard(
        relayq=_made,
        sessions=Sessions(lambda: _tokens() or (), _made.clock),
        may_change=_made.settings.dashboard == "write",
        history=_made.history(SERVICE),
        command=f"relayq --stack {SERVICE}",
    )


def _tokens() -> tuple[str, ...] | None:
    """Those that open the function; none: nobody is let in. None: they cannot be read, and are asked for again soon."""
    try:
        return _made.http_tokens.all()
    except TokensUnread:
        return None
    except Exception as error:
        logger.error("the tokens cannot be read, so nobody is let in: %s", summarize_error(error))
        return None


# ---------------------------------------------------------------- the routes


@app.post("/_relayq/run")
def run() -> Response[str]:
    """A handoff. The answer is the same whether or not there is such a job."""
    event = _event()
    query(event)
    found = json_object(event, _RUN_BYTES)
    if "job_id" not in found or not found.keys() <= _RUN_FIELDS:
        raise Refused(
            HTTPStatus.BAD_REQUEST, "expected a JSON object with job_id and, as hints, run_at, queue and name"
        )
    _named(found["job_id"])
    asked = parse_runner_event(found)
    run_at = _made.clock.now() if asked.run_at is None else asked.run_at
    try:
        _made.handoff.offer(asked.job_id, asked.queue or _queue_of(asked.job_id), run_at, name=asked.name)
    except Exception as error:
        logger.warning("the runner could not be invoked: %s", summarize_error(error))
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the runner could not be invoked; try again") from None
    return answer(HTTPStatus.ACCEPTED, {"accepted": True})


@app.post("/jobs")
def dispatch() -> Response[str]:
    """Dispatch by name: `{"name", "args", ...options}`; `at` in ISO 8601 with its offset."""
    event = _event()
    query(event)
    found = json_object(event, _JOB_BYTES)
    known = ("name", "args", *OPTIONS)
    for field in found:
        if field not in known:
            raise InvalidOption(
                cut(field, 80), f"there is no such field.{suggest(field, known)} Known: {', '.join(known)}"
            )
    name = found.get("name")
    if not isinstance(name, str):
        raise InvalidOption("name", "expected the name of a job")
    dispatched = _made.dispatch(name, found.get("args"), **read_json_options(found))
    logger.append_keys(job_id=dispatched.job_id)
    return answer(HTTPStatus.ACCEPTED, vars(dispatched))


@app.get("/jobs/<job_id>")
def job(job_id: str) -> Response[str]:
    """The job as it now is, with its payload."""
    query(_event())
    return _job_or_404(_made.get(_named(job_id)))


@app.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> Response[str]:
    """Cancel a waiting job, mark a running one; the job as it then is."""
    query(_event())
    no_body(_event())
    return _job_or_404(_made.cancel(_named(job_id)))


@app.get("/queues")
def queues() -> Response[str]:
    """Every queue at a glance."""
    query(_event())
    return answer(HTTPStatus.OK, {"queues": [queue_shape(view) for view in _made.queues()]})


@app.get("/failed")
def failed() -> Response[str]:
    """Failed jobs, newest first, without their payload: `?queue=emails&limit=20`."""
    asked = query(_event(), "queue", "limit")
    limit = asked.get("limit", "100")
    if not re.fullmatch(r"[1-9]\d?|100", limit, re.ASCII):
        raise InvalidOption("limit", "expected a whole number from 1 to 100")
    found = _made.failed(asked.get("queue"), limit=int(limit))
    return answer(HTTPStatus.OK, {"failed": [job_shape(record) for record in found]})


@app.post("/failed/<job_id>/redrive")
def redrive(job_id: str) -> Response[str]:
    """Bring a failed job back; the job as it then is."""
    query(_event())
    no_body(_event())
    return _job_or_404(_made.redrive(_named(job_id)))


@app.get("/health")
def health() -> Response[str]:
    """200 if both tables answer, the sweeper ticks and nothing is long overdue; else 503, and why."""
    query(_event())
    found = _made.health()
    return answer(HTTPStatus.OK if found.healthy else HTTPStatus.SERVICE_UNAVAILABLE, health_shape(found))


# ---------------------------------------------------------------- what goes wrong


def _refused(error: Refused) -> Response[str]:
    return failure(error.status, error.status.phrase.replace(" ", ""), str(error), error.headers)


def _told(error: RelayQError) -> Response[str]:
    match error:
        case PayloadTooLarge():
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        case KeyTaken():
            status = HTTPStatus.CONFLICT
        case StoreError() | DispatchUnknown() | SettingsError():
            status = HTTPStatus.SERVICE_UNAVAILABLE
            logger.error("%s", summarize_error(error))
        case _:
            status = HTTPStatus.BAD_REQUEST
    body = {"error": type(error).__name__, "message": cut(error, 2000)}
    if isinstance(error, DispatchUnknown):
        body["job_id"] = error.job_id  # dispatching again with it is safe
    return answer(status, body)


def _defect(error: Exception) -> Response[str]:
    """Where, but not what: the text of an error that nobody foresaw may hold a payload."""
    logger.error(
        "a defect of RelayQ: %s", type(error).__name__, extra={"at": traceback.format_tb(error.__traceback__)[-4:]}
    )
    return failure(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "this is a defect; the log has the place")


for kind, told in ((Refused, _refused), (RelayQError, _told), (Exception, _defect)):
    app.exception_handler(kind)(told)

#: Each path with its only method; `route` in the log, since a path that is none of these may hold anything.
_METHODS = {
    r"/_relayq/run": "POST",
    r"/jobs": "POST",
    r"/jobs/[^/]+": "GET",
    r"/jobs/[^/]+/cancel": "POST",
    r"/queues": "GET",
    r"/failed": "GET",
    r"/failed/[^/]+/redrive": "POST",
    r"/health": "GET",
}


@app.not_found
def _no_route(error: Exception) -> Response[str]:
    for path, method in _METHODS.items():
        if re.fullmatch(path, app.current_event.path) and method != app.current_event.http_method:
            return failure(
                HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", f"this path takes {method}", {"Allow": method}
            )
    return failure(HTTPStatus.NOT_FOUND, "NotFound", "there is no such route")


# ---------------------------------------------------------------- the parts


def _event() -> Mapping[str, Any]:
    return app.current_event.raw_event


def _route(event: Any) -> str | None:
    if _is_for_the_dashboard(event):
        return DASHBOARD_PATH
    path = event.get("rawPath") if isinstance(event, Mapping) else None
    return next((known for known in _METHODS if isinstance(path, str) and re.fullmatch(known, path)), None)


def _named(job_id: Any) -> str:
    """The id, checked, and in the log line of this request."""
    checked = validate_job_id(job_id)
    logger.append_keys(job_id=checked)
    return checked


def _queue_of(job_id: str) -> str:
    """Needed only where queues have runners of their own; else no row is read."""
    if _made.settings.runner_functions:
        try:
            record = _made.store.get(job_id)
        except StoreError:
            record = None  # a runner that is the wrong one gives the job back
        if record is not None:
            return record.queue
    return _made.settings.default_queue


def _job_or_404(record: JobRecord | None) -> Response[str]:
    if record is None:
        return failure(HTTPStatus.NOT_FOUND, "NotFound", "there is no such job, or it is no longer kept")
    return answer(HTTPStatus.OK, job_shape(record, whole=True))
