"""The strided convolution's gradient, whichever way it goes, against the definition's transpose."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.graph.gradient.builder import Builder
from cloakify.graph.gradient.phases import gradient_by_phase, phases_of
from cloakify.graph.gradient.windows import Window
from cloakify.graph.gradient.zero_insertion import gradient_by_zeros
from tests.support.gradcheck import gradient_model

# Stems and reductions of nets that people train: kernel, stride, pad, channels in and out, groups.
KNOWN = [
    (7, 2, 3, 3, 16, 1),  # ResNet
    (7, 2, 2, 3, 16, 1),  # where the padding is one off: phases begin apart
    (11, 4, 2, 3, 16, 1),  # AlexNet
    (4, 4, 0, 3, 16, 1),  # ConvNeXt
    (16, 16, 0, 3, 8, 1),  # ViT
    (3, 2, 1, 16, 16, 1),
    (5, 2, 2, 16, 16, 1),
    (1, 2, 0, 16, 16, 1),
    (5, 2, 2, 8, 8, 8),  # MobileNetV3, by depth
    (7, 2, 3, 8, 8, 8),
]


def transpose(g: np.ndarray, weights: np.ndarray, window: Window, shape: tuple[int, ...], group):
    """Return ``Σ_o Σ_t g[o] W[t]`` at position ``s·o + d·t − p`` of x, in double: [N, C, H, W]."""
    (top, left), (bottom, right) = window.pads_begin, window.pads_end
    padded = np.zeros((*shape[:2], shape[2] + top + bottom, shape[3] + left + right))
    into, each = weights.shape[1], weights.shape[0] // group
    for row, column in np.ndindex(*window.kernel):
        places = tuple(
            slice(d * tap, d * tap + s * (n - 1) + 1, s)
            for tap, d, s, n in zip(
                (row, column), window.dilations, window.strides, g.shape[2:], strict=True
            )
        )
        for number in range(group):
            own, read = slice(number * each, (number + 1) * each), slice(number * into, None)
            added = np.einsum("nohw,oc->nchw", g[:, own], weights[own, :, row, column])
            padded[:, read, *places][:, :into] += added
    return padded[:, :, top : top + shape[2], left : left + shape[3]]


def run(graph: gs.Graph, g: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(gs.export_onnx(graph).SerializeToString())
    return session.run(None, {graph.inputs[0].name: g.astype(np.float32)})[0]


def by_rule(g, weights, window, shape, group, auto_pad="NOTSET") -> np.ndarray:
    """Return the rule's gradient, as ONNX Runtime computes it."""
    x = gs.Variable("x", np.float32, list(shape))
    y = gs.Variable("y", np.float32)
    attributes = {
        "strides": list(window.strides),
        "dilations": list(window.dilations),
        "pads": [*window.pads_begin, *window.pads_end],
        "group": group,
    }
    if auto_pad != "NOTSET":
        attributes["auto_pad"] = auto_pad
        del attributes["pads"]
    kernel = gs.Constant("w", weights.astype(np.float32))
    node = gs.Node("Conv", "conv", attributes, [x, kernel], [y])
    model = gs.export_onnx(gs.Graph([node], [x], [y], opset=21, ir_version=10))
    backward = gradient_model(model, {"x": shape}, ["x"])
    session = ort.InferenceSession(backward.SerializeToString())
    feeds = {"x": np.zeros(shape, np.float32), "seed_y": g.astype(np.float32)}
    return session.run(None, {value.name: feeds[value.name] for value in backward.graph.input})[0]


def drawn(kernel, strides, pads, into, out, group, size, dilations=(1, 1)):
    """Return g, weights, window and shape of x for a convolution of [2, group·into, …]."""
    window = Window(kernel, strides, dilations, pads[:2], pads[2:])
    shape = (2, group * into, *size)
    positions = [
        (n + low + high - e) // s + 1
        for n, low, high, e, s in zip(size, pads[:2], pads[2:], window.extent, strides, strict=True)
    ]
    random = np.random.default_rng(sum(kernel) + sum(size))
    g = random.standard_normal((2, group * out, *positions))
    return g, random.standard_normal((group * out, into, *kernel)), window, shape


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("kernel", "stride", "pad", "channels", "out", "group"), KNOWN)
@pytest.mark.parametrize("size", [32, 33])
def test_known_layers(kernel, stride, pad, channels, out, group, size) -> None:
    each = drawn(
        (kernel,) * 2,
        (stride,) * 2,
        (pad,) * 4,
        channels // group,
        out // group,
        group,
        (size, size + 1),
    )
    assert_close(by_rule(*each, group), transpose(*each, group))


@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID"])
@pytest.mark.parametrize("stride", [12, 13, 1 << 20, 1 << 40])
def test_a_stride_beyond_all_there_is_is_one_window(stride, auto_pad) -> None:
    """Whatever it is: nothing may be written out for each position within it."""
    pads = (2, 1, 0, 1) if auto_pad == "NOTSET" else (0, 0, 0, 0)
    each = drawn((3, 2), (stride, 2), pads, 3, 2, 1, (10, 9))
    found = by_rule(*each, 1, auto_pad=auto_pad)
    assert found.shape[2:] == (10, 9) and each[0].shape[2] == 1
    assert_close(found, transpose(*each, 1))


@st.composite
def layers(draw: st.DrawFn) -> tuple:
    """Return a layer's numbers, kernels up to 9 and strides up to 5, along each axis apart."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, strides = pair(1, 9), pair(1, 5)
    pads = tuple(draw(st.integers(0, kernel[axis % 2] - 1)) for axis in range(4))
    dilations = pair(1, 2) if draw(st.booleans()) else (1, 1)
    size = tuple(d * (k - 1) + 1 + n for d, k, n in zip(dilations, kernel, pair(0, 9), strict=True))
    into, group = draw(st.sampled_from([(1, 1), (3, 1), (5, 1), (16, 1), (1, 4), (2, 3)]))
    return (*drawn(kernel, strides, pads, into, 2, group, size, dilations), group)


@given(layers())
@settings(max_examples=40, deadline=None)
def test_the_rule(layer: tuple) -> None:
    assert_close(by_rule(*layer), transpose(*layer))


@given(layers(), st.sampled_from(["phases", "zeros"]))
@settings(max_examples=60, deadline=None)
def test_each_way_by_itself(layer: tuple, way: str) -> None:
    g, weights, window, shape, group = layer
    source = gs.Variable("g", np.float32, list(g.shape))
    graph = gs.Graph(inputs=[source], opset=21, ir_version=10)
    builder, narrow = Builder(graph), weights.astype(np.float32)
    if way == "zeros":
        found = gradient_by_zeros(builder, source, narrow, window, shape, g.shape[2:], group)
    else:
        axes = phases_of(window, shape, g.shape[2:])
        found = axes and gradient_by_phase(builder, source, narrow, axes, shape, group)
    if found is None:
        return
    found.shape, graph.outputs = list(shape), [found]
    assert_close(run(graph, g), transpose(g, weights, window, shape, group))


def test_each_way_is_taken() -> None:
    """Each of the ways is the faster one for some of the layers above."""
    taken = set()
    for kernel, stride, pad, channels, out, group in KNOWN:
        g, weights, window, shape = drawn(
            (kernel,) * 2,
            (stride,) * 2,
            (pad,) * 4,
            channels // group,
            out // group,
            group,
            (32, 32),
        )
        builder = Builder(gs.Graph(opset=21))
        source = gs.Variable("g", np.float32, list(g.shape))
        axes = phases_of(window, shape, g.shape[2:])
        assert axes is not None
        if gradient_by_zeros(builder, source, weights, window, shape, g.shape[2:], group):
            taken.add("zeros")
        elif gradient_by_phase(builder, source, weights, axes, shape, group):
            jointly = sum(node.op == "Conv" for node in builder.graph.nodes) == 1
            taken.add("jointly" if jointly else "apart")
        else:
            taken.add("transposed")
        assert math.prod(axis.count * axis.stride for axis in axes) >= math.prod(shape[2:])
    assert taken == {"zeros", "jointly", "apart", "transposed"}
