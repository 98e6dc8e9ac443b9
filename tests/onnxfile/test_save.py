"""Saving: what was opened comes out whole, with sidecars of its own; nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import ModelProto

from cloakify.errors import CloakifyError, ModelError
from cloakify.onnxfile import check_apart, open_model, save_model


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def hardened(out: Path) -> Path:
    return out / "hardened.onnx"


def sidecars(target: Path) -> list[Path]:
    return [target.parent / name for name in open_model(target).sidecars]


def test_saving_gives_the_same_bytes_as_before(tmp_path, small):
    path = tmp_path / "model.onnx"
    path.write_bytes(small.SerializeToString())
    file = open_model(path)
    for name in ("one.onnx", "two.onnx"):
        save_model(file.model, tmp_path / name, file)
        assert (tmp_path / name).read_bytes() == path.read_bytes()


def test_sidecars_are_copied_not_linked(external, hardened):
    file = open_model(external("data/weights"))
    save_model(file.model, hardened, file)
    (copy,) = sidecars(hardened)
    assert copy.parent == hardened.parent and copy.name.startswith("hardened.onnx.")
    assert copy.read_bytes() == (file.folder / "data" / "weights").read_bytes()
    assert not copy.is_symlink() and not copy.samefile(file.folder / "data" / "weights")
    onnx.checker.check_model(str(hardened))


def test_beside_its_source_a_model_shares_the_sidecar(external):
    file = open_model(external("weights"))
    before = content(file.folder)
    save_model(file.model, file.path.with_name("hardened.onnx"), file)
    assert content(file.folder) == {**before, "hardened.onnx": file.path.read_bytes()}


@pytest.mark.parametrize("kind", ["link", "second name"])
def test_beside_its_source_a_linked_sidecar_is_copied(external, kind):
    path = external("weights")
    linked = path.parent / "weights"
    real = linked.rename(path.parent / "real")
    linked.symlink_to("real") if kind == "link" else linked.hardlink_to(real)
    file = open_model(path)
    hardened = path.with_name("hardened.onnx")
    save_model(file.model, hardened, file)
    onnx.checker.check_model(str(hardened))
    assert sidecars(hardened)[0].read_bytes() == real.read_bytes()


def test_nothing_of_a_stranger_is_replaced(external, hardened, tmp_path):
    """A file called as the source's sidecar, an old output, a folder that is a link elsewhere."""
    file = open_model(external("data/weights"))
    strange = {"weights": b"of another model", "data.bin": b"too"}
    for name, data in strange.items():
        (hardened.parent / name).write_bytes(data)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "weights").write_bytes(b"a stranger's")
    (hardened.parent / "data").symlink_to(elsewhere)
    hardened.write_bytes(b"an old output")
    save_model(file.model, hardened, file)
    found = content(hardened.parent)
    assert {name: found[name] for name in strange} == strange
    assert content(elsewhere) == {"weights": b"a stranger's"}
    assert len(found) == len(strange) + 2


def test_a_sidecar_called_like_the_output(external, out):
    file = open_model(external("hardened.onnx"))
    save_model(file.model, out / "hardened.onnx", file)
    onnx.checker.check_model(str(out / "hardened.onnx"))
    with pytest.raises(CloakifyError, match="is read, too"):
        save_model(file.model, file.folder / "hardened.onnx", file)


def test_the_same_again_changes_nothing_and_another_content_replaces_the_old(external, hardened):
    path = external("weights")
    file = open_model(path)
    save_model(file.model, hardened, file)
    before = content(hardened.parent)
    times = {one: one.stat().st_mtime_ns for one in sidecars(hardened)}
    save_model(file.model, hardened, file)
    assert content(hardened.parent) == before
    assert times == {one: one.stat().st_mtime_ns for one in sidecars(hardened)}
    (path.parent / "weights").write_bytes(bytes(48))
    file = open_model(path)
    save_model(file.model, hardened, file)
    (copy,) = sidecars(hardened)
    assert copy.read_bytes() == bytes(48)
    assert set(content(hardened.parent)) == {"hardened.onnx", copy.name}


def test_an_old_sidecar_that_another_model_names_stays(external, hardened):
    path = external("weights")
    file = open_model(path)
    save_model(file.model, hardened, file)
    kept = hardened.with_name("kept.onnx")
    kept.write_bytes(hardened.read_bytes())
    (path.parent / "weights").write_bytes(bytes(48))
    file = open_model(path)
    save_model(file.model, hardened, file)
    assert sidecars(kept)[0].is_file() and sidecars(kept) != sidecars(hardened)


def test_a_name_that_is_taken_by_another_content_is_said(external, hardened):
    file = open_model(external("weights"))
    save_model(file.model, hardened, file)
    (copy,) = sidecars(hardened)
    hardened.unlink()
    copy.write_bytes(b"a stranger's")
    with pytest.raises(CloakifyError, match="is not what its name says"):
        save_model(file.model, hardened, file)
    assert content(hardened.parent) == {copy.name: b"a stranger's"}


@pytest.mark.parametrize("name", ["ü.onnx", "n" * 240 + ".onnx", "\udcff.onnx", "new\nline.onnx"])
def test_outputs_of_any_name(external, out, name):
    file = open_model(external("weights"))
    save_model(file.model, out / name, file)
    assert open_model(out / name).load_weights() == file.load_weights()
    assert len(content(out)) == 2


def test_sidecars_of_one_content_become_one(tmp_path, out, small):
    model = ModelProto()
    model.CopyFrom(small)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=f"{tensor.name}.bin")
        (tmp_path / f"{tensor.name}.bin").write_bytes(bytes(48))
        tensor.external_data.add(key="length", value="48" if tensor.dims[0] == 4 else "12")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    file = open_model(tmp_path / "model.onnx")
    save_model(file.model, out / "h.onnx", file)
    assert len(content(out)) == 2
    assert open_model(out / "h.onnx").load_weights() == file.load_weights()


def test_edited_weights_are_put_into_the_copy(external, hardened):
    file = open_model(external("weights"))
    edited = ModelProto()
    edited.CopyFrom(file.load_some(["weight"]))
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    edited.graph.initializer[0].raw_data = values.tobytes()
    save_model(edited, hardened, file)
    saved = open_model(hardened)
    assert len(saved.sidecars) == 1
    assert saved.load_weights().graph.initializer[0].raw_data == values.tobytes()
    # Beside its source too: the source's own sidecar is not edited.
    save_model(edited, file.path.with_name("h.onnx"), file)
    assert open_model(file.path.with_name("h.onnx")).sha256 != file.sha256
    assert open_model(file.path).sha256 == file.sha256


def test_weights_that_share_their_bytes_are_not_edited_alone(external):
    path = external("weights")
    model = onnx.load(path, load_external_data=False)
    other = model.graph.initializer.add()
    other.CopyFrom(model.graph.initializer[0])
    other.name = "tied"
    path.write_bytes(model.SerializeToString())
    file = open_model(path)
    with pytest.raises(ModelError, match=r"'(weight|tied)' and '(weight|tied)' lie in the same"):
        check_apart(file, ["weight"])
    check_apart(file, [])


def test_a_source_that_vanished_or_changed_is_named_not_the_target(external, hardened):
    file = open_model(external("weights"))
    assert file.digests
    (file.folder / "weights").write_bytes(bytes(48))
    with pytest.raises(ModelError, match="source/weights: was changed while"):
        save_model(file.model, hardened, file)
    (file.folder / "weights").unlink()
    with pytest.raises(ModelError, match="'weights', which is missing"):
        save_model(file.model, hardened, file)
    assert content(hardened.parent) == {}


def test_the_source_is_never_replaced(external, tmp_path):
    file = open_model(external("weights"))
    link = tmp_path / "link.onnx"
    link.symlink_to(file.path)
    for target in (file.path, link, file.path.parent / "weights"):
        with pytest.raises(CloakifyError, match="is read, too"):
            save_model(file.model, target, file)


def test_a_message_over_the_limit_is_refused(external, monkeypatch, hardened):
    file = open_model(external("weights"))

    def refuse(*_: object, **__: object) -> bytes:
        raise EncodeError("Failed to serialize proto")

    monkeypatch.setattr(ModelProto, "SerializeToString", refuse)
    with pytest.raises(CloakifyError, match="2 GiB"):
        save_model(file.model, hardened, file)
    assert content(hardened.parent) == {}
