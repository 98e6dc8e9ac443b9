"""Which tensor attacks perturb, and what is refused."""

from __future__ import annotations

import onnx
import pytest

from cloakify.errors import ModelError
from cloakify.graph.analysis.attack_point import find_attack_point
from tests.support.text_models import TextModel


def parse(inputs: str, body: str, constants: str = "float[9, 4] table") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> f ({inputs}) => '
        f"(float[N, 4] y) <{_filled(constants)}> {{ {body} }}"
    )


def _filled(constants: str) -> str:
    """Give float constants values."""
    parts = []
    for part in filter(None, constants.split(";")):
        size = 1
        for number in part[part.index("[") + 1 : part.index("]")].split(","):
            size *= int(number)
        parts.append(f"{part} = {{{', '.join(['0.5'] * size)}}}")
    return ", ".join(parts)


def test_floats_are_perturbed_themselves():
    entry = find_attack_point(parse("float[N, 4] x", "y = Relu(x)"))
    assert entry.is_plain
    assert (entry.tensor, entry.kind, entry.node) == ("x", "input", "")


def test_the_largest_table_is_that_of_the_tokens():
    entry = find_attack_point(TextModel().model)
    assert (entry.tensor, entry.kind, entry.op_type) == ("words", "embedding", "Gather")
    assert entry.input.name == "input_ids"
    assert [other.name for other in entry.others] == ["token_type_ids", "attention_mask"]
    assert entry.rows == 50


@pytest.mark.parametrize(
    "body",
    [
        "i = Cast <to = 6> (ids) z = Gather(table, i) y = ReduceSum <keepdims = 0> (z, one)",
        "s = Shape(ids) i = Reshape(ids, s) z = Gather(table, i) y = ReduceMax(z)",
        "c = Constant <value_int: int = 3> () i = Add(ids, c) t = Identity(table) "
        "z = Gather(t, i) y = ReduceMax(z)",
        # Positions are counted from the ids: their table is another, and it is met first.
        "c = Constant <value_int: int = 1> () e = Equal(ids, c) n = Not(e) k = Cast <to = 7> (n) "
        "p = CumSum(k, c) q = Gather(more, p) z = Gather(table, ids) a = Add(q, z) "
        "y = ReduceMax(a)",
    ],
)
def test_ids_are_followed_to_their_table(body: str):
    constants = "float[9, 4] table; float[99, 4] more"
    model = parse("int64[N, 3] ids", body, constants)
    entry = find_attack_point(model)
    assert (entry.tensor, entry.rows) == ("z", 9)


@pytest.mark.parametrize(
    "body",
    [
        "z = OneHot(x, depth, levels) y = ReduceMax(z)",
        "s = Shape(x) u = Unsqueeze(x, last) w = Expand(u, s) e = Equal(w, all) "
        "z = Cast <to = 1> (e) y = ReduceMax(z)",
        "u = Unsqueeze(x, last) e = Equal(all, u) z = Where(e, on, off) y = ReduceMax(z)",
    ],
)
def test_one_hot_codes_are_perturbed_as_rows_of_a_table(body: str):
    constants = (
        "int32 depth = {5}, float[2] levels = {0, 1}, float on = {1}, float off = {0}, "
        "int64[1] last = {-1}, int32[1, 1, 5] all = {0, 1, 2, 3, 4}"
    )
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> f (int32[N, 3] x) => (float[N, 4] y) '
        f"<{constants}> {{ {body} }}"
    )
    entry = find_attack_point(model)
    assert (entry.tensor, entry.kind, entry.rows, entry.input.name) == ("z", "embedding", 5, "x")


def test_bytes_are_perturbed_as_numbers():
    entry = find_attack_point(parse("uint8[N, 4] x", "f = Cast <to = 1> (x) y = Relu(f)"))
    assert (entry.tensor, entry.kind, entry.op_type) == ("f", "numbers", "Cast")


def test_floats_go_before_ids_and_masks_after_them():
    body = "z = Gather(table, ids) r = ReduceMax(z) s = Mul(x, r) y = Relu(s)"
    entry = find_attack_point(parse("int64[N, 3] ids, float[N, 4] x", body))
    assert (entry.tensor, entry.kind, entry.is_plain) == ("x", "input", False)
    entry = find_attack_point(
        parse(
            "int64[N, 3] ids, float[N, 4] attention_mask",
            body.replace("(x, r)", "(attention_mask, r)"),
        )
    )
    assert (entry.tensor, entry.kind) == ("z", "embedding")


@pytest.mark.parametrize(
    ("inputs", "body", "message"),
    [
        ("float[N, 4] a, float[N, 4] b", "y = Add(a, b)", "by 2 inputs, 'a', 'b'"),
        ("string[N, 4] words", "y = StringConcat(words, words)", "takes text; export the model to"),
        (
            "string[N, 4] words",
            "y = TfIdfVectorizer <max_gram_length = 1, max_skip_count = 0, min_gram_length = 1, "
            'mode = "TF", ngram_counts = [0], ngram_indexes = [0], pool_strings = ["a"]> (words)',
            "'words' takes text; export what stands behind TfIdfVectorizer 'y'",
        ),
        (
            "int64[N, 4] ids",
            "z = Constant <value_int: int = 0> () b = Equal(ids, z) y = Cast <to = 1> (b)",
            "'ids' takes no floats, and no tensor .* met Cast 'y'",
        ),
        ("bool[N, 4] flags", "y = Cast <to = 1> (flags)", "'flags' takes no floats"),
        (
            "int64[N, 4] ids",
            "a = Cast <to = 1> (ids) b = Cast <to = 1> (ids) y = Add(a, b)",
            "met Cast 'a', Cast 'b'",
        ),
    ],
)
def test_what_can_not_be_attacked_is_refused(inputs: str, body: str, message: str):
    with pytest.raises(ModelError, match=message):
        find_attack_point(parse(inputs, body, ""))
