"""Preprocessing by name: `--preset`.

The conventions are those of Keras' `imagenet_utils.preprocess_input` (``caffe``, ``tf``,
``torch``); torchvision's weights each name the transforms that they were evaluated with, listed in
`torchvision_weights.json` as torchvision 0.28 has them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import resources

from cloakify.data.naming import shown
from cloakify.errors import UsageError
from cloakify.experiment.model_settings.found import FoundSettings

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PRESETS = {
    "imagenet": FoundSettings(
        "imagenet", mean=_MEAN, std=_STD, resize="crop", crop_pct=0.875, interpolation="bilinear"
    ),
    # Means of 0–255, blue first.
    "caffe": FoundSettings("caffe", scale=255.0, mean=(103.939, 116.779, 123.68), channels="bgr"),
    "tf": FoundSettings("tf", scale=2.0, mean=(1.0,)),
    "keras": FoundSettings("keras", scale=255.0),
    "plain": FoundSettings("plain", scale=1.0),
}
PRESETS["torch"] = replace(PRESETS["imagenet"], source="torch")


def preset(name: str) -> FoundSettings:
    """Return the preprocessing of a name.

    Raises
    ------
    UsageError
        There is none of that name.
    """
    settings = PRESETS.get(name.lower()) or _weights().get(name)
    if settings is not None:
        return replace(settings, source=f"--preset {name}")
    known = [*PRESETS, *_weights()]
    like = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {like[0]}?" if like else ""
    raise UsageError(
        f"--preset takes {', '.join(PRESETS)} or the name of torchvision's weights "
        f"(ResNet50_Weights.IMAGENET1K_V2), not {shown(name)}{hint}"
    )


@cache
def _weights() -> dict[str, FoundSettings]:
    file = resources.files(__package__) / "torchvision_weights.json"
    return {
        name: FoundSettings(
            name,
            mean=tuple(row["mean"]),
            std=tuple(row["std"]),
            resize="crop",
            resize_to=row["resize_to"],
            interpolation=row["interpolation"],
            size=(row["size"], row["size"]),
        )
        for row in json.loads(file.read_text())
        for name in row["weights"]
    }
