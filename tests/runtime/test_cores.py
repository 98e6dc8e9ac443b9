"""How many cores: never more than a container's quota of CPU time lets run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloakify.runtime import Device, Session, Workers
from cloakify.runtime.cores import available_cores
from tests.support.classifiers import mlp_classifier

MOUNT = "31 23 0:28 {root} {top} rw,relatime - {kind} {kind} rw{options}\n"


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a system tells of a process; 16 cores are its own."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc"


def second(process: Path, path: str, quotas: dict[str, str], root: str = "/") -> None:
    """Write a hierarchy of version 2."""
    top = process.parent / "unified"
    for folder, quota in quotas.items():
        (top / folder).mkdir(parents=True, exist_ok=True)
        (top / folder / "cpu.max").write_text(quota)
    (process / "cgroup").write_text(f"1:name=systemd:/\n0::{path}\n")
    (process / "mountinfo").write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        + MOUNT.format(root=root, top=top, kind="cgroup2", options="")
    )


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"": "max 100000\n"}, 16),
        ({"": "200000 100000\n"}, 2),
        ({"": "150000 100000\n"}, 2),
        ({"": "10000 100000\n"}, 1),
        ({"": "6400000 100000\n"}, 16),
        ({"pod/one": "max 100000\n", "pod": "300000 100000\n"}, 3),
        ({"pod/one": "100000 50000\n", "pod": "300000 100000\n"}, 2),
        ({"pod/two": "100000 100000\n"}, 16),
        ({"": "a lot"}, 16),
        ({"": "100000 0"}, 16),
        ({}, 16),
    ],
)
def test_version_2(process: Path, quotas: dict[str, str], cores: int) -> None:
    second(process, "/pod/one", quotas)
    assert available_cores(process) == cores


@pytest.mark.parametrize("path", ["/", "/docker/abc", "/docker/abc/inner", "/../host"])
def test_a_container_sees_its_own_part_of_the_tree(process: Path, path: str) -> None:
    root = "/docker/abc" if path.startswith("/docker") else "/"
    second(process, path, {"": "200000 100000"}, root)
    assert available_cores(process) == 2


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("-1", "100000", 16), ("250000", "100000", 3), ("50000", "100000", 1), ("x", "", 16)],
)
@pytest.mark.parametrize("options", [",cpu,cpuacct", ",cpu"])
def test_version_1(process: Path, quota: str, period: str, cores: int, options: str) -> None:
    top = process.parent / "cpu"
    (top / "docker" / "abc").mkdir(parents=True)
    (top / "docker" / "abc" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (top / "docker" / "abc" / "cpu.cfs_period_us").write_text(f"{period}\n")
    (process / "cgroup").write_text(
        f"4:memory:/docker/abc\n2:{options.strip(',')}:/docker/abc\n0::/\n"
    )
    (process / "mountinfo").write_text(
        MOUNT.format(root="/", top=process.parent / "no", kind="cgroup", options=",memory")
        + MOUNT.format(root="/", top=top, kind="cgroup", options=options)
    )
    assert available_cores(process) == cores


def test_systems_that_tell_nothing(process: Path) -> None:
    assert available_cores(process) == 16
    for text in ("", "\n", "0::/\n", "12 34 - cgroup2\n", "\0 - - -\n"):
        (process / "cgroup").write_text("0::/a\n1:cpu:/b\nodd\n0\n")
        (process / "mountinfo").write_text(text)
        assert available_cores(process) == 16


def test_what_the_user_says_holds_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloakify.runtime.devices.available_cores", lambda: 5)
    assert Device("cpu").cores == Device("cuda").host.cores == 5
    few = Device("cuda", threads=3)
    assert few.host.cores == 3 and few.host.kind == "cpu"
    assert Workers(few.host).count == 3 and Workers(Device("cpu")).count == 5
    session = Session(mlp_classifier(0, 8, 3), few.host)
    assert session._session.get_session_options().intra_op_num_threads == 3
