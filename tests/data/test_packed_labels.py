"""Labels in tar files, in whatever files they lie beside the images, and classes by folders."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloakify.data import Dataset, Preprocessing, open_data
from cloakify.errors import CloakifyError, DataError
from cloakify.graph.analysis.inputs import InputSpec

COUNT = 9
NAMES = ("Öl", "a b", "cat")
SPEC = InputSpec("x", (None, 1, 4, 4), np.dtype(np.float32), 1)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), number).save(file, "PNG")
    return file.getvalue()


def packed(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def beside(files: Callable[[int], Mapping[str, str | bytes]]) -> dict[str, bytes]:
    members = {}
    for number in range(COUNT):
        members[f"{number:03}.png"] = png(number)
        for ending, content in files(number).items():
            data = content if isinstance(content, bytes) else content.encode()
            members[f"{number:03}.{ending}"] = data
    return members


def opened(path: Path, labels: str = "given") -> Dataset:
    return open_data(path, SPEC, Preprocessing(), labels=labels)


def told(data: Dataset) -> dict[int, str]:
    """Which label each image has, by its pixels, as the name or the index of its class."""
    assert data.labels is not None
    (batch,) = data.batches()
    pixels = np.rint(batch.x[:, 0, 0, 0] * 255).astype(int).tolist()
    names = [str(y) if data.class_names is None else data.class_names[y] for y in data.labels]
    return dict(zip(pixels, names, strict=True))


INDICES = {n: str(n % 3) for n in range(COUNT)}
CALLED = {n: NAMES[n % 3] for n in range(COUNT)}
FORMS: dict[str, tuple[Callable[[int], Mapping[str, str | bytes]], dict[int, str]]] = {
    "cls": (lambda n: {"cls": f"{n % 3}\n"}, INDICES),
    "cls with names": (lambda n: {"cls": CALLED[n]}, CALLED),
    "index": (lambda n: {"index": INDICES[n]}, INDICES),
    "txt": (lambda n: {"txt": CALLED[n]}, CALLED),
    "txt with a mark": (lambda n: {"txt": CALLED[n].encode("utf-8-sig")}, CALLED),
    "json label": (lambda n: {"json": json.dumps({"a": 9, "label": n % 3})}, INDICES),
    "json class": (lambda n: {"json": json.dumps({"class": CALLED[n]})}, CALLED),
    "json cls": (lambda n: {"json": json.dumps({"cls": n % 3, "label": "x"})}, INDICES),
    "cls and others": (lambda n: {"cls": INDICES[n], "txt": "x", "json": '{"label": 7}'}, INDICES),
    "json and txt": (lambda n: {"json": '{"sha": 1}', "txt": CALLED[n]}, CALLED),
    "two endings": (lambda n: {"image.json": b"", "label.cls": INDICES[n]}, INDICES),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_labels_beside_images(tmp_path: Path, form: str, mode: str) -> None:
    files, wanted = FORMS[form]
    data = opened(packed(tmp_path / "d.tar", beside(files), mode))
    assert told(data) == wanted
    assert any("labels are those in the files" in note for note in data.notes) == (
        "cls" not in form.split()[0] and form != "two endings"
    )


def test_names_count_across_shards(tmp_path: Path) -> None:
    members = beside(FORMS["cls with names"][0])
    (tmp_path / "d").mkdir()
    for shard in range(3):
        own = {name: data for name, data in members.items() if int(name[:3]) // 3 == shard}
        packed(tmp_path / "d" / f"{shard}.tar", own)
    assert told(opened(tmp_path / "d")) == CALLED
    packed(tmp_path / "d" / "3.tar", {"9.png": png(9), "9.txt": b"cat"})
    with pytest.raises(DataError, match="say their labels in other ways"):
        opened(tmp_path / "d")


def test_a_field_of_any_name(tmp_path: Path) -> None:
    members = beside(lambda n: {"json": json.dumps({"breed": CALLED[n]}), "cls": "0"})
    path = packed(tmp_path / "d.tar", members)
    assert told(opened(path, "breed")) == CALLED
    with pytest.raises(DataError, match="has fields breed, none of labels"):
        opened(path, "race")
    with pytest.raises(DataError, match=r"no \.json with a field of that name"):
        opened(packed(tmp_path / "e.tar", beside(FORMS["cls"][0])), "breed")


def test_independent_labels_in_json(tmp_path: Path) -> None:
    members = beside(lambda n: {"json": json.dumps({"labels": [n % 2, 1, 0]})})
    data = opened(packed(tmp_path / "d.tar", members))
    assert data.labels is not None and data.labels.tolist() == [[n % 2, 1, 0] for n in range(COUNT)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (lambda n: {"txt": "two\nlines"}, "000.txt holds no class"),
        (lambda n: {"cls": b"\xff"}, "000.cls holds no class"),
        (lambda n: {"json": '{"label": {"a": 1}}'}, "field 'label' holds no class"),
        (lambda n: {"json": '{"label": null}'}, "field 'label' holds no class"),
        (lambda n: {"json": "[" * 10_000}, "000.json is no JSON object"),
        (lambda n: {"json": '{"label": 1}'} if n else {}, "no 000.json beside the image"),
        (lambda n: {"cls": "0.5"}, "row 0 is 0.5, no class index"),
        (lambda n: {}, "no 000.cls beside the image"),
        (lambda n: {"json": '{"label": "' + "x" * (1 << 20) + '"}'}, "is no JSON object"),
    ],
)
def test_what_is_no_label_is_refused(
    tmp_path: Path, files: Callable[[int], Mapping[str, str | bytes]], said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        opened(packed(tmp_path / "d.tar", beside(files)))
    assert "\n" not in str(caught.value)


def test_captions_are_no_classes(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for number in range(40):
        members |= {f"{number}.png": png(number), f"{number}.txt": f"thing {number}".encode()}
    with pytest.raises(DataError, match="which are captions and no classes"):
        opened(packed(tmp_path / "d.tar", members))


def folders(above: str = "") -> dict[str, bytes]:
    return {f"{above}{CALLED[n]}/im.{n}.v1.png": png(n) for n in range(COUNT)}


@pytest.mark.parametrize("above", ["", "./", "data/", "./a/b/"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_class_folders(tmp_path: Path, above: str, mode: str) -> None:
    hidden = {f"{above}__MACOSX/cat/x.png": b"?", f"{above}.git/a.png": b"?", "._a.png": b"?"}
    data = opened(packed(tmp_path / "d.tar", folders(above) | hidden, mode))
    assert told(data) == CALLED and data.class_names == tuple(sorted(NAMES))
    assert any("the classes are their folders" in note for note in data.notes)


def test_one_split_of_several(tmp_path: Path) -> None:
    train = {name: png(200) for name in folders("d/train/")}
    (tmp_path / "d").mkdir()
    members = list((train | folders("d/val/")).items())
    packed(tmp_path / "d" / "0.tar", dict(members[::2]))
    packed(tmp_path / "d" / "1.tar", dict(members[1::2]))
    data = opened(tmp_path / "d")
    assert told(data) == CALLED
    assert any("the samples are those of val" in note for note in data.notes)


def test_what_lies_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image x in no class folder"):
        opened(packed(tmp_path / "d.tar", folders() | {"x.png": png(0)}))
    with pytest.raises(DataError, match="holds sample cat/im twice"):
        opened(packed(tmp_path / "e.tar", folders() | {"cat/im.png": b"", "cat/im.jpg": b""}))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.dictionaries(
        st.from_regex(r"(\./)?([ab]/){0,3}[cd](\.[ef])?\.(png|cls|json|txt|index)", fullmatch=True),
        st.binary(max_size=8) | st.sampled_from([b"1", b"cat", b'{"label": 1}']),
        max_size=8,
    ),
    st.sampled_from(["given", "model", "label"]),
)
def test_any_members_are_samples_or_refused(
    tmp_path: Path, members: dict[str, bytes], labels: str
) -> None:
    path = packed(
        tmp_path / "d.tar", {n: png(1) if n.endswith("png") else d for n, d in members.items()}
    )
    try:
        data = opened(path, labels)
    except CloakifyError as error:
        assert "\n" not in str(error)
    else:
        assert data.labels is None or len(data.labels) == len(data)
        assert sum(len(batch.x) for batch in data.batches()) == len(data)
