"""Names of many samples in little memory: an object for each would take a hundred bytes."""

from __future__ import annotations

import hashlib
import heapq
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import numpy as np

from cloakify.numeric.arrays import Indices

# Names that are packed together: neighbours are alike, and a few bytes each.
_TOGETHER = 256
# Names that are sorted in memory.
_RUN = 1 << 14
# Bytes by which a name is told from others: of 2³² names no two share theirs, by 1 to 10¹⁹.
_DIGEST = 16


class Names(Sequence[str]):
    """Names in the order that they came in, packed by blocks.

    Reading neighbours one after the other unpacks a block once. Safe to read from several threads.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._blocks: list[bytes] = []
        self._last: list[str] = []
        self._held: tuple[int, list[str]] = -1, []
        self.extend(names)

    def append(self, name: str) -> None:
        """Take one more."""
        self._last.append(name)
        if len(self._last) == _TOGETHER:
            # As JSON, since a name may hold anything, half a character as well.
            self._blocks.append(zlib.compress(json.dumps(self._last).encode(), 1))
            self._last = []

    def extend(self, names: Iterable[str]) -> None:
        """Take some more."""
        for name in names:
            self.append(name)

    def __len__(self) -> int:
        return len(self._blocks) * _TOGETHER + len(self._last)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        places = range(len(self))[place]
        if isinstance(places, range):
            return [self[each] for each in places]
        block, slot = divmod(places, _TOGETHER)
        return self._block(block)[slot]

    def __iter__(self) -> Iterator[str]:
        for block in range(len(self._blocks) + 1):
            yield from self._block(block)

    def _block(self, number: int) -> list[str]:
        if number == len(self._blocks):
            return self._last
        held, names = self._held
        if held != number:
            names = json.loads(zlib.decompress(self._blocks[number]))
            self._held = number, names
        return names


class Renamed(Sequence[str]):
    """What a function makes of numbers, each time that it is asked.

    Parameters
    ----------
    count
        How many there are, from 0 on.
    name
        Returns the name of one.
    """

    def __init__(self, count: int, name: Callable[[int], str]) -> None:
        self._numbers, self._name = range(count), name

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        number = self._numbers[place]
        return self._name(number) if isinstance(number, int) else list(map(self._name, number))


def in_order(names: Iterable[str]) -> Names:
    """Sort names, as text; of many only a part is unpacked at any time."""
    left = iter(names)
    runs = []
    while run := sorted(islice(left, _RUN)):
        runs.append(Names(run))
    return runs[0] if len(runs) == 1 else Names(heapq.merge(*runs))


class Places:
    """Finds names again: where each stands in a list of them."""

    def __init__(self, names: Iterable[str]) -> None:
        digests = _digests(names)
        self._order = np.argsort(digests, kind="stable")
        self._sorted = digests[self._order]

    def of(self, names: Iterable[str]) -> Indices:
        """Return the place where each of some names stands first, −1 for those that are not there.

        Returns
        -------
        Indices
            int64, one for each name.
        """
        wanted = _digests(names)
        places = np.searchsorted(self._sorted, wanted)
        inside = np.minimum(places, len(self._sorted) - 1)
        if not len(self._sorted):
            return np.full(len(wanted), -1)
        return np.where(self._sorted[inside] == wanted, self._order[inside], -1)

    def again(self) -> Indices:
        """Return the places of names that stand at an earlier one already, int64, ascending."""
        return np.sort(self._order[1:][self._sorted[1:] == self._sorted[:-1]])


def _digests(names: Iterable[str]) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    joined = bytearray()
    for name in names:
        coded = name.encode("utf-8", "surrogatepass")
        joined += hashlib.blake2b(coded, digest_size=_DIGEST).digest()
    return np.frombuffer(bytes(joined), f"S{_DIGEST}")
