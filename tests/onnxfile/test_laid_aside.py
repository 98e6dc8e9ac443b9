"""Weights that are left in the model's own file: every byte is as if they had been read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from cloakify.errors import CloakifyError
from cloakify.onnxfile import laid_aside, mapped, open_model, save_model, values_of
from cloakify.onnxfile.laid_aside import by_content, bytes_of
from cloakify.onnxfile.mapped import is_mapped
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify
from tests.support.fragile import EPS, write_fragile


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay the weights of models of any size aside."""
    monkeypatch.setattr(laid_aside, "MAPPED_MODEL", 0)
    monkeypatch.setattr(mapped, "MAPPED_TENSOR", 16)


def aside(model: ModelProto) -> list[str]:
    return [tensor.name for tensor in model.graph.initializer if is_mapped(tensor)]


def test_the_bytes_of_a_file_are_those_that_it_has(sample_model: Path, everything: None) -> None:
    plain = onnx.load(sample_model)
    file = open_model(sample_model)
    assert aside(file.model)
    expected = plain.SerializeToString(deterministic=True)
    assert b"".join(bytes_of(file.model)) == expected
    for one, other in zip(file.model.graph.initializer, plain.graph.initializer, strict=True):
        np.testing.assert_array_equal(values_of(one), onnx.numpy_helper.to_array(other))
    assert file.load_weights() is file.model or not any(
        tensor.raw_data for tensor in file.load_weights().graph.initializer if is_mapped(tensor)
    )


@given(st.data())
def test_whatever_stands_around_them(tmp_path_factory: pytest.TempPathFactory, data) -> None:  # type: ignore[no-untyped-def]
    """Names, lengths around a byte's and two bytes' limits, explicit and unknown fields."""
    path = tmp_path_factory.mktemp("aside") / "m.onnx"
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> f (float[N] x) => (float[N] y) { y = Relu (x) }'
    )
    count = data.draw(st.integers(1, 4))
    for place in range(count):
        size = data.draw(st.sampled_from([1, 8, 28, 30, 31, 32, 33, 4090, 4096]))
        values = np.full(size, place + 0.5, np.float32)
        tensor = onnx.numpy_helper.from_array(
            values, f"w{place}" + "é" * data.draw(st.integers(0, 9))
        )
        tensor.doc_string = data.draw(st.text(max_size=5))
        if data.draw(st.booleans()):
            tensor.data_location = onnx.TensorProto.DEFAULT
        if data.draw(st.booleans()):
            # A field that this version of onnx does not know: number 900, a varint of 5.
            tensor.MergeFromString(bytes([0xA0, 0x38, 5]))
        model.graph.initializer.append(tensor)
    model.graph.doc_string = data.draw(st.text(max_size=5))
    content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(laid_aside, "MAPPED_MODEL", 0)
        patched.setattr(mapped, "MAPPED_TENSOR", 16)
        file = open_model(path)
        expected = [t.name for t in model.graph.initializer if len(t.raw_data) >= 16]
        assert aside(file.model) == expected
        assert b"".join(bytes_of(file.model)) == content
        save_model(file.model, path.with_name("again.onnx"), file)
    assert path.with_name("again.onnx").read_bytes() == content


def test_too_large_a_message_is_refused(
    samples: Path, tmp_path: Path, everything: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_model(samples / "fashion_pooled.onnx")
    monkeypatch.setattr(laid_aside, "MESSAGE_LIMIT", 1000)
    with pytest.raises(CloakifyError, match="limit of 2 GiB"):
        save_model(file.model, tmp_path / "out.onnx", file)
    assert not (tmp_path / "out.onnx").exists()


def test_small_models_hold_their_weights(sample_model: Path) -> None:
    file = open_model(sample_model)
    assert not aside(file.model) and by_content(file.model) is file.model


ANYWAY = {"write_anyway": True}


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_ratio": 0.25},
        {"method": "tuned", "emit": "mul", "tune_steps": 60, "max_accuracy_drop": 0.2, **ANYWAY},
        {"method": "tuned", "emit": "fold", "tune_steps": 60, "max_accuracy_drop": 0.2, **ANYWAY},
    ],
)
def test_what_is_hardened_is_the_same_file_and_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    model, data = write_fragile(tmp_path)
    plain = onnx.load(model)
    for tensor in plain.graph.initializer:
        # Only raw data is laid aside.
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
        )
    model.write_bytes(plain.SerializeToString())
    setting = HardenSetting(
        eps=EPS,
        evaluation_steps=2,
        device="cpu",
        **changes,  # type: ignore[arg-type]
    )
    made = []
    for name in ("held", "aside"):
        output = tmp_path / f"{name}.onnx"
        harden(model, data, output, setting)
        assert verify(output, model).faults == ()
        made.append(output.read_bytes())
        monkeypatch.setattr(laid_aside, "MAPPED_MODEL", 0)
        monkeypatch.setattr(mapped, "MAPPED_TENSOR", 16)
    assert aside(open_model(model).model)
    assert made[0] == made[1]
    # One bit of a weight, and nothing is proven.
    (last,) = (t for t in onnx.load(output).graph.initializer if t.name == "w2")
    place = made[0].index(last.raw_data)
    spoilt = bytearray(made[0])
    spoilt[place] ^= 1
    output.write_bytes(spoilt)
    assert verify(output, model).faults
