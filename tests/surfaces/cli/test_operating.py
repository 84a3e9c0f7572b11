"""The operator's commands: clear a queue, is all well, bring many failures back."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import typer

from relayq_core.adapters.dynamodb.store import DynamoStore
from relayq_core.adapters.system_clock import SystemClock
from relayq_core.cli import bulk
from relayq_core.client import RelayQ
from relayq_core.errors import StoreError
from relayq_core.operations.bulk import Bulk, BulkOutcome
from tests.support.factories import a_burial, a_job, a_lease
from tests.surfaces.cli.commands import Relayq, dispatched


@pytest.fixture
def store(relayq: Relayq) -> DynamoStore:
    """The tables that the commands work on."""
    found = RelayQ().store
    assert isinstance(found, DynamoStore)
    return found


@pytest.fixture
def bury(store: DynamoStore) -> Callable[..., str]:
    """Put a failed job into the table, as a runner does; keywords are those of its record."""
    now = SystemClock().now

    def buried(job_id: str, error: str = "ValueError: no", *, ago_ms: int = 0, **fields: Any) -> str:
        at = now() - ago_ms
        record = a_job(id=job_id, created_at=at, updated_at=at, available_at=at, due_at=at, **fields)
        store.register_queue(record.queue)
        assert store.add(record).found is None
        claimed = store.claim(job_id, a_lease(f"lease-{job_id}", now=at)).record
        assert claimed is not None
        store.settle(claimed, a_burial(claimed, error, now=at))
        return job_id

    return buried


def spoil(job_id: str) -> None:
    """Write nonsense into a row of the failed table, as by hand."""
    client = boto3.client("dynamodb")
    client.update_item(
        TableName=os.environ["RELAYQ_FAILED_TABLE"],
        Key={"id": {"S": job_id}},
        UpdateExpression="SET #status = :no",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":no": {"S": "nonsense"}},
    )


# --- clear ---


def test_clear_says_what_would_be_and_then_does_it(relayq: Relayq, store: DynamoStore) -> None:
    """A look first; the second time it is done."""
    ids = [dispatched(relayq, "greet", "--queue", "emails", "--delay", delay) for delay in ("0", "0", "1d")]
    store.claim(ids[0], a_lease(now=SystemClock().now()))
    dry = relayq("clear", "emails", "--dry-run")
    assert (dry.code, dry.out) == (0, "would cancel 2, and leave 1 running\n")
    done = relayq("clear", "emails", "--yes", "--json")
    assert (done.code, done.json) == (
        0,
        {
            "queue": "emails",
            "dry_run": False,
            "cancelled": 2,
            "running": 1,
            "gone": 0,
            "refused": [],
            "stopped": False,
        },
    )
    assert [relayq("status", job_id, "--json").json["status"] for job_id in ids] == [
        "processing",
        "cancelled",
        "cancelled",
    ]
    assert relayq("clear", "emails", "--yes").out == "1 running\n"


def test_clear_does_nothing_where_it_cannot_prompt(relayq: Relayq) -> None:
    """A script has to say --yes."""
    job_id = dispatched(relayq, "greet", "--queue", "emails")
    ran = relayq("clear", "emails")
    assert (ran.code, "there is no terminal to ask in; use --yes to clear queue emails" in ran.err) == (2, True)
    assert relayq("status", job_id, "--json").json["status"] == "pending"


def test_clear_of_a_queue_that_is_not_there_says_which_are(relayq: Relayq) -> None:
    """A typing mistake must not look like an empty queue."""
    dispatched(relayq, "greet", "--queue", "emails")
    ran = relayq("clear", "email", "--yes")
    assert (ran.code, 'Did you mean "emails"?' in ran.err) == (4, True)


def test_clear_of_an_empty_queue_asks_nothing(relayq: Relayq) -> None:
    """There is nothing to decide."""
    relayq("cancel", dispatched(relayq, "greet", "--queue", "emails"))
    assert relayq("clear", "emails").out == "no job is waiting or running in queue emails\n"


# --- health ---


def test_health_says_what_is_wrong_and_exits_1(relayq: Relayq, store: DynamoStore) -> None:
    """A monitor reads the exit code, a person the sentence."""
    ran = relayq("health")
    assert (ran.code, "unhealthy: the sweeper has not run yet" in ran.out) == (1, True)
    store.record_tick(SystemClock().now(), {})
    dispatched(relayq, "greet")
    well = relayq("health")
    assert (well.code, well.out.splitlines()[0]) == (
        0,
        "healthy: both tables answer, the sweeper is on time, no job is long overdue",
    )
    assert relayq("health", "--json").json["queues"][0]["live"] == 1


def test_health_survives_a_table_that_is_missing(relayq: Relayq, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what one asks when something is wrong."""
    monkeypatch.setenv("RELAYQ_FAILED_TABLE", "nowhere")
    ran = relayq("health", "--json")
    assert (ran.code, ran.json["healthy"]) == (1, False)
    assert "table 'nowhere' does not exist" in ran.json["problems"][0]


# --- failed ---


def test_failures_are_listed_as_the_filters_say(relayq: Relayq, bury: Callable[..., str]) -> None:
    """Queue, name, error and age; all of them at once."""
    bury("a", "Card declined", name="pay", queue="one", ago_ms=7_200_000)
    bury("b", "Timed out", name="pay", queue="two")
    bury("c", "card lost", name="post", queue="one")

    def listed(*options: str) -> set[str]:
        return {job["id"] for job in relayq("failed", "list", *options, "--json").json["jobs"]}

    assert listed() == {"a", "b", "c"}
    assert listed("--job", "pay", "--error", "CARD") == {"a"}
    assert listed("--since", "1h", "--queue", "one") == {"c"}
    assert listed("--limit", "1") != set()
    assert "no failed job matches" in relayq("failed", "list", "--error", "nothing").out


def test_many_are_redriven_by_filter_with_a_summary_of_refusals(
    relayq: Relayq, bury: Callable[..., str], store: DynamoStore
) -> None:
    """Each refusal is reported by name; the exit code says that not all was done."""
    for n in range(3):
        bury(f"job-{n}", name="pay")
    bury("keyed", name="pay", unique_pk="unique#pay#k")
    holder = dispatched(relayq, "pay", "--unique", "k")
    bury("other", name="post")
    ran = relayq("failed", "redrive", "--job", "pay", "--yes")
    assert ran.code == 1
    assert "3 redriven" in ran.out
    assert "1 refused" in ran.out
    assert f"keyed: job 'keyed' cannot be redriven: its unique key is held by job '{holder}'" in ran.out
    assert {job.id for job in store.list_failed("emails", 10)} == {"keyed", "other"}


def test_a_dry_run_shows_which_and_touches_none(relayq: Relayq, bury: Callable[..., str]) -> None:
    """For redrive and for forget."""
    bury("mine", "Card declined")
    for verb, done in (("redrive", "redriven"), ("forget", "forgotten")):
        ran = relayq("failed", verb, "--error", "card", "--dry-run")
        assert (ran.code, ran.out.splitlines()[-1]) == (0, f"would {verb} 1")
        told = relayq("failed", verb, "mine", "--dry-run", "--json").json
        assert (told["matched"], told[done], told["gone"]) == (1, 0, 0)
        assert [(job["id"], job["error"]) for job in told["jobs"]] == [("mine", "Card declined")]
    assert relayq("failed", "show", "mine").code == 0


def test_a_dry_run_by_id_looks_whether_they_are_there(relayq: Relayq, bury: Callable[..., str]) -> None:
    """It ends as the real one does: of one id that leads nowhere with 4, of several with the count of those gone."""
    bury("mine", "Card declined")
    for verb in ("redrive", "forget"):
        one, real = relayq("failed", verb, "nosuch", "--dry-run"), relayq("failed", verb, "nosuch")
        assert (
            (one.code, one.err) == (real.code, real.err) == (4, "error: there is no job 'nosuch' in the failed table\n")
        )
        ran = relayq("failed", verb, "nosuch", "mine", "--dry-run")
        assert (ran.code, ran.out.splitlines()[-1]) == (0, f"would {verb} 1; 1 gone")
        assert "Card declined" in ran.out
        told = relayq("failed", verb, "nosuch", "mine", "--dry-run", "--json").json
        assert (told["matched"], told["gone"], [job["id"] for job in told["jobs"]]) == (2, 1, ["mine"])


def test_a_dry_run_counts_a_row_that_cannot_be_read_as_the_real_one_does(
    relayq: Relayq, bury: Callable[..., str]
) -> None:
    """It cannot be brought back; it can be forgotten."""
    bury("mine")
    spoil("mine")
    ran = relayq("failed", "redrive", "mine", "nosuch", "--dry-run")
    assert (ran.code, ran.out.splitlines()[0]) == (1, "would redrive 0; 1 refused, 1 gone")
    assert "mine: " in ran.out
    ran = relayq("failed", "forget", "mine", "nosuch", "--dry-run", "--json")
    assert (ran.code, ran.json["jobs"], ran.json["refused"]) == (0, [{"id": "mine"}], [])


def test_many_are_forgotten_newest_first_up_to_a_limit(
    relayq: Relayq, bury: Callable[..., str], store: DynamoStore
) -> None:
    """--all says that all are selected."""
    for n in range(3):
        bury(f"job-{n}", ago_ms=1_000 * n)
    told = relayq("failed", "forget", "--all", "--limit", "2", "--yes", "--json").json
    assert (told["matched"], told["forgotten"], told["stopped"]) == (2, 2, False)
    assert [job.id for job in store.list_failed("emails", 10)] == ["job-2"]


def test_several_ids_need_no_question(relayq: Relayq, bury: Callable[..., str]) -> None:
    """They were named one by one; what is not there any more is no error."""
    bury("a")
    bury("b")
    told = relayq("failed", "redrive", "a", "b", "c", "a", "--json").json
    assert (told["matched"], told["redriven"], told["gone"]) == (3, 2, 1)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "say which jobs: their ids; --queue, --job, --error or --since; or --all"),
        (["--all", "--job", "pay"], "--all means all"),
        (["mine", "--job", "pay"], "either ids, or options"),
        (["mine", "yours", "--all"], "either ids, or options"),
        (["--all"], "use --yes to redrive 1 failed job"),
        (["--all", "--rate", "0"], "0.01"),
        (["--since", "yesterday"], "expected a duration"),
    ],
)
def test_a_mistyped_redrive_touches_nothing(
    relayq: Relayq, bury: Callable[..., str], argv: list[str], sentence: str
) -> None:
    """Least of all everything."""
    bury("mine")
    ran = relayq("failed", "redrive", *argv)
    assert (ran.code, sentence in ran.err) == (2, True), ran.err
    assert relayq("failed", "show", "mine").code == 0


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operator presses Ctrl-C while the second job is being worked on."""
    original = Bulk._redrive_one
    calls: list[str] = []

    def redriven(self: Bulk, job_id: str) -> BulkOutcome:
        calls.append(job_id)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, job_id)

    monkeypatch.setattr(Bulk, "_redrive_one", redriven)
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("interrupting")
def test_ctrl_c_ends_it_after_the_job_in_hand(relayq: Relayq, bury: Callable[..., str], store: DynamoStore) -> None:
    """That one is done whole, the rest is untouched, and the summary says so."""
    for n in range(4):
        bury(f"job-{n}", ago_ms=1_000 * n)
    ran = relayq("failed", "redrive", "--all", "--yes")
    assert (ran.code, ran.out) == (1, "2 redriven; stopped before the rest\n")
    assert "note: stopping after this job" in ran.err
    assert [job.id for job in store.list_failed("emails", 10)] == ["job-2", "job-3"]


def test_a_terminal_sees_how_far_it_is(
    relayq: Relayq, bury: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar on stderr, of as many as were chosen; what is printed in the end is the same."""
    for n in range(3):
        bury(f"job-{n}")
    monkeypatch.setattr(bulk, "is_fancy", lambda stream: stream is sys.stderr)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    ran = relayq("failed", "redrive", "--all", "--yes")
    assert (ran.code, ran.out) == (0, "3 redriven\n")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ran.err)
    assert "redrive" in plain
    assert "3/3" in plain


def test_a_table_that_refuses_all_ends_it_with_the_counts(
    relayq: Relayq, bury: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not end with five hundred refusals."""
    for n in range(10):
        bury(f"job-{n}")

    def denied(*_: Any) -> bool:
        raise StoreError("forget was denied", "grant it")

    monkeypatch.setattr(DynamoStore, "forget", denied)
    ran = relayq("failed", "forget", "--all", "--yes")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: forget was denied; grant it (until then: 4 refused)\n"


def test_a_question_that_is_answered_with_no_changes_nothing(
    relayq: Relayq, bury: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question says how many, and how long it takes."""
    bury("mine")
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)

    def no(question: str, **_: Any) -> None:
        asked.append(question)
        raise typer.Abort

    monkeypatch.setattr("typer.confirm", no)
    assert relayq("failed", "redrive", "--all", "--rate", "0.1").code == 1
    assert asked == ["Redrive 1 failed job at 0.1 per second, about 10 s?"]
    assert relayq("failed", "show", "mine").code == 0


# --- queues forget ---


def test_a_queue_without_jobs_is_forgotten(relayq: Relayq) -> None:
    """Its name counts no longer; it is swept, and so listed, for a day more."""
    job_id = dispatched(relayq, "greet", "--queue", "misspelt")
    refused = relayq("queues", "forget", "misspelt")
    assert (refused.code, refused.err[:44]) == (1, "error: queue: 'misspelt' has jobs that wait ")
    relayq("cancel", job_id)
    assert relayq("queues", "forget", "misspelt", "--json").json == {"forgotten": "misspelt"}
    again, unknown = relayq("queues", "forget", "misspelt"), relayq("queues", "forget", "another")
    assert (again.code, unknown.code) == (4, 4)
    assert "is forgotten already" in again.err
    assert "there is no queue 'another'" in unknown.err


@pytest.mark.parametrize("words", [["forget"], ["misspelt"], ["forget", "a", "b"], ["drop", "a"], ["forget", "a b"]])
def test_what_is_no_forget_is_a_usage_error(relayq: Relayq, words: list[str]) -> None:
    """Nothing is guessed."""
    assert relayq("queues", *words).code == 2
