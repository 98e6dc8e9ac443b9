"""Opening: what is no model is refused in one line, and sidecars are found where they may be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.onnxfile import open_model


@pytest.fixture
def path(tmp_path: Path, small: ModelProto) -> Path:
    place = tmp_path / "model.onnx"
    place.write_bytes(small.SerializeToString())
    return place


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, world\n", b"\x00" * 100, bytes(range(256)), b"\x80\x02}q\x00.", b"PK\x03\x04"],
    ids=["empty", "text", "zeros", "bytes", "pickle", "zip"],
)
def test_what_is_no_model_is_refused(tmp_path, content):
    place = tmp_path / "model.onnx"
    place.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: is not an ONNX model") as caught:
        open_model(place)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        open_model(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"is a folder without an \.onnx file"):
        open_model(tmp_path)


def test_what_need_never_end_is_refused(tmp_path):
    os.mkfifo(tmp_path / "model.onnx")
    for place in (tmp_path / "model.onnx", Path("/dev/zero")):
        with pytest.raises(ModelError, match="is no regular file"):
            open_model(place)


def test_a_file_beyond_protobufs_limit_is_not_read(tmp_path):
    place = tmp_path / "model.onnx"
    with open(place, "wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(ModelError, match="is over 2 GiB"):
        open_model(place)


def test_a_file_cut_short_is_refused_or_is_another_model(path, small):
    data = path.read_bytes()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        try:
            found = open_model(path).model
        except ModelError:
            continue
        assert found != small


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_bytes_open_or_are_refused(tmp_path_factory, small, data):
    content = bytearray(small.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        edit = data.draw(st.sampled_from(["set", "insert", "cut", "repeat"]))
        if edit == "set":
            content[place] = data.draw(st.integers(0, 255))
        elif edit == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        elif edit == "cut":
            del content[place : place + data.draw(st.integers(1, 16))]
        else:
            content[place:place] = content[place : place + data.draw(st.integers(1, 64))]
        if not content:
            break
    mutated = tmp_path_factory.getbasetemp() / "mutated.onnx"
    mutated.write_bytes(content)
    try:
        file = open_model(mutated)
    except ModelError as error:
        assert "\n" not in str(error)
        return
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert isinstance(file.load_weights(), ModelProto)


@settings(max_examples=100, deadline=None)
@given(location=st.text(max_size=300))
def test_any_sidecar_name_is_found_or_refused(tmp_path_factory, small, location):
    model = ModelProto()
    model.CopyFrom(small)
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = tmp_path_factory.getbasetemp() / "named.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        (found,) = open_model(path).sidecars
    except ModelError as error:
        assert "\n" not in str(error)
        return
    assert (path.parent / found).is_file()


@pytest.mark.parametrize("location", ["../weights", "/etc/passwd", "a/../../weights"])
def test_a_sidecar_outside_the_folder_is_refused(external, tmp_path, location):
    (tmp_path / "weights").write_bytes(b"\x00" * 48)
    with pytest.raises(ModelError, match="outside its folder"):
        open_model(external(location, make=False))


def test_an_absolute_path_into_the_folder_is_refused(external):
    path = external("weights")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(path.parent / entry.value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="an absolute path; ONNX wants one below"):
        open_model(path)


def test_a_link_out_of_the_folder_is_refused(external, tmp_path):
    (tmp_path / "secret").write_bytes(b"\x00" * 48)
    path = external("weights", make=False)
    (path.parent / "weights").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="outside its folder"):
        open_model(path)


def test_a_link_within_the_folder_and_a_second_name_are_read(external, small):
    path = external("weights")
    sidecar = path.parent / "weights"
    sidecar.rename(path.parent / "elsewhere")
    sidecar.symlink_to("elsewhere")
    os.link(path.parent / "elsewhere", path.parent / "again")
    assert open_model(path).load_weights().graph.initializer[0] == small.graph.initializer[0]


def test_a_linked_model_has_the_sidecars_of_what_it_links_to(external, tmp_path, small):
    link = tmp_path / "link.onnx"
    link.symlink_to(external("weights"))
    file = open_model(link)
    assert file.load_weights().graph.initializer[0] == small.graph.initializer[0]
    assert file.sha256 == open_model(link.resolve()).sha256


@pytest.fixture
def hub(external, tmp_path) -> Path:
    """A model in the cache of the Hugging Face hub: links into `blobs`."""
    source = external("model.onnx_data")
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot, blobs = repository / "snapshots" / "0123abcd" / "onnx", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(("model.onnx", "model.onnx_data")):
        (source.parent / name).rename(blobs / str(number))
        (snapshot / name).symlink_to(Path("../../../blobs") / str(number))
    return snapshot / "model.onnx"


def test_links_in_the_hubs_cache_are_followed(hub, small):
    assert open_model(hub).load_weights().graph.initializer[0] == small.graph.initializer[0]


@pytest.mark.parametrize("place", ["../../../refs", "../../../../other/blobs", "/etc"])
def test_links_out_of_the_hubs_repository_are_not(hub, place):
    link = hub.parent / "model.onnx_data"
    link.unlink()
    folder = hub.parent / place
    if not folder.is_absolute() or folder.is_relative_to(hub.parents[3]):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "passwd").write_bytes(bytes(48))
    link.symlink_to(folder / "passwd")
    with pytest.raises(ModelError, match="outside its folder"):
        open_model(hub)


def test_a_model_in_the_hubs_cache_may_not_name_other_blobs_itself(hub, small):
    model = onnx.load(hub, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../../../blobs/1"
    hub.resolve().write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside its folder"):
        open_model(hub)


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-4"), ("length", "-1"), ("length", "many"), ("offset", "1e3")]
)
def test_places_that_are_none(external, key, value):
    path = external("weights")
    model = onnx.load(path, load_external_data=False)
    entries = model.graph.initializer[0].external_data
    entries.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="'weight' lies outside the file, but where is not said"):
        open_model(path)


def test_text_that_is_none_is_refused(tmp_path, small):
    """Keras's exporter leaves some of TensorFlow's operators as they are, with their settings."""
    model = ModelProto()
    model.CopyFrom(small)
    node = model.graph.node[0]
    node.op_type = "StatefulPartitionedCall"
    node.attribute.add(name="config_proto", type=onnx.AttributeProto.STRING, s=b"8\x01\x82")
    path = tmp_path / "left.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"StatefulPartitionedCall 'first' .* in 'config_proto'"):
        open_model(path)


def test_a_missing_sidecar_is_named(external):
    with pytest.raises(ModelError, match="'weights', which is missing"):
        open_model(external("weights", make=False))


def test_a_short_sidecar_is_refused(external):
    path = external("weights")
    (path.parent / "weights").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelError, match="has 40 bytes, but 'weight' is said to lie at 0 with 48"):
        open_model(path)


def test_a_sidecar_that_is_cut_while_the_model_is_open(external):
    path = external("weights")
    file = open_model(path)
    (path.parent / "weights").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelError, match="its weights can't be read"):
        file.load_weights()


def test_a_tensor_has_the_bytes_that_its_shape_needs(external):
    path = external("weights")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].dims[:] = [4, 3_000_000_000]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        ModelError, match="have 48 bytes there, and by its shape it has 48000000000"
    ):
        open_model(path)


def test_a_sidecar_of_holes_is_refused(external):
    path = external("weights")
    with open(path.parent / "weights", "r+b") as file:
        file.truncate(4 << 40)
    with pytest.raises(ModelError, match=r"claims 4398.0 GB of weights, of which the disk holds"):
        open_model(path)


def test_weights_are_read_on_demand_only(external, small):
    file = open_model(external("data/weights"))
    assert file.sidecars == ("data/weights",)
    assert not file.model.graph.initializer[0].raw_data
    loaded = onnx.numpy_helper.to_array(file.load_weights().graph.initializer[0])
    np.testing.assert_array_equal(loaded, onnx.numpy_helper.to_array(small.graph.initializer[0]))
    assert not file.model.graph.initializer[0].raw_data


def test_the_digest_covers_the_sidecars(external):
    path = external("weights")
    sidecar = path.parent / "weights"
    own = hashlib.sha256(sidecar.read_bytes()).digest()
    expected = hashlib.sha256(path.read_bytes() + own).hexdigest()
    assert open_model(path).sha256 == expected
    sidecar.write_bytes(b"\x01" * 48)
    assert open_model(path).sha256 != expected


def test_a_sidecar_of_a_branch_within_a_function_is_found(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        f (float[N] x, bool c) => (float[N] y) { y = own.scaled(x, c) }
        <opset_import: ["" : 17], domain: "own"> scaled (u, c) => (v)
        {
            k = If (c) <
                then_branch = a () => (float[1] p) { p = Constant <value = float[1] {1}> () },
                else_branch = b () => (float[1] q) { q = Constant <value = float[1] {2}> () }>
            v = Mul (u, k)
        }"""
    )
    branch = model.functions[0].node[0].attribute[1].g
    tensor = branch.node[0].attribute[0].t
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="inner.bin")
    (tmp_path / "inner.bin").write_bytes(bytes(4))
    place = tmp_path / "model.onnx"
    place.write_bytes(model.SerializeToString())
    assert open_model(place).sidecars == ("inner.bin",)
