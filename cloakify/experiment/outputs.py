"""Where a run may write: nothing of what it reads is replaced."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cloakify.data.patterns import is_pattern, matching
from cloakify.experiment.classifier import Classifier
from cloakify.onnxfile import check_places

AnyPath = str | os.PathLike[str]


def check_outputs(
    outputs: Iterable[AnyPath | None],
    classifiers: Sequence[Classifier],
    *samples: AnyPath | None,
    read: Iterable[AnyPath] = (),
) -> None:
    """Refuse outputs in places that can't be written to, or that hold what is read.

    To be called before the long work.

    Parameters
    ----------
    outputs
        All files that will be written; ``None`` for one that is not.
    classifiers
        Whose files and sidecars are read.
    samples
        Data that are: files, folders, or patterns of such; ``None`` for none.
    read
        Other files.

    Raises
    ------
    DataError
        A pattern stands for nothing.
    CloakifyError
        See :func:`~cloakify.onnxfile.check_places`.
    """
    inputs = [path for classifier in classifiers for path in classifier.file.files]
    written = [Path(path) for path in outputs if path is not None]
    inputs += map(Path, read)
    for path in (Path(path) for path in samples if path is not None):
        if is_pattern(path):
            names = {output.name for output in written}
            inputs += [file for file in matching(path) if file.name in names]
        else:
            inputs.append(path)
    check_places(written, inputs)
