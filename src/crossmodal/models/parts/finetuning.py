"""Fine-tuning of an image network together with a system that was trained on its fixed features.

This is the second stage of mFSR (section 3.5) and of VSE++ (Faghri et al., 2018): after a run on fixed features, system
and network are trained on photographs with a low learning rate. As in the program of VSE++, a feature is brought to
unit length before it is mapped, and each training step uses a new crop of a photograph, which may be mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.core.errors import UserError
from crossmodal.models import base

CHUNK = 64  # images of a forward pass where no gradients are kept
ASPECT = (3 / 4, 4 / 3)  # width by height of a random crop, in the programs of VSE++ and DPC


class Settings(base.Schedule):
    """A run with `image_network` fine-tunes it; it must continue (`after`) a run on that network's features."""

    image_network: str = Field(
        "", description="torchvision network that is fine-tuned; empty: the model reads features instead of images"
    )
    image_weights: str = Field(
        "IMAGENET1K_V1", description="initial weights of the network, as an extractor names them"
    )
    image_norms: Literal["frozen", "trained"] = Field(
        "frozen",
        description="whether its batch normalisation is frozen, since batches are small, or trained with "
        "the other layers",
    )
    image_unit: bool = Field(
        True,
        description="whether its features are scaled to unit length, as the extractor `image` does unless `l2: false`",
    )
    image_crop: int = Field(224, ge=8, description="side in pixels of the square of an image that the network reads")
    image_views: Literal["random", "centre"] = Field(
        "random",
        description="crop during training: a random crop, resized to `image_size`, or the centre, which evaluation "
        "always uses. Crops are taken from the square that is read, whereas the program of VSE++ takes them from the "
        "whole photograph",
    )
    image_area: tuple[float, float] = Field(
        (0.08, 1.0), description="least and largest share of the image's area in a random crop"
    )
    image_flips: bool = Field(True, description="whether random crops are mirrored with a probability of one half")

    @property
    def fallbacks(self) -> list[str]:
        seeded = self.image_network and self.image_weights == "seeded"
        return [f"{self.image_network}: seeded random weights"] if seeded else []


class ImageNetwork(nn.Module):
    """(B, 3, S, S) uint8 images -> (B, dim) features of a network without its classifier."""

    def __init__(self, settings: Settings):
        super().__init__()
        from crossmodal.features.networks import backbones

        self.settings = settings
        self.normalised = backbones.normalised
        self.body, self.dim = backbones.bare(settings.image_network)
        self.ready = False

    def take_weights(self) -> None:
        """Load the weights with which fine-tuning begins.

        Raises
        ------
        UserError : the weights cannot be loaded, are of another network, or have batch norms folded into convolutions.
        """
        from crossmodal.features.networks import backbones

        s = self.settings
        trained, _ = backbones.build(backbones.Settings(network=s.image_network, weights=s.image_weights))
        try:
            self.body.load_state_dict(trained.state_dict())
        except RuntimeError:
            raise UserError(f"{s.image_weights}: has its batch norms folded in and cannot be fine-tuned") from None
        self.ready = True

    def train(self, mode: bool = True) -> ImageNetwork:
        """Set training or evaluation mode; `frozen` batch norms stay in evaluation mode."""
        super().train(mode)
        if self.settings.image_norms == "frozen":
            for module in self.body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        if self.training and not self.ready:
            raise UserError(
                "image_network: the network is fine-tuned after a run on its features; name that run as `after`"
            )
        shown = self.shown(images.byte())
        if torch.is_grad_enabled():
            return self._features(shown)
        return torch.cat([self._features(part) for part in shown.split(CHUNK)])

    def shown(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 3, S, S) uint8: random crops in training, else the centre.

        Raises
        ------
        UserError : the images are smaller than the crop.
        """
        side = self.settings.image_crop
        if min(images.shape[2:]) < side:
            raise UserError(
                f"image_crop: {side} pixels do not fit in images of {images.shape[2]} x {images.shape[3]}; set it to "
                "the side that the network's features were computed with, or read larger images (`crop` of the "
                "extractor)"
            )
        if self.training and self.settings.image_views == "random":
            return torch.stack([self._crop(image) for image in images])
        from torchvision.transforms.functional import center_crop

        return center_crop(images, [side, side])

    def _crop(self, image: Tensor) -> Tensor:
        """A random crop of a (3, H, W) image; it depends on torch's seed, which is set for each epoch."""
        from torchvision.transforms import RandomResizedCrop
        from torchvision.transforms.functional import hflip, resized_crop

        s = self.settings
        place = RandomResizedCrop.get_params(image, list(s.image_area), list(ASPECT))
        crop = resized_crop(image, *place, [s.image_crop, s.image_crop], antialias=True)
        return hflip(crop) if s.image_flips and torch.rand(()) < 0.5 else crop

    def _features(self, images: Tensor) -> Tensor:
        features = self.body(self.normalised(images, images.device, "fp32"))
        return F.normalize(features, dim=1) if self.settings.image_unit else features


class Model(base.Model):
    """A system whose image network can be fine-tuned; `image_network` is None where features are read."""

    image_network: ImageNetwork | None

    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of an earlier run, and those of the image network, which that run does not have."""
        if self.image_network is not None:
            self.image_network.take_weights()
            state = self.image_network.state_dict()
            weights = {**weights, **{f"image_network.{name}": value for name, value in state.items()}}
        super().inherit(weights)


def network_of(settings: Settings, context: base.Context) -> tuple[ImageNetwork | None, int]:
    """The network that is fine-tuned (None where features are read), and the dimensions of an image's feature."""
    if not settings.image_network:
        return None, context.shapes["image"][0]
    network = ImageNetwork(settings)
    return network, network.dim


def features(network: ImageNetwork | None, images: Tensor) -> Tensor:
    """(B, D) features of images, by the network; without one, `images` are features and are returned."""
    return images if network is None else network(images)
