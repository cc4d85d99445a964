"""Readers of annotations as they are published: COCO's, LAVIS's, Kaggle's, `.token`, one's own table and folders."""

import json

import pandas as pd
import pytest

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.datasets import (
    captioned,
    coco_captions,
    flickr_csv,
    flickr_token,
    folders,
    items,
    karpathy,
    lavis,
    table,
)
from tests.datasets.noticed import changed, moved

NAMES = [f"{number}.jpg" for number in range(10)]
PARTS = ["train"] * 6 + ["val"] * 2 + ["test"] * 2


@pytest.fixture
def corpus(tmp_path):
    """Ten empty photographs; returns a function that writes a file beside their folder."""
    (tmp_path / "images").mkdir()
    for name in NAMES:
        (tmp_path / "images" / name).touch()

    def write(name, content):
        path = tmp_path / name
        path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
        return path

    return write


def lists(corpus):
    """Files of names by partition, as Flickr8k has them."""
    return {
        part: corpus(
            f"Flickr_8k.{part}Images.txt", "\n".join(n for n, p in zip(NAMES, PARTS, strict=True) if p == part)
        )
        for part in ("train", "val", "test")
    }


def coco(first, last):
    """COCO's own form of some photographs, ids as theirs and captions out of order."""
    images = [{"id": 100 + n, "file_name": NAMES[n]} for n in range(first, last)]
    captions = [{"image_id": 100 + n, "id": k, "caption": f"a dog {k} "} for k in (0, 1) for n in range(first, last)]
    return {"info": {}, "images": images, "annotations": captions}


def of(frame, item):
    return frame[frame.item_id == item].iloc[0]


def read(module, tmp_path, **settings):
    return module.read(module.Settings(images=tmp_path / "images", **settings))


@pytest.fixture(params=["coco_captions", "lavis", "flickr_csv", "flickr_token", "table", "karpathy"])
def written(request, corpus, tmp_path):
    """The same ten photographs with two captions each in every layout: (module, its settings)."""
    name = request.param
    pairs = [(photograph, k) for photograph in NAMES for k in (0, 1)]
    by_name = dict(zip(NAMES, PARTS, strict=True))
    match name:
        case "coco_captions":
            spans = {"train": (0, 6), "val": (6, 8), "test": (8, 10)}
            given = {"annotations": {part: corpus(f"{part}.json", coco(*span)) for part, span in spans.items()}}
        case "lavis":
            train = [{"image": n, "caption": f"a dog {k}", "image_id": n} for n, k in pairs if by_name[n] == "train"]
            other = {
                part: [{"image": n, "caption": ["a dog 0", "a dog 1"]} for n in NAMES if by_name[n] == part]
                for part in ("val", "test")
            }
            files = {part: corpus(f"{part}.json", content) for part, content in {"train": train, **other}.items()}
            given = {"annotations": files}
        case "flickr_csv":
            lines = ["image,caption", *(f'{n},"a dog {k}"' for n, k in pairs)]
            given = {"annotations": corpus("captions.txt", "\r\n".join(lines)), "lists": lists(corpus)}
        case "flickr_token":
            lines = [f"{n}#{k}\ta dog {k}" for n, k in pairs]
            given = {"annotations": corpus("results.token", "\n".join(lines)), "lists": lists(corpus)}
        case "table":
            lines = ["split\tfile\ttext", *(f"{by_name[n]}\t{n}\ta dog {k}" for n, k in pairs)]
            columns = {"image": "file", "caption": "text", "partition": "split"}
            given = {"annotations": corpus("mine.tsv", "\n".join(lines)), "columns": columns}
        case "karpathy":
            entries = [
                {"filename": n, "split": by_name[n], "sentences": [{"raw": "a dog 0"}, {"raw": "a dog 1"}]}
                for n in NAMES
            ]
            given = {"annotations": corpus("dataset.json", {"images": entries})}
    return registry.module("datasets", name), {"images": tmp_path / "images", **given}


def test_every_layout_says_the_same(written, tmp_path):
    """Whatever the file, the items of the same photographs and captions are the same table."""
    module, settings = written
    module.make(module.Settings(**settings), tmp_path / "out", title="t")
    frame = items.read(tmp_path / "out")
    images = [(str(n), "image", str(n), PARTS[n], NAMES[n]) for n in range(10)]
    texts = [(f"{n}#{k}", "text", str(n), PARTS[n], f"a dog {k}") for n in range(10) for k in (0, 1)]
    found = frame.drop(columns="label").itertuples(index=False)
    assert [tuple(row) for row in found] == images + texts
    assert frame.label.isna().all()
    assert items.root(tmp_path / "out").samefile(tmp_path / "images")
    assert not changed(tmp_path / "out")
    moved(tmp_path / "images" / NAMES[3])
    assert changed(tmp_path / "out")


def test_what_nothing_says_is_drawn_by_the_seed(corpus, tmp_path):
    path = corpus("captions.csv", "image,caption\n" + "".join(f"{name},a dog\n" for name in NAMES))
    frame = read(table, tmp_path, annotations=path, val=0.2, test=0.3)
    images = frame[frame.modality == "image"]
    assert images.partition.value_counts().to_dict() == {"train": 5, "test": 3, "val": 2}
    assert read(table, tmp_path, annotations=path, val=0.2, test=0.3).equals(frame)
    assert not read(table, tmp_path, annotations=path, val=0.2, test=0.3, seed=1).equals(frame)
    # COCO's test captions are not published: validation is said, and the test part comes out of the training images.
    files = {"train": corpus("a.json", coco(0, 8)), "val": corpus("b.json", coco(8, 10))}
    frame = read(coco_captions, tmp_path, annotations=files, test=0.25)
    images = frame[frame.modality == "image"].set_index("item_id")
    assert images.partition.value_counts().to_dict() == {"train": 6, "test": 2, "val": 2}
    assert set(images.index[images.partition == "val"]) == {"8", "9"}


def test_images_in_no_list_are_left_out(corpus, tmp_path):
    """Flickr8k's file of captions has more photographs than its three lists, one of them never published."""
    lines = [f"{name}#0\ta dog" for name in [*NAMES, "2258277193_586949ec62.jpg.1"]]
    path = corpus("Flickr8k.token", "\n".join(lines))
    chosen = {**lists(corpus), "test": corpus("test.txt", "8.jpg\n")}
    settings = flickr_token.Settings(images=tmp_path / "images", annotations=path, lists=chosen)
    flickr_token.make(settings, tmp_path / "out", title="t")
    frame = items.read(tmp_path / "out")
    assert (frame.modality == "image").sum() == 9
    assert read_json(tmp_path / "out" / "items.json")["unlisted"] == 2
    with pytest.raises(UserError, match=r"1 of the 11 annotated images are not there: 2258277193_586949ec62\.jpg\.1"):
        read(flickr_token, tmp_path, annotations=path)


def test_kaggle_s_commas_and_bars(corpus, tmp_path):
    text = 'image,caption\n0.jpg,"A dog , running ."\n0.jpg,"He said ""go"" ."\n'
    text += "".join(f"{name},a dog\n" for name in NAMES[1:])
    frame = read(flickr_csv, tmp_path, annotations=corpus("captions.txt", text))
    assert of(frame, "0#0").source == "A dog , running ."
    assert of(frame, "0#1").source == 'He said "go" .'
    bars = "image_name| comment_number| comment\n" + "".join(f'{name}| 0| A "dog, | runs\n' for name in NAMES)
    frame = read(flickr_csv, tmp_path, annotations=corpus("results.csv", bars))
    assert of(frame, "3#0").source == 'A "dog, | runs'
    with pytest.raises(UserError, match=r"captions\.txt: 1 line\(s\) lack one of the columns image, caption: line 3"):
        read(flickr_csv, tmp_path, annotations=corpus("captions.txt", "image,caption\n0.jpg,a\n1.jpg\n"))
    with pytest.raises(UserError, match=r"its first line does not name columns for image and caption"):
        read(flickr_csv, tmp_path, annotations=corpus("captions.txt", "0.jpg,a dog\n"))


def test_a_line_ends_where_files_end_them(corpus, tmp_path):
    """U+2028, U+0085 and a form feed are signs in a caption, and a byte order mark is none."""
    odd = "a\u2028dog\u0085runs\fhere"
    for name, module, line in (
        ("a.token", flickr_token, "{}#0\t{}"),
        ("a.jsonl", table, None),
        ("a.csv", table, "{},{}"),
    ):
        head = "" if module is flickr_token or line is None else "image,caption\r\n"
        rows = (
            line.format(n, odd) if line else json.dumps({"image": n, "caption": odd}, ensure_ascii=False) for n in NAMES
        )
        frame = read(module, tmp_path, annotations=corpus(name, "\ufeff" + head + "\r\n".join(rows)))
        assert len(frame) == 20, name
        assert set(frame.source[frame.modality == "text"]) == {"a dog runs here"}  # white space is one space


def test_one_s_own_table_in_every_format(corpus, tmp_path):
    rows = [
        {"image": n, "captions": ["a cat", "a dog"], "kind": "pet", "part": p}
        for n, p in zip(NAMES, PARTS, strict=True)
    ]
    columns = {"caption": "captions", "label": "kind", "partition": "part"}
    pd.DataFrame(rows).to_parquet(tmp_path / "mine.parquet")
    whole = read(table, tmp_path, annotations=tmp_path / "mine.parquet", columns=columns)
    assert of(whole, "7").label == "pet"
    assert of(whole, "7#1").source == "a dog"
    lines = corpus("mine.jsonl", "\n".join(map(json.dumps, rows)))
    assert read(table, tmp_path, annotations=lines, columns=columns).equals(whole)
    flat = pd.DataFrame(rows).explode("captions")
    flat.to_csv(tmp_path / "mine.csv", index=False)
    assert read(table, tmp_path, annotations=tmp_path / "mine.csv", columns=columns).equals(whole)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,caption\n../0.jpg,a dog\n", r"leave the image folder.*'\.\./0\.jpg' \(line 2\)"),
        ("image,caption\n/0.jpg,a dog\n", "leave the image folder"),
        ("image,caption\n0.jpg,...\n", r"have no words.*'0\.jpg' \(line 2\) \('\.\.\.'\)"),
        ("image,caption\n0.jpg,a dog, big\n", r"line 2 has 3 cells, its first line names 2 columns"),
        ('image,caption\n0.jpg,"a dog\n1.jpg,a cat\n', r"begins in line 2 cannot be read .*`quotes: false`"),
        ("picture,caption\n0.jpg,a dog\n", "has no column 'image'"),
        ("image,caption,split\n0.jpg,a,tset\n", r"unknown partition \(expected train, val, test\).*'tset'"),
        ("image,caption,split\n0.jpg,a,test\n0.jpg,b,train\n", "belong to two partitions.*test and train"),
        (
            "image,caption,split\n0.jpg,a,test\n1.jpg,b,\n",
            r"1 of 2 images have no partition, such as '1\.jpg' \(line 3\)",
        ),
        ("image,caption\n0.jpg,a\ngone.jpg,b\n2.jpg,c\n", r"1 of the 3 annotated images are not there: gone\.jpg"),
        ("image,caption\n0.jpg,a dog\n", "no image is of the partition"),
        ("image,caption\n", r"mine\.csv: no image is annotated; expected its name and a caption of each image in"),
    ],
)
def test_faults_name_their_place(corpus, tmp_path, text, said):
    columns = {"partition": "split"} if "split" in text else {}
    with pytest.raises(UserError, match=said):
        read(table, tmp_path, annotations=corpus("mine.csv", text), columns=columns)


def test_faults_of_json(corpus, tmp_path):
    bad = coco(0, 10)
    bad["annotations"].append({"image_id": 5, "caption": "a dog"})
    with pytest.raises(UserError, match=r"1 annotation\(s\) belong to no listed image: annotations\[20\] \(5\)"):
        read(coco_captions, tmp_path, annotations=corpus("a.json", bad))
    with pytest.raises(UserError, match=r"1 entries lack a text `image` or a `caption`.*: entry 1"):
        read(lavis, tmp_path, annotations=corpus("a.json", [{"image": "0.jpg", "caption": "a"}, {"image": "1.jpg"}]))
    with pytest.raises(UserError, match=r"line\(s\) are not NAME#k, a tab and a caption: line 1 \('0\.jpg a dog'\)"):
        read(flickr_token, tmp_path, annotations=corpus("a.token", "0.jpg a dog"))


def test_a_reader_says_which_one_is_meant(corpus, tmp_path):
    """A file of another layout is told by its name, in either direction."""
    theirs = corpus("coco.json", coco(0, 10))
    blip = corpus("blip.json", [{"image": "0.jpg", "caption": "a dog"}])
    for module, path, said in (
        (karpathy, theirs, "reader: coco_captions"),
        (karpathy, blip, "reader: lavis"),
        (lavis, theirs, "reader: coco_captions"),
        (coco_captions, blip, "reader: lavis"),
    ):
        with pytest.raises(UserError, match=said):
            module.read(module.Settings(images=tmp_path / "images", annotations=path))


def test_names_in_two_folders_and_with_two_endings():
    found = captioned.ids_of(["a/1.jpg", "b/1.jpg", "2.jpg", "2.png", "3.jpg"])
    assert found == {"3.jpg": "3", "a/1.jpg": "a/1", "b/1.jpg": "b/1", "2.jpg": "2.jpg", "2.png": "2.png"}


def test_a_photograph_is_found_as_coco_and_macos_name_it(tmp_path):
    (tmp_path / "val2014").mkdir()
    for name in ("val2014/COCO_val2014_000000000042.jpg", "cafe\u0301.jpg", "plain.jpg"):
        (tmp_path / name).touch()
    photographs = captioned.Photographs(tmp_path)
    assert photographs.locate("COCO_val2014_000000000042.jpg") == "val2014/COCO_val2014_000000000042.jpg"
    assert photographs.locate("val2014/COCO_val2014_000000000042.jpg") == "val2014/COCO_val2014_000000000042.jpg"
    assert photographs.locate("caf\u00e9.jpg") == "cafe\u0301.jpg"
    assert photographs.locate("elsewhere/plain.jpg") == "plain.jpg"
    assert photographs.locate("gone.jpg") is None


def classes(tmp_path, *names):
    for name in names:
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "root"


def test_a_folder_per_class(tmp_path):
    root = classes(tmp_path, *(f"{kind}/{n}.jpg" for kind in ("sea_lion", "cat") for n in range(10)), "cat/notes.md")
    (root / "cat" / "3.txt").write_text("A cat sleeps.\n\nIt is black.\n")
    frame = folders.read(folders.Settings(root=root, test=0.2, val=0.1))
    images = frame[frame.modality == "image"]
    expected = {("cat", "test"): 2, ("cat", "train"): 7, ("cat", "val"): 1}
    expected |= {("sea_lion", part): n for (_, part), n in expected.items()}
    assert images.groupby(["label", "partition"]).size().to_dict() == expected
    assert list(frame.source[frame.group_id == "cat/3"]) == ["cat/3.jpg", "A cat sleeps.", "It is black."]
    assert of(frame, "sea_lion/3#0").source == "a photograph of a sea lion."
    bare = folders.read(folders.Settings(root=root, prompt=None))
    assert bare.modality.value_counts().to_dict() == {"image": 20, "text": 2}


def test_a_folder_per_partition_above(tmp_path):
    parts = {"train": 3, "valid": 1, "test": 2}
    root = classes(tmp_path, *(f"{part}/cat/{part}{n}.png" for part, count in parts.items() for n in range(count)))
    frame = folders.read(folders.Settings(root=root))
    assert frame[frame.modality == "image"].partition.value_counts().to_dict() == {"train": 3, "test": 2, "val": 1}
    classes(tmp_path, "test/dog/1.png")
    with pytest.raises(UserError, match=r"1 class\(es\) have no training image: dog"):
        folders.read(folders.Settings(root=root))
    with pytest.raises(UserError, match=r"holds no CLASS/NAME with an ending of \.jpg"):
        folders.read(folders.Settings(root=classes(tmp_path / "other", "cat/notes.md")))


def test_regions_are_named_in_the_manifest(corpus, tmp_path):
    path = corpus("captions.csv", "image,caption\n" + "".join(f"{name},a dog\n" for name in NAMES))
    corpus("a.tsv", "")
    given = {"images": tmp_path / "images", "annotations": path}
    table.make(table.Settings(**given, regions=tmp_path / "a.tsv"), tmp_path / "out", title="t")
    manifest = read_json(tmp_path / "out" / "items.json")
    assert (tmp_path / "out" / manifest["region_features"]["files"][0]).samefile(tmp_path / "a.tsv")
    with pytest.raises(UserError, match=r"b\.tsv: not found; set datasets\.out\.regions"):
        table.make(
            table.Settings(**given, regions=[tmp_path / "a.tsv", tmp_path / "b.tsv"]), tmp_path / "out", title="t"
        )


def test_what_folders_hold_is_looked_at(tmp_path):
    """A photograph that is added or moved, and a caption beside one that is mended."""
    root = classes(tmp_path / "pets", *(f"{kind}/{n}.jpg" for kind in ("cat", "dog") for n in range(10)))
    (root / "cat/1.txt").write_text("a cat\n")
    settings, target = folders.Settings(root=root, test=0.2, val=0.1), tmp_path / "data/pets"
    folders.make(settings, target, title="Pets")
    assert not changed(target)
    (root / "cat/1.txt").write_text("a black cat\n")
    assert changed(target)
    folders.make(settings, target, title="Pets")
    moved(root / "dog/3.jpg")
    assert changed(target)


def test_region_files_that_are_replaced_are_noticed(corpus, tmp_path):
    """One file, and each of a folder; not the lock of an LMDB, which reading it changes."""
    path = corpus("captions.csv", "image,caption\n" + "".join(f"{name},a dog\n" for name in NAMES))
    (tmp_path / "regions").mkdir()
    for name in ("regions/0.npz", "regions/lock.mdb", "all.tsv"):
        (tmp_path / name).write_text("one")
    for regions, replaced in (("regions", "regions/0.npz"), ("all.tsv", "all.tsv")):
        given = {"images": tmp_path / "images", "annotations": path, "regions": tmp_path / regions}
        table.make(table.Settings(**given), tmp_path / "data" / regions, title="t")
        (tmp_path / "regions/lock.mdb").write_text(f"read {regions}")
        assert not changed(tmp_path / "data" / regions)
        (tmp_path / replaced).write_text("two")
        assert changed(tmp_path / "data" / regions)
