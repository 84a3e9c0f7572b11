"""Credentials are got once for each command: a code of MFA is asked for once, and is good once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3.session
import pytest
from moto.server import ThreadedMotoServer

from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table

REGION = "eu-west-1"
OUTPUTS = {
    "JobsTableName": "credentials-jobs",
    "FailedJobsTableName": "credentials-failed",
    "RunnerFunctionName": "runner",
    "SweeperFunctionName": "sweeper",
    "RunnerPolicyArn": "arn:aws:iam::123456789012:policy/runner",
}
MEMBERS = "".join(
    f"<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>" for key, value in OUTPUTS.items()
)
STACKS = (
    "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>relayq</StackName>"
    "<CreationTime>2026-01-01T00:00:00Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>"
    f"<Outputs>{MEMBERS}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
)


class CloudFormation(BaseHTTPRequestHandler):
    """Describes one stack, whatever it is asked."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(STACKS)))
        self.end_headers()
        self.wfile.write(STACKS.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def endpoints() -> Iterator[dict[str, str]]:
    """A stack with two tables, as the environment names it."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    stacks = ThreadingHTTPServer(("127.0.0.1", 0), CloudFormation)
    threading.Thread(target=stacks.serve_forever, daemon=True).start()
    dynamodb: Any = boto3.session.Session("x", "x", region_name=REGION).client(
        "dynamodb", endpoint_url=f"http://{host}:{port}"
    )
    dynamodb.create_table(**jobs_table("credentials-jobs"))
    dynamodb.create_table(**failed_table("credentials-failed"))
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ENDPOINT_URL_CLOUDFORMATION": f"http://127.0.0.1:{stacks.server_port}",
        }
    finally:
        dynamodb.close()
        stacks.shutdown()
        stacks.server_close()
        moto.stop()


@pytest.mark.parametrize(
    "command",
    ["health", "failed list", "queues", "dispatch greet --queue mail", "doctor", "logs job-1"],
)
def test_a_command_gets_its_credentials_once(endpoints: dict[str, str], tmp_path: Path, command: str) -> None:
    """Of outputs, tables, functions and logs alike; a helper of `credential_process` stands for a code of MFA."""
    asked = tmp_path / "asked"
    helper = tmp_path / "helper"
    helper.write_text(
        f"#!/bin/sh\necho once >> {asked}\n"
        'echo \'{"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "x", "SessionToken": "x"}\'\n'
    )
    helper.chmod(0o700)
    config = tmp_path / "config"
    config.write_text(f"[profile ops]\ncredential_process = {helper}\nregion = {REGION}\n")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "RELAYQ_"))}
    environ |= {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", **endpoints}
    ran = subprocess.run(
        [sys.executable, "-m", "relayq_core.cli", "--stack", "relayq", "--profile", "ops", *command.split()],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.read_text().splitlines() == ["once"], ran.stderr + ran.stdout
