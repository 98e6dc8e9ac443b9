"""Some samples of a data set, at hand."""

from __future__ import annotations

from dataclasses import dataclass

from cloakify.data import Batch
from cloakify.numeric.arrays import Array, Flags, Indices, Labels, floats


@dataclass(frozen=True)
class Samples:
    """Clean samples [n, …], labels [n], and which ones of the data set they are [n]."""

    x: Array
    y: Labels
    index: Indices

    @classmethod
    def of(cls, batch: Batch) -> Samples:
        """Return those of a batch, as attacks take them."""
        return cls(floats(batch.x), batch.y, batch.index)

    def at(self, rows: Indices | Flags) -> Samples:
        """Return some of them."""
        return Samples(self.x[rows], self.y[rows], self.index[rows])
