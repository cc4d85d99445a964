# The plan is checked before any rule: an error in params.yaml or papers/ ends the workflow here.
from contextlib import suppress

from crossmodal.dag import Dag, check_place
from crossmodal.core.errors import UserError, suggestion
from crossmodal.experiments import CONTROLS, SPLIT
from crossmodal.modalities import MODALITIES
from snakemake.exceptions import WorkflowError

# `--cores N` holds for the pools of each step, too: Snakemake gives a step the `threads` of its rule, at most N, in
# OMP_NUM_THREADS. This process itself hashes raw files.
shell.prefix("set -euo pipefail; export CROSSMODAL_CORES=$OMP_NUM_THREADS; ")
with suppress(WorkflowError):  # a cluster's jobs each have cores of their own, and there is no number of them all
    os.environ["CROSSMODAL_CORES"] = str(workflow.cores)

try:
    check_place(str(workflow.basedir))
    BENCH = Dag(config, look=workflow.is_main_process)
except UserError as error:
    raise WorkflowError(f"{error}")

if workflow.is_main_process:
    for line in BENCH.plan.players():
        logger.info(f"Data: {line}")
    for line in BENCH.missing:
        logger.warning(f"Data: {line}")
    for fallback in BENCH.fallbacks:
        logger.warning(f"Fallback: {fallback}")

DATA = f"{BENCH.data}/{{dataset}}"
RUN = f"{BENCH.results}/runs/{{dataset}}/{{split}}/{{name}}/seed{{seed}}"
SWEEP = f"{BENCH.results}/runs/{{dataset}}/{{split}}/{{name}}/sweep"
SCOPE = f"{BENCH.results}/{{scope}}"


def of_run(ask):
    """What the plan says of a run. With --keep-going, one that cannot be planned fails in its own step, which says why:
    the others are made.
    """

    def answer(wildcards):
        try:
            return ask(wildcards)
        except UserError as error:
            if not workflow.execution_settings.keep_going:
                raise WorkflowError(f"{error}")
            return []

    return answer


run_inputs = of_run(BENCH.run_inputs)
train_inputs = of_run(BENCH.train_inputs)


def unknown_target(wildcards):
    targets = [rule.name for rule in workflow.rules if not rule.has_wildcards()]
    raise WorkflowError(f"target {wildcards.target!r} is unknown{suggestion(wildcards.target, targets)}; or name a file")


def tables_of(scope):
    folder = f"{BENCH.results}/{scope}tables"
    return [f"{folder}/{name}.{kind}" for name in BENCH.table_names for kind in ("csv", "md", "tex", "html")]


def of_figure(what):
    """What a figure's module says of it: what it is drawn of, its caption, the identity of its source."""
    return of_run(lambda wildcards: BENCH.figure(wildcards)[what])


def TRACKED(scope):
    return f"{BENCH.results}/{scope}tracking.json"


wildcard_constraints:
    dataset=BENCH.dataset_pattern,
    split=SPLIT,
    name=r"[a-z0-9_]+(\.[a-z0-9_+-]+)?",
    seed=r"\d+",
    candidate=r"[a-z0-9_+-]+",
    modality="|".join(MODALITIES),
    extractor=BENCH.extractor_pattern,
    scope="(quick/)?",
    task="|".join(BENCH.tasks),
