"""What many tests share: the bundled models and data."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

import cloakify  # noqa: F401  # first of all: it switches the runtime's telemetry off

# Time is no matter of unit tests: a busy machine takes ten times as long.
settings.register_profile("cloakify", deadline=None)
settings.load_profile("cloakify")

SAMPLES = Path(__file__).parent.parent / "sample_models"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of sample models and data."""
    return SAMPLES


@pytest.fixture(params=["pooled", "wide", "keras"])
def sample_model(request: pytest.FixtureRequest) -> Path:
    """Each sample model in turn."""
    return SAMPLES / f"fashion_{request.param}.onnx"
