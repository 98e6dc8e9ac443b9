"""From text to token ids: by the tokenizer that comes with the model.

`tokenizer.json` is read by Hugging Face's ``tokenizers`` (``pip install cloakify[text]``), padding
and truncation as it says; `tokenizer_config.json` beside it says how long inputs may be, and what
pads them, where it does not. All samples are as long as the longest of the data, or as the model
asks for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cloakify.data.json_text import json_object
from cloakify.data.naming import shown
from cloakify.data.text_source import TextSource
from cloakify.errors import DataError, ModelError
from cloakify.exit_codes import ExitCode
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.limits.stages import Stage
from cloakify.numeric.arrays import AnyArray, Indices
from cloakify.printable import one_line

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
MODEL_CONFIG = "config.json"
# Bytes of a tokenizer: those of a quarter of a million tokens are of 30 million.
_LARGEST = 1 << 28
# Longer samples are no sentences, and take memory by their length times the number of features.
_LONGEST = 1 << 13
# Texts that are encoded together.
_TOGETHER = 1024
# What a text is worth in seconds, and in seconds a byte, before its encoding is given up.
_SECONDS, _SECONDS_PER_BYTE = 60.0, 2e-5


class Encoder:
    """Turns samples of text into the inputs of a model.

    Parameters
    ----------
    source
        The texts.
    main
        The model's input of token ids.
    others
        Its further inputs, told apart by their names: an attention mask, token types, positions.
    file
        `tokenizer.json`.

    Raises
    ------
    DataError
        ``tokenizers`` is not installed.
    ModelError
        The file can't be read, or an input is none that text is made into.
    """

    def __init__(
        self,
        source: TextSource,
        main: InputSpec,
        others: Sequence[InputSpec],
        file: Path,
    ) -> None:
        self._source, self._file = source, file
        self._specs = {spec.name: spec for spec in (main, *others)}
        self._fields = {main.name: "ids"} | {spec.name: _field(spec.name) for spec in others}
        self._config = _config(file.parent / CONFIG)
        self._tokenizer = _open(file)
        # Done here, to one length for all batches.
        self._padding = self._tokenizer.padding
        self._tokenizer.no_padding()
        self._lock = threading.Lock()
        self._last: tuple[bytes, dict[str, AnyArray]] = b"", {}
        self._set_truncation(main)

    def encode(self, rows: Indices) -> Mapping[str, AnyArray]:
        """Return the inputs for some rows, by name, each ``[len(rows), length]``.

        Raises
        ------
        DataError
            A sample has no token, or more than the model takes.
        """
        with self._lock:
            key = rows.tobytes()
            if self._last[0] != key:
                self._last = key, self._encode(rows)
            return self._last[1]

    @cached_property
    def length(self) -> int:
        """Tokens of every sample, padding included; reads all texts where nothing says it.

        Raises
        ------
        DataError
            A text has more tokens than any model takes, and nothing says where to cut it.
        """
        (asked,) = self._specs[next(iter(self._specs))].sample_shape
        padding = self._padding
        if asked is not None:
            return asked
        if padding is not None and padding["length"] is not None:
            return int(padding["length"])
        longest = self._longest()
        if longest > _LONGEST:
            raise DataError(
                f"{shown(self._source.path)} has a text of {longest} tokens, and nothing says "
                f"where to cut it: set model_max_length in {CONFIG} beside {shown(self._file)}"
            )
        step = (padding or {}).get("pad_to_multiple_of") or 1
        return max(1, -(-longest // step) * step)

    def _longest(self) -> int:
        """Return how many tokens the longest of all texts has, those that a limit leaves out too.

        What a sample is padded to must not depend on which others are taken.
        """
        rows = np.arange(len(self._source))
        size = sum(len(text) for row in map(int, rows) for text in self._source.texts(row))
        longest = 0
        seconds = _SECONDS + _SECONDS_PER_BYTE * size
        path = self._source.path
        with Stage(
            "encoding its text", path=path, exit_code=ExitCode.DATA, seconds=seconds, fed=size
        ):
            for start in range(0, len(rows), _TOGETHER):
                encoded = self._encoded(rows[start : start + _TOGETHER])
                longest = max(longest, *(len(each.ids) for each in encoded))
                if longest == self._most:
                    # All others are cut to as many.
                    break
        return longest

    def _set_truncation(self, main: InputSpec) -> None:
        """Have texts cut where the model, the tokenizer or its configuration says so."""
        if len(main.sample_shape) != 1:
            raise ModelError(
                f"input {main.name!r} takes ids of shape {main.sample_shape}, not a row a sample: "
                "give the ids themselves"
            )
        told = self._tokenizer.truncation
        limits = [
            main.sample_shape[0],
            told and told["max_length"],
            _most_tokens(self._config),
            _most_positions(_config(self._file.parent / MODEL_CONFIG)),
        ]
        known = [int(each) for each in limits if each]
        self._most = min(known, default=None)
        if known:
            chosen = told or {"direction": self._config.get("truncation_side", "right")}
            with _library_errors(self._file):
                self._tokenizer.enable_truncation(**{**chosen, "max_length": self._most})

    def _encoded(self, rows: Indices) -> list[Any]:
        samples = [self._source.texts(row) for row in rows.tolist()]
        with _library_errors(self._file):
            encoded: list[Any] = self._tokenizer.encode_batch(
                [text[0] if len(text) == 1 else text for text in samples]
            )
        return encoded

    @cached_property
    def _pads(self) -> tuple[int | None, int, bool]:
        """Id and type that pad, the former ``None`` where none is told, and whether on the left."""
        if self._padding is not None:
            told = self._padding
            return int(told["pad_id"]), int(told["pad_type_id"]), told["direction"] == "left"
        token = self._config.get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        known = self._tokenizer.token_to_id(token) if isinstance(token, str) else None
        return known, 0, self._config.get("padding_side") == "left"

    def _encode(self, rows: Indices) -> dict[str, AnyArray]:
        pad_id, pad_type, on_left = self._pads
        length = self.length
        arrays = {
            name: np.zeros((len(rows), length), self._specs[name].dtype) for name in self._fields
        }
        for slot, encoding in enumerate(self._encoded(rows)):
            where = self._source.where(int(rows[slot]))
            count = len(encoding.ids)
            if not count or count > length:
                raise DataError(
                    f"{where} has {count} tokens, where 1 to {length} are taken: mend or remove it"
                )
            if count < length and pad_id is None:
                raise ModelError(
                    f"{shown(self._file)} names no token for padding, and texts differ in length: "
                    f"set pad_token in {CONFIG}"
                )
            pads = {"ids": pad_id or 0, "type_ids": pad_type}
            own = slice(length - count, length) if on_left else slice(count)
            for name, field in self._fields.items():
                arrays[name][slot] = pads.get(field, 0)
                arrays[name][slot, own] = _values(encoding, field)
        return arrays


class TokenFeed:
    """Loads one input of an encoder's."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        self._encoder, self._name = encoder, name

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return (self._encoder.length,)

    def load(self, rows: Indices) -> AnyArray:
        """Samples of these rows."""
        return self._encoder.encode(rows)[self._name]


def _values(encoding: Any, field: str) -> Any:
    if field == "positions":
        return np.arange(len(encoding.ids))
    return getattr(encoding, field)


def _field(name: str) -> str:
    """Return what an input holds, by its name."""
    lowered = name.lower()
    known = {"mask": "attention_mask", "type": "type_ids", "segment": "type_ids"}
    known["position"] = "positions"
    held = next((field for sign, field in known.items() if sign in lowered), None)
    if held is None:
        raise ModelError(
            f"the model also takes {name!r}, and no tokenizer makes it: give the inputs as arrays "
            "in a .npz file"
        )
    return held


def _most_tokens(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens the model takes, where that is told; some write 10³⁰ for no limit."""
    most = config.get("model_max_length")
    told = isinstance(most, int | float) and not isinstance(most, bool) and 0 < most <= 1 << 20
    return int(most) if told else None  # type: ignore[arg-type]


def _most_positions(config: Mapping[str, Any]) -> int | None:
    """Return how many positions the model tells apart, where its own configuration says so."""
    most = config.get("max_position_embeddings")
    if not isinstance(most, int) or not 0 < most <= 1 << 20:
        return None
    # RoBERTa's count from behind the padding's id.
    offset = isinstance(config.get("model_type"), str) and "roberta" in config["model_type"]
    return max(1, most - 2) if offset else most


def _config(path: Path) -> dict[str, Any]:
    """Return what stands in a tokenizer's configuration; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        with open(path, "rb") as file:
            read = json_object(file.read(_LARGEST))
    except OSError as error:
        raise ModelError(
            f"{shown(path)} can't be read ({error.strerror}): check the file"
        ) from None
    if read is None:
        raise ModelError(f"{shown(path)} is no JSON object: mend the file")
    return read


def _open(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise DataError(
            "text needs tokenizers: install it with pip install 'cloakify[text]'"
        ) from None
    if path.stat().st_size > _LARGEST:
        raise ModelError(f"{shown(path)} is too large for a tokenizer: is it one?")
    with _library_errors(path):
        return Tokenizer.from_file(str(path))


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    """Raise ModelError for what the library raises: ``Exception`` itself, and Rust's panics."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = shown(one_line(error))
        raise ModelError(
            f"{shown(path)} can't be used as a tokenizer ({reason}): save the tokenizer again"
        ) from None
