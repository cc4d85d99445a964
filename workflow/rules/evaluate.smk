# A trained run is evaluated on its test items, once for each of its tasks. A ranking may also be encoded, ranked in
# shards and gathered, with the same bits.
SHARDS = BENCH.params.evaluation.shards
RUN_NAME = "{wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed}"


# Controls: answers whose scores are known beforehand check the scoring; nothing is trained for them.
rule control:
    input:
        run_inputs,
    output:
        examples=f"{RUN}/{{task}}/examples.parquet",
        metrics=f"{RUN}/{{task}}/metrics.json",
    params:
        identity=of_run(BENCH.task_identity),
    log:
        f"{RUN}/{{task}}/evaluate.log",
    wildcard_constraints:
        name="|".join(CONTROLS),
    conda:
        "../envs/crossmodal.yaml"
    threads: BENCH.params.threads.train
    resources:
        mem_mb=4000,
    shell:
        f"crossmodal evaluate {RUN_NAME} --task {{wildcards.task}} 2> {{log:q}}"


rule evaluate:
    input:
        run_inputs,
        vocabulary=f"{RUN}/vocabulary.json",
        weights=f"{RUN}/model.safetensors",
        manifest=f"{RUN}/manifest.json",
    output:
        examples=f"{RUN}/{{task}}/examples.parquet",
        metrics=f"{RUN}/{{task}}/metrics.json",
    params:
        identity=of_run(BENCH.task_identity),
    log:
        f"{RUN}/{{task}}/evaluate.log",
    conda:
        "../envs/crossmodal.yaml"
    threads: BENCH.params.threads.train
    resources:
        mem_mb=4000,
    shell:
        f"crossmodal evaluate {RUN_NAME} --task {{wildcards.task}} 2> {{log:q}}"


if SHARDS > 1:

    rule encode:
        input:
            run_inputs,
            vocabulary=f"{RUN}/vocabulary.json",
            weights=f"{RUN}/model.safetensors",
            manifest=f"{RUN}/manifest.json",
        output:
            temp(directory(f"{RUN}/{{task}}/encoded")),
        params:
            identity=of_run(BENCH.task_identity),
        log:
            f"{RUN}/{{task}}/encode.log",
        wildcard_constraints:
            task="|".join(BENCH.ranked_tasks),
        conda:
            "../envs/crossmodal.yaml"
        threads: BENCH.params.threads.train
        resources:
            gpu=1,
            mem_mb=4000,
        shell:
            f"crossmodal evaluate {RUN_NAME} --task {{wildcards.task}} --step encode 2> {{log:q}}"

    rule rank_shard:
        input:
            f"{RUN}/{{task}}/encoded",
        output:
            temp(f"{RUN}/{{task}}/shards/{{shard}}.npz"),
        params:
            shards=SHARDS,
        log:
            f"{RUN}/{{task}}/shard{{shard}}.log",
        wildcard_constraints:
            shard=r"\d+",
        conda:
            "../envs/crossmodal.yaml"
        threads: BENCH.params.threads.train
        resources:
            mem_mb=4000,
        shell:
            f"crossmodal evaluate {RUN_NAME} --task {{wildcards.task}} --step {{wildcards.shard}} 2> {{log:q}}"

    rule gather:
        input:
            run_inputs,
            vocabulary=f"{RUN}/vocabulary.json",
            weights=f"{RUN}/model.safetensors",
            manifest=f"{RUN}/manifest.json",
            encoded=f"{RUN}/{{task}}/encoded",
            shards=expand(f"{RUN}/{{task}}/shards/{{shard}}.npz", shard=range(SHARDS), allow_missing=True),
        output:
            examples=f"{RUN}/{{task}}/examples.parquet",
            metrics=f"{RUN}/{{task}}/metrics.json",
        params:
            identity=of_run(BENCH.task_identity),
            shards=SHARDS,
        log:
            f"{RUN}/{{task}}/evaluate.log",
        wildcard_constraints:
            task="|".join(BENCH.ranked_tasks),
        conda:
            "../envs/crossmodal.yaml"
        threads: BENCH.params.threads.train
        resources:
            mem_mb=4000,
        shell:
            f"crossmodal evaluate {RUN_NAME} --task {{wildcards.task}} --step gather 2> {{log:q}}"

    ruleorder: control > gather > evaluate

else:

    ruleorder: control > evaluate
