"""`python -m tests.adversity.differential`: the memory store beside DynamoDB Local; prints what was compared.

Exits with 1 if they answered differently, or if some answer was never met in a long run.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

from tests.adversity.differential.campaign import compare_in_processes, never_met
from tests.support import engines

#: This many sequences meet every answer.
ENOUGH = 1_500


def main() -> int:
    """Compare, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.adversity.differential", description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000, help="sequences of calls to compare (10000)")
    chosen = 1 if "CI" in os.environ else random.randrange(10**6)  # CI fails for what a change did, not by draw
    parser.add_argument("--seed", type=int, default=chosen, help="the first seed (a random one; 1 in CI)")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1), help="processes (one a core)")
    asked = parser.parse_args()
    if (problem := engines.missing()) is not None:
        print(f"{problem}.", file=sys.stderr)
        return 1
    print(f"seeds {asked.seed} to {asked.seed + asked.processes - 1}", flush=True)
    began = time.monotonic()
    with engines.dynamodb_local() as endpoint:
        report = compare_in_processes(endpoint, asked.examples, first_seed=asked.seed, processes=asked.processes)
    seconds = time.monotonic() - began
    print(f"{report.sequences:,} sequences, {report.answers.total():,} answers compared in {seconds:.0f} s")
    for verb in sorted({verb for verb, _ in report.answers}):
        met = {answer: count for (of, answer), count in sorted(report.answers.items()) if of == verb}
        print(f"  {verb:20} {', '.join(f'{answer} {count:,}' for answer, count in met.items())}")
    missing = never_met(report) if asked.examples >= ENOUGH else []
    for answer in missing:
        print(f"never met: {answer}")
    # the line a test runner would print, for the script that counts
    print(f"{report.sequences} passed, {len(missing)} failed")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
