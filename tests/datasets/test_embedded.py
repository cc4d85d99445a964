"""Readers of files that hold the photographs themselves: folders of Hugging Face `datasets`, and WebDataset shards."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, read_record
from crossmodal.datasets import hf_datasets, items, webdataset

PARTS = ["train"] * 4 + ["validation"] + ["test"] * 2


def photograph(number, kind="PNG"):
    pixels = np.full((6, 5, 3), 20 * number, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def captions(number):
    return [f"a dog {number}", f"dog number {number}"]


def arrow(path, rows):
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def rows_of(split, **more):
    numbers = [n for n, part in enumerate(PARTS) if part == split]
    return [{"image": {"bytes": photograph(n), "path": f"{n}.png"}, "caption": captions(n), **more} for n in numbers]


def saved(root, splits=("train", "validation", "test")):
    """As `DatasetDict.save_to_disk` writes it."""
    root.mkdir()
    (root / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    for split in splits:
        (root / split).mkdir()
        arrow(root / split / "data-00000-of-00001.arrow", rows_of(split))
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_fingerprint": "0", "_split": split}
        (root / split / "state.json").write_text(json.dumps(state))
    return hf_datasets.Settings(root=root)


def snapshot(root):
    """As the hub has it, with a row per caption."""
    (root / "data").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        rows = [{**row, "caption": text} for row in rows_of(split) for text in row["caption"]]
        parquet.write_table(pa.Table.from_pylist(rows), root / "data" / f"{split}-00000-of-00001.parquet")
    return hf_datasets.Settings(root=root)


def shards(root, form="txt"):
    root.mkdir()
    for split in ("train", "val", "test"):
        with tarfile.open(root / f"{split}-0000.tar", "w") as archive:
            for n, part in enumerate(PARTS):
                if part.startswith(split):
                    text = "\n".join(captions(n)) if form == "txt" else json.dumps({"captions": captions(n), "x": 1})
                    put(archive, f"{n}.png", photograph(n))
                    put(archive, f"{n}.{form}", text.encode())
                    put(archive, f"{n}.seg.npy", b"x")
    return webdataset.Settings(root=root)


def put(archive, name, content=b"", **more):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


LAYOUTS = {
    "saved": (hf_datasets, saved),
    "snapshot": (hf_datasets, snapshot),
    "shards": (webdataset, shards),
    "shards of json": (webdataset, lambda root: shards(root, "json")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_photographs_in_every_layout(tmp_path, layout):
    module, lay = LAYOUTS[layout]
    settings, folder = lay(tmp_path / "raw"), tmp_path / "data" / "mine"
    module.make(settings, folder, title="Mine")
    frame = read_parquet(folder / "items.parquet").set_index("item_id")
    names = {"validation": "val"}
    for n, part in enumerate(PARTS):
        assert frame.partition[str(n)] == names.get(part, part)
        assert (items.root(folder) / frame.source[str(n)]).read_bytes() == photograph(n)
        assert [frame.source[f"{n}#{k}"] for k in (0, 1)] == captions(n)
        assert frame.group_id[f"{n}#1"] == str(n)
    assert len(frame) == 3 * len(PARTS)
    assert read_record(folder / "items.json")["root"] == "images"
    assert sorted(path.name for path in (folder / "images").iterdir()) == [f"{n}.png" for n in range(len(PARTS))]
    module.make(settings, folder, title="Mine")  # again, over what is there
    assert read_parquet(folder / "items.parquet").equals(frame.reset_index())
    assert module.read(settings).equals(items.read(folder))


def test_names_columns_and_splits_of_ones_own(tmp_path):
    """Photographs of one name are kept apart, those without a name are called by their hash, splits may be dropped."""
    rows = [{"photo": photograph(n), "text": f"dog {n}", "file": "same.png", "part": "b" if n == 2 else "a", "y": n % 2}
            for n in range(4)]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist([*rows, rows[0]]), tmp_path / "all.parquet")
    columns = {"image": "photo", "caption": "text", "partition": "part", "label": "y", "name": "file"}
    settings = hf_datasets.Settings(root=tmp_path, columns=columns, splits={"a": "train", "b": "drop"})
    frame = hf_datasets.read(settings)
    images = frame[frame.modality == "image"]
    assert images.source.iloc[0] == "same.png"
    assert images.source.iloc[1:].str.fullmatch(r"same-[0-9a-f]{16}\.png").all()
    assert images.label.tolist() == ["0", "1", "1"]
    assert frame.source[frame.modality == "text"].tolist() == ["dog 0", "dog 0", "dog 1", "dog 3"]
    settings = hf_datasets.Settings(root=tmp_path, columns={"image": "photo", "caption": "text"}, val=0.25, test=0.25)
    frame = hf_datasets.read(settings)
    assert frame.source[frame.modality == "image"].str.fullmatch(r"[0-9a-f]{32}\.png").all()
    assert frame.partition[frame.modality == "image"].value_counts().to_dict() == {"train": 2, "val": 1, "test": 1}
    with pytest.raises(UserError, match=r"all\.parquet: 4 sample\(s\) are of an unknown split .*: row 0: 'a', row 1"):
        hf_datasets.read(hf_datasets.Settings(root=tmp_path, columns=columns, splits={"b": "test"}, val=0))


HOSTILE = {
    "above": lambda archive: put(archive, "../x.jpg", b"x"),
    "absolute": lambda archive: put(archive, "/etc/x.jpg", b"x"),
    "link": lambda archive: put(archive, "x.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": lambda archive: put(archive, "x.jpg", type=tarfile.LNKTYPE, linkname="0.png"),
    "device": lambda archive: put(archive, "x.jpg", type=tarfile.CHRTYPE),
    "twice": lambda archive: [put(archive, "x.jpg", b"x") for _ in range(2)],
    "no photograph": lambda archive: put(archive, "x.txt", b"a dog"),
    "no text": lambda archive: [put(archive, "x.jpg", b"x"), put(archive, "x.txt", b"\xff")],
    "no captions": lambda archive: [put(archive, "x.jpg", b"x"), put(archive, "x.json", b"[1]")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_shards_that_lead_elsewhere_or_lack_something_are_refused(tmp_path, kind):
    settings = shards(tmp_path / "raw")
    path = tmp_path / "raw" / "train-0001.tar"
    with tarfile.open(path, "w") as archive:
        HOSTILE[kind](archive)
    with pytest.raises(UserError, match=r"train-0001\.tar: .*x"):
        webdataset.make(settings, tmp_path / "data" / "mine", title="Mine")
    assert not [*(tmp_path / "data" / "mine").iterdir()]


@pytest.mark.parametrize("cut", [700, 5000, -9000])
def test_a_shard_that_is_damaged_or_cut_off_is_no_shorter_one(tmp_path, cut):
    """The library takes a broken header for the end of the archive."""
    settings = shards(tmp_path / "raw")
    path = tmp_path / "raw" / "train-0000.tar"
    content = path.read_bytes()
    if cut > 0:
        path.write_bytes(content[:cut])
    else:
        at = content.index(b"3.png\0")
        path.write_bytes(content[:at] + b"\1" * 200 + content[at + 200 :])
    with pytest.raises(UserError, match=r"train-0000\.tar"):
        webdataset.read(settings)


def test_arrow_files_whose_offsets_lead_outside_are_refused(tmp_path):
    settings = saved(tmp_path / "raw")
    path = tmp_path / "raw" / "train" / "data-00000-of-00001.arrow"
    content = path.read_bytes()
    size = len(photograph(0)).to_bytes(4, "little")
    assert size in content
    path.write_bytes(content.replace(size, b"\xff\xff\xff\x7f", 1))
    with pytest.raises(UserError, match=r"data-00000-of-00001\.arrow: cannot be read"):
        hf_datasets.read(settings)


def test_paths_out_of_the_folder_are_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(photograph(1))
    root = tmp_path / "raw"
    root.mkdir()
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        parquet.write_table(pa.Table.from_pylist([{"image": name, "caption": "a dog"}]), root / "x.parquet")
        (root / "link.png").unlink(missing_ok=True)
        (root / "link.png").symlink_to(tmp_path / "secret.png")
        with pytest.raises(UserError, match=r"x\.parquet: row 0: .* lead"):
            hf_datasets.read(hf_datasets.Settings(root=root, val=0, test=0))
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../x.arrow"}]}))
    with pytest.raises(UserError, match="leads out of its folder"):
        hf_datasets.read(hf_datasets.Settings(root=root))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such folder; set datasets\.mine\.root"):
        hf_datasets.read(hf_datasets.Settings(root=tmp_path / "gone"), "mine")
    with pytest.raises(UserError, match=r"holds no files with an ending of \.tar; set datasets\.mine\.root"):
        webdataset.read(webdataset.Settings(root=tmp_path), "mine")
    settings = snapshot(tmp_path / "raw")
    with pytest.raises(UserError, match="has no column 'captions'; did you mean 'caption'"):
        hf_datasets.read(settings.model_copy(update={"columns": hf_datasets.Columns(caption="captions")}))
    with pytest.raises(UserError, match=r"row 0: 'a dog \d': not found below"):
        hf_datasets.read(
            settings.model_copy(update={"columns": hf_datasets.Columns(image="caption", caption="caption")})
        )
