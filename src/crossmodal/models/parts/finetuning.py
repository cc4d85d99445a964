"""An image network that is trained on along with a system that read its features before.

The second stage of 001 (section 3.5) and of VSE++ (its reference [3]): after a run on fixed features all is trained on
photographs, the network too, slowly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.errors import UserError
from crossmodal.models import base

CHUNK = 64  # images that pass at once where no gradients are kept


class Settings(base.Schedule):
    """`image_network` makes a run one that fine-tunes; it must begin `after` one on that network's features."""

    image_network: str = Field("", description="torchvision network that is fine-tuned; empty: features are read")
    image_weights: str = Field("IMAGENET1K_V1", description="its first weights, as an extractor names them")
    image_norms: Literal["frozen", "trained"] = Field(
        "frozen", description="its batch norms: as they came, since batches are small, or trained along"
    )

    @property
    def fallbacks(self) -> list[str]:
        seeded = self.image_network and self.image_weights == "seeded"
        return [f"{self.image_network}: seeded random weights"] if seeded else []


class ImageNetwork(nn.Module):
    """(B, 3, S, S) uint8 images -> (B, dim) features of a network without its classifier."""

    def __init__(self, settings: Settings):
        super().__init__()
        from crossmodal.features import networks

        self.settings = settings
        self.normalised = networks.normalised
        self.body, self.dim = networks.bare(settings.image_network)
        self.ready = False

    def take_weights(self) -> None:
        """Load the first weights: fine-tuning begins with these.

        Raises
        ------
        UserError : weights that cannot be had, or of another network, or with batch norms folded into convolutions.
        """
        from crossmodal.features import networks

        s = self.settings
        trained, _ = networks.build(networks.Settings(network=s.image_network, weights=s.image_weights))
        try:
            self.body.load_state_dict(trained.state_dict())
        except RuntimeError:
            raise UserError(f"{s.image_weights}: has its batch norms folded in and cannot be fine-tuned") from None
        self.ready = True

    def train(self, mode: bool = True) -> ImageNetwork:
        super().train(mode)
        if self.settings.image_norms == "frozen":
            for module in self.body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        if self.training and not self.ready:
            raise UserError("image_network: is fine-tuned after a run on its features; name that as `after`")
        if torch.is_grad_enabled():
            return self._features(images)
        return torch.cat([self._features(part) for part in images.split(CHUNK)])

    def _features(self, images: Tensor) -> Tensor:
        return self.body(self.normalised(images.byte(), images.device, "fp32"))


class Model(base.Model):
    """A system whose image network can be fine-tuned: `image_network`, None where features are read."""

    image_network: ImageNetwork | None

    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """As every system, but that the network comes with weights of its own."""
        if self.image_network is not None:
            self.image_network.take_weights()
            own = self.image_network.state_dict()
            weights = {**weights, **{f"image_network.{name}": value for name, value in own.items()}}
        super().inherit(weights)


def network_of(settings: Settings, context: base.Context) -> tuple[ImageNetwork | None, int]:
    """The network that is fine-tuned, None where features are read; the dimensions of an image's feature."""
    if not settings.image_network:
        return None, context.shapes["image"][0]
    network = ImageNetwork(settings)
    return network, network.dim


def features(network: ImageNetwork | None, images: Tensor) -> Tensor:
    """(B, D) features of a batch's images, which are these or pixels."""
    return images if network is None else network(images)
