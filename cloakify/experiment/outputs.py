"""Where a run may write: nothing of what it reads is replaced."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cloakify.data import Samples
from cloakify.data.patterns import is_pattern, matching
from cloakify.data.program import script_of
from cloakify.experiment.classifier import Classifier
from cloakify.experiment.scope import current
from cloakify.onnxfile import check_places, claimed
from cloakify.settings.urls import own_file, url_of

AnyPath = str | os.PathLike[str]


def check_outputs(
    outputs: Iterable[AnyPath | None],
    classifiers: Sequence[Classifier],
    *samples: Samples | None,
    read: Iterable[AnyPath] = (),
    claim: bool = False,
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
        Data that are: files, folders, patterns of such, or what yields them; ``None`` for none.
    read
        Other files.
    claim
        Whether to keep other runs from writing there until this one ends.

    Raises
    ------
    DataError
        A pattern stands for nothing.
    CloakifyError
        See :func:`~cloakify.onnxfile.check_places` and :func:`~cloakify.onnxfile.claimed`.
    """
    inputs = [path for classifier in classifiers for path in classifier.file.files]
    written = [Path(path) for path in outputs if path is not None]
    inputs += map(Path, read)
    for given in samples:
        url = url_of(given)
        # What lies elsewhere is copied to a place of its own.
        path = _path(given) if url is None else own_file(url)
        if path is None:
            continue
        script = script_of(path)
        if script is not None:
            inputs.append(script)
        elif is_pattern(path):
            names = {output.name for output in written}
            inputs += [Path(file) for file in matching(path) if os.path.basename(file) in names]
        else:
            inputs.append(path)
    check_places(written, inputs)
    if claim:
        current().stack.enter_context(claimed(written))


def _path(samples: Samples | None) -> Path | None:
    return Path(samples) if isinstance(samples, str | os.PathLike) else None
