"""The page of measurements, from benchmarks/results/*.json and the docstrings of the scripts that wrote these."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from crossmodal.core.files import read_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
ELSEWHERE = ("parity", "mutants")
"""Beginnings of results that other pages or sections show."""

FASTER, OF_TIME, OF_SPEED, SECONDS = "{:.1f} times as fast", "{:.2f} of its time", "{:.2f} of their speed", "{:.1f} s"
HEADLINES = (
    ("ResNet-152's features, against a plain fp32 loop", "extraction", "resnet152 / ratio_by_batch / 32", FASTER),
    ("Features of detected regions, against plain fp32 passes", "regions", "detected / ratio", FASTER),
    ("Ranks in both directions, against one fp32 product", "ranking", "both_ways / random / ratio", OF_TIME),
    ("mAP@50, against one product and one sort", "ranking", "average_precision / ratio / map@50", OF_TIME),
    ("Training SCAN, against bare steps", "training", "systems / scan / share_of_bare", OF_SPEED),
    (
        "Its scores and their gradients, against all pairs at once",
        "attention",
        "text-to-image / training / hardest",
        FASTER,
    ),
    ("Training a GRU of captions, against PyTorch's", "recurrent", "gru, both directions / pytorch_over_ours", FASTER),
    ("Training mFSR, against bare steps", "training", "systems / mfsr / share_of_bare", OF_SPEED),
    ("Training bottom-up top-down, against bare steps", "captioning", "systems / updown / share_of_bare", OF_SPEED),
    ("Its beams of five for 1,000 images, on one core", "captioning", "systems / updown / beam / core", SECONDS),
    ("The significance tests of a table of six columns", "significance", "seconds / six columns", SECONDS),
    ("CIDEr-D of 5,000 images, against coco-caption's program", "captions", "ratios / cider", FASTER),
    ("All claims of all papers on a full plan", "claims", "seconds", SECONDS),
    ("Building the report of 500 runs", "report", "build_seconds", SECONDS),
    ("Opening it in a browser, until its first table can be used", "report", "open_seconds", SECONDS),
    ("Checking that none of 100,000 photographs has been replaced", "rawfiles", "seconds", SECONDS),
)
"""What is measured, the benchmark, the key of the number, and how it reads."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, "speed.md", content=page()))
    return files


def page() -> str:
    """The whole page; a headline whose number no result has is an error, so that none is left out unseen."""
    measured = _results()
    return "\n\n".join(
        [
            "# Measured speed",
            "Each step is measured against a floor in the same run: the bare matrix product, the bare reads, or the "
            "loop that one would write by hand. `make bench` takes the measurements again and writes them into "
            "`benchmarks/results/`, one file per benchmark and processor; this page is written from these files. "
            "How the systems compare with their authors' own programs is on the page on [parity](parity.md).",
            "## At a glance",
            _headlines(measured),
            *(_benchmark(name, machines) for name, machines in measured.items()),
            "## The tests themselves",
            "`make mutants` puts small faults into the source, one by one, and counts those that a test notices. "
            "The faults of the table were drawn at random from all that it makes of a package.",
            _mutants(),
        ]
    )


def _results() -> dict[str, dict[str, dict[str, Any]]]:
    """Benchmark to {machine: {key: value}}, from the files whose names are BENCHMARK-MACHINE.json."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        name = path.stem.partition("-")[0]
        if name not in ELSEWHERE:
            value = read_json(path)
            machine = f"{value['hardware']['cpu']}, {value['hardware']['cores']} cores"
            numbers = {key: value for key, value in value.items() if key != "hardware"}
            found.setdefault(name, {})[machine] = dict(flattened(numbers))
    return found


def flattened(value: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested results, each with the keys that lead to it.

    >>> dict(flattened({"seconds": {"ours": 2.0, "bare": [1.0, 1.5]}}))
    {'seconds / ours': 2.0, 'seconds / bare': [1.0, 1.5]}
    """
    if isinstance(value, dict):
        for key, below in value.items():
            yield from flattened(below, f"{before} / {key}" if before else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, below in enumerate(value, 1):
            yield from flattened(below, f"{before} / {number}")
    else:
        yield before, value


def _headlines(measured: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = ["| what | measured | on |", "|---|---|---|"]
    for what, name, key, form in HEADLINES:
        machine = next(machine for machine, numbers in measured[name].items() if key in numbers)
        lines.append(f"| {what} | {form.format(measured[name][machine][key])} | {machine} |")
    return "\n".join(lines)


def _benchmark(name: str, machines: dict[str, dict[str, Any]]) -> str:
    source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    keys = dict.fromkeys(key for numbers in machines.values() for key in numbers)
    lines = [f"| | {' | '.join(machines)} |", "|---" * (len(machines) + 1) + "|"]
    for key in keys:
        cells = [_number(numbers[key]) if key in numbers else "" for numbers in machines.values()]
        lines.append(f"| {key.replace('_', ' ')} | {' | '.join(cells)} |")
    body = "\n".join(f"    {line}" for line in lines)
    return f'## {name.capitalize()}\n\n{ast.get_docstring(ast.parse(source))}\n\n??? note "All numbers"\n\n{body}'


def _number(value: Any) -> str:
    """Four digits of a number; anything else as it is."""
    if isinstance(value, list):
        return ", ".join(map(_number, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _mutants() -> str:
    lines = ["| package | faults | noticed | that nothing can notice | survived |", "|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("mutants-*.json")):
        value = read_json(path)
        noticed = value["killed"] + value["timeout"]
        total = noticed + value["survived"] + value["equivalent"]
        lines.append(f"| `{value['package']}` | {total} | {noticed} | {value['equivalent']} | {value['survived']} |")
    return "\n".join(lines)
