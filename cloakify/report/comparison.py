"""What `cloakify evaluate` reports: models side by side on the same samples.

Models are named by the path they were given as; the first one is the baseline of every comparison
and verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cloakify.evaluation import (
    Distance,
    EvaluationWarning,
    Figure,
    PairedDifference,
    Verdict,
)
from cloakify.numeric.norms import Norm
from cloakify.report.records import (
    AttackInfo,
    Command,
    DeviceInfo,
    EngineInfo,
    Eps,
    FileRef,
    GivenCopies,
    LabelAccuracy,
    Labels,
    Name,
    Notes,
    Perturbed,
    PositiveCount,
    Sha256,
    Task,
    Timing,
)


@dataclass(frozen=True)
class Threat:
    """The norm and the budgets tried, in data units, ascending."""

    norm: Norm
    eps: Annotated[tuple[Eps, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class EvaluateData:
    """The samples that every model was tried on.

    With ``labels`` ``model`` accuracy means agreement with the first model's clean predictions.
    ``classes`` are the names of classes or labels, in the model's order, where data or model tell.
    """

    path: Name
    sha256: Sha256
    samples: PositiveCount
    num_classes: PositiveCount
    labels: Labels
    preprocessing: str | None = None
    preprocessing_source: str | None = None
    classes: tuple[Name, ...] | None = None
    task: Task = "single"

    @property
    def chance(self) -> float:
        """The accuracy of a guess: one of the classes, or each label by the toss of a coin."""
        return 0.5**self.num_classes if self.task == "multilabel" else 1 / self.num_classes


@dataclass(frozen=True)
class NoiseAccuracy:
    """Accuracy under random noise of the budget's size: what an attack must beat."""

    eps: Eps
    accuracy: Figure


@dataclass(frozen=True)
class AttackAccuracy:
    """Accuracy that is left after one attack of the cascade.

    An attack is run on the samples that those before it, and all of them at smaller budgets,
    have left; the check that follows no gradient, on some of these.
    """

    attack: Name
    accuracy: Figure


@dataclass(frozen=True)
class CopiesAccuracy:
    """Accuracy on the given copies that count at a budget; None where none does."""

    eps: Eps
    accuracy: Figure | None


@dataclass(frozen=True)
class RobustAccuracy:
    """Accuracy at one budget.

    ``worst_case`` counts a sample only if nothing that was tried on it within the budget misleads
    the model: attacks, twice their steps, samples crafted against other models, given copies,
    random noise, the search for the nearest misclassified point, and all this at smaller budgets.
    """

    eps: Eps
    attacks: tuple[AttackAccuracy, ...]
    worst_case: Figure


@dataclass(frozen=True)
class CurvePoint:
    """Worst-case accuracy at a budget, also beyond those asked for, where one attack goes on."""

    eps: Eps
    accuracy: Figure


@dataclass(frozen=True)
class Convergence:
    """What doubling an attack's steps changes; nothing, if the attack has converged.

    Both accuracies are of the samples that this was tried on, which may be some of them.
    """

    attack: Name
    eps: Eps
    steps: PositiveCount
    accuracy: Figure
    doubled_accuracy: Figure


@dataclass(frozen=True)
class OtherNormAccuracy:
    """Accuracy under one attack in the norm that was not asked for, in a ball as large."""

    norm: Norm
    eps: Eps
    attack: Name
    accuracy: Figure


@dataclass(frozen=True)
class CorruptionAccuracy:
    """Accuracy on images that were corrupted, at one strength.

    ``noise``: the standard deviation, pixels in [0, 1]; ``blur``: that of the Gaussian, in pixels;
    ``contrast``: the share that is left; ``jpeg``: the quality.
    """

    corruption: Name
    strength: float
    accuracy: Figure


@dataclass(frozen=True)
class OtherThreats:
    """What a model withstands that was not asked for; ``corruptions`` are of images alone."""

    norm: OtherNormAccuracy
    corruptions: tuple[CorruptionAccuracy, ...]


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
    copies: tuple[CopiesAccuracy, ...]
    labels: LabelAccuracy | None = None
    others: OtherThreats | None = None


@dataclass(frozen=True)
class TransferAccuracy:
    """Accuracy of the model ``tried_on`` on samples crafted against ``crafted_on``."""

    crafted_on: Name
    tried_on: Name
    eps: Eps
    accuracy: Figure


@dataclass(frozen=True)
class Comparison:
    """A model minus the baseline, sample by sample; ``eps`` is None for clean accuracy."""

    baseline: Name
    model: Name
    measure: Literal["clean", "transfer", "worst_case"]
    eps: Eps | None
    paired: PairedDifference


@dataclass(frozen=True)
class ModelVerdict:
    """What may be said of a model against the baseline at one budget."""

    baseline: Name
    model: Name
    eps: Eps
    verdict: Verdict


class EvaluateReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="evaluate"):
    """The whole report of one `cloakify evaluate`.

    ``timing`` is in seconds, by stage; ``perturbs`` says in words what attacks perturb.
    """

    schema_version: Literal[1]
    cloakify_version: Name
    device: DeviceInfo
    threat: Threat
    attacks: tuple[AttackInfo, ...]
    data: EvaluateData
    models: Annotated[tuple[ModelEvaluation, ...], Meta(min_length=1)]
    transfer: tuple[TransferAccuracy, ...]
    comparisons: tuple[Comparison, ...]
    verdicts: tuple[ModelVerdict, ...]
    timing: Timing
    perturbs: Perturbed
    copies: GivenCopies | None
    command: Command | UnsetType = UNSET
    engine: EngineInfo | UnsetType = UNSET
    notes: Notes | UnsetType = UNSET
