"""The runner's folder is on the path, as it is in the Lambda: its jobs are the package `jobs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "functions" / "runner"))
