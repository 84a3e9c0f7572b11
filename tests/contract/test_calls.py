"""What is tried again, and what an error means: each sentence says what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from relayq_core import RelayQ, Settings
from relayq_core.adapters.dynamodb.store import DynamoStore
from relayq_core.errors import StoreError, StoreUnavailable
from relayq_core.ports import Added, Answer, JobStore, Settled
from relayq_core.process.budget import calls_within, seconds_left
from relayq_core.testing import ManualClock, RecordingHandoff
from tests.contract.engines import Tables
from tests.contract.faults import Refusal, answers_lost, never_sent, recorded, refusing
from tests.support.factories import a_burial, a_job, a_lease, a_redrive, completion

KEY = "unique#send_email#welcome:7"
THROTTLES = ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"]
CONFLICT = ("TransactionConflict", "None")

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def tables(moto_tables: Tables) -> Tables:
    """How an answer is read does not depend on the engine behind it."""
    return moto_tables


@pytest.fixture
def store(tables: Tables, clock: ManualClock) -> JobStore:
    """The adapter under test."""
    return tables.store(clock)


@contextmanager
def refused_with(*parts: str) -> Iterator[None]:
    """A StoreError whose sentence holds all of these, and which is not a maybe."""
    with pytest.raises(StoreError) as error:
        yield
    assert not isinstance(error.value, StoreUnavailable)
    for part in parts:
        assert part in str(error.value)


# --- again ---


#: Two tries of one transaction may overlap: the first takes effect, though the second hears that it is in progress.
OVERLAPS = ["TransactionInProgressException", "ReplicatedWriteConflictException", "ServiceUnavailable"]


@pytest.mark.parametrize("code", [*OVERLAPS, *THROTTLES, "TransactionConflictException"])
def test_a_transaction_that_may_have_taken_effect_is_never_called_refused(
    store: JobStore, tables: Tables, no_waiting: list[float], code: str
) -> None:
    """The caller would dispatch again under another id, and both jobs would run."""
    with refusing(tables.client, "TransactWriteItems", Refusal(code), times=6) as sent:
        assert store.add(a_job(unique_pk=KEY)) == Added()
    assert no_waiting
    assert len({body["ClientRequestToken"] for body in sent.bodies}) == 1
    with refusing(tables.client, "TransactWriteItems", Refusal(code)), pytest.raises(StoreUnavailable):
        store.add(a_job(id="job-2", unique_pk="unique#send_email#other"))


@pytest.mark.parametrize("code", [*THROTTLES, "TransactionConflictException", "InternalServerError"])
def test_what_changed_nothing_is_tried_again(
    store: JobStore, tables: Tables, no_waiting: list[float], code: str
) -> None:
    """botocore sends a request once; without more tries the job would be lost."""
    with refusing(tables.client, "PutItem", Refusal(code), times=6):
        assert store.add(a_job()) == Added()
    assert no_waiting
    assert all(0 <= wait <= 2 for wait in no_waiting)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_of_any_name_is_a_maybe(store: JobStore, tables: Tables, status: int) -> None:
    """A proxy's or a server's failure says nothing about the write: it is no refusal."""
    with refusing(tables.client, "PutItem", Refusal("SomethingNew", status), times=6):
        assert store.add(a_job()) == Added()
    with refusing(tables.client, "PutItem", Refusal("SomethingNew", status)), pytest.raises(StoreUnavailable):
        store.add(a_job(id="job-2"))


@pytest.mark.parametrize(
    "reasons",
    [
        ("TransactionConflict", "None"),
        ("None", "ThrottlingError"),
        ("ProvisionedThroughputExceeded", "None"),
        # a conflict beside a refusal: the refusal may be gone when the conflict is
        ("TransactionConflict", "ConditionalCheckFailed"),
    ],
)
def test_a_transaction_that_met_another_is_tried_again(
    store: JobStore, tables: Tables, reasons: tuple[str, ...]
) -> None:
    """botocore retries no cancelled transaction; the body and its token stay the same over all tries."""
    refusal = Refusal("TransactionCanceledException", reasons=reasons)
    with refusing(tables.client, "TransactWriteItems", refusal, times=5) as sent:
        assert store.add(a_job(unique_pk=KEY)) == Added()
    assert len(sent) == 6
    assert all(body == sent.bodies[0] for body in sent.bodies)
    assert sent.bodies[0]["ClientRequestToken"]


def test_every_transaction_is_tried_again(store: JobStore, tables: Tables) -> None:
    """Dispatch, completion, burial and redrive alike."""
    store.add(a_job(unique_pk=KEY))
    running = store.claim("job-1", a_lease()).record
    assert running is not None
    burial = a_burial(running)
    met = Refusal("TransactionCanceledException", reasons=CONFLICT)
    with refusing(tables.client, "TransactWriteItems", met, times=3):
        assert store.settle(running, burial) is Settled.DONE
    with refusing(tables.client, "TransactWriteItems", met, times=3):
        assert store.redrive(burial.after, a_redrive(burial.after)) == Added()
    again = store.claim("job-1", a_lease("lease-2")).record
    assert again is not None
    with refusing(tables.client, "TransactWriteItems", met, times=3):
        assert store.settle(again, completion(again)) is Settled.DONE


@pytest.mark.parametrize("operation", ["UpdateItem", "GetItem", "Query"])
def test_every_call_is_tried_again(store: JobStore, tables: Tables, operation: str) -> None:
    """A plain write can meet a transaction too, and a read can be throttled."""
    code = "TransactionConflictException" if operation == "UpdateItem" else "ThrottlingException"
    store.add(a_job())
    calls: dict[str, Callable[[], object]] = {
        "UpdateItem": lambda: store.claim("job-1", a_lease()),
        "GetItem": lambda: store.get("job-1"),
        "Query": lambda: store.list_due("emails#0", 10**15, 10),
    }
    with refusing(tables.client, operation, Refusal(code), times=6):
        assert calls[operation]()


@pytest.mark.parametrize("code", [*THROTTLES, "TransactionConflictException"])
def test_tries_come_to_an_end(store: JobStore, tables: Tables, no_waiting: list[float], code: str) -> None:
    """After eight requests the outcome is unknown; a settle must end before its invocation does."""
    with refusing(tables.client, "PutItem", Refusal(code)) as sent, pytest.raises(StoreUnavailable, match=code):
        store.add(a_job())
    assert len(sent) == 8
    assert len(no_waiting) == 7


@pytest.mark.parametrize("code", [*THROTTLES, "InternalServerError", "TransactionConflictException"])
def test_a_client_of_our_own_making_adds_no_tries_to_those_of_the_store(clock: ManualClock, code: str) -> None:
    """Two layers multiply: one throttled call used to send 32 requests, at the very moment of a throttle."""
    session = boto3.Session("test", "test", region_name="eu-central-1")
    relayq = RelayQ(Settings(jobs_table="jobs", failed_table="failed"), session=session)
    client = relayq.clients.get("dynamodb")
    store = DynamoStore(lambda: client, "jobs", "failed", now=clock.now)
    with refusing(client, "PutItem", Refusal(code)) as sent, pytest.raises(StoreUnavailable):
        store.add(a_job())
    assert len(sent) == 8
    with never_sent(client, "PutItem") as sent, pytest.raises(StoreUnavailable):
        store.add(a_job())
    assert len(sent) == 4
    client.close()


def test_a_call_does_not_begin_without_time(store: JobStore, tables: Tables) -> None:
    """Its invocation would end before it does, and with it what is to be written down afterwards."""
    with calls_within(0), recorded(tables.client) as calls, pytest.raises(StoreUnavailable, match="no time is left"):
        store.add(a_job())
    assert calls == []


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_a_call_is_not_tried_again_beyond_the_time_that_its_caller_has(
    store: JobStore, tables: Tables, no_waiting: list[float], seconds: float
) -> None:
    """Lambda would kill the invocation in the middle of it."""
    throttled = Refusal("ThrottlingException")
    with calls_within(seconds), refusing(tables.client, "PutItem", throttled) as sent, pytest.raises(StoreUnavailable):
        store.add(a_job())
    assert len(sent) == 1
    assert no_waiting == []
    with calls_within(60), refusing(tables.client, "PutItem", throttled, times=3):
        assert store.add(a_job()) == Added()


def test_of_nested_budgets_the_least_holds() -> None:
    """A row's share ends with the tick."""
    assert seconds_left() == math.inf
    with calls_within(0), calls_within(60):
        assert seconds_left() == 0
    with calls_within(60):
        with calls_within(0):
            assert seconds_left() == 0
        assert 0 < seconds_left() <= 60
    assert seconds_left() == math.inf


# --- what will never work ---


def test_a_table_that_is_not_there_says_what_to_check(tables: Tables, clock: ManualClock) -> None:
    """The first thing that goes wrong in a new account."""
    store = DynamoStore(lambda: tables.client, "no-such-table", tables.failed, now=clock.now)
    with refused_with("'no-such-table' does not exist", "RELAYQ_JOBS_TABLE", "region", "relayq tables create"):
        store.add(a_job())
    with refused_with("does not exist", "RELAYQ_JOBS_TABLE", "RELAYQ_FAILED_TABLE"):
        store.add(a_job(unique_pk=KEY))
    with refused_with("does not exist"):
        store.get("job-1")
    with refused_with("does not exist"):
        store.list_due("emails#0", 10**15, 10)


@pytest.mark.parametrize("code", ["AccessDeniedException", "AccessDenied"])
def test_a_table_that_may_not_be_used_says_which_right_and_which_policy_is_missing(
    store: JobStore, tables: Tables, code: str
) -> None:
    """The second thing that goes wrong: the caller was not given the policy."""
    lacks = "lacks dynamodb:PutItem: attach"
    with (
        refusing(tables.client, "PutItem", Refusal(code)) as sent,
        refused_with("PutItem on", tables.jobs, "denied", code, lacks, "DispatchPolicyArn", "WorkerPolicyArn"),
    ):
        store.add(a_job())
    assert len(sent) == 1
    with (
        refusing(tables.client, "Query", Refusal(code)),
        refused_with("Query on", "lacks dynamodb:Query on index/due: attach"),
    ):
        store.list_due("emails#0", 10**15, 10)
    with (
        refusing(tables.client, "TransactWriteItems", Refusal(code)),
        refused_with("TransactWriteItems on 'one of the tables'", "lacks dynamodb:PutItem: attach"),
    ):
        store.add(a_job(unique_pk=KEY))


@pytest.mark.parametrize("code", ["UnrecognizedClientException", "ExpiredTokenException"])
def test_credentials_that_are_not_believed_are_no_missing_right(store: JobStore, tables: Tables, code: str) -> None:
    """No policy would help."""
    with (
        refusing(tables.client, "PutItem", Refusal(code)) as sent,
        refused_with("PutItem on", tables.jobs, "denied", code, "credentials have expired"),
    ):
        store.add(a_job())
    assert len(sent) == 1


def test_an_unforeseen_refusal_is_shown_as_it_is(store: JobStore, tables: Tables) -> None:
    """It is not tried again."""
    with (
        refusing(tables.client, "PutItem", Refusal("ValidationException")) as sent,
        refused_with("PutItem", tables.jobs, "ValidationException", "compare the table with the template"),
    ):
        store.add(a_job())
    assert len(sent) == 1


@pytest.mark.parametrize("reason", ["ValidationError", "ItemCollectionSizeLimitExceeded"])
def test_a_transaction_refused_for_good_is_not_tried_again(store: JobStore, tables: Tables, reason: str) -> None:
    """Only conflicts and throttles pass by themselves."""
    refusal = Refusal("TransactionCanceledException", reasons=("None", reason))
    with refusing(tables.client, "TransactWriteItems", refusal) as sent, refused_with("was refused", reason):
        store.add(a_job(unique_pk=KEY))
    assert len(sent) == 1


def test_missing_credentials_are_named(tables: Tables, clock: ManualClock) -> None:
    """Nothing was sent, so it is no maybe."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            environment.delenv(name, raising=False)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        environment.setenv("AWS_CONFIG_FILE", "/nowhere")
        client = boto3.Session().client("dynamodb", region_name="eu-central-1")
        store = DynamoStore(lambda: client, tables.jobs, tables.failed, now=clock.now)
        with refused_with("PutItem could not be sent", "credentials", "AWS_ACCESS_KEY_ID"):
            store.add(a_job())
        client.close()


def test_a_missing_region_is_named(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 finds out when the client is made, which is at the first call."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    settings = Settings(jobs_table="jobs", runner_function="runner")
    relayq = RelayQ(settings, handoff=RecordingHandoff(), clock=clock)
    with refused_with("AWS_DEFAULT_REGION"):
        relayq.dispatch("send_email")


def test_a_request_that_boto_refuses_is_reported_as_a_defect(tables: Tables, clock: ManualClock) -> None:
    """Parameter validation is on in tests, so that a wrong shape is found here and not in production."""
    store = DynamoStore(lambda: tables.client, "", tables.failed, now=clock.now)
    with refused_with("PutItem could not be sent", "table name"):
        store.add(a_job())


# --- no answer came ---


@pytest.mark.parametrize("lose", [answers_lost, never_sent])
def test_a_claim_without_an_answer_says_so(store: JobStore, tables: Tables, lose: Callable[..., Any]) -> None:
    """The runner leaves; if it was a claim after all, its lease runs out."""
    store.add(a_job())
    with lose(tables.client, "UpdateItem", 4), pytest.raises(StoreUnavailable, match="unknown"):
        store.claim("job-1", a_lease())


def test_an_endpoint_that_cannot_be_reached_is_a_maybe(clock: ManualClock) -> None:
    """From here it looks the same as a lost answer."""
    client = boto3.client(
        "dynamodb",
        endpoint_url="http://127.0.0.1:9",
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=1, retries={"total_max_attempts": 1}),
    )
    store = DynamoStore(lambda: client, "jobs", "failed", now=clock.now)
    with pytest.raises(StoreUnavailable, match=r"nothing answers at http://127\.0\.0\.1:9"):
        store.add(a_job())
    client.close()


def test_a_refused_condition_is_an_answer_and_not_an_error(store: JobStore) -> None:
    """Losing a race is what happens every day."""
    store.add(a_job())
    store.claim("job-1", a_lease("first"))
    answer = store.claim("job-1", a_lease("second"))
    assert isinstance(answer, Answer)
    assert not answer.done
