"""Functions for the Snakefile: the checked plan, the paths of each job, and hashes for the rules' `params`.

The module is light on purpose: it imports torch only if settings have changed since they were last checked.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from crossmodal import experiments
from crossmodal.core import registry
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import read_json, sha256_file, sha256_json, write_json, write_text
from crossmodal.core.fingerprints import RawFiles, missing
from crossmodal.experiments import Job
from crossmodal.experiments.named import job_of
from crossmodal.experiments.plan import datasets_of
from crossmodal.experiments.sweeps import CHOICE, Sweep, tried_file
from crossmodal.experiments.sweeps import folder_of as sweep_folder
from crossmodal.tasks.base import source_of_training, tasks

STATE = Path(".snakemake")
# Keys of a data set that its items do not depend on.
USED_LATER = {"folds", "home", "inputs", "like", "models", "relevance", "size", "stages", "stand_in"}


class Dag:
    """The plan with the files of every step.

    Parameters
    ----------
    look : whether the files that people bring are checked for changes; jobs of a Snakemake run that did so need not.
    """

    def __init__(self, config: dict[str, Any], look: bool = True):
        handed_on = Path(os.environ.get("CROSSMODAL_PARAMS", ""))
        if not look and handed_on.parent == STATE.resolve() and handed_on.exists():
            config = read_json(handed_on)  # who plays whom was decided before the first rule
        self.params = experiments.from_config(config)
        if not self.params.papers:
            raise UserError(
                "params.yaml: papers: is empty, so that there is nothing to run; name files of papers/ without `.yaml`"
            )
        self.plan = experiments.plan(self.params)
        self.data, self.results = self.params.paths.data, self.params.paths.results
        self.raw = RawFiles(Path(self.data), look)
        self._check_settings()
        self._hand_on(config)

    def _check_settings(self) -> None:
        """Check settings of models and extractors by their modules, only once per change since these import torch."""
        used = {
            "models": {job.model for job in self.plan.jobs.values() if not job.control},
            "datasets": {dataset.reader for dataset in self.params.datasets.values()},
            "features": {extractor.extractor for extractor in self.params.extractors.values()},
        }
        sources = [registry.source_hash(kind, name) for kind, names in used.items() for name in sorted(names)]
        digest = sha256_json([self.params.model_dump(), sorted(self.plan.jobs), sources])[:16]
        mark = STATE / f"checked-{digest}.json"
        if not mark.exists():
            write_json(mark, {"fallbacks": experiments.check_settings(self.plan)})
        self.fallbacks: list[str] = read_json(mark)["fallbacks"]

    def _hand_on(self, config: dict[str, Any]) -> None:
        """Pass the merged configuration to the sub-commands in a file, and put `crossmodal` on the path.

        It says which data sets play themselves, since raw files may come or go while the rules are running.
        """
        itself = {name: name for name in sorted(self.plan.present)}
        config = experiments.merge(config, {"scales": {self.params.scale: {"prefer_raw": False, "stand_ins": itself}}})
        path = STATE / f"params-{sha256_json(config)[:16]}.json"
        if not path.exists():
            before = os.umask(0o077)  # the tracking address may hold a password
            try:
                write_text(path, json.dumps(config, default=dict))
            finally:
                os.umask(before)
        os.environ["CROSSMODAL_PARAMS"] = str(path.resolve())
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def job(self, wildcards: Any) -> Job:
        """The job of a run's wildcards, be it planned or named by its path alone."""
        return job_of(self.plan, f"{wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed}")

    @cached_property
    def quick(self) -> dict[str, Job]:
        return {key: job for key, job in self.plan.jobs.items() if job.quick}

    def runs(self, wildcards: Any, file: str) -> list[str]:
        """The path of a file for every trained run of a scope (`quick/`, or all)."""
        return [f"{self.results}/runs/{key}/{file}" for key, job in self._of(wildcards).items() if not job.control]

    def evaluated(self, wildcards: Any, file: str) -> list[str]:
        """The path of a file for every task of the runs of a scope."""
        return [path for job in self._of(wildcards).values() for path in self._evaluated(job, file)]

    def _of(self, wildcards: Any) -> Mapping[str, Job]:
        """The runs of a scope (`quick/`, or all)."""
        return self.quick if wildcards.scope else self.plan.jobs

    def _evaluated(self, job: Job, file: str) -> list[str]:
        return [f"{self.results}/runs/{job.key}/{task}/{file}" for task in job.tasks]

    @cached_property
    def figures(self) -> dict[str, dict[str, dict[str, Any]]]:
        """{scope: {figure: the declarations of its module}} for the figures that are wanted there.

        Importing their modules is slow, so that the result is kept for each plan and version of the figures.
        """
        sources = {name: registry.source_hash("figures", name) for name in sorted(registry.names("figures"))}
        papers = {name: paper.model_dump() for name, paper in self.plan.papers.items()}
        jobs = {key: (job.hash, job.papers, job.quick, job.tasks) for key, job in self.plan.jobs.items()}
        models = {
            job.model: registry.source_hash("models", job.model) for job in self.plan.jobs.values() if not job.control
        }
        planning = [sha256_file(file) for file in sorted(Path(experiments.__file__).parent.glob("*.py"))]
        version = sha256_json([self.params.model_dump(), papers, jobs, sources, models, planning])
        path = STATE / "figures.json"
        with suppress(UserError, KeyError, TypeError):
            stored = read_json(path)
            if stored["version"] == version:
                return stored["figures"]
        figures = {scope: self._declared_figures(quick, sources) for scope, quick in (("", False), ("quick/", True))}
        write_json(path, {"version": version, "figures": figures})
        return figures

    def _declared_figures(self, quick: bool, sources: dict[str, str]) -> dict[str, dict[str, Any]]:
        from crossmodal.reporting.figures import base

        return {
            figure.name: {
                "reads": figure.reads(),
                "has_numbers": figure.has_numbers,
                "caption": figure.caption,
                "identity": sha256_json(
                    [sources[figure.name], figure.scope.titles, {p: o.model_dump() for p, o in figure.options.items()}]
                )[:16],
            }
            for figure in base.wanted(base.Scope.of(self.plan, quick))
        }

    def figure(self, wildcards: Any) -> dict[str, Any]:
        """The declarations of a figure's module.

        Raises
        ------
        UserError : the figure is not wanted in this scope.
        """
        wanted = self.figures[wildcards.scope]
        if wildcards.figure not in wanted:
            hint = suggestion(wildcards.figure, wanted)
            raise UserError(f"figure {wildcards.figure!r}: this plan has no data for it{hint}")
        return wanted[wildcards.figure]

    def figure_files(self, scope: str) -> list[str]:
        """The figures of a scope, as SVG."""
        return [f"{self.results}/{scope}figures/{name}.svg" for name in self.figures[scope]]

    def figures_identity(self, scope: str) -> str:
        """The identity of a scope's figures and their captions, as the page shows them."""
        shown = {name: (figure["identity"], figure["caption"]) for name, figure in self.figures[scope].items()}
        return sha256_json(shown)[:16]

    def figure_pattern(self, has_numbers: bool) -> str:
        """A pattern of the names of the figures that also write their numbers, or of the others."""
        names = {n: figure["has_numbers"] for wanted in self.figures.values() for n, figure in wanted.items()}
        return "|".join(re.escape(name) for name in sorted(names) if names[name] == has_numbers) or "(?!)"

    def datasets(self, wildcards: Any) -> list[str]:
        """What says which items there are, of the data sets of a scope's runs."""
        return [f"{self.data}/{name}/items.json" for name in datasets_of(self._of(wildcards))]

    def run_inputs(self, wildcards: Any) -> list[str]:
        """The files that a run is trained on."""
        return self.plan.files_of(self.job(wildcards))

    def train_inputs(self, wildcards: Any) -> list[str]:
        """The files that a run is trained on, the weights that it begins from, and the choice of its settings."""
        job = self.job(wildcards)
        choice = [] if job.sweep is None else [str(sweep_folder(self.results, job.key) / CHOICE)]
        return self._trained_on(job) + choice

    def _trained_on(self, job: Job) -> list[str]:
        first = [f"{self.results}/runs/{job.before}/{name}" for name in ("model.safetensors", "manifest.json")]
        return self.plan.files_of(job) + (first if job.before else [])

    def candidates(self, wildcards: Any) -> list[str]:
        """The records of the candidates of a run's sweep."""
        folder, sweep = self._swept(wildcards)
        return [str(tried_file(folder, name)) for name in sweep.candidates]

    def candidate_inputs(self, wildcards: Any) -> list[str]:
        """The files that a candidate of a sweep is trained on."""
        return self._trained_on(self._first(wildcards))

    def candidate_identity(self, wildcards: Any) -> str:
        """The identity of a candidate's training."""
        self._swept(wildcards)
        candidates = self._first(wildcards).candidates
        if wildcards.candidate not in candidates:
            raise UserError(f"{wildcards.candidate}: no candidate{suggestion(wildcards.candidate, candidates)}")
        return self._training(candidates[wildcards.candidate])

    def sweep_identity(self, wildcards: Any) -> str:
        """The identity of a choice among candidates, who have identities of their own."""
        self._swept(wildcards)
        return self._first(wildcards).digest

    def _first(self, wildcards: Any) -> Job:
        """The job of the first seed, which candidates are tried with."""
        return job_of(self.plan, f"{wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{self.params.seeds[0]}")

    def _swept(self, wildcards: Any) -> tuple[Path, Sweep]:
        job = self._first(wildcards)
        if job.sweep is None:
            raise UserError(f"{job.key}: no experiment gives it a `sweep`")
        return sweep_folder(self.results, job.key), job.sweep

    def train_identity(self, wildcards: Any) -> str:
        """The identity of a run's training: its job, the source that it runs, and the files that its settings name."""
        return self._training(self.job(wildcards))

    def _training(self, job: Job) -> str:
        source = source_of_training(job.model, job.relevance)
        return f"{job.hash}.{source}{self.raw.named_in(job.settings)}"

    def task_identity(self, wildcards: Any) -> str:
        """The identity of a run's task: the folds of its test set, and the task's own source."""
        folds = ",".join(map(str, self.job(wildcards).folds))
        return f"{folds}.{registry.source_hash('tasks', wildcards.task)}"

    def dataset_identity(self, wildcards: Any) -> str:
        dataset = self.params.datasets[wildcards.dataset]
        source = registry.source_hash("datasets", dataset.reader)
        chosen = sha256_json(dataset.model_dump(exclude=USED_LATER))[:16]
        return f"{chosen}.{source}{self.raw.change_of_items(wildcards.dataset)}"

    @property
    def missing(self) -> list[str]:
        """One sentence per data set whose raw files are gone since its items were made."""
        return missing_raw(self.plan)

    def items_threads(self, wildcards: Any) -> int:
        """The threads of a data set's step `items`: as many as for features where its reader draws, otherwise one."""
        return self.params.threads.features if self._is_drawn(wildcards.dataset) else 1

    def features_threads(self, wildcards: Any) -> int:
        """The threads of an extraction: one for drawn items, of which there are few, so that several run at once."""
        return 1 if self._is_drawn(wildcards.dataset) else self.params.threads.features

    def _is_drawn(self, dataset: str) -> bool:
        reader = self.params.datasets[dataset].reader
        return "crossmodal.datasets.drawing.work" in registry.imports("datasets", reader)

    def split_identity(self, wildcards: Any) -> str:
        dataset = self.params.datasets[wildcards.dataset]
        return f"{self.params.splits.seed}.{dataset.relevance}.{','.join(map(str, dataset.stages))}"

    def extractor_identity(self, wildcards: Any) -> str:
        extractor = self.params.extractors[wildcards.extractor]
        source = registry.source_hash("features", extractor.extractor)
        change = self.raw.change_of_features(wildcards.dataset, f"{wildcards.modality}.{wildcards.extractor}")
        chosen = sha256_json(extractor.model_dump())[:16]
        return f"{chosen}.{source}{self.raw.named_in(extractor.settings)}{change}"

    @cached_property
    def tracking_identity(self) -> str:
        """A hash of the tracking address: its password must be in no rule, as Snakemake keeps and DVC pushes them."""
        return sha256_json(self.params.tracking.address)[:16]

    def reporting_identity(self, *modules: str) -> str:
        """The identity of a reporting step: papers, parameters and metrics as shown, and the source that it runs."""
        source = registry.source_hash_of(tuple(f"crossmodal.reporting.{name}" for name in modules))
        return f"{self._shown}.{source}"

    @cached_property
    def _shown(self) -> str:
        """Papers, parameters and metrics as they are shown."""
        papers = {name: paper.model_dump() for name, paper in self.plan.papers.items()}
        titles = {name: dataset.title for name, dataset in self.params.datasets.items()}
        plan = [papers, titles, self.params.scale, self.params.seeds, sorted(self.plan.jobs)]
        return sha256_json([*plan, [task.shown() for task in tasks().values()]])[:16]

    @property
    def features(self) -> list[str]:
        return [
            f"{self.data}/{dataset}/features/{modality}.{extractor}.json"
            for dataset in self.plan.datasets
            for modality, extractor in self.plan.extractors_of(dataset)
        ]

    @property
    def inputs(self) -> list[str]:
        """All files below the data folder that the runs read."""
        return sorted({file for job in self.plan.jobs.values() for file in self.plan.files_of(job)})

    @property
    def table_names(self) -> list[str]:
        return [*self.plan.tables]

    @property
    def tasks(self) -> list[str]:
        return sorted(registry.names("tasks"))

    @property
    def ranked_tasks(self) -> list[str]:
        """The tasks that may be ranked in shards."""
        return [name for name, task in tasks().items() if task.ranked]

    @property
    def dataset_pattern(self) -> str:
        return "|".join(sorted(self.params.datasets))

    @property
    def extractor_pattern(self) -> str:
        return "|".join(sorted(self.params.extractors))


def check_place(folder: str) -> None:
    """Refuse a project folder whose path has braces, which Snakemake would take for wildcards.

    Raises
    ------
    UserError : the path has braces.
    """
    if {"{", "}"} & {*folder}:
        raise UserError(
            f"{folder}: lies in a folder with braces in its name, which Snakemake fills in; move or rename it"
        )


def check_datasets(plan: experiments.Plan) -> None:
    """Check the settings of data sets by their readers, only once per change since these import pandas.

    Raises
    ------
    UserError : a setting is unknown or has an impossible value.
    """
    used = [plan.params.datasets[name] for name in plan.datasets]
    sources = [registry.source_hash("datasets", dataset.reader) for dataset in used]
    mark = STATE / f"datasets-{sha256_json([[dataset.model_dump() for dataset in used], sources])[:16]}.json"
    if not mark.exists():
        experiments.check_datasets(plan)
        write_json(mark, {"datasets": plan.datasets})


def missing_raw(plan: experiments.Plan) -> list[str]:
    """One sentence per data set whose raw files are gone since its items were made: results are those of the files."""
    return [line for name in plan.datasets if (line := missing(Path(plan.params.paths.data) / name))]


def changes(plan: experiments.Plan) -> dict[str, str]:
    """{step: hash} for the steps' identities, from the files that people bring.

    It covers the steps whose raw files have changed since they were processed, and those whose settings name files,
    such as word vectors.
    """
    raw = RawFiles(Path(plan.params.paths.data))
    changed = {}
    for dataset in plan.datasets:
        changed[f"{dataset}: items"] = raw.change_of_items(dataset)
        for modality, extractor in plan.extractors_of(dataset):
            name = f"{modality}.{extractor}"
            settings = plan.params.extractors[extractor].settings
            changed[f"{dataset}: {name}"] = raw.named_in(settings) + raw.change_of_features(dataset, name)
    changed |= {key: raw.named_in(job.settings) for key, job in plan.jobs.items()}
    return {step: change.removeprefix(".") for step, change in sorted(changed.items()) if change}
