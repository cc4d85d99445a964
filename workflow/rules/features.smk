# Features are computed from items. Later rules depend on the manifest, which is small and contains the array's hash.
rule extract:
    input:
        table=f"{DATA}/items.parquet",
        manifest=f"{DATA}/items.json",
    output:
        array=f"{DATA}/features/{{modality}}.{{extractor}}.npy",
        index=f"{DATA}/features/{{modality}}.{{extractor}}.parquet",
        manifest=f"{DATA}/features/{{modality}}.{{extractor}}.json",
    params:
        identity=BENCH.extractor_identity,
    log:
        "logs/extract/{dataset}.{modality}.{extractor}.log",
    conda:
        "../envs/crossmodal.yaml"
    benchmark:
        "logs/extract/{dataset}.{modality}.{extractor}.tsv"
    threads: BENCH.features_threads
    resources:
        gpu=1,
        mem_mb=8000,
    shell:
        "crossmodal extract {wildcards.dataset} {wildcards.extractor} --modality {wildcards.modality} 2> {log:q}"
