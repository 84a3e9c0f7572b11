"""Calls to DynamoDB: what is tried again, what a refusal is, and what an error means for the user."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from relayq_core.adapters.dynamodb.items import Item
from relayq_core.errors import Portable, StoreError, StoreUnavailable
from relayq_core.process.budget import seconds_left

#: None of these changed anything.
_AGAIN = frozenset(
    {
        "TransactionConflictException",
        "TransactionInProgressException",
        "ThrottlingException",
        "ThrottlingError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "InternalServerError",
        "ServiceUnavailable",
        "ReplicatedWriteConflictException",
    }
)
#: Among the reasons of a cancelled transaction these mean: again; a refused condition means what it says.
_AGAIN_REASONS = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
#: The role lacks the right.
_DENIED = frozenset({"AccessDeniedException", "AccessDenied"})
#: AWS does not accept the caller's credentials.
_UNKNOWN_CALLER = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "ExpiredTokenException",
        "MissingAuthenticationTokenException",
        "IncompleteSignatureException",
    }
)
#: Trying again will not help.
_LACKING = _DENIED | {"UnknownOperationException", "NotImplementedException", "InvalidAction"}
#: This machine, where no AWS is.
_HERE = ("http://localhost", "http://127.", "http://[::1]")
#: Not restored with a snapshot, as a generator's state would be: clones must not try again in step.
_dice = random.SystemRandom()
_TRIES = 8
#: Of these, this many may get no answer: where nothing answers, more will not help.
_TRIES_UNANSWERED = 4
#: A request is nearly always answered within this, in seconds.
_REQUEST_SECONDS = 0.5
_FIRST_WAIT = 0.025
_LONGEST_WAIT = 2.0


class ConditionFailed(Portable, Exception):
    """A condition did not hold; `item` is the row that stood in its way, if there was one."""

    def __init__(self, item: Item | None) -> None:
        self.item = item
        super().__init__("condition refused")


class TransactionRefused(Portable, Exception):
    """A transaction's conditions did not all hold: for each action, None or a ConditionFailed."""

    def __init__(self, reasons: list[ConditionFailed | None]) -> None:
        self.reasons = reasons
        super().__init__("transaction refused")


def call(
    operation: str,
    send: Callable[..., Any],
    request: Mapping[str, Any],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Send a request, again with full jitter (25 ms to 2 s) where that may help: 8 times at most, 4 of them unanswered.

    It is the one layer that tries again: botocore sends each request once. It ends within the caller's budget
    (process/budget.py), but for the request that is on its way. Raises ConditionFailed, TransactionRefused, StoreError
    for what will never work, StoreUnavailable for a call that got no answer.
    """
    failure: StoreUnavailable | None = None
    unanswered = 0
    if seconds_left() <= 0:
        raise StoreUnavailable(operation, "no time is left for it")
    for attempt in range(_TRIES):
        if failure is not None:
            wait = _dice.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt))
            if unanswered == _TRIES_UNANSWERED or seconds_left() < wait + _REQUEST_SECONDS:
                break
            sleep(wait)
        try:
            answer: dict[str, Any] = send(**request)
            return answer
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException":
                response: Mapping[str, Any] = error.response
                raise ConditionFailed(response.get("Item")) from None
            if code == "TransactionCanceledException":
                _judge(operation, request, error)
            elif code not in _AGAIN and not _is_servers_fault(error):
                raise _explain(operation, request, error) from error
            failure = StoreUnavailable(operation, code)
        except (HTTPClientError, BotoConnectionError) as error:
            # it may have taken effect all the same, as may any later one: conditions and tokens make that harmless
            unanswered += 1
            failure = _explain_unanswered(operation, error)
        except BotoCoreError as error:
            raise _explain_misconfiguration(operation, error) from error
    assert failure is not None
    raise failure


def _explain_unanswered(operation: str, error: Exception) -> StoreUnavailable:
    if isinstance(error, EndpointConnectionError):
        unavailable = StoreUnavailable(operation, *explain_no_answer(error))
    else:
        unavailable = StoreUnavailable(operation, type(error).__name__)
    unavailable.__cause__ = error
    return unavailable


def explain_no_answer(error: EndpointConnectionError) -> tuple[str, str]:
    """Return what did not answer, and what to do: on this machine a server has ended, else it is the network."""
    url = str(error.kwargs.get("endpoint_url", ""))
    if url.startswith(_HERE):
        return (
            f"nothing answers at {url}",
            "AWS_ENDPOINT_URL leads there: is `relayq dev` running? To reach AWS open another terminal",
        )
    return f"EndpointConnectionError at {url}", "check the network and the region"


def explain_profile() -> str:
    """Return what to do about a profile that does not exist."""
    if os.environ.get("AWS_CONFIG_FILE") == os.devnull:
        return (
            f"no profile can be found while AWS_CONFIG_FILE is {os.devnull}, as `relayq dev` sets it: "
            "unset AWS_PROFILE to reach that, or open another terminal to reach AWS"
        )
    return "`aws configure list-profiles` lists those that exist"


def is_lacking(error: Exception) -> bool:
    """Return whether the caller has no right to the operation, or there is no such operation."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in _LACKING
    return not isinstance(error, BotoCoreError)  # an engine inside this process, which fails in a way of its own


def is_denied(error: StoreError) -> bool:
    """Return whether the caller has no right to the call, or to a member of its transaction."""
    return error.code in _DENIED


def _is_servers_fault(error: ClientError) -> bool:
    """Return whether the server failed, or something before it: the call may have taken effect."""
    return error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500


def _judge(operation: str, request: Mapping[str, Any], error: ClientError) -> None:
    """Return if the transaction is to be tried again; raise what else its reasons mean."""
    reasons: list[Any] = error.response.get("CancellationReasons", [])
    codes = [reason.get("Code") for reason in reasons]
    if any(code in _AGAIN_REASONS for code in codes):
        return
    if any(code == "ConditionalCheckFailed" for code in codes):
        raise TransactionRefused(
            [
                ConditionFailed(reason.get("Item")) if reason.get("Code") == "ConditionalCheckFailed" else None
                for reason in reasons
            ]
        ) from None
    if any(code in _DENIED for code in codes):
        raise _explain_denial(operation, request, "one of the tables", "AccessDeniedException") from error
    raise StoreError(
        f"{operation} was refused: {', '.join(str(code) for code in codes)}",
        "this is a defect of RelayQ or a table of another shape; compare it with the template",
        code="TransactionCanceledException",
    ) from error


def _explain(operation: str, request: Mapping[str, Any], error: ClientError) -> StoreError:
    code = error.response["Error"]["Code"]
    table = request.get("TableName", "one of the tables")
    if code == "ResourceNotFoundException":
        return StoreError(
            f"{operation}: table {table!r} does not exist in this account and region",
            "check RELAYQ_JOBS_TABLE and RELAYQ_FAILED_TABLE and the region, deploy the stack, or run "
            "`relayq tables create`",
            code=code,
        )
    if code in _DENIED:
        return _explain_denial(operation, request, table, code)
    if code in _UNKNOWN_CALLER:
        return StoreError(
            f"{operation} on {table!r} was denied ({code})",
            "the caller's credentials have expired, or are wrong or incomplete; get new ones",
            code=code,
        )
    return StoreError(
        f"{operation} on {table!r} was refused ({code}: {error.response['Error'].get('Message', '')[:300]})",
        "compare the table with the template",
        code=code,
    )


def _explain_denial(operation: str, request: Mapping[str, Any], table: str, code: str) -> StoreError:
    return StoreError(
        f"{operation} on {table!r} was denied ({code})",
        f"the caller's role lacks {_name_action(operation, request)}: attach the stack's DispatchPolicyArn to a "
        "dispatcher, RunnerPolicyArn to a runner, WorkerPolicyArn besides to a worker, or use credentials of such a "
        "role",
        code=code,
    )


def _name_action(operation: str, request: Mapping[str, Any]) -> str:
    """Return what IAM has to allow: an index has a grant of its own, and so has each member of a transaction."""
    if operation == "TransactWriteItems":
        members = {_MEMBERS[kind] for member in request["TransactItems"] for kind in member}
        return " or ".join(sorted(f"dynamodb:{name}" for name in members))
    index = f" on index/{request['IndexName']}" if "IndexName" in request else ""
    return f"dynamodb:{operation}{index}"


_MEMBERS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}


def _explain_misconfiguration(operation: str, error: BotoCoreError) -> StoreError:
    match error:
        case NoCredentialsError() | PartialCredentialsError():
            fix = "configure AWS credentials (`aws configure`, a role, or AWS_ACCESS_KEY_ID and its secret)"
        case NoRegionError():
            fix = "set AWS_DEFAULT_REGION to the region of the stack"
        case ParamValidationError():
            fix = "this is a defect of RelayQ, or a table name that is not valid"
        case _:
            fix = "check the AWS configuration of this process"
    return StoreError(f"{operation} could not be sent: {str(error)[:300]}", fix, code=type(error).__name__)
