"""Searches that begin at a picture: the latents that are found for it, and what becomes of them."""

from __future__ import annotations

import pytest
import torch

from preimage.cli import main
from preimage.degrade.linear import bicubic
from preimage.files import read_yaml, save_png
from preimage.invert.nearest import nearest
from preimage.invert.pulse import Pulse
from preimage.invert.queue import Ask
from preimage.invert.search_settings import SearchSettings
from preimage.upsampling import upsample
from preimage.weight_files import sha256

SETTINGS = SearchSettings(start_steps=80, lr=0.3, geocross=1e-3, schedule="fixed", trainable_noise=2)


@pytest.fixture(scope="module")
def picture(tiny_prior) -> torch.Tensor:
    return tiny_prior.sample([123])[0].clamp(0, 1)


def far(images: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    return (images.clamp(0, 1) - picture).square().mean((1, 2, 3)).sqrt() * 255


def test_latents_of_a_picture_that_the_prior_can_make(tiny_prior, picture):
    seeds = [4, 9, 5]
    found = nearest(tiny_prior, picture, seeds, SETTINGS)
    assert {name: len(x) for name, x in found.items()} == dict.fromkeys(found, 3)
    images = tiny_prior.synthesize(found["latents"], [found[f"noise{i}"] for i in range(len(tiny_prior.noise_sizes))])
    assert float(far(images, picture).max()) < 0.5 * float(far(tiny_prior.sample(seeds), picture).min())
    alone = nearest(tiny_prior, picture, [9], SETTINGS)
    torch.testing.assert_close(alone["latents"][0], found["latents"][1], rtol=1e-3, atol=1e-3)


def test_a_search_stays_near_to_where_it_began(tiny_prior, tiny_lr, picture):
    method = Pulse(prior=tiny_prior, device="cpu")
    controls = {"steps": 30, "stop": 4e-3, "start_steps": 80}
    free = method.upsample(tiny_lr, [0, 1], **controls)
    begun = method.upsample(tiny_lr, [0, 1], guides={"start": picture}, **controls)
    (free,), (begun,) = list(free), list(begun)
    assert bool(begun.exact.all())
    assert float(far(begun.images, picture).max()) < float(far(free.images, picture).min())
    assert int(begun.steps.max()) <= int(free.steps.max())
    assert not torch.equal(begun.images[0], begun.images[1])


def test_latents_go_before_a_picture(tiny_prior, tiny_lr, picture):
    method = Pulse(prior=tiny_prior, device="cpu")
    (first,) = method.upsample(tiny_lr, [0], steps=5)
    found = [
        next(method.sample(method.pose(tiny_lr, **guides), [0], method.configure({"steps": 5}), at=first.latents))
        for guides in ({}, {"start": picture})
    ]
    assert torch.equal(found[0].images, found[1].images)


def test_photos_of_a_folder_begin_at_the_same_picture(tiny_prior, picture):
    method = Pulse(prior=tiny_prior, device="cpu", batch=4)
    small = (bicubic(16, lr_size=4)(tiny_prior.sample([123, 124])).clamp(0, 1) * 255).round() / 255
    asks = [Ask(method.pose(lr, start=picture), [0, 1]) for lr in small]
    found = [part for _, part in method.sample_each(asks, method.configure({"steps": 20}))]
    assert sum(len(part) for part in found) == 4


def test_nobody_is_lost_when_memory_runs_out_on_the_way_to_the_picture(tiny_prior, tiny_lr, picture, monkeypatch):
    def scarce(prior, picture, seeds, settings):
        if len(seeds) > 2:
            raise torch.OutOfMemoryError
        return nearest(prior, picture, seeds, settings)

    monkeypatch.setattr("preimage.invert.latent.nearest", scarce)
    method = Pulse(prior=tiny_prior, device="cpu", batch=4)
    found = list(method.upsample(tiny_lr, [3, 1, 4, 5, 9], guides={"start": picture}, steps=3, start_steps=2))
    assert [seed for part in found for seed in part.seeds] == [3, 1, 4, 5, 9]
    assert method.batch == 2


def test_the_command(tmp_path):
    """The picture stands in run.yaml with its hash."""
    save_png(tmp_path / "small.png", torch.rand(3, 16, 16))
    save_png(tmp_path / "start.png", torch.rand(3, 64, 64))
    few = ["--seeds", "0", "--method.steps", "2", "--method.start_steps", "2"]
    call = ["upsample", str(tmp_path / "small.png"), "-o", str(tmp_path / "out"), "--method", "pulse", *few]
    assert main([*call, "--start", str(tmp_path / "start.png")]) == 0
    assert (tmp_path / "out" / "small" / "seed0000.png").is_file()
    assert read_yaml(tmp_path / "out" / "run.yaml")["guides"]["start"]["sha256"] == sha256(tmp_path / "start.png")


def test_a_smaller_picture_is_enlarged(tiny_prior, tiny_lr, picture):
    """It is a beginning only: another method's answer may be smaller than the prior's pictures."""
    small = picture[:, ::2, ::2]
    found = upsample(tiny_lr, 0, method=Pulse(prior=tiny_prior, device="cpu"), start=small, steps=2, start_steps=2)
    assert found.images.shape == (1, 3, 16, 16)
