"""Sound, which is not decoded.

A model of sound takes spectra or waveforms that are resampled, cut and often normalised one by one,
and in no file stands how to the bit. So who has them hands over what the model takes.
"""

from __future__ import annotations

from cloakify.errors import DataError


def no_audio(where: str) -> DataError:
    """Return the error for audio files."""
    return DataError(
        f"{where} holds audio files, which are not decoded: give what the model takes, as arrays "
        "in a .npz file, as lists of numbers in a column, or by a function that yields it (--data "
        "load.py:samples)"
    )
