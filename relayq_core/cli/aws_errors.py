"""Explain botocore's errors to the person at the command line."""

from __future__ import annotations

import os

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from relayq_core.adapters.dynamodb.calls import explain_no_answer, explain_profile
from relayq_core.text import cut


def describe_aws_error(error: Exception) -> str | None:
    """Return what is wrong and what to do, in botocore's words where they say it; None for other errors."""
    match error:
        case NoRegionError():
            return "no AWS region is set; use --region, or set AWS_DEFAULT_REGION"
        case ProfileNotFound():
            return f"{error}; {explain_profile()}"
        case NoCredentialsError() | PartialCredentialsError():
            return f"{error}; configure AWS credentials with --profile, AWS_PROFILE, or access keys"
        case EndpointConnectionError():
            return "; ".join(explain_no_answer(error))
        case ResponseParserError():
            return _explain_foreign_answer(error)
    return str(error) if isinstance(error, BotoCoreError | ClientError) else None


def _explain_foreign_answer(error: ResponseParserError) -> str:
    """Explain an answer that is not AWS's: it may come from `relayq dev`, which emulates DynamoDB and Lambda only."""
    url = os.environ.get("AWS_ENDPOINT_URL")
    if url is None:
        return f"the answer does not come from AWS: {cut(error, 200)}; is there a proxy in between?"
    return (
        f"{url} (AWS_ENDPOINT_URL) does not answer as AWS does; if it is `relayq dev`, that has no stacks and no logs: "
        "open another terminal, without the lines of .relayq/dev.env"
    )
