# Runs to metrics, metrics to tables and the report; `scope` is `quick/` or nothing.
rule collect:
    input:
        lambda wildcards: BENCH.runs(wildcards, "metrics.json"),
    output:
        metrics=f"{SCOPE}metrics.parquet",
        comparison=f"{SCOPE}comparison.parquet",
        summary=f"{SCOPE}summary.json",
        curves=f"{SCOPE}plots/learning_curves.csv",
        recall=f"{SCOPE}plots/recall.csv",
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}collect.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal collect {params.flag} 2> {log}"


rule render_tables:
    input:
        comparison=f"{SCOPE}comparison.parquet",
        metrics=f"{SCOPE}metrics.parquet",
    output:
        [f"{SCOPE}tables/{name}.{kind}" for name in BENCH.table_names for kind in ("csv", "md", "tex", "html")],
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}tables.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal tables {params.flag} 2> {log}"


rule render_report:
    input:
        lambda wildcards: BENCH.runs(wildcards, "history.parquet"),
        lambda wildcards: BENCH.runs(wildcards, "queries.parquet"),
        datasets=BENCH.datasets,
        comparison=f"{SCOPE}comparison.parquet",
        metrics=f"{SCOPE}metrics.parquet",
    output:
        page=f"{SCOPE}report.html",
        curves=f"{SCOPE}figures/learning-curves.svg",
        annotation=f"{SCOPE}figures/annotation.svg",
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}report.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal report {params.flag} 2> {log}"
