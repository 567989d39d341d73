"""Branches on the blocks of a prior: their shape, what they draw, whom they fit, and that nothing is computed beyond what is asked for."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from preimage.errors import MethodError, WeightsError
from preimage.generate.prior import has_side_outputs, side_sizes
from preimage.generate.progan import ProGAN, ProGANConfig
from preimage.generate.side_outputs import SideOutputs, SideOutputsConfig, default_sides
from preimage.generate.stylegan2 import StyleGAN2Config
from preimage.nets.fingerprint import fingerprint
from preimage.weight_files import read_declaration, save_prior
from preimage.weights import load_prior, load_side_outputs

SIDES = (4, 8)


@pytest.fixture(params=["stylegan2", "stylegan", "progan"])
def prior(request, tiny_prior, tiny_stylegan):
    torch.manual_seed(3)
    progan = ProGAN(ProGANConfig(16, channel_base=64, channel_max=8, z_dim=8, alpha=0.7), "tiny").eval()
    found = {"stylegan2": tiny_prior, "stylegan": tiny_stylegan, "progan": progan.requires_grad_(False)}
    return copy.deepcopy(found[request.param])


def branches_of(prior, sides=SIDES) -> SideOutputs:
    torch.manual_seed(5)
    widths = tuple(prior.feature_widths[side] for side in sides)
    return SideOutputs(SideOutputsConfig(prior.resolution, sides, widths, (7, 5)), "branches")


def latents_of(prior):
    noise = prior.noise([0, 1]) if prior.noise_sizes else None
    return prior.latents([0, 1]), noise


# -------------------------------------------------------------------------------------------------------------- shapes


def test_the_published_shape():
    """Section III-F: three 1x1 convolutions of 128, 64 and 3 channels at 32 to 512 px of config F."""
    config, prior = SideOutputsConfig(), StyleGAN2Config(1024)
    assert config.sides == default_sides(1024) == (32, 64, 128, 256, 512)
    assert config.channels == tuple(prior.channels(side) for side in config.sides)
    branches = SideOutputs(config)
    layers = [branch[i] for branch in branches.children() for i in (0, 2, 4)]
    assert all(layer.kernel_size == (1, 1) and layer.stride == (1, 1) for layer in layers)
    assert [layer.out_channels for layer in layers] == [128, 64, 3] * 5
    wanted = sum(c * 128 + 128 + 128 * 64 + 64 + 64 * 3 + 3 for c in config.channels)
    assert sum(p.numel() for p in branches.parameters()) == wanted == 231_311


@pytest.mark.parametrize(("resolution", "sides"), [(64, (16, 32)), (128, (16, 32, 64)), (256, (32, 64, 128))])
def test_which_sides_get_a_branch(resolution, sides):
    assert default_sides(resolution) == sides


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sides": (32, 48, 64, 128, 256)}, "power of two"),
        ({"sides": (64, 32, 128, 256, 512)}, "must rise"),
        ({"sides": (64, 128, 256, 512, 1024)}, "stay below the resolution"),
        ({"sides": "all"}, "must be a list"),
        ({"channels": (512,)}, "one number for each side"),
        ({"channels": (512, 512, 256, 128, 0)}, r"channels\[4\] \(0\) must be a whole number"),
        ({"widths": (128,)}, "two"),
        ({"resolution": 1000}, "power of two"),
    ],
)
def test_shapes_that_cannot_be(change, message):
    with pytest.raises(WeightsError, match=message):
        SideOutputsConfig(**change)


# ------------------------------------------------------------------------------------------------------ what they draw


def test_branches_answer_for_the_sides_they_have(prior):
    latents, noise = latents_of(prior)
    own, branches = prior.own_sides, branches_of(prior)
    before = prior.side_outputs(latents, noise) if len(own) > 1 else {16: prior.synthesize(latents, noise)}
    whole, tensors = prior.synthesize(latents, noise), fingerprint(prior)
    assert prior.attach(branches) is prior
    found = prior.side_outputs(latents, noise)
    assert list(found) == [4, 8, 16] == list(prior.side_sizes)
    assert torch.equal(found[16], whole)
    maps, picture = prior.features(latents, noise, SIDES)
    assert torch.equal(picture, whole)
    for side in SIDES:
        assert found[side].shape == (2, 3, side, side)
        x = maps[side]  # oracle: three matrices, pixel by pixel
        for i in (0, 2, 4):
            layer = getattr(branches, f"b{side}")[i]
            x = torch.einsum("oc,nchw->nohw", layer.weight[:, :, 0, 0], x) + layer.bias[:, None, None]
            x = F.leaky_relu(x, 0.2) if i < 4 else x
        torch.testing.assert_close(found[side], (x + 1) / 2, rtol=1e-4, atol=1e-5)
    assert fingerprint(prior) == tensors  # they are no part of the prior
    prior.attach(None)
    after = prior.side_outputs(latents, noise) if len(own) > 1 else before
    assert all(torch.equal(after[side], before[side]) for side in before)


def test_nothing_is_computed_beyond_what_is_asked_for(prior):
    latents, noise = latents_of(prior)
    prior.attach(branches_of(prior))
    whole = prior.side_outputs(latents, noise)
    reached = []
    for name, module in prior.named_modules():
        if name in ("synthesis.b8.conv1", "synthesis.b8.layer1", "blocks.1"):
            module.register_forward_hook(lambda *_: reached.append(8))
        if name in ("synthesis.b16.conv0", "synthesis.b16.layer0", "blocks.2"):
            module.register_forward_hook(lambda *_: reached.append(16))
    for largest, sides in ((4, [4]), (7, [4]), (8, [4, 8]), (15, [4, 8]), (16, [4, 8, 16]), (99, [4, 8, 16])):
        reached.clear()
        found = prior.side_outputs(latents, noise, largest=largest)
        assert list(found) == sides
        assert reached == [side for side in (8, 16) if side <= largest]
        assert all(torch.allclose(found[side], whole[side], atol=1e-6) for side in sides)
    with pytest.raises(MethodError, match=r"largest \(3\) must be at least 4"):
        prior.side_outputs(latents, noise, largest=3)


def test_gradients_reach_the_latents_through_a_branch(prior):
    latents, noise = latents_of(prior)
    latents = latents.clone().requires_grad_()
    prior.attach(branches_of(prior)).side_outputs(latents, noise, largest=8)[8].square().mean().backward()
    reached = latents.grad.abs().amax((0, 2)) > 0
    assert reached.any()
    assert not reached[4:].any()  # the rows of the last block play no part


# ------------------------------------------------------------------------------------------------------------- who has them


def test_who_draws_smaller_pictures(prior):
    own = type(prior).__name__ == "StyleGAN2"
    assert has_side_outputs(prior) is own
    assert side_sizes(prior) == ((4, 8, 16) if own else ())
    latents, noise = latents_of(prior)
    if not own:
        with pytest.raises(MethodError, match=r"draws the whole picture only\. Attach branches"):
            prior.side_outputs(latents, noise)
    prior.attach(branches_of(prior, (8,)))
    assert has_side_outputs(prior)
    assert side_sizes(prior) == ((4, 8, 16) if own else (8, 16))


def test_priors_of_others_need_none(tiny_prior):
    class Silent:
        mean_latent, latent_shape = tiny_prior.mean_latent, tiny_prior.latent_shape

    class Speaking(Silent):
        def side_outputs(self, latents, noise=None, largest=None):
            return tiny_prior.side_outputs(latents, noise, largest)

    assert not has_side_outputs(Silent())
    assert side_sizes(Silent()) == ()
    assert has_side_outputs(Speaking())
    assert side_sizes(Speaking()) == (4, 8, 16)


def test_branches_of_another_shape_are_refused(prior):
    widths = tuple(prior.feature_widths[side] + 1 for side in SIDES)
    with pytest.raises(WeightsError, match="Take those that were trained for it"):
        prior.attach(SideOutputs(SideOutputsConfig(16, SIDES, widths, (7, 5))))
    widths = tuple(prior.feature_widths[side] for side in SIDES)
    with pytest.raises(WeightsError, match="this prior has 16 px"):
        prior.attach(SideOutputs(SideOutputsConfig(32, SIDES, widths, (7, 5))))


def test_they_follow_the_prior_to_another_precision(prior):
    prior.attach(branches_of(prior)).double()
    assert next(prior.branches.parameters()).dtype == torch.float64


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_file_is_bound_to_its_prior(prior, tmp_path):
    save_prior(tmp_path / "prior.safetensors", prior, {}, dtype=torch.float32)
    loaded = load_prior(tmp_path / "prior.safetensors")
    branches, path = branches_of(prior), tmp_path / "side-output.safetensors"
    save_prior(path, branches, {}, dtype=torch.float32, looked_through=("squeezenet",), bound_to=loaded)
    said = read_declaration(path)
    assert (said.kind, said.hr_size, said.looked_through) == ("side-output", 16, ("squeezenet",))
    again = load_side_outputs(path, loaded)
    assert again.config == branches.config
    latents, noise = latents_of(prior)
    found, wanted = (p.attach(b).side_outputs(latents, noise) for p, b in ((loaded, again), (prior, branches)))
    assert all(torch.allclose(found[side], wanted[side], atol=1e-5) for side in wanted)
    with torch.no_grad():
        next(prior.parameters()).add_(0.1)
    with pytest.raises(WeightsError, match="belongs to the prior tiny"):
        load_side_outputs(path, prior)
    with pytest.raises(WeightsError, match="which is not a side-output"):
        load_side_outputs(tmp_path / "prior.safetensors", loaded)
