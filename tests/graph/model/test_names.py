"""Names that are handed out are new, whatever is asked for in whatever order."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs
from hypothesis import given
from hypothesis import strategies as st

from cloakify.graph.gradient.builder import Builder
from cloakify.graph.model.names import Names, names_in

NAMES = st.sampled_from(["a", "a_1", "a_2", "a_1_1", "b", ""])


@given(st.lists(NAMES), st.lists(NAMES, min_size=1))
def test_each_is_new(taken: list[str], wanted: list[str]) -> None:
    names = Names(taken)
    given_out = [names.fresh(name) for name in wanted]
    assert len({*taken, *given_out}) == len(set(taken)) + len(given_out)
    assert all(found.startswith(name) for found, name in zip(given_out, wanted, strict=True))
    assert all(name in names for name in given_out)


def test_what_is_free_stays_as_it_is() -> None:
    names = Names(["a"])
    assert [names.fresh(name) for name in ("b", "a", "a", "c", "b")] == [
        "b",
        "a_1",
        "a_2",
        "c",
        "b_1",
    ]


def test_a_messages_names_are_those_of_all_its_graphs() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> f (float[M] x, bool c) => (float[K] y)
        <float[1] w = {1}> {
          [own] z = Mul (x, w)
          y = If (c) <
            then_branch = g () => (float[N] a) <float[1] v = {1}> { [inner] a = Add (z, v) },
            else_branch = h () => (float[N] b) { b = Neg (x) }
          > }"""
    )
    names = names_in(model)
    for name in ("x", "c", "y", "w", "z", "a", "v", "b", "own", "inner", "M", "K", "N"):
        assert name in names
    assert "q" not in names


def test_builders_of_one_graph_take_turns() -> None:
    x = gs.Variable("cloakify_grad_Neg", dtype="float32", shape=[1])
    graph = gs.Graph(inputs=[x])
    first, second = Builder(graph), Builder(graph)
    made = [builder.neg(x) for builder in (first, second, first, second)]
    assert len({tensor.name for tensor in (x, *made)}) == 5
    assert len({node.name for node in graph.nodes}) == 4
