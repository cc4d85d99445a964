"""Reader of Caltech-UCSD Birds 200-2011, split by classes for zero-shot retrieval (CVS thesis, table 4).

The test items are those of the unseen classes and, with `seen_images: split`, also the held-out images of the seen
classes; `unseen_classes` in `items.json` distinguishes them. `classes.parquet` holds the attributes of each class and a
text made from them.

    ROOT/images.txt, image_class_labels.txt, classes.txt, train_test_split.txt, images/CLASS/NAME.jpg
    ROOT/attributes/class_attribute_labels_continuous.txt, image_attribute_labels.txt
    ROOT/attributes/attributes.txt, or beside ROOT, where the archive unpacks it

Sentences come from a folder with one text file per image, CLASS/NAME.txt, and one sentence per line (`captions`; the
layout of Reed et al., who have ten sentences per image), or are generated from the annotated attributes of an image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import is_count, sha256_file, write_parquet
from crossmodal.datasets import items, raw

PROBABLY = 3  # certainties are 1 not visible, 2 guessing, 3 probably, 4 definitely
USUAL = 0.4  # minimum share of a class's images with an attribute for the class's text to name it

SeenImages = Literal["split", "train"]


class Settings(BaseModel):
    """The block of a data set in the layout of CUB-200-2011."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Path = Field(description="folder that contains images.txt")
    captions: Path | None = Field(
        None, description="folder of CLASS/NAME.txt; without it, sentences are generated from the attributes"
    )
    sentences: int = Field(
        5, ge=1, le=50, description="sentences per image: generated from its attributes, or the first ones of its file"
    )
    unseen: int | tuple[str, ...] | Path = Field(
        50, description="number of unseen classes, their names, or a file of their names"
    )
    seen_images: SeenImages = Field(
        "split",
        description="partition of the images of seen classes: by train_test_split.txt, or all for training, "
        "as in the CVS thesis",
    )
    val: float = Field(0.1, ge=0, le=0.5, description="share of each seen class's training images kept for validation")
    seed: int = Field(
        0, ge=0, description="seed of the choice of unseen classes and validation images, and of generated sentences"
    )


class Birds:
    """The files of the data set in memory; ids count from 1, as in the files."""

    def __init__(self, settings: Settings, dataset: str = "*"):
        self.settings, self.where = settings, f"datasets.{dataset}"
        root = settings.root
        if not (root / "images").is_dir():
            raise UserError(f"{root}: has no folder `images`; set {self.where}.root in params.yaml to CUB_200_2011")
        self.classes = self._named(root / "classes.txt")
        self.images = self._named(root / "images.txt")
        self.label = self._numbered(root / "image_class_labels.txt", tuple(self.classes))
        self.training = self._numbered(root / "train_test_split.txt", (0, 1))
        places = _attributes(root)
        path = next((place for place in places if place.is_file()), places[0])
        self.attributes = [name for _, name in sorted(self._named(path).items())]
        self.class_attributes = self._matrix(root / "attributes" / "class_attribute_labels_continuous.txt")

    def _lines(self, path: Path) -> list[str]:
        return raw.lines(path, f"CUB-200-2011 has it; set {self.where}.root in params.yaml to its folder")

    def _named(self, path: Path) -> dict[int, str]:
        """{id: name} from a file of `<id> <name>` per line."""
        names: dict[int, str] = {}
        faults: list[str] = []
        for number, line in enumerate(self._lines(path), 1):
            head, _, name = line.partition(" ")
            if not is_count(head) or not name.strip() or int(head) in names or name.strip() in names.values():
                faults.append(f"line {number} ({line!r})")
                continue
            names[int(head)] = name.strip()
        if faults or not names:
            what = raw.first(faults) or "nothing"
            raise UserError(
                f"{path}: expected one `<id> <name>` per line, each id and name once; found {what}; correct them"
            )
        return names

    def _numbered(self, path: Path, allowed: Sequence[int]) -> dict[int, int]:
        """{image id: number} from a file of `<image id> <number>` per line, which must list every image."""
        numbers: dict[int, int] = {}
        faults: list[str] = []
        for number, line in enumerate(self._lines(path), 1):
            pieces = line.split()
            good = len(pieces) == 2 and all(is_count(piece) for piece in pieces)
            image, value = map(int, pieces) if good else (0, -1)
            if image not in self.images or value not in allowed or image in numbers:
                faults.append(f"line {number} ({line!r})")
                continue
            numbers[image] = value
        if faults:
            raise UserError(
                f"{path}: {len(faults)} line(s) are not `<image id> <number>` with an id of images.txt, each once, and "
                f"a number that is known ({allowed[0]} to {allowed[-1]}): {raw.first(faults)}"
            )
        lacking = [self.images[image] for image in self.images if image not in numbers]
        if lacking:
            raise UserError(
                f"{path}: lacks {len(lacking)} image(s) of images.txt: {raw.first(lacking)}; add their lines"
            )
        return numbers

    def _matrix(self, path: Path) -> np.ndarray:
        """(classes, attributes) shares from 0 to 1, with the classes in the order of their ids."""
        rows = [line.split() for line in self._lines(path)]
        try:
            matrix = np.array(rows, dtype=float)
        except ValueError:
            matrix = np.zeros((len(rows), 0))
        expected = (len(self.classes), len(self.attributes))
        if matrix.shape != expected or not ((matrix >= 0) & (matrix <= 100)).all():
            raise UserError(
                f"{path}: expected {expected[0]} lines (classes) of {expected[1]} per cents (attributes of "
                f"attributes.txt), found {len(rows)} lines of {sorted({len(row) for row in rows})}; fetch it again"
            )
        return matrix / 100

    def unseen(self) -> list[str]:
        """Names of the unseen classes, in the order of their ids."""
        wanted, names = self.settings.unseen, list(self.classes.values())
        key = f"{self.where}.unseen"
        if isinstance(wanted, Path):
            wanted = tuple(raw.lines(wanted, f"set {key} in params.yaml to a file of class names, or to a number"))
        if isinstance(wanted, int):
            if not 0 < wanted < len(names):
                raise UserError(f"params.yaml: {key}: {wanted} of {len(names)} classes leave none seen or none unseen")
            chosen = np.random.default_rng(self.settings.seed).permutation(len(names))[:wanted]
            wanted = tuple(names[k] for k in chosen)
        unknown = [name for name in wanted if name not in names]
        if unknown:
            close = suggestion(unknown[0], names).split(" (known")[0]
            raise UserError(
                f"params.yaml: {key}: {len(unknown)} name(s) that classes.txt lacks: {raw.first(unknown)}{close}"
            )
        if not 0 < len(set(wanted)) < len(names):
            raise UserError(f"params.yaml: {key}: names {len(set(wanted))} of {len(names)} classes; some must be seen")
        return [name for name in names if name in set(wanted)]

    # -- sentences ----------------------------------------------------------------------------------------------------

    def captions(self) -> dict[int, list[str]]:
        """{image id: its sentences}.

        Raises
        ------
        UserError : a file of sentences is missing or empty, or the attributes of the images cannot be read.
        """
        folder = self.settings.captions
        if folder is None:
            return self._made()
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; set {self.where}.captions in params.yaml, or leave it out")
        on_disk, captions, lacking = raw.Listing(folder), {}, []
        for image, path in self.images.items():
            place = Path(path).with_suffix(".txt")
            if (real := on_disk.find(str(place))) is not None:
                captions[image] = [" ".join(line.split()) for line in raw.lines(folder / real, "")]
                captions[image] = captions[image][: self.settings.sentences]
            if not captions.get(image):
                lacking.append(str(place))
        if lacking:
            raise UserError(
                f"{folder}: {len(lacking)} of {len(self.images)} files of sentences are missing or empty: "
                f"{raw.first(lacking)}; complete the folder, or leave {self.where}.captions out of params.yaml"
            )
        return captions

    def _made(self) -> dict[int, list[str]]:
        """Generate sentences that name some attributes of an image, of those annotated at least as probable."""
        path = self.settings.root / "attributes" / "image_attribute_labels.txt"
        if not path.is_file():
            raise UserError(f"{path}: not found; it is needed where {self.where}.captions names no sentences")
        columns = ["image", "attribute", "present", "certainty"]
        try:
            # Some lines of the distributed file have one or two fields too many, which `usecols` ignores.
            table = pd.read_csv(path, sep=" ", header=None, names=[*columns, "time"], usecols=columns, dtype=int)
        except ValueError as error:
            raise UserError(
                f"{path}: is not one `<image> <attribute> <0 or 1> <certainty> <time>` per line ({error})"
            ) from None
        table = table[(table.present == 1) & (table.certainty >= PROBABLY)]
        odd = table[~table.image.isin(list(self.images)) | ~table.attribute.between(1, len(self.attributes))]
        if len(odd):
            raise UserError(
                f"{path}: {len(odd)} line(s) name an unknown image or attribute, such as {odd.iloc[0].tolist()}"
            )
        present = table.groupby("image").attribute.apply(list).to_dict()
        captions = {}
        for image, name in self.images.items():
            having = [self.attributes[k - 1] for k in present.get(image, [])]
            key = hashlib.sha256(f"{self.settings.seed}/{name}".encode()).digest()[:8]
            rng = np.random.default_rng(int.from_bytes(key, "big"))
            captions[image] = []
            for _ in range(self.settings.sentences):
                some = rng.permutation(len(having))[: int(rng.integers(3, 7))]
                captions[image].append(sentence([having[k] for k in sorted(some)]))
        return captions


def _attributes(root: Path) -> list[Path]:
    """Possible paths of the names of the attributes, in order of preference."""
    return [folder / "attributes.txt" for folder in (root / "attributes", root, root.parent)]


def phrase(attribute: str) -> str:
    """An attribute in words, such as `forked tail shape` for `has_tail_shape::forked_tail`."""
    group, _, value = re.sub(r"[()]", "", attribute.replace("_", " ")).partition("::")
    words, of = value.split(), group.removeprefix("has ").split()
    return " ".join([*words, *(of[1:] if words[-1:] == of[:1] else of)])


def sentence(attributes: Sequence[str]) -> str:
    """One sentence that names all given attributes."""
    if not attributes:
        return "This is a bird."
    words = [phrase(attribute) for attribute in attributes]
    listed = ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1]
    return f"This bird has {listed}."


def class_table(birds: Birds, unseen: Sequence[str]) -> pd.DataFrame:
    """One row per class: `label`, `seen`, `text` (its usual attributes), `attributes` (shares from 0 to 1)."""
    rows = []
    for (_, name), shares in zip(sorted(birds.classes.items()), birds.class_attributes, strict=True):
        best: dict[str, int] = {}
        for k in np.flatnonzero(shares >= USUAL):
            group = birds.attributes[k].partition("::")[0]
            if group not in best or shares[k] > shares[best[group]]:
                best[group] = k
        rows.append((name, name not in unseen, sentence([birds.attributes[k] for k in best.values()]), shares.tolist()))
    return pd.DataFrame(rows, columns=["label", "seen", "text", "attributes"])


def read(settings: Settings, dataset: str = "*") -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """The items (all images, then all sentences), the table of classes, and their description for `items.json`.

    Parameters
    ----------
    dataset : name of the block in `params.yaml`, for error messages.

    Raises
    ------
    UserError : the files are missing, malformed or contradict each other.
    """
    birds = Birds(settings, dataset)
    unseen = birds.unseen()
    on_disk, missing = raw.Listing(settings.root / "images"), []
    places: dict[str, str | None] = {}
    for path in birds.images.values():
        places[path] = on_disk.find(path)
        if places[path] is None:
            missing.append(path)
    if missing:
        raise UserError(
            f"{settings.root / 'images'}: {len(missing)} of the {len(birds.images)} images of images.txt are not "
            f"there: {raw.first(missing)}; complete the folder"
        )
    rows = []
    for image, path in birds.images.items():
        label = birds.classes[birds.label[image]]
        train = settings.seen_images == "train" or birds.training[image] == 1
        stem = str(Path(path).with_suffix(""))
        rows.append((image, stem, label, "test" if label in unseen or not train else "train", path))
    trained = {label for _, _, label, part, _ in rows if part == "train"}
    bare = [name for name in birds.classes.values() if name not in trained and name not in unseen]
    if bare:
        raise UserError(
            f"{settings.root / 'train_test_split.txt'}: {len(bare)} seen class(es) have no training image: "
            f"{raw.first(bare)}; name them in {birds.where}.unseen, or give them one"
        )
    kept = raw.carve({stem: label for _, stem, label, part, _ in rows if part == "train"}, settings.val, settings.seed)
    sentences = birds.captions()
    entries, texts = [], []
    for image, stem, label, part, path in rows:
        part = "val" if stem in kept else part
        entries.append((stem, "image", stem, label, part, f"images/{places[path]}"))
        texts += [(f"{stem}#{k}", "text", stem, label, part, text) for k, text in enumerate(sentences[image])]
    frame = items.validate(pd.DataFrame(entries + texts, columns=list(items.COLUMNS)), settings.root)
    classes = class_table(birds, unseen)
    manifest = {
        "seen_classes": classes.label[classes.seen].tolist(),
        "unseen_classes": unseen,
        "attributes": birds.attributes,
        "text": "captions" if settings.captions is not None else "made from attributes",
        "annotations": [
            {"file": name, "sha256": sha256_file(settings.root / name)}
            for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
        ],
    }
    return frame, classes, manifest


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Read the files and write `classes.parquet`, `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : for the same reasons as `read`.
    """
    files = [*settings.root.glob("*.txt"), *settings.root.glob("attributes/*.txt"), *_attributes(settings.root)]
    files += [settings.unseen] if isinstance(settings.unseen, Path) else []
    trees = [settings.captions] if settings.captions else []
    read_from = raw.record(folder, files, trees, names=[settings.root / "images"])
    frame, classes, manifest = read(settings, folder.name)
    write_parquet(folder / "classes.parquet", classes)
    chosen = settings.model_dump(exclude={"root", "captions", "unseen"})
    manifest = {"reader": "cub", "title": title, "root": raw.name_of(settings.root, folder), **manifest}
    items.write(frame, folder, {**manifest, "settings": chosen, "raw": read_from})
