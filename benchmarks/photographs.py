"""Captioners of photographs beside what their nearest neighbours lend, as runs of an overlay have measured them.

Reads the runs of `papers/flickr8k_captions.yaml` from their folders and records, of each, its metrics with the interval
of CIDEr, the difference to the consensus of 30 neighbours on the same photographs with its p-value, CIDEr on validation
photographs by epoch, and the settings. `--minutes nic=6.5` adds minutes of a core that a training took.

    crossmodal ... train flickr8k/full/nic/seed0; crossmodal ... evaluate flickr8k/full/nic/seed0
    python benchmarks/photographs.py results/flickr8k/runs/flickr8k/full --minutes nic=6.5
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from common import save

from crossmodal.core.files import read_json
from crossmodal.evaluation import bootstrap_interval, permutation_test
from crossmodal.tasks.base import read_numbers

METRICS = ("cider", "bleu4", "bleu1", "rouge_l", "length", "distinct2", "vocabulary", "novel")
CONSENSUS = "consensus"


def scores(folder: Path, protocol: str) -> pd.Series:
    """CIDEr-D times 100 of each photograph."""
    examples = pd.read_parquet(folder / "captioning" / "examples.parquet")
    return examples[examples.protocol == protocol].set_index("query_id").cider


def measured(folder: Path, consensus: pd.Series) -> dict[str, Any]:
    """What a run has measured, by protocol: `all` by its beam and `greedy` by the likeliest word each time."""
    numbers = read_numbers(folder / "captioning" / "metrics.json")[1]
    found: dict[str, Any] = {}
    for number in numbers:
        if number["metric"] in METRICS:
            found.setdefault(number["protocol"], {})[number["metric"]] = number["value"]
    for protocol, values in found.items():
        own = scores(folder, protocol)
        both = consensus.reindex(own.index)
        values["cider_interval"] = [float(bound) for bound in bootstrap_interval(own.to_numpy())]
        values["above_consensus"] = float((own - both).mean())
        values["p_value"] = float(permutation_test(own.to_numpy(), both.to_numpy()))
    return found


def trained(folder: Path) -> dict[str, Any]:
    """How a run was trained; empty for one that lends captions."""
    manifest = read_json(folder / "manifest.json")
    about = {"parameters": manifest["parameters"], "words": manifest["words"], "pairs": manifest["pairs"]}
    if not (folder / "history.parquet").exists():
        return about
    history = pd.read_parquet(folder / "history.parquet")
    if "val_cider" not in history:
        return about
    settings = yaml.safe_load((folder / "config.yaml").read_text())["settings"]
    curve = {"validation_cider": history.val_cider.round(2).tolist(), "loss": history.loss.round(3).tolist()}
    return {**about, **curve, "best_epoch": manifest["best_epoch"], "settings": settings}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the runs of one subset")
    parser.add_argument("--minutes", nargs="*", default=[], metavar="RUN=MINUTES", help="of a core, by training")
    chosen = parser.parse_args()
    folders = {path.parents[2].name: path.parents[1] for path in chosen.runs.glob("*/seed0/captioning/metrics.json")}
    if CONSENSUS not in folders:
        parser.error(f"{chosen.runs}: no run {CONSENSUS}/seed0 is evaluated, which the others are compared with")
    consensus = scores(folders[CONSENSUS], "all")
    found = {}
    for name, folder in sorted(folders.items()):
        found[name] = {"test": measured(folder, consensus), "training": trained(folder)}
        best = found[name]["test"]["all"]
        low, high = best["cider_interval"]
        print(f"{name}: CIDEr-D {best['cider']:.1f} ({low:.1f} to {high:.1f}), BLEU-4 {best['bleu4']:.1f}", flush=True)
    for pair in chosen.minutes:
        name, _, minutes = pair.partition("=")
        found[name]["training"]["core_minutes"] = float(minutes)
    save("photographs", {"photographs": len(consensus), "runs": found})


if __name__ == "__main__":
    main()
