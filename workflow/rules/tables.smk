# Metrics are collected from runs, and tables and the report are made of them; `scope` is `quick/` or empty.
rule collect:
    input:
        lambda wildcards: BENCH.evaluated(wildcards, "metrics.json"),
        lambda wildcards: BENCH.evaluated(wildcards, "examples.parquet"),
    output:
        metrics=f"{SCOPE}metrics.parquet",
        comparison=f"{SCOPE}comparison.parquet",
        efficiency=f"{SCOPE}annotation_efficiency.csv",
        summary=f"{SCOPE}summary.json",
        headline=f"{SCOPE}headline.json",
        curves=f"{SCOPE}plots/learning_curves.csv",
        recall=f"{SCOPE}plots/recall.csv",
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "--no-quick",
        identity=BENCH.reporting_identity("results.collect"),
    log:
        "logs/{scope}collect.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal collect {params.flag} 2> {log:q}"


rule render_tables:
    input:
        comparison=f"{SCOPE}comparison.parquet",
        metrics=f"{SCOPE}metrics.parquet",
    output:
        [f"{SCOPE}tables/{name}.{kind}" for name in BENCH.table_names for kind in ("csv", "md", "tex")],
        [
            report(
                f"{SCOPE}tables/{name}.html",
                caption="../report/table.rst",
                category="Tables",
                subcategory=name.partition("-")[0],
                labels={"table": name.partition("-")[2]},
            )
            for name in BENCH.table_names
        ],
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "--no-quick",
        identity=BENCH.reporting_identity("tables.writers"),
    log:
        "logs/{scope}tables.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal tables {params.flag} 2> {log:q}"


# Claims of the papers, tested on the runs.
rule claims:
    input:
        lambda wildcards: BENCH.evaluated(wildcards, "examples.parquet"),
        lambda wildcards: BENCH.runs(wildcards, "history.parquet"),
        metrics=f"{SCOPE}metrics.parquet",
    output:
        f"{SCOPE}claims.parquet",
        [f"{SCOPE}tables/claims.{kind}" for kind in ("csv", "md", "tex")],
        report(
            f"{SCOPE}tables/claims.html",
            caption="../report/claims.rst",
            category="Tables",
            labels={"table": "claims"},
        ),
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "--no-quick",
        identity=BENCH.reporting_identity("results.claims", "tables.verdicts"),
    log:
        "logs/{scope}claims.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal claims {params.flag} > {log:q} 2>&1"


# A figure is a file of `reporting/figures/`, which declares its inputs and its caption.
rule figure:
    input:
        of_figure("reads"),
    output:
        report(
            f"{SCOPE}figures/{{figure}}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "--no-quick",
        identity=of_figure("identity"),
        caption=of_figure("caption"),
    wildcard_constraints:
        figure=BENCH.figure_pattern(has_numbers=False),
    log:
        "logs/{scope}figures/{figure}.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal figure {wildcards.figure} {params.flag} 2> {log:q}"


# The same, together with a file of the drawn numbers.
use rule figure as figure_with_numbers with:
    output:
        report(
            f"{SCOPE}figures/{{figure}}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        f"{SCOPE}figures/{{figure}}.csv",
    wildcard_constraints:
        figure=BENCH.figure_pattern(has_numbers=True),


rule render_report:
    input:
        lambda wildcards: BENCH.runs(wildcards, "history.parquet"),
        lambda wildcards: BENCH.evaluated(wildcards, "examples.parquet"),
        datasets=BENCH.datasets,
        comparison=f"{SCOPE}comparison.parquet",
        metrics=f"{SCOPE}metrics.parquet",
        efficiency=f"{SCOPE}annotation_efficiency.csv",
        claims=f"{SCOPE}claims.parquet",
        figures=lambda wildcards: BENCH.figure_files(wildcards.scope),
        tracked=lambda wildcards: TRACKED(wildcards.scope) if BENCH.params.tracking.enabled else [],
    output:
        page=report(
            f"{SCOPE}report.html",
            caption="../report/page.rst",
            category="Page",
            labels={"page": "report"},
        ),
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "--no-quick",
        identity=BENCH.reporting_identity("page.report"),
        figures=lambda wildcards: BENCH.figures_identity(wildcards.scope),
    log:
        "logs/{scope}report.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal report {params.flag} 2> {log:q}"


# This rule is last, so that tables and the report exist when it fails.
rule check:
    input:
        lambda wildcards: BENCH.evaluated(wildcards, "metrics.json"),
        lambda wildcards: BENCH.evaluated(wildcards, "examples.parquet"),
        comparison=f"{SCOPE}comparison.parquet",
        page=f"{SCOPE}report.html",
        tables=lambda wildcards: tables_of(wildcards.scope),
    output:
        touch(f"{SCOPE}.checked"),
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "--no-quick",
        identity=BENCH.reporting_identity("results.quality_control"),
    log:
        "logs/{scope}check.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal check {params.flag} 2> {log:q} || {{ cat {log:q} >&2; exit 1; }}"
