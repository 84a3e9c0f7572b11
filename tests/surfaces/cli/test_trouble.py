"""What stands between a command and AWS is reported in a sentence that says what to do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from relayq_core.local.server import Server
from tests.surfaces.cli.commands import Relayq

HTML = b"<!doctype html><title>500 Internal Server Error</title>"


def _no_aws(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("500 Internal Server Error", [("Content-Type", "text/html")])
    return [HTML]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """AWS_ENDPOINT_URL leads to a server that knows nothing of stacks, as `relayq dev` does."""
    server = Server(_no_aws, 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield server.url
    server.close()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """AWS_ENDPOINT_URL leads to a port where nothing listens any more."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return url


@pytest.mark.parametrize("argv", [("--stack", "foo", "list"), ("doctor", "--stack", "foo"), ("logs", "x")])
def test_a_stack_is_not_to_be_had_from_relayq_dev(relayq: Relayq, elsewhere: str, argv: tuple[str, ...]) -> None:
    """Its lines stay in the terminal's environment while one asks for the real thing."""
    argv = (*argv, "--stack", "foo") if argv[0] == "logs" else argv
    ran = relayq(*argv)
    assert ran.code == 1
    assert f"{elsewhere} (AWS_ENDPOINT_URL) does not answer as AWS does; if it is `relayq dev`" in ran.err
    assert "doctype" not in ran.err
    assert "report it" not in ran.err


@pytest.mark.parametrize("argv", [("status", "x"), ("tables", "create"), ("--stack", "foo", "list")])
def test_a_relayq_dev_that_has_ended_is_asked_after(relayq: Relayq, nowhere: str, argv: tuple[str, ...]) -> None:
    """The terminal still leads to it."""
    ran = relayq(*argv)
    assert ran.code == 1
    assert f"nothing answers at {nowhere}" in ran.err
    assert "AWS_ENDPOINT_URL leads there: is `relayq dev` running?" in ran.err
    assert "throttling" not in ran.err


@pytest.mark.parametrize("argv", [("tables", "create"), ("--stack", "foo", "list"), ("doctor", "--stack", "foo")])
def test_a_missing_region_is_reported_with_what_to_do(
    relayq: Relayq, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    """By every command, not by those alone that ask the tables first."""
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert relayq(*argv).err == ("error: no AWS region is set; use --region, or set AWS_DEFAULT_REGION\n")


def test_a_profile_that_is_not_there_is_reported_with_what_to_do(
    relayq: Relayq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The AWS command line knows which ones there are."""
    monkeypatch.delenv("AWS_CONFIG_FILE", raising=False)
    ran = relayq("--profile", "nope", "list")
    assert ran.code == 1
    assert "The config profile (nope) could not be found; `aws configure list-profiles` lists" in ran.err


def test_all_settings_that_a_command_lacks_are_named_at_once(relayq: Relayq, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not reported one after the other; and what a running `relayq dev` has written gives them all."""
    for name in ("RELAYQ_JOBS_TABLE", "RELAYQ_FAILED_TABLE", "RELAYQ_HANDOFF"):
        monkeypatch.delenv(name)
    told = relayq("dispatch", "x", "--wait").err
    assert "RELAYQ_JOBS_TABLE: it is not set, nor is RELAYQ_FAILED_TABLE or RELAYQ_RUNNER_FUNCTION; take it" in told
    assert "or `. .relayq/dev.env` in this shell while `relayq dev` runs" in told


@pytest.mark.parametrize("argv", [("list",), ("queues",)])
def test_what_shows_live_jobs_needs_no_table_of_failed_ones(
    relayq: Relayq, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    """It is not asked."""
    monkeypatch.delenv("RELAYQ_FAILED_TABLE")
    assert relayq(*argv).code == 0
