# Finished runs into MLflow: one writer, after the runs, so that a store that is down can fail nothing.
rule tracking_store:
    output:
        touch(DAG.results + "/.tracking-store"),
    params:
        uri=DAG.params.tracking.uri,
    log:
        "logs/tracking-store.log",
    shell:
        "crossmodal track --init 2> {log}"


rule track:
    input:
        lambda wildcards: DAG.runs(wildcards, "metrics.json"),
        store=DAG.results + "/.tracking-store",
        page=SCOPE + "report.html",
    output:
        SCOPE + "tracking.json",
    params:
        flag=lambda wildcards: "--quick" if wildcards.scope else "",
    log:
        "logs/{scope}track.log",
    shell:
        "crossmodal track {params.flag} 2> {log}"
