"""What is given by a URL is what lies there: whole, or one line says why not."""

from __future__ import annotations

import http.server
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.data import Preprocessing, fetching, open_data, room
from cloakify.data.fetching import fetch
from cloakify.data.naming import shown
from cloakify.errors import CloakifyError, DataError, UsageError

PLAIN = Preprocessing()
MEMORY = "memory://"


@pytest.fixture
def store() -> Iterator[Callable[[Path], str]]:
    """Puts a local folder into a store; returns its URL there."""
    system = fsspec.filesystem("memory")

    def put(folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                system.pipe_file(f"/bucket/{path.relative_to(folder)}", path.read_bytes())
        return f"{MEMORY}bucket"

    yield put
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a local folder; returns its URL."""
    servers: list[http.server.HTTPServer] = []

    def start(folder: Path) -> str:
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: object) -> None:
                super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path.startswith("/cut"):
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b"x" * 100)
                elif self.path.startswith("/closed"):
                    self.send_error(403)
                else:
                    super().do_GET()

            def do_HEAD(self) -> None:
                if self.path.startswith("/closed"):
                    self.send_error(403)
                elif self.path.startswith("/cut"):
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                else:
                    super().do_HEAD()

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def write_forms(folder: Path, class_folder: Callable[..., Path], images: np.ndarray) -> None:
    """Write the same samples in all forms that data come in."""
    x = images.astype(np.float32).reshape(len(images), 1, 4, 4) / 255
    y = np.arange(len(images)) % 2
    folder.mkdir()
    np.savez(folder / "data.npz", x=x, y=y)
    (folder / "arrays").mkdir()
    np.save(folder / "arrays" / "x.npy", x)
    np.save(folder / "arrays" / "y.npy", y)
    header = "x,label"
    rows = [f'"{row.ravel().tolist()}",{label}' for row, label in zip(x, y, strict=True)]
    (folder / "data.csv").write_text("\n".join([header, *rows]) + "\n")
    lines = [
        json.dumps({"x": row.ravel().tolist(), "label": int(label)})
        for row, label in zip(x, y, strict=True)
    ]
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "table" / "data").mkdir(parents=True)
    for part in range(2):
        some = slice(part * 4, part * 4 + 4)
        table = pa.table({"x": [row.tolist() for row in x[some]], "label": y[some]})
        pq.write_table(table, folder / "table" / "data" / f"train-{part:05}-of-00002.parquet")
    by_class = class_folder({"a": images[::2], "b": images[1::2]}, "classes")
    by_class.rename(folder / "classes")
    (folder / "shards").mkdir()
    names = sorted((folder / "classes").rglob("*.png"))
    for part in range(2):
        with tarfile.open(folder / "shards" / f"{part:03}.tar", "w") as archive:
            for number, path in enumerate(names[part * 4 : part * 4 + 4]):
                label = str(int(path.parent.name == "b")).encode()
                for name, data in ((f"{number}.png", path.read_bytes()), (f"{number}.cls", label)):
                    info = tarfile.TarInfo(f"{part}{name}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


FORMS = [
    *("data.npz", "arrays", "data.csv", "data.jsonl", "table", "table/data/*.parquet"),
    *("classes", "classes/*/*.png", "classes/**/*.png", "shards", "shards/{000..001}.tar"),
    *("shards/00[01].tar", "{data,data}.npz", "shards/?0?.tar"),
]
TEXT = ("data.csv", "data.jsonl")
ON_THE_WEB = ["data.npz", "data.csv", "data.jsonl", "shards/{000..001}.tar", "{shards}/000.tar"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_a_store(form, tmp_path, spec, pixels, class_folder, store) -> None:
    write_forms(tmp_path / "here", class_folder, pixels(8, 4, 4))
    copy = tmp_path / "copy"
    copy.mkdir()
    fetched = fetch(f"{store(tmp_path / 'here')}/{form}", copy)
    wanted = spec(16, channel_axis=None) if form in TEXT else spec(1, 4, 4)
    own = open_data(tmp_path / "here" / form, wanted, PLAIN)
    there = open_data(fetched.path, wanted, PLAIN)
    assert there.sha256 == own.sha256 and len(there) == len(own)
    np.testing.assert_array_equal(there.labels, own.labels)
    assert fetched.note.startswith(f"{MEMORY}bucket/{form} was fetched (")
    # Messages are of what the user has given.
    assert shown(there.path) == f"{MEMORY}bucket/{form}"


@pytest.mark.parametrize("form", ON_THE_WEB)
def test_files_on_the_web(form, tmp_path, spec, pixels, class_folder, serve) -> None:
    write_forms(tmp_path / "here", class_folder, pixels(8, 4, 4))
    (tmp_path / "here" / "shards").rename(tmp_path / "here" / "{shards}") if "{s" in form else None
    copy = tmp_path / "copy"
    copy.mkdir()
    url = f"{serve(tmp_path / 'here')}/{form}"
    fetched = fetch(f"{url}?signature=secret", copy)
    wanted = spec(16, channel_axis=None) if form in TEXT else spec(1, 4, 4)
    own = open_data(tmp_path / "here" / form, wanted, PLAIN)
    assert open_data(fetched.path, wanted, PLAIN).sha256 == own.sha256
    assert shown(fetched.path) == url and "secret" not in fetched.note


NAMES = st.text("ab .é[]{},?*-_", min_size=1, max_size=4).filter(lambda name: name.strip(". "))
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=9), min_size=1
)


@settings(max_examples=40, deadline=None)
@given(TREES)
def test_a_folder_is_fetched_whole(tmp_path_factory, files: dict[str, bytes]) -> None:
    # A store may hold a file and others below it; a folder can not.
    files = {
        name: data
        for name, data in files.items()
        if not any(other.startswith(f"{name}/") for other in files)
    }
    system = fsspec.filesystem("memory")
    for name, data in files.items():
        system.pipe_file(f"/tree/of/{name}", data)
    try:
        copy = tmp_path_factory.mktemp("copy")
        fetched = fetch(f"{MEMORY}tree/of", copy)
    finally:
        system.store.clear()
        system.pseudo_dirs[:] = [""]
    assert fetched.path == copy
    found = {str(path.relative_to(copy)): path for path in copy.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == files


def refused(url: str, folder: Path) -> CloakifyError:
    """Return the error that a URL ends with; it is one line, and tells no secret."""
    folder.mkdir(exist_ok=True)
    with pytest.raises(CloakifyError) as caught:
        fetch(url, folder)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("memory://no/such.npz", DataError, "is not there"),
        ("memory://no/such/*.npz", DataError, "is not there|matches no file"),
        (
            "http://127.0.0.1:1/x.npz?key=secret",
            DataError,
            "can't be fetched .*Connect call failed",
        ),
        ("http://me:secret@127.0.0.1:1/x.npz", UsageError, "a password stands in the URL"),
        ("http://127.0.0.1:1/folder/", DataError, "names a folder"),
        ("ftp://host/x.npz", UsageError, "nothing is fetched by ftp://"),
        ("http://127.0.0.1:1/{0..9999999}.npz", DataError, "names more than"),
    ],
)
def test_what_can_not_be_had_is_told(url, kind, said, tmp_path) -> None:
    error = refused(url, tmp_path / "copy")
    assert isinstance(error, kind) and re.search(said, str(error))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.npz", "404"),
        ("closed.npz?key=secret", "403"),
        ("cut.npz", "can't be fetched"),
        ("{data,missing}.npz", "404"),
    ],
)
def test_what_a_server_refuses_is_told(name, said, tmp_path, serve) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data.npz").write_bytes(b"x")
    error = refused(f"{serve(tmp_path / 'here')}/{name}", tmp_path / "copy")
    assert isinstance(error, DataError) and said in str(error)


class Store(MemoryFileSystem):
    """A store of its own that fails as a test says."""

    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    closed: str | None = None
    grows: str | None = None
    alien: str | None = None

    def ls(self, path, detail=True, **kwargs):
        if self.closed and path.strip("/").endswith(self.closed):
            raise PermissionError(f"listing of {path} was cut off")
        found = super().ls(path, detail=detail, **kwargs)
        if self.alien and path.strip("/") == "bucket":
            found = [*found, {"name": f"/bucket/{self.alien}", "size": 1, "type": "file"}]
        return found

    def get_file(self, path, *args, **kwargs):
        super().get_file(path, *args, **kwargs)
        if self.grows:
            self.pipe_file(path, b"longer than before")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"closed": "bucket/b"}, "listing of .* was cut off"),
        ({"grows": "yes"}, "memory://bucket.* changed while it was fetched"),
        ({"alien": ".."}, "no name for a file"),
        ({"alien": "a\0b"}, "no name for a file"),
    ],
)
@pytest.mark.parametrize("rest", ["", "/**"])
def test_nothing_is_left_out_unseen(how, said, rest, tmp_path, monkeypatch) -> None:
    store = Store()
    for name in ("a/1", "b/2"):
        store.pipe_file(f"/bucket/{name}", b"data")
    for name, value in how.items():
        monkeypatch.setattr(Store, name, value)
    monkeypatch.setattr("fsspec.get_filesystem_class", lambda scheme: Store)
    assert re.search(said, str(refused(f"memory://bucket{rest}", tmp_path / "copy")))


@pytest.mark.parametrize("limit", [4, 0])
def test_no_more_is_fetched_than_there_is_room_for(limit, tmp_path, monkeypatch, serve) -> None:
    monkeypatch.setattr(room, "LARGEST", limit)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data.npz").write_bytes(b"12345")
    url = f"{serve(tmp_path / 'here')}/data.npz"
    assert "is 5 bytes large, more than" in str(refused(url, tmp_path / "copy"))
    # A server need not say how large a file is.
    monkeypatch.setattr(fetching.RemoteFile, "size", None)
    assert "is larger than" in str(refused(url, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("url", "missing", "extra"),
    [
        ("https://host/x.npz", "fsspec", "remote"),
        ("https://host/x.npz", "aiohttp", "remote"),
        ("memory://x.npz", "fsspec", "remote"),
        ("s3://bucket/x.npz", "s3fs", "s3"),
        ("gs://bucket/x.npz", "gcsfs", "gs"),
        ("hf://datasets/a/b/x.npz", "huggingface_hub", "hf"),
    ],
)
def test_the_extra_is_named(url, missing, extra, tmp_path) -> None:
    # In a process that has not imported it.
    program = f"""
import sys
from pathlib import Path
from cloakify.data.fetching import fetch
from cloakify.errors import DeviceError
sys.modules[{missing!r}] = None
try:
    fetch({url!r}, Path({str(tmp_path)!r}))
except DeviceError as error:
    print(error.exit_code, error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.startswith(f"5 {url} takes fsspec"), ended.stderr
    assert f"pip install 'cloakify[{extra}]'" in ended.stdout and ended.stdout.count("\n") == 1
