"""What every registered system must do, whatever it is."""

import json

import pytest
import torch

from crossmodal.core import registry
from crossmodal.models import base
from crossmodal.models.base import context_of, described

SYSTEMS = sorted(registry.names("models"))
CLASSES = 5
STEPS = {"gsmn": 80}  # it begins on a plateau, which it leaves after 25 to 60 steps, depending on the last bits
CONCEPTS = 20
WORDS = ("tokens", "concepts", "objects")
SETS = ("regions", "grid", "boxed_regions", "named_regions")


def inputs(form, n, generator):
    if form == "tokens":
        lengths = torch.randint(3, 9, (n,), generator=generator)
        ids = torch.randint(4, 30, (n, 8), generator=generator)
        return base.Tokens(ids * (torch.arange(8) < lengths[:, None]), lengths)
    if form == "concepts":
        return base.Concepts(
            torch.randint(0, CONCEPTS, (n, 6), generator=generator), torch.rand(n, 6, generator=generator)
        )
    if form == "objects":
        corners = torch.rand(n, 3, 2, generator=generator) * 50
        boxes = torch.cat([corners, corners + 1 + 50 * torch.rand(n, 3, 2, generator=generator)], 2)
        names = torch.randint(4, 30, (n, 3), generator=generator)
        return base.Objects(boxes, names, names.flip(1), torch.rand(n, 3, generator=generator), torch.full((n,), 3))
    if form in SETS:
        features, counts = torch.randn(n, 4, 12, generator=generator), torch.full((n,), 4)
        if form in ("regions", "grid"):
            return base.Regions(features, counts)
        corners = torch.rand(n, 4, 2, 2, generator=generator).sort(2).values
        names = torch.randint(4, 30, (n, 4, 3), generator=generator) if form == "named_regions" else None
        return base.PlacedRegions(features, counts, corners.flatten(2), names)
    if form == "pixels":
        return torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return torch.randn(n, 12, generator=generator)


def ten_pairs(model, n=10):
    generator = torch.Generator().manual_seed(0)
    forms = {**model.reads, "semantics": "tokens"}
    extra = {m: inputs(forms[m], n, generator) for m in model.unannotated}
    pairs = {m: inputs(f, n, generator) for m, f in model.reads.items()}
    second_form = {m: inputs(f, n, generator) for m, f in model.second_form.items()}
    labels = torch.arange(n) % CLASSES
    source = base.Batch({m: inputs(f, n, generator) for m, f in model.source_reads.items()}, labels=labels)
    return base.Batch(pairs, torch.arange(n), labels, extra, source, second_form)


def built(name, seed=0):
    module = registry.module("models", name)
    small = {
        "dim": 16,
        "word_dim": 8,
        "hidden": (32,),
        "units": 32,
        "gan_weight": 0.1,
        "parts": 4,  # blocks of one dimension would have cosines without a gradient
        "lr": 1e-2,
        "margin": 0.2,
        "dropout": 0.0,
        "widths": (8, 16),
        "inner": (4, 8),
        "blocks": (1, 1),
        "optimiser": "adam",  # Adadelta begins with steps of a ten-thousandth of its rate
        "word_lr": 1.0,
        "classifier_lr": 1.0,
        "image_size": 16,
        "channels": 4,
        "condition_dim": 4,
        "noise": 2,
        "layers": 1,
        "image": 0.1,
        "ratio": 0.8,  # of a residual head, which at its default hardly leaves the given vectors
        "per_word": True,
        "objective": "likelihood",  # others continue a run
    }
    small = {k: v for k, v in small.items() if k in module.Settings.model_fields}
    shapes = {m: (4, 12) if f in SETS else (12,) for m, f in module.Model.reads.items() if f not in WORDS}
    torch.manual_seed(seed)
    source = base.Context(dict.fromkeys(module.Model.source_reads, (12,)), n_classes=CLASSES)
    known = {"vocabulary_size": 30, "n_classes": CLASSES, "n_concepts": CONCEPTS, "groups": torch.arange(10)}
    model = module.Model(module.Settings(**small), base.Context(shapes, source=source, **known))
    if not model.trains:
        model.fit([ten_pairs(model)])
    return model


def answer(model, batch):
    """What the model is for: encodings of its second modality, captions that it generates, or keywords."""
    first, second = list(model.reads)
    with torch.no_grad():
        if hasattr(model, "keywords"):
            return model.keywords(batch)
        return model.generate(batch, 3) if hasattr(model, "generate") else model.encode(second, batch, first)


@pytest.mark.parametrize("name", [n for n in SYSTEMS if "encode" in registry.methods(n)])
def test_encodings_and_scores(name):
    model = built(name).eval()
    batch = ten_pairs(model)
    first, second = list(model.reads)
    with torch.no_grad():
        one, other = model.encode(first, batch, second), model.encode(second, batch, first)
        assert len(one) == len(other) == 10
        assert model.score(one, other[:7]).shape == (10, 7)


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_is_built_again_from_what_its_manifest_says(name):
    model = built(name).eval()
    told = json.loads(json.dumps(described(model.context)))
    again = type(model)(model.settings, context_of(told)).eval()
    again.load_state_dict(model.state_dict())
    batch = ten_pairs(model)
    assert torch.equal(answer(again, batch), answer(model, batch))


@pytest.mark.parametrize("name", [n for n in SYSTEMS if registry.module("models", n).Model.trains])
def test_trains_saves_and_repeats(name):
    def run():
        model = built(name)
        batch = ten_pairs(model)
        optimisers = model.optimisers(model.stages()[0])
        losses = []
        for _ in range(STEPS.get(name, 40)):
            for turn, optimiser in optimisers.items():
                terms = model.loss(batch, 0.5, turn)
                optimiser.zero_grad()
                terms["loss"].backward()
                optimiser.step()
                if turn == next(iter(optimisers)):
                    losses.append(float(terms["loss"].detach()))
        return model, losses

    model, losses = run()
    assert losses[-1] < 0.5 * losses[0]
    _again, same = run()
    assert losses == same
    fresh = built(name, seed=1)
    fresh.load_state_dict(model.state_dict())
    batch = ten_pairs(model)
    assert torch.equal(answer(fresh.eval(), batch), answer(model.eval(), batch))


@pytest.mark.parametrize("name", ["vse0", "vsepp"])
def test_captions_do_not_feel_their_batch(name):
    """A caption's vector is its own: of unit length, whatever longer captions stand beside it."""
    model = built(name).eval()
    batch = ten_pairs(model)
    with torch.no_grad():
        together = model.encode("text", batch, "image")
        tokens = batch.inputs["text"]
        n = int(tokens.lengths[3])
        alone = base.Batch({"text": base.Tokens(tokens.ids[3:4, :n], tokens.lengths[3:4])})
        torch.testing.assert_close(model.encode("text", alone, "image")[0], together[3])
        torch.testing.assert_close(together.norm(dim=1), torch.ones(10))
        torch.testing.assert_close(model.encode("image", batch, "text").norm(dim=1), torch.ones(10))


# Groups that are not to decay: word vectors and the first projection, biases, all but the maps to the common space, and
# critics beside the model.
WITHOUT_DECAY = {
    "dan": ["model1", "model2"],
    "cmpm": ["model0"],
    "rrfnet": ["model1"],
    "gxn": ["critic0"],
    "mfsr": ["discriminators0"],
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_weight_decay_reaches_the_optimisers(name):
    model = built(name)
    if not model.trains or "weight_decay" not in type(model.settings).model_fields:
        return
    model.settings = model.settings.model_copy(update={"weight_decay": 0.125})
    for stage in model.stages():
        model.begin(stage)
        decays = {f"{turn}{n}": group["weight_decay"] for turn, optimiser in model.optimisers(stage).items()
                  for n, group in enumerate(optimiser.param_groups)}  # fmt: skip
        assert set(decays.values()) <= {0, 0.125}
        assert [group for group, decay in decays.items() if not decay] in ([], WITHOUT_DECAY.get(name))
        assert 0.125 in decays.values()
