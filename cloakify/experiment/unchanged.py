"""Whether what a run reads is still what it was when the run began.

Samples and weights are read whenever they are needed, and a report names them by digests: figures
of some of the old and some of the new would stand under the name of either.
"""

from __future__ import annotations

import numpy as np

from cloakify.data import Dataset
from cloakify.data.naming import shown
from cloakify.errors import DataError
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Indices


class Watched:
    """Models and samples of a subject, remembered by their digests when this is made."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        # They are known from here on, by one reading of all.
        none = np.empty(0, np.int64)
        for data in self._data:
            data.digest_at(none)

    def check(self, *indices: Indices) -> None:
        """Refuse to go on where something was changed; read again the samples that were used.

        Parameters
        ----------
        indices
            Of the subject's samples, which may be named several times; all of them if left out.

        Raises
        ------
        ModelError, DataError
            Names what was changed.
        """
        subject = self._subject
        for experiment in subject.experiments:
            experiment.classifier.file.check_unchanged()
        dataset, copies, further = subject.first.dataset, subject.copies, subject.further
        used = np.unique(np.concatenate(indices)) if indices else np.arange(len(dataset))
        rows = [used]
        rows += [] if copies is None else [np.unique(copies.place[used])]
        rows += [] if further is None else [further.kept]
        for data, own in zip(self._data, rows, strict=True):
            if data.digest_read(own) != data.digest_at(own):
                raise DataError(
                    f"{shown(data.path)}: was changed while it was in use; run it again"
                )

    @property
    def _data(self) -> list[Dataset]:
        subject = self._subject
        data = [subject.first.dataset]
        data += [] if subject.copies is None else [subject.copies.data]
        data += [] if subject.further is None else [subject.further.more]
        return data
