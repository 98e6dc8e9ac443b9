"""Accuracies with intervals, paired comparisons, and the verdict that they allow."""

from cloakify.evaluation.figures import (
    Difference,
    Distance,
    Figure,
    PairedDifference,
    accuracy_figure,
    compare,
    gain_figure,
    median_distance,
)
from cloakify.evaluation.verdict import OverRandom, Verdict, VerdictCode, judge
from cloakify.evaluation.warnings import EvaluationWarning, WarningCode

__all__ = [
    "Difference",
    "Distance",
    "EvaluationWarning",
    "Figure",
    "OverRandom",
    "PairedDifference",
    "Verdict",
    "VerdictCode",
    "WarningCode",
    "accuracy_figure",
    "compare",
    "gain_figure",
    "judge",
    "median_distance",
]
