# Finished runs are written to MLflow by one writer after the runs, so that an unavailable store cannot fail them.
rule tracking_store:
    output:
        touch(f"{BENCH.results}/.tracking-store"),
    params:
        identity=BENCH.tracking_identity,
    log:
        "logs/tracking-store.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal track --init 2> {log:q}"


rule track:
    input:
        lambda wildcards: BENCH.evaluated(wildcards, "metrics.json"),
        store=f"{BENCH.results}/.tracking-store",
    output:
        f"{SCOPE}tracking.json",
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "--no-quick",
    log:
        "logs/{scope}track.log",
    conda:
        "../envs/crossmodal.yaml"
    shell:
        "crossmodal track {params.flag} 2> {log:q}"
