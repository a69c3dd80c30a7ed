"""One alpha over many tests: the chance of *any* false alarm stays below alpha, by the union bound.

Spend by the number of the test, before it is looked at; the tests may depend on each other in any way.
"""

import math

from learners.statistics.findings import check_alpha


def spend(alpha: float, k: int) -> float:
    """Alpha of the k-th test (k = 1, 2, ...) of a series without end: 6 / (pi^2 k^2) of the whole.

    The parts sum to alpha (Basel problem). The first tests get most: 61 %, 15 %, 7 %.
    """
    check_alpha(alpha)
    _check_test(k)
    return alpha * 6.0 / (math.pi**2 * k**2)


def spend_evenly(alpha: float, k: int, tests: int) -> float:
    """Alpha of the k-th of `tests` planned tests: the same for each. Raises ValueError past the plan."""
    check_alpha(alpha)
    _check_test(k)
    if k > tests:
        raise ValueError(f"alpha was planned for {tests} tests and is spent; test {k} needs a new plan")
    return alpha / tests


def _check_test(k: int) -> None:
    if k < 1:
        raise ValueError(f"tests are counted from 1, got {k}")
