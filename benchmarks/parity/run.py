"""Ours and the authors' programs on the same features, split, words, settings and seeds, one after the other.

    make parity PROGRAMS=/where/the/programs/lie DATA=/where/the/data/lies

`PROGRAMS` holds the programs' folders (vsepp, SCAN, DSCMR, pvse, GSMN and others, each as its public repository has
it); one that is not there is skipped with a line. `DATA` is described in `data.yaml`. What is finished is kept in the
work folder, so that a run which was stopped goes on; `--table` only makes `docs/parity.md` of the results that there
are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import comparisons
import prepared
import programs
import scores
import table

from crossmodal.core.files import hardware, library_versions, read_json, sha256_json, write_json

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
CHOICES = ["exact", "scores", "captioners", "zeroshot", *comparisons.COMPARISONS]


def main() -> None:
    args = _arguments()
    if not args.table:
        for name in args.only or CHOICES:
            if name == "exact":
                _exact(args)
            elif name == "scores":
                _scores(args)
            elif name == "captioners":
                _captioners(args)
            elif name == "zeroshot":
                _zeroshot(args)
            else:
                _compare(comparisons.COMPARISONS[name], args)
    table.write(args.results, args.page)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, help="folder of the programs' folders")
    for name, program in programs.PROGRAMS.items():
        parser.add_argument(
            f"--{name.lower()}", dest=_option(name), type=Path, help=f"folder of {program.where}, if it lies elsewhere"
        )
    parser.add_argument("--data", type=Path, help="folder of the photographs, see data.yaml")
    parser.add_argument("--work", type=Path, default=Path("results/parity"), help="folder of what is made meanwhile")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the results; the page is made of these"
    )
    parser.add_argument("--page", type=Path, default=HERE.parents[1] / "docs" / "parity.md")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CHOICES, metavar="COMPARISON", help=", ".join(CHOICES))
    parser.add_argument("--epochs", type=int, help="fewer epochs than a comparison has, for a busy machine")
    parser.add_argument("--dim", type=int, help="dimensions of the common space of captions and images, likewise")
    parser.add_argument("--table", action="store_true", help="make the table of the results that there are")
    args = parser.parse_args()
    wants_data = args.only != ["captioners"]  # which are compared on drawn numbers
    if not args.table and (args.programs is None or (wants_data and args.data is None)):
        parser.error("name the folder of the programs (--programs) and that of the data (--data)")
    return args


def _compare(comparison: comparisons.Comparison, args: argparse.Namespace) -> None:
    program = programs.PROGRAMS.get(comparison.program)
    folder = None
    if program is not None:
        folder = _folder(program, args)
        if not folder.is_dir():
            print(f"{comparison.name}: skipped; {folder} is not there (git clone https://github.com/{program.where})")
            return
    comparison = comparison.smaller(args.epochs, args.dim)
    data = prepared.prepare(comparison.dataset, comparison.inputs, args.data, args.work.resolve() / "data")
    found: dict[str, list[dict]] = {"theirs": [], "ours": []}
    try:
        for seed in range(args.seeds if comparison.seeded else 1):
            for side in found:
                found[side].append(_one(comparison, side, seed, program, folder, data, args.work.resolve()))
            _save(comparison, found, program, folder, args.results)
    except programs.UnfitError as error:
        print(error)


def _folder(program: programs.Program, args: argparse.Namespace) -> Path:
    return getattr(args, _option(program.name)) or args.programs / program.name


def _option(name: str) -> str:
    """The name of the option with a program's folder, as the parser stores it."""
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def _scores(args: argparse.Namespace) -> None:
    """Losses, scores and gradients of equal weights."""
    place = args.work.resolve() / "runs" / "scores"
    cases, told = {}, {}
    for name, program in scores.PROGRAMS.items():
        shutil.rmtree(place, ignore_errors=True)
        folder = _folder(program, args)
        try:
            copy = programs.copied(program, folder, place / name)
        except programs.UnfitError as error:
            print(error)
            continue
        command = [sys.executable, str(HERE / "scores.py"), name, str(copy), str(place / "found.json")]
        subprocess.run(command, check=True, cwd=place)
        cases[name] = {"program": program.where, **read_json(place / "found.json")}
        told[program.where] = _commit(folder)
        print(f"scores: {name}: {'the same' if cases[name]['same'] else 'DIFFERS'}")
    shutil.rmtree(place, ignore_errors=True)
    if cases:
        value = {"programs": told, "cases": cases, "versions": library_versions("crossmodal", "torch")}
        write_json(args.results / "parity-scores.json", value)


def _exact(args: argparse.Namespace) -> None:
    """VSE++ and SCAN against ours number by number."""
    work = args.work.resolve()
    place = work / "runs" / "exact"
    copies, told = _copies((programs.VSEPP, programs.SCAN), place, args)
    if not copies:
        return
    extractors = [case["inputs"]["image"] for case in comparisons.exact_cases(copies).values()]
    for extractor in dict.fromkeys(extractors):
        data = prepared.prepare("flickr8k_1000", {"image": extractor}, args.data, work / "data")
    spec = {"folder": str(data), "cases": comparisons.exact_cases(copies), "found": str(place / "found.json")}
    (place / "spec.json").write_text(json.dumps(spec))
    subprocess.run([sys.executable, str(HERE / "exact.py"), str(place / "spec.json")], check=True, cwd=place)
    found = read_json(place / "found.json")
    for title, one in found.items():
        print(f"exact: {title}: {'the same' if one['same'] else 'DIFFERS'}")
    value = {"programs": told, "cases": found, "versions": library_versions("crossmodal", "torch")}
    write_json(args.results / "parity-exact.json", value)
    shutil.rmtree(place)


def _copies(
    chosen: tuple[programs.Program, ...], place: Path, args: argparse.Namespace
) -> tuple[dict[str, Path], dict[str, str | None]]:
    """Copies of the programs that are there, in an empty folder, and their commits by repository."""
    shutil.rmtree(place, ignore_errors=True)
    copies, commits = {}, {}
    for program in chosen:
        folder = _folder(program, args)
        try:
            copies[program.name] = programs.copied(program, folder, place / program.name)
            commits[program.where] = _commit(folder)
        except programs.UnfitError as error:
            print(error)
    return copies, commits


def _captioners(args: argparse.Namespace) -> None:
    """Captioners beside two public programs."""
    place = args.work.resolve() / "runs" / "captioners"
    copies, commits = _copies(programs.CAPTIONERS, place, args)
    if not copies:
        return
    found = place / "found.json"
    spec = {"copies": {name: str(copy) for name, copy in copies.items()}, "found": str(found)}
    write_json(place / "spec.json", spec)
    subprocess.run([sys.executable, str(HERE / "captioners.py"), str(place / "spec.json")], check=True, cwd=place)
    measured = read_json(found)
    for name, one in measured["systems"].items():
        seconds = one["seconds"]
        same = f"{'the same' if one['same'] else 'DIFFERS'}, " if "same" in one else ""
        print(f"captioners: {name}: {same}{seconds['theirs'] / seconds['ours']:.2f} times as many steps")
    value = {"programs": commits, **measured, "versions": library_versions("crossmodal", "torch")}
    write_json(args.results / "parity-captioners.json", {**value, "hardware": hardware()})
    shutil.rmtree(place)


def _zeroshot(args: argparse.Namespace) -> None:
    """Zero-shot retrieval beside CLIP_benchmark's, with one model of random weights."""
    work = args.work.resolve()
    place = work / "runs" / "zeroshot"
    copies, commits = _copies((programs.CLIP_BENCHMARK,), place, args)
    if not copies:
        return
    import zeroshot  # it needs open_clip

    clip = zeroshot.make(work / "clip")
    inputs = {"image": "clip", "text": "clip_text"}
    data = prepared.prepare("flickr8k_750", inputs, args.data, work / "data", clip=str(clip))
    found = place / "found.json"
    spec = {"copy": str(copies["CLIP_benchmark"]), "clip": str(clip), "inputs": inputs, "data": str(data)}
    write_json(place / "spec.json", {**spec, "found": str(found)})
    subprocess.run([sys.executable, str(HERE / "zeroshot.py"), str(place / "spec.json")], check=True, cwd=place)
    measured = read_json(found)
    print(f"zeroshot: {'the same recalls' if measured['same'] else 'DIFFERS'}")
    versions = library_versions("crossmodal", "torch", "open_clip_torch")
    write_json(args.results / "parity-zeroshot.json", {"programs": commits, **measured, "versions": versions})
    shutil.rmtree(place)


def _one(
    comparison: comparisons.Comparison,
    side: str,
    seed: int,
    program: programs.Program | None,
    folder: Path | None,
    data: Path,
    work: Path,
) -> dict[str, Any]:
    """The result of one side with one seed, from the work folder if it is there."""
    own = comparison.identity(side)
    kept = work / "found" / f"{comparison.name}-{side}-seed{seed}-{sha256_json(own)[:12]}.json"
    if kept.exists():
        return read_json(kept)
    place = work / "runs" / f"{comparison.name}-{side}-seed{seed}"
    shutil.rmtree(place, ignore_errors=True)
    if side == "theirs" and program is not None:
        programs.copied(program, folder, place)
    else:
        place.mkdir(parents=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    spec = comparison.spec(side, seed, data, place) | {"seed": seed, "found": str(kept)}
    (place / "spec.json").write_text(json.dumps(spec))
    script = {"theirs": "reference.py", "ours": "ours.py"}[side]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CROSSMODAL_QUIET": "1"}
    command = [sys.executable, str(HERE / script), str(place / "spec.json")]
    with (place / "log").open("w") as log:
        done = subprocess.run(command, cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{comparison.name}: {side} ended with an error; see {place / 'log'}")
    found = read_json(kept)
    told = ", ".join(f"{name} {value:.1f}" for name, value in found.get("numbers", {}).items())
    print(f"{comparison.name} {side} seed {seed}: {found['seconds']['processor']:.0f} s; {told}", flush=True)
    shutil.rmtree(place)
    return found


def _save(
    comparison: comparisons.Comparison,
    found: dict[str, list[dict]],
    program: programs.Program | None,
    folder: Path | None,
    results: Path,
) -> None:
    changes = [f"{one.what}: {one.why}" for one in program.changes] if program else []
    value = {
        "title": comparison.title,
        "program": program.where if program else "scikit-learn",
        "version": _commit(folder) if folder else None,
        "changed_in_a_copy": changes,
        "settings": {"ours": comparison.settings, "theirs": comparison.options},
        "notes": comparison.notes,
        **found,
        **comparison.judged(found),
        "threads": 1,
        "versions": library_versions("crossmodal", "torch", "numpy", "scikit-learn"),
        "hardware": hardware(),
    }
    write_json(results / f"parity-{comparison.name}.json", value)


def _commit(folder: Path) -> str | None:
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    inside = subprocess.run(["git", "-C", str(folder), "rev-parse", "--show-toplevel"], capture_output=True, text=True)
    return done.stdout.strip() if Path(inside.stdout.strip() or ".").resolve() == folder.resolve() else None


if __name__ == "__main__":
    main()
