"""`python -m relayq_core.cli` is `relayq`."""

import sys

from relayq_core.process.extras import extra

with extra("cli"):
    from relayq_core.cli.main import main

sys.exit(main())
