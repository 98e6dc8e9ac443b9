"""A cluster of several nodes that loses one at work and gets another: a script for a test.

    python -m tests.engine.nodes

Prints what the engine has made of it, as JSON.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

import numpy as np
from ray.cluster_utils import Cluster

from cloakify.data import Batch
from cloakify.engine.ray_cluster import QUIET, RayCluster
from cloakify.engine.ray_engine import RayEngine
from cloakify.engine.task import Arrays, Job, Task, Tell, untold
from cloakify.numeric.arrays import in_chunks
from cloakify.settings import EngineOptions
from tests.engine.counting import Numbers, expected
from tests.engine.test_ray import Opening

COUNT = 240


@dataclass(frozen=True)
class Slow(Task[Numbers]):
    """Squares, and takes its time."""

    name = "slow"

    def run(self, subject: Numbers, batch: Batch, tell: Tell) -> Arrays:
        time.sleep(0.5)
        return {"squares": batch.x**2}


def main() -> None:
    """Work while a node goes and another one comes."""
    os.environ.update(QUIET)
    # Where workers import what is not installed.
    os.environ["PYTHONPATH"] = os.getcwd()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = nodes.add_node(num_cpus=1)
    options = EngineOptions(engine="ray", ray_address=nodes.address, cpus_per_worker=1)
    cluster = RayCluster(options, gpus_wanted=False)
    engine = RayEngine(cluster, Numbers(), Opening())

    made = []
    for part in engine.map(Job(Slow(), in_chunks(np.arange(COUNT), 4)), untold):
        made.append(part["squares"])
        if len(made) == COUNT // 16:
            nodes.remove_node(lost, allow_graceful=False)
            nodes.add_node(num_cpus=2)
    right = bool(np.array_equal(np.concatenate(made), expected(COUNT)))
    print(json.dumps({"right": right, "again": engine.again, "workers": len(engine.kinds)}))
    engine.close()
    cluster.close()
    nodes.shutdown()


if __name__ == "__main__":
    main()
