"""What lists of class names make of labels."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.data.classes import arrange, by_number, read_names
from cloakify.errors import DataError, UsageError

ORDER = ("T-shirt/top", "Bag", "Coat")


def labels(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(st.permutations(["bag", "boot", "coat", "dress"]))
def test_folders_find_their_class_by_name(order: list[str]) -> None:
    names = ("bag", "boot", "coat", "dress")
    moved, called = arrange(labels(0, 1, 2, 3, 3), names, tuple(order), certain=True)
    assert called == tuple(order)
    assert [called[label] for label in moved] == ["bag", "boot", "coat", "dress", "dress"]


def test_some_of_the_classes() -> None:
    moved, called = arrange(labels(0, 1, 1), ("bag", "coat"), ("coat", "hat", "bag"), certain=True)
    assert moved.tolist() == [2, 0, 0]
    assert called == ("coat", "hat", "bag")


def test_what_folders_cant_be_called_is_overlooked() -> None:
    moved, _ = arrange(labels(0, 1, 2), ("bag", "coat", "t_shirt top"), ORDER, certain=False)
    assert moved.tolist() == [1, 2, 0]


@pytest.mark.parametrize(("data", "model"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_marks_are_one_letter_however_they_are_written(data: str, model: str) -> None:
    """macOS writes names of files with marks apart; what lists classes mostly does not."""
    names = tuple(unicodedata.normalize(data, name) for name in ("Bär", "Bar", "école"))
    order = tuple(unicodedata.normalize(model, name) for name in ("école", "Bar", "Bär"))
    labels, found = arrange(np.array([0, 1, 2]), names, order, certain=True)
    assert (labels.tolist(), found) == ([2, 1, 0], order)


def test_a_name_that_is_none_of_the_models() -> None:
    with pytest.raises(DataError, match=r"\(hat\) that --classes does not name \(T-shirt/top, Bag"):
        arrange(labels(0, 1), ("Bag", "hat"), ORDER, certain=True)
    with pytest.raises(DataError, match="that the model does not name"):
        arrange(labels(0, 1), ("Bag", "hat"), ORDER, certain=False)
    with pytest.raises(DataError, match="does not name"):
        arrange(labels(0, 1), ("cap", "hat"), ORDER, certain=True)


def test_names_of_another_kind_tell_nothing() -> None:
    moved, called = arrange(labels(0, 1), ("n01", "n02"), ORDER, certain=False)
    assert (moved.tolist(), called) == ([0, 1], ("n01", "n02"))


def test_numbers_are_labels() -> None:
    moved, called = arrange(labels(0, 1, 2, 2), None, ("2", "0", "1"), certain=True)
    assert (moved.tolist(), called) == ([1, 2, 0, 0], ("2", "0", "1"))
    # Classes as scikit-learn was given them.
    assert arrange(labels(3, 8), None, ("3", "5", "8"), certain=False)[0].tolist() == [0, 2]
    # Indices already.
    assert arrange(labels(0, 2), None, ("3", "5", "8"), certain=False)[0].tolist() == [0, 2]
    with pytest.raises(DataError, match=r"\(1\) that --classes"):
        arrange(labels(0, 1), None, ("2", "0", "3"), certain=True)


def test_indices_get_the_models_names() -> None:
    moved, called = arrange(labels(2, 0), None, ORDER, certain=False)
    assert (moved.tolist(), called) == ([2, 0], ORDER)


@pytest.mark.parametrize(
    ("names", "classes", "wanted"),
    [
        (("0", "3", "7"), 10, [0, 3, 7]),
        (("1", "2", "3"), 3, [0, 1, 2]),  # all there are, in their order
        (("07", "11"), 12, [7, 11]),
        (("1", "12"), 12, [0, 1]),  # no index of twelve
        (("a", "3"), 10, [0, 1]),
    ],
)
def test_numbers_of_some_classes_are_indices(
    names: tuple[str, ...], classes: int, wanted: list[int]
) -> None:
    found, _ = by_number(np.arange(len(names)), names, classes)
    assert found.tolist() == wanted


def test_option(tmp_path: Path) -> None:
    assert read_names("a, b,c", 3) == ("a", "b", "c")
    file = tmp_path / "classes.txt"
    file.write_text("tench, Tinca tinca\ngoldfish\n\nshark\n")
    assert read_names(str(file), 3) == ("tench, Tinca tinca", "goldfish", "shark")
    with pytest.raises(UsageError, match=r"has 3 classes .* the model has 4"):
        read_names(str(file), 4)
    with pytest.raises(UsageError, match="gives no list of classes"):
        read_names("a,,b", 3)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no text in utf-16"):
        read_names(str(file), 3)


@given(st.integers(0, 10**9), st.integers(2, 1000))
def test_a_range_is_the_list_of_its_numbers(first: int, count: int) -> None:
    last = first + count - 1
    if last < 10**9:
        listed = ",".join(map(str, range(first, last + 1)))
        assert read_names(f"{first}..{last}", count) == read_names(listed, count)
        with pytest.raises(UsageError, match=f"has {count} classes .*the model has {count + 1}"):
            read_names(f"{first}..{last}", count + 1)


@pytest.mark.parametrize("text", ["1..99999999999", "0..999999999", "9..1", "1..", "..9", "a..c"])
def test_what_is_no_range_is_no_list(text: str) -> None:
    with pytest.raises(UsageError, match=r"gives no list of classes|has 1 classes"):
        read_names(text, 3)


@pytest.mark.parametrize(
    ("called", "wanted"),
    [
        (None, ("tench", "goldfish", "shark")),
        (("goldfish", "tench"), ("tench", "goldfish", "shark")),
        (("n2", "n3"), ("n1", "n2", "n3")),
        # Folders by number, which is the only way in which they are called.
        (("0", "2"), ("0", "1", "2")),
        (("hat",), ("tench", "goldfish", "shark")),
    ],
)
def test_of_several_names_those_of_the_data_count(
    tmp_path: Path, called: tuple[str, ...] | None, wanted: tuple[str, ...]
) -> None:
    """Keras's imagenet_class_index.json, whose folders are mostly called by their synsets."""
    file = tmp_path / "imagenet_class_index.json"
    file.write_text('{"0": ["n1", "tench"], "2": ["n3", "shark"], "1": ["n2", "goldfish"]}')
    assert read_names(str(file), 3, called=called) == wanted


def test_a_header_is_no_class(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text("name\ncat\ndog\n")
    assert read_names(str(file), 2) == ("cat", "dog")
    # Unless there are as many classes.
    assert read_names(str(file), 3) == ("name", "cat", "dog")
