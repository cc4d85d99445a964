"""Folders of someone else's files that are searched."""

import logging
import os

import numpy as np
import pytest

from crossmodal.core.errors import UserError
from crossmodal.inference import export, folder


def test_names_of_any_kind(tmp_path, caplog):
    names = ["a\nb.jpg", "ü.PNG", "x/y.webp", "\x1b[31m.jpg"]
    (tmp_path / "x").mkdir()
    for name in (*names, ".hidden.jpg", "text.txt"):
        (tmp_path / name).touch()
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.jpg", os.O_CREAT))
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    with caplog.at_level(logging.WARNING):
        assert folder.files_of(tmp_path, "image") == sorted(names)
    assert "1 file names are not in UTF-8 and left out" in caplog.text


def test_a_file_that_changes_has_another_state(tmp_path):
    (tmp_path / "x" / ".y").mkdir(parents=True)
    for name in ("x/a.jpg", "b.jpg", "x/.y/c.jpg"):
        (tmp_path / name).write_text("1")
    os.utime(tmp_path / "b.jpg", ns=(5, 7))
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    states = folder._states_of(tmp_path, "image")
    assert [*states] == ["b.jpg", "x/a.jpg"]
    assert states["b.jpg"] == (1, 7)
    (tmp_path / "b.jpg").write_text("12")
    assert folder._states_of(tmp_path, "image")["b.jpg"] != states["b.jpg"]


def test_one_long_name_does_not_make_all_names_long():
    """An array of texts would take 4 * 4000 bytes for each of them."""
    names = ["x" * 4000, *(f"{n}.jpg" for n in range(10_000)), "a\nb", "ü"]
    joined = folder._joined(names)
    assert joined.nbytes == sum(len(name.encode()) + 1 for name in names)
    assert folder._apart(joined) == names
    assert folder._apart(folder._joined([])) == []


def test_ids_of_several_lines_are_not_written_as_lines(tmp_path):
    with pytest.raises(UserError, match=r"image\.ids\.txt: the id 'a\\nb' is no single line"):
        export._write(tmp_path, "image", np.array(["c", "a\nb"]), np.zeros((2, 3)), "npy")
    assert not [*tmp_path.iterdir()]


NAMES, VECTORS = folder._joined(["a.jpg", "b.jpg"]), np.eye(2, 3, dtype=np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"paths": folder._joined(["a.jpg", "../b.jpg"])}, "'../b.jpg' is no file of the folder"),
        ({"paths": folder._joined(["a.jpg", "/etc/passwd"])}, "'/etc/passwd' is no file of the folder"),
        ({"paths": np.frombuffer(b"\xff\0", np.uint8)}, "invalid start byte"),
        ({"vectors": VECTORS[:1]}, "2 paths and vectors of shape"),
        ({"vectors": VECTORS[0]}, "of shape"),
        ({"vectors": VECTORS.astype(str)}, "type <U"),
        ({"vectors": np.array([[{}], [{}]])}, "Object arrays cannot be loaded"),
        ({"vectors": np.zeros((2**24 + 1, 0), np.float32)}, "16,777,217 rows without a value"),
        ({"paths": None}, "'paths'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_index_that_another_has_put_there_is_one_error(tmp_path, monkeypatch, arrays, said):
    """Its paths would lead out of the folder, and its vectors be compared with the query's."""
    kept = tmp_path / "x.npz"
    monkeypatch.setattr(folder, "_kept", lambda *given: (kept, {"a.jpg": 1, "b.jpg": 1}))
    good = {"paths": NAMES, "vectors": VECTORS}
    np.savez(kept, **good)
    assert folder.index(None, tmp_path, "image", "text").paths == ["a.jpg", "b.jpg"]
    np.savez(kept, **{name: array for name, array in (good | arrays).items() if array is not None})
    with pytest.raises(UserError, match=f"x.npz.*{said}"):
        folder.index(None, tmp_path, "image", "text")
