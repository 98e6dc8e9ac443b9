"""What `cloakify harden` reports: plain data, in the order and under the names of the JSON file.

These types are the report's only definition: its JSON and its schema are derived from them. Every
accuracy is a `cloakify.evaluation.Figure`: a value in [0, 1] with its 95 % interval and the number
of samples behind it. All of them are measured on the report split, on which nothing was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cloakify.evaluation import Difference, EvaluationWarning, Figure, Verdict
from cloakify.evaluation.label_figures import LabelFigures
from cloakify.numeric.norms import Norm

SCHEMA_VERSION: Literal[1] = 1
"""Within one version fields are only added, none of them required; a test holds us to that."""

# What attacks perturb, unless it is said otherwise.
THE_INPUT = "the input"

Name = Annotated[str, Meta(min_length=1)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
PositiveCount = Annotated[int, Meta(ge=1)]
Eps = Annotated[float, Meta(ge=0, description="budget in data units (pixels in [0, 1])")]
Timing = Mapping[str, Annotated[float, Meta(ge=0, description="seconds")]]
Perturbed = Annotated[
    str,
    Meta(
        min_length=1,
        description="what attacks perturb: the input, or a tensor inside the graph",
    ),
]
Notes = Annotated[
    tuple[str, ...], Meta(description="what was chosen, passed over or left out on the way")
]
Command = Annotated[str, Meta(min_length=1, description="what a shell repeats the run with")]
Labels = Annotated[
    Literal["given", "model"],
    Meta(description="model: accuracy means agreement with the (first) model's clean prediction"),
]


@dataclass(frozen=True)
class FileRef:
    """A file and the sha256 (hex) of its content."""

    path: Name
    sha256: Sha256


@dataclass(frozen=True)
class DeviceInfo:
    """Where the model ran: the ONNX Runtime execution provider.

    And that of gradients, where it is another one, and on a GPU whether factors of products may be
    rounded to TensorFloat-32.
    """

    provider: Name
    gradients: Name | UnsetType = UNSET
    tf32: bool | UnsetType = UNSET


@dataclass(frozen=True)
class WorkersInfo:
    """Workers of one kind: how many, what ran the model in them, on what, with how many cores."""

    count: PositiveCount
    provider: Name
    onnxruntime: Name
    cpu: str
    cores: PositiveCount


@dataclass(frozen=True)
class EngineInfo:
    """Who did the work, where that was not the reporting process alone.

    ``seconds`` is what all workers together have worked; the stages' ``timing`` is wall time.
    ``again`` counts chunks of samples that were done again, as a worker had failed or died.
    """

    name: Literal["ray"]
    workers: tuple[WorkersInfo, ...]
    seconds: Annotated[float, Meta(ge=0, description="seconds")]
    again: Count


Task = Literal["single", "binary", "multilabel"]
"""One of several classes is right, one of two by a single logit, or any of several labels."""


@dataclass(frozen=True)
class HeadInfo:
    """The last linear layer, its data input and its output.

    ``num_classes`` counts the classes or labels that are judged, which may be two for one logit.
    """

    node: str
    op_type: Name
    features: Name
    num_features: PositiveCount
    logits: Name
    num_classes: PositiveCount
    task: Task = "single"


@dataclass(frozen=True, kw_only=True)
class AttackInfo:
    """An attack; norm and budget are left out where it is run at all of a report's budgets."""

    name: Name
    norm: Norm | UnsetType = UNSET
    eps: Eps | UnsetType = UNSET
    steps: PositiveCount
    gradient: Literal["white-box", "gradient-free"]


@dataclass(frozen=True)
class HardenData:
    """The calibration data and the sizes of its three disjoint splits.

    ``classes`` are the names of classes or labels, in the model's order, where data or model tell.
    """

    path: Name
    sha256: Sha256
    fit: Count
    select: Count
    report: Count
    labels: Labels
    preprocessing: str | None = None
    preprocessing_source: str | None = None
    classes: tuple[Name, ...] | None = None


@dataclass(frozen=True)
class TuningInfo:
    """What gates were tuned by: steps of the optimiser, and the attack in each."""

    attack: AttackInfo
    steps: Count


@dataclass(frozen=True)
class MaskInfo:
    """The mask: ``removed`` of ``total`` features (or gates) are 0, those at ``indices``.

    ``shifts`` is how many were tuned beside the gates, ``unlabelled`` on how many samples without
    labels besides those of the data, ``tuning`` what by.
    """

    method: Name
    score: str | None
    ratio: Annotated[float, Meta(ge=0, le=1)]
    removed: Count
    total: PositiveCount
    indices: Annotated[tuple[Count, ...], Meta(extra_json_schema={"uniqueItems": True})]
    sha256: Sha256
    shifts: Count = 0
    unlabelled: Count = 0
    tuning: TuningInfo | UnsetType = UNSET


@dataclass(frozen=True)
class ModelFigures:
    """One model's accuracies.

    ``static`` and ``transfer`` are on samples crafted against the source model by the calibration
    attack and by the evaluation attack; ``adaptive`` is on samples crafted by the evaluation
    attack against the model itself.
    """

    clean: Figure
    static: Figure
    transfer: Figure
    adaptive: Figure


@dataclass(frozen=True)
class ModelGains:
    """Hardened minus source, on the samples of `ModelFigures`."""

    clean: Difference
    static: Difference
    transfer: Difference
    adaptive: Difference


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
    gain: ModelGains
    random_mask: ControlFigures | None


@dataclass(frozen=True)
class LabelAccuracy:
    """How independent labels are answered one by one, on clean samples and on attacked ones.

    The attacked ones are driven to the highest sum of the labels' losses by ``attack``. Everywhere
    else accuracy is the exact match: all labels of a sample are right.
    """

    attack: Name
    eps: Eps
    clean: LabelFigures
    attacked: LabelFigures


@dataclass(frozen=True)
class HardenLabels:
    """Labels of source and hardened model."""

    source: LabelAccuracy
    hardened: LabelAccuracy


@dataclass(frozen=True)
class CopiesWithin:
    """How many of the given attacked copies count at a budget; the others count nowhere."""

    eps: Eps
    counted: Count
    outside_ball: Count
    outside_box: Count


@dataclass(frozen=True)
class GivenCopies:
    """Attacked copies of the samples that the user gave."""

    path: Name
    sha256: Sha256
    within: tuple[CopiesWithin, ...]


class HardenReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="harden"):
    """The whole report of one `cloakify harden`.

    ``attack`` is the one that chose the mask, ``evaluation_attack`` the one that judged it.
    ``output`` is null where no file was written, ``labels`` where samples have a class each.
    ``timing`` is in seconds, by stage. ``perturbs`` says in words what attacks perturb; ``copies``
    are those that calibrated, if the user gave some.
    """

    schema_version: Literal[1]
    cloakify_version: Name
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
    timing: Timing
    perturbs: Perturbed
    copies: GivenCopies | None
    labels: HardenLabels | None = None
    command: Command | UnsetType = UNSET
    engine: EngineInfo | UnsetType = UNSET
    notes: Notes | UnsetType = UNSET
