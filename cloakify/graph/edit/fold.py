"""Fold gates and shifts into the weights before them: the source's exact graph and speed.

    gate · (W x + b) + shift = (gate·W) x + (gate·b + shift)
    gate · (W x + bias gate · b) = (gate·W) x + bias gate · (gate·b)

A layer that could add a bias and does not gets one, which is the only thing new in the graph.

Gates are kept to numbers of nine significant bits, shifts to eight, none of them below what the
rounding of the bias leaves of it (:mod:`~cloakify.graph.edit.rounding`). That is as good as exact
for what they do, and it makes folding reversible: the factor is read off the two weights by
division, the shift off the two biases by subtraction, both rounded to such numbers, and then every
weight must be what the source's becomes by them to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.gate_sites import GateSite
from cloakify.graph.edit.gates import Gates
from cloakify.graph.edit.rounding import round_gates, round_shifts
from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import store
from cloakify.numeric.arrays import Array
from cloakify.onnxfile import values_of, write_metadata
from cloakify.onnxfile.laid_aside import hold
from cloakify.onnxfile.mapped import is_mapped

BIAS = "cloakify_bias"

# bfloat16 has eight bits itself, too few to read a factor off.
_EXACT = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}


def fold_gates(
    model: ModelProto, sites: Sequence[GateSite], gates: Gates, metadata: Mapping[str, str]
) -> ModelProto:
    """Return a copy of ``model`` with gates in the weights, and shifts in the biases, of its sites.

    Parameters
    ----------
    model
        The source, its weights within it.
    sites
        Where; all must be foldable.
    gates
        The factors or shifts of each site, [channels], as :func:`settle_gates` makes them.
    metadata
        Entries to write, keys without the ``cloakify.`` prefix.

    Raises
    ------
    ModelError
        A site can't be folded: its weights are shared, computed, not in the message, or bfloat16;
        or the model has a value with the name of a new bias.
    """
    folded = ModelProto()
    folded.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in folded.graph.initializer}
    names = names_in(model)
    makers = {name: node for node in folded.graph.node for name in node.output}
    for number, site in enumerate(sites):
        check_foldable(site, tensors)
        if site.free_bias is not None:
            if _bias_name(number) in names:
                raise ModelError(
                    f"the model has a value called {_bias_name(number)!r} of its own; rename it"
                )
            reader = makers[site.free_bias[0]]
            tensors[_bias_name(number)] = _add_bias(folded, site, reader, number)
    for site, values in zip(_named(sites), gates, strict=True):
        for name, axis in site.scaled:
            _replace(tensors[name], _changed(site, values_of(tensors[name]), axis, values))
    write_metadata(folded, metadata)
    return folded


def _bias_name(number: int) -> str:
    return f"{BIAS}_{number}"


def _named(sites: Sequence[GateSite]) -> list[GateSite]:
    """Return the sites with the biases that folding adds as what takes their shifts up."""
    return [
        site if site.free_bias is None else replace(site, scaled=((_bias_name(number), 0),))
        for number, site in enumerate(sites)
    ]


def _add_bias(model: ModelProto, site: GateSite, node: NodeProto, number: int) -> TensorProto:
    """Give a layer a bias of zeros; return it."""
    assert site.free_bias is not None
    name = _bias_name(number)
    _, place = site.free_bias
    node.input.extend([""] * (place + 1 - len(node.input)))
    node.input[place] = name
    return store(model, onnx.numpy_helper.from_array(_no_bias(site), name))


def _no_bias(site: GateSite) -> np.ndarray:
    return np.zeros(site.channels, onnx.helper.tensor_dtype_to_np_dtype(site.element_type))


def check_foldable(site: GateSite, tensors: Mapping[str, TensorProto]) -> None:
    """Raise ModelError unless the site's gates can be folded into these initializers."""
    if not site.foldable:
        raise ModelError(
            f"{site.op_type} {site.name!r}: its weights serve other nodes too or are computed, so "
            "its gates can't be folded; use --emit mul"
        )
    for name, _ in site.scaled:
        tensor = tensors[name]
        if tensor.data_location == TensorProto.EXTERNAL and not is_mapped(tensor):
            raise ModelError(f"{name!r} lies outside the message; read it first")
        if tensor.data_type not in _EXACT:
            kind = TensorProto.DataType.Name(tensor.data_type)
            raise ModelError(f"{name!r} is {kind}, in which gates can't be folded; use --emit mul")
    if site.element_type not in _EXACT:
        kind = TensorProto.DataType.Name(site.element_type)
        raise ModelError(
            f"{site.name!r} puts out {kind}, in which gates can't be folded; use --emit mul"
        )


def recover_gates(source: ModelProto, folded: ModelProto, sites: Sequence[GateSite]) -> list[Array]:
    """Read gates and shifts off the weights of a folded model, [channels] for each site.

    What is returned is the truth only if folding it again gives the same weights. A channel of
    zeros takes any factor; it is said to be 1.

    Raises
    ------
    ModelError
        A weight is missing or has another shape or type, or its site can't be folded.
    """
    before = _before(source, sites)
    after = {tensor.name: tensor for tensor in folded.graph.initializer}
    # What the gates read so far make of the source, of what is changed more than once.
    partly: dict[str, np.ndarray] = {}
    named = _named(sites)
    last = _last_scaled(named)
    recovered: list[Array] = []
    for number, site in enumerate(named):
        check_foldable(site, before)
        old, new = [], []
        for name, axis in site.scaled:
            other = after.get(name)
            if other is None or _kind(other) != _kind(before[name]):
                raise ModelError(f"{name!r} is missing or has another shape or type")
            if last[name] == number:
                old.append(_by_channel(partly.get(name, values_of(before[name])), axis))
                new.append(_by_channel(values_of(other), axis))
        read_off = _difference if site.adds else _ratio
        gates = read_off(site, np.concatenate(old, axis=1), np.concatenate(new, axis=1))
        for name, axis in site.scaled:
            if last[name] > number:
                partly[name] = _changed(site, values_of(before[name]), axis, gates)
        recovered.append(gates)
    return recovered


def settle_gates(model: ModelProto, sites: Sequence[GateSite], gates: Gates) -> list[Array]:
    """Round gates and shifts, and set gates to 1 that do nothing: their channel is zero without.

    Where only a bias is left of a channel, its own gate or its shift takes up what it is multiplied
    with. So settled, gates are the same whether they stand in the graph or were folded.
    """
    tensors = _before(model, sites)
    settled: list[Array] = []
    # By output: what its biases take up, and which channels are closed altogether.
    left: dict[str, NDArray[np.generic]] = {}
    closed: dict[str, NDArray[np.bool_]] = {}
    # By name: what gates have made of a bias before its shift comes.
    gated: dict[str, np.ndarray] = {}
    named = _named(sites)
    last = _last_scaled(named)
    for number, (site, values) in enumerate(zip(named, gates, strict=True)):
        carried = left.get(site.output, 1)
        if site.adds:
            settled.append(_settled_shifts(site, values, carried, tensors, gated))
            continue
        rounded = round_gates(values * carried)
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
            for name, axis in site.scaled:
                if last[name] > number:
                    gated[name] = _changed(site, values_of(tensors[name]), axis, rounded)
        settled.append(rounded)
    return settled


def _settled_shifts(
    site: GateSite,
    shifts: NDArray[np.generic],
    carried: NDArray[np.generic] | int,
    tensors: Mapping[str, TensorProto],
    gated: Mapping[str, np.ndarray],
) -> Array:
    """Round shifts as the bias that takes them up allows, with what is left of a zero channel."""
    if not site.foldable or site.element_type not in _EXACT:
        return round_shifts(shifts)
    ((name, axis),) = site.scaled
    plain = values_of(tensors[name])
    bias = _by_channel(gated.get(name, plain), axis)
    whole = shifts + (carried - 1) * _by_channel(plain, axis).mean(axis=1)
    return round_shifts(whole, np.abs(bias).max(axis=1), plain.dtype)


def _before(source: ModelProto, sites: Sequence[GateSite]) -> dict[str, TensorProto]:
    """Return the source's initializers by name, with biases of zeros where folding adds some."""
    tensors = {tensor.name: tensor for tensor in source.graph.initializer}
    for number, site in enumerate(sites):
        if site.free_bias is not None:
            name = _bias_name(number)
            tensors[name] = onnx.numpy_helper.from_array(_no_bias(site), name)
    return tensors


def _last_scaled(sites: Sequence[GateSite]) -> dict[str, int]:
    """Return the number of the last site that scales each constant: a bias has two."""
    return {name: number for number, site in enumerate(sites) for name, _ in site.scaled}


def _difference(site: GateSite, old: NDArray[np.float64], new: NDArray[np.float64]) -> Array:
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(site.element_type))
    return round_shifts(new[:, 0] - old[:, 0], np.abs(old).max(axis=1), dtype)


def _ratio(site: GateSite, old: NDArray[np.float64], new: NDArray[np.float64]) -> Array:
    rows = np.arange(len(old))
    # The largest weight of a channel is the least affected by rounding.
    place = np.abs(old).argmax(axis=1)
    base = old[rows, place]
    ratio = np.divide(new[rows, place], base, out=np.ones(len(old)), where=base != 0)
    return round_gates(ratio)


def _changed(
    site: GateSite, values: NDArray[np.generic], axis: int, gates: NDArray[np.generic]
) -> np.ndarray:
    """Return weights as a site's gates or shifts make them."""
    shape = [1] * values.ndim
    shape[axis] = len(gates)
    if site.adds:
        total: np.ndarray = values.astype(np.float64) + gates.astype(np.float64).reshape(shape)
        return total.astype(values.dtype)
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
    hold(tensor, onnx.numpy_helper.from_array(values).raw_data)
