"""A run that is killed and started again, and one that is done in parts, end as one that is not."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from tests.engine.runs import (
    ATTACK,
    EVALUATE,
    HARDEN,
    HARDEN_REPORT,
    MODEL_LABELS,
    TUNED,
    TUNED_IMAGES,
    Run,
    done,
    kill_at,
    name_of,
    new,
    write_inputs,
)


def undisturbed(run: Run, folder: Path) -> bytes:
    """Return what a run without any folder to resume from ends with."""
    out = new(folder, "whole")
    ended = done(run.command(out))
    assert ended.code == 0, ended.err
    return run.result(out)


def kill_and_resume(run: Run, folder: Path, moments: list[float]) -> None:
    """Kill a run at parts of its time, each time going on; let the last one end."""
    wanted = undisturbed(run, folder)
    out, kept = new(folder, "killed"), folder / "kept"
    begun = time.monotonic()
    assert not kill_at(run.command(out), 60)
    seconds = time.monotonic() - begun
    for moment in moments:
        if not kill_at(run.command(out, "--resume", str(kept)), moment * seconds):
            # It was through: from the beginning.
            shutil.rmtree(kept)
    ended = done(run.command(out, "--resume", str(kept)))
    assert ended.code == 0, ended.err
    assert run.result(out) == wanted
    assert not list(kept.glob(".cloakify-*"))


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    kill_and_resume(ATTACK, tmp_path, [0.8])


@pytest.mark.slow
@pytest.mark.parametrize(
    "run", [ATTACK, EVALUATE, HARDEN_REPORT, TUNED_IMAGES, MODEL_LABELS], ids=name_of
)
def test_a_run_killed_at_random_moments_goes_on(run: Run, tmp_path: Path) -> None:
    write_inputs(tmp_path, 480)
    generator = random.Random(0)
    kill_and_resume(run, tmp_path, [generator.uniform(0.3, 1.0) for _ in range(20)])


@pytest.mark.parametrize("run", [EVALUATE, HARDEN, MODEL_LABELS], ids=name_of)
def test_parts_add_up(run: Run, tmp_path: Path) -> None:
    write_inputs(tmp_path, 40)
    wanted = undisturbed(run, tmp_path)
    out, kept = new(tmp_path, "parts"), str(tmp_path / "kept")
    # What goes by stages, each of which needs all of the one before it, takes parts several times.
    for part in ("1/2", "2/2", *["1/2", "2/2"] * (run is not EVALUATE)):
        ended = done(run.command(out, "--resume", kept, "--shard", part))
        assert ended.code == 0, ended.err
        assert ended.out.startswith(f"Part {part}: ") and not list(out.iterdir())
    ended = done(run.command(out, "--resume", kept))
    assert ended.code == 0, ended.err
    assert run.result(out) == wanted


@pytest.mark.parametrize("run", [TUNED, TUNED_IMAGES], ids=name_of)
def test_a_tuning_keeps_its_state_beside_the_chunks(run: Run, tmp_path: Path) -> None:
    write_inputs(tmp_path, 60)
    wanted = undisturbed(run, tmp_path)
    out, kept = new(tmp_path, "out"), tmp_path / "kept"
    for _ in range(2):
        ended = done(run.command(out, "--resume", str(kept)))
        assert ended.code == 0, ended.err
        assert run.result(out) == wanted
    assert (kept / "tuning.npz").is_file()
    ended = done(run.command(out, "--resume", str(kept), "--shard", "1/2"))
    assert ended.code == 2 and "give --resume alone" in ended.err
