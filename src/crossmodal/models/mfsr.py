"""mFSR: features are separated into modal, semantic and specific parts and reconstructed (Zhang and Wu, 2021).

An image is reconstructed from its three parts by a DCGAN with two discriminators, a caption from its parts by a
decoder; only semantic parts are compared. The second stage fine-tunes ResNet-152 on photographs for 15 epochs; it is
a run of its own (`image_network`), which continues a run on fixed features.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.core.errors import UserError
from crossmodal.language.tokens import END, START
from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts import dcgan, finetuning
from crossmodal.models.parts.decoder import CaptionDecoder
from crossmodal.models.parts.encoders import CaptionEncoder, ImageEncoder
from crossmodal.models.parts.losses import Hinges, Negatives, Reduction, batch_hinges

LONGEST = 20
"""Largest number of words of a caption that is generated of an image, as in captioners."""
MOMENTUM = 0.02  # share of a batch in the running means of the captions' parts


class Settings(Hinges, finetuning.Settings):
    """The published settings (sections 3.1 and 3.5). A weight of 0 leaves a loss out, as in the ablation of table 3.

    The paper leaves open the margin, the sizes of parts and networks and the learning rates of the adversaries, and
    mentions no gradient clipping. It states that the joint space has 3072 dimensions: here the three parts have these
    together; `part_dim: 3072` is the other reading.
    """

    clip: float = Field(
        0.0, ge=0, description="largest norm of the gradient; the paper names none, hence 0, which disables clipping"
    )
    reduction: Reduction = Field(
        "mean", description="reduction of the hinges of a batch; eq. 8 prints the mean over the pairs"
    )
    negatives: Negatives = Field(
        "other_groups",
        description='which items are negatives of a pair; the text before eq. 8 requires a negative that "has no '
        'association with query"',
    )

    batch_size: int = Field(24, ge=2, description="number of pairs per batch")
    dim: int = Field(3072, ge=3, description="d: dimensions of the representations that are separated into parts")
    word_dim: int = Field(300, ge=1, description="K: dimensions of a word vector")
    word_embedding: str = Field(
        "seeded",
        description="file of word2vec vectors that initialise the word embedding (section 3.1), or seeded for "
        "random vectors",
    )
    words_covered: float = Field(
        0.3, ge=0, le=1, description="least share of the words that must have a vector in that file"
    )
    layers: int = Field(4, ge=1, description="number of stacked layers of the GRU and of the decoder")
    part_dim: int | None = Field(None, ge=1, description="dimensions of each part; d / 3 unless given")
    hidden_layers: int = Field(
        0,
        ge=0,
        description="hidden layers of the MLPs that separate the parts (eq. 3); 0: a single fully connected layer",
    )
    norm: Literal["parts", "whole"] = Field(
        "parts",
        description="what is scaled to unit length: each of the three parts, as in the text of section 3.2, or the "
        "whole output of the MLP, as eq. 3 prints",
    )
    modal: float = Field(1.0, ge=0, description="weight of the modal loss (eq. 7)")
    specific: float = Field(1.0, ge=0, description="weight of the specific loss (eq. 10)")
    correlation: Literal["signed", "absolute"] = Field(
        "signed",
        description="correlation of semantic and specific parts: as eq. 10 prints it, with its minimum where they are "
        "opposite, or its absolute value, with its minimum where they are orthogonal",
    )
    image: float = Field(1.0, ge=0, description="weight of the image reconstruction loss (eq. 13)")
    caption: float = Field(1.0, ge=0, description="weight of the caption reconstruction loss (eq. 14)")
    per_word: bool = Field(
        False,
        description="whether the caption loss is a mean over words; else it is the printed sum over the words of a "
        "caption",
    )
    cell: Literal["gru", "rnn"] = Field(
        "gru", description="recurrent cell of the decoder, which the paper calls an RNN"
    )
    image_size: int = Field(64, description="side of generated images in pixels, a power of two")
    channels: int = Field(
        64, ge=1, description="channels of the generator's last and of the discriminators' first feature maps"
    )
    gan: Literal["text", "printed"] = Field(
        "text",
        description="losses of the reconstruction: text: as the text describes the aims; printed: eq. 11 to 13 as "
        "printed, which are unbounded and reward the generator for hiding from D2 which image it reconstructs",
    )
    same: Literal["made", "real"] = Field(
        "made", description="pairs of the same content that D2 reads: [x'; x] as in eq. 12, or [x; x] as in eq. 4"
    )
    gan_lr: float | None = Field(
        None, gt=0, description="Adam's learning rate for G, D1 and D2; by default that of the stage"
    )
    beta: float = Field(0.5, ge=0, lt=1, description="Adam's first β for G, D1 and D2 (DCGAN's)")

    @field_validator("image_size")
    @classmethod
    def _doubled(cls, value: int) -> int:
        return dcgan.check_size(value)

    @property
    def fallbacks(self) -> list[str]:
        words = ["word vectors: seeded, not word2vec"] if self.word_embedding == "seeded" else []
        return [*words, *super().fallbacks]

    @property
    def part(self) -> int:
        """Number of dimensions of each part."""
        return self.part_dim or max(1, self.dim // 3)


class Parts(NamedTuple):
    """The three parts of representations (eq. 3): (B, part) each, of unit length each or together (`norm`)."""

    modal: Tensor
    semantic: Tensor
    specific: Tensor

    @property
    def all(self) -> Tensor:
        """(B, 3 part): the concatenated parts, from which items are reconstructed (eq. 4 and 5)."""
        return torch.cat(self, 1)


def modal_loss(image: Tensor, text: Tensor) -> Tensor:
    """Eq. 7: it draws (B, p) modal parts to their modality's mean of the batch and the two means apart.

    The last term is printed with the distance of an item from its own mean; it is computed as the text describes it.
    """
    means = image.mean(0), text.mean(0)
    near = (image - means[0]).norm(dim=1) + (text - means[1]).norm(dim=1)
    return near.mean() + torch.exp(-(means[0] - means[1]).norm())


def specific_loss(image: Parts, text: Parts, correlation: str = "signed") -> Tensor:
    """Eq. 10: exp(⟨specific, semantic⟩), averaged over images and over captions, and summed."""
    total = image.semantic.new_zeros(())
    for parts in (image, text):
        product = (parts.specific * parts.semantic).sum(1)
        total = total + torch.exp(product.abs() if correlation == "absolute" else product).mean()
    return total


class Separation(nn.Module):
    """An MLP whose output is split into three parts (eq. 3)."""

    def __init__(self, dim: int, part: int, hidden_layers: int, norm: str):
        super().__init__()
        self.norm = norm
        layers = [layer for _ in range(hidden_layers) for layer in (nn.Linear(dim, dim), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(dim, 3 * part))
        for layer in self.layers[::2]:
            # Biases begin at 0: others make all items nearly equal, a state that hardest negatives do not leave.
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor) -> Parts:
        """(B, d) -> three of (B, part)."""
        out = self.layers(vectors)
        if self.norm == "whole":
            return Parts(*F.normalize(out, dim=1).chunk(3, 1))
        return Parts(*(F.normalize(part, dim=1) for part in out.chunk(3, 1)))


class Model(finetuning.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "tokens"}
    second_form: ClassVar[dict[str, Form]] = {"image": "pixels"}
    on_request: ClassVar[tuple[str, ...]] = ("generate",)

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        self.image_network, in_dim = finetuning.network_of(s, context)
        self.encoders = nn.ModuleDict(
            {
                "image": ImageEncoder(in_dim, s.dim, unit=False),
                "text": CaptionEncoder(context.vocabulary_size, s.word_dim, s.dim, s.layers, unit=False),
            }
        )
        if context.word_vectors is not None:
            self.words.weight.data.copy_(context.word_vectors)
        self.separations = nn.ModuleDict({m: Separation(s.dim, s.part, s.hidden_layers, s.norm) for m in self.encoders})
        if s.image:
            self.generator = dcgan.Generator(3 * s.part, s.image_size, s.channels)
            self.discriminators = nn.ModuleDict(
                {
                    "real": dcgan.Discriminator(s.image_size, s.channels),
                    "content": dcgan.Discriminator(s.image_size, s.channels, images=2),
                }
            )
        if s.caption:
            self.decoder = CaptionDecoder(context.vocabulary_size, s.word_dim, 3 * s.part, s.layers, s.cell)
            self.register_buffer("caption_modal", torch.zeros(s.part))
            self.register_buffer("caption_specific", torch.zeros(s.part))
        self._generated: tuple[base.Batch, Tensor] | None = None

    @property
    def words(self) -> nn.Embedding:
        """W_e, the word embedding that encoder and decoder share."""
        return self.encoders["text"].words

    def parts(self, modality: str, batch: base.Batch) -> Parts:
        """The parts of the batch's items of a modality."""
        inputs = batch.inputs[modality]
        if modality == "image":
            inputs = finetuning.features(self.image_network, inputs)
        return self.separations[modality](self.encoders[modality](inputs))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, part) semantic parts, unit vectors with `norm: parts`; `partner` makes no difference."""
        return self.parts(modality, batch).semantic

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """The model's optimiser, in which the generator is a group, then one for D1 and D2 together."""
        s = self.settings
        adversarial = {"lr": s.gan_lr or stage.lr, "betas": (s.beta, 0.999)}
        children = dict(self.named_children())
        discriminators, generator = children.pop("discriminators", None), children.pop("generator", None)
        groups: list[dict] = [{"params": [p for part in children.values() for p in part.parameters()]}]
        if generator is not None:
            groups.append({"params": [*generator.parameters()], "name": "generator", **adversarial})
        optimisers = {"model": torch.optim.Adam(groups, lr=stage.lr, weight_decay=s.weight_decay)}
        if discriminators is not None:
            optimisers["discriminators"] = torch.optim.Adam(discriminators.parameters(), **adversarial)
        return optimisers

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Eq. 6 for the model, then eq. 11 and 12 for the discriminators, on the images that were just generated."""
        if turn == "discriminators":
            return self._discriminators_loss(batch)
        s = self.settings
        image, text = self.parts("image", batch), self.parts("text", batch)
        scores = self.score(image.semantic, text.semantic)
        terms = {"semantic": batch_hinges(scores, s, batch.groups, progress)}
        if s.modal:
            terms["modal"] = s.modal * modal_loss(image.modal, text.modal)
        if s.specific:
            terms["specific"] = s.specific * specific_loss(image, text, s.correlation)
        if s.image:
            terms["image"] = s.image * self._generator_loss(batch, image)
        if s.caption:
            caption_loss = self.decoder.loss(self.words, batch.inputs["text"], text.all, s.per_word)
            terms["caption"] = s.caption * caption_loss
            for mean, part in ((self.caption_modal, text.modal), (self.caption_specific, text.specific)):
                mean.lerp_(part.detach().mean(0).to(mean.dtype), MOMENTUM)
        return {"loss": torch.stack([*terms.values()]).sum(), **terms}

    def _generator_loss(self, batch: base.Batch, image: Parts) -> Tensor:
        self.discriminators.requires_grad_(False)  # they are trained in a turn of their own
        generated = self.generator(image.all)
        self._generated = batch, generated.detach()
        verdicts = self._verdicts(batch, generated, self._images(batch))
        loss = dcgan.printed_generator_loss if self.settings.gan == "printed" else dcgan.generator_loss
        return loss(**verdicts)

    def _discriminators_loss(self, batch: base.Batch) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(True)
        if self._generated is None or self._generated[0] is not batch:
            with torch.no_grad():
                self._generated = batch, self.generator(self.parts("image", batch).all)
        images = self._images(batch)
        verdicts = self._verdicts(batch, self._generated[1], images)
        verdicts["real"] = self.discriminators["real"](images)
        if self.settings.same == "real":
            verdicts["matching"] = self.discriminators["content"](images, images)
        printed = self.settings.gan == "printed"
        losses = (dcgan.printed_discriminator_losses if printed else dcgan.discriminator_losses)(**verdicts)
        return {"loss": losses["real"] + losses["content"], "real": losses["real"], "content": losses["content"]}

    def _images(self, batch: base.Batch) -> Tensor:
        dtype = next(self.generator.parameters()).dtype
        return dcgan.as_images(batch.second_form["image"], self.settings.image_size, dtype)

    def _verdicts(self, batch: base.Batch, generated: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Logits of D1 for generated images, and of D2 for images with their own and with another's reconstruction."""
        places, valid = dcgan.others(batch.groups)
        # One call for both, so that batch normalisation sees matching and other pairs together.
        pairs = torch.cat([generated, generated[places]]), torch.cat([images, images])
        matching, other = self.discriminators["content"](*pairs).chunk(2)
        real = self.discriminators["real"](generated)
        return {"generated": real, "matching": matching, "other": other, "valid": valid}

    @torch.no_grad()
    def generate(self, batch: base.Batch, beam: int) -> Tensor:
        """(B, L) word ids of a caption per image, by the decoder that reconstructs captions (`capabilities.Generates`).

        The paper generates none of images, so that this is ours: an image's semantic part, which it shares with its
        captions, stands in place of theirs, between the modal and the specific part that captions have on average.

        Raises
        ------
        UserError : the run has no decoder.
        """
        if not self.settings.caption:
            raise UserError("mfsr with `caption: 0` has no decoder of captions; choose a run with that loss")
        semantic = self.parts("image", batch).semantic
        modal, specific = (mean.expand(len(semantic), -1) for mean in (self.caption_modal, self.caption_specific))
        vectors = torch.cat([modal, semantic, specific], 1)
        return self.decoder.generate(self.words, vectors, beam, LONGEST)

    @torch.no_grad()
    def reconstruct(self, batch: base.Batch) -> dict[str, Tensor]:
        """Parts of pairs, their images and captions, and the reconstructions of both (see `Reconstructs`)."""
        image, text = self.parts("image", batch), self.parts("text", batch)
        arrays = {
            f"{m}_{name}": value for m, p in (("image", image), ("text", text)) for name, value in p._asdict().items()
        }
        tokens = batch.inputs["text"]
        if self.settings.image:
            arrays["pictures"] = dcgan.as_pixels(self._images(batch))
            arrays["pictures_made"] = dcgan.as_pixels(self.generator(image.all))
        if self.settings.caption:
            arrays["words"] = tokens.ids
            arrays["words_made"] = self.decoder.say(self.words, text.all, START, END, tokens.ids.shape[1])
        return arrays
