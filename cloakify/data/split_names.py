"""Splits of a data set, by the names of folders and files: which one to take of several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cloakify.data.naming import shown

SPLITS = ("val", "valid", "validation", "dev", "test", "train", "training")
"""Names of splits, the one to calibrate on first: what a model was trained on tells less of it."""


def split_of(file: str) -> str | None:
    """Return which split a file belongs to by a word of its name: ``train-00000-of-00002``."""
    # MNIST's test samples: ten thousand. CIFAR's batches are of its training samples.
    plain = file.lower().replace("t10k", "test").replace("data_batch", "train")
    words = re.split("[^a-z]+", plain)
    return next((word for word in words if word in SPLITS), None)


def preferred(names: Iterable[str]) -> str | None:
    """Return the split to take of names of splits in small or capital letters.

    ``None`` where there are none, or where a name is none of a split's.
    """
    listed = list(names)
    if not listed or not all(name.lower() in SPLITS for name in listed):
        return None
    return min(listed, key=lambda name: SPLITS.index(name.lower()))


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
