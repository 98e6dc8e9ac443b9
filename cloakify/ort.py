"""ONNX Runtime's errors under one name, and the operators that it knows itself.

Its Python package gives errors no common base, and what fails while values are bound or a bound run
is made arrives as a plain RuntimeError.
"""

from __future__ import annotations

from functools import cache

from onnxruntime.capi import onnxruntime_pybind11_state as _state

ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(
        value
        for value in vars(_state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
)


@cache
def own_operators() -> frozenset[tuple[str, str]]:
    """Return domain and name of each operator that ONNX Runtime knows, in any version."""
    return frozenset((schema.domain, schema.name) for schema in _state.get_all_operator_schema())
