"""What leads where: against every way through a graph, one by one."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.graph.model.dataflow import between, leading_to, reached_from, values_read

# Each node: its result, and the values that it reads.
Net = list[tuple[str, list[str]]]


@st.composite
def nets(draw: st.DrawFn) -> Net:
    values, net = ["x", "w"], []
    for number in range(draw(st.integers(1, 9))):
        reads = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        net.append((f"t{number}", reads))
        values.append(f"t{number}")
    return net


def ways(net: Net, value: str) -> list[list[str]]:
    """Return every way from a value to the end of the graph, its own name first."""
    further = [way for made, reads in net if value in reads for way in ways(net, made)]
    return [[value]] + [[value, *way] for way in further]


def message(net: Net) -> list[onnx.NodeProto]:
    return [onnx.helper.make_node("Sum", reads, [made], made) for made, reads in net]


def working(net: Net) -> list[gs.Node]:
    tensors = {name: gs.Variable(name) for name in ["x", "w", *(made for made, _ in net)]}
    return [
        gs.Node("Sum", made, inputs=[tensors[name] for name in reads], outputs=[tensors[made]])
        for made, reads in net
    ]


@pytest.mark.parametrize("form", [message, working])
@given(nets(), st.data())
@settings(max_examples=40, deadline=None)
def test_every_way_and_no_other(form, net: Net, data: st.DataObject) -> None:
    values = ["x", "w", *(made for made, _ in net)]
    source, target = data.draw(st.sampled_from(values)), data.draw(st.sampled_from(values))
    nodes = form(net)
    met = {value for way in ways(net, source) for value in way}
    forwards = reached_from(nodes, [source])
    assert forwards.values == met
    assert [node.name for node in forwards.nodes] == [
        made for made, _ in net if made in met - {source}
    ]
    before = {value for value in values if any(target in way for way in ways(net, value))}
    backwards = leading_to(nodes, [target])
    assert backwards.values == before
    assert [node.name for node in backwards.nodes] == [made for made, _ in net if made in before]
    on_a_way = [made for made, _ in net if made in (met - {source}) & before]
    assert [node.name for node in between(nodes, source, target)] == on_a_way


@pytest.mark.parametrize("form", [message, working])
@given(nets(), st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_given_is_not_asked_for(form, net: Net, data: st.DataObject) -> None:
    """Only ways count that go around it."""
    values = ["x", "w", *(made for made, _ in net)]
    stop, target = data.draw(st.sampled_from(values)), data.draw(st.sampled_from(values))
    flow = leading_to(form(net), [target], given=[stop])
    around = {
        value
        for value in values
        if value == target
        or any(
            target in way and stop not in way[1 : way.index(target) + 1] for way in ways(net, value)
        )
    }
    if stop == target:
        around = {target}
    assert flow.values == around
    assert {node.name for node in flow.nodes} == {v for v in around if v not in ("x", "w", stop)}


@pytest.mark.parametrize("form", [message, working])
def test_what_does_not_pass(form) -> None:
    nodes = form([("a", ["x"]), ("b", ["a"]), ("c", ["a"]), ("d", ["b", "c"])])
    assert reached_from(nodes, ["x"], passes=lambda node: node.name != "b").values == set("xacd")
    assert leading_to(nodes, ["d"], passes=lambda node: node.name != "a").values == set("abcd")


def test_subgraphs_read_what_is_around_them() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> f (float[N] x, bool c) => (float[N] y)
        { z = Neg (x)
          y = If (c) <
            then_branch = g () => (float[N] a) { i = Abs (z)  a = Neg (i) },
            else_branch = h () => (float[N] x) { k = Abs (c) }
          > }"""
    )
    assert set("cz") <= set(values_read(model.graph.node[1]))
    # The other branch yields a value from around it.
    assert "x" in set(values_read(model.graph.node[1]))
    graph = gs.import_onnx(model)
    assert set("cz") <= set(values_read(graph.nodes[1]))
    for nodes in (model.graph.node, graph.nodes):
        assert [node.name for node in leading_to(nodes, ["y"]).nodes] == ["", ""]
