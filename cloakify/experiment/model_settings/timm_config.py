"""`config.json` as timm writes it to a model's folder: `pretrained_cfg`.

What is made of it is what `timm.data.create_transform` makes of `resolve_data_config` (timm 1.0).
"""

from __future__ import annotations

from typing import get_args

from cloakify.data.fitting import Interpolation
from cloakify.errors import ModelError
from cloakify.experiment.model_settings.found import FoundSettings
from cloakify.experiment.model_settings.json_file import Config

# timm.data.constants: what is taken where a configuration does not say.
_CROP_PCT, _INTERPOLATION = 0.875, "bicubic"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_timm(config: Config, model_size: tuple[int | None, int | None]) -> FoundSettings | None:
    """Read the configuration of a timm model; ``None`` where it is another's.

    Parameters
    ----------
    model_size
        Height and width that the model takes: of two sizes that are given, for training and for
        testing, the one it has was meant.

    Raises
    ------
    ModelError
        A value has not the form it should have, or is not known.
    """
    if "pretrained_cfg" not in config and not ("architecture" in config and "mean" in config):
        return None
    own = config.part("pretrained_cfg") if "pretrained_cfg" in config else config
    size, share = _size(own, "input_size"), own.number("crop_pct")
    tested = _size(own, "test_input_size")
    if tested is not None and tested == model_size != size:
        size, share = tested, own.number("test_crop_pct") or share
    mean = own.numbers("mean") or _MEAN
    mode = own.text("crop_mode") or "center"
    if mode not in ("center", "squash", "border"):
        raise own.fault("crop_mode", "center, squash or border")
    interpolation = own.text("interpolation") or _INTERPOLATION
    interpolation = "bilinear" if interpolation == "random" else interpolation
    if interpolation not in get_args(Interpolation):
        raise own.fault("interpolation", "one of Pillow's filters")
    return FoundSettings(
        config.path.name,
        mean=mean,
        std=own.numbers("std") or _STD,
        resize={"center": "crop", "squash": "stretch", "border": "pad"}[mode],  # type: ignore[arg-type]
        crop_pct=share or _CROP_PCT,
        interpolation=interpolation,  # type: ignore[arg-type]
        fill=tuple(round(255 * each) for each in mean),
        size=size,
    )


def _size(config: Config, key: str) -> tuple[int, int] | None:
    """Return height and width of ``[channels, height, width]``."""
    sizes = config.numbers(key)
    if sizes is None:
        return None
    if len(sizes) != 3:
        raise ModelError(f"{config.path}: {key} is not channels, height and width: mend the file")
    return int(sizes[1]), int(sizes[2])
