"""Reports: plain data, written as JSON (with a schema), HTML or Markdown."""

from cloakify.report.comparison import (
    AttackAccuracy,
    Comparison,
    Convergence,
    CurvePoint,
    EvaluateData,
    EvaluateReport,
    ModelEvaluation,
    ModelVerdict,
    NoiseAccuracy,
    RobustAccuracy,
    Threat,
    TransferAccuracy,
)
from cloakify.report.json_report import as_document, load_schema, render_json
from cloakify.report.records import (
    Accuracy,
    AttackInfo,
    ControlFigures,
    DeviceInfo,
    FileRef,
    HardenData,
    HardenReport,
    HeadInfo,
    MaskInfo,
    ModelFigures,
    ModelGains,
)
from cloakify.report.tables import Table, tables
from cloakify.report.terminal import report_text
from cloakify.report.write import check_report_path, write_report

__all__ = [
    "Accuracy",
    "AttackAccuracy",
    "AttackInfo",
    "Comparison",
    "ControlFigures",
    "Convergence",
    "CurvePoint",
    "DeviceInfo",
    "EvaluateData",
    "EvaluateReport",
    "FileRef",
    "HardenData",
    "HardenReport",
    "HeadInfo",
    "MaskInfo",
    "ModelEvaluation",
    "ModelFigures",
    "ModelGains",
    "ModelVerdict",
    "NoiseAccuracy",
    "RobustAccuracy",
    "Table",
    "Threat",
    "TransferAccuracy",
    "as_document",
    "check_report_path",
    "load_schema",
    "render_json",
    "report_text",
    "tables",
    "write_report",
]
