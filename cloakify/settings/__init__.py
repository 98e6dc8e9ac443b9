"""What a user may set: every option declared once, from which all its forms are made."""

from cloakify.settings.data_options import DataOptions
from cloakify.settings.engine_options import EngineOptions
from cloakify.settings.groups import (
    AttackOptions,
    AttacksOptions,
    BudgetOptions,
    CalibrationOptions,
    ComparisonOptions,
    DeviceOptions,
    EvaluationOptions,
    MaskingOptions,
    ModelOptions,
    RunOptions,
    ThreatOptions,
    TuningOptions,
)
from cloakify.settings.settings import AttackSetting, EvaluateSetting, HardenSetting, Setting

__all__ = [
    "AttackOptions",
    "AttackSetting",
    "AttacksOptions",
    "BudgetOptions",
    "CalibrationOptions",
    "ComparisonOptions",
    "DataOptions",
    "DeviceOptions",
    "EngineOptions",
    "EvaluateSetting",
    "EvaluationOptions",
    "HardenSetting",
    "MaskingOptions",
    "ModelOptions",
    "RunOptions",
    "Setting",
    "ThreatOptions",
    "TuningOptions",
]
