"""Tables of the documentation that list members of a class: each exists, so that nobody overrides one in vain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crossmodal.corpus.forms import base as forms
from crossmodal.models import base as models

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "heading", "of", "some"),
    [
        ("howto/model.md", "What can be overridden", models.Model, {"reads", "second_form", "optimisers", "fit"}),
        ("howto/form.md", "What a form declares", forms.Form, {"axes", "of_rows", "words", "outside"}),
    ],
)
def test_members_are_there(page, heading, of, some):
    section = (DOCS / page).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)[^`]*`", cell)}
    assert some <= named
    assert {name for name in named if not hasattr(of, name)} <= {"loss", "encode"}  # those have to be written


def test_every_constant_and_method_of_a_form_is_told():
    section = (DOCS / "howto/form.md").read_text().split("## What a form declares\n")[1].split("\n## ")[0]
    own = {name for name in vars(forms.Form) if not name.startswith("_")}
    assert {name for name in own if f"`{name}`" not in section} <= {
        *("moments", "joint", "of_items"),  # of single forms, told in the reference
        *("gather", "of_features", "of_sentences"),  # which follow from the others
    }
