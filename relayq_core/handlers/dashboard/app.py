"""The dashboard as a web application: which request goes where, and what an error looks like."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response

from relayq_core.client import RelayQ
from relayq_core.dashboard.render import render
from relayq_core.dashboard.session import Sessions
from relayq_core.errors import KeyTaken, RelayQError, StoreError
from relayq_core.handlers.dashboard.access import Access
from relayq_core.handlers.dashboard.bulk_changes import BulkChanges
from relayq_core.handlers.dashboard.changes import Changes
from relayq_core.handlers.dashboard.responses import ROOT, make_html, redirect_to_login, serve_static
from relayq_core.handlers.dashboard.screens import Screens
from relayq_core.handlers.dashboard.site import Site
from relayq_core.handlers.http import (
    READING,
    HttpError,
    read_headers,
    read_method,
    resolve,
    serialize_response,
)
from relayq_core.jobs.registry import JobType
from relayq_core.ports import History
from relayq_core.process.loggers import logger
from relayq_core.text import cut, summarize_error


class Dashboard:
    """The web application, for events of a Function URL.

    `may_change`: whether it may dispatch, cancel, redrive and forget. `jobs`: the job types whose code is available.
    `history` may be missing. `is_secure`: it is reached by https. `one_time_key` opens one session, once.
    `cookie_suffix` keeps the cookies of several dashboards on one host apart. `command`: the command line with the
    options that lead it to these jobs, for commands to copy.
    """

    def __init__(
        self,
        *,
        relayq: RelayQ,
        sessions: Sessions,
        may_change: bool = False,
        history: History | None = None,
        jobs: Mapping[str, JobType] | None = None,
        is_secure: bool = True,
        one_time_key: str | None = None,
        cookie_suffix: str = "",
        command: str = "relayq",
    ) -> None:
        self.access = Access(
            sessions=sessions,
            may_change=may_change,
            is_secure=is_secure,
            one_time_key=one_time_key,
            cookie_suffix=cookie_suffix,
        )
        self._resolver = LambdaFunctionUrlResolver(debug=False)  # POWERTOOLS_DEV would show tracebacks to every visitor
        self._site = Site(
            relayq=relayq,
            access=self.access,
            history=history,
            jobs={} if jobs is None else jobs,
            command=command,
            resolver=self._resolver,
        )
        self._add_routes()

    def _add_routes(self) -> None:
        screens, changes, bulk_changes = Screens(self._site), Changes(self._site), BulkChanges(self._site)
        for path, show in {**screens.routes, "/dispatch": changes.show_dispatch_form}.items():
            self._resolver.get(ROOT + path)(show)
        for path, change in {**changes.routes, **bulk_changes.routes, "/logout": self.access.log_out}.items():
            self._resolver.post(ROOT + path)(change)
        self._resolver.exception_handler(HttpError)(_answer_http_error)
        self._resolver.exception_handler(RelayQError)(_answer_error)
        self._resolver.exception_handler(Exception)(_answer_defect)
        self._resolver.not_found(_answer_no_route)

    def show_jobs(self, jobs: Mapping[str, JobType]) -> None:
        """Show these job types from now on."""
        self._site.jobs = jobs

    def answer(self, event: Mapping[str, Any], context: Any = None) -> dict[str, Any]:
        """Answer one request. Never raises."""
        try:
            return self._answer({**event, "headers": read_headers(event)}, context)
        except HttpError as error:
            return serialize_response(_answer_http_error(error))
        except Exception as error:
            return serialize_response(_answer_defect(error))

    def _answer(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        path = str(event.get("rawPath", "")).rstrip("/")
        method = read_method(event)
        if path.startswith(f"{ROOT}/static/") and method == "GET":
            return serialize_response(serve_static(path.removeprefix(f"{ROOT}/static/")))
        if path == f"{ROOT}/login":
            return _serialize_with_cookies(self.access.log_in(event, method))
        if path == f"{ROOT}/enter" and method == "GET":
            return _serialize_with_cookies(self.access.enter(event))
        session = self.access.find_session(event)
        if session is None:
            return _serialize_with_cookies(redirect_to_login(event))
        if method not in READING:
            self.access.check_change(event, path, session)
        return resolve(self._resolver, {**event, "rawPath": path}, context)


def _serialize_with_cookies(response: Response[str]) -> dict[str, Any]:
    return {**serialize_response(response), "cookies": [str(cookie) for cookie in response.cookies]}


def _answer_http_error(error: HttpError) -> Response[str]:
    return _show_problem(error.status, str(error), error.headers)


def _answer_error(error: RelayQError) -> Response[str]:
    if isinstance(error, KeyTaken):
        return _show_problem(HTTPStatus.CONFLICT, str(error))
    if isinstance(error, StoreError):
        logger.error("%s", summarize_error(error))
        return _show_problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    return _show_problem(HTTPStatus.BAD_REQUEST, str(error))


def _answer_defect(error: Exception) -> Response[str]:
    """Log the location only: an unexpected error's message may contain a payload."""
    frames = traceback.format_tb(error.__traceback__)[-4:]
    logger.error("a defect of RelayQ: %s", type(error).__name__, extra={"at": frames})
    return _show_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "This is a defect of RelayQ; the log says where.")


def _answer_no_route(error: Exception) -> Response[str]:
    return _show_problem(HTTPStatus.NOT_FOUND, "There is no such page.")


def _show_problem(status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    page = render("problem.html", title=status.phrase, message=cut(message, 2000))
    return make_html(status, page, headers)
