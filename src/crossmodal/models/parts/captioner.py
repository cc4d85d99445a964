"""What captioners share: training on true words, self-critical and contrastive training, and captions by a beam.

A captioner defines `first_state` and `advance`, and the layers `words`, `dropout` and `word`; it may override `read`
(what a word is read as), `logits_of` (a deep output) or `spoken` (where all words can be read at once).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.core.errors import UserError
from crossmodal.language.tokens import END, START
from crossmodal.models import base
from crossmodal.models.base import Batch, Schedule, Tokens
from crossmodal.models.parts import decoding, objectives
from crossmodal.models.parts.decoding import LARGEST_BEAM, State
from crossmodal.models.parts.reward import Reward

Objective = Literal["likelihood", "self-critical", "contrastive"]


class Settings(Schedule):
    """Settings of captioners; those of the training are a mixture of what public programs have.

    The beam of the programs has 5 (ruotianluo, sgrvinod) or 3 captions (those of adaptive attention and of 2-D states);
    here it is 5 for all, so that captioners differ by what they have learned.

    The other choices that are the same for all: batches are of pairs (50 in ruotianluo's program, ten images with five
    captions each; 100 in that of up-down attention); words that occur four times are known (more than five times in the
    programs) and captions are read to their end (cut at 16 to 50 words there); ruotianluo's configurations of NIC and
    of up-down attention have a rate of 5e-4, where its options have 4e-4 as here, and scheduled sampling
    (`scheduled_every: 5`).
    """

    word_dim: int = Field(512, ge=1, description="dimensions of a word vector")
    dim: int = Field(512, ge=1, description="units of the recurrent network")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of the states that are dropped before a word is chosen")
    beam: int = Field(
        5, ge=1, le=LARGEST_BEAM, description="unfinished captions per image; 1 takes the likeliest word each time"
    )
    length_power: float = Field(
        0.0,
        ge=0,
        le=1,
        description="power of the number of words by which a beam divides log-probabilities: 0 compares whole "
        "captions, as the authors' programs do; 1 means per word, by which captions become longer",
    )
    longest: int = Field(20, ge=1, le=500, description="largest number of words of a caption that is generated")
    lr: float = Field(4e-4, gt=0, description="Adam's learning rate before the first step")
    first_moment: float = Field(0.9, ge=0, lt=1, description="Adam's β₁")
    lr_drop: int = Field(3, ge=1, description="epochs after which the learning rate is multiplied by lr_factor")
    lr_factor: float = Field(0.8, gt=0, le=1)
    clip: float = Field(0.1, ge=0, description="largest size of each element of the gradient; 0 leaves it as it is")
    clip_by: Literal["norm", "value"] = Field("value", description="what `clip` bounds, as in other systems")
    objective: Objective = Field(
        "likelihood",
        description="likelihood of the true words; self-critical (Rennie et al., 2017) or contrastive (Dai and Lin, "
        "2017) training, both of which continue a run that the experiment names as `after`",
    )
    scheduled_every: int = Field(
        0,
        ge=0,
        description="epochs after which 5 % more of the words that are read in training by likelihood are drawn from "
        "what the network itself would say (scheduled sampling, Bengio et al., 2015); 0: always the true words",
    )
    scheduled_most: float = Field(0.25, ge=0, le=1, description="largest share of words that are drawn so")
    samples: int = Field(
        5, ge=1, description="captions that are drawn for the image of each pair of a batch for self-critical training"
    )
    baseline: Literal["greedy", "samples"] = Field(
        "greedy",
        description="what the rewards of drawn captions are compared with: the reward of the caption that greedy "
        "decoding generates (Rennie et al., 2017), or the mean reward of the other captions drawn for the image, which "
        "varies less where drawn captions are far below (Luo, 2020)",
    )
    mismatched: int = Field(5, ge=1, description="captions of other images per image for contrastive training")
    odds: float = Field(
        1.0,
        gt=0,
        description="ν of contrastive training: how many mismatched captions stand against a true one, which is the "
        "weight of the mean over the mismatched ones; 1 as in the authors' program",
    )
    mismatches: Literal["similar", "random"] = Field(
        "similar", description="of which other images of the batch these captions are"
    )


class Spoken(NamedTuple):
    """The outputs of a captioner at all T words of N captions, given the true words before each of them.

    `out` (T, d): outputs from which the words are chosen. `caption`, `place` and `word` (T,): the caption of each word,
    its place in it from 0 on, and its id. `attention` (T, R): the weights of the image's regions, or None.
    """

    out: Tensor
    caption: Tensor
    place: Tensor
    word: Tensor
    attention: Tensor | None


class Captioner(base.Model):
    """A system that generates captions; it has no encodings, so that it is not asked to retrieve."""

    words: nn.Module
    dropout: nn.Module
    word: nn.Module

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self._continues = False
        self._reference: tuple[Captioner, ...] = ()  # in a tuple, so that its weights are not those of this model
        self._reward: Reward | None = None

    # -- what a captioner defines -------------------------------------------------------------------------------------

    def first_state(self, batch: Batch) -> dict[str, Tensor | Mapping[str, Tensor]]:
        """The state before the first word, with one row per image (`decoding.State`)."""
        raise NotImplementedError

    def advance(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor | Mapping[str, Tensor]]]:
        """Read the last words (N, ...), and return the (N, d) outputs for the next ones and the next state."""
        raise NotImplementedError

    def read(self, ids: Tensor) -> Tensor:
        """(..., d) what words are read as: vectors, unless overridden."""
        return self.words(ids)

    def logits_of(self, out: Tensor) -> Tensor:
        """(T, V) logits of the words that follow from (T, d) outputs."""
        return self.word(self.dropout(out))

    # -- training -----------------------------------------------------------------------------------------------------

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """Adam of all parameters."""
        return {"model": self.adam(self.parameters(), stage.lr)}

    def adam(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Adam with the first moment and the weight decay of the settings."""
        betas = (self.settings.first_moment, 0.999)
        return torch.optim.Adam(parameters, lr=lr, betas=betas, weight_decay=self.settings.weight_decay)

    def next_word(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor | Mapping[str, Tensor]]]:
        """The (N, V) logits of the words that follow the (N,) last ones, and the next state."""
        out, state = self.advance(self.read(last), state)
        return self.logits_of(out), state

    def spoken(self, batch: Batch, tokens: Tokens, drawn: float = 0.0) -> Spoken:
        """The outputs at all words of captions from the second id on, given the true words before each of them.

        Parameters
        ----------
        tokens : captions between their start and end marks; of several captions per image, those of one image follow
            each other.
        drawn : the probability that a word is read which the network would say in the place of the true one.
        """
        state = self.first_state(batch)
        lengths = (tokens.lengths - 1).tolist()
        count = len(lengths)
        order = torch.tensor(sorted(range(count), key=lambda i: -lengths[i]), device=tokens.ids.device)
        sizes = [sum(length > place for length in lengths) for place in range(max(lengths))]
        per_image = _rows(state) != count  # then the captions of an image must stay together
        if per_image:
            state = decoding.repeated(state, _rows(state), count // _rows(state))
            rows = [torch.arange(count, device=order.device)] * len(sizes)
        else:
            state = _first(state, order)
            rows = [order[:size] for size in sizes]
        read = self.read(tokens.ids[:, :-1]) if per_image else self.read(tokens.ids[order, :-1])
        outs, attention = [], []
        for place, size in enumerate(sizes):
            size = count if per_image else size
            if not per_image and size < _rows(state):
                state = _first(state, slice(size))
            last = read[:size, place]
            if drawn and place:
                last = self._partly_drawn(last, outs[-1][:size], drawn)
            out, state = self.advance(last, state)
            outs.append(out)
            attention.append(state.get("attention"))
        caption = torch.cat(rows)
        place = torch.cat([row.new_full((len(row),), place) for place, row in enumerate(rows)])
        out = torch.cat(outs)
        weights = None if attention[0] is None else torch.cat(attention)
        if per_image:
            valid = place < (tokens.lengths - 1)[caption]
            caption, place, out = caption[valid], place[valid], out[valid]
            weights = None if weights is None else weights[valid]
        return Spoken(out, caption, place, tokens.ids[caption, place + 1], weights)

    @torch.no_grad()
    def _said(self, out: Tensor) -> Tensor:
        """(N,) words that are drawn by the (N, d) outputs that choose them."""
        return torch.multinomial(torch.softmax(self.logits_of(out), 1), 1)[:, 0]

    def _partly_drawn(self, last: Tensor, out: Tensor, share: float) -> Tensor:
        """The (N, ...) words that are read next, each of which is drawn from the network with a probability `share`."""
        own = (torch.rand(len(out), device=out.device) < share).nonzero()[:, 0]
        return last.index_put((own,), self.read(self._said(out[own]))) if len(own) else last

    def logits(self, batch: Batch, tokens: Tokens) -> Tensor:
        """(B, L - 1, V) logits of each word of the captions from the second on; 0 for padding."""
        spoken = self.spoken(batch, tokens)
        logits = self.logits_of(spoken.out)
        shape = (len(tokens.ids), tokens.ids.shape[1] - 1, logits.shape[1])
        return logits.new_zeros(shape).index_put((spoken.caption, spoken.place), logits)

    def loss(self, batch: Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """The loss of the setting `objective`.

        Raises
        ------
        UserError : an objective that continues a run, where the experiment names none as `after`.
        """
        objective = self.settings.objective
        if objective == "likelihood":
            return self.likelihood(batch, self._share_drawn(progress))
        if not self._continues:
            raise UserError(
                f"objective: {objective!r} continues a captioner that is trained by likelihood; name that experiment "
                "as `after`"
            )
        return self.self_critical(batch) if objective == "self-critical" else self.contrastive(batch)

    def _share_drawn(self, progress: float) -> float:
        """The share of words that are drawn in the epoch of a stage of which the fraction `progress` is done."""
        s = self.settings
        steps = int(progress * s.epochs) // s.scheduled_every if s.scheduled_every else 0
        return min(0.05 * steps, s.scheduled_most)

    def likelihood(self, batch: Batch, drawn: float = 0.0) -> dict[str, Tensor]:
        """The mean negative log-likelihood of the words of the captions, their end marks included.

        Parameters
        ----------
        drawn : see `spoken`.
        """
        spoken = self.spoken(batch, batch.inputs["text"], drawn)
        return {"loss": F.cross_entropy(self.logits_of(spoken.out), spoken.word)}

    def self_critical(self, batch: Batch) -> dict[str, Tensor]:
        """`objectives.self_critical` with CIDEr-D against the training captions of each image as the reward."""
        if self._reward is None:
            self._reward = Reward.of(self.context)
        groups = batch.groups.numpy(force=True)
        greedy = self._greedy_reward(batch, groups) if self.settings.baseline == "greedy" else None
        sample = self.sample(batch, self.settings.samples)
        reached = self._reward(sample.ids, groups.repeat(self.settings.samples)).reshape(len(groups), -1)
        advantage = objectives.advantage(torch.from_numpy(reached), greedy).flatten()
        parts = {
            "loss": objectives.self_critical(sample, advantage.to(sample.logs)),
            "reward": sample.logs.new_tensor(reached.mean()),
        }
        return parts if greedy is None else {**parts, "greedy_reward": sample.logs.new_tensor(greedy.mean().item())}

    def _greedy_reward(self, batch: Batch, groups: np.ndarray) -> Tensor:
        """(B,) rewards of the captions that greedy decoding generates, without dropout, in float64."""
        was_training = self.training
        self.eval()
        with torch.no_grad():
            greedy = self.generate(batch, 1)
        self.train(was_training)
        return torch.from_numpy(self._reward(decoding.with_end(greedy, self.settings.longest), groups))

    def contrastive(self, batch: Batch) -> dict[str, Tensor]:
        """`objectives.contrastive` with the run that this one continues as the reference."""
        tokens, groups = batch.inputs["text"], batch.groups
        picks = objectives.mismatched(_looks(batch), groups, self.settings.mismatched, self.settings.mismatches)
        rows = torch.cat([torch.arange(len(groups), device=picks.device)[:, None], picks], 1)  # (B, 1 + ν), first true
        several = Tokens(tokens.ids[rows.flatten()], tokens.lengths[rows.flatten()])
        own = self.log_likelihood(batch, several).view(rows.shape)
        (reference,) = self._reference
        reference.to(own.device)
        with torch.no_grad():
            other = reference.log_likelihood(batch, several).view(rows.shape)
        valid = groups[rows] != groups[:, None]  # an image may have fewer than ν others in its batch
        return objectives.contrastive(own, other, valid, self.settings.odds)

    def log_likelihood(self, batch: Batch, tokens: Tokens) -> Tensor:
        """(N,) log-probabilities of captions, given their images; see `spoken`."""
        spoken = self.spoken(batch, tokens)
        logs = -F.cross_entropy(self.logits_of(spoken.out), spoken.word, reduction="none")
        return logs.new_zeros(len(tokens.ids)).index_add(0, spoken.caption, logs)

    def inherit(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with the weights of a run, which is the frozen reference of contrastive training as well."""
        super().inherit(weights)
        self._continues = True
        if self.settings.objective == "contrastive":
            reference = type(self)(self.settings, self.context)
            reference.load_state_dict(dict(weights))
            self._reference = (reference.to(next(self.parameters()).dtype).eval().requires_grad_(False),)

    # -- generating ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, batch: Batch, beam: int) -> Tensor:
        """(B, L) word ids of a caption per image, padded with 0 (`capabilities.Generates`).

        Raises
        ------
        ValueError : a beam below 1.
        """
        state, most = self.first_state(batch), self.settings.longest
        device = next(self.parameters()).device
        if beam == 1:
            return decoding.greedy(self.next_word, state, _rows(state), most, device)
        return decoding.beam(self.next_word, state, _rows(state), most, beam, device, self.settings.length_power)

    def sample(
        self, batch: Batch, count: int = 1, generator: torch.Generator | None = None, unknown: bool = False
    ) -> decoding.Sample:
        """`count` captions per image whose words are drawn by their probabilities; those of an image are consecutive.

        Gradients flow through their log-probabilities unless they are disabled.

        Parameters
        ----------
        generator, unknown : see `decoding.sample`.
        """
        state = self.first_state(batch)
        size = _rows(state)
        state, device = decoding.repeated(state, size, count), next(self.parameters()).device
        most = self.settings.longest
        return decoding.sample(self.next_word, state, size * count, most, device, generator, unknown=unknown)


class Attentive(Captioner):
    """A captioner that chooses each word by a weighting of the image's regions.

    Its state holds `attention`, the (N, R) weights of the regions for the word that was just chosen. They sum to 1 over
    the regions, or to less in a system that may look at something else than the image, such as a sentinel: the rest is
    the weight of that.
    """

    @torch.no_grad()
    def attend(self, batch: Batch, ids: Tensor) -> Tensor:
        """The weights by which the words of captions are chosen (`capabilities.Attends`).

        Parameters
        ----------
        ids : (B, L) word ids without marks, padded with 0, as `generate` returns them.

        Returns
        -------
        (B, L, R) weights of the image's regions at each word, 0 for padding.
        """
        counts = (ids != 0).sum(1)
        start, end = ids.new_full((len(ids), 1), START), ids.new_zeros(len(ids), 1)
        whole = torch.cat([start, ids, end], 1)
        whole[torch.arange(len(ids), device=ids.device), counts + 1] = END
        spoken = self.spoken(batch, Tokens(whole, counts + 2))
        weights = spoken.attention.new_zeros(*whole[:, 1:].shape, spoken.attention.shape[1])
        return weights.index_put((spoken.caption, spoken.place), spoken.attention)[:, :-1] * (ids != 0)[..., None]


def _rows(state: State) -> int:
    """The number of captions of a state."""
    return len(next(value for value in state.values() if isinstance(value, Tensor)))


def _first(state: State, rows: Tensor | slice) -> dict[str, Tensor | Mapping[str, Tensor]]:
    """The state at `rows` where each image has one caption; the tensors of the images are chosen too."""
    return {
        name: {key: part[rows] for key, part in value.items()} if isinstance(value, Mapping) else value[rows]
        for name, value in state.items()
    }


def _looks(batch: Batch) -> Tensor:
    """(B, D) vectors by which the images of a batch are alike: their features, or the means of their regions."""
    image = batch.inputs["image"]
    return image.features.sum(1) / image.counts[:, None] if isinstance(image, base.Regions) else image
