"""The part of a classifier behind its features: what it answers under any mask."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from cloakify.errors import HeadError
from cloakify.graph.analysis.head import Head
from cloakify.graph.edit.mask import features_type, insert_mask, mask_values
from cloakify.graph.edit.taps import head_model, value_of_rank
from cloakify.numeric.arrays import Array, floats
from cloakify.runtime import Device, Session


class MaskedHead:
    """From features to logits, with a mask in between, as the shipped graph computes them.

    Parameters
    ----------
    model
        The classifier with its weights in it.
    head
        Its head.
    logits
        Name of its class scores in ``model``.
    host
        The CPU: where to run it.

    Raises
    ------
    HeadError
        The logits depend on the input by another way than the features.
    """

    def __init__(self, model: ModelProto, head: Head, logits: str, host: Device) -> None:
        self._model, self._head, self._host = model, head, host
        self._logits = logits
        # It takes a look at the whole model.
        self._element_type = features_type(model, head)
        self._sessions: dict[int, Session] = {}
        # Whether there is such a part does not depend on the rank.
        masked = insert_mask(self._part(2), head, np.ones(head.num_features, np.float32), {})
        readers = [node.op_type for node in masked.graph.node if head.features in node.input]
        if len(readers) > 1:
            raise HeadError(
                f"the logits {logits!r} depend on {head.features!r} without a mask, too"
            )

    @classmethod
    def of(cls, model: ModelProto, head: Head, logits: str, host: Device) -> MaskedHead | None:
        """Return the part of a model behind its features; ``None`` where that is no part."""
        try:
            return cls(model, head, logits, host)
        except HeadError:
            return None

    def logits(self, features: Array, mask: Array) -> Array:
        """Return the logits float32 [n, C] of features [n, …] under a mask [D]."""
        values = mask_values(self._element_type, self._head, mask)
        feeds = {self._head.features: features.astype(values.dtype, copy=False) * values}
        (logits,) = self._session(features.ndim).run(feeds).values()
        return floats(logits.reshape(len(features), -1))

    def _session(self, rank: int) -> Session:
        if rank not in self._sessions:
            self._sessions[rank] = Session(self._part(rank), self._host)
        return self._sessions[rank]

    def _part(self, rank: int) -> ModelProto:
        value = value_of_rank(self._head.features, self._element_type, rank)
        return head_model(self._model, value, self._logits)
