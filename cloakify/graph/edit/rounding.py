"""Round gates and shifts to numbers that can be read off folded weights again."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cloakify.numeric.arrays import Array, Doubles

# Half a unit in the last place of float16 is 2^-11: fine enough to tell numbers of nine bits apart,
# and, with one bit less, sums with such numbers.
BITS, SHIFT_BITS = 9, 8


def round_gates(gates: NDArray[np.generic]) -> Array:
    """Return the nearest numbers of nine significant bits, float32."""
    return _significant(gates.astype(np.float64), BITS).astype(np.float32)


def round_shifts(
    shifts: NDArray[np.generic],
    bias: NDArray[np.generic] | float = 0.0,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Return the nearest numbers of eight significant bits, float32.

    Of them only multiples of a power of two between 2^-8 and 2^-7 of the bias, and none that
    ``dtype`` has no full precision for: what is smaller would be lost where the two are added.

    Parameters
    ----------
    shifts
        [channels].
    bias
        What they are added to, its largest absolute value in each channel; 0 for nothing.
    dtype
        In which it is stored.
    """
    rounded = _significant(shifts.astype(np.float64), SHIFT_BITS)
    _, exponent = np.frexp(np.asarray(bias, np.float64))
    finest = np.where(np.asarray(bias) == 0, 0.0, np.ldexp(1.0, exponent - SHIFT_BITS))
    finest = np.maximum(finest, max(float(np.finfo(kind).tiny) for kind in (dtype, np.float32)))
    # There is one zero: −0.0 would not be read off as such.
    return (np.round(rounded / finest) * finest + 0.0).astype(np.float32)


def _significant(values: Doubles, bits: int) -> Doubles:
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent)
