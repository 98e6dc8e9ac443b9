"""`harden` and `verify` on models that do not compute in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify
from tests.support.planted import Planted, plant


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


def in_type(path: Path, element_type: int) -> Path:
    """Write the model again with every float32 in another type."""
    model = onnx.load(path)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = element_type
    other = path.with_name(f"{path.stem}-{element_type}.onnx")
    onnx.save(model, other)
    return other


TYPES = [onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE]


def data_in_type(planted: Planted, folder: Path, element_type: int) -> Path:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    with np.load(planted.data) as file:
        np.savez(folder / "data.npz", x=file["x"].astype(dtype), y=file["y"])
    return folder / "data.npz"


@pytest.mark.parametrize("element_type", TYPES)
def test_other_float_types(planted: Planted, tmp_path: Path, element_type: int) -> None:
    model = in_type(planted.model(), element_type)
    data = data_in_type(planted, tmp_path, element_type)
    output = tmp_path / "hardened.onnx"
    setting = HardenSetting(mask_ratio=0.1, evaluation_steps=3, eps=0.05, device="cpu", rounds=1)
    harden(model, data, output, setting)
    assert verify(output, model, "cpu").faults == ()
    (mask,) = (t for t in onnx.load(output).graph.initializer if t.name == "cloakify_mask")
    assert mask.data_type == element_type


@pytest.mark.parametrize("element_type", TYPES)
def test_gates_are_tuned_in_other_float_types(
    planted: Planted, tmp_path: Path, element_type: int
) -> None:
    model = in_type(planted.model(), element_type)
    data = data_in_type(planted, tmp_path, element_type)
    output = tmp_path / "hardened.onnx"
    setting = HardenSetting(
        method="tuned", tune_steps=12, evaluation_steps=3, eps=0.05, device="cpu", effort="quick",
        max_accuracy_drop=0.5, write_anyway=True,
    )  # fmt: skip
    harden(model, data, output, setting)
    assert verify(output, model, "cpu").faults == ()
    gates = [t for t in onnx.load(output).graph.initializer if t.name.startswith("cloakify")]
    assert {gate.data_type for gate in gates} == {element_type}
