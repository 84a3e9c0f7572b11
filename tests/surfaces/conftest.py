"""The runner's folder is on the path, as it is in the Lambda: its jobs are the package `jobs`."""

import sys

from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "functions" / "runner"))
