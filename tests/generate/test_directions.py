"""Directions in latents: edits, units, names, files that belong to one prior."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from preimage.declaration import declared
from preimage.errors import MethodError, WeightsError
from preimage.generate.directions import (
    Directions,
    DirectionsConfig,
    Packed,
    directions,
    in_deviations,
    merged,
)
from preimage.weight_files import read_module, save_prior
from preimage.weights import load_directions, load_prior


def some(rows=6, d=16, names=("age", "smile")) -> Directions:
    vectors = torch.randn(len(names), rows, d, generator=torch.Generator().manual_seed(0))
    return directions(names, vectors, "labels", "some")


def planted(n=4000, d=8) -> tuple[torch.Tensor, torch.Tensor]:
    """W latents (n, 4, d) of a planted covariance, and its eigenvectors, the largest first, (d, d)."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    deviations = 2.0 ** -torch.arange(d, dtype=torch.float64)
    w = torch.randn(n, d, generator=generator, dtype=torch.float64) * deviations @ basis.t() + 3
    return w[:, None].expand(-1, 4, -1).float(), basis.t()


# ------------------------------------------------------------------------------------------------------------- moving


def test_an_edit_adds_so_many_units_and_zero_changes_nothing():
    found, latents = some(), torch.randn(3, 6, 16)
    moved = found.move(latents, {"smile": 1.5, "age": -2})
    torch.testing.assert_close(moved, latents + 1.5 * found.vectors[1] - 2 * found.vectors[0])
    assert torch.equal(found.move(latents, {"smile": 0.0}), latents)
    assert torch.equal(found.move(latents, {}), latents)
    torch.testing.assert_close(found.move(moved, {"smile": -1.5, "age": 2}), latents, atol=1e-5, rtol=0)


def test_what_is_not_there_is_refused_and_what_is_is_named():
    with pytest.raises(MethodError, match=r"no direction hair; there are age, smile\."):
        some().move(torch.zeros(1, 6, 16), {"hair": 1.0})
    with pytest.raises(MethodError, match=r"moves latents \(6, 16\), not \(4, 16\)"):
        some().move(torch.zeros(1, 4, 16), {"age": 1.0})


@pytest.mark.parametrize(
    ("names", "made"),
    [((), ()), (("a=b",), ("x",)), (("a", "a"), ("x", "x")), (("a",), ()), ((1,), ("x",)), ("a", "x")],
)
def test_names_are_words_that_differ(names, made):
    with pytest.raises(WeightsError, match="directions"):
        DirectionsConfig(names, made, 2, 3)


def test_joined_directions_keep_their_names_and_vectors():
    one, two = some(), some(names=("hair",))
    both = merged([one, two])
    assert both.names == ("age", "smile", "hair")
    assert torch.equal(both.vectors[2:], two.vectors)
    with pytest.raises(WeightsError, match="different shapes"):
        merged([one, some(rows=4, names=("x",))])
    with pytest.raises(WeightsError, match="must differ"):
        merged([one, one])


# -------------------------------------------------------------------------------------------------------------- units


def test_one_unit_is_one_standard_deviation():
    latents, basis = planted()
    vectors = torch.zeros(2, 4, 8)
    vectors[0], vectors[1, :2] = 7 * basis[1].float(), -0.1 * basis[2].float()  # of any length, of all rows and of two
    units = in_deviations(vectors, latents)
    torch.testing.assert_close(units[0].norm(dim=1), torch.full((4,), 0.5), rtol=0.05, atol=0)
    torch.testing.assert_close(units[1].norm(dim=1), torch.tensor([0.25, 0.25, 0, 0]), rtol=0.05, atol=0)
    along = latents[:, 0] @ (units[0, 0] / units[0, 0].norm())
    torch.testing.assert_close(along.std(), units[0, 0].norm(), rtol=1e-4, atol=0)
    with pytest.raises(WeightsError, match="do not vary"):
        in_deviations(vectors, latents[:1].expand(5, -1, -1))


def test_packed_latents_have_the_lengths_of_all_their_rows():
    latents = torch.randn(5, 4, 3)
    latents[:, 2] = latents[:, 0]
    packed = Packed(latents, range(4))
    assert packed.groups == [[0, 2], [1], [3]]
    flat, small = latents.flatten(1).double(), packed.pack(latents)
    torch.testing.assert_close(small @ small.t(), flat @ flat.t())
    torch.testing.assert_close(packed.unpack(small), latents)
    assert Packed(latents, [1, 2]).unpack(torch.ones(1, 6)).abs().sum((0, 2)).tolist() == [0, 3, 3, 0]


# --------------------------------------------------------------------------------------------------------------- file


def test_a_file_gives_the_same_back_and_belongs_to_one_prior(tiny_prior, tiny_stylegan, tmp_path):
    path, found = tmp_path / "own.safetensors", some()
    save_prior(path, found, {"methods": ["labels"]}, bound_to=tiny_prior, looked_through=["efficientnet-lite0"])
    back = load_directions(path, tiny_prior)
    assert isinstance(back, Directions)
    assert back.config == found.config
    torch.testing.assert_close(back.vectors, found.vectors, rtol=1e-3, atol=1e-3)
    said = declared(back)
    assert said is not None
    assert (said.kind, said.bound_to.name) == ("directions", "tiny")
    assert said.looked_through == ("efficientnet-lite0",)
    with pytest.raises(WeightsError, match="belongs to the prior tiny"):
        load_directions(path, tiny_stylegan)
    with pytest.raises(WeightsError, match="which is not a prior"):
        load_prior(path)
    save_prior(tmp_path / "prior.safetensors", tiny_prior, {})
    with pytest.raises(WeightsError, match="which is not a file of directions"):
        load_directions(tmp_path / "prior.safetensors", tiny_prior)


def test_a_file_that_claims_more_than_it_holds_is_refused(tiny_prior, tmp_path):
    path, found = tmp_path / "own.safetensors", some()
    found.config = dataclasses.replace(found.config, rows=500)
    save_prior(path, found, {}, bound_to=tiny_prior)
    with pytest.raises(WeightsError, match="do not fit"):
        read_module(path)
