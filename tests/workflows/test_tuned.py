"""`harden --method tuned` from end to end on a small model, and what `verify` says of its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import onnx
import pytest

from cloakify.cli.main import run
from cloakify.errors import DataError, GateError, ModelError, UsageError
from cloakify.onnxfile import read_metadata
from cloakify.report.facts import circumstances
from cloakify.report.records import TuningInfo
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import HardenResult, harden
from cloakify.workflows.verify import verify
from tests.support.fragile import EPS, fragile_images, write_fragile

QUICK = {
    "method": "tuned",
    "shifts": False,
    "tune_steps": 80,
    "max_accuracy_drop": 0.2,
    "evaluation_steps": 5,
    "device": "cpu",
    "eps": EPS,
    "write_anyway": True,
}


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A fragile model and its data."""
    return write_fragile(tmp_path_factory.mktemp("fragile"))


def tuned(fragile: tuple[Path, Path], output: Path, **changes: object) -> HardenResult:
    model, data = fragile
    return harden(model, data, output, HardenSetting(**{**QUICK, **changes}))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["mul", "fold"])
def pair(
    request: pytest.FixtureRequest,
    fragile: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path, HardenResult]:
    """Source, tuned file, and what harden said."""
    output = tmp_path_factory.mktemp("tuned") / f"{request.param}.onnx"
    return fragile[0], output, tuned(fragile, output, emit=request.param)


def test_robust_accuracy_rises_and_the_file_is_proven(
    pair: tuple[Path, Path, HardenResult],
) -> None:
    source, output, result = pair
    accuracy = result.report.accuracy
    assert accuracy.source.adaptive.value == 0
    assert accuracy.hardened.adaptive.value > 0.7
    assert result.report.verdict.code == "hardened"
    mask = result.report.mask
    assert (mask.method, mask.score, mask.total, mask.removed) == ("tuned", None, 16, 0)
    # What the gates were tuned by.
    by = mask.tuning
    assert isinstance(by, TuningInfo)
    threat = result.report.attack
    assert (by.attack.name, by.attack.norm, by.attack.eps) == ("pgd", threat.norm, threat.eps)
    assert any(note.endswith(f"tuned on {by.attack.steps} steps") for note in result.notes)
    assert set(result.report.notes) <= set(result.notes) and result.report.notes
    assert by.steps > 0 and ("Tuned by", ANY) in circumstances(result.report)
    said = read_metadata(onnx.load(output))
    assert said["mask.sha256"] == mask.sha256 and said["method"] == "tuned"
    verification = verify(output, source, "cpu")
    assert verification.faults == ()
    assert "16 gates" in verification.summary
    assert any("under PGD on samples learned from" in note for note in result.notes)


@pytest.mark.parametrize("shifts", [False, True])
def test_both_forms_are_the_same_gates(
    fragile: tuple[Path, Path], tmp_path: Path, shifts: bool
) -> None:
    some = {"tune_steps": 60, "shifts": shifts}
    results = {
        emit: tuned(fragile, tmp_path / f"{emit}.onnx", emit=emit, **some)
        for emit in ("mul", "fold")
    }
    assert results["mul"].report.mask == results["fold"].report.mask
    assert results["mul"].report.mask.shifts == 8 * shifts
    for emit in ("mul", "fold"):
        proven = verify(tmp_path / f"{emit}.onnx", fragile[0], "cpu")
        assert proven.faults == ()
        assert proven.summary.startswith("8 gates and 8 shifts" if shifts else "16 gates")
    again = tuned(fragile, tmp_path / "again.onnx", emit="fold", **some)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "fold.onnx").read_bytes()
    assert again.report.mask == results["fold"].report.mask
    folded = onnx.load(tmp_path / "fold.onnx")
    source = onnx.load(fragile[0])
    assert [n.SerializeToString() for n in folded.graph.node] == [
        n.SerializeToString() for n in source.graph.node
    ]


def flip_weight(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "w1")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[3, 3] = np.nextafter(values[3, 3], np.float32(9))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "w1"))


def flip_head(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "w2")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0] *= 2
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "w2"))


def scale_weight_without_bias(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "b1")
    values = onnx.numpy_helper.to_array(tensor) * np.float32(2)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "b1"))


def add_comment(model: onnx.ModelProto) -> None:
    model.graph.node[1].doc_string = "changed"


def lie_about_the_source(model: onnx.ModelProto) -> None:
    entry = next(e for e in model.metadata_props if e.key == "cloakify.source.sha256")
    entry.value = "0" * 64


def lie_about_the_gates(model: onnx.ModelProto) -> None:
    entry = next(e for e in model.metadata_props if e.key == "cloakify.mask.sha256")
    entry.value = "0" * 64


def drop_the_form(model: onnx.ModelProto) -> None:
    place = [e.key for e in model.metadata_props].index("cloakify.emit")
    del model.metadata_props[place]


CHANGES: list[Callable[[onnx.ModelProto], None]] = [
    flip_weight,
    flip_head,
    scale_weight_without_bias,
    add_comment,
    lie_about_the_source,
    lie_about_the_gates,
    drop_the_form,
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_other_change_is_named(
    pair: tuple[Path, Path, HardenResult],
    tmp_path: Path,
    change: Callable[[onnx.ModelProto], None],
) -> None:
    source, output, _ = pair
    model = onnx.load(output)
    change(model)
    tampered = tmp_path / "tampered.onnx"
    tampered.write_bytes(model.SerializeToString())
    assert verify(tampered, source, "cpu").faults


def test_a_negative_gate_is_a_fault(fragile: tuple[Path, Path], tmp_path: Path) -> None:
    from cloakify.graph.edit.gates import gates_digest, read_gates

    output = tmp_path / "mul.onnx"
    tuned(fragile, output, tune_steps=60)
    model = onnx.load(output)
    tensor = next(t for t in model.graph.initializer if t.name == "cloakify_gate_0")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[1] *= -1
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    entry = next(e for e in model.metadata_props if e.key == "cloakify.mask.sha256")
    entry.value = gates_digest(read_gates(model))
    output.write_bytes(model.SerializeToString())
    assert verify(output, fragile[0], "cpu").faults == (
        "there are gates that are negative or not finite",
    )


@pytest.mark.parametrize("shifts", [False, True])
def test_binary_gates(fragile: tuple[Path, Path], tmp_path: Path, shifts: bool) -> None:
    output = tmp_path / "binary.onnx"
    result = tuned(fragile, output, binary=True, emit="fold", shifts=shifts, tune_steps=320)
    mask = result.report.mask
    assert mask.removed == len(mask.indices) > 0
    assert result.report.accuracy.hardened.adaptive.value > 0.7
    assert verify(output, fragile[0], "cpu").faults == ()


def test_positions_of_a_channel_have_gates_of_their_own(tmp_path: Path) -> None:
    """One channel holds firm and fragile values: only a gate for each tells them apart."""
    images = write_fragile(tmp_path, images=True)
    output = tmp_path / "position.onnx"
    assert tuned(images, output, gates="channel").report.verdict.code == "no-gain"
    result = tuned(images, output, gates="position", tune_steps=300)
    assert result.report.mask.total == 8 + 1
    assert result.report.accuracy.hardened.adaptive.value > 0.7
    assert verify(output, images[0], "cpu").faults == ()
    # As if the one gate of a channel stood where there are eight.
    model = onnx.load(output)
    entry = next(e for e in model.metadata_props if e.key == "cloakify.gates")
    for told, fault in (("channel", "not on the 2"), ("pixel", "says 'pixel', not channel or")):
        entry.value = told
        changed = tmp_path / "changed.onnx"
        changed.write_bytes(model.SerializeToString())
        assert any(fault in found for found in verify(changed, images[0], "cpu").faults)


@pytest.mark.parametrize(("layers", "emit"), [("last", "fold"), ("hid*", "mul")])
def test_shifts_of_chosen_layers_go_on_from_a_file(
    fragile: tuple[Path, Path], tmp_path: Path, layers: str, emit: str
) -> None:
    state, some = tmp_path / "state.npz", {"shifts": True, "tune_layers": layers, "emit": emit}
    first = tuned(fragile, tmp_path / "first.onnx", tune_state=state, **some)
    again = tuned(fragile, tmp_path / "again.onnx", tune_state=state, **some)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert first.report.mask == again.report.mask
    assert first.report.verdict.code == "hardened"
    # The control is the same shifts in another order.
    assert first.report.accuracy.random_mask.adaptive.value < 0.5
    with pytest.raises(DataError, match="of another run"):
        tuned(fragile, tmp_path / "x.onnx", tune_state=state, **{**some, "shifts": False})


def test_samples_without_labels_help(fragile: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = fragile
    folder = tmp_path / "more"
    folder.mkdir()
    _, more = write_fragile(folder, samples=200, seed=1)
    arrays = np.load(more)
    # Labels are not read, whatever they are.
    np.savez(more, x=arrays["x"], y=arrays["y"] + 7)
    output, state = tmp_path / "out.onnx", tmp_path / "state.npz"
    setting = HardenSetting(**{**QUICK, "tune_state": state})  # type: ignore[arg-type]
    result = harden(model, data, output, setting, unlabelled=more)
    assert result.report.mask.unlabelled == 200
    assert f"--unlabelled {more}" in str(result.report.command)
    assert any("200 samples without labels" in note for note in result.notes)
    assert len(read_metadata(onnx.load(output))["unlabelled.sha256"]) == 64
    assert verify(output, model, "cpu").faults == ()
    loaded = onnx.load(output)
    entry = next(e for e in loaded.metadata_props if e.key == "cloakify.unlabelled.sha256")
    entry.value = "of my own"
    output.write_bytes(loaded.SerializeToString())
    (fault,) = verify(output, model, "cpu").faults
    assert "unlabelled.sha256 says 'of my own'" in fault
    with pytest.raises(DataError, match="of another run"):
        harden(model, data, output, setting)
    with pytest.raises(UsageError, match="give --method tuned"):
        harden(model, data, output, HardenSetting(device="cpu", eps=EPS), unlabelled=more)


def test_positions_have_shifts_of_their_own(tmp_path: Path) -> None:
    images = write_fragile(tmp_path, images=True)
    output = tmp_path / "position.onnx"
    result = tuned(images, output, gates="position", shifts=True, tune_steps=300)
    assert (result.report.mask.total, result.report.mask.shifts) == (8, 8)
    assert result.report.accuracy.hardened.adaptive.value > 0.7
    assert verify(output, images[0], "cpu").faults == ()
    again = tmp_path / "again.onnx"
    again_by = {"shifts": True, "tune_steps": 300, "replace_mask": True}
    # Where the file says how large images are, positions are what is taken.
    tuned((output, images[1]), again, **again_by)
    assert again.read_bytes() == output.read_bytes()


def test_a_few_steps_are_a_run(fragile: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(GateError, match="resist PGD any better"):
        # The halves, which tell of the gates of all samples, have not begun.
        tuned(fragile, tmp_path / "one.onnx", tune_steps=1)
    result = tuned(fragile, tmp_path / "four.onnx", tune_steps=4)
    assert result.report.mask.total == 16


def test_positions_that_can_not_be_gated(fragile: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "x.onnx"
    with pytest.raises(UsageError, match=r"can't be folded into weights; use --emit mul"):
        tuned(fragile, output, gates="position", emit="fold")
    with pytest.raises(UsageError, match="use --gates channel"):
        tuned(fragile, output, gates="position")
    model, data = write_fragile(tmp_path, images=True)
    model.write_bytes(fragile_images("1, H, W").SerializeToString())
    with pytest.raises(UsageError, match="whose sizes the file says"):
        tuned((model, data), output, gates="position")
    assert not output.exists()


def test_a_budget_that_can_not_be_kept(fragile: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "none.onnx"
    with pytest.raises(GateError, match="no file was written"):
        tuned(fragile, output, binary=True, max_accuracy_drop=0.0, tune_steps=60)
    assert not output.exists()


def test_a_tuned_file_is_hardened_already(
    pair: tuple[Path, Path, HardenResult], fragile: tuple[Path, Path], tmp_path: Path
) -> None:
    _, output, _ = pair
    message = "folded into its weights" if output.stem == "fold" else r"hardened already \(tuned"
    with pytest.raises(ModelError, match=message):
        tuned((output, fragile[1]), tmp_path / "twice.onnx")
    if output.stem == "mul":
        again = tmp_path / "again.onnx"
        tuned((output, fragile[1]), again, replace_mask=True)
        assert again.read_bytes() == output.read_bytes()


def test_refusals(fragile: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "x.onnx"
    with pytest.raises(UsageError, match="matches no layer"):
        tuned(fragile, output, tune_layers="stage9*")
    with pytest.raises(UsageError, match="--tune-steps takes a whole number from 1 on, not 0"):
        tuned(fragile, output, tune_steps=0)
    state = tmp_path / "state.npz"
    tuned(fragile, output, tune_steps=60, tune_state=state)
    with pytest.raises(DataError, match="of another run"):
        tuned(fragile, output, tune_steps=41, tune_state=state)


@pytest.mark.parametrize("at", [60, 0])
def test_interruption_writes_what_was_found(
    fragile: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    at: int,
) -> None:
    from cloakify.masking import tuning

    step = tuning._step

    def interrupt(*arguments: object) -> object:
        if arguments[-1].step == at:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "_step", interrupt)
    output = tmp_path / "part.onnx"
    model, data = fragile
    options = f"--method tuned --steps-tune 80 --max-accuracy-drop 0.2 --eps {EPS} --device cpu"
    options += f" --evaluation-steps 5 --data {data} -o {output}"
    assert run(["harden", str(model), *options.split()]) == 130
    told = capsys.readouterr().err
    assert "interrupted · keeping the best gates so far; again to keep none" in told
    if at:
        assert "interrupted after 60 steps" in told
        assert verify(output, model, "cpu").faults == ()
    else:
        # That there are no gates yet is no verdict on the model.
        assert "no gates" not in told and not output.exists()


def test_a_model_that_does_not_know_the_data_stops_before_the_first_step(
    fragile: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloakify.masking import tuning

    def never(*arguments: object) -> None:
        raise AssertionError("a step was taken")

    monkeypatch.setattr(tuning, "_step", never)
    data = tmp_path / "wrong.npz"
    with np.load(fragile[1]) as arrays:
        np.savez(data, x=arrays["x"], y=1 - arrays["y"])
    with pytest.raises(DataError):
        tuned((fragile[0], data), tmp_path / "x.onnx")
