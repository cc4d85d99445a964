"""Turns params.yaml and papers/*.yaml into validated jobs; nothing else reads these files. It has no heavy imports.

`load` merges the parameters with their overlays and checks them; `plan` turns them and the papers into jobs, one per
(data set, split, model, variant, seed). Further settings of a data set, extractor or model are checked by the class
`Settings` of its own module, in `check_settings`.
"""

from crossmodal.experiments.checks import check_datasets, check_settings, settings_of
from crossmodal.experiments.claims import Claim
from crossmodal.experiments.papers import Paper, read_papers
from crossmodal.experiments.params import (
    LARGEST_SEED,
    NAME,
    PRECOMPUTED,
    Dataset,
    Evaluation,
    Extractor,
    Inputs,
    Params,
    Paths,
    Scale,
    ScaleSettings,
    Splits,
    StrPath,
    Threads,
    Tracking,
    config_of,
    extractors_in,
    from_config,
    load,
    params_of,
)
from crossmodal.experiments.plan import (
    Job,
    Plan,
    UnreadableError,
    job_in,
    made_by_training,
    plan,
)
from crossmodal.experiments.settings import Open, Strict, merge, read_yaml, validated
from crossmodal.experiments.tables import (
    DIRECTIONS,
    SPLIT,
    VARIANT,
    Column,
    Experiment,
    Row,
    Table,
    named_experiments,
)
from crossmodal.tasks.base import CONTROLS

__all__ = [
    "CONTROLS",
    "DIRECTIONS",
    "LARGEST_SEED",
    "NAME",
    "PRECOMPUTED",
    "SPLIT",
    "VARIANT",
    "Claim",
    "Column",
    "Dataset",
    "Evaluation",
    "Experiment",
    "Extractor",
    "Inputs",
    "Job",
    "Open",
    "Paper",
    "Params",
    "Paths",
    "Plan",
    "Row",
    "Scale",
    "ScaleSettings",
    "Splits",
    "StrPath",
    "Strict",
    "Table",
    "Threads",
    "Tracking",
    "UnreadableError",
    "check_datasets",
    "check_settings",
    "config_of",
    "extractors_in",
    "from_config",
    "job_in",
    "load",
    "made_by_training",
    "merge",
    "named_experiments",
    "params_of",
    "plan",
    "read_papers",
    "read_yaml",
    "settings_of",
    "validated",
]
