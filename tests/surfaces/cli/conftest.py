"""The `relayq` command in an empty folder, with fresh tables, as the tests of all commands have it."""

from tests.surfaces.cli.commands import aws, job_folder, project, relayq

__all__ = ["aws", "job_folder", "project", "relayq"]
