"""What readers share: a validation part that is stable, and files of lines."""

from __future__ import annotations

import unicodedata

import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets import raw


def groups(count: int, strata: int = 2) -> dict[str, int]:
    return {f"g{k}": k % strata for k in range(count)}


def test_each_stratum_gives_its_share_and_never_all():
    kept = raw.carve(groups(40), 0.1, seed=0)
    assert len(kept) == 4
    assert sorted(int(name[1:]) % 2 for name in kept) == [0, 0, 1, 1]
    assert raw.carve({"only": 0}, 0.5, 0) == set()
    assert len(raw.carve({"one": 0, "two": 0}, 0.01, 0)) == 1  # a small share of few is one
    assert raw.carve(groups(40), 0, 0) == set()


def test_the_choice_depends_on_the_seed_and_not_on_order_or_other_groups():
    kept = raw.carve(groups(100), 0.2, 3)
    assert raw.carve(dict(reversed(groups(100).items())), 0.2, 3) == kept
    assert raw.carve(groups(100), 0.2, 4) != kept
    assert raw.carve({**groups(100), "other": 7, "another": 7}, 0.2, 3) - {"other", "another"} == kept


def test_lines_are_read_whole_or_the_file_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\n  two \n")
    assert raw.lines(tmp_path / "a.txt", "") == ["one", "two"]
    (tmp_path / "d.txt").write_bytes("a\u2028b\r\nc\x0cd\x85e\rf\n".encode())
    assert raw.lines(tmp_path / "d.txt", "") == ["a\u2028b", "c\x0cd\x85e\rf"]
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"b\.txt: is no UTF-8 text"):
        raw.lines(tmp_path / "b.txt", "")
    with pytest.raises(UserError, match=r"c\.txt: not found; look there"):
        raw.lines(tmp_path / "c.txt", "look there")


def test_a_listing_finds_files_however_accents_are_written(tmp_path):
    whole, apart = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))
    for place in (f"{apart}/{whole}.jpg", f"{apart}/{apart}2.jpg", "plain/a.jpg"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    listing = raw.Listing(tmp_path)
    assert listing.find(f"{whole}/{apart}.jpg") == f"{apart}/{whole}.jpg"
    assert listing.find(f"{whole}/{whole}2.jpg") == f"{apart}/{apart}2.jpg"
    assert listing.find("plain/a.jpg") == "plain/a.jpg"
    assert listing.find("plain/b.jpg") is None
    assert listing.find("nowhere/a.jpg") is None
    with pytest.raises(UserError, match="leads out of its folder"):
        listing.find(f"plain/../{apart}/{whole}.jpg")
    assert listing.holds("plain", "a.jpg")
    assert not listing.holds("", "a.jpg")
