"""The options that say how to read data, and how to make of it what the model takes."""

from __future__ import annotations

import codecs
from typing import Annotated, ClassVar, Literal

from cloakify.errors import UsageError
from cloakify.settings.forms import COLOURS, IMAGES, NUMBERS, PIXELS, TEXT_FILES
from cloakify.settings.option import Group, Option
from cloakify.settings.option_types import Count, Flag, Interval, Positive, Text
from cloakify.settings.urls import url_of

# What is taken where an option of the preprocessing is left out.
COMES = "as comes with the model"

# What pixels' numbers are said of: of arrays as the model takes them they scale the budget.
_SCALED = (IMAGES, PIXELS, NUMBERS)


class DataOptions(Group, frozen=True, kw_only=True):
    """How to read the data; the model takes ``(pixel·scale − mean)/std``, pixels in [0, 1]."""

    heading: ClassVar[str] = "Data and preprocessing"

    labels: Annotated[
        Text,
        Option(
            "Take the labels of the data, the source model's own answers, those in a file, or "
            "those in a column or array of the data.",
            metavar="given|model|FILE|COLUMN",
            may_name_file=True,
        ),
    ] = "given"
    classes: Annotated[
        Text | None,
        Option(
            "Names of the data's classes in the order of the model's, or a file with them; 1..N "
            "where labels count from 1.",
            metavar="FILE|a,b,c|1..N",
            may_name_file=True,
            unset="as the model tells, or sorted",
        ),
    ] = None
    encoding: Annotated[
        Text | None,
        Option(
            "Encoding of tables, lists of labels and of classes that have no byte order mark: "
            "cp1252, latin-1, utf-16-le, shift_jis, or another one that Python knows.",
            metavar="NAME",
            unset="UTF-8",
            of=(TEXT_FILES,),
        ),
    ] = None
    accept_accuracy: Annotated[
        Flag,
        Option("Go on where clean accuracy is low, or speaks for another order of the classes."),
    ] = False
    limit: Annotated[Count | None, Option("Use at most this many samples.", unset="all")] = None
    preset: Annotated[
        Text | None,
        Option(
            "Preprocess as this says: imagenet, keras, tf, caffe, or the name of torchvision's "
            "weights.",
            metavar="NAME",
            unset="as files beside the model or its metadata say",
            of=_SCALED,
        ),
    ] = None
    scale: Annotated[
        Text | None,
        Option(
            "Multiply pixels in [0, 1] by this first.", metavar="NUMBER", unset=COMES, of=_SCALED
        ),
    ] = None
    mean: Annotated[
        Text | None,
        Option(
            "Then subtract this: one number, or one for each channel.",
            metavar="NUMBER,…",
            unset=COMES,
            of=_SCALED,
        ),
    ] = None
    std: Annotated[
        Text | None,
        Option(
            "Then divide by this: one number, or one for each channel.",
            metavar="NUMBER,…",
            unset=COMES,
            of=_SCALED,
        ),
    ] = None
    box: Annotated[
        Interval | None,
        Option("Range of valid data, which attacks keep to.", none="none", of=_SCALED),
    ] = (0.0, 1.0)
    resize: Annotated[
        Literal["crop", "stretch", "pad", "refuse"] | None,
        Option(
            "Of images that are not of the model's size: scale the shorter side and cut out the "
            "centre, scale both sides, scale the longer side and fill up, or stop.",
            unset=COMES,
            of=(IMAGES,),
        ),
    ] = None
    resize_to: Annotated[
        Count | None,
        Option(
            "Scale images to this before the model's size is cut out.", unset=COMES, of=(IMAGES,)
        ),
    ] = None
    crop_pct: Annotated[
        Positive | None,
        Option("The model's size over that which images are scaled to.", unset=COMES, of=(IMAGES,)),
    ] = None
    interpolation: Annotated[
        Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] | None,
        Option("Pillow's filter for resizing.", unset=COMES, of=(IMAGES,)),
    ] = None
    channels: Annotated[
        Literal["rgb", "bgr"] | None,
        Option("Order in which the model takes colours.", unset=COMES, of=(COLOURS,)),
    ] = None

    @property
    def read(self) -> tuple[str, ...]:
        """Values that may be names of files, which are read then."""
        labels = None if self.labels in ("given", "model") else self.labels
        return tuple(value for value in (self.classes, labels) if value is not None)

    def __post_init__(self) -> None:
        """Check the values, and that the box has an inside."""
        super().__post_init__()
        if not self.labels:
            raise UsageError("--labels takes given, model, a file or a column, not ''")
        if self.encoding is not None and not _is_encoding(self.encoding):
            raise UsageError(
                f"--encoding takes the name of an encoding of text (cp1252, utf-16-le), not "
                f"{self.encoding!r}"
            )
        for option, value in (("--labels", self.labels), ("--classes", self.classes)):
            if url_of(value) is not None:
                raise UsageError(
                    f"{option} takes a file on this machine, and no URL: download it first"
                )
        if self.box is not None and not self.box[0] < self.box[1]:
            low, high = self.box
            raise UsageError(f"--box takes the lower number first, not {low:g},{high:g}")


def _is_encoding(name: str) -> bool:
    """Tell whether Python knows an encoding of text by that name."""
    try:
        codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError):
        # The second is of names that are none, and of the encoding "undefined".
        return False
    return True
