"""One small Ray cluster for all tests of a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from cloakify.engine.ray_cluster import RayCluster
from cloakify.settings import EngineOptions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """A cluster of two cores; runs with ``engine="ray"`` work in it, too."""
    # It reads its environment when it is imported.
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    # Workers unpickle what tests have made.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    made = RayCluster(EngineOptions(engine="ray", workers=2), gpus_wanted=False)
    yield made
    made.close()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
