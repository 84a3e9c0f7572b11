"""The API function's handler: jobs over HTTP, for clients that hold the token. Jobs do not run here."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from relayq_core.process.extras import extra

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
    HttpError,
    is_authorised,
    make_error,
    make_response,
    parse_json_object,
    parse_query,
    read_headers,
    read_method,
    refuse_body,
    resolve,
    serialize_response,
)
from relayq_core.handlers.lambda_events import parse_runner_event
from relayq_core.handlers.telemetry import SERVICE, build_logger, build_metrics, count_events, flush_at_end
from relayq_core.model.options import OPTIONS, read_json_options, validate_job_id
from relayq_core.model.record import JobRecord
from relayq_core.operations.serialize import serialize_health, serialize_job, serialize_queue
from relayq_core.process.budget import calls_within
from relayq_core.settings import Settings
from relayq_core.text import cut, summarize_error

if TYPE_CHECKING:
    from relayq_core.handlers.dashboard.app import Dashboard

#: The longest body of a handoff, which needs fewer than 400 bytes.
_RUN_BYTES = 4096
_RUN_FIELDS = frozenset({"job_id", "run_at", "queue", "name"})
#: The longest body of a dispatch: a payload may have 300 KB, the rest is for escapes and options.
_JOB_BYTES = 512 * 1024
#: Milliseconds kept for a call in progress when the budget ends, and for the response.
_ANSWER_MS = 5_000
DASHBOARD_PATH = "/dashboard"

metrics = build_metrics()
count_events(events, metrics)
logger = build_logger()


def _build_relayq() -> RelayQ:
    settings = Settings.from_environ().require("jobs_table", "failed_table", "runner_function")
    if settings.handoff == "http":  # over HTTP this function would call itself
        settings = settings.evolve(handoff="lambda")
    return RelayQ(settings)


_relayq = _build_relayq()
app = LambdaFunctionUrlResolver(debug=False)  # POWERTOOLS_DEV would show tracebacks to every client


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer one request of a Function URL. Never raises."""
    budget = (context.get_remaining_time_in_millis() - _ANSWER_MS) / 1000
    with flush_at_end(metrics), _relayq.publishing(), calls_within(budget):
        try:
            response = _answer(event, context)
            logger.info("answered", extra={"route": _find_route(event), "status": response["statusCode"]})
        finally:
            logger.remove_keys(["job_id"])
        return response


def _answer(event: Any, context: Any) -> dict[str, Any]:
    tokens = _read_tokens()
    if tokens is None:
        return serialize_response(
            make_error(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Unavailable",
                "the tokens cannot be read at the moment, so every request is refused; try again in a few seconds",
                {"Retry-After": str(PAUSE_MS // 1000)},
            )
        )
    if _is_for_dashboard(event):
        return _get_dashboard().answer(event, context)
    if not is_authorised(event, tokens):
        return serialize_response(
            make_error(HTTPStatus.UNAUTHORIZED, "Unauthorized", "send a valid token in the header X-RelayQ-Token")
        )
    if not read_method(event):
        return serialize_response(
            make_error(
                HTTPStatus.BAD_REQUEST,
                "UnknownEvent",
                "this is not an event of a Function URL, or of an HTTP API with payload format 2.0; RelayQ's API "
                "accepts no other (events of a REST API or a load balancer have a different shape)",
            )
        )
    try:
        return resolve(app, {**event, "headers": read_headers(event)}, context)
    except Exception as error:
        return serialize_response(_answer_defect(error))


def _is_for_dashboard(event: Any) -> bool:
    path = event.get("rawPath") if isinstance(event, Mapping) else None
    return (
        _relayq.settings.dashboard != "none"
        and isinstance(path, str)
        and (path == DASHBOARD_PATH or path.startswith(f"{DASHBOARD_PATH}/"))
    )


@cache
def _get_dashboard() -> Dashboard:
    """Return the dashboard. It is built at the first visit, so that no dispatch waits for its templates."""
    from relayq_core.dashboard.session import Sessions
    from relayq_core.handlers.dashboard.app import Dashboard

    return Dashboard(
        relayq=_relayq,
        sessions=Sessions(lambda: _read_tokens() or (), _relayq.clock),
        may_change=_relayq.settings.dashboard == "write",
        history=_relayq.history(SERVICE),
        command=f"relayq --stack {SERVICE}",
    )


def _read_tokens() -> tuple[str, ...] | None:
    """Return the valid tokens; without any, every request is refused. None: they cannot be read now; try again soon."""
    try:
        return _relayq.http_tokens.all()
    except TokensUnread:
        return None
    except Exception as error:
        logger.error("the tokens cannot be read, so every request is refused: %s", summarize_error(error))
        return None


# ---------------------------------------------------------------- the routes


@app.post("/_relayq/run")
def accept_handoff() -> Response[str]:
    """Invoke the runner for one job. The response is the same whether or not there is such a job."""
    event = _get_event()
    parse_query(event)
    body = parse_json_object(event, _RUN_BYTES)
    if "job_id" not in body or not body.keys() <= _RUN_FIELDS:
        raise HttpError(
            HTTPStatus.BAD_REQUEST, "expected a JSON object with job_id and, as optional hints, run_at, queue and name"
        )
    _check_job_id(body["job_id"])
    handoff = parse_runner_event(body)
    run_at = _relayq.clock.now() if handoff.run_at is None else handoff.run_at
    queue = handoff.queue or _find_queue(handoff.job_id)
    try:
        _relayq.handoff.offer(handoff.job_id, queue, run_at, name=handoff.name)
    except Exception as error:
        logger.warning("the runner could not be invoked: %s", summarize_error(error))
        raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "the runner could not be invoked; try again") from None
    return make_response(HTTPStatus.ACCEPTED, {"accepted": True})


@app.post("/jobs")
def dispatch() -> Response[str]:
    """Dispatch a job by name: `{"name", "args", ...options}`; `at` in ISO 8601 with its offset."""
    event = _get_event()
    parse_query(event)
    body = parse_json_object(event, _JOB_BYTES)
    known = ("name", "args", *OPTIONS)
    for field in body:
        if field not in known:
            raise InvalidOption(
                cut(field, 80), f"there is no such field.{suggest(field, known)} Known: {', '.join(known)}"
            )
    name = body.get("name")
    if not isinstance(name, str):
        raise InvalidOption("name", "expected the name of a job")
    dispatched = _relayq.dispatch(name, body.get("args"), **read_json_options(body))
    logger.append_keys(job_id=dispatched.job_id)
    return make_response(HTTPStatus.ACCEPTED, vars(dispatched))


@app.get("/jobs/<job_id>")
def show_job(job_id: str) -> Response[str]:
    """Return the job's current record, with its payload."""
    parse_query(_get_event())
    return _answer_job(_relayq.get(_check_job_id(job_id)))


@app.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> Response[str]:
    """Cancel a waiting job, mark a running one, and return its record after that."""
    parse_query(_get_event())
    refuse_body(_get_event())
    return _answer_job(_relayq.cancel(_check_job_id(job_id)))


@app.get("/queues")
def list_queues() -> Response[str]:
    """Return the counts of every queue."""
    parse_query(_get_event())
    return make_response(HTTPStatus.OK, {"queues": [serialize_queue(view) for view in _relayq.queues()]})


@app.get("/failed")
def list_failed() -> Response[str]:
    """Return failed jobs, newest first, without their payload: `?queue=emails&limit=20`."""
    query = parse_query(_get_event(), "queue", "limit")
    limit = query.get("limit", "100")
    if not re.fullmatch(r"[1-9]\d?|100", limit, re.ASCII):
        raise InvalidOption("limit", "expected a whole number from 1 to 100")
    records = _relayq.failed(query.get("queue"), limit=int(limit))
    return make_response(HTTPStatus.OK, {"failed": [serialize_job(record) for record in records]})


@app.post("/failed/<job_id>/redrive")
def redrive(job_id: str) -> Response[str]:
    """Redrive a failed job and return its record after that."""
    parse_query(_get_event())
    refuse_body(_get_event())
    return _answer_job(_relayq.redrive(_check_job_id(job_id)))


@app.get("/health")
def check_health() -> Response[str]:
    """Return 200 if both tables respond, the sweeper ticks and nothing is long overdue; otherwise 503, and why."""
    parse_query(_get_event())
    health = _relayq.health()
    return make_response(HTTPStatus.OK if health.healthy else HTTPStatus.SERVICE_UNAVAILABLE, serialize_health(health))


# ---------------------------------------------------------------- errors


def _answer_http_error(error: HttpError) -> Response[str]:
    return make_error(error.status, error.status.phrase.replace(" ", ""), str(error), error.headers)


def _answer_error(error: RelayQError) -> Response[str]:
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
        body["job_id"] = error.job_id  # with this id it is safe to dispatch again
    return make_response(status, body)


def _answer_defect(error: Exception) -> Response[str]:
    """Log the location only: an unexpected error's message may contain a payload."""
    logger.error(
        "a defect of RelayQ: %s", type(error).__name__, extra={"at": traceback.format_tb(error.__traceback__)[-4:]}
    )
    return make_error(
        HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "this is a defect of RelayQ; the log says where"
    )


app.exception_handler(HttpError)(_answer_http_error)
app.exception_handler(RelayQError)(_answer_error)
app.exception_handler(Exception)(_answer_defect)

#: The only method of each path. The log names the pattern and not the path, which a client can fill with anything.
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
def _answer_no_route(error: Exception) -> Response[str]:
    for path, method in _METHODS.items():
        if re.fullmatch(path, app.current_event.path) and method != app.current_event.http_method:
            return make_error(
                HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", f"this path accepts only {method}", {"Allow": method}
            )
    return make_error(HTTPStatus.NOT_FOUND, "NotFound", "there is no such route")


# ---------------------------------------------------------------- parts of a request


def _get_event() -> Mapping[str, Any]:
    return app.current_event.raw_event


def _find_route(event: Any) -> str | None:
    if _is_for_dashboard(event):
        return DASHBOARD_PATH
    path = event.get("rawPath") if isinstance(event, Mapping) else None
    return next((route for route in _METHODS if isinstance(path, str) and re.fullmatch(route, path)), None)


def _check_job_id(job_id: Any) -> str:
    """Return the id if it is valid, and add it to this request's log lines. Raises InvalidOption."""
    checked = validate_job_id(job_id)
    logger.append_keys(job_id=checked)
    return checked


def _find_queue(job_id: str) -> str:
    """Return the job's queue. The row is read only if some queues have a runner of their own."""
    if _relayq.settings.runner_functions:
        try:
            record = _relayq.store.get(job_id)
        except StoreError:
            record = None  # the wrong runner gives the job back
        if record is not None:
            return record.queue
    return _relayq.settings.default_queue


def _answer_job(record: JobRecord | None) -> Response[str]:
    if record is None:
        return make_error(HTTPStatus.NOT_FOUND, "NotFound", "there is no such job, or it is no longer kept")
    return make_response(HTTPStatus.OK, serialize_job(record, whole=True))
