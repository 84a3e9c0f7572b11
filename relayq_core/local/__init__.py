"""The embedded stack: DynamoDB, Lambda and the schedule on this machine, for `relayq demo` and `--local`.

Real handlers in real processes, real boto3 over HTTP; only what AWS itself would do is played. Nothing of this is
in the Lambda layer.
"""
