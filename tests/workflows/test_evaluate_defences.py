"""Planted defences that only mask gradients: each is seen through; an ordinary model is left be."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloakify.report import EvaluateReport, ModelEvaluation
from cloakify.settings import EvaluateSetting, HardenSetting
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from cloakify.workflows.inspect import inspect
from tests.support.planted import CODES, DEAD_ZONES, Planted, plant

BUDGETS = (0.04, 0.1)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


def report(planted: Planted, *defences: str | None, **changes: object) -> EvaluateReport:
    settings = {"eps": BUDGETS, "queries": 300, "device": "cpu", **changes}
    if changes.get("attack") != "square":
        settings["steps"] = 20
    models = [planted.model(defence) for defence in defences]
    return evaluate(models, planted.data, EvaluateSetting(**settings)).report  # type: ignore[arg-type]


def codes(model: ModelEvaluation) -> set[str]:
    return {warning.code for warning in model.warnings}


def test_an_ordinary_model_raises_no_warning(planted: Planted) -> None:
    (model,) = report(planted, None).models
    assert model.warnings == ()
    assert model.curve[-1].accuracy.value == 0


@pytest.mark.parametrize(
    ("defence", "wanted"),
    [
        ("quantised-input", {"zero-gradients", "gradient-blocked"}),
        ("saturated", {"saturated-outputs"}),
        ("softmax-inside", {"loss-on-probabilities", "zero-gradients", "unbounded-attack-fails"}),
        ("dark", {"head-overruled"}),
        ("stepped", {"gradient-blocked"}),
        ("off-grid", {"head-overruled"}),
        ("random-layer", {"randomised-outputs"}),
        ("hard-threshold", {"zero-gradients", "gradient-blocked"}),
        ("mean-sparse", {"zero-gradients"}),
        ("shattered", {"shattered-gradients"}),
        ("shattered-input", {"shattered-gradients"}),
        ("largest", {"shattered-gradients"}),
    ],
)
def test_a_planted_defence_raises_its_warnings(
    planted: Planted, defence: str, wanted: set[str]
) -> None:
    (model,) = report(planted, defence).models
    assert wanted <= codes(model)
    shares = {warning.code: warning.value for warning in model.warnings}
    assert all(0.01 < shares[code] <= 1 for code in wanted)


def test_a_quantised_input_withstands_no_more_than_none(planted: Planted) -> None:
    """The gradient is let straight through the rounding, without being asked for."""
    bare, quantised = report(planted, None, "quantised-input").models
    for plain, hidden in zip(bare.robust, quantised.robust, strict=True):
        by_attack = {entry.attack: entry.accuracy.value for entry in hidden.attacks}
        assert by_attack["apgd-bpda"] <= plain.worst_case.value + 0.02
    # It leads, so that the curve beyond the budgets is its.
    assert [*by_attack] == ["apgd-bpda", "apgd", "apgd-t", "square"]
    # Where there are no steps there is nothing to let it through.
    (model,) = report(planted, None).models
    assert [entry.attack for entry in model.robust[0].attacks] == ["apgd", "apgd-t"]


@pytest.mark.parametrize("defence", CODES)
def test_codes_and_tables_withstand_no_more_than_rounding(planted: Planted, defence: str) -> None:
    """They compute what `quantised-input` does, and come out at its figure."""
    rounded, coded = report(planted, "quantised-input", defence).models
    assert rounded.clean == coded.clean
    assert "apgd-bpda" in {entry.attack for entry in coded.robust[0].attacks}
    for plain, hidden in zip(rounded.robust, coded.robust, strict=True):
        assert abs(hidden.worst_case.value - plain.worst_case.value) <= 0.02


def test_where_a_gradient_ends_is_named(planted: Planted, tmp_path: Path) -> None:
    (model,) = report(planted, "stepped").models
    (warning,) = [entry for entry in model.warnings if entry.code == "gradient-blocked"]
    assert "no gradient passes Round (v)," in warning.message
    coverage = inspect(planted.model("stepped")).coverage
    assert coverage is not None and coverage.blocked == ("Round (v)",)


def test_an_answer_that_is_turned_around_behind_the_head_is_not_called_hardened(
    planted: Planted,
) -> None:
    """The answer is right on no attacked sample, and on none with a little noise either."""
    found = report(planted, None, "off-grid")
    assert not any(entry.verdict.code == "hardened" for entry in found.verdicts)


@pytest.mark.parametrize(
    ("defence", "hides"),
    [("quantised-input", False), ("hard-threshold", False), ("softmax-inside", True)],
)
def test_no_planted_defence_is_called_hardened(planted: Planted, defence: str, hides: bool) -> None:
    found = report(planted, None, defence)
    verdicts = [entry.verdict for entry in found.verdicts]
    assert not any(verdict.code == "hardened" for verdict in verdicts)
    unproven = [verdict for verdict in verdicts if verdict.code == "unproven"]
    assert all("zero-gradients" in verdict.sentence for verdict in unproven)
    # What was crafted on the bare model finds what the masked gradient hides.
    assert ("transfer-stronger" in codes(found.models[1])) is hides
    assert codes(found.models[0]) == set()
    # Its median distance follows from them too, though no search by gradient finds a point; and
    # that it is a budget is said.
    distance = found.models[1].median_distance
    assert distance is not None and distance.value is not None
    assert distance.value == BUDGETS[-1] or not hides
    said = "distance-is-a-budget" in codes(found.models[1])
    assert said is (distance.value in BUDGETS)


@pytest.mark.parametrize("defence", [*sorted(DEAD_ZONES), "shattered", "shattered-input"])
def test_hidden_slopes_withstand_no_more_than_none(planted: Planted, defence: str) -> None:
    """However it is built, what gradients do not tell is gone through, without being asked for."""
    bare, blind = report(planted, None, defence).models
    by_attack = {entry.attack: entry.accuracy.value for entry in blind.robust[0].attacks}
    assert "apgd-bpda" in by_attack
    for plain, hidden in zip(bare.robust, blind.robust, strict=True):
        assert hidden.worst_case.value <= plain.worst_case.value + 0.1
    assert "gradient-free-stronger" not in codes(blind)


def test_where_nothing_can_be_planted_it_is_said(planted: Planted) -> None:
    (model,) = report(planted, "frozen", accept_accuracy=True).models
    (warning,) = [entry for entry in model.warnings if entry.code == "attacks-untested"]
    assert "test apgd and apgd-t on this model" in warning.message
    assert "attacks-untested" not in codes(
        report(planted, "frozen", accept_accuracy=True, attack="square").models[0]
    )


def test_harden_is_not_fooled_by_dead_zones(planted: Planted, tmp_path: Path) -> None:
    """The source's figure is the one of an attack that goes through them."""
    figures = {}
    for defence in (None, "zone-where"):
        setting = HardenSetting(
            eps=0.04,
            score="deepcloak",
            mask_ratio=0.1,
            evaluation_steps=20,
            device="cpu",
        )
        found = harden(planted.model(defence), planted.data, tmp_path / "h.onnx", setting)
        figures[defence] = found.report.accuracy.source.adaptive.value
    assert figures["zone-where"] <= figures[None] + 0.1


def test_a_saturated_model_is_no_harder_to_fool(planted: Planted) -> None:
    plain, saturated = report(planted, None, "saturated", attack="apgd,apgd-dlr").models
    for one, other in zip(plain.robust, saturated.robust, strict=True):
        assert one.worst_case.value == pytest.approx(other.worst_case.value, abs=0.05)


def test_gradient_free_attacks_alone_are_said_to_be(planted: Planted, tmp_path: Path) -> None:
    (model,) = report(planted, "quantised-input", attack="square").models
    assert "no-white-box-attack" in codes(model) and "zero-gradients" not in codes(model)
    assert model.median_distance is None
