"""However a run ends, a model and its sidecars belong together, and the next run clears up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloakify.errors import CloakifyError
from cloakify.onnxfile import atomic_write, check_places, open_model, publish, save_model
from cloakify.onnxfile.atomic import PART

ROOT = Path(__file__).parents[2]

# For every line, saves a model in a process that is sent a signal at its n-th call, one more each
# time, of what changes a folder or the disk: before the call, or behind it. Prints whether it was.
STRUCK = """
import os, signal, sys
from cloakify.onnxfile import open_model, save_model

source, target, name = sys.argv[1:]
number = getattr(signal, name)
moments = 0

def counted(call):
    def stop_here(*arguments, **options):
        step()
        found = call(*arguments, **options)
        step()
        return found
    return stop_here

def step():
    global moments
    moments -= 1
    if moments == 0:
        os.kill(os.getpid(), number)

signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("replace", "fsync", "unlink", "open"):
    setattr(os, name, counted(getattr(os, name)))
for run, _ in enumerate(sys.stdin, 1):
    moments = 0
    child = os.fork()
    if child == 0:
        moments, code = run, 130
        try:
            save_model(open_model(source).model, target, open_model(source))
            code = 0
        except KeyboardInterrupt:
            pass
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL, 130), status
    print(int(status != 0), flush=True)
"""


@pytest.fixture
def old(external, tmp_path) -> tuple[Path, Path]:
    """A source whose weights have changed since, and the output made of it before."""
    source = external("weights")
    target = tmp_path / "out" / "hardened.onnx"
    target.parent.mkdir()
    file = open_model(source)
    save_model(file.model, target, file)
    (source.parent / "weights").write_bytes(bytes(range(48)))
    return source, target


def weights(path: Path) -> bytes:
    return open_model(path).load_weights().graph.initializer[0].raw_data


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def whole(target: Path) -> set[str]:
    return {target.name, *open_model(target).sidecars}


def struck_at_every_moment(*arguments: str) -> Iterator[bool]:
    """Yield after every run whether the signal ended it; the last one had come to its end."""
    with subprocess.Popen(
        [sys.executable, "-c", STRUCK, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        struck = True
        while struck:
            print(file=server.stdin, flush=True)
            struck = server.stdout.readline() == "1\n"
            yield struck
        server.stdin.close()
    assert server.returncode == 0


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_ended_at_every_step(old, name):
    """Before the step there is the old model, after it the new one, and never half of each."""
    source, target = old
    folder = target.parent
    stranger = folder / "hardened.onnx.0123456789abcdef.data"
    stranger.write_bytes(b"named as a sidecar, but no run's")
    before, after = weights(target), weights(source)
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    seen = []
    for struck in struck_at_every_moment(str(source), str(target), name):
        seen.append(weights(target))
        if name == "SIGKILL":
            # The next run, whatever it writes there.
            check_places([folder / "other.json"], [])
        assert files(folder) == whole(target) | {stranger.name}
        if struck:
            for path in folder.iterdir():
                path.unlink()
            for path, data in kept.items():
                path.write_bytes(data)
    assert len(seen) > 20
    assert seen == sorted(seen, key=[before, after].index)


def test_an_error_at_the_step_leaves_the_old_model_and_nothing_else(old, monkeypatch):
    source, target = old
    before, data = files(target.parent), weights(target)
    replace = os.replace

    def refuse(part, place):
        if Path(place) == target:
            raise KeyboardInterrupt
        replace(part, place)

    monkeypatch.setattr(os, "replace", refuse)
    file = open_model(source)
    with pytest.raises(KeyboardInterrupt):
        save_model(file.model, target, file)
    assert files(target.parent) == before and weights(target) == data


def test_an_interrupt_right_after_the_step_keeps_the_new_model_whole(old, monkeypatch):
    source, target = old
    replace = os.replace

    def late(part, place):
        replace(part, place)
        if Path(place) == target:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", late)
    file = open_model(source)
    with pytest.raises(KeyboardInterrupt):
        save_model(file.model, target, file)
    assert weights(target) == weights(source)
    assert files(target.parent) == whole(target)


def test_what_a_live_run_is_making_stays(old):
    _, target = old
    program = (
        "import sys; from cloakify.onnxfile import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); print(flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(target.with_name("live"))],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as live:
        assert live.stdout is not None and live.stdout.readline()
        (part,) = (name for name in files(target.parent) if PART.fullmatch(name))
        with atomic_write(target.with_name("mine")):
            check_places([target], [])
            assert part in files(target.parent)
            assert len(files(target.parent)) == 4
        live.kill()
        live.wait()
        check_places([target], [])
        assert part not in files(target.parent)


def test_files_called_otherwise_and_links_stay(tmp_path):
    names = ["a.part", ".model.onnx.abcdef01.part", ".cloakify-x.part", ".cloakify-ABCDEFGH.part"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".cloakify-abcdef01.part").symlink_to("a.part")
    (tmp_path / ".cloakify-00000000.part").mkdir()
    before = files(tmp_path)
    check_places([tmp_path / "x"], [])
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "text", ["", "[", "{}", "[1]", '["", "../victim"]', '["x", "victim", "..", "a/b", "x\\u0000"]']
)
def test_a_journal_of_anybodys_removes_nothing_but_unused_sidecars(tmp_path, text):
    folder = tmp_path / "folder"
    folder.mkdir()
    for victim in (tmp_path / "victim", folder / "victim"):
        victim.write_bytes(b"")
    (folder / ".cloakify-abcdef01.part").write_bytes(publish.JOURNAL + text.encode())
    check_places([folder / "x"], [])
    assert (tmp_path / "victim").exists() and files(folder) == {"victim"}


def test_a_folder_that_another_program_holds_is_waited_for_only_so_long(old, monkeypatch):
    source, target = old
    monkeypatch.setattr(publish, "PATIENCE", 0.1)
    file = open_model(source)
    with publish.locked_folder(target.parent) as alone:
        assert alone
        save_model(file.model, target, file)
    # Nothing was removed that another run may be about to name.
    assert weights(target) == weights(source) and len(files(target.parent)) == 3


def test_a_full_disk_in_the_middle(old, monkeypatch):
    source, target = old
    before, data = files(target.parent), weights(target)
    file = open_model(source)
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, os.strerror(28))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CloakifyError, match="No space left"):
        save_model(file.model, target, file)
    assert files(target.parent) == before and weights(target) == data
