"""The embedded stack: DynamoDB, Lambda and the schedule on this machine, for `relayq demo` and `--local`.

It runs the real handlers in real processes, with real boto3 over HTTP; only AWS itself is emulated. The Lambda layer
contains none of it.
"""
