"""Forms of input, one module each: how the items of a modality are opened, gathered and handed to a model.

A form is found by its file, or by an entry point of the group `crossmodal.forms`; a model names it in its `reads`. Its
module has a class `Form`, a subclass of `crossmodal.corpus.forms.base.Form`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossmodal import registry

if TYPE_CHECKING:
    from crossmodal.corpus.forms.base import Form

HELPERS = ("base",)


def form(name: str) -> Form:
    """The form of a name.

    Raises
    ------
    UserError : there is none, with the nearest known one.
    """
    return registry.module("forms", name).Form(name)
