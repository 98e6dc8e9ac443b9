"""Vectors of gates and the sites that they stand for."""

from __future__ import annotations

import numpy as np

from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.masking.gated import channels_of, split_gates
from tests.support.gate_models import CNN, TRANSFORMER, filled


def test_positions_know_their_channels() -> None:
    """As values of channels are broadcast to positions."""
    model = filled(CNN)
    head = find_head(model).head
    for shifts in (False, True):
        by_channel, by_position = (
            find_gate_sites(model, head, by_position=flag, shifts=shifts) for flag in (False, True)
        )
        channels = channels_of(by_position)
        assert channels is not None
        of_channels = np.random.default_rng(0).random(sum(site.channels for site in by_channel))
        assert channels.max() + 1 == len(of_channels)
        parts = zip(by_channel, by_position, split_gates(of_channels, by_channel), strict=True)
        expected = [
            np.broadcast_to(values.reshape(site.shape), wide.shape).ravel()
            for site, wide, values in parts
        ]
        np.testing.assert_array_equal(of_channels[channels], np.concatenate(expected))


def test_channels_alone_share_nothing() -> None:
    model = filled(CNN)
    head = find_head(model).head
    assert channels_of(find_gate_sites(model, head, shifts=True)) is None
    model = filled(TRANSFORMER)
    sites = find_gate_sites(model, find_head(model).head, by_position=True)
    assert any(site.by_position for site in sites) == (channels_of(sites) is not None)
