"""Mutations of a file's bytes, whatever they mean."""

from __future__ import annotations

import numpy as np

# Varints that are limits, and what ends a text or an archive's entry.
PIECES = [b"\x00", b"\xff", b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01", b"\x80\x80\x80\x80\x08"]
PIECES += [b"\x7f", b"\x1a\x00", b"\n\x00", b"PK\x03\x04", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f"]


def mutate_bytes(data: bytes, random: np.random.Generator) -> bytes:
    """Return bytes after one to six edits."""
    mutant = bytearray(data)
    for _ in range(random.integers(1, 7)):
        place = int(random.integers(len(mutant) + 1))
        # Half of all edits at the beginning or the end, where headers and directories are.
        if random.random() < 0.5 and len(mutant) > 400:
            place = int(random.integers(200)) + (len(mutant) - 200) * int(random.integers(2))
        size = int(random.integers(1, 17))
        kind = random.integers(7)
        if kind == 0:
            mutant[place : place + 1] = random.bytes(1)
        elif kind == 1 and place < len(mutant):
            mutant[place] ^= 1 << int(random.integers(8))
        elif kind == 2:
            piece = PIECES[random.integers(len(PIECES))]
            mutant[place : place + len(piece) * int(random.integers(2))] = piece
        elif kind == 3:
            del mutant[place : place + size]
        elif kind == 4:
            mutant[place:place] = mutant[place : place + 4 * size]
        elif kind == 5:
            source = int(random.integers(len(mutant) + 1))
            mutant[place : place + size] = mutant[source : source + size]
        elif random.random() < 0.2:
            del mutant[place:]
    return bytes(mutant)
