"""Attack a tensor inside the graph, where the model's inputs can't be perturbed themselves.

See :mod:`cloakify.graph.analysis.attack_point` for which tensor that is. Samples are then that
tensor's values, computed by the shipped graph from the data's inputs; ε counts in the tensor's root
mean square for embeddings, and in data units for whole numbers made floats (pixels of 8 bits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.attacks.threat import (
    ThreatModel,
    check_width,
    make_relative_threat,
    make_threat,
    packed_threat,
)
from cloakify.data import Dataset, Preprocessing
from cloakify.errors import DataError, ModelError
from cloakify.graph.analysis.attack_point import AttackPoint
from cloakify.graph.analysis.inputs import InputSpec, find_channel_axis
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.edit.cut import Packing, check_exact, cut_inside, inputs_beside, part_of, turn
from cloakify.graph.edit.taps import tap
from cloakify.numeric.arrays import filled
from cloakify.report.records import THE_INPUT
from cloakify.runtime import Device, Session
from cloakify.settings import Setting

# Samples that the root mean square is taken over, and that the cut graph is tried on.
MEASURED, TRIED = 256, 4

# Largest difference of logits that is still rounding, relative to the largest logit.
TOLERANCE = 1e-3

Inputs = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class LatentInput:
    """Attacks inside one classifier.

    Attributes
    ----------
    entry
        Which tensor they perturb.
    packing
        What a sample is: the tensor's values, and what the rest of the graph reads of the inputs.
    turned
        How many axes the head's features have where the second one counts samples, else 0: in
        :meth:`cut`'s models they come first, as everything does there.
    """

    entry: AttackPoint
    packing: Packing
    _model: ModelProto
    _scores: Scores
    _device: Device
    _batch_size: int
    turned: int = 0

    @property
    def holds_inputs(self) -> bool:
        """Whether samples are what one input takes, but for the order of its axes."""
        return self.entry.kind == "input" and len(self.packing.parts) == 1

    @property
    def tensor_spec(self) -> InputSpec:
        """The tensor, as if it were an input."""
        return self.perturbed_specs[0]

    @property
    def perturbed_specs(self) -> list[InputSpec]:
        """All that is perturbed, as if each were an input."""
        specs = []
        for name, sizes in zip(self.entry.perturbed, self.packing.shapes, strict=False):
            shape = (self.entry.input.batch_size, *sizes)
            axis = None if self.entry.kind == "embedding" else find_channel_axis(shape)
            specs.append(InputSpec(name, shape, np.dtype(np.float32), axis))
        return specs

    @cached_property
    def spec(self) -> InputSpec:
        """The input of :meth:`cut`'s models."""
        name = self._cut(self._model, self._scores)[1]
        spec = self.tensor_spec
        if len(self.packing.parts) == 1:
            return InputSpec(name, spec.shape, spec.dtype, spec.channel_axis)
        return InputSpec(name, (spec.batch_size, *self.packing.sample_shape), spec.dtype, None)

    def cut(self, model: ModelProto, scores: Scores) -> ModelProto:
        """Return the part of a model behind the tensor: the classifier, or one hardened from it."""
        return self._cut(model, scores)[0]

    def _cut(self, model: ModelProto, scores: Scores) -> tuple[ModelProto, str]:
        outputs = list(dict.fromkeys([scores.features, scores.shipped]))
        batch = self.entry.input.batch_size
        cut, name = cut_inside(model, self.entry.tensor, self.packing, outputs, batch)
        return (turn(cut, scores.features, self.turned) if self.turned else cut), name

    def pack(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return samples of the model's inputs; float32 [n, …].

        Raises
        ------
        DataError
            An id has no row in the table, or is too large a number.
        """
        beside = [part.name for part in self.packing.parts[1:]]
        for name in beside:
            fault = check_exact(inputs[name], name)
            if fault is not None:
                raise DataError(fault)
        arrays = [self.tensor(inputs), *(inputs[name] for name in beside)]
        return self.packing.pack(arrays, len(inputs[self.entry.input.name]))

    def tensor(self, inputs: Inputs) -> NDArray[np.generic]:
        """Return the tensor's values for samples, as the shipped graph computes them."""
        if self.entry.kind == "input":
            return inputs[self.entry.tensor]
        check_ids(self.entry, inputs)
        axis = self.packing.parts[0].sample_axis
        return run_prefix(self._prefix, self.entry, inputs, self._batch_size, axis)

    @cached_property
    def _prefix(self) -> Session:
        return open_prefix(self._model, self.entry, self._device)

    def threat(self, setting: Setting, preprocessing: Preprocessing, unit: float) -> ThreatModel:
        """Return what an attacker may do to samples.

        Raises
        ------
        UsageError
            As :func:`~cloakify.attacks.threat.make_threat`.
        """
        specs = self.perturbed_specs
        norm, eps = setting.threat.norm, setting.threat.eps
        if self.entry.kind == "embedding":
            threats = [make_relative_threat(norm, eps, unit, len(specs[0].shape))]
        else:
            threats = threats_of(self.entry, specs, setting, preprocessing)
        if len(self.packing.parts) == 1:
            return threats[0]
        shapes = self.packing.shapes[: len(threats)]
        return packed_threat(threats, shapes, self.packing.sample_shape[0])

    def checked(self, model: ModelProto, inputs: Inputs) -> LatentInput:
        """Return the same with what a run tells of its features.

        Raises ModelError unless the cut graph's logits are the shipped graph's. ``inputs`` are as
        many samples as the model takes. They are fed to the cut one in reverse order: a tensor
        whose axis only looks as if it counted them does not pass.
        """
        logits, features = self._scores.shipped, self._scores.features
        wanted = list(dict.fromkeys([logits, features]))
        whole = Session(tap(model, wanted), self._device)
        run = whole.run(self.entry.as_taken({name: inputs[name] for name in whole.inputs}))
        cut = Session(tap(self.cut(model, self._scores), wanted), self._device)
        from_cut = cut.run({self.spec.name: self.pack(inputs)[::-1]})
        apart = _apart(run[logits], from_cut[logits][::-1])
        if not apart <= TOLERANCE:
            raise ModelError(
                f"the logits do not follow from {self.entry} alone (off by {apart:g}): "
                "samples can't be attacked there one by one"
            )
        values, samples = run[features], len(next(iter(inputs.values())))
        if values.ndim < 3 or values.shape[1] != samples:
            return self
        is_turned = len(values) % samples or _apart(values, from_cut[features][::-1]) > TOLERANCE
        return replace(self, turned=values.ndim) if is_turned else self


def open_latent_input(
    model: ModelProto,
    entry: AttackPoint,
    scores: Scores,
    dataset: Dataset,
    device: Device,
    batch_size: int,
) -> LatentInput:
    """Find out what samples of a classifier are that is attacked inside, and check that they do.

    Parameters
    ----------
    model
        The classifier with its weights in it.
    dataset
        Its data; the shapes are taken from the first samples.

    Raises
    ------
    ModelError
        The tensor does not hold a sample's values side by side.
    DataError
        A sample can't be read.
    """
    samples = entry.input.batch_size or min(TRIED, len(dataset))
    inputs = dataset.inputs(np.resize(np.arange(len(dataset)), samples))
    outputs = [scores.features, scores.shipped]
    axes = {spec.name: spec.sample_axis for spec in (entry.input, *entry.others)}
    also = [spec.name for spec in entry.also]
    read = inputs_beside(model, entry.tensor, outputs)
    for name in also:
        if name not in read:
            raise ModelError(f"input {name!r} does not lead to the logits: it can't be attacked")
    beside = [
        part_of(name, inputs[name], samples, axes[name])
        for name in (*also, *(name for name in read if name not in also))
    ]
    prefix = None
    if entry.kind != "input":
        check_ids(entry, inputs)
        prefix = open_prefix(model, entry, device)
    refusals: list[ModelError] = []
    # Inside a graph sequences may be turned: to [time, samples, features], whatever goes in.
    for axis in (entry.input.sample_axis,) if prefix is None else (0, 1):
        try:
            if prefix is None:
                values = inputs[entry.tensor]
            else:
                values = run_prefix(prefix, entry, inputs, batch_size, axis)
                if values.dtype.kind != "f":
                    raise ModelError(
                        f"{entry} is {values.dtype}, not floats, and can't be attacked"
                    )
            parts = (part_of(entry.tensor, values, samples, axis), *beside)
            latent = LatentInput(entry, Packing(parts), model, scores, device, batch_size)
            return latent.checked(model, inputs)
        except ModelError as error:
            refusals.append(error)
    raise refusals[0]


def threats_of(
    entry: AttackPoint, specs: Sequence[InputSpec], setting: Setting, preprocessing: Preprocessing
) -> list[ThreatModel]:
    """Return what an attacker may do to each tensor that is attacked.

    Parameters
    ----------
    specs
        What these are, the entry's own first.

    Raises
    ------
    UsageError
        As :func:`~cloakify.attacks.threat.make_threat`, or a budget is wider than the data.
    """
    norm, eps = setting.threat.norm, setting.threat.eps
    threats = []
    for place, (spec, unit) in enumerate(zip(specs, entry.units, strict=True)):
        known = not place or spec.name in entry.bounded
        done = preprocessing if known else Preprocessing()
        box = setting.data.box if known and entry.kind != "embedding" else None
        threats.append(make_threat(norm, eps, spec, done, box, unit))
        check_width(threats[-1], eps)
    return threats


def _apart(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> float:
    """Return by how much values differ at most, relative to the largest if that is above 1."""
    right = expected.astype(np.float64)
    largest = max(1.0, float(np.abs(right).max(initial=0.0)))
    return float(np.abs(actual.astype(np.float64) - right).max(initial=0.0)) / largest


def root_mean_square(latent: LatentInput, dataset: Dataset) -> float:
    """Return the root mean square of the perturbed tensor over samples from all of the data.

    Raises
    ------
    ModelError
        It is 0.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(MEASURED, len(dataset))).astype(int))
    values = latent.tensor(dataset.inputs(chosen)).astype(np.float64)
    size = float(np.sqrt(np.square(values).mean()))
    if not (size > 0 and np.isfinite(size)):
        raise ModelError(f"{latent.entry} has a root mean square of {size:g}; ε has no unit there")
    return size


def described(entry: AttackPoint, unit: float) -> str:
    """Say what attacks perturb, as a report does."""
    if entry.kind == "input":
        return THE_INPUT if entry.is_plain else str(entry)
    if entry.kind == "embedding":
        return f"{entry}; ε is relative to its root mean square, {unit:.4g}"
    return f"{entry}; the attacked values need not be whole numbers"


def check_ids(entry: AttackPoint, inputs: Inputs) -> None:
    """Raise DataError where an id has no row in the table."""
    ids = inputs[entry.input.name]
    if entry.rows is None or not ids.size:
        return
    low, high = int(ids.min()), int(ids.max())
    if low < -entry.rows or high >= entry.rows:
        raise DataError(
            f"input {entry.input.name!r} holds id {high if high >= entry.rows else low}, but the "
            f"table of {entry.op_type} {entry.node!r} has {entry.rows} rows: encode the data with "
            "the model's own tokenizer"
        )


def open_prefix(model: ModelProto, entry: AttackPoint, device: Device) -> Session:
    """Open the part of a model that computes the tensor."""
    return Session(tap(model, [entry.tensor]), device)


def run_prefix(
    session: Session, entry: AttackPoint, inputs: Inputs, batch_size: int, sample_axis: int
) -> NDArray[np.generic]:
    """Return the tensor's values for samples, these first, a batch at a time.

    Raises
    ------
    ModelError
        That axis of the tensor does not count them.
    """
    samples = len(inputs[entry.input.name])
    fixed = entry.input.batch_size
    size = fixed or batch_size
    parts: list[NDArray[np.generic]] = []
    for start in range(0, samples, size):
        part = {name: inputs[name][start : start + size] for name in session.inputs}
        count = len(part[entry.input.name])
        filled_up = {name: filled(array, fixed or 0) for name, array in part.items()}
        tensor = session.run(entry.as_taken(filled_up))[entry.tensor]
        if sample_axis and tensor.ndim > sample_axis:
            tensor = np.moveaxis(tensor, sample_axis, 0)
        if not tensor.ndim or len(tensor) % (fixed or count):
            part_of(entry.tensor, tensor, fixed or count)
        parts.append(tensor[: count * (len(tensor) // (fixed or count))])
    return np.concatenate(parts)
