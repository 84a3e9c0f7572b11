"""What the environment says: each variable, and every way to write it wrong."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayq_core import Exponential, Fixed, Settings, SettingsError
from relayq_core.model.backoff import DEFAULT_BACKOFF, build_backoff
from relayq_core.model.options import find_function
from relayq_core.model.policy import Policy
from relayq_core.settings import KNOWN

#: variable -> (text, field, value)
GOOD: dict[str, tuple[str, str, Any]] = {
    "RELAYQ_JOBS_TABLE": ("jobs", "jobs_table", "jobs"),
    "RELAYQ_FAILED_TABLE": ("failed", "failed_table", "failed"),
    "RELAYQ_RUNNER_FUNCTION": (
        "arn:aws:lambda:eu-west-1:1:function:r",
        "runner_function",
        "arn:aws:lambda:eu-west-1:1:function:r",
    ),
    "RELAYQ_RUNNER_FUNCTIONS": ('{"reports": "heavy"}', "runner_functions", {"reports": "heavy"}),
    "RELAYQ_HANDOFF": ("none", "handoff", "none"),
    "RELAYQ_HTTP_ENDPOINT": ("https://a.example/_relayq/run", "http_endpoint", "https://a.example/_relayq/run"),
    "RELAYQ_HTTP_TOKEN": ("abcdefgh01234567, 76543210hgfedcba", "http_token", ("abcdefgh01234567", "76543210hgfedcba")),
    "RELAYQ_DASHBOARD": ("write", "dashboard", "write"),
    "RELAYQ_HTTP_TOKEN_SECRET": ("/relayq/token", "http_token_secret", "/relayq/token"),
    "RELAYQ_JOB_MODULES": ("jobs, shop.background ,", "job_modules", ("jobs", "shop.background")),
    "RELAYQ_DEFAULT_QUEUE": ("main", "default_queue", "main"),
    "RELAYQ_MAX_WAIT_SECONDS": ("0", "max_wait_seconds", 0),
    "RELAYQ_LOOKAHEAD_SECONDS": ("600", "lookahead_seconds", 600),
    "RELAYQ_STALE_SECONDS": ("1", "stale_seconds", 1),
    "RELAYQ_LEASE_GRACE_SECONDS": ("600", "lease_grace_seconds", 600),
    "RELAYQ_SWEEP_LIMIT": ("1000", "sweep_limit", 1000),
    "RELAYQ_RETENTION_SECONDS": ("0", "retention_seconds", 0),
    "RELAYQ_FAILED_RETENTION_SECONDS": ("60", "failed_retention_seconds", 60),
    "RELAYQ_MAX_ATTEMPTS": ("1000", "max_attempts", 1000),
    "RELAYQ_BACKOFF": ("10,30,60", "backoff", build_backoff([10.0, 30.0, 60.0])),
    "RELAYQ_TIMEOUT": ("0", "timeout", 0),
    "RELAYQ_RUNNER_TIMEOUT_SECONDS": ("900", "runner_timeout_seconds", 900),
    "RELAYQ_MAX_DEPTH": ("1", "max_depth", 1),
    "RELAYQ_REDIS_URL": (
        "rediss://user:p%40ss@cache.example:6380/1?ssl_cert_reqs=none",
        "redis_url",
        "rediss://user:p%40ss@cache.example:6380/1?ssl_cert_reqs=none",
    ),
    "RELAYQ_REDIS_PREFIX": ("shop:", "redis_prefix", "shop:"),
    "RELAYQ_EVENT_BUS": (
        "arn:aws:events:eu-west-1:123456789012:event-bus/shop.events",
        "event_bus",
        "arn:aws:events:eu-west-1:123456789012:event-bus/shop.events",
    ),
}

#: (variable, text, what the sentence says)
BAD = [
    ("RELAYQ_JOBS_TABLE", " jobs", "expected a name without spaces around it, got ' jobs'"),
    ("RELAYQ_JOBS_TABLE", " ", "expected a name without spaces around it"),
    ("RELAYQ_EVENT_BUS", "my bus", "expected the name or the ARN of an event bus, got 'my bus'"),
    ("RELAYQ_EVENT_BUS", "arn:aws:sns:eu-west-1:123456789012:topic", "expected the name or the ARN of an event bus"),
    ("RELAYQ_RUNNER_FUNCTIONS", "reports=heavy", "expected JSON that maps queues to functions"),
    ("RELAYQ_RUNNER_FUNCTIONS", "[]", "expected JSON that maps queues to functions"),
    ("RELAYQ_RUNNER_FUNCTIONS", '{"reports": 5}', "expected JSON that maps queues to functions"),
    ("RELAYQ_RUNNER_FUNCTIONS", '{"reports": ""}', "expected JSON that maps queues to functions"),
    ("RELAYQ_RUNNER_FUNCTIONS", '{"re ports": "heavy"}', "expected 1 to 64 letters, digits, '_', '.' or '-'"),
    ("RELAYQ_RUNNER_FUNCTIONS", '{"**": "heavy"}', "expected 1 to 64 letters, digits, '_', '.' or '-'"),
    ("RELAYQ_RUNNER_FUNCTIONS", '{"a*b": "heavy"}', "expected 1 to 64 letters, digits, '_', '.' or '-'"),
    ("RELAYQ_RUNNER_FUNCTIONS", '{"-*": "heavy"}', "expected 1 to 64 letters, digits, '_', '.' or '-'"),
    ("RELAYQ_RUNNER_FUNCTIONS", f'{{"{"a" * 64}*": "heavy"}}', "expected 1 to 64 letters, digits, '_', '.' or '-'"),
    ("RELAYQ_RUNNER_FUNCTIONS", "[" * 4000, "expected JSON that maps queues to functions"),
    ("RELAYQ_HANDOFF", "lamda", "expected lambda, http or none, got 'lamda'. Did you mean \"lambda\"?"),
    ("RELAYQ_DASHBOARD", "reed", "expected none, read or write, got 'reed'. Did you mean \"read\"?"),
    ("RELAYQ_HANDOFF", "LAMBDA", "expected lambda, http or none"),
    ("RELAYQ_HTTP_ENDPOINT", "https://a.example/", "expected a URL such as https://example.com/_relayq/run"),
    ("RELAYQ_HTTP_ENDPOINT", "https://a.example/_relayq/run/", "expected a URL"),
    ("RELAYQ_HTTP_ENDPOINT", "https://a.example/_relayq/run?token=x", "without user, query or fragment"),
    ("RELAYQ_HTTP_ENDPOINT", "https://me:secret@a.example/_relayq/run", "without user, query or fragment"),
    ("RELAYQ_HTTP_ENDPOINT", "ftp://a.example/_relayq/run", "expected a URL"),
    ("RELAYQ_HTTP_ENDPOINT", "http://a.example/_relayq/run", "expected https: over http the token could be read"),
    ("RELAYQ_HTTP_ENDPOINT", "http://127.0.0.1.example/_relayq/run", "expected https"),
    ("RELAYQ_HTTP_TOKEN", "a" * 15, "each of 16 to 256 letters"),
    ("RELAYQ_HTTP_TOKEN", "a" * 257, "each of 16 to 256 letters"),
    ("RELAYQ_HTTP_TOKEN", ",".join(["a" * 16] * 3), "expected one token, or two separated by a comma"),
    ("RELAYQ_HTTP_TOKEN", "a" * 16 + ",", "expected one token, or two"),
    ("RELAYQ_HTTP_TOKEN", '{"token":"aaaaaaaaaaaaaaaa"}', "what was found is not shown"),
    ("RELAYQ_HTTP_TOKEN", "a" * 16 + "\N{LATIN SMALL LETTER E WITH ACUTE}", "what was found is not shown"),
    ("RELAYQ_HTTP_TOKEN_SECRET", " name", "expected a name without spaces around it"),
    ("RELAYQ_JOB_MODULES", ",", "expected module names separated by commas"),
    ("RELAYQ_JOB_MODULES", "jobs;shop", "got 'jobs;shop'"),
    ("RELAYQ_JOB_MODULES", "jobs.py/", "expected module names"),
    ("RELAYQ_JOB_MODULES", "jobs..mail", "expected module names"),
    ("RELAYQ_DEFAULT_QUEUE", "my queue", "expected 1 to 64 letters, digits, '_', '.' or '-'"),
    ("RELAYQ_MAX_WAIT_SECONDS", "601", "expected a whole number from 0 to 600, got '601'"),
    ("RELAYQ_MAX_WAIT_SECONDS", "-1", "got '-1'"),
    ("RELAYQ_MAX_WAIT_SECONDS", "1.5", "got '1.5'"),
    ("RELAYQ_MAX_WAIT_SECONDS", "1e2", "got '1e2'"),
    ("RELAYQ_MAX_WAIT_SECONDS", "6_0", "got '6_0'"),
    ("RELAYQ_MAX_WAIT_SECONDS", " 60", "got ' 60'"),
    ("RELAYQ_MAX_WAIT_SECONDS", "60\n", r"got '60\n'"),
    ("RELAYQ_MAX_WAIT_SECONDS", "60s", "got '60s'"),
    ("RELAYQ_MAX_WAIT_SECONDS", "\N{ARABIC-INDIC DIGIT SIX}", "expected a whole number from 0 to 600"),
    ("RELAYQ_MAX_WAIT_SECONDS", "\N{SUPERSCRIPT TWO}", "expected a whole number from 0 to 600"),
    ("RELAYQ_MAX_WAIT_SECONDS", "9" * 5000, "got '9999999999999999999999999999999999999999'"),
    ("RELAYQ_LOOKAHEAD_SECONDS", "1h", "expected a whole number from 0 to 600"),
    ("RELAYQ_STALE_SECONDS", "0", "expected a whole number from 1 to 3600"),
    ("RELAYQ_LEASE_GRACE_SECONDS", "0", "expected a whole number from 1 to 600"),
    ("RELAYQ_SWEEP_LIMIT", "1001", "expected a whole number from 1 to 1000"),
    ("RELAYQ_RETENTION_SECONDS", "for ever", "expected a whole number from 0 to 315360000"),
    ("RELAYQ_FAILED_RETENTION_SECONDS", "59", "expected a whole number from 60 to 315360000"),
    ("RELAYQ_MAX_ATTEMPTS", "0", "expected a whole number from 1 to 1000"),
    ("RELAYQ_BACKOFF", "exponental:10", 'Did you mean "exponential"?'),
    ("RELAYQ_TIMEOUT", "none", "expected a whole number from 0 to 86400"),
    ("RELAYQ_RUNNER_TIMEOUT_SECONDS", "901", "expected a whole number from 0 to 900"),
    ("RELAYQ_MAX_DEPTH", "0", "expected a whole number from 1 to 100000"),
    ("RELAYQ_REDIS_URL", "localhost:6379", "expected redis://HOST:PORT/DB, rediss:// with TLS, or unix:///PATH"),
    ("RELAYQ_REDIS_URL", "https://:s3cret@cache.example", "what was found is not shown, it may hold a password"),
    ("RELAYQ_REDIS_URL", "redis://", "expected redis://HOST:PORT/DB"),
    ("RELAYQ_REDIS_URL", "redis://:s3cret@cache.example:65536", "expected redis://HOST:PORT/DB"),
    ("RELAYQ_REDIS_URL", "redis://cache.example:port", "expected redis://HOST:PORT/DB"),
    ("RELAYQ_REDIS_URL", "redis://cache.example/0 ", "expected redis://HOST:PORT/DB"),
    ("RELAYQ_REDIS_PREFIX", " ", "expected a name without spaces around it, got ' '"),
]


@pytest.mark.parametrize("variable", GOOD)
def test_every_variable_is_read(variable: str) -> None:
    """Each alone: none needs another."""
    text, field, value = GOOD[variable]
    assert Settings.from_environ({variable: text}) == replace(Settings(), **{field: value})


def test_all_variables_together_are_read() -> None:
    """As the template sets them."""
    found = Settings.from_environ({variable: text for variable, (text, _, _) in GOOD.items()})
    assert {known.name: getattr(found, known.name) for known in fields(Settings)} == {
        field: value for _, field, value in GOOD.values()
    }


def test_this_table_covers_every_variable() -> None:
    """A new setting comes with a line above; the template's variables are compared with KNOWN."""
    any_name_will_do = {"RELAYQ_FAILED_TABLE", "RELAYQ_RUNNER_FUNCTION"}
    assert set(GOOD) == KNOWN - {"RELAYQ_ARCH"}
    assert {variable for variable, _, _ in BAD} == set(GOOD) - any_name_will_do


@pytest.mark.parametrize(("variable", "text", "says"), BAD)
def test_a_malformed_value_is_refused_in_words(variable: str, text: str, says: str) -> None:
    """The function fails at its start, where a deploy is watched, and not when the first job comes."""
    with pytest.raises(SettingsError) as raised:
        Settings.from_environ({variable: text})
    assert raised.value.variable == variable
    assert str(raised.value).startswith(f"{variable}: ")
    assert says in str(raised.value)
    assert len(str(raised.value)) < 300


@given(st.sampled_from(sorted(GOOD)), st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_whatever_a_variable_holds_the_answer_is_settings_or_a_sentence(variable: str, text: str) -> None:
    """No text in the environment may end in a traceback of ours."""
    try:
        found = Settings.from_environ({variable: text})
    except SettingsError as error:
        found = None
        told = str(error)
    assert isinstance(found, Settings) or told.startswith(f"{variable}: ")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/x/_relayq/run", "http://localhost/_relayq/run", "http://[::1]:80/_relayq/run"]
)
def test_an_endpoint_on_this_machine_may_do_without_encryption(url: str) -> None:
    """What never leaves the machine cannot be read on its way: an emulator has no certificate."""
    assert Settings.from_environ({"RELAYQ_HTTP_ENDPOINT": url}).http_endpoint == url


def test_a_token_is_shown_nowhere() -> None:
    """Settings are printed and logged, and so are errors."""
    assert "0123456789abcdef" not in repr(Settings.from_environ({"RELAYQ_HTTP_TOKEN": "0123456789abcdef"}))
    for text in ("hunter2", "hunter2, 0123456789abcdef", "hunter2 0123456789abcdef"):
        with pytest.raises(SettingsError) as raised:
            Settings.from_environ({"RELAYQ_HTTP_TOKEN": text})
        assert "hunter2" not in str(raised.value)


def test_a_misspelt_variable_is_refused_with_the_nearest() -> None:
    """It would otherwise have no effect, and it would not be noticed."""
    with pytest.raises(SettingsError) as raised:
        Settings.from_environ({"RELAYQ_MAX_ATEMPTS": "5"})
    assert str(raised.value) == 'RELAYQ_MAX_ATEMPTS: there is no such setting. Did you mean "RELAYQ_MAX_ATTEMPTS"?'


def test_a_misspelt_variable_is_refused_even_if_it_is_empty() -> None:
    """The mistake is in its name."""
    with pytest.raises(SettingsError, match="there is no such setting"):
        Settings.from_environ({"RELAYQ_QUEUE": ""})


def test_other_peoples_variables_are_let_be() -> None:
    """An environment is full of them; RELAYQ_ARCH is the build's."""
    others = {"PATH": "/bin", "relayq_jobs_table": "x", "MY_RELAYQ_JOBS_TABLE": "x", "RELAYQ_ARCH": "host"}
    assert Settings.from_environ(others) == Settings()


def test_an_empty_value_says_nothing() -> None:
    """CloudFormation has no way to leave a variable out of one function."""
    assert Settings.from_environ(dict.fromkeys(GOOD, "")) == Settings()


def test_the_defaults_are_those_of_the_promise() -> None:
    """People rely on them without ever having written them down."""
    assert Settings.from_environ({}) == Settings(
        jobs_table="",
        failed_table="",
        runner_function="",
        runner_functions={},
        handoff="lambda",
        http_endpoint="",
        http_token=(),
        http_token_secret="",
        job_modules=("jobs",),
        default_queue="default",
        max_wait_seconds=65,
        lookahead_seconds=75,
        stale_seconds=30,
        lease_grace_seconds=10,
        sweep_limit=200,
        retention_seconds=604_800,
        failed_retention_seconds=7_776_000,
        max_attempts=3,
        backoff=Exponential(10, cap=3600, jitter=0.1),
        timeout=0,
        max_depth=100,
        redis_url="",
        redis_prefix="relayq:",
    )


def test_without_an_environment_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is the one place where it is."""
    monkeypatch.setenv("RELAYQ_JOBS_TABLE", "from-here")
    assert Settings.from_environ().jobs_table == "from-here"


def test_a_missing_setting_is_named_with_where_to_find_it() -> None:
    """The first thing that goes wrong for everybody."""
    settings = Settings(jobs_table="jobs")
    assert settings.require("jobs_table") is settings
    with pytest.raises(SettingsError, match="RELAYQ_RUNNER_FUNCTION: it is not set; take it from the outputs"):
        settings.require("jobs_table", "runner_function")


def test_decisions_are_made_in_milliseconds() -> None:
    """A factor of a thousand in one of them would be a long night."""
    settings = Settings(
        handoff="none",
        max_wait_seconds=1,
        stale_seconds=2,
        lease_grace_seconds=3,
        retention_seconds=4,
        failed_retention_seconds=5,
        max_attempts=6,
        backoff=Fixed(7),
        timeout=8,
    )
    assert settings.policy == Policy(
        hands_off=False,
        max_wait_ms=1000,
        stale_ms=2000,
        grace_ms=3000,
        retention_ms=4000,
        failed_retention_ms=5000,
        max_attempts=6,
        backoff=Fixed(7),
        timeout_ms=8000,
    )


def test_the_default_policy_is_that_of_the_default_settings() -> None:
    """Tests and simulations use the one, functions the other."""
    assert Settings().policy == Policy(max_attempts=3, backoff=DEFAULT_BACKOFF)
    assert Settings().policy.timeout_ms is None


@pytest.mark.parametrize(
    ("queue", "function"),
    [
        ("orders", "orders-runner"),  # its own name is nearest
        ("orders-eu", "orders-all"),
        ("orders-eu-1", "orders-all"),
        ("orders-us", "orders-us-runner"),
        ("orders-us-1", "orders-us-all"),
        ("orders-", "orders-all"),
        ("order", "rest"),
        ("mail", "rest"),
    ],
)
def test_a_queues_runner_is_the_one_whose_name_is_nearest(queue: str, function: str) -> None:
    """By its name, else by the longest beginning, else by `*`."""
    functions = Settings.from_environ(
        {
            "RELAYQ_RUNNER_FUNCTIONS": '{"*": "rest", "orders-*": "orders-all", "orders": "orders-runner",'
            ' "orders-us": "orders-us-runner", "orders-us-*": "orders-us-all"}'
        }
    ).runner_functions
    assert find_function(queue, functions) == function
    without = {name: to for name, to in functions.items() if name != "*"}
    assert find_function("mail", without) is None
    assert find_function("mail", {}) is None


@pytest.mark.parametrize("service", ["RELAYQ", "RELAYQ_REDIS", "RELAYQ_HTTP", "RELAYQ_JOBS_TABLE", "RELAYQ_A_PORT_B"])
def test_what_kubernetes_says_of_a_service_is_no_setting(service: str) -> None:
    """A Service whose name begins with relayq puts these into each container of its namespace."""
    links = {
        f"{service}_SERVICE_HOST": "10.96.0.12",
        f"{service}_SERVICE_PORT": "8642",
        f"{service}_SERVICE_PORT_HTTP": "8642",
        f"{service}_PORT": "tcp://10.96.0.12:8642",
        f"{service}_PORT_8642_TCP": "tcp://10.96.0.12:8642",
        f"{service}_PORT_8642_TCP_PROTO": "tcp",
        f"{service}_PORT_8642_TCP_PORT": "8642",
        f"{service}_PORT_8642_TCP_ADDR": "10.96.0.12",
        f"{service}_PORT_53_UDP": "udp://[fd00::1]:53",
        f"{service}_PORT_53_UDP_PROTO": "udp",
        f"{service}_PORT_53_UDP_PORT": "53",
        f"{service}_PORT_53_UDP_ADDR": "fd00::1",
    }
    assert Settings.from_environ({**links, "RELAYQ_TIMEOUT": "5"}) == Settings(timeout=5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RELAYQ_PORT", "8642"),
        ("RELAYQ_REDIS_PORT", "6379"),
        ("RELAYQ_REDIS_HOST", "10.96.0.12"),
        ("RELAYQ_SERVICE_PORT", "http"),
        ("RELAYQ_SERVICE_HOST", ""),
        ("RELAYQ_PORT_8642_TCP_PROTO", "http"),
        ("RELAYQ_SUPPORT", "tcp://10.96.0.12:8642"),
        ("RELAYQ_JOBS_TABEL", "tcp://10.96.0.12:8642"),
        ("RELAYQ_PORT_TCP", "tcp://10.96.0.12:8642"),
    ],
)
def test_what_only_looks_like_a_service_is_a_mistake(name: str, value: str) -> None:
    """A typing error must not become a setting that is not there."""
    with pytest.raises(SettingsError, match="there is no such setting"):
        Settings.from_environ({name: value})


def test_outside_of_lambda_a_missing_setting_names_the_local_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer who tries the README's first lines has no stack; a function has no shell."""
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    with pytest.raises(SettingsError, match=r"`\. \.relayq/dev\.env` in this shell while `relayq dev` runs"):
        Settings().require("jobs_table")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop")
    with pytest.raises(SettingsError) as raised:
        Settings().require("jobs_table")
    assert "relayq dev" not in str(raised.value)
