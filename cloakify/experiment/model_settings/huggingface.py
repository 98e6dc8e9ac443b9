"""`preprocessor_config.json`, which transformers writes beside a model.

How each image processor reads its fields is that of transformers 5: `size` as both sides, or as the
shorter one; what `ConvNextImageProcessor` and `PoolFormerImageProcessor` make of `crop_pct`;
`LevitImageProcessor`'s 256/224; the second normalisation of `EfficientNetImageProcessor`.
"""

from __future__ import annotations

from pathlib import Path

from cloakify.data.fitting import Interpolation
from cloakify.data.naming import shown
from cloakify.errors import ModelError
from cloakify.experiment.model_settings.found import RESAMPLING, FoundSettings
from cloakify.experiment.model_settings.json_file import Config

FILE = "preprocessor_config.json"

# From this size on ConvNeXt's processor squeezes images in place of cutting out their centre.
_CONVNEXT_SQUEEZES = 384
# Those that cut out the centre unless told otherwise, and those that read a plain number as the
# shorter side; all others read it as both sides (`default_to_square`).
_CUTTING = ("CLIP", "Bit", "Chinese", "Levit", "MobileNet", "MobileViT", "PoolFormer")
_SHORTER = (*_CUTTING, "ConvNext", "Siglip")
# Files of transformers' first years name no processor: that of the model's type was taken, which
# stands in the `config.json` beside them (IMAGE_PROCESSOR_MAPPING_NAMES).
_MODEL = "config.json"
_OF_MODELS = {
    **dict.fromkeys(("vit", "vit_mae", "vit_msn", "swin", "swinv2", "swiftformer", "dinat"), "ViT"),
    **dict.fromkeys(("convnext", "convnextv2", "cvt", "regnet", "resnet", "van"), "ConvNext"),
    **dict.fromkeys(("bit", "dinov2", "focalnet", "hiera"), "Bit"),
    **dict.fromkeys(("beit", "data2vec-vision"), "Beit"),
    **dict.fromkeys(("mobilevit", "mobilevitv2"), "MobileViT"),
    **dict.fromkeys(("mobilenet_v1", "mobilenet_v2"), "MobileNet"),
    "clip": "CLIP",
    "deit": "DeiT",
    "efficientnet": "EfficientNet",
    "levit": "Levit",
    "poolformer": "PoolFormer",
    "siglip": "Siglip",
}


def read_preprocessor(path: Path) -> FoundSettings | None:
    """Read a `preprocessor_config.json`; ``None`` where it is not one of an image processor.

    Raises
    ------
    ModelError
        It can't be read, or prepares images in a way that can't be followed.
    """
    config = Config(path)
    if "sampling_rate" in config:
        # Of sound, which comes as what the model takes.
        return None
    kind = config.text("image_processor_type") or config.text("feature_extractor_type") or ""
    name = kind.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    name = name or _of_model(path.with_name(_MODEL))
    if not kind and not any(key in config for key in ("image_mean", "do_resize", "size")):
        return None
    if config.flag("do_pad", False):
        raise ModelError(
            f"{shown(path)}: do_pad is set, which pads images to one another: pass --preset, or "
            "the preprocessing by its options"
        )
    scale, mean, std = _normalisation(config, name)
    return FoundSettings(
        path.name,
        scale=scale,
        mean=mean,
        std=std,
        interpolation=_filter(config, name),
        cut="down",
        channels="bgr" if config.flag("do_flip_channel_order", name == "MobileViT") else "rgb",
        **_geometry(config, name),  # type: ignore[arg-type]
    )


def _of_model(path: Path) -> str:
    """Return what the processor of a model's type is called, "" where that is not known."""
    model_type = Config(path).text("model_type") if path.is_file() else None
    return _OF_MODELS.get(model_type or "", "")


def _normalisation(config: Config, name: str) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Return scale, mean and std: ``(pixel·scale − mean) / std``, pixels in [0, 1]."""
    scale = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if config.flag("do_rescale", True):
        # What is missing is 1/255.
        scale = 255.0 * (config.number("rescale_factor") or 1 / 255)
        scale = 1.0 if abs(scale - 1) < 1e-6 else scale
        if config.flag("rescale_offset", False):
            mean = (1.0,)
    if config.flag("do_normalize", name != "MobileViT"):
        given_mean, given_std = config.numbers("image_mean"), config.numbers("image_std")
        if given_mean is not None:
            mean = tuple(mean[0] + each for each in given_mean)
        std = given_std or std
        if name == "EfficientNet" and config.flag("include_top", True):
            std = tuple(each * each for each in std)
    return scale, mean, std


def _geometry(config: Config, name: str) -> dict[str, object]:
    if not config.flag("do_resize", True):
        return {"resize": "refuse"}
    crop = _sides(config, "crop_size")
    size = config.raw("size")
    if isinstance(size, int | float):
        side = config.whole("size")
        # Of an unknown one that cuts out the centre, which of both it was is not known.
        by_shorter = name.startswith(_SHORTER) or (
            not name and config.flag("do_center_crop", False)
        )
        size = {"shortest_edge": side} if by_shorter else {"height": side, "width": side}
        config = Config(config.path, {**_all(config), "size": size})
    sides = config.part("size")
    shorter = sides.whole("shortest_edge")
    if shorter is not None:
        return _by_shorter_side(config, name, shorter, crop)
    exact = _sides(config, "size")
    if exact is None:
        raise config.fault("size", "height and width, or shortest_edge")
    if config.flag("do_center_crop", False) and crop is not None and crop != exact:
        if exact[0] != exact[1]:
            raise config.fault("size", "square, which is needed to cut out its centre")
        return {"resize": "stretch", "resize_to": exact[0], "size": crop}
    return {"resize": "stretch", "size": exact}


def _by_shorter_side(
    config: Config, name: str, shorter: int, crop: tuple[int, int] | None
) -> dict[str, object]:
    square = (shorter, shorter)
    if name == "ConvNext":
        if shorter >= _CONVNEXT_SQUEEZES:
            return {"resize": "stretch", "size": square}
        share = config.number("crop_pct") or 224 / 256
        return {"resize": "crop", "resize_to": int(shorter / share), "size": square}
    if name == "PoolFormer":
        share = config.number("crop_pct") or 0.9
        return {"resize": "crop", "resize_to": int(shorter / share), "size": crop or square}
    if name == "Levit":
        shorter = int((256 / 224) * shorter)
    if config.flag("do_center_crop", name.startswith(_CUTTING)):
        return {"resize": "crop", "resize_to": shorter, "size": crop or (224, 224)}
    return {"resize": "crop", "resize_to": shorter}


def _sides(config: Config, key: str) -> tuple[int, int] | None:
    """Return height and width, written as an object or one number; ``None`` where neither is."""
    value = config.raw(key)
    if value is None:
        return None
    if isinstance(value, int | float):
        side = config.whole(key)
        assert side is not None
        return side, side
    sides = config.part(key)
    height, width = sides.whole("height"), sides.whole("width")
    return None if height is None or width is None else (height, width)


def _filter(config: Config, name: str) -> Interpolation:
    """Return what a processor resizes with, which some do not say in their file."""
    number = config.number("resample")
    if number is None:
        bicubic = ("CLIP", "Bit", "Beit", "Levit", "PoolFormer", "DeiT", "Siglip")
        return "bicubic" if name.startswith(bicubic) else "bilinear"
    if number not in RESAMPLING:
        raise config.fault("resample", "one of Pillow's filters, 0 to 5")
    return RESAMPLING[int(number)]


def _all(config: Config) -> dict[str, object]:
    keys = ("do_center_crop", "crop_size", "crop_pct", "do_resize")
    return {key: config.raw(key) for key in keys}
