# A trained run on the test items.
rule evaluate:
    input:
        run_inputs,
        vocabulary=f"{RUN}/vocabulary.json",
        weights=f"{RUN}/model.safetensors",
        manifest=f"{RUN}/manifest.json",
    output:
        queries=f"{RUN}/queries.parquet",
        metrics=f"{RUN}/metrics.json",
    params:
        folds=BENCH.test_identity,
    log:
        f"{RUN}/evaluate.log",
    conda:
        "../envs/crossmodal.yaml"
    threads: BENCH.params.threads.train
    resources:
        mem_mb=4000,
    shell:
        "crossmodal evaluate {wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed} 2> {log}"
