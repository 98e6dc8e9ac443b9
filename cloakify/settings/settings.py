"""What a user may set for each verb: groups of options, made from options' names or from groups."""

# ruff: noqa: RUF009 - the groups are frozen

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Self, cast

from msgspec.structs import replace

from cloakify.errors import UsageError
from cloakify.settings.data_options import DataOptions
from cloakify.settings.engine_options import EngineOptions
from cloakify.settings.groups import (
    DROP,
    AttackOptions,
    AttacksOptions,
    BudgetOptions,
    CalibrationOptions,
    ComparisonOptions,
    EvaluationOptions,
    MaskingOptions,
    ModelOptions,
    RunOptions,
    ThreatOptions,
    TuningOptions,
)
from cloakify.settings.option import Declaration, Group, declarations


@dataclass(frozen=True, init=False)
class Settings:
    """Groups of options.

    Made from options by their names (``eps=4 / 255, method="tuned"``), from whole groups
    (``ThreatOptions(eps=4 / 255)``), or from both; what is not given has its default.

    Raises
    ------
    UsageError
        There is no such option, a value is out of its range, or two contradict each other.
    """

    def __init__(self, *groups: Group, **options: Any) -> None:
        chosen = dict(self.defaults()) | {self._slot_of(group): group for group in groups}
        given: dict[str, dict[str, Any]] = {}
        for name, value in options.items():
            slot, declared = self._find(name)
            given.setdefault(slot, {})[declared.field] = value
        for slot, group in chosen.items():
            # Made anew where it is changed, and so checked.
            made = replace(group, **given[slot]) if slot in given else group
            object.__setattr__(self, slot, made)
        self._check()

    def replace(self, *groups: Group, **options: Any) -> Self:
        """Return the same with other values, which are given as to the constructor."""
        own = (getattr(self, slot) for slot in self.defaults())
        return type(self)(*own, *groups, **options)

    @classmethod
    def of(cls, given: object) -> Self:
        """Return settings that a caller gives, or the defaults for ``None``.

        Raises
        ------
        UsageError
            They are something else, or another verb's.
        """
        if given is None:
            return cls()
        if not isinstance(given, cls):
            raise UsageError(
                f"setting takes {cls.__name__}(…), made of options by their names, not "
                f"{type(given).__name__}"
            )
        return given

    @classmethod
    def defaults(cls) -> Mapping[str, Group]:
        """Return the groups as they are where nothing is given, by their fields."""
        return {field.name: cast(Group, field.default) for field in fields(cls)}

    @classmethod
    def options(cls) -> Mapping[str, tuple[str, Declaration]]:
        """Return every option by its name, with the field of its group."""
        return {
            declared.name: (slot, declared)
            for slot, group in cls.defaults().items()
            for declared in declarations(type(group))
        }

    def changed(self) -> Iterator[tuple[Declaration, Any]]:
        """Yield the options that have not the verb's default, with their values."""
        defaults = self.defaults()
        for slot, declared in self.options().values():
            value = getattr(getattr(self, slot), declared.field)
            if value != getattr(defaults[slot], declared.field):
                yield declared, value

    def _check(self) -> None:
        """Raise UsageError where options contradict each other."""

    @classmethod
    def _slot_of(cls, group: Group) -> str:
        for slot, default in cls.defaults().items():
            # An attack's options are those of a calibration, whose default is another one.
            own, given = type(default), type(group)
            if issubclass(own, given) and own.__struct_fields__ == given.__struct_fields__:
                return slot
        raise UsageError(f"{cls.__name__} has no {type(group).__name__}")

    @classmethod
    def _find(cls, name: str) -> tuple[str, Declaration]:
        known = cls.options()
        if name not in known:
            raise UsageError(f"{cls.__name__} has no option {name!r}{did_you_mean(name, known)}")
        return known[name]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at the name that is most like an unknown one; empty where none is."""
    known = list(known)
    # A short name that begins a long one is nearer than what shares as many letters with it.
    begun = [each for each in known if len(each) > 2 and name.startswith(each)]
    like = (begun or get_close_matches(name, known, n=1))[:1]
    return "".join(f"; did you mean {each!r}?" for each in like)


def check_shared(
    model: ModelOptions, data: DataOptions, run: RunOptions, engine: EngineOptions
) -> None:
    """Raise UsageError where options that verbs share contradict each other, or have no effect."""
    engine.check_together()
    if model.threshold is not None and model.task == "single":
        raise UsageError("--threshold is for a single logit or labels, not for --task single")
    if data.labels == "model" and data.accept_accuracy:
        raise UsageError(
            "--accept-accuracy is for labels that the data give: by --labels model clean accuracy "
            "is 100 %"
        )
    if run.tf32 and run.device in ("cpu", "openvino"):
        raise UsageError(f"--tf32 is for an NVIDIA GPU, not --device {run.device}")
    if engine.gpus_per_worker and run.device in ("cpu", "openvino"):
        raise UsageError(f"--gpus-per-worker has no use with --device {run.device}")
    if data.resize_to is not None and data.crop_pct is not None:
        raise UsageError("--resize-to and --crop-pct say the same thing: give one of them")
    for flag, value in (
        ("--resize-to", data.resize_to),
        ("--crop-pct", data.crop_pct),
        ("--interpolation", data.interpolation),
    ):
        if value is not None and data.resize == "refuse":
            raise UsageError(f"{flag} says how to resize, which --resize refuse does not")


def _check_time(evaluation: EvaluationOptions | ComparisonOptions, engine: EngineOptions) -> None:
    if evaluation.time_budget is not None and engine.resume is not None:
        raise UsageError(
            "--time-budget looks anew how much fits, and --resume goes on with what was begun: "
            "give one of them"
        )


@dataclass(frozen=True, init=False)
class Setting(Settings):
    """How to read a model and its data, what an attacker may do, and where to run."""

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    threat: ThreatOptions = ThreatOptions()
    run: RunOptions = RunOptions()
    engine: EngineOptions = EngineOptions()

    def _check(self) -> None:
        """Raise UsageError where options contradict each other."""
        check_shared(self.model, self.data, self.run, self.engine)


@dataclass(frozen=True, init=False)
class AttackSetting(Setting):
    """How to attack."""

    attack: AttackOptions = AttackOptions()


@dataclass(frozen=True, init=False)
class HardenSetting(AttackSetting):
    """How to harden; the attack is that of the calibration."""

    attack: CalibrationOptions = CalibrationOptions()
    masking: MaskingOptions = MaskingOptions()
    tuning: TuningOptions = TuningOptions()
    evaluation: EvaluationOptions = EvaluationOptions()

    def _check(self) -> None:
        """Raise UsageError for options that the method has no use for, or that contradict."""
        super()._check()
        _check_time(self.evaluation, self.engine)
        if self.tuning.gates == "position" and self.tuning.emit == "fold":
            raise UsageError("--gates position can't be folded into weights; use --emit mul")
        if self.masking.rounds not in (None, 1) and self.masking.score != "auto":
            raise UsageError(f"--rounds is for --score auto, not {self.masking.score}")
        if self.masking.ratio is not None and self.masking.max_accuracy_drop != DROP:
            raise UsageError("--max-accuracy-drop chooses a mask's size, which --mask-ratio gives")
        if self.masking.ratio is not None and self.evaluation.write_anyway:
            raise UsageError(
                "--write-anyway is for a mask that cloakify chooses: that of --mask-ratio is "
                "written whatever its verdict"
            )
        if self.evaluation.report_limit is not None and self.evaluation.precision is not None:
            raise UsageError(
                "--precision says on how many samples to report, which --report-limit gives"
            )
        method = self.masking.method
        if method == "tuned" and self.engine.shard is not None:
            raise UsageError(
                "--shard deals out samples, but --method tuned goes on step by step: give --resume "
                "alone"
            )
        for declared, _ in self.changed():
            only = declared.option.method
            if only and only != method:
                raise UsageError(f"{declared.flag} is for --method {only}, not {method}")


@dataclass(frozen=True, init=False)
class EvaluateSetting(Settings):
    """How to evaluate."""

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    attack: AttacksOptions = AttacksOptions()
    threat: BudgetOptions = BudgetOptions()
    evaluation: ComparisonOptions = ComparisonOptions()
    run: RunOptions = RunOptions()
    engine: EngineOptions = EngineOptions()

    def _check(self) -> None:
        """Raise UsageError where options contradict each other."""
        check_shared(self.model, self.data, self.run, self.engine)
        _check_time(self.evaluation, self.engine)

    def at(self, eps: float) -> Setting:
        """Return what all verbs share, with one budget."""
        threat = ThreatOptions(norm=self.threat.norm, eps=eps)
        return Setting(self.model, self.data, threat, self.run, self.engine)
