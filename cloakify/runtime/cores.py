"""How many cores the process may use: by its affinity, and by the quota of its control group.

A container's quota of CPU time does not show in the number of cores, and threads beyond it only
wait for each other (Linux's documentation: admin-guide/cgroup-v2 "cpu.max", and
scheduler/sched-bwc for version 1).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

PROCESS = Path("/proc/self")


def available_cores(process: Path = PROCESS) -> int:
    """Return how many cores the process may use, at least one.

    A quota of a part of a core counts as that core.

    Parameters
    ----------
    process
        Where Linux tells of the process.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas(process))]))


def _quotas(process: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the process's control groups and of those around them."""
    try:
        groups = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except (OSError, ValueError):
        # Not on Linux, or not told.
        return
    for line in groups:
        # proc(5): number:controllers:path; of version 2, 0::path.
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        second = number == "0"
        if second or "cpu" in controllers.split(","):
            for folder in _folders(mounts, path, "cgroup2" if second else "cgroup"):
                quota = _read_max(folder) if second else _read_quota(folder)
                if quota is not None and quota > 0:
                    yield quota


def _folders(mounts: list[str], path: str, kind: str) -> Iterator[Path]:
    """Yield the folders of a control group and of those around it, as far as they are mounted."""
    for mount in mounts:
        # proc(5): … root mount-point options … - type source super-options
        before, _, after = mount.partition(" - ")
        fields, described = before.split(), after.split()
        if len(fields) < 5 or len(described) < 3 or described[0] != kind:
            continue
        if kind == "cgroup" and "cpu" not in described[2].split(","):
            continue
        root, top = fields[3].rstrip("/"), Path(fields[4])
        inside = path.removeprefix(root).strip("/") if path.startswith(root) else ""
        folder = top / inside
        yield folder
        if folder != top:
            yield from folder.parents[: len(folder.parts) - len(top.parts)]


def _read_max(folder: Path) -> float | None:
    """Read version 2's ``quota period``, or ``max period``."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read_quota(folder: Path) -> float | None:
    """Read version 1's quota, -1 for none, and period."""
    try:
        quota, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
        )
        return quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
