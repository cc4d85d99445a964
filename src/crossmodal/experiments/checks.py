"""Checks of the settings of planned runs by the modules that they belong to, which import torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_json
from crossmodal.experiments.plan import Job, Plan
from crossmodal.experiments.settings import validated


def settings_of(job: Job, settings: type[BaseModel]) -> Any:
    """A job's settings, validated by the model's class `Settings`.

    Raises
    ------
    UserError : the model does not accept the settings, or at `scale: full` they would put random numbers in place of
        published data (`Settings.unasked`).
    """
    validated_settings = validated(settings, job.settings, f"model {job.name}")
    if job.scale == "full" and validated_settings.unasked:
        keys = [f"models.{job.model}.{name}" for name in validated_settings.unasked]
        raise UserError(
            f"params.yaml: {', '.join(keys)}: not set, so that random vectors would be used "
            f"({'; '.join(validated_settings.fallbacks)}); name a file there, or set it to `seeded` if you want them"
        )
    return validated_settings


def check_datasets(plan: Plan) -> None:
    """Check the settings of each used data set by its reader's module.

    Raises
    ------
    UserError : a setting is unknown or has an impossible value.
    """
    for name in plan.datasets:
        dataset = plan.params.datasets[name]
        reader = registry.module("datasets", dataset.reader)
        validated(reader.Settings, dataset.settings, f"params.yaml: datasets.{name}")


def check_settings(plan: Plan) -> list[str]:
    """Check the settings of each used data set, extractor and model by its own module.

    This imports the modules, and torch with them, so that building the DAG calls it only after a change.

    Returns
    -------
    One sentence per fallback that the planned runs use.
    """
    fallbacks: dict[str, None] = {}
    used_extractors = {name for dataset in plan.datasets for _, name in plan.extractors_of(dataset)}
    check_datasets(plan)
    for name in used_extractors:
        extractor = plan.params.extractors[name]
        module = registry.module("features", extractor.extractor)
        validated(module.Settings, extractor.settings, f"params.yaml: extractors.{name}")
    # Runs of one name may have other settings on another data set.
    distinct = {
        (job.name, sha256_json([job.settings, job.sweep and job.sweep.values])): job
        for job in plan.jobs.values()
        if not job.control
    }
    for job in distinct.values():
        accepts = registry.module("models", job.model).Settings
        for candidate in job.candidates.values():
            settings_of(candidate, accepts)
        settings = settings_of(job, accepts)
        fallbacks |= {f"{job.model}: {what}": None for what in settings.fallbacks}
    read = {name for job in plan.jobs.values() for _, name in (*job.extractors, *job.source_inputs.items())}
    for name in sorted(read):
        for key, value in plan.params.extractors[name].settings.items():
            if value == "seeded":
                fallbacks[f"extractor {name}: {key}: seeded random numbers, which are not trained"] = None
    return [*fallbacks]
