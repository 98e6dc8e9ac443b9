"""Whether channels or positions have gates, where that is left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloakify.experiment.classifier import open_source
from cloakify.experiment.experiment import open_experiment
from cloakify.hardening import gate_layers
from cloakify.hardening.gate_layers import settled, sites_for
from cloakify.settings import HardenSetting
from tests.support.fragile import fragile_images, write_fragile


def settled_for(model: Path, data: Path, **options: object) -> str:
    setting = HardenSetting(method="tuned", device="cpu", threads=1, **options)
    source = open_source(model, setting.model, replace_mask=False)
    experiment = open_experiment(source, data, setting, lambda *_: None)
    found = settled(setting, experiment)
    positions = sum(
        site.channels
        for site in sites_for(source.file.outline, experiment, found)
        if site.by_position
    )
    assert (positions > 0) == (found.tuning.gates == "position")
    return found.tuning.gates


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "position"),
        ({"shifts": False}, "position"),
        ({"gates": "channel"}, "channel"),
        ({"gates": "position"}, "position"),
        ({"emit": "fold"}, "channel"),
        ({"binary": True}, "channel"),
    ],
)
def test_positions_are_taken_where_they_stay_in_the_graph(
    tmp_path: Path, options: dict[str, object], expected: str
) -> None:
    assert settled_for(*write_fragile(tmp_path, images=True), **options) == expected


def test_channels_are_taken_where_there_are_no_positions(tmp_path: Path) -> None:
    assert settled_for(*write_fragile(tmp_path)) == "channel"
    model, data = write_fragile(tmp_path, images=True)
    model.write_bytes(fragile_images("1, H, W").SerializeToString())
    assert settled_for(model, data) == "channel"


def test_channels_are_taken_where_positions_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_fragile(tmp_path, images=True)
    # Eight gates and eight shifts.
    monkeypatch.setattr(gate_layers, "MOST_POSITIONS", 16)
    assert settled_for(*files) == "position"
    monkeypatch.setattr(gate_layers, "MOST_POSITIONS", 15)
    assert settled_for(*files) == "channel"
