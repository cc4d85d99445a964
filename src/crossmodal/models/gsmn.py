"""GSMN: graph structured network for image-text matching (Liu et al., 2020; a row of mFSR's tables).

SCAN's encoders and attention give each word and each region an attended vector of the other side; the cosines of both
vectors in 16 blocks of dimensions are the node's matching vector. A graph convolution over the words, or over the
regions, whose edges depend on the boxes, makes a score of the matching vectors; the two graphs' scores are added.

In the authors' program the "neighbours" of a node are copies of its own matching vector (`propagation: own`). The
normalised weights of the text's edges then cancel, so that dense and sparse graphs are the same function, a linear map;
on the image's side the boxes only scale each kernel's output. In addition the program divides its boxes by the size of
the picture again at every visit, so that they are all but zero after a few epochs, which is not repeated here. The
paper's reading, in which matching vectors come from the neighbours, is `propagation: neighbours`.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts import attention
from crossmodal.models.parts.attention import in_blocks
from crossmodal.models.parts.encoders import RegionEncoder, WordEncoder, mask, valid_mask
from crossmodal.models.parts.losses import Hinges, batch_hinges

TextGraph = Literal["dense", "sparse"]
PRECISION = 1e-14  # added to squared widths of the kernels


class Settings(Hinges):
    """The settings of the authors' program (GSMN) on Flickr30K; on MS-COCO it has `smooth: 10`, batches of 32 and 20
    epochs with a learning rate of 5e-4 that drops after 5.

    The published rows average the scores of a dense and of a sparse model (`ensemble`).
    """

    batch_size: int = Field(64, ge=2)
    dim: int = Field(1024, ge=1, description="dimensions of the common space")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    smooth: float = Field(20.0, gt=0, description="λ: inverse temperature of the attention, and of the edges of words")
    slope: float = Field(0.1, ge=0, description="slope for negative cosines in the attention")
    parts: int = Field(16, ge=1, description="K: blocks of dimensions, which is the size of a matching vector")
    kernels: int = Field(8, ge=1, description="kernels of the graph convolution")
    graph_dim: int = Field(32, ge=1, description="dimensions of all kernels' outputs together, and of the hidden layer")
    propagation: Literal["own", "neighbours"] = Field(
        "own",
        description="whose matching vectors a node takes: own: copies of its own, as in the program that made the "
        "published numbers; neighbours: those of its neighbours, as in the paper",
    )
    text_graph: TextGraph = Field(
        "dense",
        description="edges between words: dense: all, by the softmax of the words' similarities; sparse: dependencies "
        "alone, for which words at most `window` apart stand in",
    )
    window: int = Field(1, ge=1, description="distance up to which words are neighbours in a sparse graph")
    ensemble: bool = Field(
        False, description="whether a dense and a sparse network are trained, whose scores are averaged"
    )

    @property
    def fallbacks(self) -> list[str]:
        sparse = self.propagation == "neighbours" and (self.ensemble or self.text_graph == "sparse")
        return [*super().fallbacks, *(["dependencies of words: neighbouring words, not CoreNLP's"] if sparse else [])]


class Convolution(nn.Module):
    """Kernels that map matching vectors, then two layers with weight normalisation: a score per node.

    In the program the kernels of the text's graph have biases, since it passes a number where they are chosen.
    """

    def __init__(self, s: Settings, *, bias: bool):
        super().__init__()
        self.kernels = nn.ModuleList(nn.Linear(s.parts, s.graph_dim // s.kernels, bias=bias) for _ in range(s.kernels))
        width = s.graph_dim // s.kernels * s.kernels
        self.hidden = weight_norm(nn.Linear(width, s.graph_dim))
        self.out = weight_norm(nn.Linear(s.graph_dim, 1))

    def outputs(self, vectors: Tensor) -> Tensor:
        """(K, ...) matching vectors -> (P, h, ...) outputs of the kernels."""
        weight, bias = self._kernels()
        return _affine(vectors, weight, bias).unflatten(0, (len(self.kernels), -1))

    def forward(self, outputs: Tensor) -> Tensor:
        """(P, h, ...) outputs of the kernels, as they come together at each node -> (...) scores."""
        return self._scores(outputs.flatten(0, 1), self.hidden.weight, self.hidden.bias)

    def of_vectors(self, vectors: Tensor) -> Tensor:
        """(...) scores of nodes whose kernels all read the same (K, ...) vectors: their layer and the next are one."""
        (weight, bias), hidden = self._kernels(), self.hidden.weight
        joint = self.hidden.bias if bias is None else torch.addmv(self.hidden.bias, hidden, bias)
        return self._scores(vectors, hidden @ weight, joint)

    def _kernels(self) -> tuple[Tensor, Tensor | None]:
        """(P·h, K) weights and (P·h) biases of all kernels."""
        biases = [kernel.bias for kernel in self.kernels if kernel.bias is not None]
        return torch.cat([kernel.weight for kernel in self.kernels]), torch.cat(biases) if biases else None

    def _scores(self, vectors: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # tanh(x) = 2σ(2x) − 1, whose factors fall to the weights: a sigmoid takes a fifth of the time.
        out = self.out.weight
        nodes = _affine(vectors, 2 * weight, 2 * bias).sigmoid()
        return _affine(nodes, 2 * out, self.out.bias - out.sum(1)).squeeze(0)


def _affine(vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer whose vectors' dimensions come first: (I, ...) -> (O, ...), with no copy in another order."""
    flat = vectors.flatten(1)
    product = weight @ flat if bias is None else torch.addmm(bias[:, None], weight, flat)
    return product.unflatten(1, vectors.shape[1:])


class Words(NamedTuple):
    """What scores take of B sentences of L words: what depends on the sentences alone is computed once."""

    columns: Tensor  # (K, d/K, L·B) vectors in K blocks of dimensions
    grams: Tensor  # (K, B, L, L) inner products of the words
    lengths: Tensor  # (K, L, B) norms
    edges: Tensor | None  # (B, L, L) `Network.word_edges`, where vectors come from neighbours
    valid: Tensor  # (B, L) bool


def words_of(sentences: Tensor, valid: Tensor, parts: int, edges: Tensor | None = None) -> Words:
    """Of (B, L, d) sentences and (B, L) bool."""
    columns = sentences.transpose(0, 1).flatten(0, 1).unflatten(1, (parts, -1)).permute(1, 2, 0)
    blocks = sentences.unflatten(2, (parts, -1)).unbind(2)
    grams = torch.stack([block @ block.transpose(1, 2) for block in blocks])
    lengths = _norms(grams.diagonal(dim1=2, dim2=3)).transpose(1, 2).contiguous()
    return Words(columns, grams, lengths, edges, valid)


class Network(nn.Module):
    """Encoders of regions and words, and the two graphs."""

    def __init__(self, s: Settings, context: base.Context, text_graph: TextGraph):
        super().__init__()
        self.s, self.text_graph = s, text_graph
        self.image = RegionEncoder(context.shapes["image"][-1], s.dim)
        self.text = WordEncoder(context.vocabulary_size, s.word_dim, s.dim)
        self.visual, self.textual = Convolution(s, bias=False), Convolution(s, bias=True)
        self.distance = nn.Parameter(torch.rand(s.kernels))  # means of ρ and of θ, and their widths
        self.angle = nn.Parameter((2 * torch.rand(s.kernels) - 1) * math.pi)
        self.distance_width, self.angle_width = (nn.Parameter(torch.rand(s.kernels)) for _ in range(2))

    def words(self, sentences: Tensor, valid: Tensor) -> Words:
        """What `attend` takes of (B, L, dim) sentences, in place of them."""
        edges = self.word_edges(sentences, valid) if self.s.propagation == "neighbours" else None
        return words_of(sentences, valid, self.s.parts, edges)

    def attend(self, images: Tensor, weights: Tensor, words: Words, image_mask: Tensor) -> Tensor:
        """(A, B) scores of images (A, M, dim) and B sentences, all at once.

        Parameters
        ----------
        weights : what `region_weights` returns for the images.
        words : what `words` returns for the sentences.
        """
        s = self.s
        of_regions, of_words = matching_vectors(images, words, image_mask, s)
        # The kernels are linear, and the edges of a word sum to 1: their order makes no difference, but to the time.
        regions = self.visual.outputs(of_regions)
        weights = weights.unflatten(2, (-1, s.kernels))
        if s.propagation == "own":
            regions = regions * weights.permute(3, 0, 1, 2)[:, None]  # (P, h, A, M, B)
        else:
            regions = weights.permute(3, 0, 1, 2)[:, None] @ regions
            of_words = torch.einsum("blm,kamb->kalb", words.edges, of_words)
        by_regions = _mean(self.visual(regions), image_mask[..., None], 1)  # (A, B)
        return by_regions + _mean(self.textual.of_vectors(of_words), words.valid.T, 1)

    def region_weights(self, boxes: Tensor, valid: Tensor) -> Tensor:
        """What the kernels' outputs of each region are weighted by: `region_edges` side by side, (A, M, M·P).

        With `propagation: own` all outputs that reach a region are its own; the sums of its edges suffice, (A, M, P).
        """
        edges = self.region_edges(boxes, valid)
        return edges.sum(2) if self.s.propagation == "own" else edges.flatten(2)

    def region_edges(self, boxes: Tensor, valid: Tensor) -> Tensor:
        """(A, M, M, P) weights of the kernels between regions, normalised over the kernels; 0 for padding.

        The Gaussians are of the distance ρ and the angle θ between the boxes' centres, as in the program, whose angle
        is atan2(Δx, Δy).
        """
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        x, y = (centres[:, :, None] - centres[:, None]).unbind(-1)
        # The root has no gradient to the boxes, which are no parameters.
        first = (torch.atan2(x, y)[..., None] - self.angle).abs()
        second = (2 * math.pi - first).abs()
        far = (torch.hypot(x, y)[..., None] - self.distance).square() / (PRECISION + self.distance_width.square())
        turned = torch.minimum(first, second).square() / (PRECISION + self.angle_width.square())
        # The softmax is the quotient of the Gaussians and their sum, without their underflow.
        weights = (-0.5 * (far + turned)).softmax(-1)
        return weights * (valid[:, :, None] & valid[:, None])[..., None]

    def word_edges(self, sentences: Tensor, valid: Tensor) -> Tensor:
        """(B, L, L) weights of the edges of each word, which sum to 1; the program's factors of kernels cancel."""
        similar = sentences @ sentences.transpose(1, 2)
        weights = (self.s.smooth * similar).masked_fill(~valid[:, None], -torch.inf).softmax(2)
        if self.text_graph == "sparse":
            places = torch.arange(weights.shape[1], device=weights.device)
            weights = weights * ((places[:, None] - places).abs() <= self.s.window)
            weights = weights / weights.sum(2, keepdim=True).clamp(min=attention.EPSILON)  # padding has no neighbour
        return weights


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "boxed_regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        if settings.dim % settings.parts:
            raise ValueError(f"dim: {settings.dim} dimensions do not make {settings.parts} equal blocks (`parts`)")
        graphs = ("dense", "sparse") if settings.ensemble else (settings.text_graph,)
        self.networks = nn.ModuleDict({name: Network(settings, context, name) for name in graphs})

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, M, dim + 4) unit vectors of regions and their boxes, or (B, L, dim) of words; zeros for padding.

        Those of an ensemble's two networks are concatenated, before the boxes.
        """
        value = batch.inputs[modality]
        parts = [getattr(network, modality)(value) for network in self.networks.values()]
        if modality == "image":
            parts.append(value.boxes * mask(value.counts, value.boxes.shape[1])[..., None])
        return torch.cat(parts, 2)

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) scores of images (A, M, n·dim + 4) with sentences (B, L, n·dim), as `encode` returns them."""
        dim, total = self.settings.dim, 0
        boxes = queries[..., -4:]
        for n, network in enumerate(self.networks.values()):
            images, sentences = (x[..., n * dim : (n + 1) * dim] for x in (queries, gallery))
            image_mask = valid_mask(images)

            def attend(joined: Tensor, words: Words, image_mask: Tensor, _: Tensor, of=network) -> Tensor:
                return of.attend(joined[..., :dim], joined[..., dim:], words, image_mask)

            # The weights of the regions are the same for all sentences, so that they are computed once.
            joined = torch.cat([images, network.region_weights(boxes, image_mask)], 2)
            masks, block = (image_mask, valid_mask(sentences)), self._block(queries)
            total = total + in_blocks(attend, joined, sentences, *masks, *block, prepare=network.words)
        return total / len(self.networks)

    def _block(self, encodings: Tensor) -> tuple[int, int]:
        """Bytes of the cosines of a block of pairs, and its images (measured); each block of dimensions has as many."""
        if encodings.device.type != "cpu":
            return attention.DEVICE_BUDGET // max(1, self.settings.parts // 4), attention.BLOCK
        return attention.BUDGET // max(1, self.settings.parts // 2), 10

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """One per network: each is trained, and its gradients are clipped, as if it were alone."""
        decay = self.settings.weight_decay
        return {
            name: torch.optim.Adam(network.parameters(), lr=stage.lr, weight_decay=decay)
            for name, network in self.networks.items()
        }

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Hinges on the scores of the network whose turn it is."""
        network, value = self.networks[turn], batch.inputs["image"]
        images, sentences = network.image(value), network.text(batch.inputs["text"])
        image_mask = valid_mask(images)
        weights = network.region_weights(value.boxes, image_mask)
        dim = images.shape[2]

        def attend(joined: Tensor, sentences: Tensor, image_mask: Tensor, sentence_mask: Tensor) -> Tensor:
            words = network.words(sentences, sentence_mask)
            return network.attend(joined[..., :dim], joined[..., dim:], words, image_mask)

        joined = torch.cat([images, weights], 2)
        parameters = [*network.visual.parameters(), *network.textual.parameters()]
        masks = image_mask, valid_mask(sentences)
        scores = attention.checkpointed_scores(attend, joined, sentences, *masks, parameters)
        return {"loss": batch_hinges(scores, self.settings, batch.groups, progress)}


def matching_vectors(images: Tensor, words: Words, image_mask: Tensor, s: Settings) -> tuple[Tensor, Tensor]:
    """Matching vectors of the regions (K, A, M, B) and of the words (K, A, L, B) of all pairs; zeros for padding.

    A region's matching vector holds the cosines, in K blocks of dimensions, of its vector and the weighted sum of the
    words that it attends to; and the other way round. As in SCAN's attention (`parts.attention`), no attended vector is
    computed: inner products and norms follow from the blocks' products of regions and words, and of either with itself.
    """
    (n_images, m), (n_sentences, n) = images.shape[:2], words.valid.shape
    regions = images.unflatten(2, (s.parts, -1))
    # (K, A·M, d/K) @ (K, d/K, L·B) -> (K, A, M, L, B)
    products = torch.bmm(regions.flatten(0, 1).transpose(0, 1), words.columns)
    products = products.view(s.parts, n_images, m, n, n_sentences)
    cosines = F.leaky_relu(products.sum(0), s.slope)
    squares = cosines.square()
    # Each side's attention is normalised over its queries, then a softmax over what is attended to. All is contiguous:
    # results take the order of their first operand, and a batch of matrices in another order is multiplied one by one.
    over_words, over_regions = (s.smooth / _norms(squares.sum(axis, keepdim=True)) for axis in (2, 1))
    to_regions = torch.addcmul(_absent(image_mask, cosines)[:, :, None, None], cosines, over_words).softmax(1)
    to_words = torch.addcmul(_absent(words.valid.T.contiguous(), cosines), cosines, over_regions).softmax(2)
    # Block by block, so that what is multiplied and added elementwise stays in a processor's cache.
    of_regions = to_regions.flatten(2)  # (A, M, L·B)
    of_words = to_words.permute(3, 2, 0, 1).contiguous().flatten(2)  # (B, L, A·M)
    by_regions, by_words = [], []
    for product, region, gram, lengths in zip(products, regions.unbind(2), words.grams, words.lengths, strict=True):
        own = region @ region.transpose(1, 2)
        # Words attend to regions: (A, M, M) @ (A, M, L·B).
        squared = _weighted_sum(torch.bmm(own, of_regions), of_regions, 1).unflatten(1, (n, n_sentences))
        by_words.append(_cosines((to_regions * product).sum(1), _norms(squared), lengths))  # (A, L, B)
        # Regions attend to words: (B, L, L) @ (B, L, A·M).
        squared = _weighted_sum(torch.bmm(gram, of_words), of_words, 1).T.contiguous().view(n_images, m, n_sentences)
        own = _norms(own.diagonal(dim1=1, dim2=2))[..., None]  # (A, M, 1)
        by_regions.append(_cosines(_weighted_sum(product, to_words, 2), _norms(squared), own))
    return torch.stack(by_regions), torch.stack(by_words)


def _weighted_sum(values: Tensor, weights: Tensor, axis: int) -> Tensor:
    """The sum over an axis of values, which are overwritten where no gradients are needed, with weights."""
    products = values * weights if torch.is_grad_enabled() else values.mul_(weights)
    return products.sum(axis)


def _absent(valid: Tensor, like: Tensor) -> Tensor:
    """0 where `valid`, else -inf: what a softmax over valid places has added."""
    return torch.zeros_like(valid, dtype=like.dtype).masked_fill(~valid, -torch.inf)


def _norms(squared: Tensor) -> Tensor:
    """The roots of squared norms, which rounding may leave slightly negative, and whose gradient is infinite at 0."""
    return squared.clamp(min=attention.EPSILON**2).sqrt()


def _cosines(inner: Tensor, norms: Tensor, other_norms: Tensor) -> Tensor:
    """Cosines from inner products and both sides' norms."""
    return inner / (norms * other_norms).clamp(min=attention.EPSILON)


def _mean(scores: Tensor, valid: Tensor, axis: int) -> Tensor:
    """The mean over an axis of those scores whose place is `valid`."""
    return (scores * valid).sum(axis) / valid.sum(axis if valid.ndim == scores.ndim else axis - 1)
