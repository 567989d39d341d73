"""How a run of a generator against a discriminator begins: processes, seeds, networks, the folder, the stream of pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from preimage.device import keep_memory
from preimage.errors import RecipeError
from preimage.nets.layers import channels_last
from preimage.train.data import batches
from preimage.train.loop import Run

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Players:
    """What every trainer of a generator, mostly against a discriminator, begins with (`start_run`).

    Attributes:
        accelerator: device, processes, saving.
        run: the folder, as it was found.
        g, d: on the device, in training mode, channels-last; d is None where nobody judges.
        opt_g, opt_d: their optimisers.
        average: moving average of the generator, frozen.
    """

    accelerator: Accelerator
    run: Run
    g: Any
    d: Any
    opt_g: torch.optim.Optimizer
    opt_d: Any
    average: Any

    @property
    def parts(self) -> tuple[Run, Any, Any, torch.optim.Optimizer, Any, Any]:
        """Run, g, d, their optimisers and the average, to be given names at once."""
        return self.run, self.g, self.d, self.opt_g, self.opt_d, self.average

    def autocast(self, precision: str) -> dict[str, Any]:
        """Arguments of `torch.autocast` for a recipe's precision."""
        enabled = precision == "bf16"
        return {"device_type": self.accelerator.device.type, "dtype": torch.bfloat16, "enabled": enabled}

    def stream(
        self, pictures: Any, size: int, seed: int, start: int | None = None, workers: int = 0
    ) -> Iterator[Tensor]:
        """This process's batches, from where the run stands, or from `start` pictures on; see `preimage.train.data.batches`."""
        a, begun = self.accelerator, self.run.progress.images if start is None else start
        return batches(pictures, size, seed, begun, a.process_index, a.num_processes, workers, a.device)

    def update(self, module: nn.Module, optimiser: torch.optim.Optimizer, clip: float = 0.0) -> None:
        """One step along the gradients of all processes, together no longer than `clip`; 0 leaves them as they are."""
        average_gradients(self.accelerator, module)
        if clip:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimiser.step()


def start_accelerator(batch: int, multiple: int = 1) -> tuple[Accelerator, int]:
    """The accelerator, and pictures of a batch on each process.

    Args:
        batch: pictures of a step, over all processes.
        multiple: that each process's share must be.

    Raises:
        RecipeError: a batch that cannot be shared out.
    """
    from accelerate import Accelerator

    keep_memory()
    accelerator = Accelerator()
    processes = accelerator.num_processes
    if batch % (processes * multiple):
        raise RecipeError(f"batch ({batch}) must be a multiple of {processes * multiple} for {processes} processes.")
    return accelerator, batch // processes


def start_run(
    accelerator: Accelerator,
    recipe: Any,
    build: Callable[[Any], tuple[Any, Any, torch.optim.Optimizer, torch.optim.Optimizer | None]],
    resume: str,
    may_change: tuple[str, ...] = (),
    *,
    calibrate: Any = None,
    wrap: Callable[[Any], nn.Module] = lambda g: g,
    also: Sequence[Any] = (),
    settings: dict[str, Any] | None = None,
) -> Players:
    """Build the networks of a recipe, and begin its run or go on with it.

    Args:
        accelerator: of `start_accelerator`.
        recipe: with `seed` and `out`.
        build: generator, discriminator and their optimisers of the recipe; None for a discriminator that is not there, and its optimiser.
        resume, may_change: of `Run.begin`.
        calibrate: pictures with which a projected discriminator finds the scale of its features; None: there is nothing to find.
        wrap: the module around the generator that is saved in its place.
        also: further objects with a state to be saved.
        settings: what is written to recipe.json; None: the recipe.
    """
    from accelerate.utils import set_seed

    set_seed(recipe.seed)  # all processes start from the same weights, and then draw their own numbers
    g, d, opt_g, opt_d = build(recipe)
    set_seed(recipe.seed + 1, device_specific=True)  # other numbers than those that became weights
    average = copy.deepcopy(g).eval().requires_grad_(False).to(accelerator.device)
    if calibrate is not None:
        channels_last(d.network.to(accelerator.device))
        d.to(accelerator.device).calibrate(next(batches(calibrate, 64, recipe.seed, device=accelerator.device)))
    both = [wrap(g)] if d is None else [wrap(g), d]
    for module in (g, *both[1:]):
        channels_last(module)
    prepare_unwrapped(accelerator, *both)
    if opt_d is None:
        opt_g = accelerator.prepare(opt_g)
    else:
        opt_g, opt_d = accelerator.prepare(opt_g, opt_d)
    accelerator.register_for_checkpointing(average, *also)
    run = Run(Path(recipe.out), accelerator)
    run.begin(settings or asdict(recipe), resume, may_change=may_change)
    return Players(accelerator, run, g, d, opt_g, opt_d, average)


def prepare_unwrapped(accelerator: Accelerator, *modules: nn.Module) -> None:
    """Put modules on this process's device, to be saved with the state but not wrapped for distribution: `average_gradients` does that.

    Wrapped ones want one backward pass per step that reaches every parameter; a gradient penalty is a second that does not.
    Every process must have built the same weights (`set_seed`).
    """
    for module in modules:
        accelerator.prepare_model(module, evaluation_mode=True).train()


def average_gradients(accelerator: Accelerator, module: nn.Module) -> None:
    """Average the gradients of a module over the processes, in one message."""
    if accelerator.num_processes > 1:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
