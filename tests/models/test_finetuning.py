"""Fine-tuning: it begins where the run on fixed features ended, and then moves the network too."""

import pytest
import torch
from torchvision.transforms.functional import center_crop

from crossmodal.core.errors import UserError
from crossmodal.features import image
from crossmodal.features.networks import backbones
from crossmodal.models import base, dpc, mfsr, vsepp

NETWORK = "shufflenet_v2_x0_5"
TUNED = {"image_network": NETWORK, "image_weights": "seeded", "image_crop": 32}
SMALL = {
    vsepp: {"dim": 8, "word_dim": 4},
    mfsr: {"dim": 12, "word_dim": 4, "layers": 1, "image_size": 16, "channels": 2},
    dpc: {"dim": 6, "word_dim": 4, "widths": (8,), "inner": (4,), "blocks": (1,), "candidates": 4},
}


def images(n=6, side=32):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def batch(given):
    n = len(given)
    tokens = base.Tokens(torch.randint(4, 9, (n, 5), generator=torch.Generator().manual_seed(1)), torch.full((n,), 5))
    return base.Batch({"image": given, "text": tokens}, torch.arange(n), second_form={"image": images(n)})


def pair(module, **settings):
    """A model on fixed features, and one that goes on from it with the network."""
    torch.manual_seed(0)
    groups = torch.arange(9)
    fixed = module.Model(module.Settings(**SMALL[module]), base.Context({"image": (1024,)}, 10, groups=groups))
    chosen = module.Settings(**SMALL[module], **TUNED | settings)
    tuned = module.Model(chosen, base.Context({"image": (3, 32, 32)}, 10, groups=groups))
    tuned.inherit(fixed.state_dict())
    return fixed, tuned


@pytest.mark.parametrize("side", [32, 41])
@pytest.mark.parametrize("module", [vsepp, mfsr, dpc])
def test_it_begins_where_the_run_on_features_ended(module, side):
    """On what the extractor makes by its defaults: the centre of an image, features of unit length."""
    fixed, tuned = pair(module)
    settings = image.Settings(network=NETWORK, weights="seeded", resize=32, crop=32)
    body, _ = backbones.build(settings)
    shown = center_crop(images(side=side), 32)
    features = image.forward(body, shown, settings, torch.device("cpu"), "fp32")
    torch.testing.assert_close(features.norm(dim=1), torch.ones(6))
    with torch.no_grad():
        expected = fixed.eval().encode("image", batch(features), "text")
        found = tuned.eval().encode("image", batch(images(side=side)), "text")
    assert tuned.reads["image"] == "images"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    raw = backbones.normalised(shown, torch.device("cpu"), "fp32")
    _, tuned = pair(module, image_unit=False)  # after a run on features of `l2: false`
    with torch.no_grad():
        expected = fixed.eval().encode("image", batch(body(raw)), "text")
        found = tuned.eval().encode("image", batch(images(side=side)), "text")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def shown(network, given, seed):
    torch.manual_seed(seed)
    return network.shown(given)


def test_crops_differ_by_step_in_training_and_not_in_evaluation():
    _, tuned = pair(vsepp)
    network, given = tuned.image_network, images(4, 48)
    centre = center_crop(given, 32)
    network.eval()
    assert all(torch.equal(shown(network, given, seed), centre) for seed in range(3))
    network.train()
    first = shown(network, given, 0)
    assert first.shape == (4, 3, 32, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(first, shown(network, given, 0))  # a function of the seed, which each epoch has
    again = network.shown(given)  # the next step of the same epoch
    for n in range(4):
        assert not torch.equal(first[n], centre[n])
        assert not torch.equal(first[n], again[n])
    _, still = pair(vsepp, image_views="centre")
    assert torch.equal(still.image_network.train().shown(given), centre)


def test_crops_hold_the_share_that_is_asked_for_and_are_mirrored_half_of_the_time():
    """On an image whose red grows to the right and green downwards, where a crop's corners tell its place."""
    ramp = torch.arange(240, dtype=torch.float32)
    one = torch.stack([ramp.expand(240, 240), ramp[:, None].expand(240, 240), torch.zeros(240, 240)]).byte()
    given = one.expand(400, 3, 240, 240)
    for area in ((0.08, 1.0), (0.64, 1.0)):
        _, tuned = pair(vsepp, image_area=area)
        found = shown(tuned.image_network.train(), given, 0).float()
        across = found[:, 0].mean(1)  # (400, 32) red along a row
        wide = (across[:, -1] - across[:, 0]) * 32 / 31 / 240  # signed: negative where mirrored
        high = (found[:, 1].mean(2)[:, -1] - found[:, 1].mean(2)[:, 0]) * 32 / 31 / 240
        share = wide.abs() * high
        assert area[0] - 0.02 < float(share.min()) < area[0] + 0.05
        assert 0.93 < float(share.max()) < 1.02
        assert 0.4 < float((wide < 0).float().mean()) < 0.6
        assert (high > 0).all()
        ratio = wide.abs() / high
        assert float(ratio.min()) > 0.7
        assert float(ratio.max()) < 1.4
    _, tuned = pair(vsepp, image_flips=False)
    found = shown(tuned.image_network.train(), given[:40], 0).float()
    assert (found[:, 0, :, -1] > found[:, 0, :, 0]).all()
    assert dpc.Settings().image_area == (0.64, 1.0)  # sides of .8 to 1
    assert vsepp.Settings().image_area == (0.08, 1.0)


def test_images_smaller_than_the_crop_are_told():
    _, tuned = pair(vsepp, image_crop=64)
    with pytest.raises(UserError, match="image_crop: 64 pixels do not fit in images of 32 x 32"):
        tuned.eval().encode("image", batch(images()), "text")


def test_the_network_learns_at_a_rate_of_its_own_in_dpc():
    _, tuned = pair(dpc)
    groups = tuned.optimisers(tuned.stages()[1])["model"].param_groups
    own = {id(p) for p in tuned.image_network.parameters()}
    rates = [group["lr"] for group in groups if {id(p) for p in group["params"]} & own]
    assert rates == [pytest.approx(1e-4)]
    assert own <= {id(p) for group in groups for p in group["params"]}


@pytest.mark.parametrize("module", [vsepp, mfsr])
@pytest.mark.parametrize("norms", ["frozen", "trained"])
def test_a_step_moves_the_network_and_its_norms_only_if_asked(module, norms):
    _, tuned = pair(module, image_norms=norms)
    before = {name: value.clone() for name, value in tuned.image_network.body.state_dict().items()}
    tuned.train()
    optimiser = tuned.optimisers(tuned.stages()[0])["model"]
    tuned.loss(batch(images()), 0.5, "model")["loss"].backward()
    optimiser.step()
    after = tuned.image_network.body.state_dict()
    assert not torch.equal(before["conv1.0.weight"], after["conv1.0.weight"])
    assert torch.equal(before["conv1.1.running_mean"], after["conv1.1.running_mean"]) == (norms == "frozen")


def test_many_images_are_encoded_in_parts(monkeypatch):
    _, tuned = pair(vsepp)
    tuned.eval()
    with torch.no_grad():
        whole = tuned.encode("image", batch(images(7)), "text")
        monkeypatch.setattr("crossmodal.models.parts.finetuning.CHUNK", 3)
        parts = tuned.encode("image", batch(images(7)), "text")
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)


def test_it_needs_a_run_before_it_and_norms_to_be_there(tmp_path):
    _, tuned = pair(vsepp)
    alone = vsepp.Model(tuned.settings, tuned.context)
    with pytest.raises(UserError, match="name that run as `after`"):
        alone.loss(batch(images()), 0.0, "model")
    from safetensors.torch import save_file

    body, _ = backbones.bare(NETWORK)
    folded = {}
    for name, value in backbones.prepare(body.eval(), "fp32", torch.device("cpu")).state_dict().items():
        folded[name] = value.contiguous()
    path = tmp_path / "folded.safetensors"
    save_file(folded, path)
    tuned = vsepp.Model(tuned.settings.model_copy(update={"image_weights": str(path)}), tuned.context)
    with pytest.raises(UserError, match="batch norms folded in"):
        tuned.image_network.take_weights()
