"""Fine-tuning: it begins where the run on fixed features ended, and then moves the network too."""

import pytest
import torch

from crossmodal.errors import UserError
from crossmodal.features import networks
from crossmodal.models import base, mfsr, vsepp

NETWORK = "shufflenet_v2_x0_5"
TUNED = {"image_network": NETWORK, "image_weights": "seeded"}
SMALL = {
    vsepp: {"dim": 8, "word_dim": 4},
    mfsr: {"dim": 12, "word_dim": 4, "layers": 1, "image_size": 16, "channels": 2},
}


def images(n=6, side=32):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def batch(given):
    n = len(given)
    tokens = base.Tokens(torch.randint(4, 9, (n, 5), generator=torch.Generator().manual_seed(1)), torch.full((n,), 5))
    return base.Batch({"image": given, "text": tokens}, torch.arange(n), beside={"image": images(n)})


def pair(module, **settings):
    """A model on fixed features, and one that goes on from it with the network."""
    torch.manual_seed(0)
    fixed = module.Model(module.Settings(**SMALL[module]), base.Context({"image": (1024,)}, 10))
    chosen = module.Settings(**SMALL[module], **TUNED, **settings)
    tuned = module.Model(chosen, base.Context({"image": (3, 32, 32)}, 10))
    tuned.inherit(fixed.state_dict())
    return fixed, tuned


@pytest.mark.parametrize("module", [vsepp, mfsr])
def test_it_begins_where_the_run_on_features_ended(module):
    fixed, tuned = pair(module)
    body, _ = networks.build(networks.Settings(network=NETWORK, weights="seeded"))
    with torch.no_grad():
        features = body(networks.normalised(images(), torch.device("cpu"), "fp32"))
        expected = fixed.eval().encode("image", batch(features), "text")
        found = tuned.eval().encode("image", batch(images()), "text")
    assert tuned.reads["image"] == "images"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


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
    with pytest.raises(UserError, match="name that as `after`"):
        alone.loss(batch(images()), 0.0, "model")
    from safetensors.torch import save_file

    body, _ = networks.bare(NETWORK)
    folded = {}
    for name, value in networks.prepare(body.eval(), "fp32", torch.device("cpu")).state_dict().items():
        folded[name] = value.contiguous()
    path = tmp_path / "folded.safetensors"
    save_file(folded, path)
    tuned = vsepp.Model(tuned.settings.model_copy(update={"image_weights": str(path)}), tuned.context)
    with pytest.raises(UserError, match="batch norms folded in"):
        tuned.image_network.take_weights()
