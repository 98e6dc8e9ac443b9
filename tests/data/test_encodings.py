"""Text in other encodings: a byte order mark says which, else the user does, else it is UTF-8."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloakify.data import Dataset, Preprocessing, open_data
from cloakify.data.classes import read_names
from cloakify.errors import CloakifyError, DataError, UsageError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.settings import EvaluateSetting

NAMES = ("Größe", "Öl", "crème brûlée", "cat")
IMAGES = InputSpec("x", (None, 1, 4, 4), np.dtype(np.float32), 1)
ROWS = InputSpec("x", (None, 1), np.dtype(np.float32), None)

# Encodings with a mark, and what has to be said of those without.
MARKED = ("utf-8-sig", "utf-16", "utf-32")
UNMARKED = ("utf-16-le", "utf-16-be", "utf-32-le", "cp1252", "latin-1")


def opened(path: Path, encoding: str | None, spec: InputSpec, labels: str = "given") -> Dataset:
    return open_data(path, spec, Preprocessing(), labels=labels, box=None, encoding=encoding)


def images(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(len(NAMES)):
        Image.new("L", (4, 4), number).save(folder / f"é{number}.png")
    return folder


def table(folder: Path, text: Callable[[str], bytes], delimiter: str, ending: str) -> Path:
    lines = [delimiter.join(("a", "label")), *(f"{n}{delimiter}{s}" for n, s in enumerate(NAMES))]
    (folder / f"t.{ending}").write_bytes(text("\r\n".join(lines)))
    return folder / f"t.{ending}"


def lines(folder: Path, text: Callable[[str], bytes], ending: str) -> Path:
    rows = [json.dumps({"a": n, "label": s}, ensure_ascii=False) for n, s in enumerate(NAMES)]
    (folder / f"t.{ending}").write_bytes(text("\n".join(rows)))
    return folder / f"t.{ending}"


def listed(folder: Path, text: Callable[[str], bytes]) -> Path:
    rows = ["file_name,label", *(f"é{n}.png,{s}" for n, s in enumerate(NAMES))]
    (images(folder / "d") / "metadata.csv").write_bytes(text("\n".join(rows)))
    return folder / "d"


FORMS: dict[str, Callable[[Path, Callable[[str], bytes]], Path]] = {
    "commas": lambda folder, text: table(folder, text, ",", "csv"),
    "semicolons": lambda folder, text: table(folder, text, ";", "csv"),
    "tabs": lambda folder, text: table(folder, text, "\t", "tsv"),
    "jsonl": lambda folder, text: lines(folder, text, "jsonl"),
    "ndjson": lambda folder, text: lines(folder, text, "ndjson"),
    "metadata": listed,
}

LISTS = {
    "csv": "file_name,label\n" + "\n".join(f"é{n}.png,{s}" for n, s in enumerate(NAMES)),
    "json": json.dumps({f"é{n}": s for n, s in enumerate(NAMES)}, ensure_ascii=False),
    "txt": "\n".join(f"é{n}.png {s}" for n, s in enumerate(NAMES)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", [*MARKED, *UNMARKED])
def test_names_come_out_right(tmp_path: Path, form: str, encoding: str) -> None:
    path = FORMS[form](tmp_path, lambda text: text.encode(encoding))
    given = encoding if encoding in UNMARKED else None
    data = opened(path, given, IMAGES if path.is_dir() else ROWS)
    assert data.labels is not None and data.class_names is not None
    assert [data.class_names[label] for label in data.labels.tolist()] == list(NAMES)


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("encoding", [*MARKED, *UNMARKED])
def test_lists_of_labels(tmp_path: Path, kind: str, encoding: str) -> None:
    (tmp_path / f"l.{kind}").write_bytes(LISTS[kind].encode(encoding))
    given = encoding if encoding in UNMARKED else None
    data = opened(images(tmp_path / "d"), given, IMAGES, str(tmp_path / f"l.{kind}"))
    assert data.labels is not None and data.class_names is not None
    assert [data.class_names[label] for label in data.labels.tolist()] == list(NAMES)


@pytest.mark.parametrize("encoding", [*MARKED, *UNMARKED])
def test_files_of_classes(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "c.txt").write_bytes("\n".join(NAMES).encode(encoding))
    given = encoding if encoding in UNMARKED else None
    assert read_names(str(tmp_path / "c.txt"), len(NAMES), given) == NAMES


def test_a_mark_counts_before_what_was_said(tmp_path: Path) -> None:
    path = FORMS["tabs"](tmp_path, lambda text: text.encode("utf-16"))
    assert set(opened(path, "cp1252", ROWS).class_names or ()) == set(NAMES)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be"])
def test_what_is_not_known_is_told_and_not_guessed(
    tmp_path: Path, form: str, encoding: str
) -> None:
    path = FORMS[form](tmp_path, lambda text: text.encode(encoding))
    wanted = {"cp1252": "reads … '.*(Größe|é0).*--encoding cp1252"}
    with pytest.raises(DataError, match=wanted.get(encoding, f"--encoding {encoding}")):
        opened(path, None, IMAGES if path.is_dir() else ROWS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF32_BE]),
    st.sampled_from([None, "cp1252", "utf-16", "shift_jis", "idna", "utf-7", "unicode_escape"]),
    st.sampled_from(["t.csv", "t.jsonl"]),
)
def test_any_bytes_are_text_or_refused(
    tmp_path: Path, content: bytes, mark: bytes, encoding: str | None, name: str
) -> None:
    (tmp_path / name).write_bytes(mark + content)
    try:
        opened(tmp_path / name, encoding, ROWS)
    except CloakifyError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["rot13", "base64", "undefined", "nonsense", "a\0b", ""])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--encoding takes the name"):
        EvaluateSetting(encoding=name)


@pytest.mark.parametrize(("line", "sign"), [("sep=;", ";"), ("SEP=\t", "\t"), ('"sep=,"', ",")])
def test_excels_line_before_the_header(tmp_path: Path, line: str, sign: str) -> None:
    (tmp_path / "t.csv").write_text(f"{line}\r\na{sign}label\r\n1{sign}cat\r\n2{sign}dog\r\n")
    data = opened(tmp_path / "t.csv", None, ROWS)
    assert data.class_names == ("cat", "dog") and len(data) == 2
