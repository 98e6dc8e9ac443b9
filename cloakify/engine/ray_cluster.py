"""A Ray cluster to work in: one of its own on this machine, or one that is there already.

Ray is imported here and where its workers are called, once somebody asks for it.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloakify.engine import ray_watch
from cloakify.errors import DeviceError
from cloakify.runtime.cores import available_cores
from cloakify.settings import EngineOptions
from cloakify.temporary import own_folder, remove_folder

# A Ray of its own on this machine is reached from this machine alone, and says nothing.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # As this process is, not behind all else on a machine that is busy.
    "RAY_worker_niceness": "0",
}


_HOST_AND_PORT = re.compile(r"(?:ray://)?\[?(?P<host>[^\[\]/]+?)\]?:(?P<port>\d{1,9})")

# Seconds to wait for an answer at an address.
PATIENCE = 20.0


@dataclass(frozen=True)
class Node:
    """What a node of a cluster offers."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Share:
    """What each worker gets, and how many of them there are to be."""

    workers: int
    cpus: int
    gpus: float


def share_out(nodes: Sequence[Node], options: EngineOptions, *, gpus_wanted: bool) -> Share:
    """Return how to divide a cluster among workers.

    Left to itself, that is a worker for each GPU, with its share of the node's cores, or else one
    for each node.

    Raises
    ------
    DeviceError
        No node can hold a worker.
    """
    cpus_there, gpus_there = sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)
    gpus = options.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if gpus_wanted and gpus_there >= 1 else 0.0
    usable = [node for node in nodes if node.cpus >= 1 and node.gpus >= gpus]
    cpus = options.cpus_per_worker
    if cpus is None and usable:
        fitting = min(node.cpus if not gpus else node.cpus * gpus / node.gpus for node in usable)
        if options.workers is not None:
            fitting = min(max(node.cpus for node in usable), cpus_there / options.workers)
        cpus = max(1, int(fitting))
    cpus = cpus or 1
    room = sum(_room(node, cpus, gpus) for node in usable)
    if not room:
        wanted = f"{cpus} core{'s' * (cpus != 1)}" + f" and {gpus:g} GPU" * bool(gpus)
        most = max((node.cpus for node in nodes), default=0)
        raise DeviceError(
            f"no node of the Ray cluster has {wanted} for a worker (of {len(nodes)} the largest "
            f"has {most:g} cores, and there are {gpus_there:g} GPUs); lower --cpus-per-worker or "
            "--gpus-per-worker"
        )
    return Share(options.workers or room, cpus, gpus)


def _room(node: Node, cpus: int, gpus: float) -> int:
    """Return how many workers fit on a node."""
    room = int(node.cpus // cpus)
    return min(room, int(node.gpus / gpus + 1e-9)) if gpus else room


class RayCluster:
    """A connection to a cluster, to be closed.

    Parameters
    ----------
    options
        Which cluster, and how to divide it.
    gpus_wanted
        Whether the model may run on a GPU.

    Attributes
    ----------
    is_remote
        Whether its nodes may be other machines.

    Raises
    ------
    DeviceError
        Ray is not installed, or no cluster can be had.
    """

    def __init__(self, options: EngineOptions, *, gpus_wanted: bool) -> None:
        os.environ.update(QUIET)
        if options.ray_address is None:
            make_token()
        try:
            import ray
        except ImportError as error:
            raise DeviceError(
                "--engine ray takes Ray: pip install 'cloakify[ray]' (or leave --engine local)"
            ) from error
        self.ray: Any = ray
        self.options, self._gpus_wanted = options, gpus_wanted
        self._folder: Path | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._begun = False
        self.is_remote = options.ray_address is not None
        if not ray.is_initialized():
            try:
                self._connect()
            except BaseException:
                self.close()
                raise

    def share(self) -> Share:
        """Return how to divide what there is at present; see :func:`share_out`."""
        return share_out(self._nodes(), self.options, gpus_wanted=self._gpus_wanted)

    def close(self) -> None:
        """Leave the cluster; one of its own ends."""
        if self._begun:
            with _own_signals():
                self.ray.shutdown()
            self._begun = False
        if self._watch is not None:
            # It ends what is left, and itself, at the end of what it reads.
            self._watch.communicate()
            self._watch = None
        if self._folder is not None:
            remove_folder(self._folder)
            self._folder = None

    def _connect(self) -> None:
        quiet: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.CRITICAL,
            "configure_logging": True,
        }
        address = self.options.ray_address
        if address is None:
            quiet |= self._own()
        else:
            quiet["address"] = address
        where = "on this machine" if address is None else f"at {address}"
        if address is not None:
            check_reached(address)
        self._begun = True
        try:
            with _own_signals():
                self.ray.init(**quiet)
        except (OSError, RuntimeError, ValueError, self.ray.exceptions.RayError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DeviceError(f"no Ray cluster can be had {where} ({reason})") from error

    def _own(self) -> dict[str, Any]:
        """Return how to start a Ray on this machine."""
        # Workers import what this process does.
        home = str(Path(__file__).parents[2])
        path = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
        self._folder = own_folder()
        self._watch = start_watch(self._folder)
        wanted = (self.options.workers or 1) * (self.options.cpus_per_worker or 1)
        return {
            "num_cpus": max(available_cores(), wanted),
            "include_dashboard": False,
            "_temp_dir": str(self._folder),
            "_node_ip_address": "127.0.0.1",
        }

    def _nodes(self) -> list[Node]:
        return [
            Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
            for node in self.ray.nodes()
            if node["Alive"]
        ]


def check_reached(address: str) -> None:
    """Raise DeviceError where nobody listens at an address: Ray would try it for minutes.

    One that is no HOST:PORT is left to Ray, which knows others.
    """
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None:
        return
    try:
        socket.create_connection((match["host"], int(match["port"])), PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(
            f"no Ray cluster can be had at {address} ({reason}); check the address, and that "
            "`ray status` knows the cluster there"
        ) from error


def start_watch(folder: Path) -> subprocess.Popen[bytes] | None:
    """Have a process end the Ray of this one's own when this one is gone; see :mod:`.ray_watch`.

    Only on Linux, where it can be told which processes these are.

    Parameters
    ----------
    folder
        Of that Ray: named by its processes' command lines.
    """
    if sys.platform != "linux":
        return None
    command = [sys.executable, "-I", ray_watch.__file__, str(os.getpid()), str(folder)]
    # A session of its own, which the terminal's signals do not reach.
    null = subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True
    )


def make_token() -> None:
    """Have a Ray of its own obey who knows a token that is made for this process.

    Ray listens on all addresses, and would else keep one token for all in the home folder. It reads
    its environment once, when it is imported.
    """
    if "ray" not in sys.modules and not any(name.startswith("RAY_AUTH_") for name in os.environ):
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep Ray from answering signals in this process's place."""
    kept = {}
    # Only the main thread may ask, and only there Ray would put its own in place.
    with suppress(ValueError):
        kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            with suppress(ValueError, TypeError):
                signal.signal(number, handler)
