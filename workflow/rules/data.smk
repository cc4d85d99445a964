# Items are read from raw files, and captions are cut into words.
rule items:
    output:
        table=f"{DATA}/items.parquet",
        manifest=f"{DATA}/items.json",
    params:
        identity=BENCH.dataset_identity,
    log:
        "logs/items/{dataset}.log",
    conda:
        "../envs/crossmodal.yaml"
    benchmark:
        "logs/items/{dataset}.tsv"
    threads: BENCH.items_threads
    resources:
        mem_mb=4000,
    shell:
        "crossmodal prepare {wildcards.dataset} 2> {log:q}"


rule tokens:
    input:
        f"{DATA}/items.parquet",
    output:
        f"{DATA}/tokens.parquet",
    log:
        "logs/tokens/{dataset}.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal tokenize {wildcards.dataset} 2> {log:q}"
