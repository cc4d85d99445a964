# A trained run on the test items: in one job, or encoded, ranked in shards and gathered, to the same bits.
SHARDS = BENCH.params.evaluation.shards

if SHARDS == 1:

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
            folds=of_run(BENCH.test_identity),
        log:
            f"{RUN}/evaluate.log",
        conda:
            "../envs/crossmodal.yaml"
        threads: BENCH.params.threads.train
        resources:
            mem_mb=4000,
        shell:
            "crossmodal evaluate {wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed} 2> {log:q}"

else:

    rule encode:
        input:
            run_inputs,
            vocabulary=f"{RUN}/vocabulary.json",
            weights=f"{RUN}/model.safetensors",
            manifest=f"{RUN}/manifest.json",
        output:
            temp(directory(f"{RUN}/encoded")),
        log:
            f"{RUN}/encode.log",
        conda:
            "../envs/crossmodal.yaml"
        threads: BENCH.params.threads.train
        resources:
            gpu=1,
            mem_mb=4000,
        shell:
            "crossmodal evaluate {wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed}"
            " --step encode 2> {log:q}"

    rule rank_shard:
        input:
            f"{RUN}/encoded",
        output:
            temp(f"{RUN}/shards/{{shard}}.npz"),
        params:
            shards=SHARDS,
        log:
            f"{RUN}/shard{{shard}}.log",
        wildcard_constraints:
            shard=r"\d+",
        conda:
            "../envs/crossmodal.yaml"
        threads: BENCH.params.threads.train
        resources:
            mem_mb=4000,
        shell:
            "crossmodal evaluate {wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed}"
            " --step {wildcards.shard} 2> {log:q}"

    rule gather:
        input:
            run_inputs,
            vocabulary=f"{RUN}/vocabulary.json",
            weights=f"{RUN}/model.safetensors",
            manifest=f"{RUN}/manifest.json",
            encoded=f"{RUN}/encoded",
            shards=expand(f"{RUN}/shards/{{shard}}.npz", shard=range(SHARDS), allow_missing=True),
        output:
            queries=f"{RUN}/queries.parquet",
            metrics=f"{RUN}/metrics.json",
        params:
            folds=of_run(BENCH.test_identity),
            shards=SHARDS,
        log:
            f"{RUN}/evaluate.log",
        conda:
            "../envs/crossmodal.yaml"
        threads: BENCH.params.threads.train
        resources:
            mem_mb=4000,
        shell:
            "crossmodal evaluate {wildcards.dataset}/{wildcards.split}/{wildcards.name}/seed{wildcards.seed}"
            " --step gather 2> {log:q}"
