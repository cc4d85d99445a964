"""NUS-WIDE as distributed, small: which images are taken, their tags, and each fault's message."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, nuswide
from tests.datasets.noticed import changed, moved

CLASSES = ("animal", "food", "toy")


def lay(root: Path, count: int = 60) -> nuswide.Settings:
    """Image k has label k % 3; every tenth has a second one and every 15th no tag."""
    for folder in ("ImageList", "Groundtruth/AllLabels", "NUS_WID_Tags", "Flickr/actor"):
        (root / folder).mkdir(parents=True)
    names = [f"actor\\{k:04d}_{1000 + k}.jpg" for k in range(count)]
    (root / nuswide.LIST).write_text("\r\n".join(names) + "\r\n")
    for place, label in enumerate(CLASSES):
        has = [k % 3 == place or (k % 10 == 0 and (k + 1) % 3 == place) for k in range(count)]
        (root / nuswide.LABELS / f"Labels_{label}.txt").write_text("".join(f"{int(one)}\n" for one in has))
    tags = [f"{1000 + k}      " + (f"tag{k} {CLASSES[k % 3]} " if k % 15 else "") for k in range(count)]
    (root / nuswide.TAGS).write_text("\n".join(tags) + "\n")
    for k in range(count):
        (root / "Flickr/actor" / f"{k:04d}_{1000 + k}.jpg").write_bytes(b"")
    return nuswide.Settings(root=root, classes=CLASSES, per_class=10, test=0.2, val=0.25)


def fault(settings: nuswide.Settings) -> str:
    with pytest.raises(UserError) as caught:
        nuswide.read(settings, "nus")
    return str(caught.value)


def test_images_of_one_class_with_their_tags(tmp_path):
    frame = nuswide.read(lay(tmp_path)).set_index("item_id")
    counts = frame.groupby(["modality", "label", "partition"]).size()
    assert (counts.xs("test", level="partition") == 2).all()
    assert (counts.xs("val", level="partition") == 2).all()
    assert (counts.xs("train", level="partition") == 6).all()
    numbers = frame.group_id.str[-4:].astype(int) - 1000
    assert (numbers % 10 != 0).all()
    assert (numbers % 15 != 0).all()
    assert all(frame.label == [CLASSES[k % 3] for k in numbers])
    one = frame[frame.modality == "text"].iloc[0]
    k = int(one.group_id[-4:]) - 1000
    assert one.source == f"tag{k} {CLASSES[k % 3]}"
    assert frame.loc[f"image/{one.group_id}"].source == f"{one.group_id}.jpg"


def test_prepared_folder(tmp_path):
    nuswide.make(lay(tmp_path / "raw"), tmp_path / "data", title="NUS-WIDE")
    frame, root = items.read(tmp_path / "data"), items.root(tmp_path / "data")
    assert all((root / source).is_file() for source in frame.source[frame.modality == "image"])


def test_photographs_that_move_are_noticed(tmp_path):
    settings = lay(tmp_path / "raw")
    nuswide.make(settings, tmp_path / "data/nus", title="NUS-WIDE")
    assert not changed(tmp_path / "data/nus")
    moved(settings.folder / "actor/0001_1001.jpg")
    assert changed(tmp_path / "data/nus")


def test_faults(tmp_path):
    settings = lay(tmp_path)
    few = settings.model_copy(update={"images": tmp_path / "nowhere"})
    assert "set datasets.nus.images" in fault(few)
    unknown = settings.model_copy(update={"classes": ("animal", "elk")})
    assert "Labels_elk.txt: not found; choose other classes in datasets.nus.classes" in fault(unknown)
    labels = tmp_path / nuswide.LABELS / "Labels_toy.txt"
    kept = labels.read_text()
    labels.write_text("x\n" + kept[2:])
    assert "expected one 0 or 1 per line for the 60 images of ImageList/Imagelist.txt, found entry 1 ('x')" in fault(
        settings
    )
    labels.write_text(kept[2:])
    assert "found 59 lines" in fault(settings)
    labels.write_text("0\n" * 60)
    assert "'toy' has 0 images" in fault(settings)
    labels.write_text(kept)
    tags = tmp_path / nuswide.TAGS
    told = tags.read_text().splitlines()
    tags.write_text("\n".join([told[1], told[0], *told[2:]]))
    assert "entry 1 is of image '1001', but ImageList/Imagelist.txt has 'actor/0000_1000.jpg' there" in fault(settings)
    tags.write_text("\n".join(told[1:]))
    assert "59 lines for the 60 images" in fault(settings)
    tags.write_text("\n".join(told))
    for path in (tmp_path / "Flickr/actor").iterdir():
        path.unlink()
    assert "30 of the 30 chosen images are not there: actor/" in fault(settings)
