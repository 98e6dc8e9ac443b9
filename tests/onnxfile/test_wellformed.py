"""What contradicts the standard is refused where a file is opened, and nothing else is."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto
from onnx.backend.test.loader import load_model_tests
from onnxruntime import InferenceSession
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from cloakify.errors import ModelError
from cloakify.onnxfile.wellformed import check_well_formed


@pytest.fixture
def broken(small):
    """A copy of the small model, to break."""
    model = ModelProto()
    model.CopyFrom(small)
    return model


def refused(model: ModelProto, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        check_well_formed(model)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_whatever_the_standard_shows_is_well_formed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    assert len(cases) > 1000
    for case in cases:
        check_well_formed(case.model)


@pytest.mark.parametrize("names", [["h"], ["h", "w", "b", "one more"], []])
def test_inputs_are_counted(broken, names):
    broken.graph.node[2].input[:] = names
    refused(broken, rf"^Gemm 'head' has {len(names)} inputs, and the operator takes 2 to 3$")


def test_inputs_may_not_be_left_out_as_one_likes(broken):
    broken.graph.node[2].input[0] = ""
    refused(broken, "^Gemm 'head' lacks its input 'A'$")
    broken.graph.node[2].input[0] = "f"
    broken.graph.node[2].input[2] = ""
    check_well_formed(broken)


def test_operators_are_those_of_the_files_opset_or_what_the_runtime_runs_before() -> None:
    """ONNX Runtime lists from which opset on it knows each of the standard's operators."""
    first: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            first[schema.name] = min(schema.since_version, first.get(schema.name, 99))
    run = {(s.name, s.since_version) for s in get_all_operator_schema() if not s.domain}
    assert ("Relu", 6) in run and first["Gelu"] == 20
    for name, version in first.items():
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : {version - 1}]>
            f (float[N, 2] x) => (float[N, 2] y) {{ y = {name} (x) }}"""
        )
        early = any((name, before) in run for before in range(1, version))
        if version > 1 and not early:
            refused(model, f"^{name} 'y' is of a later opset than the file's, {version - 1}$")
        elif early:
            model.graph.node[0].input[:] = ["x"] * 9
            refused(model, f"^{name} 'y' has 9 inputs")


@pytest.mark.parametrize("domain", ["ai.onnx.ml", "own"])
def test_a_file_without_a_version_of_the_standard_has_the_newest(domain: str) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["{domain}" : 1]>
        f (float[N, 2] x) => (float[N, 2] y) {{ y = Gelu (x) }}"""
    )
    check_well_formed(model)
    model.graph.node[0].input.append("x")
    refused(model, "^Gelu 'y' has 2 inputs, and the operator takes 1$")


def test_attributes_are_of_their_kind(broken):
    broken.graph.node[2].attribute[0].CopyFrom(onnx.helper.make_attribute("transB", "yes"))
    refused(broken, "attribute 'transB' of the kind STRING, not INT$")
    del broken.graph.node[2].attribute[:]
    broken.graph.node[0].op_type = "Cast"
    del broken.graph.node[0].attribute[:]
    refused(broken, "^Cast 'first' lacks its attribute 'to'$")


def test_a_constant_has_one_value(broken):
    node = broken.graph.node.add(op_type="Constant", name="one", output=["one"])
    refused(broken, "^Constant 'one' has 0 values, and takes one$")
    node.attribute.append(onnx.helper.make_attribute("value_float", 1.0))
    check_well_formed(broken)
    node.attribute.append(onnx.helper.make_attribute("value_int", 1))
    refused(broken, "^Constant 'one' has 2 values, and takes one$")


def test_a_segment_is_no_tensor(broken):
    broken.graph.initializer[0].segment.begin = 0
    refused(broken, "is a segment of one, which nothing puts together$")


def test_only_a_function_lends_attributes(broken):
    broken.graph.node[2].attribute[0].CopyFrom(
        onnx.AttributeProto(name="transB", type=onnx.AttributeProto.INT, ref_attr_name="turned")
    )
    refused(broken, "^Gemm 'head' has the attribute 'transB' of the function around it, and is in")


def test_what_the_standard_does_not_know_may_be_anything(broken):
    broken.graph.node[2].op_type = "OwnLayer"
    broken.graph.node[2].input[:] = ["f"] * 9
    check_well_formed(broken)


def test_versions_of_operator_sets_may_be_any_number(broken):
    broken.opset_import[0].version = (1 << 63) - 1
    check_well_formed(broken)
    for version in (-(1 << 63), 0):
        broken.opset_import[0].version = version
        refused(broken, f"^LeakyRelu 'first' is of a later opset than the file's, {version}$")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data_type": 99}, "is of the unknown type 99"),
        ({"data_type": 0}, "is of the unknown type 0"),
        ({"dims": [4, -3]}, "has a negative size"),
        ({"dims": [4, 3_000_000]}, "holds 48 bytes where its shape says 48000000"),
        ({"raw_data": b""}, "holds 0 bytes where its shape says 48"),
        ({"data_type": TensorProto.INT4}, "holds 48 bytes where its shape says 6"),
    ],
)
def test_tensors_hold_what_they_say(broken, change, said):
    tensor = broken.graph.initializer[0]
    for field, value in change.items():
        if field == "dims":
            tensor.dims[:] = value
        else:
            setattr(tensor, field, value)
    refused(broken, f"^the tensor 'weight' {said}")


def test_tensors_in_fields_of_their_own(broken):
    bias = onnx.helper.make_tensor("bias", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    broken.graph.initializer[1].CopyFrom(bias)
    check_well_formed(broken)
    broken.graph.initializer[1].float_data.append(4.0)
    refused(broken, "holds 4 values where its shape says 3")


def test_values_are_of_a_known_type(broken):
    broken.graph.value_info.add(name="h").type.tensor_type.elem_type = 77
    refused(broken, "^the value 'h' is of the unknown type 77$")


def test_a_sparse_tensor_is_not_next_to_nothing(broken):
    sparse = broken.graph.sparse_initializer.add(dims=[1 << 20, 1 << 20])
    sparse.values.CopyFrom(onnx.helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]))
    sparse.indices.CopyFrom(onnx.helper.make_tensor("i", TensorProto.INT64, [1], [0]))
    refused(broken, r"^the sparse tensor 's' stands for 1\.1e\+12 numbers, and holds 1$")


def test_names_are_text(small):
    data = small.SerializeToString()
    model = onnx.load_model_from_string(data.replace(b"second", b"s\xffcond"))
    refused(model, "^it has bytes for a name")


def functions(*bodies: str) -> ModelProto:
    """A model that calls F0, of functions F0, F1, … with these bodies of x, which make y."""
    written = "\n".join(
        f'<opset_import: ["" : 17, "own" : 1], domain: "own"> F{number} (x) => (y) {{ {body} }}'
        for number, body in enumerate(bodies)
    )
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "own" : 1]>'
        f"f (float[N] x) => (float[N] y) {{ y = own.F0 (x) }}\n{written}"
    )


def test_functions_that_double(broken):
    bodies = [f"h = own.F{n + 1} (x) y = own.F{n + 1} (h)" for n in range(20)]
    check_well_formed(functions(*bodies[:10], "y = Neg (x)", *["y = Neg (x)"] * 10))
    refused(functions(*bodies, "y = Neg (x)"), r"has 42 nodes, and 1\.05e\+06 once its functions")


def test_functions_that_call_themselves():
    refused(functions("y = own.F1 (x)", "y = own.F0 (x)"), "its function 'F0' calls itself")
    row = [f"y = own.F{number + 1} (x)" for number in range(200)]
    refused(functions(*row, "y = Neg (x)"), "others in an endless row")


@pytest.mark.parametrize("outputs", [["y"], ["y", "z", "w"]])
def test_branches_give_what_their_node_does(outputs: list[str]) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> f (bool c, float[N] x) => (float[N] y) {
            y, z = If (c) <then_branch = one () => (float[N] a, float[N] b) {
                a = Neg (x) b = Abs (x) },
            else_branch = two () => (float[N] d, float[N] e) { d = Abs (x) e = Neg (x) }> }"""
    )
    check_well_formed(model)
    model.graph.node[0].output[:] = outputs
    refused(model, rf"^If 'y' has {len(outputs)} outputs, and its branch 'one' 2$")


@pytest.mark.parametrize(
    ("domain", "operator"),
    [("", "Relu"), ("ai.onnx", "Relu"), ("com.microsoft", "Gelu"), ("ai.onnx.ml", "Binarizer")],
)
def test_functions_that_the_runtime_would_not_run(domain: str, operator: str) -> None:
    """It runs its own operator; a function of another name is run, and let be."""
    called = f"{domain}.{operator}" if domain else operator
    text = f"""
        <ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1, "ai.onnx.ml" : 3, "own" : 1]>
        f (float[N] x) => (float[N] y) {{ y = {called} (x) }}
        <domain: "own", opset_import: ["" : 18]> {operator} (a) => (b) {{ b = Neg (a) }}
    """
    model = onnx.parser.parse_model(text)
    check_well_formed(model)
    x = np.array([0.5, 2.0], np.float32)
    plain = InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    model.functions[0].domain = domain
    shadowed = InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(shadowed, plain)
    assert (shadowed != -x).any()
    refused(model, f"^its function '{operator}' is called as an operator that ONNX Runtime runs")
    model.functions[0].domain = model.graph.node[0].domain = "own"
    check_well_formed(model)
    np.testing.assert_array_equal(
        InferenceSession(model.SerializeToString()).run(None, {"x": x})[0], -x
    )
