"""Settings that the systems which learn from classes share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossmodal.models import base

Sampling = Literal["shuffled", "balanced"]
"""How an epoch's rows are drawn (`training.balanced`)."""

Standardise = Annotated[
    bool, Field(description="centre features and divide them by their s.d. over the training items; else as they are")
]


class Labelled(base.Schedule):
    """Training on data whose items answer each other by class.

    None of the programs and papers that are followed here balances its classes, so that `shuffled` is the default of
    all systems. (DSCMR's and ACMR's programs do not even shuffle: they take the items in the order of their files.)
    """

    sampling: Sampling = Field(
        "shuffled",
        description="shuffled: an epoch passes every training item; balanced: each class as often as any other, so "
        "that items of large classes are left out and those of small ones come again",
    )
