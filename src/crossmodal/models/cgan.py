"""A generator of captions against an evaluator: a conditional generative adversarial network (Dai et al., 2017).

The generator is an LSTM whose first input is made of the image and noise; the evaluator gives a caption the score
σ(⟨f(I), h(S)⟩). First the generator is trained by likelihood, then the evaluator on captions of people, generated ones
and ones of other images, then both: the generator by policy gradient, whose reward at each word is the mean score of
captions that begin as far as this word and are completed at random.

The authors' program takes fifty steps of the evaluator, with batches of 64, for each step of the generator with four
images; here each batch has one step of either. Captions of other images are those of the batch. What is generated for
training may have the unknown word as captions of people do, which it would otherwise give away. Both networks read
features behind batch normalisation, since the noise would drown features of unit length. At test the noise is 0, the
mean of its distribution, so that a caption depends on its image alone; `sample` with `noise` draws others.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.language.tokens import PAD, START
from crossmodal.models import base
from crossmodal.models.base import Batch, Tokens
from crossmodal.models.parts import captioner, decoding, objectives
from crossmodal.models.parts.decoding import State
from crossmodal.models.parts.encoders import packed


class Settings(captioner.Settings):
    """As the authors' program, except for the ratio and the batches of steps; its learning rate is constant."""

    noise: int = Field(100, ge=1, description="numbers of noise, uniform between -1 and 1")
    rollouts: int = Field(64, ge=1, description="random completions of a caption's beginning, for the reward of a word")
    generator_epochs: int = Field(2, ge=1, description="epochs in which the generator is trained by likelihood")
    evaluator_epochs: int = Field(2, ge=1, description="epochs in which only the evaluator is trained then")
    evaluator_lr: float = Field(4e-4, gt=0, description="learning rate of the evaluator")
    adversarial_lr: float = Field(
        4e-4,
        gt=0,
        description="learning rate of the generator against the evaluator; the program has one for all stages",
    )
    batch_size: int = Field(64, ge=2, description="number of pairs per batch")
    clip: float = Field(5.0, ge=0, description="largest norm of each network's gradient; 0 disables clipping")
    clip_by: Literal["norm", "value"] = Field("norm", description="what `clip` bounds, as in other systems")
    first_moment: float = Field(0.8, ge=0, lt=1, description="Adam's β₁")
    lr_factor: float = Field(1.0, gt=0, le=1)
    scheduled_every: Literal[0] = Field(0, description="its generator always reads the true words")
    objective: Literal["likelihood"] = Field("likelihood", description="that of its first stage; it has its own ones")


class Evaluator(nn.Module):
    """σ(⟨f(I), h(S)⟩) of images and captions: how probable it is that a person wrote the caption of the image."""

    def __init__(self, width: int, vocabulary_size: int, word_dim: int, dim: int):
        super().__init__()
        self.even = nn.BatchNorm1d(width)
        self.image = nn.Linear(width, dim)
        self.words = nn.Embedding(vocabulary_size, word_dim)
        self.network = nn.LSTM(word_dim, dim, batch_first=True)

    def forward(self, images: Tensor, tokens: Tokens) -> Tensor:
        """(N,) logits of the scores of captions of N or fewer images; those of an image are consecutive.

        Parameters
        ----------
        tokens : captions without start marks.
        """
        _, (h, _) = self.network(packed(self.words(tokens.ids), tokens.lengths))
        image = torch.relu(self.image(self.even(images)))
        return (image[:, None] * h[0].unflatten(0, (len(image), -1))).sum(2).flatten()


class Model(captioner.Captioner):
    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        width, size = context.shapes["image"][-1], context.vocabulary_size
        self.even = nn.BatchNorm1d(width)
        self.image = nn.Linear(width + settings.noise, settings.word_dim)
        self.words = nn.Embedding(size, settings.word_dim)
        self.network = nn.LSTMCell(settings.word_dim, settings.dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.word = nn.Linear(settings.dim, size)
        self.evaluator = Evaluator(width, size, settings.word_dim, settings.dim)
        self._is_trained = True  # whether the generator is, in the present stage

    # -- generator ----------------------------------------------------------------------------------------------------

    def first_state(self, batch: Batch) -> dict[str, Tensor]:
        """The states after the image, with the noise of the batch's input `noise`, or with none."""
        image = self.even(batch.inputs["image"])
        noise = batch.inputs.get("noise", image.new_zeros(len(image), self.settings.noise))
        h, c = self.network(torch.relu(self.image(torch.cat([image, noise], 1))))
        return {"h": h, "c": c}

    def advance(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        h, c = self.network(last, (state["h"], state["c"]))
        return h, {"h": h, "c": c}

    def noisy(self, batch: Batch) -> Batch:
        """The images of a batch with noise."""
        image = batch.inputs["image"]
        noise = 2 * torch.rand(len(image), self.settings.noise, device=image.device, dtype=image.dtype) - 1
        return Batch({"image": image, "noise": noise})

    @torch.no_grad()
    def judge(self, batch: Batch, ids: Tensor) -> Tensor:
        """The evaluator's scores of captions of the images (`capabilities.Judges`)."""
        return torch.sigmoid(self.evaluator(batch.inputs["image"], _tokens(ids)))

    # -- training -----------------------------------------------------------------------------------------------------

    def stages(self) -> list[base.Stage]:
        """The generator by itself, the evaluator by itself, and both."""
        s = self.settings
        first = base.Stage("generator", s.generator_epochs, s.lr, s.lr_drop, s.lr_factor)
        second = base.Stage("evaluator", s.evaluator_epochs, s.evaluator_lr, s.lr_drop, s.lr_factor, selects=False)
        return [first, second, base.Stage("adversarial", s.epochs, s.adversarial_lr, s.lr_drop, s.lr_factor)]

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        judging = [*self.evaluator.parameters()]
        writing = [p for name, p in self.named_parameters() if not name.startswith("evaluator.")]
        if stage.name == "generator":
            return {"likelihood": self.adam(writing, stage.lr)}
        evaluator = self.adam(judging, self.settings.evaluator_lr)
        if stage.name == "evaluator":
            return {"evaluator": evaluator}
        return {"generator": self.adam(writing, stage.lr), "evaluator": evaluator}

    def begin(self, stage: base.Stage) -> None:
        """Note whether the generator is trained in the stage."""
        self._is_trained = stage.name != "evaluator"

    def loss(self, batch: Batch, progress: float, turn: str) -> dict[str, Tensor]:
        if turn == "likelihood":
            return self.likelihood(batch)
        return self.judged(batch) if turn == "evaluator" else self.rewarded(batch)

    def judged(self, batch: Batch) -> dict[str, Tensor]:
        """The evaluator's loss: -log of its score of true captions, -log(1 - score) of those of others."""
        image, tokens = batch.inputs["image"], batch.inputs["text"]
        true = Tokens(tokens.ids[:, 1:], tokens.lengths - 1)
        rows = objectives.mismatched(image, batch.groups, 1, "random")[:, 0]
        generated = self._generated(self.noisy(batch))
        other = batch.groups[rows] != batch.groups  # all rows may be of one image
        person, machine, wrong = (
            self.evaluator(image, captions)
            for captions in (true, generated, Tokens(true.ids[rows], true.lengths[rows]))
        )
        losses = -F.logsigmoid(person) - F.logsigmoid(-machine) - F.logsigmoid(-wrong) * other
        scores = {"score_person": person, "score_machine": machine, "score_wrong": wrong}
        return {"loss": losses.mean(), **{name: torch.sigmoid(x).detach().mean() for name, x in scores.items()}}

    @torch.no_grad()
    def _generated(self, batch: Batch) -> Tokens:
        """A caption of each image, drawn without dropout where the generator is not trained."""
        was_training = self.training
        self.train(was_training and self._is_trained)
        ids = self.sample(batch, unknown=True).ids
        self.train(was_training)
        return _tokens(ids)

    def rewarded(self, batch: Batch) -> dict[str, Tensor]:
        """The generator's loss by policy gradient: -Σ_t reward_t log p(w_t), the mean over captions."""
        noisy = self.noisy(batch)
        sample = self.sample(noisy, unknown=True)
        rewards = self.rewards(noisy, sample.ids)
        reached = rewards.gather(1, sample.counts[:, None] - 1).mean()
        return {"loss": -(rewards * sample.logs).sum() / len(rewards), "reward": reached}

    @torch.no_grad()
    def rewards(self, batch: Batch, ids: Tensor) -> Tensor:
        """(B, L) expected scores at each word of the captions `ids` (B, L), 0 for padding.

        The score of a whole caption is its last word's; those before are means over `rollouts` random completions.
        """
        was_training = self.training
        self.eval()
        image, many, most = batch.inputs["image"], self.settings.rollouts, self.settings.longest
        state, last = self.first_state(batch), ids.new_full((len(ids),), START)
        rewards = image.new_zeros(ids.shape)
        ended = (ids != PAD).sum(1)
        for place in range(ids.shape[1]):
            whole = place + 1 >= ended
            _, state = self.advance(self.read(last), state)
            last = ids[:, place]
            going = (~whole).nonzero()[:, 0]
            if len(going):
                rows = going.repeat_interleave(many)
                rest = _completed(self, decoding.chosen(state, rows), last[rows], most - place - 1)
                captions = torch.cat([ids[rows, : place + 1], rest], 1)
                scores = torch.sigmoid(self.evaluator(image[going], _tokens(captions)))
                rewards[going, place] = scores.view(-1, many).mean(1)
        final = torch.sigmoid(self.evaluator(image, _tokens(ids)))
        self.train(was_training)
        return rewards.scatter(1, ended[:, None] - 1, final[:, None])


def _completed(model: Model, state: State, last: Tensor, most: int) -> Tensor:
    """(N, L) words that are drawn at random behind captions that end with `last` (N,), of at most `most` words."""
    return decoding.sample(model.next_word, state, len(last), most, last.device, first=last, unknown=True).ids


def _tokens(ids: Tensor) -> Tokens:
    """Captions (N, L) without start marks, padded with 0."""
    return Tokens(ids, (ids != PAD).sum(1))
