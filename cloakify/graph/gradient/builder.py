"""Append operators to a working graph; what gradient rules write with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from cloakify.graph.model.names import names_of
from cloakify.graph.model.shapes import shape_of

Tensor: TypeAlias = gs.Tensor

PREFIX = "cloakify_grad"

# Bytes up to which a constant is compared with those there are.
_LARGEST_SHARED = 1 << 16

# Slopes are no steeper than that, so that 0 times a slope is 0 and sums of them are numbers: the
# root of what a Relu cuts off passes no gradient on, though its own slope is infinite.
STEEPEST = 1e12

# A slope that takes every normal float32 above 0 beyond 1.
_STEEP = 3e38


class Builder:
    """Appends nodes to a graph whose forward half is a specialised model.

    Every tensor made here gets a name of its own, starting with ``cloakify_grad``; small
    constants of equal type, shape and bytes are shared.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self.graph = graph
        self.names = names_of(graph)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], gs.Constant] = {}
        self._scaled: dict[str, tuple[Tensor, float]] = {}

    def op(
        self,
        op_type: str,
        *inputs: Tensor | None,
        shape: Sequence[int] | None = None,
        dtype: np.dtype | type | None = None,
        domain: str | None = None,
        **attributes: object,
    ) -> Tensor:
        """Append a node with one output and return that output.

        ``None`` among the inputs is an optional input left out. ``shape`` and ``dtype`` describe
        the output where a rule knows them and a later one may ask; ``dtype`` defaults to that of
        the first input.
        """
        return self.ops(
            op_type, *inputs, count=1, shape=shape, dtype=dtype, domain=domain, **attributes
        )[0]

    def ops(
        self,
        op_type: str,
        *inputs: Tensor | None,
        count: int,
        shape: Sequence[int] | None = None,
        dtype: np.dtype | type | None = None,
        domain: str | None = None,
        **attributes: object,
    ) -> list[Tensor]:
        """Append a node with ``count`` outputs, all of one shape and dtype, and return them."""
        if dtype is None and inputs and inputs[0] is not None:
            dtype = inputs[0].dtype
        # A class and its dtype are equal, but not to a set. What NumPy lacks is a number of ONNX's.
        kind = dtype if dtype is None or isinstance(dtype, int) else np.dtype(dtype)
        known = None if shape is None else list(shape)
        outputs: list[Tensor] = [
            gs.Variable(self._name(op_type), dtype=kind, shape=known) for _ in range(count)
        ]
        arguments = [gs.Variable.empty() if tensor is None else tensor for tensor in inputs]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.graph.nodes.append(
            gs.Node(op_type, self._name(op_type), given, arguments, outputs, domain=domain)
        )
        return outputs

    def constant(self, values: np.ndarray) -> Tensor:
        """Return a constant; equal small ones are made once."""
        # ascontiguousarray makes a vector of a scalar; the shape is given back.
        contiguous = np.ascontiguousarray(values).reshape(values.shape)
        if values.nbytes > _LARGEST_SHARED:
            return gs.Constant(self._name("constant"), contiguous)
        key = (values.dtype.str, values.shape, contiguous.tobytes())
        if key not in self._constants:
            self._constants[key] = gs.Constant(self._name("constant"), contiguous)
        return self._constants[key]

    def scalar(self, value: float, like: Tensor) -> Tensor:
        """Return a constant of rank 0 in the dtype of ``like``."""
        return self.constant(np.array(value, like.dtype))

    def ints(self, *values: int) -> Tensor:
        """Return a 1-D int64 constant: axes, a shape, pads, …"""
        return self.constant(np.array(values, np.int64))

    # Operators that nearly every rule needs, in the forms that have CPU and CUDA kernels.

    def add(self, first: Tensor, second: Tensor) -> Tensor:
        return self.op("Add", first, second)

    def sub(self, first: Tensor, second: Tensor) -> Tensor:
        return self.op("Sub", first, second)

    def mul(self, first: Tensor, second: Tensor) -> Tensor:
        return self.op("Mul", first, second)

    def div(self, first: Tensor, second: Tensor) -> Tensor:
        return self.op("Div", first, second)

    def neg(self, tensor: Tensor) -> Tensor:
        return self.op("Neg", tensor)

    def scale(self, tensor: Tensor, factor: float) -> Tensor:
        """Multiply by a number; by 1 is nothing, and after another number it is one product."""
        if tensor.inputs and tensor.inputs[0].name in self._scaled:
            tensor, before = self._scaled[tensor.inputs[0].name]
            factor *= before
        if factor == 1:
            return tensor
        scaled = self.mul(tensor, self.scalar(factor, tensor))
        self._scaled[scaled.inputs[0].name] = tensor, factor
        return scaled

    def where(self, condition: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
        return self.op("Where", condition, then, otherwise, dtype=then.dtype)

    def step(self, tensor: Tensor) -> Tensor:
        """Return 1 where positive, else 0, in the tensor's own dtype.

        One vectorised pass where there is a kernel for it; multiplying with it is several times
        faster than ONNX Runtime's `Where`.
        """
        if tensor.dtype == np.float32:
            return self.op("HardSigmoid", tensor, alpha=_STEEP, beta=0.0)
        positive = self.compare("Greater", tensor, self.scalar(0.0, tensor))
        return self.cast(positive, tensor.dtype)

    def complement(self, share: Tensor) -> Tensor:
        """Return ``1 − share`` of a share in [0, 1].

        `HardSigmoid` takes one pass, and ONNX Runtime runs it, unlike `Sub`, in the blocks of
        channels that its convolutions work on.
        """
        if share.dtype == np.float32:
            return self.op("HardSigmoid", share, alpha=-1.0, beta=1.0)
        return self.sub(self.scalar(1.0, share), share)

    def off_zero(self, tensor: Tensor) -> Tensor:
        """Return a tensor with ``1 / STEEPEST`` for what is nearer to 0, to be divided by."""
        least = self.scalar(1 / STEEPEST, tensor)
        near = self.compare("Less", self.op("Abs", tensor), least)
        return self.where(near, least, tensor)

    def at_most(self, slope: Tensor) -> Tensor:
        """Return a slope that is no steeper than ``STEEPEST``."""
        bounds = (self.scalar(sign * STEEPEST, slope) for sign in (-1.0, 1.0))
        return self.op("Clip", slope, *bounds)

    def compare(self, op_type: str, first: Tensor, second: Tensor) -> Tensor:
        """Append ``Greater``, ``Less``, ``Equal``, …"""
        return self.op(op_type, first, second, dtype=np.bool_)

    def cast(self, tensor: Tensor, dtype: np.dtype | type) -> Tensor:
        wanted = np.dtype(dtype)
        if tensor.dtype == wanted:
            return tensor
        to = onnx.helper.np_dtype_to_tensor_dtype(wanted)
        return self.op("Cast", tensor, dtype=wanted, to=to)

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        return self.op("Reshape", tensor, self.ints(*shape), shape=shape)

    def transpose(self, tensor: Tensor, perm: Sequence[int]) -> Tensor:
        if list(perm) == list(range(len(perm))):
            return tensor
        return self.op("Transpose", tensor, perm=list(perm))

    def expand(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        return self.op("Expand", tensor, self.ints(*shape), shape=shape)

    def sum(self, tensor: Tensor, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        if not axes:
            return tensor
        return self.op("ReduceSum", tensor, self.ints(*axes), keepdims=int(keepdims))

    def sum_to(self, tensor: Tensor, shape: Sequence[int], target: Sequence[int]) -> Tensor:
        """Undo numpy broadcasting: sum ``tensor`` of ``shape`` down to ``target``.

        Parameters
        ----------
        tensor
            What to sum; its shape is ``shape`` (the builder does not track shapes by itself).
        target
            A shape that broadcasts to ``shape``.
        """
        shape, target = tuple(shape), tuple(target)
        if shape == target:
            return tensor
        lead = len(shape) - len(target)
        axes = [
            axis
            for axis, size in enumerate(shape)
            if axis < lead or (target[axis - lead] == 1 and size != 1)
        ]
        if not lead and len(shape) == 4 and axes == [2, 3]:
            return self.sum_positions(tensor, shape[2] * shape[3])
        tensor = self.sum(tensor, axes)
        return self.reshape(tensor, target) if lead else tensor

    def sum_positions(self, image: Tensor, count: int) -> Tensor:
        """Sum an NCHW tensor over its ``count`` positions, which are kept as axes of size 1.

        As a mean, which ONNX Runtime takes in the blocks of channels that its convolutions work on.
        """
        return self.scale(self.op("GlobalAveragePool", image), count)

    def scale_channels(
        self, image: Tensor, factors: np.ndarray, offsets: np.ndarray | None = None
    ) -> Tensor:
        """Return ``factors · image + offsets`` of an NC… tensor, one number a channel.

        As a depthwise convolution: ONNX Runtime runs it in blocks of channels, unlike products with
        constants, and adds another image in the same pass.
        """
        weights = factors.reshape(-1, *[1] * (len(shape_of(image)) - 1)).astype(image.dtype)
        bias = None if offsets is None else self.constant(offsets.astype(image.dtype))
        inputs = [image, self.constant(weights), *([] if bias is None else [bias])]
        return self.op("Conv", *inputs, shape=shape_of(image), group=len(factors))

    def magnify(self, image: Tensor, times: Sequence[int]) -> Tensor:
        """Repeat each position of an NC… tensor ``times`` along its axis.

        ONNX Runtime does that several times as fast as `Expand`, and in blocks of channels.
        """
        return self.op(
            "Resize",
            image,
            None,
            self.constant(np.array([1, 1, *times], np.float32)),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _name(self, stem: str) -> str:
        return self.names.fresh(f"{PREFIX}_{stem}")
