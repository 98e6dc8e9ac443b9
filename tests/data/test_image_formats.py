"""Only the formats that are meant are decoded, by content; no other program is ever started."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.data.images import FORMATS
from cloakify.errors import DataError

PLAIN = Preprocessing()
STARTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"}
    | {"os.spawn", "os.startfile"}
)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture(scope="module")
def watch():
    """What `started` switches on and reads; a hook can't be taken out again."""
    watch = SimpleNamespace(on=False, seen=[])

    def hook(event, _):
        if watch.on and event in STARTS:
            watch.seen.append(event)

    sys.addaudithook(hook)
    return watch


@pytest.fixture
def started(watch):
    """The audit events of processes that begin during the test."""
    watch.on, watch.seen = True, []
    yield watch.seen
    watch.on = False


def _written() -> dict[str, bytes]:
    """A small image in every format that Pillow writes, and two wrappings of PostScript."""
    Image.init()
    found = {
        "PostScript": EPS,
        "PostScript with a preview": b"\xc5\xd0\xd3\xc6" + bytes([32, 0, 0, 0]) + bytes(24) + EPS,
    }
    for name in sorted(Image.SAVE):
        for mode in ("RGB", "L", "1"):
            file = io.BytesIO()
            try:
                Image.new(mode, (8, 8), 1).save(file, name)
            except (OSError, ValueError, TypeError, AttributeError, KeyError):
                continue
            found[name] = file.getvalue()
            break
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_format_starts_a_program(tmp_path, spec, started):
    (tmp_path / "c").mkdir()
    decoded = set()
    for name, data in _written().items():
        (tmp_path / "c" / "007.png").write_bytes(data)
        try:
            (batch,) = open_data(tmp_path, spec(3, 8, 8), PLAIN).batches()
        except DataError as error:
            assert "007.png can't be read as an image" in str(error) and "\n" not in str(error)
        else:
            assert batch.x.shape == (1, 3, 8, 8)
            decoded.add(name)
    assert not started
    # MPO is JPEG with more JPEGs behind it.
    assert decoded - {"MPO"} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_image_cut_short_is_no_image(tmp_path, spec, pixels, name):
    """What a prefix of a file decodes to is the whole image, or refused."""
    file = io.BytesIO()
    Image.fromarray(pixels(8, 8, 3)).save(file, name)
    whole = file.getvalue()
    (tmp_path / "c").mkdir()

    def load(data):
        (tmp_path / "c" / "0.png").write_bytes(data)
        (batch,) = open_data(tmp_path, spec(3, 8, 8), PLAIN).batches()
        return batch.x

    expected = load(whole)
    for cut in sorted({*range(1, len(whole), 1 + len(whole) // 60), len(whole) // 2}):
        try:
            found = load(whole[:cut])
        except DataError:
            continue
        np.testing.assert_array_equal(found, expected)


def test_what_pillow_logs_is_not_printed(tmp_path: Path) -> None:
    """In a process of its own: tests have their own handlers of logs."""
    file = tmp_path / "a" / "0.tiff"
    file.parent.mkdir()
    Image.new("RGB", (4, 4)).save(file)
    data = file.read_bytes()
    # SamplesPerPixel, of type SHORT and count 1, is 3.
    entry = struct.pack("<HHIH", 277, 3, 1, 3)
    assert entry in data
    file.write_bytes(data.replace(entry, struct.pack("<HHIH", 277, 3, 1, 25603)))
    code = (
        "import sys, numpy as np\n"
        "from cloakify.data import Preprocessing, open_data\n"
        "from cloakify.errors import DataError\n"
        "from cloakify.graph.analysis.inputs import InputSpec\n"
        "spec = InputSpec('x', (None, 3, 4, 4), np.dtype(np.float32), 1)\n"
        "try: open_data(sys.argv[1], spec, Preprocessing())\n"
        "except DataError as error: print(error)\n"
    )
    call = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert "can't be read as an image" in done.stdout
    assert done.stderr == ""


def _turned(path: Path, image: Image.Image) -> None:
    exif = image.getexif()
    exif[0x112] = 6
    image.save(path.with_suffix(".jpg"), exif=exif)


def _moving(path: Path, image: Image.Image) -> None:
    image.save(path.with_suffix(".gif"), save_all=True, append_images=[image.rotate(90)])


def _transparent(path: Path, image: Image.Image) -> None:
    image.putalpha(128)
    image.save(path.with_suffix(".png"))


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (_turned, "say that they are to be turned"),
        (_moving, "have several frames, of which the first"),
        (_transparent, "may be transparent"),
        (lambda path, image: image.save(path.with_suffix(".png")), None),
    ],
)
def test_what_is_passed_over_is_said(tmp_path, spec, pixels, save, said):
    (tmp_path / "cat").mkdir()
    first, *others = map(Image.fromarray, pixels(3, 8, 8, 3))
    first.save(tmp_path / "cat" / "0.bmp")
    for number, image in enumerate(others, 1):
        save(tmp_path / "cat" / f"{number}", image)
    notes = " ".join(open_data(tmp_path, spec(3, 8, 8), PLAIN).notes)
    assert (f"2 of the first 3 images {said}" in notes) if said else not notes
