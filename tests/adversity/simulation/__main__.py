"""`python -m tests.adversity.simulation`: every fault, every pair of faults, and random schedules; prints what it did.

Exits with 1 if a law was broken, or if a fault never met a call site where it could have.
"""

from __future__ import annotations

import argparse
import sys

from tests.adversity.simulation.campaign import Report, every_fault, never_hit, random_schedules
from tests.adversity.simulation.laws import LAWS, PARTS, as_list, as_table
from tests.adversity.simulation.mutants import MUTANTS
from tests.adversity.simulation.scenarios import SCENARIOS


def main() -> int:
    """Play, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.adversity.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="random schedules to play (10000)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of their seeds (0)")
    parser.add_argument("--no-pairs", action="store_true", help="leave out the pairs of faults")
    parser.add_argument("--every-pair", type=int, default=1, metavar="N", help="play every N-th pair (1: all)")
    parser.add_argument(
        "--laws", action="store_true", help="print the laws and the parts as the page has them, and end"
    )
    asked = parser.parse_args()
    if asked.laws:
        print(f"{as_table()}\n\n{as_list()}")
        return 0
    print(f"laws: {len(LAWS)}, parts played: {len(PARTS)}, base scenarios: {len(SCENARIOS)}, mutants: {len(MUTANTS)}")
    systematic = every_fault(pairs=not asked.no_pairs, every=asked.every_pair)
    share = "" if asked.every_pair == 1 else f", every {asked.every_pair}th pair"
    pairs = "" if asked.no_pairs else f" and two by two{share}"
    print(f"faults one by one{pairs}: {systematic.schedules:,} schedules", flush=True)
    random = random_schedules(asked.schedules, first=asked.first_seed)
    print(
        f"random schedules: {random.schedules:,}, seeds {asked.first_seed} to {asked.first_seed + asked.schedules - 1}"
    )
    systematic.add(random)
    return judged(systematic)


def judged(report: Report) -> int:
    """The table of faults by call site, and the exit status."""
    sites = sorted({site for site, _ in report.hits})
    print(f"faults that met a call: {report.hits.total():,}, of {len(report.hits)} kinds at {len(sites)} call sites")
    for site in sites:
        print(f"  {site:32} {sum(hits for (at, _), hits in report.hits.items() if at == site):>10,}")
    for missing in never_hit(report):
        print(f"never hit: {missing}")
    for broken in report.broken:
        print(f"BROKEN {broken}")
    # the line a test runner would print, for the script that counts
    failed = len(report.broken) + len(never_hit(report))
    print(f"{report.schedules - len(report.broken)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
