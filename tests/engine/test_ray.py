"""Workers of a Ray cluster make the same as this process does, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloakify.data import Batch
from cloakify.engine.local import LocalEngine
from cloakify.engine.ray_cluster import (
    Node,
    RayCluster,
    Share,
    check_reached,
    make_token,
    share_out,
)
from cloakify.engine.ray_engine import AHEAD, RETRIES, RayEngine
from cloakify.engine.task import Arrays, Job, Task, Tell
from cloakify.errors import CloakifyError, DataError, DeviceError
from cloakify.numeric.arrays import in_chunks
from cloakify.settings import EngineOptions
from tests.engine.counting import Numbers, Squares, expected, squares

COUNT, SIZE, WORKERS = 23, 4, 2


@dataclass
class Opening:
    """Opens numbers, shifted or not, or fails to."""

    shift: float = 0.0
    error: str = ""
    files: list[Path] = field(default_factory=list)

    def open(self, places: Mapping[Path, Path], threads: int) -> Numbers:
        for path in self.files:
            assert places.get(path, path).read_bytes() == b"content"
        if self.error:
            raise DataError(self.error)
        return Numbers(self.shift)


@dataclass(frozen=True)
class Troubled(Task[Numbers]):
    """Squares; what comes to harm in each chunk's first tries is told by files in a folder."""

    folder: Path
    harm: str
    chunk: int = 2
    tries: int = 1
    name = "troubled"

    def run(self, subject: Numbers, batch: Batch, tell: Tell) -> Arrays:
        number = int(batch.index[0]) // SIZE
        (self.folder / f"{number}-{os.getpid()}-{os.urandom(4).hex()}").touch()
        tried = len(list(self.folder.glob(f"{number}-*")))
        if number == self.chunk and tried <= self.tries:
            if self.harm == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.harm == "memory":
                raise MemoryError("no more of it")
            if self.harm == "refused":
                raise CloakifyError("the sample is none")
        return {"squares": batch.x**2}


@contextmanager
def engine_of(cluster: RayCluster, recipe: Opening | None = None) -> Iterator[RayEngine[Numbers]]:
    engine = RayEngine(cluster, Numbers(), recipe or Opening())
    try:
        yield engine
    finally:
        engine.close()


def joined(engine: RayEngine[Numbers], job: Job[Numbers]) -> np.ndarray:
    told: list[int] = []
    made = [part["squares"] for part in engine.map(job, told.append)]
    assert sum(told) == COUNT
    return np.concatenate(made)


def test_what_comes_out_is_in_order_and_jobs_may_begin_together(cluster: RayCluster) -> None:
    with engine_of(cluster) as engine:
        jobs = [squares(COUNT, size, plus) for size, plus in ((1, 0.0), (SIZE, 0.5), (50, 1.0))]
        engine.begin(jobs)
        for job, plus in zip(jobs, (0.0, 0.5, 1.0), strict=True):
            np.testing.assert_array_equal(joined(engine, job), expected(COUNT, plus))
        np.testing.assert_array_equal(joined(engine, squares(COUNT, 3)), expected(COUNT))
        assert len(engine.kinds) in (1, 2) and engine.seconds > 0 and not engine.again


class Endless(Sequence[np.ndarray]):
    """A thousand million chunks, each made when it is asked for."""

    def __init__(self) -> None:
        self.last = 0

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        self.last = max(self.last, place)
        return np.arange(SIZE * place, SIZE * (place + 1))


@pytest.mark.parametrize("where", ["here", "there"])
def test_of_a_job_only_what_is_under_way_is_held(cluster: RayCluster, where: str) -> None:
    job = Job(Squares(), Endless())
    with engine_of(cluster) as there:
        engine = there if where == "there" else LocalEngine(Numbers())
        some = list(islice(engine.map(job, lambda amount: None), 40))
        np.testing.assert_array_equal(
            np.concatenate([part["squares"] for part in some]), expected(40 * SIZE)
        )
        assert job.chunks.last <= 40 + (AHEAD + 1) * WORKERS + 2
        # What nobody asks for any more is not done.
        np.testing.assert_array_equal(joined(there, squares(COUNT, SIZE)), expected(COUNT))
        assert job.chunks.last <= 40 + (AHEAD + 1) * WORKERS + 2


def test_what_is_forgotten_is_not_done(cluster: RayCluster, tmp_path: Path) -> None:
    with engine_of(cluster) as engine:
        jobs = [Job(Troubled(tmp_path, "none"), [np.arange(SIZE)]) for _ in range(20)]
        engine.begin(jobs)
        engine.forget(jobs)
        np.testing.assert_array_equal(joined(engine, squares(COUNT, SIZE)), expected(COUNT))
        engine.begin(jobs)
        np.testing.assert_array_equal(joined(engine, squares(COUNT, SIZE)), expected(COUNT))
        assert len(list(tmp_path.glob("0-*"))) == len(jobs)
        engine.forget(jobs)
        assert not engine.again


@pytest.mark.parametrize("harm", ["killed", "memory"])
def test_what_a_worker_fails_at_another_one_does(
    cluster: RayCluster, tmp_path: Path, harm: str
) -> None:
    with engine_of(cluster) as engine:
        job = Job(Troubled(tmp_path, harm), in_chunks(np.arange(COUNT), SIZE))
        np.testing.assert_array_equal(joined(engine, job), expected(COUNT))
        assert engine.again == 1
    tried = [path.name.split("-")[:2] for path in tmp_path.iterdir()]
    # Nothing else was done twice, and what was, by another process.
    assert len(tried) == len(job.chunks) + 1
    assert len({process for number, process in tried if number == "2"}) == 2


def test_what_fails_everywhere_is_named_in_one_line(cluster: RayCluster, tmp_path: Path) -> None:
    with engine_of(cluster) as engine:
        task = Troubled(tmp_path, "memory", tries=99)
        job = Job(task, in_chunks(np.arange(COUNT), SIZE))
        wanted = r"chunk 3 of 6 \(troubled\) failed 4 times, at last: MemoryError: no more of it"
        with pytest.raises(DeviceError, match=wanted) as caught:
            joined(engine, job)
        assert len(str(caught.value).splitlines()) == 1
    assert len(list(tmp_path.glob("2-*"))) == 1 + RETRIES


@dataclass(frozen=True)
class Sleeping(Task[Numbers]):
    """Says that half is done, and takes a while for the other half."""

    name = "sleeping"

    def run(self, subject: Numbers, batch: Batch, tell: Tell) -> Arrays:
        tell(2)
        time.sleep(6)
        return {}


@pytest.mark.slow
def test_progress_is_told_within_a_chunk(cluster: RayCluster) -> None:
    with engine_of(cluster) as engine:
        told: list[tuple[int, float]] = []
        job = Job(Sleeping(), [np.arange(4)])
        list(engine.map(job, lambda amount: told.append((amount, time.monotonic()))))
    (first, early), (second, late) = [each for each in told if each[0]]
    assert first == second == 2 and late - early > 1


def test_what_is_refused_is_refused_at_once(cluster: RayCluster, tmp_path: Path) -> None:
    with engine_of(cluster) as engine:
        job = Job(Troubled(tmp_path, "refused", tries=99), in_chunks(np.arange(COUNT), SIZE))
        with pytest.raises(CloakifyError, match="the sample is none"):
            joined(engine, job)
    assert len(list(tmp_path.glob("2-*"))) == 1


@pytest.mark.parametrize("change", ["gone", "another"])
def test_files_are_sent_where_they_are_missing(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"content")
    monkeypatch.setattr(cluster, "is_remote", True)
    with engine_of(cluster, Opening(files=[path])) as engine:
        # Before a worker has begun to look.
        path.unlink() if change == "gone" else path.write_bytes(b"other")
        np.testing.assert_array_equal(joined(engine, squares(COUNT, SIZE)), expected(COUNT))


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        # Bound, and not listening yet.
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "no-such-host.invalid:1"):
            with pytest.raises(DeviceError, match=f"no Ray cluster can be had at {address} "):
                check_reached(address)
        listening.listen()
        check_reached(f"127.0.0.1:{port}")
    for other in ("auto", "local", "anyscale://cluster"):
        check_reached(other)


def test_other_samples_than_here_are_refused(cluster: RayCluster) -> None:
    with (
        engine_of(cluster, Opening(shift=1.0)) as engine,
        pytest.raises(DataError, match="holds other samples than where the run was started"),
    ):
        joined(engine, squares(COUNT, SIZE))


def test_what_can_not_be_opened_there_is_told(cluster: RayCluster) -> None:
    with (
        engine_of(cluster, Opening(error="no such folder on this node")) as engine,
        pytest.raises(DataError, match="no such folder on this node"),
    ):
        joined(engine, squares(COUNT, SIZE))


@pytest.mark.parametrize(
    ("nodes", "options", "share"),
    [
        ([(2, 0)], {}, (1, 2, 0)),
        ([(8, 0), (4, 0)], {}, (3, 4, 0)),
        ([(8, 0)], {"workers": 4}, (4, 2, 0)),
        ([(2, 0)], {"workers": 4}, (4, 1, 0)),
        ([(8, 0)], {"cpus_per_worker": 3}, (2, 3, 0)),
        ([(8, 0), (16, 4)], {}, (4, 4, 1)),
        ([(16, 4)], {"gpus_per_worker": 0.5}, (8, 2, 0.5)),
        ([(16, 4)], {"gpus_per_worker": 0.0}, (1, 16, 0)),
    ],
)
def test_workers_fit_what_there_is(
    nodes: list[tuple[int, int]], options: dict[str, object], share: tuple[int, int, float]
) -> None:
    given = EngineOptions(engine="ray", **options)
    found = share_out([Node(*node) for node in nodes], given, gpus_wanted=True)
    assert found == Share(*share)


def test_workers_that_fit_nowhere_are_refused() -> None:
    options = EngineOptions(engine="ray", cpus_per_worker=3)
    with pytest.raises(DeviceError, match="no node of the Ray cluster has 3 cores for a worker"):
        share_out([Node(2, 0), Node(2, 0)], options, gpus_wanted=False)
    options = EngineOptions(engine="ray", gpus_per_worker=1)
    with pytest.raises(DeviceError, match="1 core and 1 GPU"):
        share_out([Node(2, 0)], options, gpus_wanted=True)


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(DeviceError, match=r"pip install 'cloakify\[ray\]'") as caught:
        RayCluster(EngineOptions(engine="ray"), gpus_wanted=False)
    assert caught.value.exit_code == 5 and len(str(caught.value).splitlines()) == 1


def test_nothing_is_sent_anywhere(cluster: RayCluster) -> None:
    """Ray's usage statistics are off here and in its workers."""
    seen = cluster.ray.remote(lambda: os.environ.get("RAY_USAGE_STATS_ENABLED")).remote()
    assert cluster.ray.get(seen) == os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_token_is_made_before_ray_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    make_token()
    # Once Ray is there, another one would not be known to it.
    assert ("ray" in sys.modules) == (names[0] not in os.environ)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    make_token()
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) >= 32
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    make_token()
    assert os.environ["RAY_AUTH_TOKEN"] == "given"
