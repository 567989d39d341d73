"""Distances of sets of pictures: streaming changes nothing, samples are fair, statistics are kept, names are honest."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

import preimage.measure.sets as module
from preimage.errors import InputError, OutputError, WeightsError
from preimage.feature_networks import FORMAT, NETWORKS
from preimage.measure.distances import FeatureScale, frechet_distance, kernel_distance
from preimage.measure.sets import Reservoir, SetDistance, set_distance
from preimage.nets.features import FeatureNetwork, SqueezeNet
from preimage.nets.inception import FIDInception

SHARED = Path(__file__).parents[2].parent / "shared" / "weights"


class Tiny(FeatureNetwork):
    """Six features of any picture of 4 pixels or more."""

    taps, channels, smallest = ("conv",), (6,), 4

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 6, 3)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(x).relu() + self.conv(x).square()]


def pictures(n: int, seed: int, size: int = 8, contrast: float = 1.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    level = torch.rand(n, 3, 1, 1, generator=rng)
    return (level + contrast * (torch.rand(n, 3, size, size, generator=rng) - 0.5)).clamp(0, 1)


def filled(measure: SetDistance, a: Tensor, b: Tensor) -> SetDistance:
    measure.update(a, real=False)
    measure.update(b, real=True)
    return measure


# ------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(("scaled", "size"), [(True, 50), (False, 1000)])
def test_values_are_those_of_all_features_together(scaled: bool, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUBSETS", 20)
    monkeypatch.setattr(module, "SUBSET_SIZE", size)
    network = Tiny()
    a, b = pictures(1300, 1), pictures(1200, 2, contrast=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = filled(SetDistance("tiny", network, scaled=scaled), a, b).compute()
    x, y = network.pooled(a), network.pooled(b)
    scale = FeatureScale.of(y) if scaled else None
    assert values.keys() == {"fd-tiny", "kd-tiny"}
    assert values["fd-tiny"] == pytest.approx(frechet_distance(x, y, scale), rel=1e-5)
    kernel = kernel_distance(x, y, subsets=20, subset_size=size, degree=3, scale=scale)
    assert values["kd-tiny"] == pytest.approx(kernel.value, rel=1e-4)
    assert values.kernel.deviation == pytest.approx(kernel.deviation, rel=1e-3)
    assert values.counts == (1300, 1200)
    assert values.warnings == []


def test_subsets_are_those_of_kid() -> None:
    """Bińkowski et al., 2018: polynomial kernel of degree 3, 100 subsets of 1,000, as torchmetrics and torch-fidelity have."""
    defaults = inspect.signature(KernelInceptionDistance.__init__).parameters
    expected = tuple(defaults[key].default for key in ("subsets", "subset_size", "degree"))
    assert expected == (module.SUBSETS, module.SUBSET_SIZE, module.DEGREE)


def test_features_are_taken_in_units_of_the_real_set_unless_it_is_fid() -> None:
    assert SetDistance("tiny", Tiny()).scaled
    network = FIDInception()
    assert SetDistance("inception", network).scaled
    network.official = True
    assert not SetDistance("inception", network).scaled


@pytest.mark.parametrize("sizes", [[120], [1, 119], [40] * 3, [7, 0, 100, 13]])
def test_batches_change_nothing(sizes: list[int]) -> None:
    a, b = pictures(120, 1), pictures(120, 2)
    measure = SetDistance("tiny", Tiny(), capacity=50, batch=11)
    whole = SetDistance("tiny", Tiny(), capacity=50)
    for part_a, part_b in zip(torch.split(a, sizes), torch.split(b, sizes), strict=True):
        filled(measure, part_a, part_b)
    filled(whole, a, b)
    assert measure.count(real=True) == measure.count(real=False) == 120
    with pytest.warns(UserWarning, match="subsets of 50"):
        x, y = measure.compute(), whole.compute()
    assert x == pytest.approx(y, rel=1e-5)


def test_kernel_distance_of_split_halves_is_zero_on_average() -> None:
    """Whatever the number of pictures: the mean over many splits lies within three standard errors of 0."""
    network, values = Tiny(), []
    every = pictures(3200, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in torch.split(every, 40):
            measure = filled(SetDistance("tiny", network, scaled=False), part[:20], part[20:])
            values.append(measure.compute()["kd-tiny"])
        shifted = filled(SetDistance("tiny", network, scaled=False), every[:20] * 0.5, every[20:40]).compute()
    v = torch.tensor(values, dtype=torch.float64)
    error = float(v.std()) / len(v) ** 0.5
    assert float(v.min()) < 0 < float(v.max())
    assert abs(float(v.mean())) < 3 * error
    assert shifted["kd-tiny"] > 10 * error


def test_few_pictures_and_other_sizes_are_warned_of_and_noted() -> None:
    measure = filled(SetDistance("tiny", Tiny()), pictures(9, 1), pictures(30, 2, size=16))
    with pytest.warns(UserWarning, match="pictures") as caught:
        values = measure.compute()
    assert values.warnings == [str(w.message) for w in caught]
    text = "\n".join(values.warnings)
    assert len(values.warnings) == 3
    assert "fd-tiny: pictures of 8x8 against real ones of 16x16" in text
    assert "fd-tiny: Fréchet distance of 6 features from 9 pictures" in text
    assert "kd-tiny: subsets of 9 pictures instead of 1000" in text


def test_pictures_are_not_kept() -> None:
    measure = SetDistance("tiny", Tiny(), capacity=20)
    for seed in range(5):
        measure.update(pictures(100, seed, size=64), real=False)
    measure.update(pictures(100, 9, size=64), real=True)
    side = measure._sides[False]
    assert side.reservoir.vectors.shape == (20, 6)
    held = [*side.reservoir.state().values(), *side.statistics.state().values()]
    held = [t for t in held if t.dtype != torch.uint8]  # the generator's state
    assert sum(t.numel() for t in held) < 200


def test_what_cannot_be_measured_is_said() -> None:
    measure = SetDistance("tiny", Tiny())
    for wrong, match in (
        (torch.rand(3, 8, 8), "needs float pictures"),
        (torch.rand(2, 1, 8, 8), "needs float pictures"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "needs float pictures"),
        (torch.rand(2, 3, 8, 3), "3x8 are too small; Tiny needs 4"),
        (torch.rand(2, 3, 8, 8) * 255, r"needs pictures in \[0, 1\]"),
        (torch.rand(2, 3, 8, 8) * 2 - 1, r"needs pictures in \[0, 1\]"),
        (torch.full((2, 3, 8, 8), torch.nan), "NaN"),
    ):
        with pytest.raises(InputError, match=match):
            measure.update(wrong, real=True)
    assert measure.count(real=True) == 0
    measure.update(torch.rand(0, 3, 8, 8), real=True)
    filled(measure, pictures(2, 1), pictures(1, 1))
    with pytest.raises(InputError, match="fd-tiny: needs two pictures or more in each set, has 2 and 1"):
        measure.compute()


# ---------------------------------------------------------------------------------------------------------- reservoir


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [30, 50, 20], [10, 90], [5, 0, 95]])
def test_the_sample_does_not_depend_on_batches(sizes: list[int]) -> None:
    x = torch.arange(100.0)[:, None].expand(-1, 3)
    whole, parts = Reservoir(10, seed=4), Reservoir(10, seed=4)
    whole.update(x)
    for part in torch.split(x, sizes):
        parts.update(part)
    assert torch.equal(whole.vectors, parts.vectors)
    assert parts.seen == 100
    other = Reservoir(10, seed=5)
    other.update(x)
    assert not torch.equal(other.vectors, whole.vectors)


def test_every_vector_has_the_same_chance() -> None:
    x, hits, runs = torch.arange(40.0)[:, None], torch.zeros(40), 2000
    for seed in range(runs):
        sample = Reservoir(8, seed)
        sample.update(x)
        chosen = sample.vectors.flatten().long()
        assert len(chosen.unique()) == 8
        hits[chosen] += 1
    deviation = (runs * 0.2 * 0.8) ** 0.5
    assert float((hits - runs * 0.2).abs().max()) < 4.5 * deviation
    assert 0.4 < float(hits.std()) / deviation < 1.6


def test_a_small_stream_is_kept_whole() -> None:
    x = torch.rand(7, 2)
    sample = Reservoir(8)
    assert sample.vectors.shape[0] == 0
    sample.update(x[:3])
    assert torch.equal(sample.vectors, x[:3])
    sample.update(x[3:])
    assert torch.equal(sample.vectors, x)
    x.zero_()
    assert float(sample.vectors.abs().sum()) > 0  # its own copy


# ---------------------------------------------------------------------------------------------------------- statistics


def test_kept_statistics_stand_for_the_real_pictures(tmp_path: Path) -> None:
    path = tmp_path / "real.safetensors"
    a, b = pictures(100, 1), pictures(150, 2)
    first = filled(SetDistance("tiny", Tiny(), capacity=60), a, b[:90])
    first.save_statistics(path, "val of faces, 90 pictures, 8 px")
    second = SetDistance("other name", Tiny(), capacity=60)
    assert second.load_statistics(path) == "val of faces, 90 pictures, 8 px"
    second.update(a, real=False)
    for measure in (first, second):
        measure.update(b[90:], real=True)  # both go on alike
    with pytest.warns(UserWarning, match="subsets of 60"):
        x, y = first.compute(), second.compute()
    assert list(x.values()) == list(y.values())
    assert x.counts == y.counts == (100, 150)
    with safe_open(str(path), "pt") as file:
        assert file.metadata()["pictures"] == "val of faces, 90 pictures, 8 px"
    assert not any("8, 8" in str(tuple(t.shape)) for t in load_file(path).values())


def test_sizes_are_kept_with_the_statistics(tmp_path: Path) -> None:
    path = tmp_path / "real.safetensors"
    filled(SetDistance("tiny", Tiny()), pictures(2, 1), pictures(30, 2, size=16)).save_statistics(path, "")
    measure = SetDistance("tiny", Tiny())
    measure.load_statistics(path)
    measure.update(pictures(30, 1), real=False)
    with pytest.warns(UserWarning, match="pictures") as caught:
        values = measure.compute()
    assert len(caught) == 2
    assert "8x8 against real ones of 16x16" in values.warnings[0]


def test_statistics_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "real.safetensors"
    measure = filled(SetDistance("tiny", Tiny()), pictures(2, 1), pictures(30, 2))
    measure.save_statistics(path, "")
    with pytest.raises(InputError, match=r"real\.safetensors: statistics in the eyes of another network \(weights"):
        SetDistance("tiny", Tiny(seed=1)).load_statistics(path)
    with pytest.raises(InputError, match=r"another network \(network Tiny\(conv\), here SqueezeNet\(conv1, fire3"):
        SetDistance("tiny", SqueezeNet()).load_statistics(path)
    with pytest.raises(InputError, match="taken in already"):
        measure.load_statistics(path)


def test_files_that_are_no_statistics(tmp_path: Path) -> None:
    measure, path = SetDistance("tiny", Tiny()), tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no readable file of statistics"):
        measure.load_statistics(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="no readable file of statistics"):
        measure.load_statistics(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="holds no statistics"):
        measure.load_statistics(path)
    with pytest.raises(InputError, match="nothing to save"):
        measure.save_statistics(path, "")
    filled(measure, pictures(2, 1), pictures(30, 2))
    measure.save_statistics(path, "")
    with safe_open(str(path), "pt") as file:
        about = dict(file.metadata())
    save_file({k: v for k, v in load_file(path).items() if k != "statistics.scatter"}, path, about)
    with pytest.raises(InputError, match="lack a part"):
        SetDistance("tiny", Tiny()).load_statistics(path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        measure.save_statistics(tmp_path / "file" / "a.safetensors", "")


# --------------------------------------------------------------------------------------------------------------- names


def test_only_the_published_inception_gives_a_fid() -> None:
    network = FIDInception()
    assert SetDistance("inception", network).names == ("fd-inception", "kd-inception")
    network.official = True
    assert SetDistance("inception", network).names == ("fid", "kid")
    assert SetDistance("inception", network, scaled=True).names == ("fd-inception", "kd-inception")
    other = SqueezeNet()
    other.official = True
    assert SetDistance("squeeze", other).names == ("fd-squeeze", "kd-squeeze")


def test_distances_by_entry_and_path(tmp_path: Path) -> None:
    entry = NETWORKS["inception"]
    about = {"format": FORMAT, "network": "inception", "source_sha256": "0" * 64}
    save_file(FIDInception().state_dict(), tmp_path / entry.file, about)
    assert set_distance("inception", tmp_path).names == ("fd-inception", "kd-inception")
    save_file(FIDInception().state_dict(), tmp_path / entry.file, {**about, "source_sha256": entry.sha256[0]})
    assert set_distance("inception", tmp_path).names == ("fid", "kid")
    assert set_distance(tmp_path / entry.file).names == ("fid", "kid")
    save_file(SqueezeNet().state_dict(), tmp_path / "mine.safetensors")
    assert set_distance(tmp_path / "mine.safetensors").names == ("fd-squeeze", "kd-squeeze")
    with pytest.raises(WeightsError, match=r"vgg19-distilled-relu5_1\.safetensors is missing"):
        set_distance("vgg19-distilled", tmp_path)


# ---------------------------------------------------------------------------------------------------- with the files


@pytest.mark.weights
@pytest.mark.parametrize(("name", "label"), [("squeezenet11-keras", "squeeze"), ("vgg19-distilled", "vgg")])
def test_stand_ins_tell_blur_from_sharp(name: str, label: str) -> None:
    if not (SHARED / NETWORKS[name].file).is_file():
        pytest.skip(f"third-party network not here: {SHARED / NETWORKS[name].file}")
    sharp = torch.nn.functional.interpolate(pictures(72, 1, size=16), size=64, mode="bicubic").clamp(0, 1)
    real, same = sharp[:36], sharp[36:]
    small = torch.nn.functional.interpolate(same, size=12, mode="bilinear", antialias=True)
    blurred = torch.nn.functional.interpolate(small, size=64, mode="bicubic").clamp(0, 1)
    values = []
    for judged in (same, blurred):
        measure = filled(set_distance(name, SHARED), judged, real)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values.append(measure.compute())
        assert f"kd-{label}: subsets of 36" in values[-1].warnings[-1]
    assert values[0].keys() == {f"fd-{label}", f"kd-{label}"}
    assert all(values[1][key] > values[0][key] for key in values[0])
