"""What is done is kept: a run goes on, parts of one run add up, and no other run's chunks count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.engine.chunk_store import ChunkStore
from cloakify.engine.engine import Engine
from cloakify.engine.local import LocalEngine
from cloakify.engine.resuming import ResumingEngine
from cloakify.engine.task import Arrays, Job, Tell
from cloakify.errors import CloakifyError, PartDone, UsageError
from cloakify.settings import EngineOptions
from tests.engine.counting import Numbers, expected, squares

FACTS = {"version": "1", "model": "a", "data": "b"}
COUNT, SIZE = 23, 4


class Failing(Engine[Numbers]):
    """Does so many chunks, the last ones first, and then dies."""

    def __init__(self, chunks: int = 99) -> None:
        self.left, self.done = chunks, 0

    def results(self, job: Job[Numbers], tell: Tell) -> Iterator[tuple[int, Arrays]]:
        made = list(LocalEngine(Numbers()).results(job, tell))
        for number, arrays in reversed(made):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.done += 1
            yield number, arrays


def resumed(
    folder: Path, inner: Engine[Numbers], part: int = 0, parts: int = 1, **facts: str
) -> np.ndarray:
    engine = ResumingEngine(inner, ChunkStore(folder, FACTS | facts), part, parts)
    told: list[int] = []
    made = list(engine.map(squares(COUNT, SIZE), told.append))
    assert sum(told) == COUNT
    return np.concatenate([each["squares"] for each in made])


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=4))
def test_a_run_that_died_anywhere_goes_on(
    tmp_path_factory: pytest.TempPathFactory, deaths: list[int]
) -> None:
    folder, done = tmp_path_factory.mktemp("run") / "d", 0
    for chunks in deaths:
        inner = Failing(chunks)
        try:
            np.testing.assert_array_equal(resumed(folder, inner), expected(COUNT))
        except KeyboardInterrupt:
            assert inner.done == chunks
        done += inner.done
    last = Failing()
    np.testing.assert_array_equal(resumed(folder, last), expected(COUNT))
    # Nothing was done twice.
    assert done + last.done == len(squares(COUNT, SIZE).chunks)


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 9), st.randoms(use_true_random=False))
def test_parts_in_any_order_add_up(
    tmp_path_factory: pytest.TempPathFactory, parts: int, random: object
) -> None:
    folder = tmp_path_factory.mktemp("run") / "d"
    order = list(range(parts))
    random.shuffle(order)  # type: ignore[attr-defined]
    chunks, done = len(squares(COUNT, SIZE).chunks), 0
    for part in order:
        inner = Failing()
        engine = ResumingEngine(inner, ChunkStore(folder, FACTS), part, parts)
        with pytest.raises(PartDone) as caught:
            engine.begin([squares(COUNT, SIZE)])
        assert inner.done == len(range(part, chunks, parts))
        done += inner.done
        assert (caught.value.done, caught.value.chunks) == (done, chunks)
    last = Failing()
    np.testing.assert_array_equal(resumed(folder, last), expected(COUNT))
    assert done == chunks and not last.done


def test_a_part_goes_on_where_all_before_it_is_done_and_stops_before_the_end(
    tmp_path: Path,
) -> None:
    """Work in stages: a part can begin the next one only when the others are through."""

    def begun(part: int) -> ResumingEngine[Numbers]:
        return ResumingEngine(Failing(), ChunkStore(tmp_path, FACTS), part, 2)

    with pytest.raises(PartDone):
        list(begun(0).map(squares(COUNT, SIZE), lambda amount: None))
    second = begun(1)
    made = list(second.map(squares(COUNT, SIZE), lambda amount: None))
    np.testing.assert_array_equal(np.concatenate([m["squares"] for m in made]), expected(COUNT))
    with pytest.raises(PartDone, match="run it without --shard"):
        second.finish()


@pytest.mark.parametrize("name", FACTS)
def test_chunks_of_another_run_are_refused_by_what_differs(tmp_path: Path, name: str) -> None:
    resumed(tmp_path, Failing())
    wanted = (
        f"squares-00000[0-5].chunk: is of another run: its {name} is {FACTS[name]}, here it is z"
    )
    with pytest.raises(UsageError, match=wanted):
        resumed(tmp_path, Failing(), **{name: "z"})
    # One that a stranger has put among a run's own, too.
    other = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        resumed(other, Failing(3), **{name: "z"})
    (other / "squares-000000.chunk").write_bytes((tmp_path / "squares-000000.chunk").read_bytes())
    with pytest.raises(UsageError, match=f"its {name} is {FACTS[name]}"):
        resumed(other, Failing(), **{name: "z"})


def test_chunks_of_other_samples_are_refused(tmp_path: Path) -> None:
    resumed(tmp_path, Failing())
    engine = ResumingEngine(Failing(), ChunkStore(tmp_path, FACTS))
    for other in (squares(COUNT, SIZE + 1), squares(COUNT, SIZE, plus=1.0)):
        with pytest.raises(UsageError, match="is of other work"):
            list(engine.map(other, lambda amount: None))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["cut", "flip", "empty", "longer"]))
def test_a_damaged_chunk_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, place: int, damage: str
) -> None:
    folder = tmp_path_factory.mktemp("run")
    resumed(folder, Failing())
    path = folder / "squares-000002.chunk"
    content = bytearray(path.read_bytes())
    # What the first line says of the run is not damaged here: that would be another run's.
    start = content.index(b'"chunk"')
    place = start + place % (len(content) - start)
    if damage == "flip":
        content[place] ^= 0xFF
    path.write_bytes(
        {"cut": content[:place], "flip": content, "empty": b"", "longer": content + b"x"}[damage]
    )
    again = Failing()
    try:
        np.testing.assert_array_equal(resumed(folder, again), expected(COUNT))
        assert again.done == 1
    except UsageError as error:
        # Its name of its samples was hit.
        assert damage == "flip" and "of other work" in str(error)


def test_a_folder_that_can_not_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "none" / "d"):
        with pytest.raises(CloakifyError, match="is no folder to keep work in"):
            ChunkStore(folder, FACTS)


def test_a_first_line_says_what_a_chunk_is_of(tmp_path: Path) -> None:
    resumed(tmp_path, Failing())
    for path in tmp_path.glob("*.chunk"):
        assert json.loads(path.read_bytes().partition(b"\n")[0])["facts"] == FACTS


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shard": "1/2"}, "--resume DIR"),
        ({"shard": "3/2", "resume": "d"}, "not part 3"),
        ({"workers": 2}, "--workers is for --engine ray"),
        ({"cpus_per_worker": 2}, "--cpus-per-worker is for --engine ray"),
        ({"gpus_per_worker": 0.0}, "--gpus-per-worker is for --engine ray"),
        ({"ray_address": "auto"}, "--ray-address is for --engine ray"),
    ],
)
def test_options_that_need_others_say_so(options: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        EngineOptions(**options).check_together()
    for shard in ("0/2", "1", "1/0", "a/b", "-1/2"):
        with pytest.raises(UsageError, match="--shard takes one of how many parts"):
            EngineOptions(shard=shard)
