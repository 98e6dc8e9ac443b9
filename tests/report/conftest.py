"""Two whole reports, of made-up figures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloakify.report import EvaluateReport, HardenReport
from tests.support import reports


@pytest.fixture(scope="session")
def make_harden() -> Callable[..., HardenReport]:
    """Make a report of a mask that moves static samples only; its name goes wherever one may."""
    return reports.make_harden


@pytest.fixture(scope="session")
def make_evaluate() -> Callable[..., EvaluateReport]:
    """Make a report of two models and three budgets."""
    return reports.make_evaluate
