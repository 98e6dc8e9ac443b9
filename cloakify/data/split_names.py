"""Splits of a data set, by the names of folders and files: which one to take of several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cloakify.data.naming import shown

SPLITS = (
    *("val", "valid", "validation", "validate", "validating", "eval", "evaluation", "evaluate"),
    *("dev", "devel", "development", "holdout", "heldout", "test", "testing", "tst"),
    *("train", "training", "trn"),
)
"""Names of splits, the one to calibrate on first: what a model was trained on tells less of it."""

# What lies beside splits, and is none to calibrate on: most often without labels.
_BESIDE = ("extra", "unlabeled", "unlabelled", "unsup", "pred", "predict", "prediction")


def split_of(file: str) -> str | None:
    """Return which split a file belongs to by a word of its name: ``train-00000-of-00002``."""
    # MNIST's test samples: ten thousand. CIFAR's batches are of its training samples.
    plain = file.lower().replace("t10k", "test").replace("data_batch", "train")
    words = re.split("[^a-z]+", plain)
    return next((word for word in words if word in SPLITS), None)


def preferred(names: Iterable[str]) -> str | None:
    """Return the split to take of names of splits in small or capital letters.

    They may have other words, the same in each (``train_images`` and ``test_images``), and numbers.
    Beside two of them a third may lie without labels (``unlabeled``, ``pred``). ``None`` where
    there are none, or where a name is none of a split's.
    """
    listed = list(names)
    plain = [name for name in listed if not set(_words(name)) & set(_BESIDE)]
    listed = plain if len(plain) > 1 else listed
    if listed and all(name.lower() in SPLITS for name in listed):
        return min(listed, key=lambda name: SPLITS.index(name.lower()))
    parted = [_parted(name) for name in listed]
    splits = {split for split, _ in parted}
    if len(parted) < 2 or len(splits) < len(parted) or "" in splits:
        return None
    if len({rest for _, rest in parted}) > 1:
        return None
    return min(listed, key=lambda name: SPLITS.index(_parted(name)[0]))


def _parted(name: str) -> tuple[str, tuple[str, ...]]:
    """Part a name's only word for a split, "" without one, from its other words."""
    words = _words(name)
    splits = [word for word in words if word in SPLITS]
    rest = tuple(word for word in words if word not in SPLITS)
    return (splits[0] if len(splits) == 1 else "", rest)


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())


def one_split(files: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Keep the files of one split, where all of them say which they belong to; and say so."""
    of = {file: split_of(file.stem) for file in files}
    chosen = preferred(split or "" for split in of.values())
    splits = sorted({split for split in of.values() if split})
    if chosen is None or len(splits) < 2:
        return list(files), ()
    kept = [file for file in files if of[file] == chosen]
    return kept, (split_note(files[0].parent, splits, chosen),)


def split_note(path: Path, splits: Iterable[str], chosen: str) -> str:
    """Say which of several splits was taken."""
    return (
        f"{shown(path)} holds {', '.join(sorted(map(shown, splits)))}: the samples are those of "
        f"{shown(chosen)}; name another one's folder or files to use that"
    )
