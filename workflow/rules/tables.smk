# Runs to metrics, metrics to tables and the report; `scope` is `quick/` or nothing.
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
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
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
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}tables.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal tables {params.flag} 2> {log:q}"


# What the papers say, tested on the runs.
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
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}claims.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal claims {params.flag} > {log:q} 2>&1"


# Figures of spaces that grow a modality at a time, where a paper has such.
rule render_spaces:
    input:
        lambda wildcards: BENCH.runs(wildcards, "history.parquet"),
        metrics=f"{SCOPE}metrics.parquet",
    output:
        [
            report(
                f"{SCOPE}figures/{name}.svg",
                caption="../report/spaces.rst",
                category="Figures",
                labels={"figure": name},
            )
            for name in SPACES
        ],
        f"{SCOPE}figures/space-time.csv",
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}spaces.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal spaces {params.flag} 2> {log:q}"


# Two dimensions of the embeddings of the runs that papers name (`map: true`).
rule draw_maps:
    input:
        lambda wildcards: BENCH.mapped(wildcards),
        datasets=BENCH.datasets,
    output:
        report(
            f"{SCOPE}figures/embeddings.svg",
            caption="../report/maps.rst",
            category="Figures",
            labels={"figure": "embeddings"},
        ),
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}maps.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal maps {params.flag} 2> {log:q}"


# Parts of encodings, and the images and captions that are made again of them, where a system does that.
rule render_insides:
    input:
        lambda wildcards: BENCH.evaluated(wildcards, "metrics.json"),
    output:
        [
            report(
                f"{SCOPE}figures/{name}.svg",
                caption="../report/insides.rst",
                category="Figures",
                labels={"figure": name},
            )
            for name in INSIDES
        ],
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}insides.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal insides {params.flag} 2> {log:q}"


# The space of a run that papers name (`map: true`), of data with classes, before and after its training.
rule draw_transformation:
    input:
        lambda wildcards: BENCH.transformed(wildcards),
    output:
        report(
            f"{SCOPE}figures/transformation.svg",
            caption="../report/transformation.rst",
            category="Figures",
            labels={"figure": "before and after training"},
        ),
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}transformation.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal transformation {params.flag} 2> {log:q}"


# Words of regions' names and of captions, where images without a caption are read by what they show.
rule count_words:
    input:
        lambda wildcards: BENCH.named(wildcards),
    output:
        report(
            f"{SCOPE}figures/vocabulary.svg",
            caption="../report/vocabulary.rst",
            category="Figures",
            labels={"figure": "vocabulary"},
        ),
        f"{SCOPE}figures/vocabulary.csv",
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}vocabulary.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal vocabulary {params.flag} 2> {log:q}"


rule render_report:
    input:
        lambda wildcards: BENCH.runs(wildcards, "history.parquet"),
        lambda wildcards: BENCH.evaluated(wildcards, "examples.parquet"),
        datasets=BENCH.datasets,
        comparison=f"{SCOPE}comparison.parquet",
        metrics=f"{SCOPE}metrics.parquet",
        efficiency=f"{SCOPE}annotation_efficiency.csv",
        claims=f"{SCOPE}claims.parquet",
        spaces=lambda wildcards: spaces_of(wildcards.scope),
        tracked=lambda wildcards: TRACKED(wildcards.scope) if BENCH.params.tracking.enabled else [],
        maps=f"{SCOPE}figures/embeddings.svg",
        insides=lambda wildcards: insides_of(wildcards.scope),
        vocabulary=lambda wildcards: vocabulary_of(wildcards.scope),
        transformation=lambda wildcards: transformation_of(wildcards.scope),
    output:
        page=report(
            f"{SCOPE}report.html",
            caption="../report/page.rst",
            category="Page",
            labels={"page": "report"},
        ),
        curves=report(
            f"{SCOPE}figures/learning-curves.svg",
            caption="../report/curves.rst",
            category="Figures",
            labels={"figure": "learning curves"},
        ),
        annotation=report(
            f"{SCOPE}figures/annotation.svg",
            caption="../report/annotation.rst",
            category="Figures",
            labels={"figure": "recall against annotation"},
        ),
        crossovers=report(
            f"{SCOPE}figures/crossovers.svg",
            caption="../report/crossovers.rst",
            category="Figures",
            labels={"figure": "crossovers"},
        ),
        efficiency=report(
            f"{SCOPE}figures/efficiency.svg",
            caption="../report/efficiency.rst",
            category="Figures",
            labels={"figure": "annotation efficiency"},
        ),
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}report.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal report {params.flag} 2> {log:q}"


# Last, so that tables and report are there to be looked at when it fails.
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
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
        identity=BENCH.report_identity,
    log:
        "logs/{scope}check.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal check {params.flag} 2> {log:q} || {{ cat {log:q} >&2; exit 1; }}"
