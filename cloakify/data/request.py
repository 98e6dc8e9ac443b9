"""What a run asks of data when it opens them."""

from __future__ import annotations

from dataclasses import dataclass

from cloakify.data.labels import label_name
from cloakify.data.naming import shown, some
from cloakify.errors import DataError


@dataclass(frozen=True)
class Request:
    """What is asked of data.

    Attributes
    ----------
    input_name
        Name of the model's input, which arrays and columns may go by.
    labelled
        Whether labels must come with the data.
    label
        Name of the array or column of labels, where the user gives it.
    others
        Names of the model's further inputs, which arrays and columns go by.
    ids
        Whether the model takes token ids, which text can be turned into.
    encoding
        Of files of text that have no byte order mark; ``None`` for UTF-8.
    width
        How many numbers the model takes of a sample that is a row of them, where that is known.
    """

    input_name: str
    labelled: bool = True
    label: str | None = None
    others: tuple[str, ...] = ()
    ids: bool = False
    encoding: str | None = None
    width: int | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all inputs, that of the data input first."""
        return (self.input_name, *self.others)

    def label_of(self, names: list[str], where: str, apart: str | None = None) -> str | None:
        """Return the array or column of labels among names.

        ``None`` where none goes by a name of labels; ``apart`` is that of the samples.

        Raises
        ------
        DataError
            There is none of the name that the user gave.
        """
        if self.label is None:
            return label_name(names, apart)
        if self.label not in names:
            # As long as no two columns differ in that alone.
            wanted = self.label.strip().lower()
            alike = [name for name in names if name.strip().lower() == wanted]
            if len(alike) == 1:
                return alike[0]
            raise DataError(
                f"{where} has no column {shown(self.label)!r} (--labels), and there is no file of "
                f"that name: it has {some(names)}"
            )
        return self.label

    def refuse_label(self, where: str) -> None:
        """Raise DataError where a column of labels is named, but data have no columns."""
        if self.label is not None:
            raise DataError(
                f"--labels {shown(self.label)} is no file, and {where} has no columns: give a "
                "file with the labels"
            )
