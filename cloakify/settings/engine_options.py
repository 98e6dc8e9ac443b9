"""The options that say who does the work, and where what is done is kept."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from cloakify.errors import UsageError
from cloakify.settings.option import Group, Option
from cloakify.settings.option_types import Count, File, Text

Part = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,5}/[1-9][0-9]{0,5}$",
        title="I/N",
        description="one of how many parts (2/8)",
    ),
]
Amount = Annotated[
    float, Meta(ge=0, title="NUMBER", description="a decimal or a fraction from 0 on (1/2)")
]

FITTING = "as fits what there is"


class EngineOptions(Group, frozen=True, kw_only=True):
    """Who does the work; nothing of what comes out depends on it."""

    heading: ClassVar[str] = "Spreading and resuming"

    engine: Annotated[
        Literal["local", "ray"],
        Option(
            "Work in this process, or in workers of a Ray cluster (cloakify[ray]).",
            command_only=True,
            aside=True,
        ),
    ] = "local"
    ray_address: Annotated[
        Text | None,
        Option(
            "The Ray cluster to work in.",
            metavar="auto|HOST:PORT",
            unset="one of its own on this machine",
            command_only=True,
            aside=True,
        ),
    ] = None
    workers: Annotated[
        Count | None,
        Option(
            "How many workers of the cluster to use.", unset=FITTING, command_only=True, aside=True
        ),
    ] = None
    cpus_per_worker: Annotated[
        Count | None,
        Option("Cores that each worker uses.", unset=FITTING, command_only=True, aside=True),
    ] = None
    gpus_per_worker: Annotated[
        Amount | None,
        Option(
            "GPUs that each worker has, or a part of one.",
            unset="1 where there are any",
            command_only=True,
            aside=True,
        ),
    ] = None
    resume: Annotated[
        File | None,
        Option(
            "Keep what is done in this folder, and go on from what is there already.",
            metavar="DIR",
            command_only=True,
            aside=True,
        ),
    ] = None
    shard: Annotated[
        Part | None,
        Option(
            "Do only this part of the work, keep it in the folder that --resume names, and stop; "
            "the same command without --shard finds it done.",
            command_only=True,
            aside=True,
        ),
    ] = None

    @property
    def part(self) -> tuple[int, int]:
        """Which part of the work to do, from 0 on, and of how many.

        Raises
        ------
        UsageError
            There is no such part.
        """
        number, _, count = (self.shard or "1/1").partition("/")
        if int(number) > int(count):
            raise UsageError(f"--shard takes one of {count} parts, not part {number}")
        return int(number) - 1, int(count)

    @property
    def alone(self) -> bool:
        """Whether the outputs are this run's: one that does a part stops before it writes any."""
        return self.shard is None

    def check_together(self) -> None:
        """Raise UsageError where one of them has no use without another."""
        if self.shard is not None and self.resume is None:
            raise UsageError("--shard keeps its part in a folder that all share: give --resume DIR")
        for flag, value in (
            ("--ray-address", self.ray_address),
            ("--workers", self.workers),
            ("--cpus-per-worker", self.cpus_per_worker),
            ("--gpus-per-worker", self.gpus_per_worker),
        ):
            if value is not None and self.engine != "ray":
                raise UsageError(f"{flag} is for --engine ray")
        _ = self.part
