"""What `cloakify harden` reports: plain data, in the order and under the names of the JSON file.

Every accuracy is a `cloakify.evaluation.Figure`: a value in [0, 1] with its 95 % interval and the
number of samples behind it. All of them are measured on the report split, on which nothing was
chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cloakify.evaluation import EvaluationWarning, Figure, Verdict

SCHEMA_VERSION = 1

# What attacks perturb, unless it is said otherwise.
THE_INPUT = "the input"

Norm = Literal["linf", "l2"]
Labels = Literal["given", "model"]


@dataclass(frozen=True)
class FileRef:
    """A file and the sha256 (hex) of its content."""

    path: str
    sha256: str


@dataclass(frozen=True)
class DeviceInfo:
    """Where the model ran: the ONNX Runtime execution provider."""

    provider: str


@dataclass(frozen=True)
class HeadInfo:
    """The last linear layer, its data input and its output."""

    node: str
    op_type: str
    features: str
    num_features: int
    logits: str
    num_classes: int


@dataclass(frozen=True)
class AttackInfo:
    """An attack and its budget; ``eps`` is in data units (pixels in [0, 1])."""

    name: str
    norm: Norm
    eps: float
    steps: int
    gradient: Literal["white-box", "gradient-free"]


@dataclass(frozen=True)
class HardenData:
    """The calibration data and the sizes of its three disjoint splits."""

    path: str
    sha256: str
    fit: int
    select: int
    report: int
    labels: Labels


@dataclass(frozen=True)
class MaskInfo:
    """The mask: ``removed`` of ``total`` features are 0, those at ``indices``."""

    method: str
    score: str | None
    ratio: float
    removed: int
    total: int
    indices: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class ModelFigures:
    """One model's accuracies, or the gain from one model to another.

    ``static`` and ``transfer`` are on samples crafted against the source model by the calibration
    attack and by the evaluation attack; ``adaptive`` is on samples crafted by the evaluation
    attack against the model itself.
    """

    clean: Figure
    static: Figure
    transfer: Figure
    adaptive: Figure


@dataclass(frozen=True)
class ControlFigures:
    """Accuracies of the source model behind a random mask of the same size."""

    clean: Figure
    transfer: Figure
    adaptive: Figure


@dataclass(frozen=True)
class Accuracy:
    """Source, hardened, their paired difference, and the random-mask control if one was run."""

    source: ModelFigures
    hardened: ModelFigures
    gain: ModelFigures
    random_mask: ControlFigures | None


@dataclass(frozen=True)
class CopiesWithin:
    """How many of the given attacked copies count at a budget; the others count nowhere."""

    eps: float
    counted: int
    outside_ball: int
    outside_box: int


@dataclass(frozen=True)
class GivenCopies:
    """Attacked copies of the samples that the user gave."""

    path: str
    sha256: str
    within: tuple[CopiesWithin, ...]


@dataclass(frozen=True)
class HardenReport:
    """The whole report of one `cloakify harden`.

    ``attack`` is the one that chose the mask, ``evaluation_attack`` the one that judged it.
    ``output`` is None where no file was written. ``timing`` is in seconds, by stage. ``perturbs``
    says in words what attacks perturb; ``copies`` are those that calibrated, if the user gave some.
    """

    kind: Literal["harden"] = field(default="harden", init=False)
    schema_version: int = field(default=SCHEMA_VERSION, init=False)
    cloakify_version: str
    source: FileRef
    output: FileRef | None
    device: DeviceInfo
    head: HeadInfo
    attack: AttackInfo
    evaluation_attack: AttackInfo
    data: HardenData
    mask: MaskInfo
    accuracy: Accuracy
    verdict: Verdict
    warnings: tuple[EvaluationWarning, ...]
    timing: Mapping[str, float]
    perturbs: str = THE_INPUT
    copies: GivenCopies | None = None
