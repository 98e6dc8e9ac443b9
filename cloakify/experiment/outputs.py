"""Where a run may write: nothing of what it reads is replaced."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cloakify.experiment.classifier import Classifier
from cloakify.onnxfile import check_places

AnyPath = str | os.PathLike[str]


def check_outputs(
    outputs: Iterable[AnyPath | None], classifiers: Sequence[Classifier], *read: AnyPath | None
) -> None:
    """Refuse outputs in places that can't be written to, or that hold what is read.

    To be called before the long work.

    Parameters
    ----------
    outputs
        All files that will be written; ``None`` for one that is not.
    classifiers
        Whose files and sidecars are read.
    read
        Other files and folders that are; ``None`` for none.

    Raises
    ------
    CloakifyError
        See :func:`~cloakify.onnxfile.check_places`.
    """
    inputs = [path for classifier in classifiers for path in classifier.file.files]
    inputs += [Path(path) for path in read if path is not None]
    check_places([Path(path) for path in outputs if path is not None], inputs)
