"""The least value that each number among the settings of every model may have, by what it counts or weights."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from crossmodal.core import registry

# Whole numbers may be 1 or more, unless a name is here: alone, or with its model where other models differ.
NONE_OR_MORE = {
    "epoch_steps", "scheduled_every", "components", "seed", "pretrain_epochs", "hidden_layers", "later_epochs",
    "dpc.epochs", "ranking_epochs", "fixed_epochs", "halvings", "caption_epochs", "image_epochs", "gxn.noise",
    "rrfnet.steps", "stop_words", "concept_epochs", "contrastive_epochs", "triplet_epochs", "projected",
}  # fmt: skip
LEAST = {
    "batch_size": 2, "visualwords.batch_size": 1,  # a batch without a second pair has no negatives
    "landmarks": 2, "pvse.dim": 2, "visualwords.dim": 2, "socher.neighbours": 2, "scenes": 2,
    "mfsr.dim": 3,  # three parts
    "acmr.dim": 4, "scacmr.dim": 4,  # a quarter of it
    "dpc.length": 4, "mcnn.length": 8, "image_crop": 8,
}  # fmt: skip
CHECKED_OTHERWISE = {"image_size"}  # a power of two

# Fractions, rates and weights may be 0, unless a name is here.
ABOVE_NONE = {
    "lr", "lr_factor", "sharpness", "sharpness_image", "sharpness_text", "discriminator_lr", "largest_scale", "odds",
    "inverse_penalty", "width", "evaluator_lr", "adversarial_lr", "smooth", "word_lr", "later_lr", "dckt.start",
    "dckt.whole", "ranking_lr", "norm_lr", "classifier_lr", "image_network_lr", "dscmr.scale", "dvsa.scale",
    "smoothing", "gan_lr", "bias_lr", "classes_weight", "other_smooth", "other_sharpness", "spread",
}  # fmt: skip
ANY = {"bias"}
ONE = {"vse0.warm_up"}  # the sum over all negatives is what it is

MODELS = sorted(registry.names("models"))


def settings_of(model):
    return registry.module("models", model).Settings


def listed(names, model, name):
    return name in names or f"{model}.{name}" in names


def too_small(model, name, value):
    """Whether the value is refused for its size; other settings may not fit it."""
    try:
        settings_of(model)(**{name: value})
    except ValidationError as error:
        kinds = [e["type"] for e in error.errors() if e["loc"][:1] == (name,)]
        return any(kind.startswith("greater_than") or kind == "multiple_of" for kind in kinds)
    return False


@pytest.mark.parametrize("model", MODELS)
def test_the_least_of_each_number(model):
    for name, field in settings_of(model).model_fields.items():
        if name in CHECKED_OTHERWISE or field.annotation not in (int, float):
            continue
        if listed(ANY, model, name):
            assert not too_small(model, name, -1e6), name
        elif field.annotation is int:
            least = 0 if listed(NONE_OR_MORE, model, name) else 1
            least = LEAST.get(f"{model}.{name}", LEAST.get(name, least))
            assert too_small(model, name, least - 1), f"{name}: {least - 1} is taken"
            assert not too_small(model, name, least), f"{name}: {least} is refused"
        else:
            least = 1.0 if listed(ONE, model, name) else 0.0
            above = listed(ABOVE_NONE, model, name)
            assert too_small(model, name, least if above else least - 1e-9), name
            assert not too_small(model, name, least + 1e-9 if above else least), name


@pytest.mark.parametrize("model", MODELS)
def test_defaults_are_values_that_may_be_given(model):
    settings = settings_of(model)
    assert settings(**settings().model_dump()) == settings()
