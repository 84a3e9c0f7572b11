"""The `relayq` command in an empty folder, with fresh tables, as the tests of all commands have it."""

from tests.surfaces.cli.test_cli import aws, relayq

__all__ = ["aws", "relayq"]
