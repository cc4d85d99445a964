"""Calibration of the drawn scenes for headroom: what can be reached by which kind of knowledge, before systems run.

Retrieval on the test partition, both ways, by

- chance, in closed form;
- an oracle on the exact objects, which reads captions back: with attributes bound to their things and relations to
  theirs (`bound`), and with classes, colours, sizes and relations each on their own (`unbound`);
- a linear probe of the regions' features (ridge regression to class, colour and size), bound and unbound alike;
- a linear map from the global vector to the bag of a caption's words.

Relations: the frequency control (by the two classes), the geometry alone, both, and the share of unseen triples.

Questions: a linear classifier of the question's words alone.

Run `crossmodal prepare scenes` and
`snakemake --cores all data/scenes/features/image.{scenes,scenes_regions}.json` first.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
from common import save
from scipy import sparse

from crossmodal.datasets.drawing.scene_captions import corner
from crossmodal.datasets.drawing.scene_layout import Scene, scene
from crossmodal.datasets.drawing.scene_reader import Mention, Reading, read
from crossmodal.datasets.drawing.scene_relations import PREDICATES, true_relations
from crossmodal.datasets.drawing.scene_things import KINDS, SIZES
from crossmodal.datasets.drawing.scenery import COLOURS
from crossmodal.features.engine.store import open_features

CUTOFFS = (1, 5, 10)
ATTRIBUTES = {"kind": list(KINDS), "colour": list(COLOURS), "size": list(SIZES)}
PROBED = 1500  # training images of which the regions are used


def recalls(scores: np.ndarray, captions: int = 5) -> dict[str, list[float]]:
    """R@1, 5, 10 both ways of (images, texts) scores; ties count as in the mean over all their orders."""
    owner = np.arange(scores.shape[1]) // captions
    right = scores[owner, np.arange(scores.shape[1])]
    higher, same = (scores > right).sum(0), (scores == right).sum(0)
    figures = {"text-to-image": [float(100 * np.clip((k - higher) / same, 0, 1).mean()) for k in CUTOFFS]}
    best = []
    for image, row in enumerate(scores):
        top = row[owner == image].max()
        best.append(((row > top).sum(), (row == top).sum(), (row[owner == image] == top).sum()))
    shares = []
    for k in CUTOFFS:
        hits = []
        for higher, same, right in best:
            places = max(0, min(k - higher, same))
            hits.append(1 - comb(int(same - right), int(places)) / comb(int(same), int(places)))
        shares.append(float(100 * np.mean(hits)))
    return {**figures, "image-to-text": shares}


# -- an oracle on objects ---------------------------------------------------------------------------------------------


def by_oracle(what: list[Scene], readings: list[Reading], *, bound: bool) -> np.ndarray:
    """(images, texts) scores: what a caption says that is false of an image counts against it."""
    most = max(len(one.things) for one in what)
    holds = np.zeros((len(what), most, most, len(PREDICATES)), bool)
    for n, one in enumerate(what):
        for a, b in product(range(len(one.things)), repeat=2):
            if a != b:
                holds[n, a, b, [PREDICATES.index(name) for name in true_relations(one.things[a], one.things[b])]] = True
    things = {
        name: np.array([[getattr(t, name) for t in one.things] + [""] * (most - len(one.things)) for one in what])
        for name in ATTRIBUTES
    }
    things["corner"] = np.array(
        [[corner(t) or "" for t in one.things] + [""] * (most - len(one.things)) for one in what]
    )
    backgrounds = np.array([one.background for one in what])
    scores = np.empty((len(what), len(readings)), np.float32)
    for k, reading in enumerate(readings):
        wrong, statements = np.zeros(len(what)), 0
        fits = [{f: things[f] == getattr(m, f) for f in things if getattr(m, f) is not None} for m in reading.mentions]
        statements = sum(map(len, fits)) + len(reading.relations)
        if reading.background is not None:
            wrong += backgrounds != reading.background
            statements += 1
        related = {n for a, _, b in reading.relations for n in (a, b)} if bound else set()
        for n, mention in enumerate(reading.mentions):
            if bound:
                missing = len(fits[n]) - sum(fits[n].values())
                if mention.count is not None:
                    wrong += np.abs((missing == 0).sum(1) - mention.count)
                elif n not in related:
                    wrong += missing.min(1)
            else:
                wrong += sum(~of.any(1) for of in fits[n].values())
        for a, name, b in reading.relations:
            true = holds[..., PREDICATES.index(name)]
            if bound:
                first, second = (len(fits[n]) - sum(fits[n].values()) for n in (a, b))
                cost = first[:, :, None] + second[:, None, :] + ~true
                cost[:, np.arange(most), np.arange(most)] = 99
                wrong += cost.min((1, 2))
            else:
                wrong += ~true.any((1, 2))
        scores[:, k] = statements - 100 * wrong
    return scores


# -- linear probes ----------------------------------------------------------------------------------------------------


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """The linear map (D, K) and offset (K,) from standardised rows of `x` to those of `y`."""
    mean, scale = x.mean(0), x.std(0) + 1e-6
    z = (x - mean) / scale
    weights = np.linalg.solve(z.T @ z + penalty * len(z) * np.eye(z.shape[1], dtype=z.dtype), z.T @ (y - y.mean(0)))
    weights = weights / scale[:, None]
    return weights, y.mean(0) - mean @ weights


def overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box and others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared)


def labels(boxes: np.ndarray, what: Scene) -> np.ndarray:
    """(regions, labels) zeros and ones: class, colour and size of the thing that a region overlaps most, if by half."""
    rows = np.zeros((len(boxes), sum(map(len, ATTRIBUTES.values()))), np.float32)
    truth = np.array([t.box for t in what.things])
    for n, box in enumerate(boxes):
        shared = overlap(box, truth)
        if shared.max() >= 0.5:
            thing, start = what.things[int(shared.argmax())], 0
            for name, values in ATTRIBUTES.items():
                rows[n, start + values.index(getattr(thing, name))] = 1
                start += len(values)
    return rows


def probed(regions, rows: list[int], test: list[int], seed: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """{attribute: (test images, regions, values) log-probabilities}, and how often the most probable is right."""
    index = regions.index
    x, y = [], []
    for number, row in enumerate(rows):
        count = int(index["count"][row])
        x.append(np.asarray(regions.array[row, :count], np.float32))
        y.append(labels(np.stack(index["boxes"][row]), scene(seed, 0, number)))
    weights, offset = ridge(np.concatenate(x), np.concatenate(y), 1e-3)
    predicted = np.asarray(regions.array[test], np.float32) @ weights + offset
    right: dict[str, list[float]] = defaultdict(list)
    for number, row in enumerate(test):
        count = int(index["count"][row])
        truth, start = labels(np.stack(index["boxes"][row]), scene(seed, 2, number)), 0
        for name, values in ATTRIBUTES.items():
            of = truth[:, start : start + len(values)]
            labelled = of.any(1)
            best = predicted[number, :count, start : start + len(values)].argmax(1)
            right[name] += (best == of.argmax(1))[labelled].tolist()
            start += len(values)
        predicted[number, count:] = -1
    logs, start = {}, 0
    for name, values in ATTRIBUTES.items():
        logs[name] = np.log(np.clip(predicted[..., start : start + len(values)], 0.01, 1))
        start += len(values)
    return logs, {name: float(100 * np.mean(hits)) for name, hits in right.items()}


def by_probe(logs: dict[str, np.ndarray], readings: list[Reading], *, bound: bool) -> np.ndarray:
    """(images, texts) scores by the regions that fit the mentions best, less their mean over the images."""
    fits: dict[Mention, np.ndarray] = {}

    def fit(mention: Mention) -> np.ndarray:
        attributes = [
            logs[name][..., values.index(getattr(mention, name))]
            for name, values in ATTRIBUTES.items()
            if getattr(mention, name) is not None
        ]
        best = sum(attributes).max(1) if bound else sum(of.max(1) for of in attributes)
        return best - best.mean()

    columns = []
    for reading in readings:
        mentions = [Mention(m.kind, m.colour, m.size, None, None) for m in reading.mentions]
        for mention in mentions:
            if mention not in fits:
                fits[mention] = fit(mention)
        columns.append(sum(fits[mention] for mention in mentions))
    return np.stack(columns, 1)


def by_words(train: np.ndarray, train_texts: list[str], test: np.ndarray, test_texts: list[str]) -> np.ndarray:
    """(images, texts) cosines of the words of captions and those that a linear map predicts from a vector."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(token_pattern=r"[a-z]+")
    bags = words.fit_transform(train_texts)
    owner = sparse.kron(sparse.eye(len(train)), np.ones((1, 5)) / 5, format="csr")
    weights, offset = ridge(train, np.asarray((owner @ bags).todense(), np.float32), 1e-2)
    predicted = test @ weights + offset
    predicted -= predicted.mean(0)
    predicted /= np.linalg.norm(predicted, axis=1, keepdims=True)
    return (words.transform(test_texts) @ predicted.T).T


# -- relations and questions ------------------------------------------------------------------------------------------


def relation_controls(train: list[Scene], test: list[Scene]) -> dict[str, float]:
    def listed(scenes: list[Scene]) -> list[tuple]:
        return [
            (one.things[a].kind, name, one.things[b].kind, true_relations(one.things[a], one.things[b]))
            for one in scenes
            for a, name, b in one.relations
        ]

    train_triples, test_triples = listed(train), listed(test)
    overall = Counter(name for _, name, _, _ in train_triples)
    pairs: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for subject, name, other, _ in train_triples:
        pairs[subject, other][name] += 1

    def likely(subject: str, other: str, name: str) -> float:
        return pairs[subject, other][name] + overall[name] / len(train_triples)

    triples = {(subject, name, other) for subject, name, other, _ in train_triples}
    counts = np.array(sorted(overall.values(), reverse=True))
    hits = np.array(
        [
            (
                max(PREDICATES, key=lambda p: likely(subject, other, p)) == name,
                max(true, key=lambda p: overall[p]) == name,
                max(true, key=lambda p: likely(subject, other, p)) == name,
                (subject, name, other) not in triples,
            )
            for subject, name, other, true in test_triples
        ]
    )
    shares = dict(zip(("frequency", "geometry", "both", "unseen triples"), (100 * hits.mean(0)).tolist(), strict=True))
    slope = float(np.polyfit(np.log(np.arange(1, len(counts) + 1)), np.log(counts), 1)[0])
    first = float(100 * counts[0] / counts.sum())
    return {**shares, "most frequent": first, "slope": slope, "per scene": len(train_triples) / len(train)}


def question_only(raw: Path) -> dict[str, float]:
    """Accuracy of a linear classifier of a question's words and pairs of words, per answer type and for colours."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import ComplementNB

    parts = {}
    for part in ("train", "test"):
        questions = json.loads((raw / f"questions_{part}.json").read_text())["questions"]
        annotations = json.loads((raw / f"annotations_{part}.json").read_text())["annotations"]
        of = pd.DataFrame(annotations)[["question_type", "answer_type", "multiple_choice_answer"]]
        parts[part] = of.assign(question=[one["question"] for one in questions])
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"[a-z]+", binary=True)
    accuracy = {}
    for name, column in (("yes/no", "answer_type"), ("number", "answer_type"), ("colour", "question_type")):
        train, test = (parts[part][parts[part][column] == name] for part in ("train", "test"))
        model = ComplementNB().fit(words.fit_transform(train.question), train.multiple_choice_answer)
        guesses = model.predict(words.transform(test.question))
        accuracy[name] = float(100 * (guesses == test.multiple_choice_answer).mean())
        accuracy[f"{name}, commonest"] = float(
            100 * (test.multiple_choice_answer == train.multiple_choice_answer.mode()[0]).mean()
        )
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("data/scenes"))
    parser.add_argument("--vector", default="scenes")
    parser.add_argument("--regions", default="scenes_regions")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    seed = json.loads((options.folder / "items.json").read_text())["settings"]["seed"]
    entries = json.loads((options.folder / "raw" / "dataset_scenes.json").read_text())["images"]
    rows = {part: [e["imgid"] for e in entries if e["split"] == part] for part in ("train", "val", "test")}
    texts = {part: [s["raw"] for n in rows[part] for s in entries[n]["sentences"]] for part in rows}
    what = {part: [scene(seed, n, k) for k in range(len(rows[part]))] for n, part in enumerate(rows)}
    readings = [read(text) for text in texts["test"]]
    images, count = len(rows["test"]), len(texts["test"])
    figures: dict[str, dict] = {
        "chance": {
            "text-to-image": [100 * k / images for k in CUTOFFS],
            "image-to-text": [100 * (1 - comb(count - 5, k) / comb(count, k)) for k in CUTOFFS],
        },
        "oracle, bound": recalls(by_oracle(what["test"], readings, bound=True)),
        "oracle, unbound": recalls(by_oracle(what["test"], readings, bound=False)),
    }
    figures["relations"] = relation_controls(what["train"], what["test"])
    figures["questions"] = question_only(options.folder / "raw")
    for name, row in figures.items():
        print(name, {key: np.round(value, 1).tolist() for key, value in row.items()}, flush=True)
    features = options.folder / "features"
    if (features / f"image.{options.regions}.json").exists():
        probes = {}
        vectors = np.asarray(open_features(features / f"image.{options.vector}").array, np.float32)
        train, test = vectors[rows["train"]], vectors[rows["test"]]
        probes["global vector to words"] = recalls(by_words(train, texts["train"], test, texts["test"]))
        regions = open_features(features / f"image.{options.regions}")
        logs, right = probed(regions, rows["train"][:PROBED], rows["test"], seed)
        probes["regions, right"] = right
        probes["regions, bound"] = recalls(by_probe(logs, readings, bound=True))
        probes["regions, unbound"] = recalls(by_probe(logs, readings, bound=False))
        for name, row in probes.items():
            print(name, {key: np.round(value, 1).tolist() for key, value in row.items()}, flush=True)
        figures |= probes
    if options.save:
        save("scenes", figures)


if __name__ == "__main__":
    main()
