"""ONNX Runtime's errors under one name: its Python package gives them no common base.

What fails while values are bound or a bound run is made arrives as a plain RuntimeError.
"""

from __future__ import annotations

from onnxruntime.capi import onnxruntime_pybind11_state as _state

ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(
        value
        for value in vars(_state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
)
