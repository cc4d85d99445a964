"""docs/parity.md: a table of the results of `make parity`, and how to take them again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import comparisons
import programs
from scipy.stats import ttest_ind_from_stats

from crossmodal.core.files import read_json, write_text

KINDS = {
    "encodings": "encodings",
    "loss": "loss",
    "gradient of": "gradients",
    "norm of the gradient": "norm of the gradient",
    "weights after step 1": "weights after a step",
    "mean loss of epoch": "losses of two epochs",
}
"""Beginnings of what `exact.py` lists, and the columns that they are put together in."""


def write(results: Path, target: Path) -> None:
    """The page of the results that there are."""
    parts = [HEAD, _programs()]
    if (path := results / "parity-exact.json").exists():
        parts.append(_exact(read_json(path)))
    if (path := results / "parity-scores.json").exists():
        parts.append(_scores(read_json(path)))
    if (path := results / "parity-captioners.json").exists():
        parts.append(_captioners(read_json(path)))
    if (path := results / "parity-zeroshot.json").exists():
        parts.append(_zeroshot(read_json(path)))
    names = [f"{name}{end}" for name in comparisons.COMPARISONS for end in ("", comparisons.SMALL_END)]
    found = {name: results / f"parity-{name}.json" for name in names}
    there = {name: read_json(path) for name, path in found.items() if path.exists()}
    if there:
        parts.append(_summary(there))
        parts += [_numbers(value) for value in there.values() if "numbers" in value]
    write_text(target, "\n".join(parts))


HEAD = """# Parity with the authors' programs

Made by `make parity` of `benchmarks/results/parity-*.json`; do not edit it by hand.

Ours and an authors' program run one after the other on the same features, the same split, the same words and the
same settings, each in a process of its own with one thread, and with the same seeds (which draw other numbers on either
side). Both choose their epoch on the validation items. Ours is *level* where each of its means over the seeds is at
least the program's, less one standard deviation of the program's own; *in time* where it takes no more seconds of the
processor, training and validation together. With three seeds, 17 of 100 numbers of two equal systems are found not
level (Student's t with two degrees of freedom), so that some of many are to be expected; *p* is that of Welch's
two-sided test of the means. Whether both do the same is told by the numbers of equal weights and batches.

```sh
make parity PROGRAMS=/where/the/programs/lie DATA=/where/the/data/lies
```

`DATA` is described in `benchmarks/parity/data.yaml`. A program that is not there is skipped with a line. What is
finished lies in `results/parity`, so that a run that was stopped goes on. `benchmarks/parity/run.py --help` has the
rest: some comparisons alone, other seeds, fewer epochs and dimensions.
"""


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _programs() -> str:
    lines = [
        "## The programs\n",
        "None of their code is here. Each is copied from the user's folder into a temporary one, and these",
        "names are changed in the copy so that a current Python, PyTorch and NumPy run it on a processor:\n",
        "| program | folder | what is changed |",
        "|---|---|---|",
    ]
    for one in programs.PROGRAMS.values():
        changes = "; ".join(f"{change.what} ({change.why})" for change in one.changes) or "nothing"
        lines.append(f"| [{one.where}](https://github.com/{one.where}) | `{one.name}` | {changes} |")
    lines += [
        "\nThe logger and the reader of MS-COCO that the programs import are stood in for, and captions come as words",
        "with spaces between them, so that no tokenizer makes a difference.\n",
    ]
    return "\n".join(lines)


def _exact(value: dict[str, Any]) -> str:
    columns = list(KINDS.values())
    lines = [
        "## Number by number\n",
        "The same weights and the same batches of Flickr8K-1000 in double precision: the largest difference of each",
        "kind, relative to the largest number of that kind. The last column is the mean loss of each of two epochs, in",
        "which either side goes its own way.\n",
        f"| | {' | '.join(columns)} | same |",
        f"|---|{'---|' * (len(columns) + 1)}",
    ]
    for title, case in value["cases"].items():
        worst = dict.fromkeys(columns, 0.0)
        for what, difference in case["differences"].items():
            for beginning, column in KINDS.items():
                if what.startswith(beginning) and not what.endswith("later steps"):
                    worst[column] = max(worst[column], difference)
                    break
        told = " | ".join(f"{worst[column]:.0e}" for column in columns)
        lines.append(f"| {title} | {told} | {'yes' if case['same'] else '**no**'} |")
    lines.append(
        "\nAdam's first step divides a gradient by its own size, so that the least of them, mere rounding, count too.\n"
    )
    return "\n".join(lines)


def _scores(value: dict[str, Any]) -> str:
    lines = [
        "## Losses, scores and gradients of equal weights\n",
        "The same weights and the same made-up inputs in double precision: the largest difference, relative to the",
        "largest number of its kind.\n",
        "| | program | what is compared | largest difference | same |",
        "|---|---|---|---|---|",
    ]
    for name, case in value["cases"].items():
        differences = case["differences"]
        cells = [name, case["program"], ", ".join(differences), f"{max(differences.values()):.0e}", _yes(case["same"])]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _captioners(value: dict[str, Any]) -> str:
    lines = [
        "## Captioners\n",
        "With the same weights and batches in double precision: the largest difference of the loss, also after a step",
        "of Adam, and of the gradients, relative to the largest of their layer. Seconds of a processor core for a",
        "training step and for beams of five, at published widths; the floor is the same LSTMs and softmax without",
        "attention. Ours pads nothing and projects regions once. *Pairs*: each caption comes with its image's regions,",
        "as our training has it; otherwise an image has five captions, as in the programs. The numbers are drawn, so",
        "that no data are needed.\n",
        "| | loss | gradients | step: floor | ours | ours, pairs | theirs | beams: ours | theirs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in value["systems"].items():
        seconds = one["seconds"]
        # The attention does not depend on the bias behind it, whose gradient is rounding alone.
        differences = [x for key, x in one.get("gradients", {}).items() if key != "look.weight.bias"]
        cells = [name, f"{one['loss']:.0e}" if "loss" in one else "", f"{max(differences):.0e}" if differences else ""]
        keys = ("floor", "ours", "ours, pairs", "theirs", "our beams", "their beams")
        cells += [f"{seconds[key]:.2f}" if key in seconds else "" for key in keys]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _zeroshot(value: dict[str, Any]) -> str:
    lines = [
        "## Zero-shot retrieval\n",
        f"One model of open_clip with random weights, {value['images']} photographs and {value['captions']} captions,",
        "from the files to the JSON: recalls as fractions, in CLIP_benchmark's names (the recall of images by captions",
        "comes first; an image counts as found with any of its captions).\n",
        "| | CLIP_benchmark | ours |",
        "|---|---|---|",
    ]
    for name in value["theirs"]:
        lines.append(f"| {name} | {value['theirs'][name]:.5f} | {value['ours'][name]:.5f} |")
    lines.append(f"\nThe same: {_yes(value['same'])}.")
    return "\n".join(lines) + "\n"


def _summary(there: dict[str, dict[str, Any]]) -> str:
    lines = [
        "## Trained, tested and timed\n",
        "| | program | seeds | level | seconds, ours | theirs | ratio | in time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for value in there.values():
        seconds = value["seconds"]
        cells = [value["title"] + _settings(value), value["program"], value["seeds"], _yes(value["level"])]
        cells += [f"{seconds['ours']:.1f}", f"{seconds['theirs']:.1f}"]
        cells += [f"{value['time_ratio']:.2f}", _yes(value["in_time"])]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _settings(value: dict[str, Any]) -> str:
    names = {"epochs": "epochs", "dim": "d", "batch_size": "batch", "lr": "lr"}
    ours = value["settings"]["ours"]
    told = [f"{name} {ours[key]:g}" for key, name in names.items() if key in ours]
    if ours.get("lr_drop", ours.get("epochs", 0)) < ours.get("epochs", 0):
        told.append(f"a tenth after {ours['lr_drop']} epochs")
    return f" ({', '.join(told)})" if told else ""


def _numbers(value: dict[str, Any]) -> str:
    lines = [f"### {value['title']}{_settings(value)}\n"]
    if value["notes"]:
        lines.append(value["notes"] + "\n")
    lines += ["| | theirs | ours | level | p |", "|---|---|---|---|---|"]
    for name in sorted(value["numbers"], key=_by_number):
        row = value["numbers"][name]
        digits = 6 if name.startswith("canonical correlation") else 1
        cells = [name, _mean(row["theirs"], digits), _mean(row["ours"], digits), _yes(row["level"])]
        lines.append(_row([*cells, _welch(row, value["seeds"])]))
    courses = {
        side: [[epoch["loss"] for epoch in run.get("epochs", [])] for run in value[side]] for side in ("theirs", "ours")
    }
    if courses["theirs"][0]:
        lines.append("\nLoss by epoch, the mean over the seeds:\n")
        for side, runs in courses.items():
            means = [sum(values) / len(values) for values in zip(*runs, strict=True)]
            shown = means[:: max(1, len(means) // 12)]
            lines.append(f"- {side}: {', '.join(f'{loss:.4g}' for loss in shown)}")
    return "\n".join(lines) + "\n"


def _welch(row: dict[str, Any], seeds: int) -> str:
    """p of Welch's two-sided test of two means; empty for one seed, or where no seed differs from another."""
    sides = [row[side] for side in ("theirs", "ours")]
    if seeds < 2 or not any(side["sd"] for side in sides):
        return ""
    numbers = [number for side in sides for number in (side["mean"], side["sd"], seeds)]
    return f"{ttest_ind_from_stats(*numbers, equal_var=False).pvalue:.3f}"


def _by_number(name: str) -> tuple[str, int]:
    """R@5 before R@10."""
    what, _, number = name.partition("@")
    return what, int(number or 0)


def _mean(side: dict[str, float | None], digits: int) -> str:
    return f"{side['mean']:.{digits}f}" + (f" ± {side['sd']:.{digits}f}" if side["sd"] is not None else "")


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"
