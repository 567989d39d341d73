"""Pro-PULSE as a method: one pass, refinement, many candidates, its prior, handles, photos that do not fit."""

from __future__ import annotations

import pytest
import torch

from preimage.candidates import Candidates
from preimage.degrade.linear import bicubic
from preimage.errors import MethodError, OperatorError, WeightsError
from preimage.invert.pro_pulse import ProPulse, ProPulseSettings
from preimage.invert.pulse import Pulse
from preimage.weight_files import save_prior
from preimage.weights import load_encoder


def answer(method, photo, seeds, **controls):
    """What `Method.upsample` gives, of whose arguments one is called lr as the learning rate is."""
    (found,) = method.sample(method.pose(photo), seeds, method.configure(controls))
    return found


@pytest.fixture
def method(tiny_prior, tiny_encoder) -> ProPulse:
    return ProPulse(prior=tiny_prior, weights=tiny_encoder, device="cpu")


def test_one_pass(method, tiny_prior, tiny_encoder, tiny_lr):
    (found,) = method.upsample(tiny_lr, [4, 0], refine=0, share=0.0)
    latents = tiny_encoder(tiny_lr[None]).expand(2, -1, -1)
    noise = [torch.zeros_like(x) if i < 3 else x for i, x in enumerate(tiny_prior.noise([4, 0]))]
    pictures = tiny_prior.synthesize(latents, noise)
    misses = bicubic(16, lr_size=4)(pictures) - tiny_lr
    torch.testing.assert_close(found.error_before, 255 * misses.square().mean((1, 2, 3)).sqrt(), rtol=1e-3, atol=1e-3)
    assert bool(found.exact.all())
    assert found.steps.tolist() == [1, 1]
    assert (found.method, found.prior) == ("pro-pulse", "tiny")
    assert (found.images[0] - found.images[1]).abs().max() > 0  # by their noise
    torch.testing.assert_close(found.latents["latents"], latents)


def test_the_generator_runs_once_for_each_step_and_keeps_no_graph_for_one(method, tiny_prior, tiny_lr, monkeypatch):
    calls = []
    synthesize = type(tiny_prior).synthesize

    def counted(self, latents, noise=None, dtype=None):
        calls.append(torch.is_grad_enabled())
        return synthesize(self, latents, noise, dtype)

    monkeypatch.setattr(type(tiny_prior), "synthesize", counted)
    for refine in (0, 3):
        calls.clear()
        list(method.upsample(tiny_lr, [0], refine=refine))
        assert calls == [refine > 0] * (refine + 1)


def test_refinement_comes_nearer_to_the_photo(method, tiny_lr):
    errors = []
    for refine in (0, 5, 30):
        found = answer(method, tiny_lr, [0, 1, 2], refine=refine, share=0.0, lr=0.1)
        errors.append(float(found.error_before.mean()))
        assert bool(found.exact.all())
    assert errors[0] > errors[1] > errors[2]


def test_silent_maps_may_become_heard_but_not_louder_than_usual(method, tiny_lr):
    found = answer(method, tiny_lr, [0], refine=5, lr=0.1, trainable_noise=2)
    loud = [found.latents[f"noise{i}"].square().mean().sqrt() for i in range(3)]
    assert 0 < float(loud[0]) <= 1
    assert 0 < float(loud[1]) <= 1
    assert float(loud[2]) == 0
    found = answer(method, tiny_lr, [0], refine=40, lr=1.0, trainable_noise=1)
    assert float(found.latents["noise0"].square().mean().sqrt()) <= 1 + 1e-4


def test_the_same_seed_gives_the_same_picture_in_any_batch_and_order(tiny_prior, tiny_encoder, tiny_lr):
    def pictures(batch, seeds):
        method = ProPulse(prior=tiny_prior, weights=tiny_encoder, device="cpu", batch=batch)
        return dict(zip(seeds, Candidates.cat(list(method.upsample(tiny_lr, seeds))).images, strict=True))

    one, many = pictures(1, [0, 1, 2]), pictures(8, [2, 0, 1])
    assert all((one[seed] - many[seed]).abs().max() <= 2 / 255 for seed in (0, 1, 2))


def test_seeds_differ_in_fine_codes(method, tiny_lr):
    fine = method.fine_row(ProPulseSettings(), 4)
    assert fine == 2  # those of 8 and 16 px
    (found,) = method.upsample(tiny_lr, [0, 1], refine=0)
    latents = found.latents["latents"]
    assert torch.equal(latents[0, :fine], latents[1, :fine])
    assert (latents[0, fine:] - latents[1, fine:]).abs().amax(1).min() > 1e-3
    (chosen,) = method.upsample(tiny_lr, [0, 1], refine=0, fine=5)
    assert torch.equal(chosen.latents["latents"][0, :5], chosen.latents["latents"][1, :5])


def test_handles_draw_fine_codes_or_fine_noise_anew(method, tiny_lr):
    (found,) = method.upsample(tiny_lr, [0, 1], refine=0)
    assert method.handle_names() == ("fine", "noise")
    assert torch.equal(method.steer(found, 1, {}, [0]).images[0], found.images[1])
    noise = method.steer(found, 1, {"noise": 1.0}, [0, 1])
    codes = method.steer(found, 1, {"fine": 0.7}, [0, 1])
    assert torch.equal(noise.latents["latents"], found.latents["latents"][1:].expand(2, -1, -1))
    assert torch.equal(codes.latents["noise4"], found.latents["noise4"][1:].expand(2, -1, -1, -1))
    assert torch.equal(codes.latents["latents"][:, :2], found.latents["latents"][1:, :2].expand(2, -1, -1))
    for part in (noise, codes):
        assert bool(part.exact.all())
        assert (part.images[0] - part.images[1]).abs().max() > 0


def test_it_goes_on_from_its_own_latents(method, tiny_lr):
    (first,) = method.upsample(tiny_lr, [0, 1], refine=0)
    (again,) = method.sample(method.pose(tiny_lr), [0, 1], method.configure({"refine": 0}), at=first.latents)
    assert torch.equal(again.images, first.images)


def test_other_photos_of_the_same_batch_get_their_own_latents(method, tiny_prior, tiny_lr):
    from preimage.invert.queue import Ask

    other = (bicubic(16, lr_size=4)(tiny_prior.sample([7]))[0].clamp(0, 1) * 255).round() / 255
    asks = [Ask(method.pose(lr), [0, 1]) for lr in (tiny_lr, other)]
    settings = method.configure({"refine": 1})
    together = {id(ask): part for ask, part in method.sample_each(asks, settings)}
    for ask, lr in zip(asks, (tiny_lr, other), strict=True):
        (alone,) = method.upsample(lr, [0, 1], refine=1)
        torch.testing.assert_close(together[id(ask)].latents["latents"], alone.latents["latents"], rtol=1e-3, atol=1e-3)


def test_it_finds_its_prior_or_refuses_a_wrong_one(tmp_path, tiny_prior, tiny_stylegan, encoder_file, tiny_encoder):
    method = ProPulse(prior=tiny_prior, weights=str(encoder_file), device="cpu")
    assert {name: network.name for name, network in method.networks.items()} == {
        "prior": "tiny",
        "weights": "pro-pulse-tiny",
    }
    assert method.trained_for == ("bicubic",)
    with pytest.raises(WeightsError, match=r"belongs to the prior tiny .* cannot work with"):
        ProPulse(prior=tiny_stylegan, weights=str(encoder_file), device="cpu")
    with pytest.raises(
        WeightsError, match=r"belongs to the prior tiny, which is not embedded; give its file \(--prior\)"
    ):
        ProPulse(weights=str(encoder_file), device="cpu")
    folder = tmp_path / "end-to-end"
    save_prior(folder / "prior.safetensors", tiny_prior, {}, dtype=torch.float32)
    save_prior(folder / "encoder.safetensors", tiny_encoder, {}, bound_to=tiny_prior)
    assert ProPulse(weights=str(folder / "encoder.safetensors"), device="cpu").prior.name == "tiny"
    with pytest.raises(MethodError, match="but faces128 takes 9 of 192 for 128"):
        ProPulse(weights=tiny_encoder, device="cpu")  # bound to none: the default prior
    with pytest.raises(MethodError, match="writes no latents"):
        ProPulse(prior=tiny_prior, weights=tiny_prior)
    save_prior(tmp_path / "prior.safetensors", tiny_prior, {})
    with pytest.raises(WeightsError, match="not an encoder"):
        load_encoder(tmp_path / "prior.safetensors")


def test_photos_and_settings_that_do_not_fit(method):
    for side, mend in ((8, r"reduce it \(--reduce 4\)"), (2, "take a larger photo")):
        with pytest.raises(OperatorError, match=rf"is {side}x{side}, but pro-pulse-tiny reads 4x4: {mend}"):
            method.pose(torch.zeros(3, side, side))
    photo = torch.zeros(3, 32, 32)
    with pytest.raises(OperatorError, match=r"reduce it .*, or take pro-pulse-32to128 \(--weights pro-pulse-32to128\)"):
        ProPulse(device="cpu").pose(photo)
    assert ProPulse(weights="pro-pulse-32to128", device="cpu").pose(photo).lr.shape[-1] == 32
    with pytest.raises(MethodError, match=r"fine \(6\): tiny has rows 0 to 5"):
        method.configure({"fine": 6})
    with pytest.raises(MethodError, match="refine"):
        method.configure({"refine": -1})


def test_pulse_silences_what_it_is_told_to(tiny_prior, tiny_lr):
    """A map that settings silence stays so, though the latents to go on from are silent there anyway."""
    method = Pulse(prior=tiny_prior, device="cpu")
    (first,) = method.upsample(tiny_lr, [0], steps=2)
    at = {name: torch.zeros_like(x) if name == "noise0" else x for name, x in first.latents.items()}
    found = [
        next(method.sample(method.pose(tiny_lr), [0], method.configure({"steps": 4} | more), at=at))
        for more in ({}, {"silent_noise": (0,)})
    ]
    heard = [float(part.latents["noise0"].abs().max()) for part in found]
    assert heard[0] > 0.01
    assert heard[1] < 1e-3
