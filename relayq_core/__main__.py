"""`python -m relayq_core`, and the command `relayq`: it starts even where the extra `cli` is not installed."""

from __future__ import annotations

import sys

from relayq_core.process.extras import explain_missing_extra


def main() -> int:
    """Run the command line, and return its exit code."""
    try:
        from relayq_core.cli.main import main as run  # noqa: PLC0415 - it may not be installed
    except ModuleNotFoundError as error:
        sentence = explain_missing_extra(error, of="cli")
        if sentence is None:
            raise
        sys.stderr.write(f"error: {sentence}\n")
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
