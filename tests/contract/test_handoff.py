"""Contract of the Lambda handoff: one asynchronous invocation of the queue's runner, and its answer read to the end."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from relayq_core.adapters.aws_lambda import LambdaInvoke, NoHandoff
from relayq_core.errors import HandoffDenied
from tests.support.fake_lambda import FakeLambda


@pytest.fixture
def client() -> FakeLambda:
    """A Lambda that accepts everything."""
    return FakeLambda()


def test_an_offer_is_one_event_with_an_id_and_a_time(client: FakeLambda) -> None:
    """The event also has two hints. Nothing of the job itself travels: the row is the truth."""
    client.body = io.BytesIO(b"unread bytes would keep the connection")
    LambdaInvoke(lambda: client, "runner", {}).offer("job-1", "emails", 1_767_225_600_000, name="send_email")
    (request,) = client.requests
    assert (request["FunctionName"], request["InvocationType"]) == ("runner", "Event")
    assert json.loads(request["Payload"]) == {
        "job_id": "job-1",
        "run_at": 1_767_225_600_000,
        "queue": "emails",
        "name": "send_email",
    }
    assert client.body.read() == b""


@pytest.mark.parametrize(
    ("queue", "this", "function"),
    [
        ("emails", "", "runner"),
        ("reports", "", "heavy"),
        ("emails", "myself", "runner"),
        (None, "myself", "myself"),
        (None, "", "runner"),
    ],
)
def test_an_offer_goes_to_the_runner_of_its_queue(
    client: FakeLambda, monkeypatch: pytest.MonkeyPatch, queue: str | None, this: str, function: str
) -> None:
    """A queue may have a function of its own; a runner that hands on names itself."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", this)
    LambdaInvoke(lambda: client, "runner", {"reports": "heavy"}).offer("job-1", queue, 0)
    assert [request["FunctionName"] for request in client.requests] == [function]


def test_a_runner_that_hands_on_invokes_itself_whatever_the_queue(
    client: FakeLambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function that was handed the job is the right one; its name may stand in no setting of its own."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "myself")
    LambdaInvoke(lambda: client, "runner", {"reports": "heavy"}).offer("job-1", "reports", 7, name="build", here=True)
    (request,) = client.requests
    assert request["FunctionName"] == "myself"
    assert json.loads(request["Payload"]) == {"job_id": "job-1", "run_at": 7, "queue": "reports", "name": "build"}


def test_no_client_is_made_before_the_first_offer() -> None:
    """A process that never hands off, such as one whose jobs have a long delay, does not pay for it."""
    made: list[FakeLambda] = []

    def make() -> FakeLambda:
        made.append(FakeLambda())
        return made[-1]

    handoff = LambdaInvoke(make, "runner", {})
    assert made == []
    handoff.offer("job-1", "emails", 0)
    assert len(made) == 1


def test_without_handoff_nothing_is_invoked() -> None:
    """The sweeper finds the job when it is due."""
    NoHandoff().offer("job-1", "emails", 0)


ARN = "arn:aws:lambda:eu-west-1:123456789012:function:heavy"


@pytest.mark.parametrize(
    ("invoked_as", "hands_on_to"),
    [(f"{ARN}:live", f"{ARN}:live"), (f"{ARN}:7", f"{ARN}:7"), (ARN, "heavy"), ("", "heavy")],
)
def test_a_runner_behind_an_alias_hands_on_to_that_alias(
    client: FakeLambda, monkeypatch: pytest.MonkeyPatch, invoked_as: str, hands_on_to: str
) -> None:
    """Its bare name would be $LATEST: other code, and another right. What it was invoked as before does not count."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "heavy")
    handoff = LambdaInvoke(lambda: client, "runner", {"reports": "heavy:live"})
    handoff.invoked_as(f"{ARN}:older")
    handoff.invoked_as(invoked_as)
    handoff.offer("job-1", None, 0)
    handoff.offer("job-1", "reports", 0)
    assert [request["FunctionName"] for request in client.requests] == [hands_on_to, "heavy:live"]


@pytest.mark.parametrize(
    ("queue", "function", "fix"),
    [("reports", "heavy:live", "RunnerFunctionArns of the RelayQ stack"), ("emails", "runner", "DispatchPolicyArn")],
)
def test_a_denied_handoff_says_where_the_right_is_given(queue: str, function: str, fix: str) -> None:
    """RelayQ's policies know a runner of one's own only if it was given to the stack as a parameter."""
    denied = {"Error": {"Code": "AccessDeniedException", "Message": "no identity-based policy allows it"}}

    class Denying(FakeLambda):
        def invoke(self, **request: Any) -> dict[str, Any]:
            raise ClientError(denied, "Invoke")  # type: ignore[arg-type]

    handoff = LambdaInvoke(Denying, "runner", {"reports": "heavy:live"})
    with pytest.raises(HandoffDenied, match=f"lacks lambda:InvokeFunction on {function}: .*{fix}"):
        handoff.offer("job-1", queue, 0)


def test_another_refusal_is_raised_as_it_is() -> None:
    """Throttles, for instance."""
    throttled = {"Error": {"Code": "TooManyRequestsException", "Message": "Rate exceeded"}}

    class Throttling(FakeLambda):
        def invoke(self, **request: Any) -> dict[str, Any]:
            raise ClientError(throttled, "Invoke")  # type: ignore[arg-type]

    with pytest.raises(ClientError, match="Rate exceeded"):
        LambdaInvoke(Throttling, "runner", {}).offer("job-1", "emails", 0)
