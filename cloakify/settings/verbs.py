"""The options of each verb, by the settings and groups that declare them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cloakify.settings.files import (
    ConfigFile,
    CopiesFile,
    DataFile,
    HardenedFile,
    JsonOutput,
    LookedAtFor,
    ReportFiles,
    SamplesFile,
    SourceFile,
    Talk,
    Trust,
    UnlabelledFile,
)
from cloakify.settings.groups import DeviceOptions, ModelOptions
from cloakify.settings.option import Declaration, Group, declarations
from cloakify.settings.settings import AttackSetting, EvaluateSetting, HardenSetting, Settings

# In the order in which the command line asks for what is missing.
VERBS: dict[str, tuple[type[Settings | Group], ...]] = {
    "harden": (
        DataFile,
        UnlabelledFile,
        CopiesFile,
        HardenSetting,
        HardenedFile,
        ReportFiles,
        JsonOutput,
        Talk,
        Trust,
        ConfigFile,
    ),
    "evaluate": (
        DataFile,
        CopiesFile,
        EvaluateSetting,
        ReportFiles,
        JsonOutput,
        Talk,
        Trust,
        ConfigFile,
    ),
    "attack": (DataFile, AttackSetting, SamplesFile, JsonOutput, Talk, Trust, ConfigFile),
    "inspect": (ModelOptions, LookedAtFor, JsonOutput, Trust, ConfigFile),
    "verify": (SourceFile, DeviceOptions, JsonOutput, Trust, ConfigFile),
    "devices": (JsonOutput,),
}


def declared_in(kind: type[Any]) -> Iterator[tuple[Declaration, Any]]:
    """Yield the declarations of settings or of a group, each with its default there."""
    if issubclass(kind, Group):
        for declared in declarations(kind):
            yield declared, declared.default
    else:
        assert issubclass(kind, Settings)
        defaults = kind.defaults()
        for slot, declared in kind.options().values():
            yield declared, getattr(defaults[slot], declared.field)


def options_of(verb: str) -> Iterator[tuple[Declaration, Any]]:
    """Yield the declarations of a verb's options, each with the verb's default."""
    for kind in VERBS[verb]:
        yield from declared_in(kind)
