"""Which nodes of a model, and of an attack on it, a session on CUDA would leave to the CPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cloakify.errors import CloakifyError
from cloakify.graph.analysis.attack_point import AttackPoint
from cloakify.graph.analysis.classifier_search import ClassifierSearch
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.graph.attack_steps.build import GradientSpec, build_gradient
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.onnxfile import OnnxFile
from cloakify.runtime.cuda_kernels import RELEASE
from cloakify.runtime.cuda_placement import Placement, cuda_placement

# Sides of images, and other sizes, that the file leaves open.
_SIDE, _LENGTH = 224, 128


@dataclass(frozen=True)
class CudaOutlook:
    """What :func:`cuda_outlook` found.

    Attributes
    ----------
    model
        Of the model as it is shipped.
    attack
        Of an iteration of Auto-PGD on one sample, whose nodes are those of any attack's gradients;
        ``None`` where it can't be told.
    problem
        Why it can't.
    """

    model: Placement
    attack: Placement | None
    problem: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return a JSON document."""
        return {
            "onnxruntime": RELEASE,
            "model": _document(self.model),
            "attack": None if self.attack is None else _document(self.attack),
            "problem": self.problem,
        }

    def lines(self) -> list[str]:
        """Return it in words, in one line where all is well."""
        parts = [("the model", self.model), ("an attack", self.attack)]
        known = [(name, placed) for name, placed in parts if placed is not None]
        lines = []
        if not any(placed.fallbacks for _, placed in known):
            counts = " and ".join(f"{_counted(placed)} of {name}" for name, placed in known)
            lines = [f"kernels for all nodes: {counts} (ONNX Runtime {RELEASE})"]
        else:
            for name, placed in known:
                share = f"{len(placed.fallbacks)} of {placed.nodes} nodes of {name}"
                lines.append(f"{share} would run on the CPU (ONNX Runtime {RELEASE})")
                lines += [f"  {n} {op}: {reason}" for op, reason, n in placed.counts()]
        if self.problem is not None:
            lines.append(f"attacks unknown: {self.problem}")
        return lines


def cuda_outlook(
    file: OnnxFile, entry: AttackPoint, search: ClassifierSearch | None
) -> CudaOutlook:
    """Tell where CUDA would run a model and an attack on it; nothing is run there.

    Raises
    ------
    ModelError
        The model contradicts itself.
    """
    model = cuda_placement(file.outline)
    if search is None:
        return CudaOutlook(model, None, "it is no classifier")
    if not entry.is_plain:
        return CudaOutlook(model, None, f"they perturb {entry}, which takes the data")
    spec = entry.input
    try:
        shape = (spec.batch_size or 1, *_sample_shape(spec))
        attacked = with_class_scores(file.load_weights(), search)
        asked = GradientSpec(spec.name, search.scores.logits, step="apgd")
        built = build_gradient(attacked, {spec.name: shape}, asked)
        return CudaOutlook(model, cuda_placement(built))
    except CloakifyError as error:
        return CudaOutlook(model, None, str(error))


def _sample_shape(spec: InputSpec) -> tuple[int, ...]:
    """Return the shape of a sample, with a likely number for what the model leaves open."""
    likely = _LENGTH if spec.channel_axis is None else _SIDE
    return tuple(likely if size is None else size for size in spec.sample_shape)


def _counted(placed: Placement) -> str:
    besides = f" (and {placed.arithmetic} on shapes, which stay on the CPU)"
    return f"{placed.nodes - placed.arithmetic}{besides if placed.arithmetic else ''}"


def _document(placed: Placement) -> dict[str, object]:
    return {
        "nodes": placed.nodes,
        "on_shapes": placed.arithmetic,
        "fallbacks": [asdict(entry) for entry in placed.fallbacks],
    }
