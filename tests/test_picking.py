"""A few of many: farthest points against brute force, shares, seeds that remain addresses, and the command that writes them."""

from __future__ import annotations

import itertools

import pytest
import torch
from PIL import Image

import preimage
from preimage import picking
from preimage.cli import main
from preimage.errors import InputError, MethodError, WeightsError
from preimage.feature_networks import NETWORKS
from preimage.files import read_jsonl, read_provenance, read_yaml
from preimage.invert.pulse import Pulse
from preimage.latent_files import load_latents
from preimage.nets.mobilefacenet import MobileFaceNet
from preimage.picking import farthest, find_embedding, pick
from preimage.session import Session
from preimage.weight_files import save_prior


def spreads(vectors: torch.Tensor, places: tuple[int, ...]) -> float:
    return float(torch.cdist(vectors, vectors[list(places)]).amin(1).max())


@pytest.mark.parametrize("seed", range(20))
def test_every_step_takes_the_farthest_and_all_stay_near(seed):
    vectors = torch.randn(9, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    places, shares = farthest(vectors, 4)
    apart = torch.cdist(vectors, vectors)
    assert places[0] == min(range(9), key=lambda i: float(apart[i].sum()))
    for k in range(1, 4):  # by brute force: none of the others is farther from those before
        reach = {i: min(float(apart[i, j]) for j in places[:k]) for i in range(9)}
        assert places[k] == max(reach, key=lambda i: reach[i])
    best = min(spreads(vectors, chosen) for chosen in itertools.combinations(range(9), 4))
    assert spreads(vectors, tuple(places)) <= 2 * best + 1e-12  # Gonzalez, 1985
    nearest = [min(range(4), key=lambda k: float(apart[i, places[k]])) for i in range(9)]
    assert shares.tolist() == pytest.approx([nearest.count(k) / 9 for k in range(4)])


def test_shares_add_up_and_copies_stand_for_themselves():
    vectors = torch.tensor([[0.0], [0.0], [0.0], [0.1], [5.0]])
    places, shares = farthest(vectors, 2)
    assert places == [0, 4]
    assert shares.tolist() == pytest.approx([0.8, 0.2])
    places, shares = farthest(torch.zeros(5, 3), 4)
    assert len(set(places)) == 4
    assert shares.min() > 0
    assert float(shares.sum()) == pytest.approx(1)


@pytest.fixture(scope="module")
def drawn(tiny_prior, tiny_lr):
    method = Pulse(prior=tiny_prior, device="cpu", batch=4)
    return preimage.upsample(tiny_lr, range(12), method=method, steps=6)


def test_picked_candidates_say_what_they_stand_for(drawn):
    picked = pick(drawn, 3)
    assert len(picked) == 3
    assert float(picked.share.sum()) == pytest.approx(1)
    assert picked.picked == "3 of 12 by pixels, seeds 0-11"
    for i, seed in enumerate(picked.seeds):
        assert torch.equal(picked.images[i], drawn.images[seed])
        assert float(picked.share[i]) * 12 == pytest.approx(round(float(picked.share[i]) * 12), abs=1e-4)
        about = picked.provenance(i)
        assert about["picked"] == picked.picked
        assert float(about["share"]) == pytest.approx(float(picked.share[i]), abs=1e-3)
    assert "share" not in drawn.provenance(0)
    assert picked[1].share.tolist() == picked.share[1:2].tolist()
    red = pick(drawn, 2, lambda images: images[:, 0].mean((1, 2))[:, None])
    levels = drawn.images[:, 0].mean((1, 2))
    middle, end = (float(levels[seed]) for seed in red.seeds)
    assert abs(end - middle) == pytest.approx(float((levels - middle).abs().max()))
    with pytest.raises(InputError, match="are 3 of 12 by pixels"):
        pick(picked, 2)
    for count in (1, 12):
        with pytest.raises(InputError, match=rf"pick {count} of 12.*--pick 8 --of 64"):
            pick(drawn, count)
    with pytest.raises(InputError, match="one finite vector each"):
        pick(drawn, 3, lambda images: images)


def test_a_picked_one_is_what_its_seed_alone_gives(tiny_prior, tiny_lr):
    method = Pulse(prior=tiny_prior, device="cpu", batch=4)
    picked = preimage.upsample(tiny_lr, range(12), method=method, steps=6, pick=3)
    assert bool(picked.exact.all())
    for i, seed in enumerate(picked.seeds):
        alone = preimage.upsample(tiny_lr, seed, method=method, steps=6)
        assert float((alone.images[0] - picked.images[i]).abs().max()) <= 2.01 / 255
    session = Session(method)
    session.configure({"steps": 6})
    session.pose(tiny_lr)
    assert session.pick(3, 12 * [0] + list(range(1, 12))).seeds == picked.seeds
    assert len(session.candidates) == 12  # all that were drawn can still be asked for
    plain = Session(preimage.load("bicubic", resolution=16))
    plain.pose(tiny_lr)
    with pytest.raises(MethodError, match="nothing to pick from"):
        plain.pick(3)


def test_distances_of_the_embeddings(tmp_path, monkeypatch):
    images = torch.rand(2, 3, 16, 16)
    a, b = find_embedding("pixels")(images)
    assert float((a - b).norm()) == pytest.approx(float((images[0] - images[1]).square().mean().sqrt()) * 255, rel=1e-5)
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path / NETWORKS["mobilefacenet"].file
    save_file(MobileFaceNet().state_dict(), path)
    vectors = find_embedding(f"identity={path}")(images)
    assert vectors.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    monkeypatch.setenv("PREIMAGE_WEIGHTS", str(tmp_path))
    assert torch.equal(find_embedding("identity")(images), vectors)  # it lies where networks are looked for
    with pytest.raises(WeightsError, match=r"landmarks68-slim160.onnx is missing"):
        find_embedding("landmarks")
    monkeypatch.setattr("preimage.nets.landmarks.Landmarks68", Corner)
    a, b = find_embedding("landmarks=any.onnx")(images)
    assert float((a - b).norm()) == pytest.approx(100 * abs(float(images[0, 0, 0, 0] - images[1, 0, 0, 0])), rel=1e-4)
    for wrong in ("pixel", "pixels=a", "identity=", ""):
        with pytest.raises(InputError, match="identity=FILE"):
            find_embedding(wrong)


class Corner:
    """Landmarks that all lie as far right as the first pixel is red."""

    def __init__(self, path):
        assert str(path) == "any.onnx"

    def points(self, x):
        return torch.stack([x[:, 0, 0, 0], torch.zeros(len(x))], 1)[:, None].expand(-1, 68, -1)


@pytest.fixture
def command(tiny_prior, tiny_lr, tmp_path):
    save_prior(tmp_path / "tiny.safetensors", tiny_prior, {"images_seen": 0})
    for name, picture in (("a", tiny_lr), ("b", tiny_lr.flip(2))):
        Image.fromarray((picture * 255).byte().permute(1, 2, 0).numpy()).save(tmp_path / f"{name}.png")
    return [
        "upsample", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "-o", str(tmp_path / "out"), "--method", "pulse",
        "--method.steps", "6", "--device", "cpu", "--prior", str(tmp_path / "tiny.safetensors"),
    ]  # fmt: skip


def test_only_the_picked_ones_are_written(command, tmp_path, capsys):
    out, wanted = tmp_path / "out", ["--pick", "3", "--of", "10", "--variants", "1", "--save-latents"]
    assert main([*command, *wanted]) == 0
    assert "6 candidates written" in capsys.readouterr().out
    lines = [line for line in read_jsonl(out / "summary.jsonl") if "variant_of" not in line]
    assert read_yaml(out / "run.yaml")["pick"] == {"count": 3, "by": "pixels", "of": "0-9"}
    for name in "ab":
        mine = [line for line in lines if line["input"] == name]
        assert sum(line["share"] for line in mine) == pytest.approx(1, abs=1e-3)
        seeds = [line["seed"] for line in mine]
        files = {f"seed{seed:04d}{of}.png" for seed in seeds for of in ("", "_noise0000")}
        assert {path.name for path in (out / name).iterdir()} == {
            *files,
            "input.png",
            "grid.png",
            "latents0000.safetensors",
        }
        assert len(load_latents(out / name / "latents0000.safetensors", seeds)["latents"]) == 3
        about = read_provenance(out / name / f"seed{seeds[0]:04d}.png")
        assert about["picked"] == "3 of 10 by pixels, seeds 0-9"
        assert float(about["share"]) == pytest.approx(mine[0]["share"], abs=1e-3)
    assert main(["verify", str(out)]) == 0
    assert "12 of 12 candidates shrink to their input" in capsys.readouterr().out
    assert main([*command, *wanted]) == 0
    assert "6 were there before" in capsys.readouterr().out
    assert main(command) == 1  # all candidates among picked ones would make the shares lie
    assert "pick differ" in capsys.readouterr().err


def test_a_photo_that_lacks_something_is_drawn_again(command, tmp_path, capsys):
    out, wanted = tmp_path / "out", ["--pick", "2", "--of", "6"]
    assert main([*command, *wanted]) == 0
    before = {path: path.read_bytes() for path in out.glob("*/*.png")}
    gone = [out / "a" / "grid.png", next((out / "b").glob("seed*.png"))]
    for path in gone:
        path.unlink()
    capsys.readouterr()
    assert main([*command, *wanted]) == 0
    assert "1 candidates written" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in out.glob("*/*.png")} == before


def test_what_cannot_be_picked_says_so_before_anything_is_drawn(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PREIMAGE_WEIGHTS", str(tmp_path / "none"))
    for wanted, message in (
        (["--pick", "8"], "pick 8 of 8 candidates"),
        (["--of", "64"], "give --pick too"),
        (["--pick", "2", "--by", "identity"], "mobilefacenet-128d.safetensors is missing"),
        (["--pick", "2", "--by", "hair"], "there are pixels, identity, landmarks"),
    ):
        assert main([*command, *wanted]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert set(picking.EMBEDDINGS) == {"pixels", "identity", "landmarks"}
