"""Fold gates into the weights before them: the source's exact graph and speed.

    gate · (W x + bias gate · b) = (gate·W) x + bias gate · (gate·b)

Gates are kept to numbers of nine significant bits. That is as good as exact for what they do, and
it makes folding reversible: the factor is read off the two weights by division, rounded to such a
number, and then every weight must be the source's times it to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.gate_sites import GateSite
from cloakify.graph.edit.gates import Gates
from cloakify.numeric.arrays import Array
from cloakify.onnxfile import values_of, write_metadata

# Half a unit in the last place of float16 is 2^-11: fine enough to tell numbers of nine bits apart.
BITS = 9


# bfloat16 has eight bits itself, too few to read a factor off.
_EXACT = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}


def round_gates(gates: NDArray[np.generic]) -> Array:
    """Return the nearest numbers of nine significant bits, float32."""
    mantissa, exponent = np.frexp(gates.astype(np.float64))
    rounded = np.round(mantissa * 2.0**BITS) / 2.0**BITS
    return np.ldexp(rounded, exponent).astype(np.float32)


def fold_gates(
    model: ModelProto, sites: Sequence[GateSite], gates: Gates, metadata: Mapping[str, str]
) -> ModelProto:
    """Return a copy of ``model`` with gates multiplied into the weights and biases of their sites.

    Parameters
    ----------
    model
        The source, its weights within it.
    sites
        Where; all must be foldable.
    gates
        The factors of each site, [channels], as :func:`round_gates` makes them.
    metadata
        Entries to write, keys without the ``cloakify.`` prefix.

    Raises
    ------
    ModelError
        A site can't be folded: its weights are shared, computed, not in the message, or bfloat16.
    """
    folded = ModelProto()
    folded.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in folded.graph.initializer}
    for site, values in zip(sites, gates, strict=True):
        check_foldable(site, tensors)
        for name, axis in site.scaled:
            _replace(tensors[name], _scaled(values_of(tensors[name]), axis, values))
    write_metadata(folded, metadata)
    return folded


def check_foldable(site: GateSite, tensors: Mapping[str, TensorProto]) -> None:
    """Raise ModelError unless the site's gates can be folded into these initializers."""
    if not site.foldable:
        raise ModelError(
            f"{site.op_type} {site.name!r}: its weights serve other nodes too or are computed, so "
            "its gates can't be folded; use --emit mul"
        )
    for name, _ in site.scaled:
        tensor = tensors[name]
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ModelError(f"{name!r} lies outside the message; read it first")
        if tensor.data_type not in _EXACT:
            kind = TensorProto.DataType.Name(tensor.data_type)
            raise ModelError(f"{name!r} is {kind}, in which gates can't be folded; use --emit mul")


def recover_gates(source: ModelProto, folded: ModelProto, sites: Sequence[GateSite]) -> list[Array]:
    """Read the gates off the weights of a folded model, [channels] for each site.

    What is returned is the truth only if folding it again gives the same weights. A channel of
    zeros takes any factor; it is said to be 1.

    Raises
    ------
    ModelError
        A weight is missing or has another shape or type, or its site can't be folded.
    """
    before = {tensor.name: tensor for tensor in source.graph.initializer}
    after = {tensor.name: tensor for tensor in folded.graph.initializer}
    # What the gates read so far make of the source, of what is scaled more than once.
    partly: dict[str, np.ndarray] = {}
    last = _last_scaled(sites)
    recovered: list[Array] = []
    for number, site in enumerate(sites):
        check_foldable(site, before)
        old, new = [], []
        for name, axis in site.scaled:
            other = after.get(name)
            if other is None or _kind(other) != _kind(before[name]):
                raise ModelError(f"{name!r} is missing or has another shape or type")
            if last[name] == number:
                old.append(_by_channel(partly.get(name, values_of(before[name])), axis))
                new.append(_by_channel(values_of(other), axis))
        gates = _ratio(np.concatenate(old, axis=1), np.concatenate(new, axis=1))
        for name, axis in site.scaled:
            if last[name] > number:
                partly[name] = _scaled(values_of(before[name]), axis, gates)
        recovered.append(gates)
    return recovered


def settle_gates(model: ModelProto, sites: Sequence[GateSite], gates: Gates) -> list[Array]:
    """Round gates, and set those to 1 that do nothing: their channel is zero without them.

    Where only a bias is left of a channel, its own gate takes up what it is multiplied with. So
    settled, gates are the same whether they stand in the graph or were folded.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    settled: list[Array] = []
    # By output: what its biases take up, and which channels are closed altogether.
    left: dict[str, NDArray[np.generic]] = {}
    closed: dict[str, NDArray[np.bool_]] = {}
    last = _last_scaled(sites)
    for number, (site, values) in enumerate(zip(sites, gates, strict=True)):
        rounded = round_gates(values * left.get(site.output, 1))
        if site.foldable:
            parts = [
                _by_channel(values_of(tensors[name]), axis)
                for name, axis in site.scaled
                if last[name] == number
            ]
            zeros = ~np.concatenate(parts, axis=1).any(axis=1)
            if site.bias is not None:
                zeros |= closed.get(site.output, False)
            closed[site.output] = rounded == 0
            left[site.output] = np.where(zeros, rounded, 1)
            rounded[zeros] = 1
        settled.append(rounded)
    return settled


def _last_scaled(sites: Sequence[GateSite]) -> dict[str, int]:
    """Return the number of the last site that scales each constant: a bias has two."""
    return {name: number for number, site in enumerate(sites) for name, _ in site.scaled}


def _ratio(old: NDArray[np.float64], new: NDArray[np.float64]) -> Array:
    rows = np.arange(len(old))
    # The largest weight of a channel is the least affected by rounding.
    place = np.abs(old).argmax(axis=1)
    base = old[rows, place]
    ratio = np.divide(new[rows, place], base, out=np.ones(len(old)), where=base != 0)
    return round_gates(ratio)


def _scaled(values: NDArray[np.generic], axis: int, gates: NDArray[np.generic]) -> np.ndarray:
    shape = [1] * values.ndim
    shape[axis] = len(gates)
    # Products of float16 and nine bits are exact in float32: they are rounded once.
    wide = np.promote_types(values.dtype, np.float32)
    product: np.ndarray = np.multiply(values.astype(wide), gates.astype(wide).reshape(shape))
    return product.astype(values.dtype)


def _by_channel(values: NDArray[np.generic], axis: int) -> NDArray[np.float64]:
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).astype(np.float64)


def _kind(tensor: TensorProto) -> tuple[int, tuple[int, ...]]:
    return tensor.data_type, tuple(tensor.dims)


def _replace(tensor: TensorProto, values: np.ndarray) -> None:
    """Set a tensor's values and leave everything else in it as it is."""
    tensor.ClearField("float_data")
    tensor.ClearField("double_data")
    tensor.ClearField("int32_data")
    tensor.raw_data = onnx.numpy_helper.from_array(values).raw_data
