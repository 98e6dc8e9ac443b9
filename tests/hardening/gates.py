"""The fragile model with gates, and engines of any width to work on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloakify.engine.engine import Engine
from cloakify.engine.local import LocalEngine
from cloakify.engine.task import Job
from cloakify.experiment.classifier import open_source
from cloakify.experiment.experiment import open_experiment
from cloakify.experiment.subject import Subject
from cloakify.hardening.gate_layers import settled, sites_for
from cloakify.hardening.gate_tasks import GateWork
from cloakify.masking.tuning_plan import TuningPlan
from cloakify.settings import HardenSetting
from tests.masking.test_tuning import PLAN
from tests.support.fragile import EPS, write_fragile


class Wide(LocalEngine[Subject]):
    """Says that it is as wide as one likes; notes what it was told to begin."""

    def __init__(self, subject: Subject, width: int) -> None:
        super().__init__(subject)
        self._width = width
        self.begun: list[Sequence[Job[Subject]]] = []

    @property
    def width(self) -> int:
        return self._width

    def begin(self, jobs: Sequence[Job[Subject]]) -> None:
        self.begun.append(jobs)


class Gates:
    """The fragile model's subject, and its sites."""

    def __init__(self, folder: Path, samples: int = 240, **options: object) -> None:
        model, data = write_fragile(folder, samples)
        given = {"device": "cpu", "eps": EPS, "method": "tuned", "threads": 1, **options}
        setting = HardenSetting(**given)
        source = open_source(model, setting.model, replace_mask=False)
        self.experiment = open_experiment(source, data, setting, lambda _: None)  # type: ignore[arg-type, return-value]
        self.subject = Subject([self.experiment], needs_head=True)
        self.setting = settled(setting, self.experiment)
        self.sites = sites_for(source.file.outline, self.experiment, self.setting)

    def work(self, engine: Engine[Subject] | None = None, plan: TuningPlan = PLAN) -> GateWork:
        """Return what has tasks done."""
        return GateWork(self.subject, engine or LocalEngine(self.subject), self.sites, plan)
