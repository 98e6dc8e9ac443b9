"""The options that name files, and say how the command line answers: it alone has them.

From Python, files are arguments of the functions.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from cloakify.settings.data_options import DataOptions
from cloakify.settings.option import Group, Option
from cloakify.settings.option_types import File, Files, Flag, Text


class DataFile(Group, frozen=True, kw_only=True):
    """The samples."""

    heading: ClassVar[str] = DataOptions.heading

    data: Annotated[
        File,
        Option(
            "Class folders of images, a Hugging Face data set, or a .npz, .npy, .csv, .jsonl, "
            ".zip, .tar, .parquet, .arrow or IDX file; a pattern of files, in quotes; a URL of any "
            "of these (s3://, gs://, hf://, https://), which is fetched; or script.py:function, "
            "which is run and yields (x, y).",
            samples=True,
        ),
    ]


class CopiesFile(Group, frozen=True, kw_only=True):
    """Attacked copies of the samples, made elsewhere."""

    heading: ClassVar[str] = DataOptions.heading

    attacked: Annotated[
        File | None,
        Option(
            "Use these attacked copies of the data, paired by name, index or order.", samples=True
        ),
    ] = None


class UnlabelledFile(Group, frozen=True, kw_only=True):
    """Samples to tune on besides."""

    heading: ClassVar[str] = DataOptions.heading

    unlabelled: Annotated[
        File | None,
        Option(
            "Tune on these samples as well, of which no labels are read; of any form that --data "
            "takes. Nothing is chosen or reported on them.",
            samples=True,
            method="tuned",
        ),
    ] = None


class SourceFile(Group, frozen=True, kw_only=True):
    """The model that another one is compared with."""

    heading: ClassVar[str] = "Model"

    against: Annotated[
        File, Option("The source model that HARDENED was made from.", metavar="SOURCE")
    ]


class HardenedFile(Group, frozen=True, kw_only=True):
    """Where the hardened model goes."""

    heading: ClassVar[str] = "Output"

    output: Annotated[
        File | None,
        Option(
            "Write the hardened model here.",
            also=("-o",),
            metavar="FILE.onnx",
            written=(".onnx",),
            unset="<stem>.hardened.onnx beside MODEL",
        ),
    ] = None


class SamplesFile(Group, frozen=True, kw_only=True):
    """Where attacked samples go."""

    heading: ClassVar[str] = "Output"

    output: Annotated[
        File,
        Option(
            "Write arrays x (as the model takes it), y and index here.",
            also=("-o",),
            metavar="ADV.npz",
            written=(".npz",),
        ),
    ]


class ReportFiles(Group, frozen=True, kw_only=True):
    """Where reports go."""

    heading: ClassVar[str] = "Output"

    report: Annotated[
        Files,
        Option(
            "Write the report here, as JSON, HTML, Markdown or a CycloneDX ML-BOM; may be given "
            "more than once.",
            metavar="FILE.{json,html,md,cdx.json}",
            written=(".json", ".html", ".md"),
        ),
    ] = ()


class LookedAtFor(Group, frozen=True, kw_only=True):
    """Where a model is to run that is only looked at."""

    heading: ClassVar[str] = "Running"

    device: Annotated[
        Text,
        Option(
            "With cuda, show which operators of the model and of attacks on it would run on the "
            "CPU there; no GPU is needed.",
            metavar="auto|cpu|cuda[:N]",
        ),
    ] = "auto"


class JsonOutput(Group, frozen=True, kw_only=True):
    """What standard output holds."""

    heading: ClassVar[str] = "Output"

    json: Annotated[Flag, Option("Print one JSON document and nothing else.")] = False


class Talk(Group, frozen=True, kw_only=True):
    """What is said on standard error."""

    heading: ClassVar[str] = "Output"

    quiet: Annotated[Flag, Option("Show no progress and make no remarks.")] = False


class Trust(Group, frozen=True, kw_only=True):
    """Who made the model."""

    heading: ClassVar[str] = "Model"

    trust: Annotated[
        Flag,
        Option(
            "Take the model for harmless: work without limits on memory and time, and in one "
            "process.",
            command_only=True,
        ),
    ] = False


class ConfigFile(Group, frozen=True, kw_only=True):
    """Where options come from that the command line does not give."""

    heading: ClassVar[str] = "Options from files"

    config: Annotated[
        File | None,
        Option(
            "Read options from this file; none reads no file.",
            metavar="FILE|none",
            unset="cloakify.toml beside MODEL, where there is one",
            command_only=True,
        ),
    ] = None
    init_config: Annotated[
        Flag,
        Option(
            "Write cloakify.toml, or what --config names, with the options given here and all "
            "others as comments, and run nothing.",
            command_only=True,
        ),
    ] = False
