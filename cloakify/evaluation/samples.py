"""Some samples of a data set, at hand."""

from __future__ import annotations

from dataclasses import dataclass

from cloakify.numeric.arrays import Array, Flags, Indices, Labels


@dataclass(frozen=True)
class Samples:
    """Clean samples [n, …], labels [n], and which ones of the data set they are [n]."""

    x: Array
    y: Labels
    index: Indices

    def at(self, rows: Indices | Flags) -> Samples:
        """Return some of them."""
        return Samples(self.x[rows], self.y[rows], self.index[rows])
