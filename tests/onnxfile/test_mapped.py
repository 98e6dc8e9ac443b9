"""Weights that stay in their sidecars: the same numbers, and no copy of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.errors import ModelError
from cloakify.onnxfile import mapped, model_file, open_model, read_metadata, values_of
from cloakify.onnxfile.mapped import is_mapped
from cloakify.runtime import CPU, Session
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify
from tests.support.fragile import EPS, write_fragile
from tests.support.large_models import write_beside


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Map the weights of models of any size."""
    monkeypatch.setattr(model_file, "MAPPED_MODEL", 0)
    monkeypatch.setattr(mapped, "MAPPED_TENSOR", 16)


def test_values_are_those_of_the_sidecar_and_shared(tmp_path: Path, everything: None) -> None:
    write_beside(tmp_path / "m.onnx", [40, 30])
    file = open_model(tmp_path / "m.onnx")
    expected = onnx.load(tmp_path / "m.onnx")
    first, second = file.load_weights(), file.load_weights()
    for one, other, plain in zip(
        first.graph.initializer,
        second.graph.initializer,
        expected.graph.initializer,
        strict=True,
    ):
        assert is_mapped(one) and not one.raw_data
        np.testing.assert_array_equal(values_of(one), onnx.numpy_helper.to_array(plain))
        assert np.shares_memory(values_of(one), values_of(other))
    # What is saved is an edit of the message as it was.
    assert not any(is_mapped(tensor) for tensor in file.model.graph.initializer)


def test_few_weights_are_read(tmp_path: Path) -> None:
    write_beside(tmp_path / "m.onnx", [300, 300])
    assert not any(map(is_mapped, open_model(tmp_path / "m.onnx").load_weights().graph.initializer))


@pytest.mark.parametrize("start", [0, 1])
def test_numbers_that_begin_between_two_are_read(
    tmp_path: Path, everything: None, start: int
) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 4] x) => (float[N, 6] y) <float[4, 6] w> { y = MatMul (x, w) }"""
    )
    weight = np.arange(24, dtype=np.float32).reshape(4, 6)
    (tmp_path / "w.data").write_bytes(bytes(start) + weight.tobytes())
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[4, 6])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "w.data"), ("offset", str(start)), ("length", "96")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = open_model(tmp_path / "m.onnx").load_weights()
    x = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(Session(loaded, CPU).run({"x": x})["y"], weight)


def test_a_sidecar_that_is_cut_short_meanwhile(tmp_path: Path, everything: None) -> None:
    write_beside(tmp_path / "m.onnx", [40, 30])
    loaded = open_model(tmp_path / "m.onnx").load_weights()
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(ModelError, match="was cut short while it was in use"):
        values_of(loaded.graph.initializer[0])
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match="can't be read"):
        values_of(loaded.graph.initializer[0])


def test_a_mapped_model_is_hardened_as_one_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_beside(tmp_path / "m.onnx", [40, 30])
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).random((60, 32), np.float32))
    setting = HardenSetting(
        labels="model", eps=0.03, evaluation_steps=3, device="cpu", mask_ratio=0.2, box=None
    )
    digests = set()
    for name in ("read", "mapped"):
        out = tmp_path / name
        out.mkdir()
        harden(tmp_path / "m.onnx", tmp_path / "d.npz", out / "h.onnx", setting)
        assert verify(out / "h.onnx", tmp_path / "m.onnx").faults == ()
        digests.add(read_metadata(open_model(out / "h.onnx").model)["mask.sha256"])
        monkeypatch.setattr(model_file, "MAPPED_MODEL", 0)
        monkeypatch.setattr(mapped, "MAPPED_TENSOR", 16)
    assert len(digests) == 1


@pytest.mark.parametrize("emit", ["mul", "fold"])
def test_gates_of_a_mapped_model(tmp_path: Path, everything: None, emit: str) -> None:
    model, data = write_fragile(tmp_path)
    onnx.save_model(
        onnx.load(model), model, save_as_external_data=True, location="m.data", size_threshold=0
    )
    setting = HardenSetting(
        method="tuned",
        emit=emit,
        tune_steps=60,
        max_accuracy_drop=0.2,
        evaluation_steps=2,
        eps=EPS,
        device="cpu",
        write_anyway=True,
    )
    harden(model, data, tmp_path / "h.onnx", setting)
    assert verify(tmp_path / "h.onnx", model).faults == ()
    assert any(map(is_mapped, open_model(tmp_path / "h.onnx").load_weights().graph.initializer))


@given(st.data())
def test_constants_that_the_runtime_would_transpose(
    tmp_path_factory: pytest.TempPathFactory,
    data,  # type: ignore[no-untyped-def]
) -> None:
    """Transposes that go once a constant is turned: it is the mapped one that is used."""
    sizes = data.draw(st.lists(st.integers(2, 4), min_size=3, max_size=3))
    first, last = (data.draw(st.permutations(range(3))) for _ in range(2))
    op = data.draw(st.sampled_from(["Add", "Mul", "Sub", "Max"]))
    turned = [sizes[axis] for axis in first]
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        f (float[{", ".join(map(str, sizes))}] x) => (float y) {{
            t = Transpose <perm = {list(first)}> (x)  a = {op} (t, w)
            r = Relu (a)  y = Transpose <perm = {list(last)}> (r)
        }}
    """)
    random = np.random.default_rng(0)
    x, weight = (random.normal(size=size).astype(np.float32) for size in (sizes, turned))
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    path = tmp_path_factory.mktemp("turned") / "m.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model_file, "MAPPED_MODEL", 0)
        patched.setattr(mapped, "MAPPED_TENSOR", 16)
        loaded = open_model(path).load_weights()
    assert all(map(is_mapped, loaded.graph.initializer))
    way = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract, "Max": np.maximum}[op]
    expected = np.maximum(way(x.transpose(first), weight), 0).transpose(last)
    np.testing.assert_array_equal(Session(loaded, CPU).run({"x": x})["y"], expected)
