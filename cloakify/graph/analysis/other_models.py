"""Tell models that are no classifiers by what they are.

A classifier gives each sample one answer. What answers at many positions (segmenters, recognisers,
detectors), in numbers that stand for themselves (regression, embeddings, images), or without layers
(trees) is refused by name: whatever was measured on it would mean nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import onnx_graphsurgeon as gs

from cloakify.errors import HeadError, NoClassifierError
from cloakify.graph.analysis.grouped_scores import Groups
from cloakify.graph.analysis.sample_axis import samples_first
from cloakify.graph.analysis.task import Task, TaskReading, nodes_behind, scale_behind
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.imported import is_float
from cloakify.graph.model.names import called
from cloakify.graph.model.support_vectors import support_vector_sizes
from cloakify.printable import shape_text

Sizes = Sequence[int | str | None]

# Operators that only detectors need: they choose among boxes, or cut them out of a map.
_OF_DETECTORS = {
    *("NonMaxSuppression", "RoiAlign", "MaxRoiPool", "MultiLevelRoiAlign"),
    *("EfficientNMS_TRT", "BatchedNMS_TRT", "BatchedNMSDynamic_TRT", "TRTBatchedNMS"),
}
# Numbers that a box takes.
_BOX = 4
# From so many numbers on, as many as are taken are a copy and no coincidence.
_COPY = 8
# What gives scores another shape and leaves them what they are.
_MOVES = {"Cast", "Identity", "Reshape", "Transpose", "Unsqueeze"}
_NORMS = {"LpNormalization", "ReduceL2", "ReduceSumSquare"}
# What makes of one number another that is no probability.
_BENDS = {"Elu", "Exp", "LeakyRelu", "Relu", "Softplus", "Tanh"}


# What outputs are called that hold no scores, where nothing else says what they hold.
_NAMED = {
    frozenset(
        ("descriptor", "embed", "embedding", "embeddings", "embeds", "feature", "features")
    ): "an embedding",
    frozenset(("bbox", "boxes", "coords", "keypoints", "landmarks", "pose")): "a regression",
}


def refuse_detector(graph: gs.Graph, answers: Sequence[gs.Tensor]) -> None:
    """Raise HeadError where a model answers with boxes."""
    node = next((node for node in _nodes_before(graph, answers) if node.op in _OF_DETECTORS), None)
    if node is not None:
        raise _no_classifier(f"{called(node)} works on boxes", "a detector")
    boxes = [tensor for tensor in answers if _holds_boxes(tensor.shape)]
    if boxes and len(answers) > 1:
        seen = f"output {boxes[0].name!r} holds {shape_text(boxes[0].shape or ())} numbers"
        raise _no_classifier(seen, "the boxes of a detector")


def classifier_without_layer(graph: gs.Graph, answers: Sequence[gs.Tensor]) -> str:
    """Say of what kind a classifier without a linear layer is; empty where that is not known."""
    for node in _nodes_before(graph, answers):
        kernel = str(node.attrs.get("kernel_type", "LINEAR"))
        if node.op.startswith("TreeEnsemble"):
            what, how = "an ensemble of trees", " with --attack square"
        elif node.op == "SVMClassifier" and kernel != "LINEAR":
            what, how = f"support vectors with the kernel {kernel}", ""
        elif node.op == "SVMClassifier" and support_vector_sizes(node.attrs) is None:
            what, how = "support vectors whose numbers do not fit", " with --attack square"
        else:
            continue
        return (
            f"{called(node)}: {what}, without a linear layer that a mask could stand before; "
            f"evaluate and attack take it{how}"
        )
    return ""


def refuse_map(graph: gs.Graph, answers: Sequence[gs.Tensor]) -> None:
    """Raise HeadError where a model without a head answers with many numbers at many positions."""
    first = answers[0].shape if answers else None
    if first is not None and all(_is_map(graph, tensor.shape) for tensor in answers):
        seen = f"output {answers[0].name!r} holds {shape_text(first)} numbers"
        raise _no_classifier(seen, _kind_of_map(graph, first))


def refuse_positions(graph: gs.Graph, scores: gs.Tensor, classes: int) -> None:
    """Raise HeadError where the graph says that there are scores at more than one position."""
    where = positions_of(graph, scores, classes)
    if where and scores.shape is not None:
        _refuse_samples_last(graph, scores, scores.shape, classes)
        raise _no_classifier(f"{classes} scores at {where}", _kind_of_map(graph, scores.shape))


def _refuse_samples_last(graph: gs.Graph, scores: gs.Tensor, shape: Sizes, classes: int) -> None:
    """Raise HeadError where rows go in as [features, N] and come out as [C, N].

    Products with the weight in front take columns for samples. Signals of one sample that are
    judged at every step have that form, too.
    """
    inputs = [value.shape for value in graph.inputs if isinstance(value, gs.Variable)]
    tables = [sizes for sizes in inputs if sizes is not None and len(sizes) == 2]
    if len(shape) != 2 or shape[0] != classes or not tables or len(tables) < len(inputs):
        return
    if isinstance(shape[1], str) and all(sizes[1] == shape[1] for sizes in tables):
        raise HeadError(
            f"the scores {scores.name!r} have the {classes} classes along their first axis and "
            f"{shape[1]!r} along the second, as what goes in has: if that counts samples, export "
            "the model with samples first"
        )


def refuse_classes_first(graph: gs.Graph, scores: gs.Tensor, classes: int) -> None:
    """Raise HeadError where scores come out as [C, N], the samples behind the classes."""
    shape = scores.shape
    if shape is None or len(shape) != 2 or shape[0] != classes:
        return
    batch = {sizes[0] for sizes in _taken(graph) if isinstance(sizes[0], str)}
    if shape[1] in batch:
        raise HeadError(
            f"the scores {scores.name!r} have the {classes} classes along their first axis, and "
            f"the samples ({shape[1]!r}) along the second; export the model with samples first"
        )


def refuse_parts(scores: gs.Tensor, answers: Sequence[gs.Tensor]) -> None:
    """Raise HeadError where a layer's scores are cut into several answers: several tasks."""
    names = {answer.name for answer in answers}
    parts: list[frozenset[str]] = []
    for node in scores.outputs:
        if node.op in ("Gather", "Slice", "Split"):
            for part in node.outputs:
                made = {each.name for step in nodes_behind(part) for each in step.outputs}
                parts.append(frozenset(names & {part.name, *made}))
    told = [part for part in parts if part]
    if len(set(told)) > 1:
        listed = ", ".join(repr(name) for name in sorted(set().union(*told)))
        raise HeadError(
            f"the scores {scores.name!r} are cut into several answers, {listed}: choose one with "
            "--output-name"
        )


def refuse_groups(groups: Groups) -> None:
    """Raise NoClassifierError where one of more than two is chosen in each of several groups."""
    if groups.classes != 2:
        seen = f"{called(groups.choice)} chooses one of {groups.classes} at {groups.count} places"
        raise _no_classifier(seen, "several answers")


def refuse_several_axes(graph: gs.Graph, scores: gs.Tensor, count: int) -> None:
    """Raise NoClassifierError where scores come out in several axes, of which none is chosen along.

    Which of them would be the classes' the graph does not say.
    """
    outputs = {output.name for output in graph.outputs}
    tensor = scores
    while len(tensor.outputs) == 1 and tensor.outputs[0].op in _MOVES:
        tensor = tensor.outputs[0].outputs[0]
    if tensor.name not in outputs or tensor.outputs or tensor.shape is None:
        return
    sizes = [size for size in _without_batch(graph, tensor.shape) if size != 1]
    if len(sizes) > 1 and _total(sizes) == count:
        seen = f"output {tensor.name!r} holds {shape_text(tensor.shape or ())} numbers"
        raise _no_classifier(seen, "several answers a sample, or a map")


def positions_of(graph: gs.Graph, scores: gs.Tensor, classes: int) -> str:
    """Say at how many positions there are scores; empty where it is one, as far as the graph tells.

    What it leaves open shows when the model runs.
    """
    if scores.shape is None:
        return ""
    sample = _without_batch(graph, scores.shape)
    own = {size for shape in _taken(graph) for size in shape if isinstance(size, str)}
    symbolic = [size for size in sample if not isinstance(size, int)]
    named = [size for size in symbolic if size in own]
    count = math.prod(size for size in sample if isinstance(size, int)) // classes
    if named:
        return f"every position along {named[0]!r}"
    return "" if symbolic or count < 2 else f"{count} positions"


def leaves_positions_open(graph: gs.Graph, answers: Sequence[gs.Tensor], classes: int) -> bool:
    """Tell whether an answer has more axes than those of samples and classes, of unknown size."""
    for answer in answers:
        sample = _without_batch(graph, answer.shape or ())
        if len(sample) > 1 and classes in sample:
            sample.remove(classes)
            if not all(isinstance(size, int) for size in sample):
                return True
    return False


def refuse_numbers(
    graph: gs.Graph,
    scores: gs.Tensor,
    reading: TaskReading,
    classes: int,
    features: int | None,
    constants: Constants,
) -> None:
    """Raise HeadError where scores are numbers that stand for themselves.

    An answer that chooses one of several classes is none of those.

    Parameters
    ----------
    scores, reading, classes
        The scores, what is made of them, and how many there are for a sample.
    features
        How many features they are a linear map of; ``None`` where they are not known to be one.
    constants
        What is constant in the graph.
    """
    if reading.task is Task.SINGLE and reading.sign:
        return
    # A layer that widens what it takes chooses between no classes.
    if (features or 0) < classes and classes >= _COPY:
        samples = [_without_batch(graph, shape) for shape in _taken(graph)]
        if any(_total(sample) == classes for sample in samples):
            seen = f"{classes} numbers come out, as many as go in"
            raise _no_classifier(seen, "an autoencoder or another generator")
    scale = scale_behind(scores, constants)
    if reading.task is not Task.SINGLE and scale is not None:
        seen = "one sigmoid" if classes == 1 else f"{classes} sigmoids"
        raise _no_classifier(f"{seen} scaled by {called(scale)}", "a regression")
    if reading.sign:
        return
    behind = nodes_behind(scores)
    norm = next((node for node in behind if node.op in _NORMS), None)
    if norm is not None:
        raise _no_classifier(f"{called(norm)} brings the answer to one length", "an embedding")
    bend = next((node for node in behind if node.op in _BENDS), None)
    if bend is not None and classes == 1:
        raise _no_classifier(f"one number through {called(bend)}", "a regression")
    if bend is not None and bend.op == "Tanh":
        raise _no_classifier(f"scores through {called(bend)}", "an embedding or a regression")
    made = {scores.name, *(tensor.name for node in behind for tensor in node.outputs)}
    for output in graph.outputs:
        words = {*re.findall(r"[a-z]+", output.name.casefold())} if output.name in made else set()
        for named, what in _NAMED.items():
            if words & named:
                raise _no_classifier(
                    f"its output is called {output.name!r}",
                    f"{what} (--task single takes it for a classifier)",
                )


def _nodes_before(graph: gs.Graph, tensors: Sequence[gs.Tensor]) -> list[gs.Node]:
    return leading_to(graph.nodes, [tensor.name for tensor in tensors]).nodes


def _taken(graph: gs.Graph, *, whole: bool = True) -> list[Sizes]:
    """Return the shapes of the data inputs of known rank, samples first: of all, or of floats."""
    return [
        samples_first(graph, value.shape)
        for value in graph.inputs
        if isinstance(value, gs.Variable) and value.shape and (whole or is_float(value))
    ]


def _without_batch(graph: gs.Graph, shape: Sizes) -> list[int | str | None]:
    """Return a shape without its batch axis: the one that is called as an input's, or the first.

    There is none where the only one is called as another axis of an input: what takes one sample at
    a time may leave the axis of samples out.
    """
    taken = _taken(graph)
    batch = {sizes[0] for sizes in taken if isinstance(sizes[0], str)}
    others = {size for sizes in taken for size in sizes[1:] if isinstance(size, str)} - batch
    place = next((axis for axis, size in enumerate(shape) if size in batch), 0)
    if len(shape) == 1 and shape[0] in others:
        return list(shape)
    return [size for axis, size in enumerate(shape) if axis != place]


def _total(sample: Sizes) -> int | None:
    """Return how many numbers there are, where all sizes are known."""
    sizes = [size for size in sample if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(sample) else None


def _is_map(graph: gs.Graph, shape: Sizes | None) -> bool:
    """Tell whether a shape has more axes than those of samples and classes."""
    return shape is not None and sum(size != 1 for size in _without_batch(graph, shape)) > 1


def _holds_boxes(shape: Sizes | None) -> bool:
    """Tell whether a shape is that of four numbers at each of many positions."""
    return shape is not None and len(shape) > 2 and shape[-1] == _BOX and shape[-2] != 1


def _kind_of_map(graph: gs.Graph, shape: Sizes) -> str:
    """Name what gives each sample many numbers, by their shape."""
    sample = _without_batch(graph, shape)
    # What takes ids gives no ids back: as many answers as words are one for each of them.
    if any(_without_batch(graph, taken) == sample for taken in _taken(graph, whole=False)):
        return "what goes in comes out, an autoencoder or another generator"
    if len(sample) <= 2:
        return "a recogniser, a tagger or a detector"
    return "a segmenter, a detector or a generator of images"


def _no_classifier(seen: str, what: str) -> NoClassifierError:
    return NoClassifierError(f"{seen}: {what}; cloakify takes classifiers, one answer a sample")
