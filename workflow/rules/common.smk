# The checked plan, before any rule: an error in params.yaml or papers/ ends here.
from crossmodal.dag import Dag
from crossmodal.errors import UserError
from snakemake.exceptions import WorkflowError

try:
    DAG = Dag(config)
except UserError as error:
    raise WorkflowError(f"{error}")

DATA = DAG.data + "/{dataset}"
RUN = DAG.results + "/runs/{dataset}/{split}/{name}/seed{seed}"
SCOPE = DAG.results + "/{scope}"


def job_of(wildcards):
    try:
        return DAG.job(wildcards)
    except UserError as error:
        raise WorkflowError(f"{error}")


def run_inputs(wildcards):
    job_of(wildcards)
    return DAG.run_inputs(wildcards)


def tables_of(scope):
    folder = f"{DAG.results}/{scope}tables"
    return [f"{folder}/{name}.{kind}" for name in DAG.table_names for kind in ("csv", "md", "tex", "html")]


def TRACKED(scope):
    return f"{DAG.results}/{scope}tracking.json"


wildcard_constraints:
    dataset=DAG.dataset_pattern,
    split=r"full|[1-9]\d?pct-[1-5]cap",
    name=r"[a-z0-9_]+(\.[a-z0-9_+-]+)?",
    seed=r"\d+",
    modality="image|text|audio|video|mesh",
    extractor=DAG.extractor_pattern,
    scope="(quick/)?",
