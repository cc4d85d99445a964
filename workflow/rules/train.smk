# One run trains a model on a split of a data set with a seed. Checkpoints lie elsewhere, so that a killed run resumes.
rule train:
    input:
        train_inputs,
    output:
        config=f"{RUN}/config.yaml",
        vocabulary=f"{RUN}/vocabulary.json",
        history=f"{RUN}/history.parquet",
        weights=f"{RUN}/model.safetensors",
        manifest=f"{RUN}/manifest.json",
    params:
        identity=of_run(BENCH.train_identity),
    log:
        f"{RUN}/train.log",
    conda:
        "../envs/crossmodal.yaml"
    benchmark:
        f"{RUN}/benchmark.tsv"
    threads: BENCH.params.threads.train
    resources:
        gpu=1,
        mem_mb=4000,
    shell:
        "crossmodal train {wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed} 2> {log:q}"
