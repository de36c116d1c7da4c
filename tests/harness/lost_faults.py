"""List the planted faults whose text does not occur exactly once in the library.

PYTHONPATH=tests python -m harness.lost_faults
"""

from __future__ import annotations

import sys

from harness.faults import all_faults


def main() -> int:
    """Print a line for each lost fault; exit status 1 if there is one."""
    faults = all_faults()
    lost = [fault for fault in faults if fault.times != 1]
    for fault in lost:
        print(f"{fault.caught_by}: {fault.name}\n    {fault.file} has {fault.times} times: {fault.old!r}")
    print(f"{len(lost)} of {len(faults)} planted faults have lost their place")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
