"""Forms of input, one module per form: how the items of a modality are opened, gathered and passed to a model.

A form is discovered as a file of this folder, or through an entry point of the group `crossmodal.forms`; a model names
it in its `reads`. Its module has a class `Form`, a subclass of `crossmodal.corpus.forms.base.Form`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossmodal.core import registry

if TYPE_CHECKING:
    from crossmodal.corpus.forms.base import Form

HELPERS = ("base",)


def form(name: str) -> Form:
    """The form with the given name.

    Raises
    ------
    UserError : there is no such form; the message suggests the nearest known name.
    """
    return registry.module("forms", name).Form(name)
