"""Downloads, from a server on this machine: gone on with, checked, unpacked, and what must be asked for by hand."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from typer.testing import CliRunner

from crossmodal import cli, downloads
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.downloads.origins import Check, SourceFile

DATA = bytes(range(256)) * 4000  # a megabyte


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks off after `cut` bytes of an answer, and knows the ranges that were asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.asked: list[tuple[str, str | None]] = []
        self.tag = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        data = server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        begin = 0
        if wanted and self.headers.get("If-Range") == tag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if begin and begin >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if server.tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        self.wfile.write(data[begin:][: server.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def origin(server, **more):
    about = {"title": "t", "home": "h", "licence": "l"}
    return downloads.Origin(**about, files=[{"url": f"{server.address}/a.bin", "check": "none", "folder": "a", **more}])


def sha(data):
    return hashlib.sha256(data).hexdigest()


def test_a_file_comes_once(server, tmp_path):
    server.files["/a.bin"] = DATA
    (said,) = downloads.fetch(origin(server, check={"sha256": sha(DATA)}), tmp_path)
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA
    assert said == "a.bin: 1,024,000 bytes, as published"
    assert downloads.fetch(origin(server), tmp_path) == ["a.bin: is there already"]
    assert len(server.asked) == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["a.bin"]


def test_what_broke_off_goes_on(server, tmp_path):
    """Three answers of 400,000 bytes at most: the second and the third ask for the rest alone."""
    server.files["/a.bin"], server.cut = DATA, 400_000
    for _ in range(2):
        with pytest.raises(UserError, match=r"a\.bin: cannot be fetched .*run again to continue"):
            downloads.fetch(origin(server), tmp_path)
        assert not (tmp_path / "a" / "a.bin").exists()
    downloads.fetch(origin(server, check={"md5": hashlib.md5(DATA).hexdigest()}), tmp_path)
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA
    assert [wanted for _, wanted in server.asked] == [None, "bytes=400000-", "bytes=800000-"]


@pytest.mark.parametrize("changed", [True, False])
def test_another_file_than_the_part_is_of_begins_anew(server, tmp_path, changed):
    """The server has changed the file since, or never said which it was."""
    server.files["/a.bin"], server.cut, server.tag = DATA, 400_000, changed
    with pytest.raises(UserError):
        downloads.fetch(origin(server), tmp_path)
    server.cut = None
    server.files["/a.bin"] = DATA[::-1] if changed else DATA
    downloads.fetch(origin(server), tmp_path)
    assert (tmp_path / "a" / "a.bin").read_bytes() == server.files["/a.bin"]


def test_a_part_that_is_whole_is_taken(server, tmp_path):
    """It was killed between the last byte and its check."""
    server.files["/a.bin"], server.cut = DATA, len(DATA) - 1
    with pytest.raises(UserError):
        downloads.fetch(origin(server), tmp_path)
    with (tmp_path / "a" / "a.bin.part").open("ab") as stream:
        stream.write(DATA[-1:])
    downloads.fetch(origin(server), tmp_path)
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA
    assert len(server.asked) == 2


@pytest.mark.parametrize("check", [{"sha256": "0" * 64}, {"md5": "0" * 32}, {"sha256_begins": "0" * 8}])
def test_another_file_than_the_published_one_is_refused(server, tmp_path, check):
    server.files["/a.bin"] = DATA
    with pytest.raises(UserError, match="is not the file that is published"):
        downloads.fetch(origin(server, check=check), tmp_path)
    assert not (tmp_path / "a" / "a.bin").exists()
    assert not (tmp_path / ".downloads.json").exists()
    downloads.fetch(origin(server, check={"sha256_begins": sha(DATA)[:8]}), tmp_path)


def test_without_a_published_checksum_the_first_one_is_kept(server, tmp_path):
    server.files["/a.bin"] = DATA
    (said,) = downloads.fetch(origin(server), tmp_path)
    assert said.endswith(f"no checksum is published; SHA-256 {sha(DATA)}")
    assert read_json(tmp_path / ".downloads.json")[f"{server.address}/a.bin"]["sha256"] == sha(DATA)
    (tmp_path / "a" / "a.bin").unlink()
    server.files["/a.bin"] = DATA[:-1]
    with pytest.raises(UserError, match="is not the file that is published"):
        downloads.fetch(origin(server), tmp_path)


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return stream.getvalue()


def test_archives_are_unpacked(server, tmp_path):
    server.files["/a.bin"] = zipped(train__1_jpg="1", train__2_jpg="2")
    server.files["/b.zip"] = zipped(train__3_jpg="3", note_txt="n")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        about = tarfile.TarInfo("birds/1.jpg")
        about.size, about.mode = 1, 0o600  # its maker's own mode is no one else's
        archive.addfile(about, io.BytesIO(b"b"))
    server.files["/c"] = stream.getvalue()
    files = [
        {"url": f"{server.address}/a.bin", "name": "a.zip", "unpack": "coco", "check": "none"},
        {"url": f"{server.address}/b.zip?download=1", "unpack": "coco", "check": "none"},
        {"url": f"{server.address}/c", "name": "c.tgz", "unpack": "cub", "check": "none"},
        {"url": f"{server.address}/b.zip", "members": {"note.txt": "notes"}, "check": "none"},
    ]
    server.files["/b.zip?download=1"] = server.files["/b.zip"]
    whole = downloads.Origin(title="t", home="h", licence="l", files=files)
    before = os.umask(0o022)
    try:
        downloads.fetch(whole, tmp_path)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.is_file()} == {"0o644"}
    there = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    expected = ["coco/note.txt", "coco/train/1.jpg", "coco/train/2.jpg", "coco/train/3.jpg", "cub/birds/1.jpg"]
    assert there == [".downloads.json", *expected, "notes/note.txt"]
    assert all("is there already" in line for line in downloads.fetch(whole, tmp_path))


def test_archives_that_are_damaged_or_reach_outside(server, tmp_path):
    server.files["/a.bin"] = zipped(x_txt="1")[:-30]
    with pytest.raises(UserError, match=r"a\.bin: is no archive, or damaged .* run again to fetch it"):
        downloads.fetch(origin(server, unpack="x"), tmp_path)
    assert not (tmp_path / "a" / "a.bin").exists()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../evil.txt"))
    server.files["/a.bin"] = stream.getvalue()
    with pytest.raises(UserError, match="is no archive, or damaged"):
        downloads.fetch(origin(server, unpack="x"), tmp_path / "in")
    assert not list(tmp_path.rglob("evil.txt"))


def test_addresses_that_do_not_answer(server, tmp_path):
    with pytest.raises(UserError, match=r"a\.bin: cannot be fetched \(the server says 404"):
        downloads.fetch(origin(server), tmp_path)
    gone = downloads.Origin(
        title="t", home="h", licence="l", files=[SourceFile(url="http://127.0.0.1:9/a.bin", check="none")]
    )
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/a\.bin: cannot be fetched"):
        downloads.fetch(gone, tmp_path)


# -- the registry -----------------------------------------------------------------------------------------------------


def test_the_registry_is_sound():
    known = downloads.origins()
    assert {"coco", "karpathy", "cub", "vqa", "visual-genome", "glove", "flickr30k"} <= set(known)
    for one in known.values():
        assert one.licence
        assert one.home.startswith("http")
        for file in one.files:
            assert file.file_name
            assert file.is_archive
    with pytest.raises(UserError, match=r"'flickr30k': .* asked for by hand: Fill in the form .*illinois\.edu"):
        downloads.named("flickr30k")
    with pytest.raises(UserError, match="'coc': is unknown; did you mean 'coco'"):
        downloads.named("coc")
    with pytest.raises(ValueError, match="one of sha256, md5 and sha256_begins"):
        Check()


def test_what_is_published_of_a_file_is_checked():
    """By TensorFlow Datasets, torchtext and CaltechDATA of the first file of each; of a few files nothing is known."""
    known = downloads.origins()
    assert {name: known[name].files[0].check for name in ("coco", "glove", "cub")} == {
        "coco": Check(sha256="ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775"),
        "glove": Check(sha256="617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb"),
        "cub": Check(sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081"),
    }
    unknown = {file.file_name for one in known.values() for file in one.files if file.check == "none"}
    annotations = ("image_data", "objects", "attributes", "relationships", "question_answers")
    assert unknown == {"caption_datasets.zip", *(f"{name}.json.zip" for name in annotations)}
    checks: dict[str, set] = {}
    for file in (file for one in known.values() for file in one.files):
        checks.setdefault(file.url, set()).add(str(file.check))
    assert all(len(told) == 1 for told in checks.values())  # the same address is the same file


def test_torchvision_s_weights_are_checked_by_their_name():
    (file,) = downloads.named("torchvision/resnet152").files
    assert file.url == "https://download.pytorch.org/models/resnet152-394f9c45.pth"
    assert file.check == Check(sha256_begins="394f9c45")
    assert file.folder.endswith("checkpoints")
    with pytest.raises(UserError, match="no such network; did you mean 'resnet152'"):
        downloads.named("torchvision/resnet15")


def test_the_command_shows_the_licence_and_asks(server, tmp_path, monkeypatch):
    from crossmodal.downloads.origins import origins as read_origins

    server.files["/a.bin"] = DATA
    about = {"title": "Small", "home": "h", "licence": "Be kind."}
    about["files"] = [{"url": f"{server.address}/a.bin", "check": "none", "folder": "small"}]
    (tmp_path / "origins.yaml").write_text(yaml.safe_dump({"small": about}))
    known = read_origins(tmp_path / "origins.yaml")
    monkeypatch.setattr(downloads, "named", known.__getitem__)
    monkeypatch.setattr(downloads, "origins", lambda: known)
    runner, to = CliRunner(), ["--to", str(tmp_path / "raw")]
    assert "small  Small" in runner.invoke(cli.app, ["download"]).stdout
    told = runner.invoke(cli.app, ["download", "small", *to], input="n\n")
    assert told.exit_code == 1
    assert "licence: Be kind." in told.stdout
    assert not server.asked
    told = runner.invoke(cli.app, ["download", "small", *to, "--yes"])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "raw" / "small" / "a.bin").read_bytes() == DATA
