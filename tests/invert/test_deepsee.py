"""deepsee: what seeds, maps, references and handles do to its answers, all of them exact; with tiny random networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import preimage
from preimage.cli import main
from preimage.degrade.linear import area, bicubic
from preimage.errors import InputError, MethodError, WeightsError
from preimage.invert.deepsee import DeepSEE
from preimage.invert.deepsee_answers import answer, downscaling, mask_of, noise_of, small_photo, tied, varied
from preimage.invert.registry import load
from preimage.nets.deepsee import DeepSEEConfig, DeepSEENetwork
from preimage.nets.segmenter import Segmenter, SegmenterConfig
from preimage.semantics.edits import apply_edits
from preimage.semantics.labels import write_mask
from preimage.weight_files import save_prior
from preimage.weights import weight_table

TINY = DeepSEEConfig(
    lr_size=8, resolution=32, widths=(10, 8, 8), hidden=6, style=6, encoder=2, pooling="region", soft=True, enlarged=True,
    project=True, noise=False, drawn=4,
)  # fmt: skip
SEGMENTER = SegmenterConfig(
    hr_size=32, stem=(4, 4, 4), widths=(6, 6, 6, 6), blocks=(1, 1, 1, 1), pyramid=6, low=4, decoder=6
)  # fmt: skip


def random_network(config: DeepSEEConfig, name: str = "tiny") -> DeepSEENetwork:
    """Untrained, but everything is heard."""
    torch.manual_seed(0)
    network = DeepSEENetwork(config, name)
    with torch.no_grad():
        for key, p in network.named_parameters():
            if p.ndim > 1:
                p.normal_(std=p[0].numel() ** -0.5)
            elif not key.endswith("mix"):
                p.normal_(std=0.2)
        network.generator.out.weight.mul_(0.3)
        if config.drawn:
            network.style_mean.normal_(std=0.1)
            network.style_root.normal_(std=0.3)
        faces, side = torch.rand(4, 3, config.lr_size, config.lr_size), config.resolution
        labels = torch.randint(0, 19, (4, side // 8, side // 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
        mask = mask_of(network, labels)
        for _ in range(8):  # spectral norms and statistics settle
            network.encode(torch.rand(4, 3, side, side), mask, True)
            network(faces, mask, network.encode(faces, mask, False))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> DeepSEENetwork:
    return random_network(TINY)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("networks") / "segmenter.safetensors"
    save_prior(path, Segmenter(SEGMENTER, "finder").eval(), {}, dtype=torch.float32)
    return path


@pytest.fixture(scope="module")
def method(network) -> DeepSEE:
    return DeepSEE(weights=network, device="cpu")


def picture(seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 8, 8, generator=rng) * 0.6 + 0.2
    return (torch.nn.functional.interpolate(small, (32, 32), mode="bicubic").clamp(0, 1)[0] * 255).round() / 255


def photo(seed: int = 0, side: int = 8) -> torch.Tensor:
    return (bicubic(32, lr_size=side)(picture(seed)[None])[0].clamp(0, 1) * 255).round() / 255


def a_map() -> torch.Tensor:
    """Hair above, skin below, a mouth and lips in it."""
    labels = torch.full((32, 32), 1)
    labels[:12] = 13
    labels[20:22, 8:24] = 11
    labels[22:25, 8:24] = 10
    labels[25:27, 8:24] = 12
    return labels


def ask(method: DeepSEE, seeds=range(3), **more):
    return preimage.upsample(photo(), seeds, method=method, **{"mask": a_map(), **more})


def changed(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> tuple[float, float]:
    """Mean difference of two pictures inside a region and outside."""
    off = (a - b).abs().mean(0)
    return float(off[where].mean()), float(off[~where].mean())


# -------------------------------------------------------------------------------------------------------------- seeds


def test_seeds_draw_styles_and_every_answer_is_exact(method):
    found = ask(method)
    assert found.images.shape == (3, 3, 32, 32)
    assert bool(found.exact.all())
    assert len({tuple(x.flatten().tolist()) for x in found.images}) == 3
    assert (found.latents["style"].shape, found.latents["mask"].shape) == ((3, 19, 6), (3, 32, 32))
    assert not ask(method, range(2), temperature=0.0).images.diff(dim=0).any()


def test_the_same_seed_for_any_batch_and_order(network):
    one = ask(DeepSEE(weights=network, device="cpu", batch=1), [3, 0, 2])
    two = ask(DeepSEE(weights=network, device="cpu", batch=3), [2, 3, 0])
    assert (one.images - two.images[[1, 2, 0]]).abs().max() <= 1.01 / 255


def test_latents_go_on(method):
    found = ask(method)
    again = preimage.upsample(photo(), range(3), method=method, at=found, mask=a_map())
    assert torch.equal(again.images, found.images)
    with pytest.raises(MethodError, match="style to go on from: None"):
        preimage.upsample(photo(), range(3), method=method, at={"mask": found.latents["mask"]}, mask=a_map())


@pytest.mark.parametrize(("side", "degradation"), [(8, "bicubic"), (13, "bicubic"), (8, "area"), (6, "lanczos")])
def test_photos_of_other_sizes_and_downscalings(method, side, degradation):
    found = preimage.upsample(photo(1, side), 0, method=method, degradation=degradation, mask=a_map())
    assert bool(found.exact.all())


def test_photos_come_to_the_networks_own_size(network):
    """A photo of its own downscaling as it is; that of a sharper one as the smoothest picture behind it would have it."""
    y = photo()[None]
    assert torch.equal(small_photo(network, downscaling(32, 8), y), y)
    other = area(32, lr_size=13)
    found = small_photo(network, other, photo(0, 13)[None])
    assert torch.allclose(found, downscaling(32, 8)(other.pinv(photo(0, 13)[None])))


def test_the_report_says_what_the_projection_undid(method, network):
    found = ask(method, [0])
    style, mask = found.latents["style"], mask_of(network, found.latents["mask"].long())
    with torch.no_grad():
        made, before = answer(network, downscaling(32, 8), photo()[None], mask, style)
    error = 255 * (downscaling(32, 8)(before) - photo()).square().mean().sqrt()
    assert float(found.error_before) == pytest.approx(float(error), rel=1e-3)
    moved = 255 * (found.images - before.clamp(0, 1)).square().mean().sqrt()
    assert float(found.moved) == pytest.approx(float(moved), rel=1e-3)
    assert (downscaling(32, 8)(made) - photo()).abs().max() < 1e-5
    plain = DeepSEE(weights=random_network(replace(TINY, project=False)), device="cpu")
    assert float(ask(plain, [0]).moved) > 1
    assert bool(ask(plain, [0]).exact.all())


# ------------------------------------------------------------------------------------------------------ maps of regions


def test_a_network_finds_the_regions(network, segmenter):
    method = DeepSEE(weights=network, device="cpu")
    found = preimage.upsample(photo(), 0, method=method, segmenter=str(segmenter))
    assert {"weights", "regions"} == set(method.networks)
    assert method.describe()["regions"] == "finder"
    given = preimage.upsample(photo(), 0, method=method, mask=found.latents["mask"][0].long())
    assert torch.equal(found.images, given.images)
    other = preimage.upsample(photo(), 0, method=method, segmenter=str(segmenter), mask_from=picture(5))
    assert other.latents["mask"].shape == (1, 32, 32)


def test_without_a_segmenter_a_map_must_be_given(method):
    if any(entry.kind == "segmenter" for entry in weight_table().values()):
        return
    with pytest.raises(WeightsError, match="no segmenter is embedded"):
        preimage.upsample(photo(), 0, method=method)


def test_edits_of_the_map(method):
    found = ask(method, [0], edit_mask="close-mouth")
    assert torch.equal(found.latents["mask"][0].long(), apply_edits(a_map(), ["close-mouth"]))
    both = ask(method, [0], edit_mask=["close-mouth", "grow:hair:2"])
    assert torch.equal(both.latents["mask"][0].long(), apply_edits(a_map(), ["close-mouth", "grow:hair:2"]))
    assert bool(both.exact.all())
    with pytest.raises(InputError, match="did you mean close-mouth"):
        ask(method, [0], edit_mask="close-mout")


# ------------------------------------------------------------------------------------------------------------- styles


def test_references(method):
    plain, ref = ask(method, [0]), picture(7)
    whole = ask(method, [0], reference=ref, reference_mask=a_map())
    hair = ask(method, [0], reference=ref, reference_mask=a_map(), reference_regions="hair")
    encoded = method.network.encode(ref[None], mask_of(method.network, a_map()[None]), True)
    assert torch.allclose(whole.latents["style"], encoded, atol=1e-5)
    assert torch.allclose(hair.latents["style"][:, 13], encoded[:, 13], atol=1e-5)
    kept = [k for k in range(19) if k != 13]
    assert torch.equal(hair.latents["style"][:, kept], plain.latents["style"][:, kept])
    none = ask(method, [0], reference=ref, reference_mask=a_map(), blend=0.0)
    assert torch.equal(none.images, plain.images)


def test_a_reference_without_a_region_leaves_it(method):
    bald = a_map().clamp_max(12)
    found = ask(method, [0], reference=picture(7), reference_mask=torch.where(a_map() == 13, 1, bald))
    assert torch.equal(found.latents["style"][:, 13], ask(method, [0]).latents["style"][:, 13])


def test_patterns_lend_their_styles(method):
    """What a picture without a face shows where the photo's regions are; then no network has to find any."""
    pattern = torch.stack(
        [(torch.arange(32)[None] // 4 + torch.arange(32)[:, None] // (k + 1)) % 2 for k in range(3)]
    ).float()
    found = ask(method, [0], reference=pattern, reference_layout="photo")
    encoded = method.network.encode(pattern[None], mask_of(method.network, a_map()[None]), True)
    assert torch.allclose(found.latents["style"], encoded, atol=1e-5)
    assert bool(found.exact.all())


def test_a_walk_is_straight(method):
    found = ask(method, range(5), interpolate=4, reference=picture(7), reference_mask=a_map())
    style = found.latents["style"]
    assert torch.allclose(style[0], ask(method, [0]).latents["style"][0], atol=1e-6)
    steps = style.diff(dim=0)
    assert torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-5)
    far = (found.images - found.images[:1]).square().mean((1, 2, 3))
    assert bool((far.diff() > 0).all())
    other = ask(method, range(3), interpolate=2, towards=9)
    assert torch.allclose(other.latents["style"][2], ask(method, [9]).latents["style"][0], atol=1e-6)


def test_noise_on_styles(method):
    plain, found = ask(method, range(4)), ask(method, range(4), style_noise="lips=0.1,hair=0.02")
    off = found.latents["style"] - plain.latents["style"]
    assert float(off[:, 13].abs().max()) <= 0.02 + 1e-6
    assert 0.05 < float(off[:, 11].abs().max()) <= 0.1 + 1e-6
    inner = (found.latents["style"].abs() < 1)[:, 11] & (found.latents["style"].abs() < 1)[:, 12]
    assert torch.allclose(off[:, 11][inner], off[:, 12][inner], atol=1e-6)
    assert not off[:, [1, 10]].any()
    everywhere = ask(method, range(4), style_noise=0.1).latents["style"] - plain.latents["style"]
    assert everywhere[:, [1, 10, 13]].any(2).all()
    assert not everywhere[:, 2].any()
    assert noise_of("0.5", 19).tolist() == [0.5] * 19


def test_draws(network):
    base = torch.full((400, 19, 6), 1e-3)
    base[:, 5] = 0
    found = varied(network, base, range(400), 0.2)
    free = found[:, 13][(found.abs() < 1).all(2)[:, 13]]
    assert torch.allclose(free.mean(0), network.style_mean[13] + 1e-3, atol=0.05)
    assert torch.allclose(torch.cov(free.t()), 0.04 * network.style_root[13].t() @ network.style_root[13], atol=0.006)
    assert not found[:, 5].any()
    z = tied(torch.randn(2, 19, 3))
    assert torch.equal(z[:, 4], z[:, 5])
    assert torch.equal(z[:, 11], z[:, 12])


# ------------------------------------------------------------------------------------------------------------ handles


def test_a_region_is_turned_alone(method):
    found = ask(method, [0, 1])
    inside = a_map() == 13
    for name, value in (("hair", 1.0), ("hair-shift", 0.5)):
        turned = method.steer(found, 1, {name: value}, seeds=[5])
        style = turned.latents["style"][0]
        kept = [k for k in range(19) if k != 13]
        assert torch.equal(style[kept], found.latents["style"][1, kept])
        assert not torch.equal(style[13], found.latents["style"][1, 13])
        assert bool(turned.exact.all())
        near, far = changed(turned.images[0], found.images[1], inside)
        assert near > far
    still = method.steer(found, 1, {"hair": 0.0})
    assert (still.images[0] - found.images[1]).abs().max() <= 1.01 / 255


def test_a_region_that_is_not_there_has_no_effect(method):
    found = ask(method, [0])
    for name, value in (("hat", 1.0), ("hat-shift", 0.7), ("eyes", 1.0)):
        assert torch.equal(method.steer(found, 0, {name: value}).images, found.images)


def test_reseeding_takes_what_the_seed_draws(method):
    found = ask(method, [0])
    fresh = method.steer(found, 0, {"style": 1.0}, seeds=[4, 5])
    assert torch.allclose(fresh.latents["style"], ask(method, [4, 5], temperature=1.0).latents["style"], atol=1e-5)


def test_another_map_and_another_face(method, segmenter):
    found = ask(method, [0])
    shut = method.steer(found, 0, {"mask": apply_edits(a_map(), ["close-mouth"])})
    assert not (shut.latents["mask"] == 10).any()
    assert (found.edit, shut.edit, method.steer(shut, 0, {"hair": 0.5}).edit) == ("", "mask", "mask,hair=0.5")
    assert bool(shut.exact.all())
    hat = a_map()
    hat[:6] = 14
    turned = method.steer(found, 0, {"mask": hat})
    assert turned.latents["style"][0, 14].any()  # a region that was not there draws its style
    settled = DeepSEE(weights=method.network, device="cpu")
    settled.settings = settled.settings.with_({"segmenter": str(segmenter)})
    found = preimage.upsample(photo(), 0, method=settled)
    like = settled.steer(found, 0, {"reference": picture(3)})
    assert not torch.equal(like.latents["style"], found.latents["style"])
    assert bool(like.exact.all())
    with pytest.raises(InputError, match="necklace-like: nothing of the kind"):
        settled.steer(found, 0, {"necklace-like": picture(3)})


# ------------------------------------------------------------------------------------------------- other networks, words


def test_networks_without_regions_or_styles():
    for changes, names in (
        ({"regions": 1}, {"reference", "style"}),
        ({"style": 0, "drawn": 0}, {"mask"}),
        ({"regions": 1, "style": 0, "drawn": 0}, set()),
    ):
        method = DeepSEE(weights=random_network(replace(TINY, **changes)), device="cpu")
        assert set(method.handle_names()) == names
        guides = {"mask": a_map()} if "mask" in names else {}
        found = preimage.upsample(photo(), range(2), method=method, **guides)
        assert bool(found.exact.all())
        assert found.images.diff(dim=0).any() == ("style" in names)


def test_a_guided_network_wants_a_reference():
    method = DeepSEE(weights=random_network(replace(TINY, small_styles=False, drawn=0)), device="cpu")
    with pytest.raises(MethodError, match="give a reference"):
        ask(method)
    found = ask(method, range(2), reference=picture(2), reference_mask=a_map(), style_noise=0.2)
    assert found.images.diff(dim=0).any()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"mask_from": picture()}, "mask and mask_from both"),
        ({"reference_regions": "hair"}, "say something of a reference"),
        ({"reference": picture(), "reference_mask": a_map(), "towards": 3}, "reference and towards both"),
        ({"interpolate": 3}, "needs a reference or towards"),
        ({"interpolate": 1, "towards": 3}, "2 is beyond"),
        ({"style_noise": "lips=much"}, "write lips=0.03"),
        ({"style_noise": "5"}, r"must lie in \[0, 2\]"),
        ({"style_noise": "lip=0.1"}, "region 'lip'"),
        ({"reference": picture(), "reference_regions": "beard"}, "region 'beard'"),
        ({"blend": 3.0}, "blend"),
        ({"mask": torch.full((32, 32), 30)}, "holds the value 30"),
    ],
)
def test_what_cannot_be(method, more, words):
    with pytest.raises((MethodError, InputError), match=words):
        ask(method, **more)


def test_networks_of_others_are_refused(network):
    with pytest.raises(MethodError, match="ConditionalGenerator is no network of deepsee"):
        load("deepsee", weights="posterior-16to128")
    with pytest.raises(MethodError, match="DeepSEENetwork"):
        load("posterior", weights=network)


def test_the_command_line(network, segmenter, tmp_path, capsys):
    save_prior(tmp_path / "tiny.safetensors", network, {}, dtype=torch.float32)
    for name, pixels in (("small", photo()), ("ref", picture(4))):
        image = Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
        image.save(tmp_path / f"{name}.png")
    write_mask(tmp_path / "map.png", torch.kron(a_map(), torch.ones(2, 2, dtype=torch.long)))
    base = [
        "upsample",
        str(tmp_path / "small.png"),
        "--method",
        "deepsee",
        "--weights",
        str(tmp_path / "tiny.safetensors"),
    ]
    base += ["--threads", "1", "--method.segmenter", str(segmenter)]
    out = tmp_path / "out"
    more = [
        "--mask",
        str(tmp_path / "map.png"),
        "--reference",
        str(tmp_path / "ref.png"),
        "--reference-regions",
        "hair,lips",
    ]
    more += ["--style-noise", "lips=0.03", "--edit-mask=close-mouth", "-n", "2", "-o", str(out), "--variants", "1"]
    assert main([*base, *more]) == 0
    assert main(["verify", str(out)]) == 0
    assert "4 of 4 candidates" in capsys.readouterr().out
    said = (out / "run.yaml").read_text()
    assert "close-mouth" in said
    assert "map.png" in said
    walk = ["--mask-from", str(tmp_path / "ref.png"), "--interpolate", "2", "--towards", "7", "--seeds", "0-2"]
    assert main([*base, *walk, "-o", str(tmp_path / "walk")]) == 0
    assert main([*base, "--edit-mask", "grow:beard:2", "-o", str(tmp_path / "no")]) == 1
    assert "region 'beard'" in capsys.readouterr().err
