"""What `cloakify evaluate` reports: models side by side on the same samples.

Models are named by the path they were given as; the first one is the baseline of every comparison
and verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cloakify.evaluation import (
    Distance,
    EvaluationWarning,
    Figure,
    PairedDifference,
    Verdict,
)
from cloakify.report.records import (
    SCHEMA_VERSION,
    THE_INPUT,
    DeviceInfo,
    FileRef,
    GivenCopies,
    Labels,
    Norm,
)


@dataclass(frozen=True)
class Threat:
    """The norm and the budgets tried, in data units, ascending."""

    norm: Norm
    eps: tuple[float, ...]


@dataclass(frozen=True)
class EvaluationAttack:
    """An attack of the evaluation, the same at every budget."""

    name: str
    steps: int
    gradient: Literal["white-box", "gradient-free"]


@dataclass(frozen=True)
class EvaluateData:
    """The samples that every model was tried on.

    With ``labels`` ``model`` accuracy means agreement with the first model's clean predictions.
    """

    path: str
    sha256: str
    samples: int
    num_classes: int
    labels: Labels


@dataclass(frozen=True)
class NoiseAccuracy:
    """Accuracy under random noise of the budget's size: what an attack must beat."""

    eps: float
    accuracy: Figure


@dataclass(frozen=True)
class AttackAccuracy:
    """Accuracy that is left after one attack of the cascade.

    An attack is run on the samples that those before it, and all of them at smaller budgets,
    have left.
    """

    attack: str
    accuracy: Figure


@dataclass(frozen=True)
class CopiesAccuracy:
    """Accuracy on the given copies that count at a budget; None where none does."""

    eps: float
    accuracy: Figure | None


@dataclass(frozen=True)
class RobustAccuracy:
    """Accuracy at one budget.

    ``worst_case`` counts a sample only if nothing that was tried on it within the budget misleads
    the model: attacks, twice their steps, samples crafted against other models, given copies,
    random noise, the search for the nearest misclassified point, and all this at smaller budgets.
    """

    eps: float
    attacks: tuple[AttackAccuracy, ...]
    worst_case: Figure


@dataclass(frozen=True)
class CurvePoint:
    """Worst-case accuracy at a budget, also beyond those asked for, where one attack goes on."""

    eps: float
    accuracy: Figure


@dataclass(frozen=True)
class Convergence:
    """What doubling an attack's steps changes; nothing, if the attack has converged."""

    attack: str
    eps: float
    steps: int
    accuracy: Figure
    doubled_accuracy: Figure


@dataclass(frozen=True)
class ModelEvaluation:
    """One model: clean, noisy and robust accuracy, minimal distance, convergence, warnings.

    ``curve`` goes from budget 0 on, past the budgets asked for, to one that is no bound at all.
    """

    model: FileRef
    clean: Figure
    noise: tuple[NoiseAccuracy, ...]
    robust: tuple[RobustAccuracy, ...]
    curve: tuple[CurvePoint, ...]
    median_distance: Distance | None
    convergence: tuple[Convergence, ...]
    warnings: tuple[EvaluationWarning, ...]
    copies: tuple[CopiesAccuracy, ...] = ()


@dataclass(frozen=True)
class TransferAccuracy:
    """Accuracy of the model ``tried_on`` on samples crafted against ``crafted_on``."""

    crafted_on: str
    tried_on: str
    eps: float
    accuracy: Figure


@dataclass(frozen=True)
class Comparison:
    """A model minus the baseline, sample by sample; ``eps`` is None for clean accuracy."""

    baseline: str
    model: str
    measure: Literal["clean", "transfer", "worst_case"]
    eps: float | None
    paired: PairedDifference


@dataclass(frozen=True)
class ModelVerdict:
    """What may be said of a model against the baseline at one budget."""

    baseline: str
    model: str
    eps: float
    verdict: Verdict


@dataclass(frozen=True)
class EvaluateReport:
    """The whole report of one `cloakify evaluate`.

    ``timing`` is in seconds, by stage; ``perturbs`` says in words what attacks perturb.
    """

    kind: Literal["evaluate"] = field(default="evaluate", init=False)
    schema_version: int = field(default=SCHEMA_VERSION, init=False)
    cloakify_version: str
    device: DeviceInfo
    threat: Threat
    attacks: tuple[EvaluationAttack, ...]
    data: EvaluateData
    models: tuple[ModelEvaluation, ...]
    transfer: tuple[TransferAccuracy, ...]
    comparisons: tuple[Comparison, ...]
    verdicts: tuple[ModelVerdict, ...]
    timing: Mapping[str, float]
    perturbs: str = THE_INPUT
    copies: GivenCopies | None = None
