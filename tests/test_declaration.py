"""What networks declare: it comes back from their files, is read strictly, and keeps wrong pairs and partial judges apart."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from preimage.cli import main
from preimage.declaration import (
    KINDS,
    Bound,
    Declaration,
    declared,
    parse_declaration,
    remember,
    said_before,
    sizes_of,
)
from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig
from preimage.errors import WeightsError
from preimage.nets.baselines import SRCNN, SRCNNConfig
from preimage.nets.conditional import ConditionalConfig
from preimage.nets.features import FEATURE_NETWORKS
from preimage.nets.layers import freeze
from preimage.nets.local import ChainConfig, LocalConfig, build_chain
from preimage.weight_files import ARCHITECTURES, bound, read_declaration, read_module, save_prior
from preimage.weights import (
    check_bound,
    declaration_of,
    describe_weights,
    load_degradation,
    load_network,
    load_prior,
    load_upsampler,
    weight_table,
)

SEEN = ("squeezenet", "vgg19-distilled")
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=255)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "sha256", ""]), inner, max_size=2)
    ),
    max_leaves=4,
)
SIDES = st.none() | st.integers(1, 8192)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, Path]:
    """Files of a tiny network of each kind that there is, but a prior."""
    torch.manual_seed(0)
    first, second = (
        ConditionalConfig(32, 8, (4,), 8, 2, 1),
        LocalConfig(128, width=4, channels=(4, 4), blocks=1, z_texture=2),
    )
    made = {
        "degradation": DegradationGAN(DegradationGANConfig(16, 4, 5, (4, 4), ()), "camera").eval(),
        "upsampler": SRCNN(SRCNNConfig(scale=2, lr_size=8), "enlarger"),
        "chain": build_chain(ChainConfig(first, second), "chain"),
    }
    folder = tmp_path_factory.mktemp("networks")
    save_prior(folder / "degradation.safetensors", made["degradation"], {}, looked_through=SEEN)
    save_prior(
        folder / "upsampler.safetensors", made["upsampler"], {}, degradations=("area", "camera"), looked_through=()
    )
    save_prior(folder / "chain.safetensors", made["chain"], {})
    return {name: folder / f"{name}.safetensors" for name in made}


@pytest.fixture
def prior_file(tmp_path, tiny_prior) -> Path:
    save_prior(tmp_path / "prior.safetensors", tiny_prior, {}, looked_through=("squeezenet",))
    return tmp_path / "prior.safetensors"


def rewrite(path: Path, **changes: object) -> None:
    """The same tensors with other metadata, written as JSON; None takes a part away."""
    with safe_open(str(path), "pt") as file:
        metadata = dict(file.metadata())
    metadata |= {key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()}
    save_file(load_file(path), path, {k: v for k, v in metadata.items() if v != "null"})


# --------------------------------------------------------------------------------------------------------- declaration


@given(
    st.builds(
        Declaration,
        st.sampled_from(KINDS),
        SIDES,
        SIDES,
        SIDES,
        st.lists(NAMES, max_size=4).map(tuple),
        st.none() | st.lists(NAMES, max_size=4).map(tuple),
        st.none() | st.builds(Bound, NAMES, st.text("0123456789abcdef", min_size=16, max_size=16)),
    )
)
def test_what_is_declared_comes_back(declaration):
    assert parse_declaration(json.loads(json.dumps(declaration.to_dict()))) == declaration


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in fields(Declaration)]) | st.text(max_size=2), JSON, max_size=4
    ),
    st.sampled_from(KINDS) | JSON,
)
def test_any_values_are_a_declaration_or_one_line(values, kind):
    try:
        found = parse_declaration({**values, "kind": kind})
        told = "declaration: read"
        assert parse_declaration(json.loads(json.dumps(found.to_dict()))) == found
    except WeightsError as error:
        told = str(error)
    assert told.startswith("declaration: ")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"kind \(None\) must be one of prior, degradation, encoder, upsampler, segmenter"),
        ({"kind": "painter"}, r"kind \('painter'\) must be one of"),
        ({"kind": ["prior"]}, "kind .* must be one of"),
        ({"kind": "prior", "colour": 1}, "has 'colour', which this version does not know"),
        ({"kind": "prior", "hr_size": "64"}, r"hr_size \('64'\) must be a whole number from 1 to 8192"),
        ({"kind": "prior", "hr_size": True}, "hr_size .* whole number"),
        ({"kind": "prior", "lr_size": 0}, "lr_size .* whole number"),
        ({"kind": "prior", "scale": 8193}, "scale .* whole number"),
        ({"kind": "prior", "looked_through": "squeezenet"}, "looked_through .* must be at most 64 names"),
        ({"kind": "prior", "looked_through": 0}, "looked_through .* names"),
        ({"kind": "prior", "": 1}, "has '', which this version"),
        ({"kind": "prior", "looked_through": [3]}, "looked_through .* names"),
        ({"kind": "prior", "looked_through": ["a\nb"]}, "looked_through .* names"),
        ({"kind": "prior", "degradations": ["a"] * 65}, "degradations .* names"),
        ({"kind": "prior", "degradations": ["a" * 256]}, "degradations .* names"),
        ({"kind": "prior", "degradations": None}, "degradations .* names"),
        ({"kind": "prior", "bound_to": "faces64"}, r"bound_to \('faces64'\) must be a name and a sha256"),
        ({"kind": "prior", "bound_to": {"name": "faces64"}}, "bound_to .* must be a name and a sha256"),
        ({"kind": "prior", "bound_to": {"name": "", "sha256": "0" * 16}}, "bound_to .* must be a name and 16 hexa"),
        ({"kind": "prior", "bound_to": {"name": "a", "sha256": "G" * 16}}, "bound_to .* 16 hexadecimal digits"),
        ({"kind": "prior", "bound_to": {"name": "a", "sha256": 3}}, "bound_to .* 16 hexadecimal digits"),
    ],
)
def test_declarations_that_cannot_be(values, message, prior_file, capsys):
    with pytest.raises(WeightsError, match=message):
        parse_declaration(values)
    rewrite(prior_file, declares=values)
    for read in (read_declaration, read_module, load_prior, declaration_of, lambda path: describe_weights(str(path))):
        with pytest.raises(WeightsError, match=message) as caught:
            read(prior_file)
        assert str(caught.value).startswith(f"{prior_file}: ")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert main(["models", "show", str(prior_file)]) == 1
    assert str(prior_file) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("declares", "message"),
    [
        ("[", "description is damaged"),
        ([1], "declares is no mapping"),
        (
            {"kind": "encoder", "hr_size": 64},
            "itself .encoder, hr_size 64. to be other than what it describes .prior, hr_size 16.",
        ),
        ({"kind": "prior", "hr_size": 128}, ".prior, hr_size 128. to be .* .prior, hr_size 16."),
        ({"kind": "prior", "hr_size": 16, "scale": 4}, ".prior, hr_size 16, scale 4. to be .* .prior, hr_size 16."),
        ({"kind": "prior"}, ".prior. to be .* .prior, hr_size 16."),
    ],
)
def test_files_whose_declaration_contradicts_them(declares, message, prior_file):
    rewrite(prior_file, declares=declares)
    for read in (read_declaration, load_prior):
        with pytest.raises(WeightsError, match=message) as caught:
            read(prior_file)
        assert str(caught.value).startswith(f"{prior_file}: ")


# --------------------------------------------------------------------------------------------------------------- files


def test_files_declare_what_they_hold(networks, prior_file, tiny_prior):
    wanted = {
        prior_file: Declaration("prior", hr_size=tiny_prior.resolution, looked_through=("squeezenet",)),
        networks["degradation"]: Declaration("degradation", 4, 16, looked_through=SEEN),
        networks["upsampler"]: Declaration("upsampler", scale=2, degradations=("area", "camera"), looked_through=()),
        networks["chain"]: Declaration("upsampler", hr_size=128),
    }
    for path, declaration in wanted.items():
        assert read_declaration(path) == declaration_of(path) == declared(read_module(path)) == declaration


def test_what_it_looked_through_before_it_went_on_counts(networks, prior_file, tiny_prior, tmp_path):
    remember(tiny_prior, read_declaration(networks["degradation"]))
    try:
        for given, all_of_it in ((None, SEEN), ((), SEEN), (("squeezenet", "other"), (*SEEN, "other"))):
            save_prior(tmp_path / "on.safetensors", tiny_prior, {}, looked_through=given)
            assert read_declaration(tmp_path / "on.safetensors").looked_through == all_of_it
    finally:
        remember(tiny_prior, None)
    save_prior(tmp_path / "on.safetensors", tiny_prior, {})
    assert read_declaration(tmp_path / "on.safetensors").looked_through is None
    save_prior(tmp_path / "on.safetensors", load_prior(prior_file), {})
    assert read_declaration(tmp_path / "on.safetensors").looked_through == ("squeezenet",)


@pytest.mark.parametrize(
    ("recipe", "seen", "degradations"),
    [
        ({"discriminator": {"kind": "projected", "features": "squeezenet"}}, ("squeezenet",), ()),
        ({"discriminator": {"kind": "projected", "features": ["squeezenet", "x"]}}, ("squeezenet", "x"), ()),
        ({"discriminator": {"kind": "stylegan2", "features": "squeezenet"}}, (), ()),
        ({"drift": 0.001}, (), ()),
        ({"features": "vgg19-distilled", "delta": 0.1}, ("vgg19-distilled",), ()),
        ({"features": "vgg19-distilled", "delta": 0.0}, (), ()),
        (
            {"features": "efficientnet-lite0", "problems": {"kernels": ["area", "gaussian"]}, "degradation": "x"},
            ("efficientnet-lite0",),
            ("area", "gaussian", "x"),
        ),
        ({"degradation": "corrupt", "styles": [], "discriminator": 64}, (), ("corrupt",)),
        ({}, None, ()),
        (3, None, ()),
        ({"features": 3, "problems": [], "degradation": {}}, (), ()),
        ({"discriminator": {"kind": "projected"}, "degradation": "a" * 1000}, (), ()),
        ({"features": "x", "problems": {"kernels": ["a"] * 100}}, ("x",), ("a",) * 64),
    ],
)
def test_files_of_before_say_it_by_their_recipe(recipe, seen, degradations, prior_file, tiny_prior):
    found = {"looked_through": seen, "degradations": degradations}
    assert said_before({"recipe": recipe}) == found
    rewrite(prior_file, declares=None, trained={"recipe": recipe})
    assert read_declaration(prior_file) == Declaration("prior", hr_size=tiny_prior.resolution, **found)
    assert isinstance(load_prior(prior_file), type(tiny_prior))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: st.dictionaries(
            st.sampled_from(["scale", "second", "lr_size", "hr_size", "resolution"]), inner, max_size=3
        ),
        max_leaves=4,
    )
)
def test_sizes_of_any_configuration_are_sizes(config):
    Declaration("prior", **sizes_of(config))


def test_embedded_networks_declare_what_the_table_says():
    found = {name: declaration_of(name) for name, entry in weight_table().items() if entry.kind in KINDS}
    assert {name: declaration.kind for name, declaration in found.items()} == {
        name: weight_table()[name].kind for name in found
    }
    assert all(set(declaration.looked_through or ()) <= set(FEATURE_NETWORKS) for declaration in found.values())
    assert found["faces64"] == Declaration("prior", hr_size=64, looked_through=("squeezenet",))
    assert found["progan-faces64"].looked_through == ()
    assert found["degradation-gan-64to16"] == Declaration("degradation", 16, 64, looked_through=("vgg19-distilled",))
    assert found["posterior-16to128"].looked_through == ("efficientnet-lite0",)
    assert {"bicubic", "degradation-gan"} <= set(found["posterior-16to128"].degradations)
    with pytest.raises(WeightsError, match="niqe-faces64: is of the kind 'niqe', no network"):
        declaration_of("niqe-faces64")
    assert found["faces128"] == Declaration("prior", hr_size=128, looked_through=("efficientnet-lite0",))
    assert declaration_of() == found["faces128"]
    assert all(architecture.kind in KINDS for architecture in ARCHITECTURES.values())


def test_models_show_says_it_of_new_and_of_old_files(networks, capsys):
    assert main(["models", "show", str(networks["upsampler"])]) == 0
    shown = "declares:\n  kind: upsampler\n  scale: 2\n  degradations:\n  - area\n  - camera\n  looked_through: []\n"
    assert shown in capsys.readouterr().out
    assert main(["models", "show", "faces64"]) == 0
    assert "declares:\n  kind: prior\n  hr_size: 64\n  looked_through:\n  - squeezenet\n" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------------------- kinds


def test_a_network_of_another_kind_is_refused(networks, prior_file):
    files = {"prior": prior_file, "degradation": networks["degradation"], "upsampler": networks["chain"]}
    for kind, path in files.items():
        assert declared(load_network(path, kind)).kind == kind
        for other in KINDS:
            if other != kind:
                article = "an" if other in ("encoder", "upsampler") else "a"
                article = "a file of" if other == "directions" else article
                with pytest.raises(WeightsError, match=rf"holds a \w+, which is not {article} {other}") as caught:
                    load_network(path, other)
                assert str(caught.value).startswith(f"{path}: ")
    for load in (load_degradation, load_upsampler):
        with pytest.raises(WeightsError, match="is of the kind 'prior', not a"):
            load("faces64")
        with pytest.raises(WeightsError, match="is a class, not a"):
            load("some.module:Class")
    with pytest.raises(WeightsError, match="no network of nobody is embedded"):
        load_network(None, "encoder", family="nobody")
    with pytest.raises(WeightsError, match=r"gone: neither an embedded segmenter \(.*\) nor a file"):
        load_network("gone", "segmenter")


# --------------------------------------------------------------------------------------------------------------- pairs


def test_a_network_that_is_bound_to_a_prior_refuses_another(tiny_prior, prior_file, networks, tmp_path):
    path = tmp_path / "bound.safetensors"
    save_prior(path, read_module(networks["upsampler"]), {}, bound_to=load_prior(prior_file))
    found = declaration_of(path)
    assert found.bound_to == bound(load_prior(prior_file))
    assert found.bound_to.name == "tiny"
    ready = load_prior(prior_file)
    freeze(ready, torch.device("cpu"))
    for same in (prior_file, str(prior_file), ready):
        check_bound(found, same)
    rewrite(prior_file, name="renamed", licence="CC0")  # the numbers count
    check_bound(found, prior_file)
    with pytest.raises(
        WeightsError, match=r"bound: belongs to the prior tiny .*cannot work with faces64 .*--prior"
    ) as told:
        check_bound(found, "faces64", "bound")
    assert found.bound_to.sha256 in str(told.value)
    with pytest.raises(WeightsError, match="cannot work with faces128"):
        check_bound(found, None)
    tensors = load_file(prior_file)
    key = next(key for key, value in tensors.items() if value.is_floating_point())
    tensors[key] = tensors[key] + 1
    with safe_open(str(prior_file), "pt") as file:
        save_file(tensors, prior_file, file.metadata())
    with pytest.raises(WeightsError, match="cannot work with renamed"):
        check_bound(found, prior_file)
    check_bound(replace(found, bound_to=None), prior_file)
    with pytest.raises(WeightsError, match="is no torch module"):
        check_bound(found, object())
