"""External weights are compared byte by byte, whatever the files with them are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakify.onnxfile import OnnxFile, open_model
from cloakify.verification.sidecars import align_sidecars
from tests.support.gate_models import CNN, filled

# Two weights to a file: names, and where they lie.
FILES = {"a": ("w1", "w2"), "b": ("w3", "w4")}


def written(folder: Path, prefix: str) -> OnnxFile:
    """Write the model with four of its weights in two sidecars; a gap is between those of each."""
    model = filled(CNN)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    folder.mkdir(exist_ok=True)
    for name, weights in FILES.items():
        content = b""
        for weight in weights:
            data = tensors[weight].raw_data
            onnx.external_data_helper.set_external_data(
                tensors[weight], f"{prefix}{name}", offset=len(content), length=len(data)
            )
            tensors[weight].ClearField("raw_data")
            tensors[weight].data_location = onnx.TensorProto.EXTERNAL
            content += data + bytes(64)
        (folder / f"{prefix}{name}").write_bytes(content)
    path = folder / f"{prefix}.onnx"
    path.write_bytes(model.SerializeToString())
    return open_model(path)


@pytest.mark.parametrize("edited", [(), ("w3",), ("w1", "w4")])
def test_other_names_of_the_same_bytes(tmp_path: Path, edited: tuple[str, ...]) -> None:
    source, hardened = written(tmp_path, "s"), written(tmp_path, "h")
    aligned, faults = align_sidecars(source, hardened, edited)
    assert faults == []
    for ours, theirs in zip(source.model.graph.initializer, aligned.graph.initializer, strict=True):
        if ours.name in edited:
            assert theirs.raw_data and not theirs.external_data
        else:
            assert theirs.SerializeToString() == ours.SerializeToString()
    # What was given is as it was.
    assert {e.value for t in hardened.model.graph.initializer for e in t.external_data} >= {
        "ha",
        "hb",
    }


@given(
    file=st.sampled_from(list(FILES)),
    place=st.floats(0, 1, exclude_max=True),
    edited=st.sampled_from([(), ("w1",), ("w1", "w2"), ("w2", "w4")]),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_byte_counts_but_those_of_edited_weights(
    tmp_path: Path, file: str, place: float, edited: tuple[str, ...]
) -> None:
    source = written(tmp_path, "s")
    sizes = {
        name: 4 * int(np.prod(tensor.dims))
        for tensor in source.model.graph.initializer
        for name in [tensor.name]
    }
    written(tmp_path, "h")
    sidecar = tmp_path / f"h{file}"
    content = bytearray(sidecar.read_bytes())
    at = int(place * len(content))
    content[at] ^= 1
    sidecar.write_bytes(content)
    first, second = FILES[file]
    starts = {first: 0, second: sizes[first] + 64}
    passed_over = any(0 <= at - starts[name] < sizes[name] for name in starts if name in edited)
    _, faults = align_sidecars(source, open_model(tmp_path / "h.onnx"), edited)
    assert faults == ([] if passed_over else [f"the external weights in 's{file}' differ"])


def test_other_weights_outside(tmp_path: Path) -> None:
    source, hardened = written(tmp_path, "s"), written(tmp_path, "h")
    for fewer, more in ((source, hardened), (hardened, source)):
        inner = fewer.load_some({"w1"})
        path = tmp_path / "inner.onnx"
        path.write_bytes(inner.SerializeToString())
        for pair in ((open_model(path), more), (more, open_model(path))):
            (fault,) = align_sidecars(*pair)[1]
            assert fault.startswith("external weights are in ")
