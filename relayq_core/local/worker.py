"""Run a Lambda handler in a worker process, one event at a time.

`python -m relayq_core.local.worker FD HANDLER` is the warm parent: it imports the handler once, as a cold start does,
and then forks a worker for each socket that it receives. A fork takes milliseconds, an import a second.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relayq_core.text import describe_error, locate_error

Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Context:
    """Lambda's context object, as far as handlers use it."""

    aws_request_id: str
    deadline: float
    function_name: str
    memory_limit_in_mb: int = 512
    function_version: str = "$LATEST"
    log_group_name: str = ""
    log_stream_name: str = ""

    @property
    def invoked_function_arn(self) -> str:
        """The function's ARN in moto's account."""
        return f"arn:aws:lambda:{os.environ['AWS_REGION']}:123456789012:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the stack kills this process."""
        return max(0, int((self.deadline - time.time()) * 1000))


def main() -> None:
    """Import the handler, report that, and fork workers until the other end closes."""
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        handler = _load(sys.argv[2])
    except BaseException as error:
        _say(control, {"failed": locate_error(error)})
        raise
    _say(control, {"ready": os.getpid()})
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            # the process that started this one has ended: end the whole group, workers included
            os.killpg(0, signal.SIGKILL)
        sys.stdout.flush()
        # children are never waited for: a dead one keeps its pid, so that no kill can hit another process
        pid = os.fork()
        if pid == 0:
            control.close()
            _serve(socket.socket(fileno=descriptors[0]), handler)
            os._exit(0)
        os.close(descriptors[0])
        _say(control, {"pid": pid})


def _load(path: str) -> Handler:
    module, _, name = path.rpartition(".")
    handler: Handler = getattr(importlib.import_module(module), name)
    _warm_up()
    return handler


def _warm_up() -> None:
    """Import what each worker would import at its first event; this connects to nothing."""
    import boto3

    for service in ("dynamodb", "lambda"):
        boto3.Session().client(service, region_name=os.environ["AWS_REGION"])


def _serve(channel: socket.socket, handler: Handler) -> None:
    """Run one event after the other, until the other end closes."""
    with channel, channel.makefile("rb") as lines:
        for line in lines:
            request = json.loads(line)
            context = Context(request["request_id"], request["deadline"], os.environ["AWS_LAMBDA_FUNCTION_NAME"])
            try:
                answer = {"answer": handler(json.loads(request["event"]), context)}
            except Exception as error:
                answer = {"error": describe_error(error, 2000)}
            sys.stdout.flush()
            _say(channel, answer)


def _say(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message, default=str).encode() + b"\n")


if __name__ == "__main__":
    main()
