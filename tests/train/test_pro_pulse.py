"""Training Pro-PULSE's encoders, tiny: equations 5 to 9, phases, ablations, what a run leaves behind, and that it goes on."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from preimage.declaration import declared
from preimage.degrade.linear import bicubic
from preimage.errors import RecipeError
from preimage.invert.pro_pulse import ProPulse
from preimage.nets.features import EfficientNetLite0
from preimage.nets.pro_pulse import ProPulseConfig, ProPulseEncoder
from preimage.train.pro_pulse import identity, outputs, reconstruction, train
from preimage.train.pro_pulse_networks import build_run, check_prior, describe, let_learn
from preimage.train.pro_pulse_settings import Critic, Recipe, looked_through, stage_of
from preimage.train.recipes import list_recipes, load_recipe, recipe_summary
from preimage.weight_files import bound, read_declaration, read_metadata, save_prior
from preimage.weights import load_encoder, load_prior

SHAPE = ProPulseConfig(
    lr_size=4, hr_size=16, rows=(4, 6), w_dim=16, width=4, head_width=8, groups=1, blocks=1, reduction=4
)
MINE = ["pro-pulse-16to128", "pro-pulse-16to64", "pro-pulse-32to128", "pro-pulse-ffhq1024"]


@pytest.fixture(scope="module")
def prior(tmp_path_factory, tiny_prior) -> Path:
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save_prior(path, tiny_prior, {})
    return path


@pytest.fixture
def recipe(tmp_path, faces, prior) -> Recipe:
    return Recipe(
        out=str(tmp_path / "run"), data=[str(faces)], prior=str(prior), hold=3, encoder=SHAPE, identity=0.0, adversary=0.0,
        base_images=8, stage_images=8, images=24, batch=4, lr=1e-3, ema=0.5, snapshot=16, log=4, name="tiny",
        critic=Critic(channel_base=64, channel_max=8, group=2),
    )  # fmt: skip


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


def test_what_a_run_leaves_behind(recipe, prior):
    recipe = replace(recipe, adversary=0.1)
    path = train(recipe)
    assert path == Path(recipe.out) / "encoder.safetensors"
    found = lines(recipe)
    assert [line["images"] for line in found] == [4, 8, 12, 16, 20, 24]
    assert [line["stage"] for line in found] == [0, 0, 1, 1, 2, 2]
    keys = {"rec", "gan", "loss_d", "penalty", "loss", "offset", "psnr_held"}
    assert all(keys <= set(line) and all(np.isfinite(v) for v in line.values()) for line in found)
    assert sorted(p.stem for p in (Path(recipe.out) / "grids").iterdir()) == [f"{n:09d}" for n in (16, 24)]
    about = read_metadata(path)
    assert about["trained"]["images_seen"] == 24
    assert "/" not in json.dumps(about["trained"])  # nobody's folders
    encoder = load_encoder(path)
    assert isinstance(encoder, ProPulseEncoder)
    assert (int(encoder.stage), encoder.config) == (2, SHAPE)
    declaration = declared(encoder)
    assert declaration is not None
    assert (declaration.kind, declaration.lr_size, declaration.hr_size) == ("encoder", 4, 16)
    assert (declaration.degradations, declaration.looked_through) == (("bicubic",), ())
    assert declaration.bound_to == bound(load_prior(prior))


def test_interrupted_after_every_line(recipe):
    recipe = replace(recipe, adversary=0.1)
    whole = replace(recipe, out=recipe.out + "-whole")
    train(whole)
    for images in (4, 8, 12, 16, 20):
        train(recipe, stop_after=0.0)
        assert lines(recipe)[-1]["images"] == images
    resumed, expected = (load_file(train(r)) for r in (recipe, whole))
    assert all(torch.allclose(expected[k].float(), resumed[k].float(), atol=2e-3, rtol=2e-3) for k in expected)
    for key in ("rec", "loss_d", "psnr_held"):
        assert [line[key] for line in lines(whole)] == pytest.approx([line[key] for line in lines(recipe)], rel=1e-3)


def test_it_learns(recipe):
    recipe = replace(recipe, images=600, base_images=300, stage_images=150, log=300, snapshot=600, lr=3e-3, ema=0.9)
    train(recipe)
    first, last = lines(recipe)
    assert last["rec"] < first["rec"]
    assert last["psnr_held"] > first["psnr_held"] > 5


# --------------------------------------------------------------------------------------------------------- the losses


def test_the_loss_is_the_sum(recipe):
    recipe = replace(recipe, adversary=0.3, rec=0.7, pull=0.2, images=4)
    train(recipe)
    (line,) = lines(recipe)
    wanted = 0.7 * line["rec"] + 0.3 * line["gan"] + 0.2 * line["offset"] ** 2
    assert line["loss"] == pytest.approx(wanted, abs=1e-4)


def test_reconstruction_by_hand():
    """Equation 6: every side counts alike, sides below the photo's do not."""
    torch.manual_seed(0)
    photos, operators = torch.rand(2, 3, 4, 4), {8: bicubic(8, lr_size=4), 16: bicubic(16, lr_size=4)}
    found = {side: torch.rand(2, 3, side, side) for side in (2, 4, 8, 16)}
    misses = [found[4] - photos, operators[8](found[8]) - photos, operators[16](found[16]) - photos]
    for norm, apart in (
        ("l2", lambda x: x.flatten(1).norm(dim=1).mean()),
        ("rms", lambda x: x.flatten(1).square().mean(1).sqrt().mean()),
        ("mse", lambda x: x.square().mean()),
    ):
        wanted = torch.stack([apart(x) for x in misses]).mean()
        torch.testing.assert_close(reconstruction(found, photos, operators, norm), wanted)


def test_identity_is_zero_for_the_same_face_and_has_a_slope():
    network = EfficientNetLite0().eval().requires_grad_(False)
    faces = torch.rand(2, 3, 32, 32)
    assert float(identity(network, faces, faces)) == pytest.approx(0, abs=1e-5)
    other = torch.rand(2, 3, 32, 32, requires_grad=True)
    value = identity(network, other, faces)
    assert 0 < float(value.detach()) < 2
    value.backward()
    assert float(other.grad.abs().sum()) > 0


def test_which_pictures_are_held_against_the_photo(tiny_prior):
    latents, noise = tiny_prior.latents([0, 1]), tiny_prior.noise([0, 1])
    assert list(outputs(tiny_prior, latents, noise, sides=True)) == [4, 8, 16]
    assert list(outputs(tiny_prior, latents, noise, sides=True, largest=8)) == [4, 8]
    assert list(outputs(tiny_prior, latents, noise, sides=False)) == [16]


def test_until_so_many_pictures_only_small_sides_are_made(recipe):
    recipe = replace(recipe, adversary=0.1, largest=8, largest_images=8, images=12)
    train(recipe)
    assert ["gan" in line for line in lines(recipe)] == [False, False, True]


@pytest.mark.parametrize(
    ("critic", "seen"),
    [
        (Critic(control="gp", channel_base=64, channel_max=8, group=2), ()),
        (
            Critic(
                kind="projected", loss="hinge", control="none", feature_size=32, width=4, pixel_width=4, channel_base=16
            ),
            ("efficientnet-lite0",),
        ),
    ],
)
def test_other_critics(recipe, critic, seen):
    recipe = replace(recipe, adversary=0.1, critic=critic, images=4)
    assert read_declaration(train(recipe)).looked_through == seen
    (line,) = lines(recipe)
    assert ("penalty" in line) == (critic.control == "gp")


# ------------------------------------------------------------------------------------------------ phases and ablations


def test_stages_follow_the_pictures(recipe):
    assert [stage_of(recipe, n) for n in (0, 7, 8, 15, 16, 1000)] == [0, 0, 1, 1, 2, 2]
    assert stage_of(replace(recipe, progressive=False), 0) == stage_of(replace(recipe, end_to_end=True), 0) == 2
    alone = replace(recipe, encoder=replace(SHAPE, base=False))
    assert [stage_of(alone, n) for n in (0, 7, 8)] == [1, 1, 2]
    assert stage_of(replace(recipe, encoder=replace(SHAPE, scales=False)), 1000) == 0


def test_who_learns_when(recipe):
    for earlier, wanted in (("joint", {1: {0}, 2: {0, 1}}), ("frozen", {1: {0}, 2: {1}})):
        chosen = replace(recipe, earlier=earlier)
        encoder = ProPulseEncoder(SHAPE)
        for stage in (0, 1, 2):
            let_learn(chosen, encoder, stage)
            assert int(encoder.stage) == stage
            assert all(p.requires_grad == (stage == 0) for p in encoder.base.parameters())
            parts = [all(p.requires_grad for p in part.parameters()) for part in encoder.scales.stages]
            assert {i for i, learns in enumerate(parts) if learns} == wanted.get(stage, set())


def test_the_base_encoder_stays_as_it_was_while_the_other_learns(recipe):
    run = replace(recipe, ema=0.0)
    first = load_file(train(run, stop_after=0.0))  # after 4 pictures
    train(replace(run, images=8))
    before = load_file(Path(run.out) / "encoder.safetensors")
    after = load_file(train(run))
    base = [key for key in after if key.startswith("base.")]
    assert any(not torch.equal(first[key], before[key]) for key in base)
    assert all(torch.equal(before[key], after[key]) for key in base)
    assert any(not torch.equal(before[key], after[key]) for key in after if key.startswith("scales."))


ABLATIONS = {
    "direct W": {"encoder": replace(SHAPE, scales=False)},
    "direct W+": {"encoder": replace(SHAPE, base=False), "progressive": False},
    "end to end": {"end_to_end": True},
    "without the base encoder": {"encoder": replace(SHAPE, base=False)},
    "without side outputs": {"sides": False},
    "without rec": {"rec": 0.0},
    "rec alone": {"adversary": 0.0},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_table_2(name, recipe):
    recipe = replace(recipe, **{"adversary": 0.1, "images": 8} | ABLATIONS[name])
    path = train(recipe)
    (*_, line) = lines(recipe)
    assert ("rec" in line, "gan" in line) == (recipe.rec > 0, recipe.adversary > 0)
    assert all(np.isfinite(value) for value in line.values())
    prior = Path(recipe.out) / "prior.safetensors"
    assert prior.is_file() == recipe.end_to_end
    if recipe.end_to_end:  # the prior moved, and the encoder belongs to what it has become
        assert not torch.equal(
            load_prior(prior).synthesis.b16.conv1.weight, load_prior(recipe.prior).synthesis.b16.conv1.weight
        )
        ProPulse(prior=str(prior), weights=str(path), device="cpu")


def test_half_precision(recipe):
    recipe = replace(recipe, adversary=0.1, precision="bf16", images=4, base_images=0)
    full = replace(recipe, precision="fp32", out=recipe.out + "-full")
    train(recipe), train(full)
    assert lines(recipe)[0]["rec"] == pytest.approx(lines(full)[0]["rec"], rel=0.05)


def test_a_run_that_begins_at_an_encoder(recipe, tmp_path, tiny_prior):
    """As where small side outputs taught first, and all losses on the whole picture follow."""
    first = load_encoder(train(recipe))
    again = replace(
        recipe, init=str(Path(recipe.out) / "encoder.safetensors"), out=str(tmp_path / "again"), lr=0.0, base_images=0,
        stage_images=0, images=4,
    )  # fmt: skip
    photos = torch.rand(3, 3, 4, 4)
    second = load_encoder(train(again))
    with torch.no_grad():
        assert torch.equal(second(photos), first(photos))
    assert "/" not in json.dumps(read_metadata(tmp_path / "again" / "encoder.safetensors")["trained"])
    with pytest.raises(RecipeError, match=r"init: .* make them equal"):
        train(replace(again, encoder=replace(SHAPE, width=8), out=str(tmp_path / "wider")))
    other = copy.deepcopy(tiny_prior)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    save_prior(tmp_path / "other.safetensors", other, {})
    with pytest.raises(RecipeError, match=r"init: .* belongs to the prior tiny"):
        train(replace(again, prior=str(tmp_path / "other.safetensors"), out=str(tmp_path / "other")))


def test_what_it_looked_through(recipe):
    shown = replace(recipe, identity=1.0, adversary=0.1, critic=replace(recipe.critic, kind="projected"))
    assert looked_through(shown, 1) == ("mobilefacenet", "efficientnet-lite0")
    assert looked_through(recipe, 1) == ()
    assert looked_through(replace(shown, largest=16, largest_images=8), 8) == ()  # neither has had its turn


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rec": 0.0}, "nothing to learn from"),
        ({"norm": "l1"}, "norm: 'l1'"),
        ({"earlier": "never"}, "earlier: 'never'"),
        ({"degradation": "kernel"}, "degradation: 'kernel'"),
        ({"identity_network": "arcface"}, "identity_network: 'arcface'"),
        ({"critic": Critic(control="clip")}, r"critic\.control: 'clip'"),
        ({"encoder": replace(SHAPE, lr_size=16)}, r"lr_size \(16\) must be below hr_size \(16\)"),
        ({"largest": 2, "largest_images": 8}, r"largest \(2\) must lie between"),
        ({"pull": -1.0}, r"pull \(-1\.0\)"),
    ],
)
def test_settings_that_cannot_work(recipe, change, message):
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **change)


def test_another_prior(recipe, tiny_prior):
    for shape, message in (
        (replace(SHAPE, w_dim=8), "but tiny has 16, 6 and 16; make them equal"),
        (replace(SHAPE, rows=(3, 6)), r"encoder.rows: 3; the resolutions of tiny end at \[2, 4, 6\]"),
    ):
        with pytest.raises(RecipeError, match=message):
            check_prior(replace(recipe, encoder=shape), tiny_prior)


class OwnPrior(nn.Module):
    """A user's own: a linear decoder of z, without W, noise, side outputs, or a file that could hold it."""

    name, resolution, latent_shape, spaces, noise_sizes = "mine", 16, (1, 8), ("Z",), ()

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(8, 3 * 256, generator=torch.Generator().manual_seed(0)) * 0.05
        self.register_buffer("weight", weight)
        self.register_buffer("mean_latent", torch.ones(8))
        self.gaussian_fit = torch.ones(8), torch.full((8,), 2.0)

    def synthesize(self, latents, noise=None):
        return (0.5 + latents[:, 0] @ self.weight).view(-1, 3, 16, 16)

    def sample(self, seeds, truncation=1.0):
        raise NotImplementedError


def test_a_prior_of_ones_own(recipe, monkeypatch):
    shape = replace(SHAPE, rows=(1,), w_dim=8)
    recipe = replace(recipe, encoder=shape, prior="mine:OwnPrior")
    monkeypatch.setattr("preimage.train.pro_pulse.load_prior", lambda name, device: OwnPrior())
    encoder = load_encoder(train(recipe))
    assert torch.equal(encoder.spread, torch.full((8,), 2.0))
    assert int(encoder.stage) == 1
    for change, message in (
        ({"encoder": replace(shape, space="u")}, "u lies behind W, and mine has none"),
        ({"end_to_end": True}, "a class of your own"),
    ):
        with pytest.raises(RecipeError, match=message):
            check_prior(replace(recipe, **change), OwnPrior())


# --------------------------------------------------------------------------------------------------- shipped recipes


def test_the_papers_recipe():
    _, recipe = load_recipe("pro-pulse-ffhq1024")
    assert recipe.encoder == ProPulseConfig()
    assert (recipe.rec, recipe.identity, recipe.adversary, recipe.pull, recipe.lr) == (1, 1, 0.01, 0, 1e-4)
    assert (recipe.base_images, recipe.stage_images) == (50_000 * recipe.batch, 10_000 * recipe.batch)
    assert recipe.images == recipe.base_images + 6 * recipe.stage_images
    assert "critic: 29," in describe(recipe)


def test_the_recipes_are_all_tried():
    assert sorted(name for name in list_recipes() if recipe_summary(name)[0] == "pro-pulse") == MINE


@pytest.mark.parametrize("name", MINE)
def test_shipped_recipes_take_a_step(name, tmp_path, faces, prior):
    """With the encoders' own widths, before a prior of 16 px and 6 codes."""
    _, recipe = load_recipe(name)
    shape = replace(recipe.encoder, lr_size=8, hr_size=16, rows=(4, 6), w_dim=16)
    small = replace(
        recipe, data=[str(faces)], hold=2, out=str(tmp_path / "run"), prior=str(prior), encoder=shape, batch=2, images=2,
        identity_network="efficientnet-lite0", identity_weights="", largest_images=0, base_images=0,
        critic=replace(recipe.critic, channel_base=512, channel_max=32),
    )  # fmt: skip
    encoder = load_encoder(train(small))
    assert int(encoder.stage) == 1
    (line,) = lines(small)
    assert {"rec", "identity", "gan"} <= line.keys()
    assert all(np.isfinite(value) for value in line.values())


def test_the_published_size_can_be_built(tmp_path):
    with torch.device("meta"):
        g, d, *_ = build_run(Recipe(out=str(tmp_path), data=[], prior=""))
    assert g.config == ProPulseConfig()
    assert d is not None
