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


# Before a run whose experiment has a `sweep`: each candidate is trained with the first seed, and the best one on
# validation items is chosen. Only its record is kept.
rule sweep:
    input:
        of_run(BENCH.candidate_inputs),
    output:
        f"{SWEEP}/tried/{{candidate}}.json",
    params:
        identity=of_run(BENCH.candidate_identity),
    log:
        f"{SWEEP}/tried/{{candidate}}.log",
    conda:
        "../envs/crossmodal.yaml"
    threads: BENCH.params.threads.train
    resources:
        gpu=1,
        mem_mb=4000,
    shell:
        "crossmodal sweep {wildcards.dataset}/{wildcards.split}/{wildcards.name} --candidate {wildcards.candidate:q} "
        "2> {log:q}"


rule choose:
    input:
        of_run(BENCH.candidates),
    output:
        f"{SWEEP}/choice.json",
    params:
        identity=of_run(BENCH.sweep_identity),
    log:
        f"{SWEEP}/choice.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal sweep {wildcards.dataset}/{wildcards.split}/{wildcards.name} --choose > {log:q} 2>&1"
