"""Does ONNX Runtime, left to itself, answer otherwise on this processor than the file says?

Attacks and figures are of exact arithmetic, wherever they run; see
:class:`~cloakify.runtime.Session`. A model in use may run otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell, untold
from cloakify.evaluation.warnings import EvaluationWarning, WarningCode
from cloakify.experiment.subject import Subject, Which, name_of
from cloakify.graph.model.quantised import is_quantised
from cloakify.numeric.arrays import Indices, as_rows, evenly, floats, in_chunks
from cloakify.numeric.judging import predicted
from cloakify.printable import in_percent

# Samples that are tried, twice each.
TRIED = 256


@dataclass(frozen=True)
class RunningInexactly(Task[Subject]):
    """Tells of samples whether their sums are cut off so that the answer changes: bool [n]."""

    which: Which
    is_dealt = False

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"running-inexactly-{name_of(self.which)}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        target = subject.target(self.which)
        exact, other = (
            predicted(target.logits(floats(batch.x), exact=exact), independent=target.independent)
            for exact in (True, False)
        )
        return {"moved": np.any(as_rows(exact != other), axis=1)}


def kernel_warnings(
    subject: Subject, which: Which, engine: Engine[Subject], indices: Indices
) -> list[EvaluationWarning]:
    """Warn where a quantised model answers otherwise with the runtime's default kernels.

    Parameters
    ----------
    indices
        Of samples: a few are tried, evenly from all.
    """
    target = subject.target(which)
    if target.device.kind != "cpu" or not is_quantised(target.model):
        return []
    job = Job(RunningInexactly(which), in_chunks(evenly(indices, TRIED), target.span))
    moved = np.concatenate([part["moved"] for part in engine.map(job, untold)])
    share = float(moved.mean())
    if not share:
        return []
    message = (
        f"{in_percent(share)} of the clean samples get another answer where ONNX Runtime's integer "
        "kernels cut sums off, as they do on this processor unless told not to; all figures are of "
        "exact sums: run the model with the session option session.x64quantprecision = 1, on a "
        "processor with VNNI, or quantise it with reduce_range"
    )
    return [EvaluationWarning(WarningCode.CUT_OFF, message, share)]
