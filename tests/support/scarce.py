"""Memory for a few samples at once and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnxruntime as ort
import pytest

from cloakify.errors import OutOfMemoryError
from cloakify.runtime import Session
from cloakify.runtime.session import Value


def allow(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Have sessions fail, as they do where memory is short, for more samples than that.

    Returns a list that grows by the size of each batch that fails.
    """
    run = Session.run_on_device
    failed: list[int] = []

    def scarce(
        self: Session, feeds: Mapping[str, Value], outputs: Sequence[str] | None = None
    ) -> dict[str, ort.OrtValue]:
        value = feeds[self.inputs[0]]
        samples = value.shape()[0] if isinstance(value, ort.OrtValue) else len(value)
        if samples > most:
            failed.append(samples)
            raise OutOfMemoryError(f"no room for {samples}")
        return run(self, feeds, outputs)

    monkeypatch.setattr(Session, "run_on_device", scarce)
    return failed
