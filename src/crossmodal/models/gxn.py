"""GXN: some features are matched, others generate the other modality (Gu et al., 2018; a row of mFSR's tables).

An image and a sentence each have high-level and low-level features ("look, imagine and match"). Both levels are
matched by the order of their coordinates. A decoder generates the sentence from the low-level features of the image,
and a conditional DCGAN the image from those of the sentence. The decoder and the DCGAN are trained first, each by
itself, then everything together.

The authors' public repository is a fork of VSE++ without the generative parts. From mFSR: which level does what. From
memory: the order violations with their margin, the decoder's likelihood and then self-critical training with CIDEr,
the conditional DCGAN with mismatched pairs (Reed et al., 2016), and the three steps. Unknown, and this project's
choice: all weights and sizes, the epochs of the steps, both levels as linear maps of one vector, and their starting the
decoder and the generator as they are. The image network stays as it is.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.core.errors import UserError
from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts import dcgan, decoding, objectives
from crossmodal.models.parts.decoder import CaptionDecoder
from crossmodal.models.parts.encoders import CaptionEncoder, ImageEncoder
from crossmodal.models.parts.losses import Hinges, Negatives, batch_hinges
from crossmodal.models.parts.optimisers import others
from crossmodal.models.parts.order import violations
from crossmodal.models.parts.reward import Reward

LONGEST = 20
"""Largest number of words of a caption that is generated of an image, as in captioners."""


class Settings(Hinges):
    """The schedule is that of VSE++, and the margin is from memory; all weights and sizes are this project's choice."""

    dim: int = Field(1024, ge=1, description="dimensions of the features of each level")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    margin: float = Field(0.05, ge=0, description="margin by which a pair's score must exceed those of its negatives")
    negatives: Negatives = Field("other_groups", description="which pairs of the batch are negatives")
    low: float = Field(1.0, ge=0, description="weight of the low-level features in the score and in the hinges")
    caption: float = Field(1.0, ge=0, description="weight of the loss of the generated captions; 0 leaves it out")
    image: float = Field(1.0, ge=0, description="weight of the generator's loss; 0 leaves generated images out")
    objective: Literal["likelihood", "self-critical"] = Field(
        "self-critical",
        description="loss of the captions in the last step, after the likelihood of the true words: this again, or "
        "self-critical training with CIDEr-D (Rennie et al., 2017)",
    )
    caption_epochs: int = Field(10, ge=0, description="epochs of the first step, which trains the decoder")
    image_epochs: int = Field(10, ge=0, description="epochs of the second step, which trains generator and critic")
    image_size: int = Field(64, description="side of generated images in pixels, a power of two")
    channels: int = Field(
        64, ge=1, description="channels of the generator's last and of the critic's first feature maps"
    )
    noise: int = Field(100, ge=0, description="random numbers that the generator reads beside a sentence")
    condition_dim: int = Field(128, ge=1, description="dimensions of a sentence in the critic")
    gan_lr: float = Field(2e-4, gt=0, description="Adam's learning rate of generator and critic")
    beta: float = Field(0.5, ge=0, lt=1, description="Adam's first β of generator and critic (DCGAN's)")

    @field_validator("image_size")
    @classmethod
    def _doubled(cls, value: int) -> int:
        return dcgan.check_size(value)


class Model(base.Model):
    second_form: ClassVar[dict[str, Form]] = {"image": "pixels"}
    on_request: ClassVar[tuple[str, ...]] = ("generate",)

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s, vocabulary_size = settings, context.vocabulary_size
        self.text = CaptionEncoder(vocabulary_size, s.word_dim, s.dim, unit=False)
        widths = {"image": context.shapes["image"][0], "text": s.dim}
        self.high, self.low = (
            nn.ModuleDict({m: ImageEncoder(width, s.dim, unit=False) for m, width in widths.items()}) for _ in range(2)
        )
        if s.caption:
            self.decoder = CaptionDecoder(vocabulary_size, s.word_dim, s.dim)
        if s.image:
            self.generator = dcgan.Generator(s.dim + s.noise, s.image_size, s.channels)
            self.critic = dcgan.ConditionalDiscriminator(s.image_size, s.channels, s.dim, s.condition_dim)
        self.stage = "train"  # as a trained run is opened; `begin` sets that of a training
        self._generated: tuple[base.Batch, Tensor, Tensor] | None = None
        self._reward: Reward | None = None

    def stages(self) -> list[base.Stage]:
        s = self.settings
        first = (("captions", s.caption_epochs * bool(s.caption)), ("images", s.image_epochs * bool(s.image)))
        before = [base.Stage(name, epochs, s.lr, epochs, selects=False) for name, epochs in first if epochs]
        return [*before, base.Stage("train", s.epochs, s.lr, s.lr_drop, s.lr_factor)]

    def begin(self, stage: base.Stage) -> None:
        self.stage = stage.name

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """The model's optimiser, in which the generator is a group, then the critic's where images are generated."""
        s = self.settings
        adversarial = {"lr": s.gan_lr, "betas": (s.beta, 0.999)}
        generator = {"params": [*self.generator.parameters()], "name": "generator", **adversarial} if s.image else {}
        critic = {"params": [*self.critic.parameters()], **adversarial} if s.image else {}
        taken = [group for group in (generator, critic) if group]
        groups = [{"params": others(self.parameters(), *taken)}, *([generator] if s.image else [])]
        optimisers = {"model": torch.optim.Adam(groups, lr=stage.lr, weight_decay=s.weight_decay)}
        if s.image and stage.name != "captions":
            optimisers["critic"] = torch.optim.Adam([critic])
        return optimisers

    def vectors(self, modality: str, batch: base.Batch) -> Tensor:
        """(B, D) vectors of which both levels are maps: the image's feature, or the sentence's last state."""
        value = batch.inputs[modality]
        return self.text(value) if modality == "text" else value

    def levels(self, modality: str, batch: base.Batch) -> tuple[Tensor, Tensor]:
        """The (B, dim) high-level and low-level features of a modality's items."""
        vectors = self.vectors(modality, batch)
        return self.high[modality](vectors), self.low[modality](vectors)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, 2 · dim): both levels, each of unit length and made positive, the low one times the root of its weight.

        The violations of the concatenated levels are thereby the weighted sum of both. `partner` makes no difference.
        """
        high, low = (ordered(x) for x in self.levels(modality, batch))
        return torch.cat([high, self.settings.low**0.5 * low], 1)

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) scores of images with captions: minus the order violations of both levels, added."""
        return -violations(queries, gallery)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """The loss of the stage, or the critic's on the images that were just generated."""
        s = self.settings
        if turn == "critic":
            return self._critic_loss(batch)
        if self.stage == "captions":
            return {"loss": self._likelihood(batch, self.low["image"](batch.inputs["image"]))}
        if self.stage == "images":
            return {"loss": self._generator_loss(batch, self.low["text"](self.vectors("text", batch)))}
        image, text = self.levels("image", batch), self.levels("text", batch)
        high, low = (
            batch_hinges(-violations(ordered(i), ordered(t)), s, batch.groups, progress)
            for i, t in zip(image, text, strict=True)
        )
        terms = {"high": high, "low": s.low * low}
        if s.caption:
            of_captions = self._likelihood if s.objective == "likelihood" else self._self_critical
            terms["caption"] = s.caption * of_captions(batch, image[1])
        if s.image:
            terms["image"] = s.image * self._generator_loss(batch, text[1])
        return {"loss": torch.stack([*terms.values()]).sum(), **terms}

    # -- captions of images -------------------------------------------------------------------------------------------

    def _likelihood(self, batch: base.Batch, images: Tensor) -> Tensor:
        return self.decoder.loss(self.text.words, batch.inputs["text"], images, per_word=True)

    def _self_critical(self, batch: base.Batch, images: Tensor) -> Tensor:
        """Self-critical training of a caption per pair, against that of the likeliest words."""
        if self._reward is None:
            self._reward = Reward.of(self.context)
        words, groups = self.text.words, batch.groups.numpy(force=True)
        likeliest = decoding.with_end(self.decoder.generate(words, images.detach(), 1, LONGEST), LONGEST)
        sample = self.decoder.sample(words, images, LONGEST)
        advantage = torch.from_numpy(self._reward(sample.ids, groups) - self._reward(likeliest, groups))
        return objectives.self_critical(sample, advantage.to(sample.logs))

    @torch.no_grad()
    def generate(self, batch: base.Batch, beam: int) -> Tensor:
        """(B, L) word ids of a caption per image, by the decoder (`capabilities.Generates`).

        Raises
        ------
        UserError : the run has no decoder.
        """
        if not self.settings.caption:
            raise UserError("gxn with `caption: 0` has no decoder of captions; choose a run with that loss")
        return self.decoder.generate(self.text.words, self.low["image"](batch.inputs["image"]), beam, LONGEST)

    # -- images of sentences ------------------------------------------------------------------------------------------

    def _generator_loss(self, batch: base.Batch, sentences: Tensor) -> Tensor:
        """-log D(x', t): the critic should take generated images for real ones of their sentences."""
        self.critic.requires_grad_(False)  # it is trained in a turn of its own
        return F.softplus(-self.critic(self._generate(batch, sentences), sentences)).mean()

    def _generate(self, batch: base.Batch, sentences: Tensor) -> Tensor:
        """(B, 3, S, S) images of the sentences, which are kept for the critic's turn."""
        noise = torch.randn(len(sentences), self.settings.noise, dtype=sentences.dtype, device=sentences.device)
        generated = self.generator(torch.cat([sentences, noise], 1))
        self._generated = batch, generated.detach(), sentences.detach()
        return generated

    def _critic_loss(self, batch: base.Batch) -> dict[str, Tensor]:
        """-log D(x, t) - ½ log(1 - D(x', t)) - ½ log(1 - D(x, t')), with the sentence t' of another image."""
        self.critic.requires_grad_(True)
        if self._generated is None or self._generated[0] is not batch:
            with torch.no_grad():
                self._generate(batch, self.low["text"](self.vectors("text", batch)))
        _, generated, sentences = self._generated
        images = dcgan.as_images(batch.second_form["image"], self.settings.image_size, generated.dtype)
        places, valid = dcgan.others(batch.groups)
        real = F.softplus(-self.critic(images, sentences)).mean()
        made = F.softplus(self.critic(generated, sentences)).mean()
        mismatched = dcgan.mean_where(F.softplus(self.critic(images, sentences[places])), valid)
        return {"loss": real + (made + mismatched) / 2, "real": real, "made": made, "mismatched": mismatched}


def ordered(features: Tensor) -> Tensor:
    """(B, d) features of unit length without negative coordinates, as order embeddings compare them."""
    return F.normalize(features, dim=1).abs()
