# The entry point: `snakemake --cores all quick` runs a first selection, `snakemake --cores all all` everything.
import os
import sys

from snakemake.utils import min_version

min_version("9.0")


configfile: "params.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/splits.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/tracking.smk"


localrules:
    all,
    quick,
    features,
    inputs,
    tables,
    figures,
    report,
    rehearse,


# `--quiet rules`, which `make demo` uses, hides the messages of failed steps.
onerror:
    if any(str(kind).lower().endswith("rules") for kind in workflow.output_settings.quiet or ()):
        for path in (path for job in workflow.scheduler.failed for path in job.log if os.path.exists(path)):
            with open(path, encoding="utf-8", errors="replace") as lines:
                print(f"{path}:", *lines.readlines()[-40:], sep="\n    ", file=sys.stderr)


rule all:
    default_target: True
    input:
        tables_of(""),
        f"{BENCH.results}/claims.parquet",
        f"{BENCH.results}/report.html",
        f"{BENCH.results}/.checked",
        TRACKED("") if BENCH.params.tracking.enabled else [],


rule quick:
    input:
        tables_of("quick/"),
        f"{BENCH.results}/quick/claims.parquet",
        f"{BENCH.results}/quick/report.html",
        f"{BENCH.results}/quick/.checked",
        TRACKED("quick/") if BENCH.params.tracking.enabled else [],


rule features:
    input:
        BENCH.features,


rule inputs:
    input:
        BENCH.inputs,


# Of the runs that are there: what these are made from is no input, so that nothing is trained for them. `all` and `quick`
# train, and so do the files of these steps when they are named by their paths.
rule tables:
    shell:
        "crossmodal collect && crossmodal tables --no-quick"


rule figures:
    shell:
        "crossmodal collect && crossmodal figure --no-quick"


rule report:
    shell:
        "crossmodal collect && crossmodal tables --no-quick && crossmodal claims --no-quick > /dev/null "
        "&& crossmodal figure --no-quick && crossmodal report --no-quick"


# This rule has no output, so that it runs each time. The plan uses the same parameters as the runs.
rule rehearse:
    threads: lambda wildcards: workflow.cores
    shell:
        "crossmodal rehearse --workers {threads}"


# A misspelt target is named with those that exist; otherwise Snakemake takes it for a file that no rule makes.
rule unknown_target:
    input:
        unknown_target,
    output:
        "{target}",
    wildcard_constraints:
        target=r"[\w-]+",
