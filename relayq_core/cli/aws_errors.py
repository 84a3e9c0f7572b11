"""What an error of botocore means for whoever typed the command."""

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

from relayq_core.adapters.dynamodb.calls import nobody_there, profile_hint
from relayq_core.text import cut


def sentence(error: Exception) -> str | None:
    """What is wrong and what to do, in botocore's own words where they say it; None if it is no error of botocore's."""
    match error:
        case NoRegionError():
            return "no AWS client can be made: no region is known; give --region, or set AWS_DEFAULT_REGION"
        case ProfileNotFound():
            return f"no AWS client can be made: {error}; {profile_hint()}"
        case NoCredentialsError() | PartialCredentialsError():
            return f"{error}; configure AWS credentials: --profile, AWS_PROFILE, or keys"
        case EndpointConnectionError():
            return "; ".join(nobody_there(error))
        case ResponseParserError():
            return _not_understood(error)
    return str(error) if isinstance(error, BotoCoreError | ClientError) else None


def _not_understood(error: ResponseParserError) -> str:
    """Whoever was asked may be `relayq dev`, which plays DynamoDB and Lambda alone."""
    url = os.environ.get("AWS_ENDPOINT_URL")
    if url is None:
        return f"the answer is not one of AWS: {cut(error, 200)}; is there a proxy in between?"
    return (
        f"{url} (AWS_ENDPOINT_URL) does not answer as AWS does; if that is `relayq dev`, it has no stacks and no logs: "
        "open another terminal, whose environment leads to AWS"
    )
