"""The head is found behind every usual ending, and refused where it is not unique."""

from __future__ import annotations

import onnx
import pytest
from onnx import ModelProto

from cloakify.errors import HeadError
from cloakify.graph.analysis.head_search import find_head

WEIGHTS = "float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}"
TURNED = "float[3, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}"


def model(
    body: str, constants: str = WEIGHTS, x: str = "float[N, 4] x", y: str = "y"
) -> ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
        f"f ({x}) => ({', '.join(f'float[N, M] {name}' for name in y.split())}) "
        f"<{constants}> {{ {body} }}"
    )


@pytest.mark.parametrize(
    ("layer", "constants"),
    [
        ("l = Gemm (f, w, b)", WEIGHTS),
        ("l = Gemm (f, w)", WEIGHTS),
        ("l = Gemm <transB: int = 1> (f, w, b)", TURNED),
        ("l = MatMul (f, w)", WEIGHTS),
        ("m = MatMul (f, w)  l = Add (m, b)", WEIGHTS),
        ("m = MatMul (f, w)  l = Add (b, m)", WEIGHTS),
    ],
)
def test_every_form_of_a_linear_layer(layer, constants):
    head = find_head(model(f"f = Relu (x)  {layer}  y = Identity (l)", constants)).head
    assert (head.features, head.features_slot, head.features_axis) == ("f", 0, -1)
    assert (head.num_features, head.num_classes, head.weight) == (4, 3, "w")
    assert (head.linear, head.logits) == ("l", "y")


def test_the_size_of_an_earlier_layers_output_leads_to_no_head():
    body = (
        "f = Conv (x, k)  s = Shape (f)  n = Slice (s, zero, one)  m = Concat <axis = 0> (n, rest) "
        "r = Reshape (f, m)  l = Gemm (r, w, b)  t = Concat <axis = 0> (n, rest) "
        "y = Reshape (l, t)"
    )
    constants = f"{WEIGHTS}, float[2, 1, 3, 3] k = {{{', '.join(['1'] * 18)}}}"
    constants += ", int64[1] zero = {0}, int64[1] one = {1}, int64[1] rest = {-1}"
    head = find_head(model(body, constants, "float[N, 1, 4, 3] x")).head
    assert (head.features, head.linear) == ("r", "l")


def test_features_along_rows():
    text = "f = Relu (x)  y = Gemm <transA: int = 1> (f, w, b)"
    assert find_head(model(text, x="float[4, N] x")).head.features_axis == -2
    head = find_head(model("f = Relu (x)  y = MatMul (w, f)", TURNED, "float[4, N] x")).head
    assert (head.features_slot, head.features_axis) == (1, -2)
    assert (head.num_features, head.num_classes) == (4, 3)


CONV = "float[3, 4, 1, 1] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}"


@pytest.mark.parametrize(
    ("after", "logits"),
    [
        ("g = GlobalAveragePool (c)  y = Flatten (g)", "y"),
        ("r = Relu (c)  g = GlobalAveragePool (r)  l = Flatten (g)  y = Softmax (l)", "l"),
        ("y = ReduceMean <axes: ints = [2, 3]> (c)", "y"),
    ],
)
def test_a_pointwise_convolution_is_pooled_to_scores(after, logits):
    head = find_head(model(f"c = Conv (x, w, b)  {after}", CONV, "float[N, 4, 5, 5] x")).head
    assert (head.op_type, head.features, head.features_axis) == ("Conv", "x", 1)
    assert (head.num_features, head.num_classes) == (4, 3)
    assert (head.linear, head.logits) == ("c", logits)


@pytest.mark.parametrize(
    "after",
    [
        "y = Softmax (l)",
        "y = LogSoftmax (l)",
        "y = Cast <to: int = 11> (l)",
        "y = ArgMax <axis: int = 1> (l)",
        "m = ReduceMax <axes: ints = [1]> (l)  d = Sub (l, m)  e = Exp (d)"
        "  s = ReduceSum (e, one)  y = Div (e, s)",
        "e = Exp (l)  s = ReduceSum (e, one)  g = Log (s)  y = Sub (l, g)",
        "label = ArgMax (l)  y = Softmax (l)",
        "y = Sigmoid (l)",
        "k = Constant <value = float {2}> ()  t = Div (l, k)  y = Softmax (t)",
        "y = Clip (l)",
    ],
)
def test_what_comes_after_the_logits_is_passed(after):
    constants = f"{WEIGHTS}, int64[1] one = {{1}}"
    head = find_head(model(f"[fc] l = Gemm (x, w, b)  {after}", constants)).head
    assert (head.node, head.logits) == ("fc", "l")


@pytest.mark.parametrize(
    "moves",
    [
        "y = Reshape (l, shape)",
        "r = Reshape (l, shape)  i = Identity (r)  y = Flatten (i)",
        "u = Identity (l)  y = Squeeze (u)",
        "d = Dropout (l)  y = Flatten (d)",
    ],
)
def test_what_only_moves_the_logits_belongs_to_them(moves):
    constants = f"{WEIGHTS}, int64[2] shape = {{-1, 3}}"
    assert find_head(model(f"l = Gemm (x, w, b)  {moves}", constants)).head.logits == "y"


def test_label_lookups_of_classic_models_are_passed():
    found = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        f (float[N, 4] x) => (int64[N] label, seq(map(int64, float)) scores)
        <float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}>
        {
            m = MatMul (x, w)
            l = Add (m, b)
            p = Softmax (l)
            i = ArgMax <axis: int = 1, keepdims: int = 0> (l)
            label = Cast <to: int = 7> (i)
            scores = ai.onnx.ml.ZipMap <classlabels_int64s: ints = [0, 1, 2]> (p)
        }
    """)
    assert find_head(found).head.logits == "l"


@pytest.mark.parametrize(
    ("source", "constants"),
    [
        ("w = Identity (v)", "float[4, 3] v = {1,2,3,4,5,6,7,8,9,10,11,12}"),
        ("w = Transpose (v)", "float[3, 4] v = {1,2,3,4,5,6,7,8,9,10,11,12}"),
        ("w = Transpose <perm: ints = [1, 0]> (v)", "float[3, 4] v = {1,2,3,4,5,6,7,8,9,10,11,12}"),
        ("w = Cast <to: int = 1> (v)", "double[4, 3] v = {1,2,3,4,5,6,7,8,9,10,11,12}"),
        (
            "w = Reshape (v, shape)",
            "float[12] v = {1,2,3,4,5,6,7,8,9,10,11,12}, int64[2] shape = {4, -1}",
        ),
        (
            "w = DequantizeLinear (v, scale)",
            "int8[4, 3] v = {1,2,3,4,5,6,7,8,9,10,11,12}, float scale = {0.5}",
        ),
        ("w = ConstantOfShape <value = float[1] {0.5}> (shape)", "int64[2] shape = {4, 3}"),
        ("w = Constant <value = float[4, 3] {1,2,3,4,5,6,7,8,9,10,11,12}> ()", "float[1] q = {0}"),
        (
            "c = Constant <value = float[3, 4] {1,2,3,4,5,6,7,8,9,10,11,12}> ()  t = Transpose (c)"
            "  w = Identity (t)",
            "float[1] q = {0}",
        ),
    ],
)
def test_weights_behind_other_operators_are_constant(source, constants):
    head = find_head(model(f"{source}  f = Relu (x)  y = Gemm (f, w)", constants)).head
    assert (head.num_features, head.num_classes, head.weight) == (4, 3, "w")


def test_weights_made_by_layers_within_the_file_are_a_heads():
    """Embeddings of classes, encoded in the graph; their number is worked out there, too."""
    body = """r = Relu (x)  m = Mul (minus, minus)  e = Equal (m, one)
        c = Where (e, three, minus)  s = Concat <axis = 0> (c, four)  p = Expand (prompt, s)
        d = Unsqueeze (p, one)  n = Concat <axis = 1> (d, names)  t = MatMul (n, enc)
        q = ReduceMean <axes = [1], keepdims = 0> (t)  k = Transpose (q)  y = MatMul (r, k)"""
    sixteen = ", ".join(map(str, range(16)))
    constants = (
        "int64[1] minus = {-1}, int64[1] one = {1}, int64[1] three = {3}, int64[1] four = {4}, "
        "float[1, 4] prompt = {1, 2, 3, 4}, float[4, 4] enc = {" + sixteen + "}, "
        "float[3, 1, 4] names = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}"
    )
    head = find_head(model(body, constants)).head
    assert (head.features, head.num_features, head.num_classes) == ("r", 4, 3)


def test_a_product_of_two_computed_values_is_no_layer():
    # The attention of a transformer, after the only layer with weights.
    text = """
        l = MatMul (x, w)  t = Transpose (l)  a = MatMul (l, t)  s = Softmax (a)  y = MatMul (s, l)
    """
    assert find_head(model(text)).head.linear == "l"


def test_random_weights_are_not_constant():
    text = "w2 = RandomNormal <shape: ints = [4, 3]> ()  y = MatMul (x, w2)"
    with pytest.raises(HeadError, match="no linear layer with constant weights"):
        find_head(model(text))


TWO = "[left] p = Gemm (x, w, b)  [right] q = MatMul (x, w)"


def test_two_heads_are_refused_by_name():
    for outputs, ending in (
        ("p q", ""),
        ("y", "y = Max (p, q)"),
        ("s t", "s = Exp (p) t = Exp (q)"),
    ):
        said = r"2 layers could.*--head" if ending.startswith("y") else "several tasks.*--output"
        with pytest.raises(HeadError, match=said) as caught:
            find_head(model(f"{TWO} {ending}", y=outputs))
        assert "'left' (4 → 3)" in str(caught.value)
        assert "'right' (4 → 3)" in str(caught.value)


@pytest.mark.parametrize("wanted", ["left", "right", "q"])
def test_a_head_can_be_chosen_by_node_or_output(wanted):
    search = find_head(model(TWO, y="p q"), wanted)
    assert search.head.node == ("left" if wanted == "left" else "right")
    assert [head.node for head in search.alternatives] != [search.head.node]
    assert len(search.alternatives) == 1


def test_a_choice_that_is_not_there_names_those_that_are():
    with pytest.raises(HeadError, match=r"called 'middle'; the last ones are 'right', 'left'"):
        find_head(model(TWO, y="p q"), "middle")


def test_earlier_layers_are_the_alternatives_nearest_first():
    text = "[one] a = Gemm (x, v)  [two] c = Gemm (a, v)  [three] y = Gemm (c, w, b)"
    square = "float[4, 4] v = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}"
    search = find_head(model(text, f"{WEIGHTS}, {square}"))
    assert search.head.node == "three"
    assert [head.node for head in search.alternatives] == ["two", "one"]


def test_a_model_that_ends_in_a_convolution_is_refused():
    text = "[fc] m = MatMul (x, k)  y = Conv (m, c)"
    constants = (
        "float[5, 5] k = {"
        + ", ".join(["1"] * 25)
        + "}, float[2, 4, 3, 3] c = {"
        + (", ".join(["1"] * 72))
        + "}"
    )
    with pytest.raises(HeadError, match=r"the last layer is Conv .*--head, candidates are 'fc'"):
        find_head(model(text, constants, "float[N, 4, 5, 5] x"))


def test_no_layer_at_all_is_refused():
    with pytest.raises(HeadError, match="no linear layer"):
        find_head(model("y = Relu (x)"))


def test_a_layer_that_is_read_inside_a_branch():
    def read_by(condition: str) -> onnx.ModelProto:
        return onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> f (float[N, 4] x) => (float[N, 3] y) '
            f"<{WEIGHTS}, bool yes = {{1}}, float zero = {{0}}> {{ l = Gemm (x, w, b)  "
            f"{condition}  y = If (c) <"
            "then_branch = t () => (float[N, 3] a) { a = Identity (l) }, "
            "else_branch = e () => (float[N, 3] d) { d = Neg (l) }> }"
        )

    assert find_head(read_by("c = Identity (yes)")).head.linear == "l"
    with pytest.raises(HeadError, match=r"comes out of If .*, whose course the data decide"):
        find_head(read_by("s = ReduceMax <keepdims = 0> (x)  c = Greater (s, zero)"))


def test_a_layer_that_no_output_needs_is_not_the_head():
    with pytest.raises(HeadError, match="no linear layer leads to an output"):
        find_head(model("unused = Gemm (x, w, b)  y = Relu (x)"))


def test_an_unnamed_node_goes_by_its_output():
    head = find_head(model("y = Gemm (x, w, b)")).head
    assert head.node == "y"
    assert str(head) == "Gemm 'y': 4 features → 3 classes"


FUNCTIONS = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
f (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
{ h = local.activate (x)  %s }
<domain: "local", opset_import: ["" : 17]> activate (a) => (r) { s = Abs (a)  r = Relu (s) }
<domain: "local", opset_import: ["" : 17]> classify (a, v) => (r) { r = MatMul (a, v) }
"""


def test_local_functions_before_the_head_do_not_matter():
    head = find_head(onnx.parser.parse_model(FUNCTIONS % "y = MatMul (h, w)")).head
    assert (head.features, head.num_features) == ("h", 4)


def test_a_head_inside_a_local_function_is_refused_with_the_way_out():
    with pytest.raises(HeadError, match=r"local function.*inline_local_functions"):
        find_head(onnx.parser.parse_model(FUNCTIONS % "y = local.classify (h, w)"))


@pytest.mark.parametrize(
    ("body", "logits"),
    [
        # One token of each sequence is picked: by rows, by index tuples, by its place.
        (
            "h = MatMul (x, w)  f = Flatten <axis = 2> (h)  g = Gather (f, rows)  "
            "s = Shape (g)  y = Reshape (g, s)",
            "y",
        ),
        ("h = MatMul (x, w)  s = Shape (h)  y = GatherND (h, pairs)", "y"),
        ("h = MatMul (x, w)  a = Add (h, b)  y = Gather <axis = 1> (a, place)", "y"),
        ("h = MatMul (x, w)  y = ReduceMean <axes = [1], keepdims = 0> (h)", "y"),
        # Classes are picked: that is no longer what the layer scores.
        ("h = MatMul (x, w)  y = Gather <axis = 2> (h, place)", "h"),
    ],
)
def test_scores_of_the_token_that_is_picked(body: str, logits: str):
    assert find_head(of_tokens(body)).head.logits == logits


def of_tokens(body: str) -> ModelProto:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> f (float[N, 5, 4] x, int64[N] rows, '
        "int64[N, 2] pairs) => (float y) <float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, "
        f"float[3] b = {{1, 2, 3}}, int64 place = {{0}}> {{ {body} }}"
    )
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))


def test_means_over_classes_are_no_scores_of_them():
    with pytest.raises(HeadError, match=r"answers with 5 numbers.*'h', puts out 3"):
        find_head(of_tokens("h = MatMul (x, w)  y = ReduceMean <axes = [-1], keepdims = 0> (h)"))


def test_weights_need_not_be_read():
    """Two products in a row: the second's weight is looked at as nothing but a weight."""
    found = model("h = MatMul (x, v)  y = MatMul (h, w)", f"float[1, 4] v = {{1,2,3,4}}, {WEIGHTS}")
    for tensor in found.graph.initializer:
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights")
    assert find_head(found).head.features == "h"


@pytest.mark.parametrize("name", ["logits", "Probabilities", "scores"])
def test_an_output_that_is_called_as_scores_are_is_the_answer(name: str):
    """Others beside it (here another layer's) are something else."""
    found = find_head(model(f"{TWO.replace('p =', f'{name} =')}", y=f"{name} q")).head
    assert found.linear == name
    with pytest.raises(HeadError, match="several tasks"):
        find_head(
            model(TWO.replace("p =", "logits =").replace("q =", "scores ="), y="logits scores")
        )


def test_a_layer_that_is_fused_with_its_sigmoid_is_not_passed():
    body = (
        "h = Gemm (x, w, b)  r = Relu (h)  "
        'y = com.microsoft.FusedGemm <activation = "Sigmoid"> (r, v)'
    )
    constants = f"{WEIGHTS}, float[3, 1] v = {{1, 2, 3}}"
    found = model(body, constants)
    found.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(HeadError, match="the last layer is FusedGemm"):
        find_head(found)


def test_logits_that_others_are_made_of_are_the_answer_beside_hidden_states() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 3] x) => (float[N, 4] hidden, float[N, 2] logits, int64[N] label, float[N] sure)
        <float[3, 4] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3},
         float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}>
        { a = MatMul (x, v)  h = Relu (a)  hidden = Identity (h)  logits = MatMul (h, w)
          p = Softmax (logits)  label = ArgMax <axis = 1, keepdims = 0> (p)
          sure = ReduceMax <axes = [1], keepdims = 0> (p) }"""
    )
    head = find_head(model).head
    assert (head.features, head.logits, head.num_classes) == ("h", "logits", 2)
