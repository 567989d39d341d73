"""LPIPS against torchmetrics' own, its invariants, and what it may be called."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchmetrics.functional.image.lpips as reference
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import preimage.measure.perceptual as module
from preimage.errors import InputError, MethodError, WeightsError
from preimage.feature_networks import FORMAT, NETWORKS
from preimage.measure.perceptual import LPIPS, TRUNKS, load_lpips, lpips_metric, published_heads
from preimage.nets.features import SqueezeNet
from preimage.nets.trunks import VGG16, AlexNet, SqueezeNet11, Trunk

SHARED = Path(__file__).parents[2].parent / "shared"
KERAS = "squeezenet11-keras.safetensors"
CLASSES: dict[str, type[Trunk]] = {"alex": AlexNet, "vgg": VGG16, "squeeze": SqueezeNet11}


def pair(n: int = 2, h: int = 64, w: int = 72) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, h, w, generator=rng), torch.rand(n, 3, h, w, generator=rng)


@pytest.fixture(scope="module", params=TRUNKS)
def lpips(request: pytest.FixtureRequest) -> tuple[str, LPIPS]:
    """The published heads on a random trunk."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        trunk = CLASSES[request.param]()
    return request.param, LPIPS(trunk, published_heads(request.param))


# -------------------------------------------------------------------------------------------------------------- oracle


@pytest.mark.parametrize("spatial", [False, True])
def test_it_is_what_torchmetrics_computes(
    lpips: tuple[str, LPIPS], spatial: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their slices of the trunk, their reading of the heads, their formula; the trunk's layers are ours."""
    name, ours = lpips
    assert isinstance(ours.trunk, Trunk)
    layers = ours.trunk.features
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda net, pretrained=False: layers)
    theirs = reference._LPIPS(net=name, spatial=spatial)
    a, b = pair()
    with torch.inference_mode():
        expected = theirs(a, b, normalize=True)
    value = ours.maps(a, b) if spatial else ours.distance(a, b)
    torch.testing.assert_close(value, expected if spatial else expected.flatten(), rtol=2e-4, atol=1e-7)


def test_equal_pictures_have_no_distance_and_order_makes_no_difference(lpips: tuple[str, LPIPS]) -> None:
    a, b = pair()
    d = lpips[1].distance(a, b)
    assert d.shape == (2,)
    assert bool((d > 0).all())
    torch.testing.assert_close(lpips[1].distance(b, a), d)
    assert torch.equal(lpips[1].distance(a, a), torch.zeros(2))
    assert torch.equal(lpips[1].maps(a, a), torch.zeros(2, 1, 64, 72))


def test_no_batch_changes_a_value(lpips: tuple[str, LPIPS], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair(3)
    whole, maps = lpips[1].distance(a, b), lpips[1].maps(a, b)
    monkeypatch.setattr(module, "_PIXELS", 1)  # one pair at a time
    torch.testing.assert_close(lpips[1].distance(a, b), whole)
    torch.testing.assert_close(lpips[1].maps(a, b), maps)
    torch.testing.assert_close(lpips[1].distance(a[1:2], b[1:2]), whole[1:2])


def test_the_map_shows_where(lpips: tuple[str, LPIPS]) -> None:
    a, _ = pair(1, 160, 160)
    b = a.clone()
    b[:, :, 96:144, 96:144] = 0.5
    shown = lpips[1].maps(a, b)[0, 0]
    assert shown.shape == (160, 160)
    assert float(shown.min()) >= 0
    assert float(shown[96:144, 96:144].mean()) > 3 * float(shown[:40, :40].mean())


def test_no_gradients_are_kept(lpips: tuple[str, LPIPS]) -> None:
    a, b = pair(1)
    assert not lpips[1].distance(a.requires_grad_(), b).requires_grad
    assert not any(p.requires_grad for p in lpips[1].parameters())


def test_wrong_pictures_and_heads(lpips: tuple[str, LPIPS]) -> None:
    name, ours = lpips
    a, b = pair()
    for wrong in (b[:1], b[0], b[:, :1], b[..., 1:], b[:0]):
        with pytest.raises(InputError, match="one shape"):
            ours.distance(a, wrong)
    side = ours.trunk.smallest
    assert ours.distance(a[..., :side], b[..., :side]).isfinite().all()
    with pytest.raises(InputError, match="too small for"):
        ours.distance(a[..., : side - 1], b[..., : side - 1])
    other = "vgg" if name != "vgg" else "alex"
    with pytest.raises(WeightsError, match="do not fit"):
        LPIPS(ours.trunk, published_heads(other))
    with pytest.raises(MethodError, match="there are alex, vgg, squeeze"):
        published_heads("dino")


def test_published_heads_weigh_and_never_subtract() -> None:
    for name, channels in (("alex", AlexNet.channels), ("vgg", VGG16.channels), ("squeeze", SqueezeNet11.channels)):
        heads = published_heads(name)
        assert [tuple(head.shape) for head in heads] == [(1, c, 1, 1) for c in channels]
        assert all(float(head.min()) >= 0 and float(head.max()) > 0 for head in heads)


def test_without_torchmetrics_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install 'preimage\[measure\]'"):
        published_heads("alex")


# --------------------------------------------------------------------------------------------------------------- names


def save(name: str, folder: Path, published: bool) -> Path:
    entry = NETWORKS[name]
    about = {"format": FORMAT, "network": name, "source_sha256": entry.sha256[0] if published else "0" * 64}
    save_file(entry.network().state_dict(), folder / entry.file, about)
    return folder / entry.file


@pytest.mark.parametrize("which", TRUNKS)
def test_the_star_stands_unless_the_trunk_is_the_published_one(tmp_path: Path, which: str) -> None:
    path = save(TRUNKS[which], tmp_path, published=False)
    metric = lpips_metric(which, tmp_path)
    assert metric.name == f"lpips-{which}*"
    assert "not comparable" in metric.summary
    save(TRUNKS[which], tmp_path, published=True)
    for metric in (lpips_metric(which, tmp_path), lpips_metric(which, weights=path)):
        assert metric.name == f"lpips-{which}"
        assert metric.lower_is_better
        assert metric.reference
        assert metric.smallest == CLASSES[which].smallest
        assert "not comparable" not in metric.summary
    a, b = pair(1)
    value = metric(a, b)
    assert value.dtype == torch.float64
    assert float(value) == pytest.approx(float(load_lpips(which, tmp_path).distance(a, b)))
    torch.testing.assert_close(metric(a, b[0]), value)


def test_a_stand_in_is_taken_for_squeeze_alone_and_starred(tmp_path: Path) -> None:
    save_file(SqueezeNet().state_dict(), tmp_path / KERAS)
    for metric in (lpips_metric("squeeze", tmp_path), lpips_metric("squeeze", weights=tmp_path / KERAS)):
        assert metric.name == "lpips-squeeze*"
    with pytest.raises(WeightsError, match=r"alexnet-torchvision\.safetensors is missing"):
        lpips_metric("alex", tmp_path)
    with pytest.raises(WeightsError, match="a SqueezeNet; lpips-alex looks through AlexNet"):
        lpips_metric("alex", weights=tmp_path / KERAS)
    with pytest.raises(MethodError, match="no trunk 'dino'"):
        lpips_metric("dino", tmp_path)
    save("squeeze", tmp_path, published=True)
    assert lpips_metric("squeeze", tmp_path).name == "lpips-squeeze"  # the published one comes first
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"squeezenet11-torchvision\.safetensors is missing.*squeezenet1_1-b8a52dc0"):
        lpips_metric("squeeze", tmp_path / "empty")


def test_a_hub_trunk_is_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save("vgg16", tmp_path, published=False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, file: str(path))
    assert lpips_metric("vgg", weights="hf-hub:timm/vgg16.tv_in1k").name == "lpips-vgg"
    assert lpips_metric("vgg", tmp_path / "empty", download=True).name == "lpips-vgg"
    monkeypatch.setitem(NETWORKS, "vgg16", dataclasses.replace(NETWORKS["vgg16"], hub=""))
    assert lpips_metric("vgg", weights="hf-hub:timm/vgg16.tv_in1k").name == "lpips-vgg*"  # unknown to the table


# ---------------------------------------------------------------------------------------------------- with the files


@pytest.fixture(scope="module")
def stand_in() -> LPIPS:
    if not (SHARED / "weights" / KERAS).is_file():
        pytest.skip(f"third-party network not here: {SHARED / 'weights' / KERAS}")
    return load_lpips("squeeze", weights=SHARED / "weights" / KERAS)


@pytest.mark.weights
def test_heads_of_the_shared_folder_are_the_published_ones() -> None:
    path = SHARED / "weights" / "lpips-squeeze-heads-v0.1.safetensors"
    if not path.is_file():
        pytest.skip(f"third-party heads not here: {path}")
    stored = load_file(path)
    for i, head in enumerate(published_heads("squeeze")):
        assert torch.equal(stored[f"lin{i}.model.1.weight"], head)


@pytest.mark.weights
@pytest.mark.parametrize("kind", ["blur", "noise"])
def test_distance_grows_with_damage(stand_in: LPIPS, kind: str) -> None:
    faces = SHARED / "data" / "faces256-val.zip"
    if not faces.is_file():
        pytest.skip(f"faces not here: {faces}")
    with zipfile.ZipFile(faces) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith((".webp", ".png", ".jpg")))[:8]
        pictures = [
            np.asarray(Image.open(io.BytesIO(archive.read(n))).convert("RGB").resize((128, 128))) for n in names
        ]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    values = []
    if kind == "blur":
        for side in (96, 64, 48, 32, 16, 8):
            small = F.interpolate(x, size=side, mode="bicubic", antialias=True)
            values.append(stand_in.distance(x, F.interpolate(small, size=128, mode="bicubic").clamp(0, 1)))
    else:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        values = [stand_in.distance(x, (x + noise * s / 255).clamp(0, 1)) for s in (2, 5, 10, 20, 40)]
    table = torch.stack(values)
    assert bool((table[1:] > table[:-1]).all())  # for every face
    assert float(table[0].max()) < 0.2
    assert float(table[-1].min()) > 0.1
