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
