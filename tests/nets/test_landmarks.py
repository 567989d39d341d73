"""The 68 landmarks: peaks in closed form, and, where it is at hand, the network on a real face."""

from __future__ import annotations

import builtins
import math
from pathlib import Path

import pytest
import torch
from skimage import data
from torch import Tensor

from preimage.errors import InputError, WeightsError
from preimage.measure.faces import landmark_distance
from preimage.nets.landmarks import Landmarks68, gaussian_heatmaps

LANDMARKS = Path(__file__).resolve().parents[3] / "shared" / "weights" / "landmarks68-slim160.onnx"
# 300-W order: a point and its mirror image
MIRRORED = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46]
MIRRORED += [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]


def test_heat_maps_have_their_peak_on_the_point() -> None:
    points = torch.tensor([[[(20 + 0.5) / 64, (7 + 0.5) / 64], [21 / 64, 8 / 64]]])
    maps = gaussian_heatmaps(points, 64, 2.0)[0]
    assert float(maps[0, 7, 20]) == 1
    assert float(maps[0, 7, 22]) == pytest.approx(math.exp(-0.5))
    assert float(maps[0, 11, 20]) == pytest.approx(math.exp(-2))
    assert maps[1, 7:9, 20:22].flatten().tolist() == pytest.approx([math.exp(-1 / 16)] * 4)
    assert float(maps[0].sum()) == pytest.approx(2 * math.pi * 4, rel=1e-3)


@pytest.fixture(scope="module")
def network() -> Landmarks68:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if not LANDMARKS.is_file():
        pytest.skip(f"{LANDMARKS} is absent")
    return Landmarks68(LANDMARKS)


@pytest.fixture(scope="module")
def face() -> Tensor:
    """The astronaut, cropped as FFHQ crops: eyes at .47 of the height, mouth at .75."""
    return torch.from_numpy(data.astronaut()[18:198, 132:312].copy()).permute(2, 0, 1).float()[None] / 255


@pytest.mark.weights
def test_landmarks_lie_on_the_face(network: Landmarks68, face: Tensor) -> None:
    points = network.points(face)[0] * 180 + torch.tensor([132.0, 18.0])
    # read off the enlarged picture by eye
    expected = {"left eye": (203, 101), "right eye": (247, 104), "mouth": (223, 146)}
    found = {"left eye": points[36:42], "right eye": points[42:48], "mouth": points[48:60]}
    for part, place in expected.items():
        assert found[part].mean(0).tolist() == pytest.approx(place, abs=5), part


@pytest.mark.weights
def test_a_mirrored_face_has_mirrored_landmarks(network: Landmarks68, face: Tensor) -> None:
    assert sorted(MIRRORED) == list(range(68))
    points, mirrored = network.points(torch.cat([face, face.flip(3)]))
    mirrored = torch.stack([1 - mirrored[MIRRORED, 0], mirrored[MIRRORED, 1]], 1)
    assert float((points - mirrored).norm(dim=1).mean()) < 0.02


@pytest.mark.weights
def test_what_the_network_cannot_read_is_said(network: Landmarks68) -> None:
    for wrong in (torch.rand(3, 64, 64), torch.rand(1, 3, 64, 60), torch.rand(1, 1, 64, 64)):
        with pytest.raises(InputError, match="square aligned faces"):
            network.points(wrong)


@pytest.mark.weights
def test_other_onnx_files_are_refused(network: Landmarks68) -> None:
    other = LANDMARKS.with_name("yunet.onnx")
    if not other.is_file():
        pytest.skip(f"{other} is absent")
    with pytest.raises(WeightsError, match="not the 68-landmark network"):
        Landmarks68(other)


def test_files_and_libraries_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        Landmarks68(tmp_path / "gone.onnx")
    with pytest.raises(InputError, match="sigma"):
        Landmarks68(tmp_path / "gone.onnx", sigma=0)
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no network")
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(WeightsError, match=r'pip install "preimage\[faces\]"'):
            Landmarks68(path)
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    with pytest.raises(WeightsError, match="not a readable ONNX file"):
        Landmarks68(path)


@pytest.mark.weights
def test_landmark_distance_of_a_real_face(network: Landmarks68, face: Tensor) -> None:
    metric = landmark_distance(network)
    assert metric.name == "landmarks-slim68"
    assert "64x64, sigma 2" in metric.source
    shifted = [face.roll(k, 3) for k in (0, 2, 4, 8)]
    values = metric(torch.cat(shifted), face[0]).tolist()
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values == sorted(values)
    assert values[-1] < 2 * math.pi * 4
    small = torch.nn.functional.interpolate(face, 64, mode="bicubic", antialias=True).clamp(0, 1)
    assert float((network.points(small) - network.points(face)).norm(dim=2).mean()) < 0.02
