"""A layer that puts out another number of scores than the model answers with is no head."""

from __future__ import annotations

import onnx
import pytest

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier

# One layer makes of each sample the weights that its features are multiplied by.
GENERATED = """h = MatMul (x, six)  w = Reshape (h, matrix)  g = MatMul (x, two)  f = Relu (g)
    u = Unsqueeze (f, last)  y = MatMul (w, u)"""
# Scores that another layer scales, by a number above 0.
SCALED = "z = MatMul (x, three)  g = MatMul (x, one)  t = Softplus (g)  y = Div (z, t)"
# Of two scores for each class the larger.
LARGEST = "z = MatMul (x, six)  r = Reshape (z, matrix)  y = ReduceMax <axes = [2]> (r)"
WIDTHS = {"one": 1, "two": 2, "three": 3, "six": 6}


def model(body: str) -> onnx.ModelProto:
    weights = ", ".join(
        f"float[4, {width}] {name} = {{{', '.join(str(each % 7) for each in range(4 * width))}}}"
        for name, width in WIDTHS.items()
    )
    end = "" if body == SCALED else "v = Squeeze (y, last)"
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"f (float[N, 4] x) => (float[N, 3] {'v' if end else 'y'}) "
        f"<{weights}, int64[1] last = {{-1}}, int64[3] matrix = {{-1, 3, 2}}> {{ {body} {end} }}"
    )


def test_layers_of_which_none_makes_the_scores_are_no_choice():
    with pytest.raises(
        HeadError, match=r"2 layers make the answer together.*none of them puts out"
    ):
        find_classifier(model(GENERATED))
    # To attack or to judge takes no layer.
    found = find_classifier(model(GENERATED), needs_head=False)
    assert (found.head, found.scores.num_classes) == (None, 3)


def test_those_that_make_as_many_are_named_alone():
    with pytest.raises(
        HeadError, match=r"as many .* come from 'z' \(4 → 3\), which --head chooses"
    ):
        find_classifier(model(SCALED))
    head = find_classifier(model(SCALED), Wanted("z")).head
    assert head is not None
    assert head.num_classes == 3


@pytest.mark.parametrize(
    ("body", "name"), [(GENERATED, "h"), (GENERATED, "g"), (LARGEST, "z"), (SCALED, "g")]
)
def test_one_that_is_named_must_make_as_many(body: str, name: str):
    with pytest.raises(HeadError, match=r"answers with 3 numbers|Softplus"):
        find_classifier(model(body), Wanted(name))
