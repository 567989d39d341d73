"""The identity network: shapes and crop without its file; what it sees, with it."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from preimage.declaration import Declaration
from preimage.errors import InputError, WeightsError
from preimage.measure.judges import JUDGES, is_partial
from preimage.nets.features import FEATURE_NETWORKS
from preimage.nets.mobilefacenet import LEFT, SIDE, TOP, MobileFaceNet

SHARED = Path(__file__).parents[2].parent / "shared"
WEIGHTS = SHARED / "weights" / "mobilefacenet-128d.safetensors"
FACES = SHARED / "data" / "faces256-val.zip"


@pytest.fixture(scope="module")
def network() -> MobileFaceNet:
    if not WEIGHTS.is_file():
        pytest.skip(f"third-party network not here: {WEIGHTS}")
    return MobileFaceNet.from_file(WEIGHTS)


@pytest.fixture(scope="module")
def faces() -> tuple[Tensor, list[str]]:
    """96 LFW faces of the validation archive and their people."""
    if not FACES.is_file():
        pytest.skip(f"faces not here: {FACES}")
    with zipfile.ZipFile(FACES) as archive:
        rows = csv.DictReader(io.StringIO(archive.read("index.csv").decode()))
        named = sorted((row["person"], row["file"]) for row in rows if row["person"])[:96]
        pictures = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for _, name in named]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255, [person for person, _ in named]


@pytest.fixture(scope="module")
def units(network: MobileFaceNet, faces: tuple[Tensor, list[str]]) -> Tensor:
    with torch.inference_mode():
        return network.embed(faces[0])


def test_shapes_of_taps_and_embedding_at_any_side() -> None:
    network = MobileFaceNet().eval()
    with torch.inference_mode():
        for side in (16, 64, 301):
            x = torch.rand(2, 3, side, side)
            sides = [(56, 48), (28, 24), (14, 12), (7, 6)]
            expected = [(2, c, *s) for c, s in zip(MobileFaceNet.channels, sides, strict=True)]
            assert [tuple(tap.shape) for tap in network(x)] == expected
            assert network.pooled(x).shape == (2, 128)
            torch.testing.assert_close(network.embed(x).norm(dim=1), torch.ones(2))


def test_crop_takes_the_middle_and_keeps_sizes_apart() -> None:
    ramp = torch.linspace(0, 1, SIDE).view(1, 1, 1, SIDE).expand(1, 3, SIDE, SIDE)
    torch.testing.assert_close(MobileFaceNet.crop(ramp), ramp[:, :, TOP : TOP + 112, LEFT : LEFT + 96])
    torch.testing.assert_close(MobileFaceNet.crop(ramp.mT), ramp.mT[:, :, TOP : TOP + 112, LEFT : LEFT + 96])
    mirrored = MobileFaceNet.crop(torch.rand(1, 3, 80, 80).repeat(2, 1, 1, 1))
    assert mirrored.shape == (2, 3, 112, 96)
    assert LEFT == SIDE - 96 - LEFT  # a mirrored face has the mirrored crop
    for wrong in (torch.rand(3, 64, 64), torch.rand(1, 1, 64, 64), torch.rand(1, 3, 64, 48)):
        with pytest.raises(InputError):
            MobileFaceNet.crop(wrong)


def test_it_stays_in_eval_mode() -> None:
    assert not torch.nn.Sequential(MobileFaceNet()).train()[0].training
    assert not any(module.training for module in MobileFaceNet().train().modules())


def test_gradients_reach_the_picture() -> None:
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(MobileFaceNet().eval().embed(x)[0, 0], x)
    assert bool(gradient.abs().sum() > 0)


@pytest.mark.weights
def test_the_file_is_read_key_for_key(network: MobileFaceNet, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(str(WEIGHTS))
    assert set(network.state_dict()) == set(state)
    assert sum(p.numel() for p in network.parameters()) == 999_552
    assert not any(p.requires_grad for p in network.parameters())
    del state["linear1.conv.weight"]
    save_file(state, str(tmp_path / "part.safetensors"))
    with pytest.raises(WeightsError, match=r"linear1\.conv\.weight"):
        MobileFaceNet.from_file(tmp_path / "part.safetensors")


@pytest.mark.weights
def test_a_mirrored_face_is_the_same_person(
    network: MobileFaceNet, faces: tuple[Tensor, list[str]], units: Tensor
) -> None:
    with torch.inference_mode():
        mirrored = network.embed(faces[0].flip(3))
    assert float((units * mirrored).sum(1).mean()) > 0.93  # .96 on average in the README of the weights


@pytest.mark.weights
def test_people_are_told_apart(faces: tuple[Tensor, list[str]], units: Tensor) -> None:
    names = np.array(faces[1])
    first, second = np.triu_indices(len(names), 1)
    cosines = (units @ units.T).numpy()[first, second]
    same = names[first] == names[second]
    assert abs(cosines[~same].mean()) < 0.05
    assert np.quantile(cosines[~same], 0.99) < 0.35
    assert cosines[same].mean() > 0.4


@pytest.mark.weights
def test_small_pictures_keep_the_identity(
    network: MobileFaceNet, faces: tuple[Tensor, list[str]], units: Tensor
) -> None:
    small = torch.nn.functional.interpolate(faces[0], (64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.inference_mode():
        assert float((units * network.embed(small)).sum(1).mean()) > 0.8


def test_a_judge_that_trained_the_prior_is_partial() -> None:
    assert is_partial(JUDGES["vgg"], Declaration("prior", looked_through=("squeezenet", "vgg19-normalised")))
    for others in (("squeezenet",), (), None):
        assert not is_partial(JUDGES["vgg"], Declaration("prior", looked_through=others))
    for judge in JUDGES.values():
        assert set(judge.trains_as) <= {*FEATURE_NETWORKS, "mobilefacenet"}
