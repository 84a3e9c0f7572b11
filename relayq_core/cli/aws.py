"""Access AWS through one session per command, so that credentials and an MFA code are asked for once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relayq_core.cli.exit_codes import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedStack:
    """A stack as CloudFormation describes it."""

    name: str
    outputs: Mapping[str, str]
    created_at: datetime | None

    def require_outputs(self, *outputs: str) -> DescribedStack:
        """Return this stack if it has these outputs. Raises Stop otherwise."""
        if missing := [output for output in outputs if output not in self.outputs]:
            raise Stop(f"stack {self.name!r} has no output {', '.join(missing)}: is it a RelayQ stack?")
        return self


class Aws:
    """The clients of one session, which is created at its first use: by then the environment names the account."""

    def __init__(self) -> None:
        self._session: Any = None
        self._clients: dict[str, Any] = {}

    @property
    def session(self) -> Any:
        """The boto3 session."""
        if self._session is None:
            import boto3

            self._session = boto3.Session()
        return self._session

    def get_client(self, service: str) -> Any:
        """Return the client of a service; it is created once."""
        if service not in self._clients:
            self._clients[service] = self.session.client(service)
        return self._clients[service]

    def describe_stack(self, name: str) -> DescribedStack:
        """Describe the stack with this name or ARN. Raises Stop if there is none."""
        from botocore.exceptions import ClientError

        try:
            answer = self.get_client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                raise Stop(
                    f"there is no stack {name!r} in this account and region; try --region or --profile"
                ) from error
            raise
        outputs = {output["OutputKey"]: output["OutputValue"] for output in answer.get("Outputs", [])}
        return DescribedStack(
            name=answer.get("StackName", name), outputs=outputs, created_at=answer.get("CreationTime")
        )
