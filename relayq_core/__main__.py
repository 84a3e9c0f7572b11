"""`python -m relayq_core` is `relayq`, and the command itself: it starts where the extra `cli` is not installed too."""

from __future__ import annotations

import sys

from relayq_core.extras import missing_extra


def main() -> int:
    """Run the command line; answers with the exit code."""
    try:
        from relayq_core.cli.main import main as run  # noqa: PLC0415 - it may not be installed
    except ModuleNotFoundError as error:
        sentence = missing_extra(error, of="cli")
        if sentence is None:
            raise
        sys.stderr.write(f"error: {sentence}\n")
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
