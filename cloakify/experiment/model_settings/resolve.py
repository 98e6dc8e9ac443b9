"""From all that says how inputs are made to what is done."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from cloakify.data import Preprocessing
from cloakify.data.fitting import ImageFit
from cloakify.data.naming import shown
from cloakify.data.tokens import TOKENIZER
from cloakify.errors import ModelError, UsageError
from cloakify.experiment.model_settings.found import FoundSettings
from cloakify.experiment.model_settings.huggingface import FILE as PREPROCESSOR
from cloakify.experiment.model_settings.huggingface import read_preprocessor
from cloakify.experiment.model_settings.in_graph import read_graph
from cloakify.experiment.model_settings.json_file import Config
from cloakify.experiment.model_settings.onnx_metadata import read_own, read_pixels
from cloakify.experiment.model_settings.presets import preset
from cloakify.experiment.model_settings.timm_config import read_timm
from cloakify.graph.analysis.attack_point import AttackPoint
from cloakify.onnxfile import OnnxFile, class_names, parse_names
from cloakify.onnxfile.preprocessing_entry import PreprocessingEntry
from cloakify.settings import DataOptions
from cloakify.settings.forms import IMAGES, NUMBERS, PIXELS

CONFIG = "config.json"

# What an option may say instead; the size of images is one matter with three options.
_PIXELS = ("scale", "mean", "std", "channels")
_GEOMETRY = ("resize", "resize_to", "crop_pct")


@dataclass(frozen=True)
class InputSettings:
    """How samples become what a model takes.

    Attributes
    ----------
    preprocessing, fit
        What is done.
    source
        What said so, where it was no option; ``None`` where nothing did.
    """

    preprocessing: Preprocessing
    fit: ImageFit
    source: str | None

    @property
    def entry(self) -> PreprocessingEntry:
        """The same, as a hardened file says it."""
        done, fit = self.preprocessing, self.fit
        return PreprocessingEntry(
            scale=done.scale,
            mean=done.mean,
            std=done.std,
            resize=fit.resize,
            resize_to=fit.scaled,
            crop_pct=fit.crop_pct,
            interpolation=fit.interpolation,
            cut=fit.cut,
            fill=fit.fill,
            channels=fit.channels,
        )

    def is_as(self, other: InputSettings) -> bool:
        """Tell whether another model's inputs are made alike."""
        one, two = self.preprocessing, other.preprocessing
        channels = max(len(each) for each in (one.mean, one.std, two.mean, two.std))
        same = all(
            np.array_equal(a, b)
            for a, b in zip(one.box(channels=channels), two.box(channels=channels), strict=True)
        )
        return same and self.fit.does_as(other.fit)

    @property
    def numbers(self) -> str:
        """What becomes of values, whether or not they are an image's."""
        done = self.preprocessing
        return ", ".join(
            f"{name} {','.join(f'{value:.6g}' for value in values)}"
            for name, values in (("scale", (done.scale,)), ("mean", done.mean), ("std", done.std))
        )

    def told_of(self, forms: Collection[str]) -> str | None:
        """Say what is done to samples of some forms (`cloakify.settings.forms`).

        ``None`` of those that nothing of it is done to.
        """
        if IMAGES in forms:
            return str(self)
        if PIXELS in forms:
            return f"{self.numbers}; {self.fit.channels}"
        return self.numbers if NUMBERS in forms else None

    def __str__(self) -> str:
        fit = self.fit
        to = "" if fit.scaled is None else f" of {fit.scaled}"
        if fit.crop_pct is not None:
            to = f" at {fit.crop_pct:g}"
        return f"{self.numbers}; {fit.channels}; {fit.resize}{to}, {fit.interpolation}"


def input_settings(file: OnnxFile, point: AttackPoint, options: DataOptions) -> InputSettings:
    """Return how the inputs of a model are made.

    Raises
    ------
    ModelError
        What comes with the model can't be read, or makes images of another size than it takes.
    UsageError
        Pixels' numbers are given for token ids, or make pixels larger than the input can hold; or
        there is no such preset.
    """
    settings = FoundSettings("") if point.kind == "embedding" else _found(file, point, options)
    preprocessing = _preprocessing(point, options, settings)
    geometry: dict[str, object] = {
        name: getattr(settings, name) for name in _GEOMETRY if getattr(settings, name) is not None
    }
    given = {name: getattr(options, name) for name in _GEOMETRY}
    if any(value is not None for value in given.values()):
        # One of them says it all: a size without the way to it would be another size.
        geometry = {name: value for name, value in given.items() if value is not None}
    elif settings.size is not None:
        _check_size(file.path, point, settings)
    fit = ImageFit(
        resize=geometry.get("resize", "crop"),  # type: ignore[arg-type]
        scaled=geometry.get("resize_to"),  # type: ignore[arg-type]
        crop_pct=geometry.get("crop_pct"),  # type: ignore[arg-type]
        interpolation=options.interpolation or settings.interpolation or "bilinear",
        cut=settings.cut or "nearest",
        fill=settings.fill or (0,),
        channels=options.channels or settings.channels or "rgb",
    )
    return InputSettings(preprocessing, fit, settings.source or None)


def _told_names(file: OnnxFile, num_classes: int) -> tuple[str, ...] | None:
    """Return what a `config.json` beside the model calls its classes, or ``None``.

    `id2label` is transformers', `label_names` timm's.
    """
    for path in _beside(file.path, CONFIG):
        config = Config(path)
        for key in ("id2label", "label_names", "label2id"):
            if key in config:
                names = parse_names(repr(config.raw(key)))
                if names is not None and len(names) == num_classes:
                    return names
    return None


def names_of_classes(file: OnnxFile, num_classes: int) -> tuple[str, ...] | None:
    """Return what a model's classes are called, where a file beside it or it itself says so."""
    return _told_names(file, num_classes) or class_names(file.model, num_classes)


def find_tokenizer(file: OnnxFile) -> Path | None:
    """Return the `tokenizer.json` beside a model, or ``None``."""
    return next(_beside(file.path, TOKENIZER), None)


def _found(file: OnnxFile, point: AttackPoint, options: DataOptions) -> FoundSettings:
    if options.preset is not None:
        return preset(options.preset)
    return next(_sources(file, point), FoundSettings(""))


def _sources(file: OnnxFile, point: AttackPoint) -> Iterator[FoundSettings]:
    """Yield what says anything, in order of precedence."""
    for path in _beside(file.path, PREPROCESSOR):
        settings = read_preprocessor(path)
        if settings is not None:
            yield settings
    for path in _beside(file.path, CONFIG):
        settings = read_timm(Config(path), _image_size(point))
        if settings is not None:
            yield settings
    model: ModelProto = file.outline
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    for settings in (read_own(metadata), read_pixels(metadata)):
        if settings is not None:
            yield settings
    if point.kind == "input" and point.input.channel_axis is not None:
        settings = read_graph(model, point.tensor)
        if settings is not None:
            yield settings


def _beside(path: Path, name: str) -> Iterator[Path]:
    """Yield a file of that name in the model's folder; of `onnx/model.onnx` also in the one above.

    Not what a link points to: repositories link their files into a store without names.
    """
    folders = [path.parent]
    if path.parent.resolve().name == "onnx":
        folders.append(path.parent / "..")
    for folder in folders:
        file = folder / name
        if file.is_file():
            yield file


def _preprocessing(
    point: AttackPoint, options: DataOptions, settings: FoundSettings
) -> Preprocessing:
    said = Preprocessing(
        scale=1.0 if settings.scale is None else settings.scale,
        mean=settings.mean or (0.0,),
        std=settings.std or (1.0,),
    )
    given = Preprocessing.parse(options.scale or "1", options.mean or "0", options.std or "1")
    made = Preprocessing(
        scale=said.scale if options.scale is None else given.scale,
        mean=said.mean if options.mean is None else given.mean,
        std=said.std if options.std is None else given.std,
    )
    plain = made == Preprocessing()
    if point.kind == "embedding" and not plain:
        raise UsageError(
            f"--scale, --mean and --std are for pixels; input {point.input.name!r} takes ids"
        )
    if point.kind == "numbers" and point.input.dtype == np.uint8 and plain:
        return Preprocessing(scale=255.0)
    if point.kind == "numbers" and options.box is not None:
        _check_range(point, options.box, made)
    return made


def _check_range(point: AttackPoint, box: tuple[float, float], made: Preprocessing) -> None:
    """Raise UsageError where pixels become numbers that the input can't hold."""
    low, high = made.box(*box, channels=max(len(made.mean), len(made.std)))
    held = np.iinfo(str(point.input.dtype))
    if low.min() < held.min or high.max() > held.max:
        raise UsageError(
            f"--scale, --mean and --std make numbers from {low.min():g} to {high.max():g} of "
            f"pixels; input {point.input.name!r} ({point.input.dtype}) holds {held.min} to "
            f"{held.max}"
        )


def _check_size(path: Path, point: AttackPoint, settings: FoundSettings) -> None:
    """Raise ModelError where images are made of another size than the model takes."""
    assert settings.size is not None
    height, width = settings.size
    for have, want in zip(_image_size(point), settings.size, strict=True):
        if have is not None and have != want:
            raise ModelError(
                f"{shown(path)}: {settings.source} makes images {width}×{height}, which the model "
                "does not take: is it another model's? --resize says what to do instead"
            )


def _image_size(point: AttackPoint) -> tuple[int | None, int | None]:
    """Return the height and width that a model takes; ``None`` where it takes any."""
    shape, axis = point.input.sample_shape, point.input.channel_axis
    if axis is None or len(shape) != 3:
        return None, None
    height, width = shape[: axis - 1] + shape[axis:]
    return height, width
