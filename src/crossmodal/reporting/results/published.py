"""Differences between a run's settings and the published ones: on drawn data sets most systems are smaller.

The published settings are the defaults of a model's module, with those of the experiment on the data set that it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from crossmodal.core import registry
from crossmodal.experiments import CONTROLS, Experiment, Job, validated


def resolved(job: Job) -> dict[str, Any]:
    """A job's settings, completed by all defaults."""
    if job.control:
        return dict(job.settings)
    return _validated(job.model, json.dumps(job.settings)).model_dump(mode="json")


def differences(
    experiment: Experiment, settings: dict[str, Any], common: Mapping[str, Any] | None = None
) -> dict[str, list[Any]]:
    """{setting: [ours, published]} for the settings that differ.

    Controls have none. A model's fallbacks for missing files are left out, since the run's manifest names them.

    Parameters
    ----------
    settings : with all defaults, as `resolved` or a run's `config.yaml` gives them.
    common : the model's settings on every data set (`models`), such as files that it requires.
    """
    if experiment.model in CONTROLS:
        return {}
    wanted = _validated(experiment.model, json.dumps({**(common or {}), **experiment.published, **experiment.settings}))
    differing = {}
    for name, value in wanted.model_dump(mode="json").items():
        ours = settings.get(name, value)
        fell_back = wanted.model_copy(update={name: ours}).fallbacks != wanted.fallbacks
        if ours != value and not fell_back:
            differing[name] = [ours, value]
    return differing


@cache
def _validated(model: str, settings: str) -> Any:
    """A model's settings, from JSON."""
    return validated(registry.module("models", model).Settings, json.loads(settings), f"model {model}")
