"""The file format of preimage's networks: safetensors that say which architecture, configuration and training they hold.

Nothing in a file is ever executed: an architecture is looked up by name in `ARCHITECTURES`.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from preimage.errors import WeightsError
from preimage.texts import TextError, one_line, parse_json

FORMAT = "preimage-1"


def sha256(path: Path) -> str:
    """Hash of a file, hexadecimal."""
    if not path.is_file():
        raise WeightsError(f"{path}: missing. Reinstall preimage, or give the path of a safetensors file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stylegan2(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.stylegan2 import StyleGAN2, StyleGAN2Config

    return StyleGAN2(StyleGAN2Config(**config), name)


def _progan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.progan import ProGAN, ProGANConfig

    return ProGAN(ProGANConfig(**config), name)


def _stylegan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.generate.stylegan import StyleGAN, StyleGANConfig

    return StyleGAN(StyleGANConfig(**config), name)


def _degradation_gan(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig

    return DegradationGAN(DegradationGANConfig(**config), name)


def _style_vae(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.degrade.style_vae import StyleVAE, StyleVAEConfig

    return StyleVAE(StyleVAEConfig(**config), name)


def _conditional(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.nets.conditional import ConditionalConfig, ConditionalGenerator

    return ConditionalGenerator(ConditionalConfig(**config), name)


def _local(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.nets.local import LocalConfig, LocalGenerator

    return LocalGenerator(LocalConfig(**config), name)


def _chain(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.nets.conditional import ConditionalGenerator
    from preimage.nets.local import Chain, ChainConfig, LocalGenerator

    both = ChainConfig(**config)
    return Chain(ConditionalGenerator(both.first), LocalGenerator(both.second), name)


def _ssrvae(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.nets.attention import AttentionConfig, AttentionNetwork

    return AttentionNetwork(AttentionConfig(**config), name)


def _srcnn(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.nets.baselines import SRCNN, SRCNNConfig

    return SRCNN(SRCNNConfig(**config), name)


def _edsr(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.nets.baselines import EDSR, EDSRConfig

    return EDSR(EDSRConfig(**config), name)


def _rdn(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.nets.baselines import RDN, RDNConfig

    return RDN(RDNConfig(**config), name)


def _srresnet(config: dict[str, Any], name: str) -> nn.Module:
    from preimage.nets.baselines import SRResNet, SRResNetConfig

    return SRResNet(SRResNetConfig(**config), name)


ARCHITECTURES: dict[str, Callable[[dict[str, Any], str], nn.Module]] = {
    "stylegan2": _stylegan2,
    "stylegan": _stylegan,
    "progan": _progan,
    "degradation-gan": _degradation_gan,
    "style-vae": _style_vae,
    "conditional": _conditional,
    "local": _local,
    "chain": _chain,
    "ssrvae": _ssrvae,
    "srcnn": _srcnn,
    "edsr": _edsr,
    "rdn": _rdn,
    "srresnet": _srresnet,
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
        about = {k: parse_json(v) if k in ("config", "trained") else v for k, v in metadata.items()}
    except TextError as error:
        raise WeightsError(f"{path}: its description is damaged ({error}). Fetch or export it again.") from None
    for key in ("config", "trained"):
        if not isinstance(about.get(key, {}), dict):
            raise WeightsError(f"{path}: its description is damaged ({key} is no mapping). Fetch or export it again.")
    return about


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
    """Build the module that a file describes and fill it, in float32.

    The description is held against the tensors that the file has before anything is allocated for it.

    Raises:
        WeightsError: not one of our files, a description that its tensors do not fit, or NaN or infinity in them.
    """
    metadata = read_metadata(path)
    architecture, config = metadata.get("architecture", ""), metadata.get("config", {})
    name = str(metadata.get("name", path.stem))
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"{path}: architecture {architecture!r:.60} is unknown; this version knows {', '.join(ARCHITECTURES)}."
        )
    build = ARCHITECTURES[architecture]
    unfit = f"{path}: its tensors do not fit the {architecture} it describes."
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
    module = build(config, name)
    module.load_state_dict(tensors)
    return module


class Shapes(TorchFunctionMode):
    """While modules are built on the meta device: element-wise results are empty tensors of their shape.

    Computing them there would be right too, but imports torch's compiler, a second of every command.
    """

    ELEMENTWISE = frozenset(
        [
            "add",
            "sub",
            "mul",
            "div",
            "true_divide",
            "sqrt",
            "rsqrt",
            "square",
            "neg",
            "reciprocal",
            "__add__",
            "__radd__",
            "__sub__",
            "__rsub__",
            "__mul__",
            "__rmul__",
            "__truediv__",
            "__rtruediv__",
            "__rdiv__",
            "__neg__",
            "__pow__",
        ]
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        if tensors and not kwargs and all(x.is_meta for x in tensors):
            if name in self.ELEMENTWISE:
                shape = torch.broadcast_shapes(*(x.shape for x in tensors))  # type: ignore[no-untyped-call]
                return torch.empty(shape, dtype=tensors[0].dtype, device="meta")
            if name == "outer":
                return torch.empty(len(args[0]), len(args[1]), dtype=args[0].dtype, device="meta")
            if name == "sum" and len(args) == 1:
                return torch.empty((), dtype=args[0].dtype, device="meta")
        return func(*args, **(kwargs or {}))


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


def save_prior(
    path: Path,
    prior: Any,
    trained: dict[str, Any],
    licence: str = "CC BY-NC 4.0",
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a prior with everything that is needed to rebuild and to judge it.

    Args:
        path: safetensors file; replaced at once or not at all.
        prior: a module with `metadata()` -> {"architecture", "config"}, and a `name`.
        trained: recipe, images seen, data.
        licence: of the weights.
        dtype: of the tensors in the file; they are read as float32.
    """
    from safetensors.torch import save

    from preimage.files import write_bytes_atomic

    about = prior.metadata()
    metadata = {
        "format": FORMAT,
        "name": prior.name,
        "architecture": about["architecture"],
        "config": json.dumps(about["config"]),
        "trained": json.dumps(trained),
        "licence": licence,
    }
    state = {k: v.detach().cpu().contiguous() for k, v in prior.state_dict().items()}
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    write_bytes_atomic(path, save(state, metadata))
