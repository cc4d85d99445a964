"""One run from its job to its folder: `train_job` makes the weights, `test_job` the numbers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import yaml

from crossmodal import registry, wordvectors
from crossmodal.energy import Meter, card_joules
from crossmodal.errors import UserError
from crossmodal.experiments import Job, settings_of
from crossmodal.features.extraction import told_equal
from crossmodal.files import (
    commit,
    hardware,
    library_versions,
    peak_memory_mib,
    read_json,
    sha256_file,
    sha256_json,
    whole,
    write_json,
    write_parquet,
    write_text,
)
from crossmodal.models import base
from crossmodal.text import SPECIAL, Vocabulary
from crossmodal.training import sharded
from crossmodal.training import test as testing
from crossmodal.training.corpus import Corpus
from crossmodal.training.data import load, options_of
from crossmodal.training.devices import device_slot
from crossmodal.training.inspection import inspect
from crossmodal.training.trained import checked_weights, described, take_weights

if TYPE_CHECKING:
    from crossmodal.training.loop import Limit

log = logging.getLogger(__name__)
CHECKPOINTS = Path(".checkpoints")


def _built(
    job: Job,
    data: Path,
    vocabulary: Vocabulary | None = None,
    limit: Limit | None = None,
    facts: dict[str, Any] | None = None,
) -> tuple[base.Model, Corpus]:
    """The job's model with its first weights, and its data; `facts` takes what a manifest says of word vectors."""
    torch.set_num_threads(job.threads)  # a fixed number, since sums in another order have other last bits
    module = registry.module("models", job.model)
    settings = settings_of(job, module.Settings)
    options = options_of(settings)
    options["beside"] = {m: (form, job.beside[m]) for m, form in module.Model.beside.items()}
    if module.Model.needs_classes and job.relevance != "label":
        raise UserError(
            f"params.yaml: datasets.{job.dataset}: model {job.model!r} learns from classes; set `relevance: label` "
            f"(each item needs its class), or choose another model"
        )
    options |= {"relevance": job.relevance, "stages": job.stages, "unannotated": module.Model.unannotated}
    options["vocabulary"] = vocabulary
    reads = registry.reads(job.model, settings.model_dump())
    corpus = load(data / job.dataset, job.split, reads, job.inputs, **options)
    if module.Model.one_class and corpus.classes is not None and corpus.classes.every is not None:
        raise UserError(
            f"datasets.{job.dataset}: model {job.model!r} needs items of one class each, and those of items.parquet "
            "have several; choose another model"
        )
    if job.source:
        source = load(data / job.source, "full", module.Model.source_reads, job.source_inputs, relevance="label")
        corpus = corpus.transferring_from(source)
    if limit is not None:
        corpus = corpus.sampled(limit.items)
    context = corpus.context
    path = getattr(settings, "word_embedding", "seeded")
    if path != "seeded" and vocabulary is None:
        vectors, covered = _word_vectors(path, settings, corpus, job.seed)
        context = replace(context, word_vectors=vectors)
        if facts is not None:
            facts["word_vectors"] = covered
    torch.manual_seed(job.seed)
    try:
        return module.Model(settings, context), corpus
    except ValueError as error:
        raise UserError(f"model {job.name} on {job.dataset}: {error}") from None


def _word_vectors(
    path: str, settings: base.Settings, corpus: Corpus, seed: int
) -> tuple[torch.Tensor, wordvectors.Coverage]:
    """(words, D) start of a word embedding, and how many words the file has; its hash goes into the fingerprint."""
    found = wordvectors.read(path, corpus.vocabulary.words)
    if found.dim != settings.word_dim:
        raise UserError(
            f"{path}: has vectors of {found.dim} numbers, and the model's `word_dim` is {settings.word_dim}; make them "
            "the same in params.yaml"
        )
    words = dict.fromkeys(corpus.vocabulary.words[len(SPECIAL) :], 1)
    covered = wordvectors.coverage(found, words, path, settings.words_covered, "words_covered")
    log.info("%s", covered)
    corpus.fingerprint["word_vectors"] = sha256_file(path)
    return torch.from_numpy(found.table(corpus.vocabulary.words, seed)), covered


def train_job(
    job: Job,
    folder: Path,
    data: Path,
    *,
    fresh: bool = False,
    before: Path | None = None,
    limit: Limit | None = None,
    built: tuple[base.Model, Corpus, dict[str, Any]] | None = None,
) -> None:
    """Train a job and write `config.yaml`, `vocabulary.json`, `history.parquet`, `model.safetensors`, `manifest.json`.

    Parameters
    ----------
    before : folder of the run that the job begins from, if it names one.
    limit : how little is done, where the run is only tried; what is written is then of no use but for a look at it.
    built : the model, the data and the facts of word vectors that `_built` gives, where they exist already.

    Raises
    ------
    UserError : missing or corrupted data, a run that diverges.
    """
    from safetensors.torch import save_file

    began = time.perf_counter()
    meter = Meter()
    facts: dict[str, Any] = {}
    model, corpus, facts = built or (*_built(job, data, limit=limit, facts=facts), facts)
    covered = facts.get("word_vectors")
    facts = {key: asdict(value) for key, value in facts.items()}
    source = registry.source_hash("models", job.model)
    if before is not None:
        facts["before"] = {"run": job.before, "weights_sha256": _begin_from(model, before)}
    identity = sha256_json([job.identity, corpus.fingerprint, source, *facts.values()])
    fallbacks = [*_fallbacks(job, data), *model.settings.fallbacks]
    fallbacks += [covered.fallback] if covered is not None and covered.fallback else []
    for what in fallbacks:
        log.warning("%s: fallback: %s", job.key, what)
    log.info("%s: %d training pairs, %d words", job.key, corpus.n_pairs, len(corpus.vocabulary))
    checkpoint = (CHECKPOINTS if limit is None else folder) / f"{job.hash}.pt"
    history = pd.DataFrame()
    if model.trains:
        from crossmodal.training.loop import train  # seconds, with what optimisers import

        _check_validation(job, model, corpus, data)
        if fresh:
            checkpoint.unlink(missing_ok=True)
        with device_slot(CHECKPOINTS) as device, _card(device, facts):
            done = train(model, corpus, job.seed, device, checkpoint, identity, limit)
        history = done.history
        facts |= {"best_epoch": done.best_epoch, "resumed_after_epoch": done.resumed_at, "device": device.type}
    else:
        every = torch.arange(corpus.n_pairs)
        model.fit(corpus.batch(picks) for picks in every.split(1024) if len(picks))
    folder.mkdir(parents=True, exist_ok=True)
    resolved = {**job.model_dump(mode="json"), "settings": model.settings.model_dump(mode="json")}
    write_text(folder / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))
    corpus.vocabulary.save(folder / "vocabulary.json")
    write_parquet(folder / "history.parquet", history)
    with whole(folder / "model.safetensors") as temporary:
        save_file({name: value.contiguous().cpu() for name, value in model.state_dict().items()}, temporary)
    manifest = {
        "job": job.key,
        "hash": job.hash,
        "source": source,
        "data": corpus.fingerprint,
        "context": described(corpus.context),
        "fallbacks": fallbacks,
        "scale": job.scale,
        "parameters": sum(p.numel() for p in model.parameters()),
        "pairs": corpus.n_pairs,
        "words": len(corpus.vocabulary),
        "weights_sha256": sha256_file(folder / "model.safetensors"),
        "versions": library_versions("crossmodal", "torch", "lightning-fabric", "numpy", "pandas"),
        "commit": commit(),
        "hardware": hardware(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "energy_joules": meter.stop(),
        "seconds": round(time.perf_counter() - began, 2),
        "peak_memory_mib": peak_memory_mib(),
        **facts,
    }
    write_json(folder / "manifest.json", manifest)
    checkpoint.unlink(missing_ok=True)


def _check_validation(job: Job, model: base.Model, corpus: Corpus, data: Path) -> None:
    """A model that is trained epoch by epoch keeps the one that is the best on validation items: there must be some.

    Raises
    ------
    UserError : a modality without such items.
    """
    bare = [m for m in model.reads if not len(corpus.inputs[m].where("val"))]
    if bare:
        raise UserError(
            f"{data / job.dataset / 'items.parquet'}: no {bare[0]} item of the partition val, on which model "
            f"{job.model!r} is tried after each epoch to keep the best one; set datasets.{job.dataset}.val in "
            f"params.yaml above 0 (only closed forms, such as cca, pls and sm, need none)"
        )


@contextmanager
def _card(device: torch.device, facts: dict[str, Any]) -> Iterator[None]:
    """Note what the block takes of a graphics card."""
    if device.type != "cuda":
        yield
        return
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    before = card_joules(uuid)
    yield
    facts["gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    if before is not None and (after := card_joules(uuid)) is not None:
        facts["gpu_energy_joules"] = round(after - before, 3)


def _fallbacks(job: Job, data: Path) -> list[str]:
    """What stands in for something better in the features that a run reads, or is missing or alike in them."""
    found = []
    read = [(job.dataset, *pair) for pair in job.extractors]
    read += [(job.source, *pair) for pair in job.source_inputs.items()]
    for dataset, modality, extractor in read:
        path = data / dataset / "features" / f"{modality}.{extractor}.json"
        if not path.exists():
            continue
        manifest, where = read_json(path), f"{modality} features of {extractor}"
        if "fallback" in manifest:
            found.append(f"{where}: {manifest['fallback']}".replace("; ", ", "))  # which parts them in tables
        if left_out := len(manifest.get("skipped") or ()):
            count = left_out + manifest["shape"][0]
            found.append(
                f"{where}: {left_out} of {count} items cannot be read and are left out with what belongs to them"
            )
        if "equal_files" in manifest:
            found.append(f"{where}: {told_equal(manifest['equal_files'])}")
    return found


def test_job(job: Job, folder: Path, data: Path, scale: str, limit: Limit | None = None) -> None:  # noqa: PT028
    """Rank the test items with a trained job: `embeddings.npz`, `queries.parquet`, `metrics.json`; `inside.*`.

    Raises
    ------
    UserError : a run that is not trained, or weights that are not what its manifest says.
    """
    model, corpus = _trained(job, folder, data, limit)
    with device_slot(CHECKPOINTS) as device:
        numbers = testing.test(model.to(device), corpus, job.folds, device, folder)
        inspect(model, corpus, device, folder)
    _write_metrics(job, folder, scale, numbers)


def encode_job(job: Job, folder: Path, data: Path) -> None:
    """The first of three steps of a test in shards: encodings of the test items as .npy, in `folder/encoded`."""
    model, corpus = _trained(job, folder, data)
    with device_slot(CHECKPOINTS) as device:
        sharded.encode(model.to(device), corpus, device, folder / "encoded")
        inspect(model, corpus, device, folder)


def shard_job(job: Job, folder: Path, number: int, count: int) -> None:
    """The second: one of `count` shards, to `folder/shards/NUMBER.npz`."""
    torch.set_num_threads(job.threads)
    sharded.rank(folder / "encoded", number, count, folder / "shards" / f"{number}.npz")


def gather_job(job: Job, folder: Path, data: Path, scale: str, count: int) -> None:
    """The last: shards to what `test_job` writes, with the same bits; a model without vectors is tested whole here."""
    torch.set_num_threads(job.threads)
    if not sharded.compares_vectors(folder / "encoded"):
        log.info("%s: has no vectors to cut: its test items are ranked whole", job.key)
        test_job(job, folder, data, scale)
        return
    paths = [folder / "shards" / f"{number}.npz" for number in range(count)]
    _write_metrics(job, folder, scale, sharded.gather(folder / "encoded", paths, job.folds, folder))


def _begin_from(model: base.Model, folder: Path) -> str:
    """Hand a model the weights of the run that it begins from; gives their hash."""
    from safetensors.torch import load_file

    weights = checked_weights(folder)
    try:
        model.inherit(load_file(weights))
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{weights}: cannot be gone on from: {str(error).splitlines()[0]}") from None
    return read_json(folder / "manifest.json")["weights_sha256"]


def _trained(job: Job, folder: Path, data: Path, limit: Limit | None = None) -> tuple[base.Model, Corpus]:
    """A job's model with its trained weights, and its data."""
    weights = checked_weights(folder)
    model, corpus = _built(job, data, Vocabulary.load(folder / "vocabulary.json"), limit)
    take_weights(model, weights)
    return model, corpus


def _write_metrics(job: Job, folder: Path, scale: str, numbers: dict[str, Any]) -> None:
    described = {
        "dataset": job.dataset,
        "split": job.split,
        "model": job.model,
        "variant": job.variant,
        "seed": job.seed,
    }
    weights = read_json(folder / "manifest.json")["weights_sha256"]
    testing.write_metrics(folder, described, scale, {"weights_sha256": weights, **numbers})
    for row in numbers["numbers"]:
        log.info("%(protocol)-6s %(direction)-14s %(metric)-12s %(value)8.2f", row)


if os.environ.get("CUBLAS_WORKSPACE_CONFIG") is None:  # cuBLAS gives the same bits each time only with this
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
