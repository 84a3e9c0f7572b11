"""`python -m relayq_core.cli` is `relayq`."""

import sys

from relayq_core.cli.main import main

sys.exit(main())
