# A trained run on the test items.
rule evaluate:
    input:
        run_inputs,
        vocabulary=RUN + "/vocabulary.json",
        weights=RUN + "/model.safetensors",
        manifest=RUN + "/manifest.json",
    output:
        queries=RUN + "/queries.parquet",
        metrics=RUN + "/metrics.json",
    params:
        folds=BENCH.test_identity,
    log:
        RUN + "/evaluate.log",
    conda:
        "../envs/crossmodal.yaml"
    threads: BENCH.params.threads.train
    resources:
        mem_mb=4000,
    shell:
        "crossmodal evaluate {wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed} 2> {log}"
