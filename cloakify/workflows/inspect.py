"""Inspect: what cloakify sees in a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from onnx import ModelProto

from cloakify.errors import CloakifyError, HeadError, ModelError, about
from cloakify.experiment.classifier import wanted_of
from cloakify.experiment.cuda_outlook import CudaOutlook, cuda_outlook
from cloakify.experiment.model_settings import find_tokenizer, input_settings, names_of_classes
from cloakify.graph.analysis.attack_point import AttackPoint, find_attack_point
from cloakify.graph.analysis.classifier_search import ClassifierSearch, Wanted, find_classifier
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.graph.analysis.scores import describe
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.gates import has_gates, read_gates
from cloakify.graph.edit.mask import find_mask
from cloakify.graph.gradient.coverage import Coverage, gradient_coverage
from cloakify.limits.stages import opening
from cloakify.onnxfile import OnnxFile, open_model, path_of, read_metadata
from cloakify.onnxfile.domains import standard_version
from cloakify.onnxfile.sizes import weights_size
from cloakify.runtime import CPU, Session
from cloakify.settings import DataOptions, ModelOptions

# Bytes of weights up to which a model is opened in ONNX Runtime, as a try.
TRIED = 1 << 28

_POSITIONS_OPEN = ", at as many positions as the input makes: a classifier only where that is one"


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found.

    Attributes
    ----------
    entry
        Which tensor attacks perturb: the input, or one inside the graph.
    search
        The head, the linear layers that were not taken, and the task; ``None`` where the model is
        no classifier. Where it can be attacked and judged alone it has no head. ``problem`` says
        why there is none.
    coverage
        Whether every operator on the way from input to logits has a gradient rule.
    masked
        How many features are masked (of tuned gates: are 0), of how many, where it is hardened.
    metadata
        cloakify's entries, and the model's own.
    inputs
        How inputs are made, and what says so; or why that can't be told.
    class_names
        What the classes are called, where something says so.
    cuda
        What CUDA has no kernels for, where that was asked.
    undecided
        What has to be said before anything is attacked; ``entry`` is one of several inputs then.
    unrunnable
        Why ONNX Runtime does not open the model; ``None`` where it does, or where the weights are
        too large to try.
    """

    path: Path
    sha256: str
    opset: int
    producer: str
    num_nodes: int
    entry: AttackPoint
    search: ClassifierSearch | None
    problem: str | None
    coverage: Coverage | None
    masked: tuple[int, int] | None
    metadata: dict[str, str]
    foreign_metadata: dict[str, str]
    inputs: str
    class_names: tuple[str, ...] | None
    cuda: CudaOutlook | None = None
    undecided: str | None = None
    unrunnable: str | None = None

    @property
    def head(self) -> Head | None:
        """The head, where there is one."""
        return None if self.search is None else self.search.head

    @property
    def alternatives(self) -> tuple[Head, ...]:
        """Linear layers that were not taken, nearest to the outputs first."""
        return () if self.search is None else self.search.alternatives

    @property
    def spec(self) -> InputSpec:
        """The data input."""
        return self.entry.input

    @property
    def answers(self) -> str:
        """What the model answers with, in words."""
        if self.search is None:
            return ""
        said = describe(self.search.scores, self.search.reading.sign)
        return said + _POSITIONS_OPEN * self.search.positions_open

    def to_dict(self) -> dict[str, object]:
        """Return a JSON document; ``head`` is the report's object of that name."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "opset": self.opset,
            "producer": self.producer,
            "nodes": self.num_nodes,
            "input": {
                "name": self.spec.name,
                "shape": list(self.spec.shape),
                "dtype": str(self.spec.dtype),
                "channel_axis": self.spec.channel_axis,
            },
            "other_inputs": [spec.name for spec in self.entry.others],
            "perturbs": None
            if self.undecided is not None
            else {
                "tensor": self.entry.tensor,
                "tensors": list(self.entry.perturbed),
                "kind": self.entry.kind,
                "node": self.entry.node or None,
                "op_type": self.entry.op_type or None,
            },
            "undecided": self.undecided,
            "unrunnable": self.unrunnable,
            "task": None if self.search is None else _task(self.search),
            "head": None if self.head is None else _head(self.head),
            "problem": self.problem,
            "alternatives": [_layer(head) for head in self.alternatives],
            "gradient": None if self.coverage is None else asdict(self.coverage),
            "mask": None
            if self.masked is None
            else {"removed": self.masked[0], "total": self.masked[1]},
            "cloakify": self.metadata,
            "metadata": self.foreign_metadata,
            "preprocessing": self.inputs,
            "class_names": None if self.class_names is None else list(self.class_names),
            "cuda": None if self.cuda is None else self.cuda.to_dict(),
        }


def inspect(
    path: str | os.PathLike[str], options: ModelOptions | None = None, device: str = "auto"
) -> Inspection:
    """Look at a model without running it.

    Parameters
    ----------
    path
        The ``.onnx`` file.
    options
        What is said of it.
    device
        ``cuda`` for what CUDA has no kernels for, which needs no GPU.

    Raises
    ------
    ModelError
        The file is no ONNX model, or no tensor of it can be attacked.
    """
    path = path_of(path)
    with opening(path), about(path):
        file = open_model(path)
        model = file.outline
        options = options or ModelOptions()
        entry, undecided = _attack_point(model, options)
        wanted = wanted_of(options)
        search, problem = _search(model, wanted)
        logits = None if search is None else search.scores.shipped
        own = read_metadata(model)
        more = () if undecided else (spec.name for spec in entry.also)
        coverage = None if logits is None else gradient_coverage(model, entry.tensor, logits, *more)
        masked = _masked(model, own)
        asked = device.partition(":")[0] == "cuda"
        outlook = cuda_outlook(file, entry, search) if asked else None
        unrunnable = _unrunnable(file)
    return Inspection(
        path=file.path,
        sha256=file.sha256,
        opset=standard_version(model, 0),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        num_nodes=len(model.graph.node),
        entry=entry,
        search=search,
        problem=problem,
        coverage=coverage,
        masked=masked,
        metadata=own,
        foreign_metadata={
            entry.key: entry.value
            for entry in model.metadata_props
            if not entry.key.startswith("cloakify.")
        },
        inputs=_inputs(file, entry),
        class_names=None if search is None else names_of_classes(file, search.scores.num_classes),
        cuda=outlook,
        undecided=undecided,
        unrunnable=unrunnable,
    )


def _unrunnable(file: OnnxFile) -> str | None:
    """Say why ONNX Runtime does not open a model, where that is quickly tried."""
    if weights_size(file.model) > TRIED:
        return None
    try:
        Session(file.load_weights(), CPU, optimise=False)
    except ModelError as error:
        return str(error)
    return None


def _attack_point(model: ModelProto, options: ModelOptions) -> tuple[AttackPoint, str | None]:
    """Return where attacks enter; or what has to be said before, with one of the inputs there are.

    Raises ModelError where none of them can be attacked.
    """
    try:
        return find_attack_point(model, options.attack_input), None
    except ModelError as error:
        return find_attack_point(model, any_of_floats=True), str(error)


def _inputs(file: OnnxFile, entry: AttackPoint) -> str:
    if entry.kind == "embedding":
        tokenizer = find_tokenizer(file)
        if tokenizer is None:
            return "ids; text would take a tokenizer.json beside the model"
        return f"ids, or text by {tokenizer.name} beside the model"
    try:
        made = input_settings(file, entry, DataOptions())
    except CloakifyError as error:
        return f"unknown: {error}"
    what = made.numbers if entry.input.channel_axis is None else made
    return f"{what} ({made.source or 'nothing says otherwise'})"


def _search(model: ModelProto, wanted: Wanted) -> tuple[ClassifierSearch | None, str | None]:
    """Return what is found in a model, without a head where it has none for a mask, and why not."""
    try:
        return find_classifier(model, wanted), None
    except HeadError as error:
        problem = str(error)
    try:
        judged = find_classifier(model, wanted, needs_head=False)
    except HeadError:
        return None, problem
    return replace(judged, head=None, alternatives=(), problem=problem), problem


def _masked(model: ModelProto, said: Mapping[str, str]) -> tuple[int, int] | None:
    """Return how many features are masked, or how many gates are 0, and how many there are."""
    installed = find_mask(model)
    if installed is not None:
        return int((installed.values == 0).sum()), len(installed.values)
    if has_gates(model):
        gates = np.concatenate(read_gates(model, shifts=False))
        return int((gates == 0).sum()), len(gates)
    # Gates that were folded into the weights can't be seen without the source.
    removed, total = said.get("mask.removed", ""), said.get("mask.total", "")
    if said.get("method") == "tuned" and removed.isdecimal() and total.isdecimal():
        return int(removed), int(total)
    return None


def _task(search: ClassifierSearch) -> dict[str, object]:
    scores = search.scores
    bounds = None if scores.task is Task.SINGLE else scores.boundary.probabilities
    return {
        "name": scores.task.value,
        "sign": search.reading.sign or None,
        "num_classes": scores.num_classes,
        "threshold": bounds[0] if bounds is not None and len(bounds) == 1 else bounds,
    }


def _layer(layer: Head) -> dict[str, object]:
    """Return what a layer is that was not taken for the head: what it puts out are channels."""
    told = _head(layer)
    return {("channels" if key == "num_classes" else key): value for key, value in told.items()}


def _head(head: Head) -> dict[str, object]:
    return {
        "node": head.node,
        "op_type": head.op_type,
        "features": head.features,
        "num_features": head.num_features,
        "logits": head.logits,
        "num_classes": head.num_classes,
    }
