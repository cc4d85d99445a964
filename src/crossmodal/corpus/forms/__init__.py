"""Forms of input, one module each: how the items of a modality are opened, gathered and handed to a model.

A form is found by its file, or by an entry point of the group `crossmodal.forms`; a model names it in its `reads`. Its
module has a class `Form`, a subclass of `crossmodal.corpus.forms.base.Form`.
"""

HELPERS = ("base",)
