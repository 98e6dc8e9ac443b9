"""Ways to rank features, by name: what `--score` takes."""

from __future__ import annotations

from collections.abc import Callable

from cloakify.errors import UsageError
from cloakify.masking.captured import Captured
from cloakify.masking.feature_scores import deepcloak, margin, rank
from cloakify.masking.greedy import ROUNDS, greedy_rankings
from cloakify.masking.linear_head import LinearHead
from cloakify.masking.relaxed import STEPS, relaxed_rankings
from cloakify.masking.statistics import FeatureStatistics
from cloakify.numeric.arrays import Indices

# Of the clean samples' loss beside the attacked ones'. With little of it the feature that helps
# most goes first, whatever it costs, which may be more than the budget; with much of it the many
# that cost nothing go first. Which gains most depends on model, attack and budget.
CLEAN_WEIGHTS = (0.3, 2.0, 8.0)

# From statistics of all pairs, the head, and the features kept of some: features [D] in the order
# in which they are masked, in one way or several. Where the size is given, the first counts.
RANKINGS: dict[str, Callable[[FeatureStatistics, LinearHead, Captured], tuple[Indices, ...]]] = {
    "deepcloak": lambda statistics, head, captured: (rank(deepcloak(statistics)),),
    "margin": lambda statistics, head, captured: (rank(margin(statistics)),),
    "greedy": lambda statistics, head, captured: greedy_rankings(head, captured, CLEAN_WEIGHTS),
    "relaxed": lambda statistics, head, captured: relaxed_rankings(head, captured, CLEAN_WEIGHTS),
}
AUTO = "auto"
# Those that look at the loss on the kept features, and how often. They learn from further attacked
# features, so that a second round can answer the first.
LOOKS = {"greedy": ROUNDS, "relaxed": STEPS}
LEARNING = tuple(LOOKS)


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


def products_of(score: str) -> int:
    """Return how many multiplications a score takes, for each sample, feature and class."""
    # At clean and at attacked samples, to the logits and back, for all weights side by side.
    return 4 * len(CLEAN_WEIGHTS) * sum(LOOKS.get(name, 0) for name in candidates(score))
