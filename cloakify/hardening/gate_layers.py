"""Choose the layers that gates are tuned on, and whether channels or positions have them."""

from __future__ import annotations

from onnx import ModelProto

from cloakify.errors import ModelError, UsageError
from cloakify.experiment.experiment import Experiment
from cloakify.graph.analysis.gate_sites import GateSite, choose_sites, find_gate_sites
from cloakify.graph.edit.fold import check_foldable
from cloakify.onnxfile import check_apart
from cloakify.settings import HardenSetting
from cloakify.verification.gate_edit import gated_sites, scaled_names

# Gates and shifts of positions that a file may hold without having been asked: 8 MiB of float32. A
# ResNet-18 for images of 32² has 1.2 million.
MOST_POSITIONS = 1 << 21


def settled(setting: HardenSetting, experiment: Experiment) -> HardenSetting:
    """Return the setting with what is gated, where that is left open: positions or channels.

    Positions buy more robustness for the same clean accuracy. They stay in the graph, and are as
    many as an image has: channels are taken where gates are to be folded or to be 0 or 1, where
    the file does not say how large images are, and where positions are more than
    :data:`MOST_POSITIONS`.

    Raises
    ------
    UsageError
        No layer matches ``--tune-layers``.
    """
    if setting.tuning.gates != "auto":
        return setting
    if setting.tuning.emit == "mul" and not setting.tuning.binary:
        model, ending = experiment.classifier.file.outline, experiment.classifier.ending
        sites = find_gate_sites(model, ending, by_position=True, shifts=setting.tuning.shifts)
        sites = choose_sites(sites, setting.tuning.layers) if sites else []
        positions = sum(site.channels for site in sites if site.by_position)
        if 0 < positions <= MOST_POSITIONS:
            return setting.replace(gates="position")
    return setting.replace(gates="channel")


def sites_for(model: ModelProto, experiment: Experiment, setting: HardenSetting) -> list[GateSite]:
    """Return the layers to gate.

    Raises
    ------
    UsageError
        No layer matches ``--tune-layers``, or none of them has positions to gate.
    ModelError
        Gates are to be folded, and a layer's weights do not let them.
    """
    ending, path = experiment.classifier.ending, experiment.classifier.file.path
    if not find_gate_sites(model, ending):
        problem = experiment.classifier.search.problem
        what = f"{problem}; and it" if problem else "it"
        instead = "" if problem else "; use --method deepcloak"
        raise ModelError(
            f"{path}: {what} has no layer with channels to tune before those that put out scores"
            f"{instead}"
        )
    sites = gated_sites(
        model,
        ending,
        setting.tuning.layers,
        setting.tuning.gates,
        setting.tuning.emit,
        shifts=setting.tuning.shifts,
    )
    if setting.tuning.gates == "position" and not any(site.by_position for site in sites):
        raise UsageError(
            f"{path}: --gates position needs layers of images whose sizes the file says; these "
            "have none, use --gates channel"
        )
    if setting.tuning.emit == "fold":
        if not sites:
            raise ModelError(f"{path}: no layer's gates can be folded; use --emit mul")
        classifier = experiment.classifier
        tensors = {tensor.name: tensor for tensor in classifier.model.graph.initializer}
        for site in sites:
            check_foldable(site, tensors)
        check_apart(classifier.file, scaled_names(sites))
    return sites
