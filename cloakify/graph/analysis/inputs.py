"""What a model takes: the one data input, its shape, and where its channels are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from cloakify.errors import ModelError
from cloakify.printable import shape_text

# Numbers that an input may declare to take at once: a gigabyte of floats.
MOST_NUMBERS = 1 << 28


@dataclass(frozen=True)
class InputSpec:
    """The data input of a classifier.

    Attributes
    ----------
    name
        The graph input's name.
    shape
        Batch axis first, wherever the model has it; ``None`` where the size is symbolic.
    dtype
        Element type of the arrays to feed.
    channel_axis
        1 for NCHW, the last axis for NHWC, ``None`` for anything that is no image.
    sample_axis
        Which axis of what the model takes counts samples: 1 in [time, samples, features].
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[np.generic]
    channel_axis: int | None
    sample_axis: int = 0

    def as_taken(self, samples: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return samples [n, …] with their axis where the model has it."""
        return samples if not self.sample_axis else np.moveaxis(samples, 0, self.sample_axis)

    @property
    def sample_shape(self) -> tuple[int | None, ...]:
        """Shape of one sample, without the batch axis."""
        return self.shape[1:]

    @property
    def batch_size(self) -> int | None:
        """The batch size that the graph is fixed to, or ``None``."""
        return self.shape[0]

    @property
    def gradient_dtype(self) -> np.dtype[np.generic]:
        """What gradients are computed in: double for double, float32 for all others."""
        return np.dtype(np.float64 if self.dtype == np.float64 else np.float32)

    @property
    def channels(self) -> int | None:
        """Number of channels, or ``None`` when the input is no image or the size is symbolic."""
        return None if self.channel_axis is None else self.shape[self.channel_axis]


def find_input(model: ModelProto) -> InputSpec:
    """Find the data input of ``model``.

    Graph inputs that are also initializers (IR version 3 lists every weight as an input) are not
    data.

    Raises
    ------
    ModelError
        There is no data input, more than one, or one without a tensor type and rank.
    """
    return input_spec(only_one(data_inputs(model)))


def data_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Return the graph inputs that are no initializers, in order."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in initializers]


def only_one(inputs: Sequence[ValueInfoProto]) -> ValueInfoProto:
    """Return the one input there is.

    Raises
    ------
    ModelError
        There are none, or several.
    """
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(
            f"the model must have one data input, it has {len(inputs)} ({names}); give the others "
            "a value within the graph, or export the model with one"
        )
    return inputs[0]


def input_spec(value: ValueInfoProto, sample_axis: int = 0) -> InputSpec:
    """Describe a graph input, whose axis of that number counts samples.

    Raises
    ------
    ModelError
        It has no tensor type or rank.
    """
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        raise ModelError(f"input {value.name!r} is not a tensor of known rank")
    shape = _shape(value)
    if not shape:
        raise ModelError(f"input {value.name!r} is a scalar; a batch axis is needed")
    shape = (shape[sample_axis], *shape[:sample_axis], *shape[sample_axis + 1 :])
    if math.prod(filter(None, shape)) > MOST_NUMBERS:
        raise ModelError(
            f"input {value.name!r} takes {shape_text(shape)} numbers, more than memory holds"
        )
    element_type = value.type.tensor_type.elem_type
    if element_type == TensorProto.UNDEFINED:
        raise ModelError(f"input {value.name!r} has no element type")
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    channel_axis = find_channel_axis(shape)
    return InputSpec(value.name, shape, np.dtype(dtype), channel_axis, sample_axis)


def _shape(value: ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in value.type.tensor_type.shape.dim
    )


def find_channel_axis(shape: tuple[int | None, ...]) -> int | None:
    """Tell NCHW from NHWC: an image has 1 to 4 channels and more rows and columns than that."""
    if len(shape) != 4:
        return None
    first, last = shape[1], shape[3]
    if first is not None and first <= 4 and (last is None or last > 4):
        return 1
    if last is not None and last <= 4 and (first is None or first > 4):
        return 3
    # Both small or both large: ONNX's own convention.
    return 1 if first is not None else None
