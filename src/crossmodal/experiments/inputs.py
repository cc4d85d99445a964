"""Which features a model reads of a data set, by the blocks `inputs` and `encoders` of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping

from crossmodal.core import registry
from crossmodal.core.errors import suggestion
from crossmodal.experiments.params import PRECOMPUTED, Inputs, Params
from crossmodal.experiments.stand_ins import UnreadableError


def inputs_of(params: Params, dataset: str, encoder: str | None = None) -> Inputs:
    """{modality: extractor, or one per form} of the features of a data set that are read.

    Parameters
    ----------
    encoder : one of `encoders`, whose modalities replace those of the data set.

    Raises
    ------
    UnreadableError : the data set has no features of the encoder.
    """
    chosen = params.datasets[dataset]
    if encoder is not None:
        encoders, place = (
            (params.encoders, "") if chosen.encoders is None else (chosen.encoders, f"datasets.{dataset}.")
        )
        if encoder not in encoders:
            raise UnreadableError(f"params.yaml: {place}encoders: has no {encoder!r}" + suggestion(encoder, encoders))
        return {**inputs_of(params, dataset), **encoders[encoder]}
    if chosen.arrays is None:
        return {**params.inputs, **chosen.inputs}
    extractors = {m: PRECOMPUTED if is_array else params.inputs.get(m) for m, is_array in chosen.arrays.items()}
    return {**{m: extractor for m, extractor in extractors.items() if extractor}, **chosen.inputs}


def extractors_of(
    params: Params, model: str, reads: Mapping[str, str], dataset: str, encoder: str | None = None
) -> dict[str, str]:
    """{modality: extractor} of the modalities that a model reads: a run depends on no others.

    Raises
    ------
    UnreadableError : the data set has no features that the model reads.
    """
    inputs = inputs_of(params, dataset, encoder)
    arrays = params.datasets[dataset].arrays or {}
    for modality, form in reads.items():
        declared = registry.form(form, modality)
        if declared["array"] is None and declared["files"] and arrays.get(modality):
            raise UnreadableError(
                f"params.yaml: datasets.{dataset}: model {model!r} reads {modality} as words, of which there are "
                f"none, only arrays; give `captions`, or choose papers whose models read vectors"
            )
    extractors = {}
    for modality, form in reads.items():
        array = registry.form(form, modality)["array"]
        if array is None:
            continue
        named = inputs.get(modality, {})
        extractor = named if isinstance(named, str) else named.get(array)
        if extractor is None:
            raise UnreadableError(
                f"params.yaml: datasets.{dataset}.inputs: model {model!r} reads {modality} features in the form "
                f"{form!r}, but no extractor is named for them, nor in `inputs` for all data sets"
            )
        extractors[modality] = extractor
    return extractors


def second_extractors_of(params: Params, model: str, dataset: str, encoder: str | None = None) -> dict[str, str]:
    """{modality: extractor} of the modalities that a model also reads in a second form.

    Raises
    ------
    UnreadableError : the data set has no features in the second form.
    """
    extractors = {}
    for modality, form in registry.second_forms(model).items():
        named = inputs_of(params, dataset, encoder).get(modality)
        array = registry.form(form, modality)["array"]  # concepts are made of regions
        if not isinstance(named, Mapping) or array not in named:
            raise UnreadableError(
                f"params.yaml: datasets.{dataset}.inputs: model {model!r} reads {modality} in the form {form!r} "
                f"besides, but no extractor is named for it; give {modality} as {{vector: ..., {array}: ...}}"
            )
        extractors[modality] = named[array]
    return extractors
