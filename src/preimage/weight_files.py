"""The file format of preimage's networks: safetensors that say which architecture, configuration and training they hold.

Nothing in a file is ever executed: an architecture is looked up by name in `ARCHITECTURES`.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from preimage.declaration import Bound, Declaration, declared, parse_declaration, remember, said_before, sizes_of
from preimage.errors import WeightsError
from preimage.nets.fingerprint import fingerprint
from preimage.nets.shapes import Shapes
from preimage.texts import TextError, one_line, parse_json

FORMAT = "preimage-1"
PARTS = ("config", "trained", "declares")
"""What of a description is a mapping, in JSON."""


def sha256(path: Path) -> str:
    """Hash of a file, hexadecimal."""
    if not path.is_file():
        raise WeightsError(f"{path}: missing. Reinstall preimage, or give the path of a safetensors file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Architecture:
    """A network that a file can hold; imported when it is asked for.

    Attributes:
        kind: of `declaration.KINDS`.
        module: in preimage.
        network: its class, or a function: configuration and name -> module.
        config: class of its configuration.
    """

    kind: str
    module: str
    network: str
    config: str

    def __call__(self, config: Mapping[str, Any], name: str) -> nn.Module:
        home: Any = import_module(f"preimage.{self.module}")
        built: nn.Module = getattr(home, self.network)(getattr(home, self.config)(**config), name)
        return built


ARCHITECTURES: dict[str, Architecture] = {
    "cascade": Architecture("prior", "generate.cascade", "Cascade", "CascadeConfig"),
    "flow": Architecture("prior", "generate.flow", "Flow", "FlowConfig"),
    "stylegan2": Architecture("prior", "generate.stylegan2", "StyleGAN2", "StyleGAN2Config"),
    "stylegan": Architecture("prior", "generate.stylegan", "StyleGAN", "StyleGANConfig"),
    "progan": Architecture("prior", "generate.progan", "ProGAN", "ProGANConfig"),
    "side-outputs": Architecture("side-output", "generate.side_outputs", "SideOutputs", "SideOutputsConfig"),
    "directions": Architecture("directions", "generate.directions", "Directions", "DirectionsConfig"),
    "degradation-gan": Architecture("degradation", "degrade.degradation_gan", "DegradationGAN", "DegradationGANConfig"),
    "style-vae": Architecture("degradation", "degrade.style_vae", "StyleVAE", "StyleVAEConfig"),
    "conditional": Architecture("upsampler", "nets.conditional", "ConditionalGenerator", "ConditionalConfig"),
    "local": Architecture("upsampler", "nets.local", "LocalGenerator", "LocalConfig"),
    "chain": Architecture("upsampler", "nets.local", "build_chain", "ChainConfig"),
    "deepsee": Architecture("upsampler", "nets.deepsee", "DeepSEENetwork", "DeepSEEConfig"),
    "pro-pulse": Architecture("encoder", "nets.pro_pulse", "ProPulseEncoder", "ProPulseConfig"),
    "ssrvae": Architecture("upsampler", "nets.attention", "AttentionNetwork", "AttentionConfig"),
    "srcnn": Architecture("upsampler", "nets.baselines", "SRCNN", "SRCNNConfig"),
    "edsr": Architecture("upsampler", "nets.baselines", "EDSR", "EDSRConfig"),
    "rdn": Architecture("upsampler", "nets.baselines", "RDN", "RDNConfig"),
    "srresnet": Architecture("upsampler", "nets.baselines", "SRResNet", "SRResNetConfig"),
    "segmenter": Architecture("segmenter", "nets.segmenter", "Segmenter", "SegmenterConfig"),
}


def read_metadata(path: Path) -> dict[str, Any]:
    """What a preimage safetensors file says about itself.

    Raises:
        WeightsError: missing, unreadable, not a safetensors file, or not one of ours.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: a safetensors file, but not one that preimage wrote; it does not say what network it is."
        )
    try:
        about = {k: parse_json(v) if k in PARTS else v for k, v in metadata.items()}
    except TextError as error:
        raise WeightsError(f"{path}: its description is damaged ({error}). Fetch or export it again.") from None
    for key in PARTS:
        if not isinstance(about.get(key, {}), dict):
            raise WeightsError(f"{path}: its description is damaged ({key} is no mapping). Fetch or export it again.")
    return about


def read_declaration(path: Path) -> Declaration:
    """What a file declares; what one of before does not, its architecture and its recipe say.

    Raises:
        WeightsError: as of `read_metadata`, or a declaration that is damaged or contradicts the rest of the file.
    """
    return _declaration(path, read_metadata(path))


def _declaration(path: Path, metadata: Mapping[str, Any]) -> Declaration:
    own = Declaration(_architecture(path, metadata).kind, **sizes_of(metadata.get("config")))
    if "declares" not in metadata:
        return replace(own, **said_before(metadata.get("trained", {})))
    try:
        found = parse_declaration(metadata["declares"])
    except WeightsError as error:
        raise WeightsError(f"{path}: {error} Fetch or export it again.") from None
    if found.problem != own.problem:
        raise WeightsError(
            f"{path}: declares itself ({found.problem}) to be other than what it describes ({own.problem}). Fetch or export it again."
        )
    return found


def _architecture(path: Path, metadata: Mapping[str, Any]) -> Architecture:
    name = metadata.get("architecture", "")
    if name not in ARCHITECTURES:
        raise WeightsError(
            f"{path}: architecture {name!r:.60} is unknown; this version knows {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[name]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file, nothing of it read but its header.

    Raises:
        WeightsError: missing, a folder, unreadable, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, not a network. Name the safetensors file in it.")
    try:
        path.open("rb").close()  # says why it cannot be read, which safetensors does not
        with safe_open(str(path), "pt") as file:
            yield file
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: not a readable safetensors file ({one_line(error)}). Pickled checkpoints (.pt, .pth, .pkl) are never "
            "loaded; they have to be converted first (`preimage models convert`)."
        ) from None
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file. Check the name, or see `preimage models list`.") from None
    except PermissionError:
        raise WeightsError(f"{path}: no permission to read it; change its permissions (chmod +r).") from None
    except MemoryError:
        raise WeightsError(
            f"{path}: not enough memory to load it. Close other programs, or take a smaller network."
        ) from None
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise WeightsError(
                f"{path}: not enough memory to load it. Close other programs, or take a smaller network."
            ) from None
        raise WeightsError(f"{path}: cannot be read ({error.strerror or one_line(error)}). Copy it again.") from None


def read_module(path: Path) -> nn.Module:
    """Build the module that a file describes and fill it, in float32; it carries what the file declares (`declared`).

    The description is held against the tensors that the file has before anything is allocated for it.

    Raises:
        WeightsError: not one of our files, a description that its tensors do not fit, or NaN or infinity in them.
    """
    metadata = read_metadata(path)
    build, config = _architecture(path, metadata), metadata.get("config", {})
    name = str(metadata.get("name", path.stem))
    unfit = f"{path}: its tensors do not fit the {metadata['architecture']} it describes."
    try:
        with torch.device("meta"), Shapes():
            shell = build(config, name).state_dict()
    except (ArithmeticError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{unfit} {one_line(error)}") from None
    wanted = {key: tuple(value.shape) for key, value in shell.items()}
    with _opened(path) as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        if difference := _difference(wanted, shapes):
            raise WeightsError(f"{unfit} {difference}")
        found = {key: file.get_tensor(key) for key in wanted}
    if complex_ := next((key for key, value in found.items() if value.is_complex()), None):
        raise WeightsError(f"{unfit} {complex_} holds complex numbers.")
    tensors = {key: value.float() for key, value in found.items()}
    for key, value in tensors.items():
        if not shell[key].is_floating_point():  # a count of batches, too large for half precision in files of before
            tensors[key] = value.nan_to_num(0, 0, 0)
        elif not bool(value.isfinite().all()):
            raise WeightsError(
                f"{path}: {key} holds NaN or infinity. The file is damaged, or its training failed; fetch or train it again."
            )
    declaration = _declaration(path, metadata)  # held against a configuration that is sound by now
    module = build(config, name)
    module.load_state_dict(tensors)
    remember(module, declaration)
    return module


def _difference(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """The first thing in which the tensors of a file differ from what its description asks for; empty if nothing does."""
    for key, shape in wanted.items():
        if key not in found:
            counts = [sum(map(prod, shapes.values())) for shapes in (found, wanted)]
            return f"{key} is missing; it holds {counts[0]:,} numbers where {counts[1]:,} are described."
        if found[key] != shape:
            have, want = ("x".join(map(str, s)) or "a single number" for s in (found[key], shape))
            return f"{key} is {have}, and {want} is described."
    extra = next((key for key in found if key not in wanted), None)
    return "" if extra is None else f"{extra:.100} belongs to no part of it."


def bound(prior: Any) -> Bound:
    """What says that a network belongs to this prior.

    Raises:
        WeightsError: a prior that is no torch module, and so has no hash.
    """
    digest = fingerprint(prior)
    if digest is None:
        raise WeightsError(f"{type(prior).__name__}: is no torch module, so that no network can be bound to it.")
    return Bound(str(prior.name), digest)


def save_prior(
    path: Path,
    prior: Any,
    trained: dict[str, Any],
    licence: str = "CC BY-NC 4.0",
    dtype: torch.dtype = torch.float16,
    *,
    degradations: Sequence[str] = (),
    looked_through: Sequence[str] | None = None,
    bound_to: nn.Module | None = None,
) -> None:
    """Write a network with everything that is needed to rebuild, to use and to judge it.

    Args:
        path: safetensors file; replaced at once or not at all.
        prior: a prior or another network, a module with `metadata()` -> {"architecture", "config"}, and a `name`.
        trained: recipe, images seen, data.
        licence: of the weights.
        dtype: of the tensors in the file, those aside with numbers that it cannot hold; they are read as float32.
        degradations, looked_through: of its `Declaration`; what it looked through before it went on is added.
        bound_to: the prior that it was trained for.
    """
    from safetensors.torch import save

    from preimage.files import write_bytes_atomic

    about, before = prior.metadata(), declared(prior)
    seen = [names for names in (before.looked_through if before else None, looked_through) if names is not None]
    declaration = Declaration(
        ARCHITECTURES[about["architecture"]].kind,
        **sizes_of(about["config"]),
        degradations=tuple(degradations),
        looked_through=tuple(dict.fromkeys(chain(*seen))) if seen else None,
        bound_to=None if bound_to is None else bound(bound_to),
    )
    metadata = {
        "format": FORMAT,
        "name": prior.name,
        "architecture": about["architecture"],
        "config": json.dumps(about["config"]),
        "trained": json.dumps(trained),
        "declares": json.dumps(declaration.to_dict()),
        "licence": licence,
    }
    state = {k: v.detach().cpu().contiguous() for k, v in prior.state_dict().items()}
    narrow = {k: v.to(dtype) for k, v in state.items() if v.is_floating_point()}
    state |= {k: v for k, v in narrow.items() if bool(v.isfinite().all())}
    write_bytes_atomic(path, save(state, metadata))
