"""As many steps of time as classes: which of the two an answer is of is read off the graph."""

from __future__ import annotations

import onnx
import pytest

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier

# Scores [N, time, classes] of a layer at every step, or [N, classes, time].
STEPS = "r = Relu (x)  s = MatMul (r, w)"
MAP = "t = Transpose <perm = [0, 2, 1]> (x)  r = Relu (t)  s = Conv (r, k)"
CLASSES = {
    f"{STEPS}  y = ReduceMean <axes = [1], keepdims = 0> (s)",
    f"{STEPS}  y = ReduceMax <axes = [-2], keepdims = 0> (s)",
    f"{STEPS}  q = Softmax <axis = 2> (s)  y = ReduceMean <axes = [1], keepdims = 0> (q)",
    f"{STEPS}  q = Softmax <axis = 1> (s)  y = ReduceMax <axes = [1], keepdims = 0> (q)",
    f"{STEPS}  u = Transpose <perm = [0, 2, 1]> (s)  y = ReduceMean <axes = [2], keepdims = 0> (u)",
    f"{STEPS}  u = Transpose <perm = [0, 2, 1]> (s)  q = Sigmoid (u)  "
    "y = ReduceMean <axes = [2], keepdims = 0> (q)",
    f"{STEPS}  y = Gather <axis = 1> (s, last)",
    f"{MAP}  y = ReduceMean <axes = [2], keepdims = 0> (s)",
}
TIMES = {
    f"{STEPS}  y = ReduceMean <axes = [2], keepdims = 0> (s)",
    f"{STEPS}  q = Sigmoid (s)  y = ReduceMax <axes = [-1], keepdims = 0> (q)",
    f"{STEPS}  u = Transpose <perm = [0, 2, 1]> (s)  q = Sigmoid (u)  "
    "y = ReduceMean <axes = [1], keepdims = 0> (q)",
    f"{MAP}  y = ReduceMean <axes = [1], keepdims = 0> (s)",
}
OPEN = {
    STEPS.replace("s =", "y ="),
    f"{STEPS}  y = LogSoftmax <axis = 2> (s)",
    f"{MAP}  y = Exp (s)",
}


def model(body: str, answer: str = "N, 6") -> onnx.ModelProto:
    numbers = ", ".join(str(each % 7) for each in range(24))
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> f (float[N, 6, 4] x) => (float[{answer}] y) '
        f"<float[4, 6] w = {{{numbers}}}, float[6, 4, 1] k = {{{numbers}}}, int64 last = {{-1}}> "
        f"{{ {body} }}"
    )


@pytest.mark.parametrize("body", sorted(CLASSES))
def test_pooled_over_time_classes_are_left(body: str) -> None:
    head = find_classifier(model(body)).head
    assert head is not None
    assert (head.num_features, head.num_classes) == (4, 6)


@pytest.mark.parametrize("body", sorted(TIMES))
def test_pooled_over_classes_steps_are_left_which_no_layer_makes(body: str) -> None:
    with pytest.raises(HeadError, match=r"takes the 6 scores of .* together"):
        find_classifier(model(body))


@pytest.mark.parametrize("body", sorted(OPEN))
def test_what_is_not_pooled_answers_at_every_step(body: str) -> None:
    with pytest.raises(HeadError, match="6 scores at 6 positions: a recogniser, a tagger"):
        find_classifier(model(body, "N, 6, 6"))
