"""The `relayq` command."""
