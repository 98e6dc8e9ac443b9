"""`evaluate`: the contract of its report, figures recomputed elsewhere, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from cloakify.attacks.apgd import ApgdBpda
from cloakify.cli.main import run
from cloakify.errors import DataError, HeadError, UsageError
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.effort import THOROUGHNESS
from cloakify.experiment.experiment import open_experiment
from cloakify.report import EvaluateReport, as_document, load_schema, report_text
from cloakify.settings import EvaluateSetting, HardenSetting
from cloakify.workflows.evaluate import EvaluateResult, evaluate
from cloakify.workflows.harden import harden
from tests.support.planted import Planted, plant

BUDGETS = (0.04, 0.1)
QUICK = {"eps": BUDGETS, "steps": 10, "queries": 50, "device": "cpu"}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


def quick(models: list[Path], data: Path, **changes: object) -> EvaluateResult:
    return evaluate(models, data, EvaluateSetting(**{**QUICK, **changes}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pair(planted: Planted) -> EvaluateReport:
    """An ordinary model, and one that loses accuracy and gains none."""
    return quick([planted.model(), planted.model("mean-sparse")], planted.data).report


def logits(model: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_report_fits_the_schema(pair: EvaluateReport) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="validates the report")
    jsonschema.validate(as_document(pair), load_schema())


def test_clean_accuracy_is_the_models_own(pair: EvaluateReport, planted: Planted) -> None:
    with np.load(planted.data) as data:
        for model in pair.models:
            right = logits(Path(model.model.path), data["x"]).argmax(1) == data["y"]
            assert model.clean.value == pytest.approx(right.mean())
            assert model.clean.n == pair.data.samples == len(right)


def test_worst_case_is_below_everything_tried_and_falls(pair: EvaluateReport) -> None:
    for model in pair.models:
        rows = zip(model.robust, model.noise, model.convergence, strict=True)
        for robust, noise, convergence in rows:
            tried = [noise.accuracy, *(attack.accuracy for attack in robust.attacks)]
            # Twice the steps are tried on some of the samples.
            doubled = convergence.doubled_accuracy
            assert doubled.value <= convergence.accuracy.value
            right = round(robust.worst_case.value * robust.worst_case.n)
            untried = robust.worst_case.n - doubled.n
            assert right <= round(doubled.value * doubled.n) + untried
            tried += [
                transfer.accuracy
                for transfer in pair.transfer
                if (transfer.tried_on, transfer.eps) == (model.model.path, robust.eps)
            ]
            assert len(tried) == 1 + len(robust.attacks) + 1
            assert all(robust.worst_case.value <= figure.value for figure in tried)
        values = [point.accuracy.value for point in model.curve]
        assert values == sorted(values, reverse=True)
        assert [point.eps for point in model.curve][:3] == [0.0, *BUDGETS]
        assert [point.accuracy for point in model.curve][1:3] == [
            robust.worst_case for robust in model.robust
        ]
        assert model.curve[-1].eps == pytest.approx(1)


def test_square_checks_the_largest_budget_alone(pair: EvaluateReport) -> None:
    names = [[attack.attack for attack in robust.attacks] for robust in pair.models[0].robust]
    # The first look finds slopes that gradients miss, so secants are tried as well.
    white_box = ["apgd-bpda", "apgd", "apgd-t"]
    assert names == [white_box, [*white_box, "square"]]


def test_transfer_goes_in_every_direction(pair: EvaluateReport, planted: Planted) -> None:
    """Against the attack run by hand and tried in ONNX Runtime."""
    paths = [Path(model.model.path) for model in pair.models]
    found = {(entry.crafted_on, entry.eps): entry.accuracy.value for entry in pair.transfer}
    assert len(found) == len(pair.transfer) == 2 * len(BUDGETS)
    onward = THOROUGHNESS[EvaluateSetting().evaluation.effort].onward
    for source, other in (paths, paths[::-1]):
        classifier = open_classifier(source)
        setting = EvaluateSetting(device="cpu").at(BUDGETS[0])
        experiment = open_experiment(classifier, planted.data, setting, lambda *_: None)
        (batch,) = experiment.dataset.batches(batch_size=len(experiment.dataset))
        for eps in BUDGETS:
            attack, threat = ApgdBpda(steps=10, stop_early=False), experiment.threat.with_eps(eps)
            samples = (batch.x.astype(np.float32), batch.y, batch.index)
            x, _ = attack.explore(experiment.target(), *samples, threat, onward)
            right = logits(other, x).argmax(1) == batch.y
            assert found[str(source), eps] == pytest.approx(right.mean())


def test_differences_are_paired(pair: EvaluateReport) -> None:
    first, other = pair.models
    measures = [(entry.measure, entry.eps) for entry in pair.comparisons]
    assert measures[0] == ("clean", None) and len(measures) == 1 + 2 * len(BUDGETS)
    n = pair.data.samples
    for entry in pair.comparisons:
        paired = entry.paired
        assert paired.difference.value == pytest.approx((paired.gained - paired.lost) / n)
    worst = {e.eps: e.paired.difference for e in pair.comparisons if e.measure == "worst_case"}
    for one, two in zip(first.robust, other.robust, strict=True):
        gain = two.worst_case.value - one.worst_case.value
        assert worst[one.eps].value == pytest.approx(gain)
    assert [entry.eps for entry in pair.verdicts] == list(BUDGETS)


def test_minimal_distances_agree_with_the_curve(pair: EvaluateReport) -> None:
    (model, _) = pair.models
    assert model.median_distance is not None and model.median_distance.value is not None
    within = [robust for robust in model.robust if robust.eps >= model.median_distance.value]
    assert within and all(robust.worst_case.value <= 0.5 for robust in within)


def test_figures_depend_neither_on_batches_nor_on_the_run(planted: Planted) -> None:
    reports = [
        quick([planted.model()], planted.data, limit=30, batch_size=size, attack=attack).report
        for size, attack in ((64, "apgd,square"), (3, "square,apgd"), (64, "apgd,square"))
    ]
    assert len({repr((report.models, report.attacks)) for report in reports}) == 1


def test_labels_of_the_first_model(planted: Planted) -> None:
    models = [planted.model("mean-sparse"), planted.model()]
    report = quick(models, planted.data, labels="model", attack="fgsm", steps=None).report
    assert report.models[0].clean.value == 1 > report.models[1].clean.value
    text = report_text(report, None, False)
    assert "agreement with the first model's clean prediction" in text
    assert report.models[0].convergence == ()


def test_autoattack_stands_for_four(planted: Planted) -> None:
    report = quick([planted.model()], planted.data, attack="autoattack", limit=20).report
    names = [attack.name for attack in report.attacks]
    assert names == ["apgd", "apgd-t", "fab-t", "square"]
    assert [attack.steps for attack in report.attacks] == [10, 10, 10, 50]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_both_norms_end_without_a_bound(planted: Planted, norm: str) -> None:
    report = quick([planted.model()], planted.data, limit=20, norm=norm, eps=(0.1,)).report
    last = report.models[0].curve[-1].eps
    assert last == pytest.approx(1 if norm == "linf" else 6)


@pytest.fixture(scope="module")
def copies(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `cloakify attack` writes for 40 of the samples at the larger budget."""
    path = tmp_path_factory.mktemp("copies") / "attacked.npz"
    attack = ["attack", str(planted.model()), "--data", str(planted.data), "--attack", "apgd"]
    assert run([*attack, "--eps", "0.1", "--limit", "40", "-o", str(path)]) == 0
    return path


def test_given_copies_are_tried_within_their_budget(planted: Planted, copies: Path) -> None:
    changes = {"attack": "fgsm", "steps": None, "limit": 40}
    setting = EvaluateSetting(**{**QUICK, **changes})  # type: ignore[arg-type]
    report = evaluate([planted.model()], planted.data, setting, attacked=copies).report
    assert report.copies is not None and report.copies.path == str(copies)
    (entry,) = report.models
    small, large = entry.copies
    counted = [at.counted for at in report.copies.within]
    assert counted[0] < counted[1] == 40
    assert [at.outside_ball for at in report.copies.within] == [40 - counted[0], 0]
    assert large.accuracy is not None and large.accuracy.value <= 0.1 and large.accuracy.n == 40
    assert (0 if small.accuracy is None else small.accuracy.n) == counted[0]
    assert entry.robust[1].worst_case.value <= large.accuracy.value
    without = quick([planted.model()], planted.data, **changes).report.models[0]
    assert without.robust[0].worst_case.value - entry.robust[0].worst_case.value <= counted[0] / 40
    text = report_text(report, None, False)
    assert "given copies 0.1" in text
    assert f"{counted[0]} of 40 count, {40 - counted[0]} lie outside the budget, 0 outside" in text
    jsonschema = pytest.importorskip("jsonschema", reason="validates the report")
    jsonschema.validate(as_document(report), load_schema())


def test_copies_outside_the_box_count_nowhere(planted: Planted, tmp_path: Path) -> None:
    with np.load(planted.data) as data:
        x = data["x"][:20].copy()
        np.savez(tmp_path / "clean.npz", x=x, y=data["y"][:20])
    x[3], x[5] = -0.03, 5.0
    np.save(tmp_path / "copies.npy", x)
    setting = EvaluateSetting(**{**QUICK, "attack": "fgsm", "steps": None})  # type: ignore[arg-type]
    model, data = planted.model(), tmp_path / "clean.npz"
    report = evaluate([model], data, setting, attacked=tmp_path / "copies.npy").report
    assert report.copies is not None
    assert [at.outside_box for at in report.copies.within] == [2, 2]
    assert [at.counted for at in report.copies.within] == [18, 18]
    assert report.models[0].clean.value >= 0.8


def test_copies_of_other_samples_are_refused(
    planted: Planted, copies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(planted.model()), "--data", str(planted.data), "--steps", "1"]
    assert run([*arguments, "--attacked", str(copies)]) == 4
    assert run([*arguments, "--attacked", str(copies.with_name("gone.npz"))]) == 4
    first, second = capsys.readouterr().err.splitlines()
    assert "holds no attacked copy of sample" in first and "does not exist" in second


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"eps": ()}, "--eps"),
        ({"eps": (0.1, 0.0)}, "--eps"),
        ({"eps": (0.1, 0.1)}, "twice"),
        ({"attack": "apgd,apgd"}, "apgd twice"),
        ({"attack": "magic"}, "magic"),
        ({"require_gain": 0.1}, "second"),
    ],
)
def test_wrong_options(planted: Planted, changes: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        quick([planted.model()], planted.data, **changes)


def test_models_that_cannot_be_compared(samples: Path, planted: Planted, tmp_path: Path) -> None:
    plain = planted.model()
    link = tmp_path / "link.onnx"
    link.symlink_to(plain)
    for again in (plain, link):
        with pytest.raises(UsageError, match="twice"):
            quick([plain, again], planted.data)
    with pytest.raises(UsageError, match="28×28×1"):
        quick([samples / "fashion_pooled.onnx", samples / "fashion_keras.onnx"], planted.data)
    with pytest.raises(UsageError, match="at least one"):
        quick([], planted.data)


def test_layers_that_are_mixed_are_judged_by_their_mixture(
    planted: Planted, tmp_path: Path
) -> None:
    model = planted.model("two-heads")
    (found,) = quick([model], planted.data).report.models
    with np.load(planted.data) as data:
        assert found.clean.value == pytest.approx(
            (logits(model, data["x"]).argmax(1) == data["y"]).mean()
        )
    assert "overruled" not in [notice.code for notice in found.warnings]
    with pytest.raises(HeadError, match="2 layers could be the head; choose with --head among"):
        harden(model, planted.data, tmp_path / "h.onnx", HardenSetting(device="cpu", eps=0.02))


@pytest.mark.parametrize("limits", [(None, None), (30, 30), (None, 30), (30, None)])
def test_calibration_data_is_no_test_data(
    planted: Planted, tmp_path: Path, limits: tuple[int | None, int | None]
) -> None:
    """The digest in the file tells, also of samples taken from the same data; not of fewer."""
    hardened_on, evaluated_on = limits
    model, hardened = planted.model(), tmp_path / "h.onnx"
    score = {"score": "deepcloak", "mask_ratio": 0.1, "evaluation_steps": 2}
    setting = HardenSetting(limit=hardened_on, device="cpu", eps=0.02, **score)  # type: ignore[arg-type]
    harden(model, planted.data, hardened, setting)
    changes = {"attack": "fgsm", "steps": None, "eps": (0.02,)}
    report = quick([model, hardened], planted.data, limit=evaluated_on, **changes).report
    codes = [[notice.code for notice in entry.warnings] for entry in report.models]
    assert "calibration-data" not in codes[0]
    assert ("calibration-data" in codes[1]) is (limits != (30, None))
    assert report.verdicts[0].verdict.code != "hardened"


def test_copies_of_samples_prove_nothing(planted: Planted, tmp_path: Path) -> None:
    """Each counts once, or a gain of chance would become a certain one."""
    with np.load(planted.data) as arrays:
        x, y = arrays["x"], arrays["y"]
    data, models = tmp_path / "copied.npz", [planted.model(), planted.model("mean-sparse")]
    np.savez(data, x=np.concatenate([x[:40]] * 3), y=np.concatenate([y[:40]] * 3))
    copied = quick(models, data)
    assert "80 of 120 samples are exact copies" in copied.notes[0]
    np.savez(data, x=x[:40], y=y[:40])
    once = quick(models, data)
    assert once.notes == () and once.report.data.samples == 40
    assert copied.report.models == once.report.models
    assert copied.report.comparisons == once.report.comparisons
    # It is still the data that was given.
    assert copied.report.data.sha256 != once.report.data.sha256


def test_wrong_labels_stop_the_run(planted: Planted, tmp_path: Path) -> None:
    with np.load(planted.data) as data:
        np.savez(tmp_path / "wrong.npz", x=data["x"], y=(data["y"] + 1) % 4)
    with pytest.raises(DataError, match=r"plain\.onnx.*in another order"):
        quick([planted.model()], tmp_path / "wrong.npz")


def test_command_line(planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(planted.model()), str(planted.model("mean-sparse"))]
    reports = [tmp_path / f"r.{kind}" for kind in ("json", "html", "md")]
    arguments = ["evaluate", *models, "--data", str(planted.data), "--limit", "20"]
    arguments += ["--eps", "10/255,0.1", "--steps", "5", "--queries", "20", "--device", "cpu"]
    asked = [part for report in reports for part in ("--report", str(report))]
    assert run([*arguments, *asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["threat"]["eps"] == pytest.approx([10 / 255, 0.1])
    assert json.loads(reports[0].read_text()) == document
    assert all(report.stat().st_size > 500 for report in reports)
    reports[0].unlink()
    assert run([*arguments, *asked, "--require-gain", "0.5"]) == 1
    printed = capsys.readouterr()
    assert reports[0].exists() and "--require-gain" in printed.err
    assert "worst case 10/255" in printed.out and "mean-sparse.onnx at 10/255" in printed.out
    assert run([*arguments, "--require-gain", "-1", "--quiet"]) == 0


def test_command_line_refuses_bad_budgets(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(planted.model()), "--data", str(planted.data), "--eps"]
    assert run([*arguments, "1/255,x"]) == 2
    assert run([*arguments, "0"]) == 2
    assert "Error:" in capsys.readouterr().err


def test_the_nearest_point_is_searched_for_some_of_many(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"attack": "fgsm", "steps": None, "limit": 40}
    whole = quick([planted.model()], planted.data, **changes).report
    fewer = replace(THOROUGHNESS["standard"], searched=15)
    monkeypatch.setitem(THOROUGHNESS, "standard", fewer)
    some = quick([planted.model()], planted.data, **changes).report
    distances = [report.models[0].median_distance for report in (whole, some)]
    assert [distance and distance.n for distance in distances] == [40, 14]
    assert whole.models[0].clean == some.models[0].clean
    text = report_text(some, None, False)
    assert "nearest misclassified point (of 14 samples)" in text


def test_copies_of_samples_with_attacked_ones(planted: Planted, tmp_path: Path) -> None:
    """Paired by order they are counted as they were given, copies and all."""
    with np.load(planted.data) as arrays:
        x, y = arrays["x"][:40], arrays["y"][:40]
    np.savez(tmp_path / "d.npz", x=np.concatenate([x[:10], x]), y=np.concatenate([y[:10], y]))
    shifted = np.clip(x + 0.01, 0, 1).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=np.concatenate([shifted[:10], shifted]))
    setting = EvaluateSetting(**QUICK)  # type: ignore[arg-type]
    found = evaluate([planted.model()], tmp_path / "d.npz", setting, attacked=tmp_path / "a.npz")
    assert found.report.data.samples == 40
    assert found.report.copies is not None
    assert [within.outside_ball for within in found.report.copies.within] == [0, 0]
