"""The JobStore on DynamoDB, made of one part for each port."""

from __future__ import annotations

from relayq_core.adapters.dynamodb.dispatching import DynamoDispatches, DynamoQueues
from relayq_core.adapters.dynamodb.operating import DynamoFailures, DynamoReads
from relayq_core.adapters.dynamodb.running import DynamoClaims, DynamoSettlements
from relayq_core.adapters.dynamodb.sweeping import DynamoSweeps


class DynamoStore(
    DynamoQueues, DynamoDispatches, DynamoClaims, DynamoSettlements, DynamoSweeps, DynamoReads, DynamoFailures
):
    """JobStore on two DynamoDB tables. `client` returns a low-level boto3 client, `now` epoch milliseconds."""
