# Splits select which training images are annotated and by how many captions, or which classes are trained on.
rule split:
    input:
        f"{DATA}/items.parquet",
    output:
        f"{DATA}/splits/{{split}}.parquet",
    params:
        identity=BENCH.split_identity,
    log:
        "logs/splits/{dataset}.{split}.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal split {wildcards.dataset} {wildcards.split} 2> {log:q}"
