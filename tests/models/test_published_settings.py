"""The defaults of systems are the constants of their papers or programs, transcribed by hand with their places.

Where a paper and its program differ, the setting's description names the reading that is not the default.
"""

from __future__ import annotations

import pytest

from crossmodal.core import registry
from tests.models.published import OTHER_READINGS, OWN, PRINTED


@pytest.mark.parametrize(
    ("table", "model"),
    [
        *(pytest.param(PRINTED, model, id=model) for model in PRINTED),
        *(pytest.param(OWN, model, id=f"{model}-own") for model in OWN),
    ],
)
def test_defaults_are_as_transcribed(table, model):
    settings = registry.module("models", model).Settings()
    assert {name: getattr(settings, name) for name in table[model]} == table[model]


@pytest.mark.parametrize("model", [model for model in PRINTED if model in OWN])
def test_a_setting_is_either_published_or_chosen_here(model):
    assert not {*PRINTED[model]} & {*OWN[model]}


@pytest.mark.parametrize(("model", "name"), OTHER_READINGS)
def test_a_setting_says_which_other_reading_there_is(model, name):
    described = registry.module("models", model).Settings.model_fields[name].description
    assert OTHER_READINGS[model, name] in described
