"""The device that these tests are about; another one only tries the tests themselves."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def device() -> str:
    return os.environ.get("DEVICE", "cuda")
