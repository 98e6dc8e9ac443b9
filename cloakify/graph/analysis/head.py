"""The head of a classifier: the last linear layer, which turns features into logits."""

from __future__ import annotations

from dataclasses import dataclass

# Operators of ai.onnx.ml that are a classifier each: a label, and a number for each class.
WHOLE_CLASSIFIERS = {"LinearClassifier", "SVMClassifier"}


@dataclass(frozen=True)
class Head:
    """The head of a classifier.

    Attributes
    ----------
    node
        Name of the linear node; where it has none, of its output.
    op_type
        ``Gemm``, ``MatMul``, ``Conv``, ``Einsum``, …, or where that is what reads the features,
        ``Transpose``, ``QuantizeLinear`` or ``DynamicQuantizeLinear``.
    features
        Name of the data input φ.
    features_slot
        Which of the node's inputs φ is.
    features_axis
        Axis of φ along which its features lie: 1 of maps, else from the end.
    num_features
        D.
    weight
        Name of the weight, as the node reads it; empty where it reads none.
    linear
        Name of what the linear layer puts out, with its bias and what turns it around, shifts it
        or picks of it class by class: a linear map of the features.
    logits
        Name of the class scores; see :mod:`cloakify.graph.analysis.score_path`.
    num_classes
        C, of ``linear``.
    kernel
        Of a `Conv` that takes a whole map of features: its size. The features are then those of
        every channel at every position.
    window
        Of a `Conv` that sees more than one position of a larger map, and whose scores are pooled:
        its size. The features are those of every channel.
    positions
        Of maps: how many axes lie behind that of the features.
    scale
        Of scores that are quantised numbers: the names of their scale and zero point.
    product
        Of a head that quantises its features: what the quantised layer puts out.
    summed
        Of a layer that sums its scores at all positions: how many there are, along each axis.
    read_by
        Where several nodes read the features for the head: all of them, by their first outputs.
    cosine
        Whether it first brings its features to one length: ``read_by`` are the nodes that do, and
        the linear layer itself reads what these make.
    parts
        Of a head of several layers whose scores are bent one by one before they stand side by side
        (one-vs-rest): what the layers put out, in the order of the classes. ``linear`` and
        ``logits`` are what they have become then, and keep their order alone.
    places
        Of parts that are classifiers of ai.onnx.ml: which of its scores each stands there with.
    votes, shares
        Of a head whose answer is a sum of several softmaxes: what these take, and how much each
        counts. ``linear`` and ``logits`` are that sum then, and no linear map of the features.
    """

    node: str
    op_type: str
    features: str
    features_slot: int
    features_axis: int
    num_features: int
    weight: str
    linear: str
    logits: str
    num_classes: int
    kernel: tuple[int, ...] = ()
    window: tuple[int, ...] = ()
    positions: int = 0
    scale: tuple[str, str] | None = None
    product: str = ""
    summed: tuple[int, ...] = ()
    read_by: tuple[str, ...] = ()
    cosine: bool = False
    parts: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    votes: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def gives_probabilities(self) -> bool:
        """Whether ``logits`` may come out as probabilities, which gradients are not taken of."""
        return self.op_type in WHOLE_CLASSIFIERS

    @property
    def ends(self) -> tuple[str, ...]:
        """What the layers before it lead to: its features."""
        return (self.features,)

    def __str__(self) -> str:
        return self.described("classes")

    def described(self, what: str) -> str:
        """Return it in words; ``what`` it puts out, which are classes only of a model's head."""
        return (
            f"{self.op_type} {self.node!r}: {self.num_features} features → "
            f"{self.num_classes} {what}"
        )
