"""The data set that stands in for each published one at a scale."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from crossmodal.core import paths
from crossmodal.core.errors import UserError
from crossmodal.experiments.params import Params


class UnreadableError(UserError):
    """The model reads inputs that the data set does not have."""


class StandIns:
    """The stand-ins of the parameters' scale, and what is there of the data sets that they play."""

    def __init__(self, params: Params):
        self.params = params
        self.scale = params.at(params.scale)

    def dataset_of(self, published: str) -> str:
        """The data set that is used for a published one at this scale: itself, or its stand-in.

        Its own `stand_in` comes first, then whether it is `present`, then `stand_ins` of the scale. A data set that is
        named by none of these, such as a user's own, and one that plays others are used themselves.
        """
        if published in self.present or published in self.params.players([self.params.scale]):
            return published
        return self._stand_in(published) or self.scale.stand_ins.get(published) or published

    def _stand_in(self, published: str) -> str | None:
        """The stand-in that a data set's own block names."""
        chosen = self.params.datasets.get(published)
        return chosen.stand_in if chosen else None

    @cached_property
    def present(self) -> frozenset[str]:
        """The published data sets of `stand_ins` that play themselves at this scale, because their raw files are there.

        Those are all files and folders that their blocks name. What a run's path says of its settings stays true: they
        follow from the data set that is trained on, be it the published one or its stand-in.
        """
        itself = {name for name, by in self.scale.stand_ins.items() if name == by}
        if self.scale.prefer_raw:
            blocks = {name: self.params.datasets.get(name) for name in self.scale.stand_ins}
            itself |= {name for name, block in blocks.items() if block and paths.present(block.settings)}
        return frozenset(name for name in itself if not self._stand_in(name))

    def source_of(self, published: str, target: str = "") -> str:
        """The data set that is used for a published one at this scale as the source of a knowledge transfer.

        Parameters
        ----------
        target : the published data set that learns from it; a stand-in of that learns from a stand-in, whatever files
            are there, so that its run's path has one source.

        Raises
        ------
        UnreadableError : `target` plays itself because its raw files are there, and those of the source are not.
        """
        other = self.scale.source_stand_ins.get(published)
        drawn = other or self._stand_in(published) or self.scale.stand_ins.get(published)
        if published in self.present:
            return published if self.dataset_of(target) == target or drawn is None else drawn
        if target in self.present and drawn:
            raise UnreadableError(
                f"params.yaml: datasets.{published}: {target} learns from it, and its raw files are not there"
            )
        return other or self.dataset_of(published)

    def sentences(self, named: Collection[str]) -> list[str]:
        """One sentence per data set that plays others among `named`, and per published one that plays itself."""
        played: dict[str, list[str]] = {}
        for published in named:
            played.setdefault(self.dataset_of(published), []).append(published)
        lines = [
            f"{by} plays {', '.join(published)}"
            for by, listed in played.items()
            if (published := [name for name in listed if name != by])
        ]
        for published in filter(self.present.__contains__, named):
            lines.append(
                f"{published} plays itself: its raw files are there"
                f" (scales.{self.params.scale}.prefer_raw: false plays it by its stand-in)"
            )
        return lines
