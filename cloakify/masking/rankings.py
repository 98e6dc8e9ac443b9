"""Ways to rank features, by name: what `--score` takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloakify.errors import UsageError
from cloakify.masking.captured import Captured
from cloakify.masking.greedy import greedy_ranking
from cloakify.masking.linear import LinearHead
from cloakify.masking.relaxed import relaxed_ranking
from cloakify.masking.scores import deepcloak, margin, rank
from cloakify.masking.statistics import FeatureStatistics

Ranking = NDArray[np.int64]

# From statistics of all pairs, the head, and the features kept of some: features [D] in the order
# in which they are masked.
RANKINGS: dict[str, Callable[[FeatureStatistics, LinearHead, Captured], Ranking]] = {
    "deepcloak": lambda statistics, head, captured: rank(deepcloak(statistics)),
    "margin": lambda statistics, head, captured: rank(margin(statistics)),
    "greedy": lambda statistics, head, captured: greedy_ranking(head, captured),
    "relaxed": lambda statistics, head, captured: relaxed_ranking(head, captured),
}
AUTO = "auto"
# Those that learn from further attacked features, so that a second round can answer the first.
LEARNING = ("greedy", "relaxed")


def candidates(score: str) -> tuple[str, ...]:
    """Return the rankings that a score stands for: itself, or all of them.

    Raises
    ------
    UsageError
        No such score.
    """
    if score == AUTO:
        return tuple(RANKINGS)
    if score not in RANKINGS:
        raise UsageError(f"--score takes {AUTO}, {', '.join(RANKINGS)}; not {score!r}")
    return (score,)
