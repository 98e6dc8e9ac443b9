"""What many tests share: the bundled models and data."""

from __future__ import annotations

from pathlib import Path

import pytest

import cloakify  # noqa: F401  # first of all: it switches the runtime's telemetry off

SAMPLES = Path(__file__).parent.parent / "sample_models"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of sample models and data."""
    return SAMPLES


@pytest.fixture(params=["pooled", "wide", "keras"])
def sample_model(request: pytest.FixtureRequest) -> Path:
    """Each sample model in turn."""
    return SAMPLES / f"fashion_{request.param}.onnx"
