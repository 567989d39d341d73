"""Training DeepSEE, tiny: every variant and discriminator, runs that go on, faces that stay paired with what belongs to them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preimage.declaration import declared
from preimage.errors import InputError, RecipeError
from preimage.invert.deepsee_answers import TIED, answer, downscaling, mask_of
from preimage.nets.deepsee import DeepSEEConfig, DeepSEENetwork
from preimage.semantics.labels import flip
from preimage.train import deepsee as training
from preimage.train.deepsee import describe, train
from preimage.train.deepsee_data import Companions, Faces, load_faces, paired, stream
from preimage.train.deepsee_networks import Judges, at_once, build_run, fit, settle
from preimage.train.deepsee_settings import (
    VARIANTS,
    Recipe,
    References,
    drawn_there,
    found_there,
    noise,
    shape_of,
    source,
    word,
)
from preimage.train.recipes import list_recipes, load_recipe, recipe_summary
from preimage.weight_files import read_metadata
from preimage.weights import load_upsampler

TINY = DeepSEEConfig(
    lr_size=4, resolution=16, widths=(8, 8, 6), hidden=4, style=6, encoder=2, pooling="region", soft=True, enlarged=True,
    project=True, noise=False, drawn=3, blocks=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("masks") / "masks.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.integers(0, 19, (12, 4, 4), dtype=np.uint8).repeat(4, 1).repeat(4, 2))
    return path


@pytest.fixture
def recipe(tmp_path, faces, masks) -> Recipe:
    return Recipe(
        out=str(tmp_path / "run"), data=[str(faces)], masks=[str(masks)], hold=3, generator=TINY, images=16, batch=4, lr_g=1e-3,
        lr_d=1e-3, snapshot=8, log=8, feature_size=32, width=4, pixel_width=4, patch_width=2, discriminator="both", pixels=1.0,
        consistency=1.0, outside=1.0, name="tiny",
    )  # fmt: skip


def lines(recipe: Recipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(recipe.out) / "stats.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_table_2(variant, recipe):
    recipe = replace(recipe, variant=variant, images=8)
    model = load_upsampler(train(recipe))
    assert isinstance(model, DeepSEENetwork)
    v, c = VARIANTS[variant], model.config
    assert (c.regions > 1, c.style > 0, c.drawn > 0) == (v.semantics, v.styled, v.styled and v.semantics)
    (line,) = lines(recipe)
    assert {"loss_d", "gan", "matching", "projected", "perceptual", "l1", "missed"} <= line.keys()
    assert all(np.isfinite(value) for value in line.values())
    said = declared(model)
    assert said is not None
    assert (said.degradations, said.looked_through, said.lr_size, said.hr_size) == (
        ("bicubic",), ("efficientnet-lite0",), 4, 16,
    )  # fmt: skip
    about = read_metadata(Path(recipe.out) / "deepsee.safetensors")["trained"]
    assert "/" not in json.dumps(about)
    operator, photo = downscaling(16, 4), torch.rand(2, 3, 4, 4)
    mask = mask_of(model, torch.zeros(2, 16, 16, dtype=torch.long))
    made, _ = answer(model, operator, photo, mask, model.encode(photo, mask, False))
    assert (operator(made) - photo).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["patch", "projected"])
def test_one_discriminator_alone(kind, recipe):
    train(replace(recipe, discriminator=kind, images=8, generator=replace(TINY, enlarged=False, project=False)))
    (line,) = lines(recipe)
    assert ("gan" in line, "projected" in line) == (kind == "patch", kind == "projected")


def test_a_run_goes_on_where_it_stopped(recipe):
    whole = replace(recipe, out=recipe.out + "-whole")
    train(whole)
    train(recipe, stop_after=0.0)
    assert [line["images"] for line in lines(recipe)] == [8]
    train(recipe)
    for key in ("images", "l1", "perceptual", "loss_d"):
        assert [line[key] for line in lines(whole)] == pytest.approx([line[key] for line in lines(recipe)], rel=1e-2)
    assert sorted(p.stem for p in (Path(recipe.out) / "grids").iterdir()) == ["000000008", "000000016"]


def test_it_learns(recipe):
    """Of faces that it sees again and again, without the discriminators' word."""
    late = (10_000, 10_000)
    train(replace(recipe, images=192, batch=8, log=64, snapshot=192, lr_g=3e-3, pixels=10.0, adversary_start=late))
    first, _, last = lines(recipe)
    assert last["perceptual"] < first["perceptual"]
    assert not {"loss_d", "gan", "projected"} & last.keys()


def test_steps_that_answer_twice(recipe):
    """Both answers shrink to the photo, seeds are held apart as far as faces are, and a run with them goes on where it stopped."""
    drawn = replace(recipe, variant="guided", drawn_share=1.0, small_share=0.5, images=40, snapshot=4, log=4)
    whole = replace(drawn, out=recipe.out + "-whole")
    train(whole)
    there = [drawn_there(drawn, i) for i in range(0, 40, 4)]
    assert there == [source(drawn, i) == "own-small" for i in range(0, 40, 4)]
    assert 0 < sum(there) < 10
    for line, twice in zip(lines(whole), there, strict=True):
        assert ("ratio_features" in line, "matching" in line) == (twice, not twice)
        assert all(np.isfinite(value) for value in line.values())
    train(drawn, stop_after=0.0)
    train(drawn)
    assert [line.get("far", line.get("l1")) for line in lines(drawn)] == pytest.approx(
        [line.get("far", line.get("l1")) for line in lines(whole)], rel=2e-2
    )
    halves = [drawn_there(replace(drawn, drawn_share=0.5, small_share=1.0), i) for i in range(400)]
    assert sum(halves) == pytest.approx(200, abs=40)
    for other in ({"variant": "semantics-only"}, {"generator": replace(TINY, drawn=0)}, {"drawn_share": 0.0}):
        assert not any(drawn_there(replace(drawn, **other), i) for i in range(40))


def test_the_energy_score_opens_the_seeds(recipe):
    """Answers whose distance counts more than that to the truth move apart; where it counts nothing, they do not."""
    late = (10_000, 10_000)
    apart = []
    for spread in (0.0, 3.0):
        run = replace(
            recipe, out=f"{recipe.out}-{spread}", drawn_share=1.0, small_share=1.0, spread=spread, images=240, batch=8, log=80,
            snapshot=240, lr_g=3e-3, pixels=10.0, adversary_start=late,
        )  # fmt: skip
        train(run)
        apart.append(lines(run)[-1]["ratio_features"])
    assert apart[1] > 1.3 * apart[0]


# ------------------------------------------------------------------------------------------------------ what is shown


def test_faces_and_labels_are_mirrored_together(recipe):
    found = load_faces(recipe, None)
    assert (found.pictures.shape, found.labels.shape, len(found)) == ((12, 16, 16, 3), (12, 16, 16), 12)
    plain, labels = paired(found, [(5, False)])
    turned, swapped = paired(found, [(5, True)])
    assert torch.equal(turned, plain.flip(-1))
    assert torch.equal(swapped, flip(labels))
    assert plain.max() <= 1


def test_references_are_of_the_same_person():
    persons = ("a", "b", "a", "", "b", "a")
    same = Companions(persons, 1.0, 0.0)
    for position in range(40):
        for i, name in enumerate(persons):
            other = same(i, position)
            assert other == i if not name else persons[other] == name and other != i
    assert {Companions(persons, 0.0, 0.0)(2, p) for p in range(20)} == {2}
    assert {Companions(persons, 0.0, 1.0)(3, p) for p in range(80)} == set(range(6))
    mixed = Companions(persons, 0.5, 0.25)
    itself = sum(mixed(0, p) == 0 for p in range(4_000)) / 4_000
    assert itself == pytest.approx(0.25 + 0.25 / 6, abs=0.03)
    assert [mixed(0, p) for p in range(20)] == [Companions(persons, 0.5, 0.25)(0, p) for p in range(20)]


def test_a_stream_goes_on_and_keeps_pairs():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    labels = np.arange(8, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    # what a picture shows is written into its labels; the first four are of one person
    found = Faces(pictures, labels, ("a",) * 4 + ("b",) * 4)
    shown = stream(found, 4, Companions(found.persons, 1.0, 0.0), seed=1)
    batches = [next(shown) for _ in range(4)]
    for batch in batches:
        numbers = [{4: 5, 5: 4, 6: 7, 7: 6}.get(int(x), int(x)) for x in batch.labels[:, 0, 0]]
        for k, n in enumerate(numbers):
            seen = [torch.from_numpy(pictures[m]).permute(2, 0, 1) / 255 for m in {n, int(batch.labels[k, 0, 0])}]
            assert any(torch.equal(batch.truth[k], x) or torch.equal(batch.truth[k], x.flip(-1)) for x in seen)
            assert (int(batch.reference_labels[k, 0, 0]) < 4) == (n < 4)
    later = next(stream(found, 4, Companions(found.persons, 1.0, 0.0), seed=1, start=8))
    assert torch.equal(later.truth, batches[2].truth)
    assert torch.equal(later.reference, batches[2].reference)


def test_maps_as_pictures(recipe, faces, tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(np.full((32, 32), i, dtype=np.uint8)).save(folder / f"{i}.png")
    found = load_faces(replace(recipe, masks=[str(folder)]), None)
    order = sorted(p.name for p in Path(faces).iterdir())
    assert [int(m[0, 0]) for m in found.labels] == [int(Path(name).stem) for name in order]
    (folder / "3.png").unlink()
    with pytest.raises(InputError, match="3 is in one of them only"):
        load_faces(replace(recipe, masks=[str(folder)]), None)


def test_maps_that_do_not_belong(recipe, tmp_path):
    np.save(tmp_path / "short.npy", np.zeros((5, 16, 16), dtype=np.uint8))
    np.save(tmp_path / "wrong.npy", np.zeros((12, 16, 16)))
    with pytest.raises(RecipeError, match="5 maps for 12 pictures"):
        load_faces(replace(recipe, masks=[str(tmp_path / "short.npy")]), None)
    with pytest.raises(InputError, match="must hold uint8"):
        load_faces(replace(recipe, masks=[str(tmp_path / "wrong.npy")]), None)
    with pytest.raises(InputError, match="no readable array"):
        load_faces(replace(recipe, masks=[str(tmp_path / "none.npy")]), None)
    with pytest.raises(RecipeError, match="name the maps"):
        load_faces(replace(recipe, masks=[]), None)


def test_maps_that_a_network_finds(recipe):
    class Skin(torch.nn.Linear):
        def __init__(self):
            super().__init__(1, 1)

        def forward(self, x):
            return torch.nn.functional.one_hot(torch.full(x[:, 0].shape, 1), 19).permute(0, 3, 1, 2).float()

    found = load_faces(replace(recipe, masks=[]), Skin())
    assert set(np.unique(found.labels)) == {1}
    assert np.array_equal(load_faces(replace(recipe, masks=[]), Skin()).labels, found.labels)


def test_regions_found_in_small_photos_are_told_in_their_share_of_the_steps(recipe):
    class Bright(torch.nn.Linear):
        """Skin where a picture of the wanted side is bright: tells what it saw."""

        def __init__(self):
            super().__init__(1, 1)
            self.sides = set()

        def forward(self, x):
            self.sides.add(x.shape[-1])
            return torch.nn.functional.one_hot((x[:, 0] > 0.5).long(), 19).permute(0, 3, 1, 2).float()

    network = Bright()
    shares = replace(recipe, found_share=0.5)
    seen = load_faces(shares, network)
    assert network.sides == {4}  # the maps of the sharp faces are given
    assert seen.found is not None
    assert seen.found.shape == seen.labels.shape
    assert load_faces(recipe, network).found is None
    some = seen.only(np.arange(12) < 5)
    assert np.array_equal(some.found, seen.found[:5])
    batch = next(stream(seen, 4, Companions(seen.persons, 0, 0), seed=1))
    small = downscaling(16, 4)(batch.truth).mul(255).round().div(255)
    expected = torch.nn.functional.interpolate((small[:, :1] > 0.5).float(), (16, 16), mode="nearest")[:, 0]
    assert (
        float((batch.found == expected).float().mean()) > 0.8
    )  # but for the borders, whose scores are enlarged smoothly
    told = [found_there(shares, i) for i in range(400)]
    assert sum(told) == pytest.approx(200, abs=40)
    assert not any(found_there(recipe, i) for i in range(400))


# ------------------------------------------------------------------------------------------------------------ settings


def test_sources_of_styles(recipe):
    shares = {name: [source(replace(recipe, variant=name), i) for i in range(400)] for name in VARIANTS}
    assert set(shares["prior-only"]) == set(shares["semantics-only"]) == {"none"}
    assert set(shares["lr-style-only"]) == {"reference-small"}
    assert set(shares["hr-style-only"]) == {"reference-sharp"}
    assert set(shares["independent"]) == {"own-small", "own-sharp"}
    assert set(shares["guided"]) == {"own-small", "reference-sharp"}
    assert shares["independent"].count("own-small") / 400 == pytest.approx(0.5, abs=0.08)
    assert sum(noise(recipe, i) > 0 for i in range(400)) / 400 == pytest.approx(0.5, abs=0.08)
    assert {noise(replace(recipe, noise=0.05, noise_share=1.0), i) for i in range(9)} == {0.05}


def test_the_shape_follows_the_variant(recipe):
    shapes = {name: shape_of(replace(recipe, variant=name)) for name in VARIANTS}
    assert {name: (c.regions, c.style, c.small_styles, c.sharp_styles) for name, c in shapes.items()} == {
        "prior-only": (1, 0, False, False), "lr-style-only": (1, 6, True, False), "hr-style-only": (1, 6, False, True),
        "semantics-only": (19, 0, False, False), "independent": (19, 6, True, True), "guided": (19, 6, True, True),
    }  # fmt: skip
    assert not shape_of(replace(recipe, variant="guided", small_share=0.0)).small_styles


def test_the_word_rises(recipe):
    rising = replace(recipe, adversary_start=(100, 300))
    assert [word(rising, i) for i in (0, 100, 200, 300, 400)] == [0, 0, 0.5, 1, 1]
    assert word(recipe, 0) == 1


def test_the_small_branch_learns_slowly(recipe):
    g, _, opt_g, _ = build_run(recipe)
    slow = {id(p) for p in g.encoder.small.parameters()}
    groups = {group["share"]: {id(p) for p in group["params"]} for group in opt_g.param_groups}
    assert groups[0.25] == slow
    assert len(groups[1.0]) + len(slow) == len(list(g.parameters()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "other"}, "variant: 'other'"),
        ({"discriminator": "none"}, "discriminator: 'none'"),
        ({"references": References(0.8, 0.3)}, "must not exceed 1"),
        ({"perceptual_weights": (1.0,)}, r"perceptual_weights \(\[1.0\]\) must list"),
        ({"masks": ["a", "b"]}, r"masks \(2\) must name one"),
        ({"adversary_start": (9, 3)}, "must not run backwards"),
        ({"log": 6}, "must be multiples of batch"),
        ({"noise_share": 2.0}, "noise_share"),
    ],
)
def test_settings_that_cannot_work(recipe, change, message):
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **change)


def test_a_start_of_another_shape(recipe, tmp_path):
    path = train(replace(recipe, images=4, log=4))
    again = replace(recipe, init=str(path), out=str(tmp_path / "again"), images=4, log=4, lr_g=0.0)
    assert torch.equal(load_upsampler(train(again)).generator.out.weight, load_upsampler(path).generator.out.weight)
    with pytest.raises(RecipeError, match=r"init: .* make them equal"):
        build_run(replace(again, generator=replace(TINY, hidden=5)))


# ---------------------------------------------------------------------------------------------------- what is measured


def test_statistics_of_the_average_are_those_of_faces(recipe):
    """Counted over one batch of all faces, answers of evaluation equal those of training on that batch."""
    torch.manual_seed(0)
    g = DeepSEENetwork(shape_of(recipe)).eval()
    found = load_faces(recipe, None)
    settle(g, found, recipe, count=12, batch=12)
    truth, labels = paired(found, [(i, False) for i in range(12)])
    operator = downscaling(16, 4)
    photo, mask = (operator(truth) * 255).round() / 255, mask_of(g, labels)
    norm = g.generator.head.norm0.norm
    with torch.no_grad():
        x = g.generator.stem(photo * 2 - 1)
    assert torch.allclose(norm.running_mean, x.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, x.var((0, 2, 3)), rtol=1e-3)
    assert (norm.momentum, norm.training, g.training) == (0.1, False, False)
    more = g.encode(truth, mask, True) - g.encode(photo, mask, False)
    there = (labels == 2).flatten(1).any(1)
    assert torch.allclose(g.style_mean[2], more[there, 2].mean(0), atol=1e-5)


def test_large_pictures_are_looked_at_few_at_a_time(recipe):
    """A candidate of 512 px takes 5 GiB (docs/deepsee.md), so that a grid of eight or statistics over sixteen go in parts."""
    wanted = {"deepsee-16to128": 16, "deepsee-32to256": 4, "deepsee-16to512": 2}
    assert {name: at_once(load_recipe(name)[1]) for name in wanted} == wanted
    g, found = DeepSEENetwork(shape_of(recipe)).eval(), load_faces(recipe, None)
    whole, seen = training.grid(g, found), []
    g.generator.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert torch.allclose(training.grid(g, found, 3), whole, atol=1e-5)
    assert max(seen) == 3
    settle(g, found, recipe)
    assert len(whole) == 7 * training.SHOWN
    assert len(training.grid(g, found.only(np.arange(12) < 2))) == 7 * 2  # no face twice


def test_the_gaussian_of_styles():
    """Two causes that all regions share are found again, and what regions have to do with one another with them."""
    g = DeepSEENetwork(replace(TINY, style=6, drawn=4))
    rng = torch.Generator().manual_seed(0)
    causes, mix = torch.randn(800, 2, generator=rng), torch.randn(2, 19 * 6, generator=rng) * 0.1
    more = (causes @ mix).view(800, 19, 6) + 0.2
    seldom = torch.rand(800, generator=rng) < 0.5
    whole = more.clone()
    more[:, 3] = float("nan")
    more[seldom, 14] = float("nan")
    more[3:, 15] = float("nan")  # too few to say anything
    fit(g, more)
    assert torch.isfinite(g.style_root).all()
    for a, b in ((1, 1), (1, 2), (14, 14)):
        expected = torch.cov(torch.cat([whole[:, a], whole[:, b]], 1).t())[:6, 6:]
        assert torch.allclose(g.style_root[a].t() @ g.style_root[b], expected, atol=0.15 * float(expected.abs().max()))
    assert torch.allclose(g.style_mean[[1, 14]].mean(1), torch.full((2,), 0.2), atol=0.03)
    assert not g.style_root[[3, 15]].any()
    assert not g.style_mean[[3, 15]].any()
    for left, right in TIED:
        ways = torch.nn.functional.cosine_similarity(g.style_root[left].flatten(), g.style_root[right].flatten(), dim=0)
        assert ways == pytest.approx(1, abs=1e-5)


def test_judges_share_their_features(recipe):
    d = Judges(replace(recipe, discriminator="patch"), 19)
    assert not any(p.requires_grad for p in d.projected.parameters())
    assert all(p.requires_grad for p in d.patch.parameters())


# --------------------------------------------------------------------------------------------------- shipped recipes


def test_shipped_recipes():
    mine = [name for name in list_recipes() if recipe_summary(name)[0] == "deepsee"]
    assert sorted(mine) == ["deepsee-16to128", "deepsee-16to128-paper", "deepsee-16to512", "deepsee-32to256"]
    for name in mine:
        _, recipe = load_recipe(name)
        assert "generator: " in describe(recipe)
        shape = shape_of(recipe)
        assert name.startswith(f"deepsee-{shape.lr_size}to{shape.resolution}")
        if name != "deepsee-16to128":
            assert set(shape.widths) == {512}
            assert (recipe.matching, recipe.perceptual, recipe.discriminator) == (10, 10, "patch")
            assert (recipe.lr_g, recipe.lr_d, recipe.betas, recipe.small_rate) == (1e-4, 4e-4, (0.0, 0.9), 0.25)


@pytest.mark.parametrize("name", ["deepsee-16to128", "deepsee-16to128-paper", "deepsee-16to512", "deepsee-32to256"])
def test_shipped_recipes_take_a_step(name, tmp_path, faces, masks, monkeypatch):
    """At a tiny width and at their own sizes; they start from nothing that is not shipped."""
    monkeypatch.setattr(training, "SHOWN", 1)
    _, recipe = load_recipe(name)
    c = recipe.generator
    narrow = replace(c, widths=(2,) * len(c.widths), hidden=2, style=2, encoder=1, drawn=min(c.drawn, 2))
    small = replace(
        recipe, data=[str(faces)], masks=[str(masks)], hold=6, out=str(tmp_path / "run"), batch=1, images=1, snapshot=1, log=1,
        generator=narrow, features="efficientnet-lite0", feature_weights="", feature_size=32, perceptual_weights=(),
        adversary_start=(0, 0), patch_width=2, width=4, pixel_width=4,
    )  # fmt: skip
    model = load_upsampler(train(small))
    assert (model.config.lr_size, model.resolution) == (c.lr_size, c.resolution)
    (line,) = lines(small)
    assert all(np.isfinite(value) for value in line.values())
