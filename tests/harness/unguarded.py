"""List the statements of the theory that no planted fault guards: none of their proving tests carries `@catches`.

PYTHONPATH=tests python -m harness.unguarded
"""

from __future__ import annotations

import sys

from harness.faults import all_faults
from harness.proofs import proofs


def unguarded() -> dict[str, list[str]]:
    """Proving tests of each statement for which none of them must catch a planted fault."""
    catching = {fault.caught_by.split("[")[0] for fault in all_faults()}
    tests: dict[str, list[str]] = {}
    for test, names in proofs().items():
        for name in names:
            tests.setdefault(name, []).append(test)
    return {name: tests[name] for name in sorted(tests, key=_order) if not catching & set(tests[name])}


def _order(name: str) -> tuple[str, int, str]:
    digits = "".join(filter(str.isdigit, name))
    return name[0], int(digits or 0), name


def main() -> int:
    """Print each unguarded statement with its tests; exit status 1 if there is one."""
    found = unguarded()
    for name, tests in found.items():
        print(f"{name}: {', '.join(tests)}")
    print(f"{len(found)} of {len({name for names in proofs().values() for name in names})} statements have no fault")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
