"""Rows and wording of the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from cloakify.evaluation import Distance, EvaluationWarning, Figure, WarningCode
from cloakify.evaluation.warnings import HARMLESS
from cloakify.report import EvaluateReport, HardenReport, tables, wording


def test_harden_rows(make_harden: Callable[..., HardenReport]) -> None:
    (table,) = tables(make_harden())
    assert table.header == ("in %", "source", "hardened", "gain, points", "random")
    assert [row[0] for row in table.rows] == ["clean", "static", "transfer", "adaptive"]
    assert table.rows[1] == (
        "static",
        "31.0 [27.1, 35.2]",
        "44.6 [40.3, 49.0]",
        table.rows[1][3],
        "",
    )
    assert table.rows[1][3].startswith("+13.6 [+")
    assert table.rows[3][4] == "4.2"
    assert any("apgd linf 8/255, 100 steps" in note for note in table.notes)


def test_no_control_no_column(make_harden: Callable[..., HardenReport]) -> None:
    (table,) = tables(make_harden(control=False))
    assert table.header[-1] == "gain, points" and {len(row) for row in table.rows} == {4}


def test_evaluate_tables(make_evaluate: Callable[..., EvaluateReport]) -> None:
    found = {table.title: table for table in tables(make_evaluate())}
    assert list(found) == [
        "Accuracy",
        "Differences from resnet.onnx",
        "Attack by attack",
        "Beyond the budgets",
        "Transfer",
        "Convergence",
    ]
    for table in found.values():
        assert {len(row) for row in table.rows} == {len(table.header)}
    assert found["Accuracy"].header == ("in %", "resnet.onnx", "resnet.robust.onnx")
    assert [row[0] for row in found["Accuracy"].rows] == [
        "clean",
        "worst case 2/255",
        "worst case 4/255",
        "worst case 8/255",
        "median distance",
    ]
    assert any("agreement" in note for note in found["Accuracy"].notes)
    differences = found["Differences from resnet.onnx"].rows
    assert differences[1][1:] == ("worst case 8/255", differences[1][2], "155 / 0", "< 0.001")


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (8 / 255, "8/255"),
        (0.5 / 255, "0.001961"),
        (0.5, "0.5"),
        (1.0, "1"),
        (0.6, "0.6"),
        (204 / 255, "0.8"),
        (1 / 255, "1/255"),
        (16.0, "16"),
        (0.0, "0"),
    ],
)
def test_budget(eps: float, text: str) -> None:
    assert wording.budget(eps) == text


def test_small_wording() -> None:
    assert wording.points(Figure(-0.0001, -0.01, 0.01, 9)) == "+0.0 [-1.0, +1.0]"
    assert wording.p_value(0.0) == "< 0.001" and wording.p_value(0.05) == "0.050"
    assert wording.distance(Distance(None, 0.25, None, 9)) == "none [0.25, none]"
    assert wording.short_names(["a/m.onnx", "b/m.onnx", "c/n.onnx"]) == {
        "a/m.onnx": "a/m.onnx",
        "b/m.onnx": "b/m.onnx",
        "c/n.onnx": "n.onnx",
    }


@pytest.mark.parametrize("code", WarningCode)
def test_what_is_in_doubt_is_said_below_the_figures(
    make_harden: Callable[..., HardenReport],
    make_evaluate: Callable[..., EvaluateReport],
    code: WarningCode,
) -> None:
    """At once, and of the model that it is of; what is harmless puts nothing in doubt."""
    warning = EvaluationWarning(code, "told", 1.0)
    hardened = replace(make_harden(), warnings=(warning,))
    evaluated = make_evaluate()
    first, second = (dataclasses.replace(model, warnings=()) for model in evaluated.models)
    evaluated = replace(evaluated, models=(first, dataclasses.replace(second, warnings=(warning,))))
    for report, name in ((hardened, "hardened model"), (evaluated, "resnet.robust.onnx")):
        note = tables(report)[0].notes[0]
        said = f"In doubt: the figures of {'the ' * (report is hardened)}{name} may be too high"
        assert note.startswith(said) is (code not in HARMLESS)
        assert (f"({code})" in note) is (code not in HARMLESS)
