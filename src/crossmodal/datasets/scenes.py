"""The drawn world for four tasks: scenes of three to seven things, with captions, regions, relations and questions.

Classes repeat, colours are shared, and captions mention a part of a scene, so that a caption fits a picture only if
each attribute belongs to the right thing. Two scenes in succession may be twins, whose captions differ in one word.
Regions are those of a simulated detector; what is exact lies in tables beside the items. Everything follows from a
seed, and no picture changes when another partition grows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from crossmodal.core.files import sha256_file, write_parquet, write_text
from crossmodal.datasets import items, karpathy
from crossmodal.datasets.drawing.captioned_pictures import (
    check_sizes,
    clear_images,
    entries,
    partitions,
    write_picture,
)
from crossmodal.datasets.drawing.scene_captions import RELATION_WORDS, Words, captions, noun
from crossmodal.datasets.drawing.scene_detections import SYNONYMS, detections
from crossmodal.datasets.drawing.scene_layout import Scene, scene
from crossmodal.datasets.drawing.scene_questions import Question, questions
from crossmodal.datasets.drawing.scene_things import paint
from crossmodal.datasets.drawing.work import each, generator, pick


class Settings(BaseModel):
    """Settings of the drawn scenes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(1, ge=0)
    images: int = Field(4400, ge=30)
    val: int = Field(400, ge=5, description="how many of the `images` are for validation")
    test: int = Field(1000, ge=5, description="how many of the `images` are for the test")
    text: Literal["captions", "questions"] = Field(
        "captions", description="what the texts are: five captions per image, or questions, with a table of answers"
    )
    bias: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the questions that are asked without a second scene on which the answer is another, and "
        "whatever the answer; 0: balanced",
    )
    priors: Literal["same", "changing"] = Field(
        "same",
        description="of the questions that are not balanced; changing: other answers are frequent in the test than in "
        "training, as in VQA-CP",
    )

    @model_validator(mode="after")
    def _something_changes(self) -> Settings:
        if self.priors == "changing" and self.bias == 0:
            raise ValueError(
                "priors: 'changing' needs a `bias` above 0, since balanced questions have no prior to change"
            )
        return self


class Drawn(NamedTuple):
    """A scene with what is said of it."""

    scene: Scene
    captions: list[str]
    regions: list[dict[str, Any]]
    phrases: list[tuple[str, tuple[float, ...]]]


def described(seed: int, part: int, number: int, count: int) -> Drawn:
    """Scene `number` of the `count` of a partition (its number as in `scene_layout`), with all that is said of it."""
    what = scene(seed, part, number)
    pair: tuple[Scene, Scene] | tuple[None, None] = (None, None)
    if number % 2 and what.change is not None:
        pair = scene(seed, part, number - 1), what
    elif number % 2 == 0 and number + 1 < count and (twin := scene(seed, part, number + 1)).change is not None:
        pair = what, twin
    key = (seed, part, number)
    regions = detections(generator(*key, 4), what)
    return Drawn(what, captions(key, what, *pair), regions, _phrases(generator(*key, 6), what))


def _phrases(rng: Any, what: Scene) -> list[tuple[str, tuple[float, ...]]]:
    """Region captions: words for each thing and for each relation, with the box of the thing or of the two."""
    boxes = [thing.box for thing in what.things]
    phrases = [(noun(thing, Words.drawn(rng, 0.5, 0.9)), box) for thing, box in zip(what.things, boxes, strict=True)]
    for a, name, b in what.relations:
        words = [noun(what.things[n], Words.drawn(rng, 0.2, 0.6)) for n in (a, b)]
        box = (*(min(boxes[a][k], boxes[b][k]) for k in (0, 1)), *(max(boxes[a][k], boxes[b][k]) for k in (2, 3)))
        phrases.append((f"{words[0]} {pick(rng, RELATION_WORDS[name])} {words[1]}", box))
    return phrases


def _write_one(folder: Path, seed: int, place: tuple[int, int, int, int]) -> Drawn:
    index, part, number, count = place
    drawn = described(seed, part, number, count)
    image = paint(generator(seed, part, number, 1), drawn.scene.things, drawn.scene.background)
    write_picture(image, folder, index)
    return drawn


def draw(settings: Settings, folder: Path, *, workers: int | None = None) -> tuple[list[Drawn], list[list[Question]]]:
    """Write the raw files.

    These are `images/`, `dataset_scenes.json` (Karpathy's layout), `detections.json` (the regions of the simulated
    detector), `scenes.json` (what is exact) and, per partition, `questions_*.json`, `annotations_*.json` and
    `complementary_pairs_*.json` in the layout of VQA v2.

    Parameters
    ----------
    workers : number of processes, by default up to one per core; the files do not depend on it.

    Returns
    -------
    All scenes in the order of their images, and the questions of each partition.

    Raises
    ------
    UserError : the disk is full or the folder cannot be written.
    """
    parts = partitions(settings)
    places = [
        (index, part, number, len(indices))
        for part, indices in enumerate(parts.values())
        for number, index in enumerate(indices)
    ]
    clear_images(folder / "images", settings.images)
    drawn = each(partial(_write_one, folder / "images", settings.seed), places, workers)
    questions_of, changing = [], settings.priors == "changing"
    for part, (name, indices) in enumerate(parts.items()):
        scenes_of = [drawn[index].scene for index in indices]
        questions_of.append(questions(settings.seed, part, scenes_of, settings.bias, changing=changing))
        _write_questions(folder, name, indices, questions_of[-1])
    write_text(folder / "detections.json", json.dumps({f"{n:06d}.jpg": one.regions for n, one in enumerate(drawn)}))
    write_text(folder / "scenes.json", json.dumps([_exact(one.scene) for one in drawn]))
    listed = entries([one.captions for one in drawn], parts)
    write_text(folder / "dataset_scenes.json", json.dumps({"dataset": "scenes", "images": listed}))
    return drawn, questions_of


def _exact(what: Scene) -> dict[str, Any]:
    things = [
        {"class": t.kind, "colour": t.colour, "size": t.size, "tilt": round(t.angle, 4), "depth": round(t.depth, 2)}
        | {"box": [round(v, 2) for v in t.box]}
        for t in what.things
    ]
    relations = [list(relation) for relation in what.relations]
    twin = {"change": what.change, "changed": list(what.changed)}
    return {"background": what.background, "things": things, "relations": relations, **twin}


def _write_questions(folder: Path, part: str, indices: range, questions_of: Sequence[Question]) -> None:
    """The questions of a partition in the layout of VQA v2."""
    ids = _question_ids(indices, questions_of)
    written, annotations = [], []
    for number, question in zip(ids, questions_of, strict=True):
        image = indices[question.scene]
        written.append({"image_id": image, "question": question.text, "question_id": number})
        answers = [
            {"answer": answer, "answer_confidence": "yes", "answer_id": n}
            for n, answer in enumerate(question.answers, 1)
        ]
        kinds = {"question_type": question.form, "answer_type": question.answer_type}
        annotation = {"question_id": number, "image_id": image, **kinds, "multiple_choice_answer": question.answer}
        annotations.append({**annotation, "answers": answers, "program": question.program})
    pairs = [[ids[n], ids[q.pair]] for n, q in enumerate(questions_of) if q.pair is not None and n < q.pair]
    write_text(folder / f"questions_{part}.json", json.dumps({"questions": written}))
    write_text(folder / f"annotations_{part}.json", json.dumps({"annotations": annotations}))
    write_text(folder / f"complementary_pairs_{part}.json", json.dumps(pairs))


def _question_ids(indices: range, questions_of: Sequence[Question]) -> list[int]:
    counts: dict[int, int] = {}
    ids = []
    for question in questions_of:  # as in VQA, an id is that of the image with three digits more
        image = indices[question.scene]
        ids.append(1000 * image + counts.setdefault(image, 0))
        counts[image] += 1
    return ids


def _tables(drawn: Sequence[Drawn]) -> dict[str, pd.DataFrame]:
    """The side tables of the images: what is exact of their things, relations and regions."""
    objects, relations, phrases = [], [], []
    for index, one in enumerate(drawn):
        item = f"{index:06d}"
        for n, t in enumerate(one.scene.things):
            objects.append((item, n, t.kind, [t.colour, t.size], *(round(v, 2) for v in t.box)))
        relations += [(item, a, name, b) for a, name, b in one.scene.relations]
        phrases += [(item, text, *(round(v, 2) for v in box)) for text, box in one.phrases]
    box = ["x1", "y1", "x2", "y2"]
    return {
        "objects": pd.DataFrame(objects, columns=["item_id", "number", "class", "attributes", *box]),
        "relations": pd.DataFrame(relations, columns=["item_id", "subject", "predicate", "object"]),
        "phrases": pd.DataFrame(phrases, columns=["item_id", "phrase", *box]),
    }


def _answers(settings: Settings, questions_of: Sequence[Sequence[Question]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The questions as items, and the table of their answers."""
    texts, answers = [], []
    for (part, indices), of_part in zip(partitions(settings).items(), questions_of, strict=True):
        names = [f"{n // 1000:06d}#q{n % 1000}" for n in _question_ids(indices, of_part)]
        for name, q in zip(names, of_part, strict=True):
            texts.append((name, "text", name.partition("#")[0], None, part, q.text))
            pair = None if q.pair is None else names[q.pair]
            row = (name, list(q.answers), q.answer_type, q.form, q.answer, json.dumps(q.program), pair)
            answers.append(row)
    columns = ["item_id", "answers", "answer_type", "question_type", "answer", "program", "pair"]
    return pd.DataFrame(texts, columns=list(items.COLUMNS)), pd.DataFrame(answers, columns=columns)


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Draw the raw files into `folder/raw`, and write the items and their side tables into `folder`.

    The tables are `objects.parquet`, `relations.parquet` and `phrases.parquet` (captions of regions) of the images and,
    where the texts are questions, `answers.parquet`.

    Raises
    ------
    UserError : too few images are left for training, the disk is full, or the folder cannot be written.
    """
    check_sizes(settings, folder.name)
    raw = folder / "raw"
    with suppress(OSError):  # `draw` reports a folder that cannot be written
        (folder / "items.parquet").unlink(missing_ok=True)  # outdated as soon as the pictures are redrawn
    drawn, questions_of = draw(settings, raw)
    read = karpathy.Settings(annotations=raw / "dataset_scenes.json", images=raw / "images")
    frame, tables = karpathy.read(read, folder.name), _tables(drawn)
    if settings.text == "questions":
        texts, tables["answers"] = _answers(settings, questions_of)
        frame = pd.concat([frame[frame.modality == "image"], texts], ignore_index=True)
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table)
    manifest = {
        "reader": "scenes",
        "title": title,
        "root": "raw/images",
        "annotations": {"file": "raw/dataset_scenes.json", "sha256": sha256_file(read.annotations)},
        "regions": {
            "file": "raw/detections.json",
            "sha256": sha256_file(raw / "detections.json"),
            "exact": False,
            "synonyms": SYNONYMS,
        },
        "tables": {name: sha256_file(folder / f"{name}.parquet") for name in tables},
        "settings": settings.model_dump(),
    }
    items.write(frame, folder, manifest)
