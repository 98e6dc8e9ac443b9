"""Give a copy of a classifier, in place of its head, a linear readout for each of a few samples.

    logits = [0, w_s·(φ(x) − c_s) + b_s],   s the sample whose input is nearest to x

so that points of a small ball around a sample are told apart by that sample's readout alone, and
all of them go through the model in one batch. No gradient flows through the choice of s, which is
the same all over the ball.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from cloakify.graph.edit.taps import tap
from cloakify.graph.model.names import names_in
from cloakify.numeric.arrays import Array, floats


@dataclass(frozen=True)
class Readouts:
    """Linear functions of D features, one for each of S samples of d numbers.

    Attributes
    ----------
    samples
        float32 [S, d]: whose they are.
    centre, weight
        float32 [S, D]: c and w.
    bias
        float32 [S]: b.
    """

    samples: Array
    centre: Array
    weight: Array
    bias: Array


def with_readouts(
    model: ModelProto, data_input: str, features: str, readouts: Readouts
) -> tuple[ModelProto, str]:
    """Return a copy of ``model`` up to its features and with readouts behind them.

    Parameters
    ----------
    data_input, features
        Names of the input and of what the head takes, the first axis of which counts samples.

    Returns
    -------
    ModelProto, and the name of its only output: logits [N, 2].
    """
    edited = tap(model, [features])
    names, graph = names_in(model), edited.graph

    def constant(name: str, values: Array) -> str:
        fresh = names.fresh(f"cloakify_readout_{name}")
        graph.initializer.append(onnx.numpy_helper.from_array(floats(values), fresh))
        return fresh

    def add(op_type: str, *inputs: str, **attributes: int) -> str:
        output = names.fresh(f"cloakify_readout_{op_type.lower()}")
        node = onnx.helper.make_node(op_type, inputs, [output], names.fresh(output))
        node.attribute.extend(map(onnx.helper.make_attribute, attributes, attributes.values()))
        graph.node.append(node)
        return output

    def rows(value: str) -> str:
        return add("Flatten", add("Cast", value, to=TensorProto.FLOAT), axis=1)

    # The nearest is the largest of x·x_s − |x_s|²/2; taken from their mean, for its digits.
    about = readouts.samples.mean(axis=0, dtype=np.float64)
    apart = readouts.samples - about
    offset = about @ apart.T + 0.5 * np.square(apart).sum(axis=1)
    products = add("MatMul", rows(data_input), constant("samples", apart.T))
    nearness = add("Sub", products, constant("offset", offset[None]))
    # No attack goes straight through places that something was made of.
    nearest = add("Abs", add("ArgMax", nearness, axis=1, keepdims=0))
    moved = add(
        "Sub", rows(features), add("Gather", constant("centre", readouts.centre), nearest, axis=0)
    )
    weighed = add("Mul", moved, add("Gather", constant("weight", readouts.weight), nearest, axis=0))
    second = np.zeros((readouts.weight.shape[1], 2), np.float32)
    second[:, 1] = 1
    summed = add("MatMul", weighed, constant("sum", second))
    biases = np.stack([np.zeros_like(readouts.bias), readouts.bias], axis=1)
    logits = add("Add", summed, add("Gather", constant("bias", biases), nearest, axis=0))
    del graph.output[:]
    graph.output.append(onnx.ValueInfoProto(name=logits))
    # An initializer that is no input needs IR version 4.
    edited.ir_version = max(edited.ir_version, 4)
    return edited, logits
