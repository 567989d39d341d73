"""Train the learned degradation of SR-NAM (Lioutas, 2019, section 3.2): unpaired, sharp faces against natively small ones.

Equation 1: alpha * (gamma * L1 + delta * VGG) + beta * GAN. The pixel terms (equations 3 to 5) hold the enlarged small face
against its sharp one and keep the content; the adversarial term makes it look like a natively small one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from preimage.degrade.degradation_gan import DegradationGAN, DegradationGANConfig
from preimage.errors import RecipeError
from preimage.nets.features import FEATURE_NETWORKS, FeatureNetwork
from preimage.nets.layers import channels_last
from preimage.nets.residual import ResidualDiscriminator
from preimage.seeds import generator
from preimage.train import losses
from preimage.train.augment import AUGMENTATIONS, augment
from preimage.train.data import Pictures, batches, load_pictures
from preimage.train.loop import Run, alone, evaluating, every, share, update_average
from preimage.train.small_faces import archive_of, count_by_side, small_faces
from preimage.weights import save_prior

SHOWN = 8  # faces in a grid
RECALIBRATION = (16, 64)  # batches, and pictures of each, that the statistics of the exported network are of


@dataclass(frozen=True)
class Discriminator:
    """Shape of the discriminator.

    Attributes:
        widths: channels of each residual block; published are 6 blocks, their widths are left open.
        spectral: spectral normalisation, which a hinge loss needs to be stable (Bulat et al., 2018, have it).
    """

    widths: tuple[int, ...] = (128, 128, 256, 256, 512, 512)
    spectral: bool = False


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the defaults are SR-NAM's (section 4.1), where the paper gives them.

    Attributes:
        out: run folder.
        data: folders or zip archives of sharp faces.
        real: folders or zip archives of natively small faces; a folder inside may follow the archive, `faces.zip/train`.
        native: smallest and largest native side, in pixels, of a small face to learn from; it is reduced by area.
        crops: versions of each small face; the first is whole, the others are squares of at least `zoom` of its side.
        zoom: see `crops`.
        generator, discriminator: shapes.
        iterations: steps of the generator; a run that continues may have more of them.
        batch: pictures per step, over all processes.
        critic_steps: steps of the discriminator before each of the generator, each with new pictures.
        warmup: steps at the start with the pixel terms alone: the content first. Not in the paper, whose value is 0.
        loss: "hinge" (equation 2) or "wgan-gp" (the text below it).
        penalty: weight of the gradient penalty (lambda of WGAN-GP).
        alpha, beta: weights of the pixel and of the adversarial term (equation 1).
        gamma, delta: weights of the L1 and of the VGG term within the pixel term (equation 3).
        features: network of the VGG term: vgg19-distilled, vgg19-normalised, squeezenet.
        feature_weights: path of its safetensors file; needed unless delta is 0.
        diversity: weight of a term that the paper lacks; where it is not 0 every sharp face is shown with two noises, whose
            results must differ by `spread` (mean absolute difference in [0, 1]) or cost the rest. The VGG term then looks at
            one of the two.
        spread: see `diversity`.
        augment: what the discriminator sees is changed by these, of `train.augment`.
        lr_g, lr_d, betas: of Adam.
        ema: what the generator's moving average keeps of itself at each step.
        precision: fp32 or bf16 feature maps.
        snapshot, log: iterations between two grids and saved states; between two lines of stats.jsonl.
        seed: of everything random.
        name: of the exported network.
    """

    out: str
    data: list[str]
    real: list[str]
    native: tuple[int, int] = (16, 48)
    crops: int = 8
    zoom: float = 0.92
    generator: DegradationGANConfig = field(default_factory=DegradationGANConfig)
    discriminator: Discriminator = field(default_factory=Discriminator)
    iterations: int = 500_000
    batch: int = 64
    critic_steps: int = 5
    warmup: int = 0
    loss: str = "wgan-gp"
    penalty: float = 10.0
    alpha: float = 1.0
    beta: float = 0.05
    gamma: float = 1.0
    delta: float = 0.1
    features: str = "vgg19-distilled"
    feature_weights: str = ""
    diversity: float = 0.0
    spread: float = 0.05
    augment: tuple[str, ...] = ()
    lr_g: float = 1e-3
    lr_d: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    ema: float = 0.999
    precision: str = "fp32"
    snapshot: int = 5000
    log: int = 100
    seed: int = 0
    name: str = "degradation-gan"

    def __post_init__(self) -> None:
        wrong = [k for k in ("iterations", "batch", "critic_steps", "crops", "log") if getattr(self, k) < 1]
        wrong += [
            k for k in ("penalty", "alpha", "beta", "gamma", "delta", "diversity", "warmup") if getattr(self, k) < 0
        ]
        wrong += [k for k in ("zoom", "spread") if not 0 < getattr(self, k) <= 1]
        if wrong:
            values = ", ".join(f"{k} ({getattr(self, k)})" for k in wrong)
            raise RecipeError(f"{values}: counts must be at least 1, weights not negative, shares in (0, 1].")
        for key, known in (("loss", ("hinge", "wgan-gp")), ("precision", ("fp32", "bf16"))):
            if getattr(self, key) not in known:
                raise RecipeError(f"{key}: {getattr(self, key)!r} is not one of {', '.join(known)}.")
        if self.features not in FEATURE_NETWORKS:
            raise RecipeError(f"features: {self.features!r}; there are {', '.join(FEATURE_NETWORKS)}.")
        if self.delta and not self.feature_weights:
            raise RecipeError("feature_weights: give the file of the feature network, or set delta to 0.")
        if not 0 < self.native[0] <= self.native[1] or not 0 <= self.ema < 1:
            raise RecipeError(
                f"native ({list(self.native)}) must be a smallest and a largest side, ema ({self.ema}) in [0, 1)."
            )
        unknown = [name for name in self.augment if name not in AUGMENTATIONS]
        if unknown:
            raise RecipeError(f"augment: {', '.join(unknown)}; there are {', '.join(AUGMENTATIONS)}.")
        if self.diversity and self.batch % 2:
            raise RecipeError(f"batch ({self.batch}) must be even: diversity shows every face with two noises.")
        if len(self.discriminator.widths) < 2 or self.generator.lr_size % 4:
            raise RecipeError("discriminator: needs two blocks or more, and pictures whose side is a multiple of 4.")


def build_run(
    recipe: Recipe,
) -> tuple[DegradationGAN, ResidualDiscriminator, torch.optim.Optimizer, torch.optim.Optimizer]:
    """Generator, discriminator and their optimisers, as a run starts with them."""
    g = DegradationGAN(recipe.generator, recipe.name)
    d = ResidualDiscriminator(recipe.generator.lr_size, recipe.discriminator.widths, recipe.discriminator.spectral)
    opt_g = torch.optim.Adam(g.parameters(), lr=recipe.lr_g, betas=recipe.betas)
    opt_d = torch.optim.Adam(d.parameters(), lr=recipe.lr_d, betas=recipe.betas)
    return g, d, opt_g, opt_d


def enlarge(pictures: Tensor, side: int) -> Tensor:
    """F of equations 4 and 5: bicubic enlargement to `side`."""
    return F.interpolate(pictures, (side, side), mode="bicubic", align_corners=False)


def perceptual(network: FeatureNetwork, pictures: Tensor, reference: Tensor) -> Tensor:
    """Equation 5: mean absolute difference of the features, added over the blocks of the network."""
    with torch.no_grad():
        wanted = network(reference)
    found = network(pictures)
    return torch.stack([F.l1_loss(a.float(), b.float()) for a, b in zip(found, wanted, strict=True)]).sum()


@torch.no_grad()
def recalibrate(model: DegradationGAN, pictures: Pictures, seed: int) -> None:
    """Give the averaged weights batch-norm statistics of their own, over a fixed choice of sharp faces and noises."""
    rng = generator(seed, "recalibration")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momentum = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    device, was = next(model.parameters()).device, model.training
    model.train()
    count, size = RECALIBRATION
    stream = batches(pictures, min(size, len(pictures)), seed)
    for _ in range(min(count, math.ceil(len(pictures) / size))):
        sharp = next(stream)
        noise = torch.randn(len(sharp), model.noise_dim, generator=rng)
        model(sharp.to(device), noise.to(device))
    model.train(was)
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value


def train(recipe: Recipe, resume: str = "auto", stop_after: float | None = None) -> Path:
    """Train, or go on training, and export the averaged generator.

    Args:
        recipe: settings.
        resume: "auto" continues the run in `recipe.out`; "never" insists on a new one.
        stop_after: seconds after which to save and return early; the same call continues.

    Returns:
        The exported network, `<out>/degradation.safetensors` (half precision).
    """
    accelerator = Accelerator()
    processes, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    size, twice = recipe.batch // processes, 2 if recipe.diversity else 1
    if recipe.batch % (processes * twice):
        raise RecipeError(
            f"batch ({recipe.batch}) must be a multiple of {processes * twice} for {processes} processes."
        )
    shape = recipe.generator
    pictures = load_pictures(recipe.data, shape.hr_size, progress=accelerator.is_main_process)
    reals, sides = small_faces(recipe.real, shape.lr_size, recipe.native, recipe.crops, recipe.zoom, recipe.seed)
    accelerator.print(f"{len(pictures)} sharp faces; {count_by_side(sides)}", flush=True)
    network = None
    if recipe.delta:
        network = FEATURE_NETWORKS[recipe.features].from_file(recipe.feature_weights).to(device)
        channels_last(network)

    set_seed(recipe.seed)  # all processes start from the same weights, and then draw their own noise
    g, d, opt_g, opt_d = build_run(recipe)
    set_seed(recipe.seed + 1, device_specific=True)  # other numbers than those that became weights
    channels_last(g)
    channels_last(d)
    average = copy.deepcopy(g).eval().requires_grad_(False).to(device)
    alone(accelerator, g, d)
    opt_g, opt_d = accelerator.prepare(opt_g, opt_d)
    accelerator.register_for_checkpointing(average)
    run = Run(Path(recipe.out), accelerator)
    changeable = ("iterations", "snapshot", "log", "data", "real", "out", "precision", "feature_weights")
    run.begin(asdict(recipe), resume, may_change=changeable)
    seen = steps_before(recipe, run.progress.images // recipe.batch)
    sharp = batches(pictures, size // twice, recipe.seed, seen[0] * recipe.batch // twice, rank, processes)
    small = batches(reals, size, recipe.seed + 1, seen[1] * recipe.batch, rank, processes)
    autocast = {"device_type": device.type, "dtype": torch.bfloat16, "enabled": recipe.precision == "bf16"}
    wasserstein = recipe.loss == "wgan-gp"
    total, path = recipe.iterations * recipe.batch, run.folder / "degradation.safetensors"

    while run.progress.images < total:
        warm = run.progress.images < recipe.warmup * recipe.batch
        for step in range(1 if warm else recipe.critic_steps):
            hr = next(sharp).to(device, non_blocking=True).repeat(twice, 1, 1, 1)
            last = warm or step == recipe.critic_steps - 1  # its pictures serve the generator too
            with torch.autocast(**autocast), torch.set_grad_enabled(last):
                made = g(hr, torch.randn(size, shape.noise_dim, device=device))
            if warm:
                continue
            (seen_real,) = d.project(augment(next(small).to(device, non_blocking=True), recipe.augment))
            (seen_made,) = d.project(augment(made, recipe.augment))
            with torch.autocast(**autocast):
                scores_real, scores_made = d([seen_real]), d([seen_made.detach()])
            if wasserstein:
                value_d = losses.wasserstein_d(scores_real, scores_made)
                at = losses.between(seen_real, seen_made)
                with torch.autocast(**autocast):
                    scores_at = d([at])
                penalty = losses.gradient_penalty(at, scores_at)
                value_d = value_d + recipe.penalty * penalty
                run.add(penalty=penalty.detach())
            else:
                value_d = losses.hinge_d(scores_real, scores_made)
            opt_d.zero_grad(set_to_none=True)
            accelerator.backward(value_d)
            share(accelerator, d)
            opt_d.step()
            means = (t[0].detach().mean() for t in (scores_real, scores_made))
            run.add(loss_d=value_d.detach(), score_real=next(means), score_made=next(means))

        one = size // twice
        with torch.autocast(**autocast):
            enlarged = enlarge(made, shape.hr_size)
            l1 = F.l1_loss(enlarged, hr)
            vgg = perceptual(network, enlarged[:one], hr[:one]) if network is not None else l1.new_zeros(())
        value_g = recipe.alpha * (recipe.gamma * l1 + recipe.delta * vgg)
        d.requires_grad_(False)
        if not warm:
            with torch.autocast(**autocast):
                scores = d([seen_made])
            gan = losses.wasserstein_g(scores) if wasserstein else losses.hinge_g(scores)
            value_g = value_g + recipe.beta * gan
            run.add(gan=gan.detach())
        if twice == 2:
            apart = (made[:one] - made[one:]).abs().mean(dim=(1, 2, 3))
            run.add(apart=apart.detach().mean())
            value_g = value_g + (0.0 if warm else recipe.diversity) * F.relu(recipe.spread - apart).mean()
        opt_g.zero_grad(set_to_none=True)
        accelerator.backward(value_g)
        share(accelerator, g)
        opt_g.step()
        d.requires_grad_(True)

        run.progress.images += recipe.batch
        update_average(average, g, recipe.ema)
        run.add(loss_g=value_g.detach(), l1=l1.detach(), vgg=vgg.detach())
        done, ended = run.progress.images // recipe.batch, run.progress.images >= total
        stop = (ended or done % recipe.log == 0) and run.report(stop_after)
        if stop or ended or every(recipe.snapshot, done - 1, done):
            recalibrate(average, pictures, recipe.seed)
            run.snapshot(grid(average, pictures, reals[:: recipe.crops], recipe.seed), SHOWN, cell=96)
            path = export(average, recipe, run)
        if stop:
            break
    return path


def steps_before(recipe: Recipe, iterations: int) -> tuple[int, int]:
    """How many batches of sharp and of small faces were shown before so many steps of the generator."""
    warm = min(iterations, recipe.warmup)
    critic = (iterations - warm) * recipe.critic_steps
    return warm + critic, critic


def grid(model: DegradationGAN, pictures: Pictures, reals: Pictures, seed: int) -> Tensor:
    """Rows of `SHOWN`: sharp faces, their small versions by four noises, natively small faces; all at hr_size."""
    device = next(model.parameters()).device
    hr, real = (next(_fixed(p, seed)).to(device) for p in (pictures, reals))
    with evaluating(model):
        small = [model(hr, model.noise([noise] * SHOWN).to(device)) for noise in range(4)]
    return torch.cat([hr, *(F.interpolate(x, hr.shape[-2:], mode="nearest") for x in (*small, real))]).clamp(0, 1)


def _fixed(pictures: Pictures, seed: int) -> Iterator[Tensor]:
    return batches(pictures, SHOWN, seed)


def export(average: DegradationGAN, recipe: Recipe, run: Run) -> Path:
    """Write the averaged generator as a self-describing half-precision file; of paths it keeps the names."""
    path = run.folder / "degradation.safetensors"
    if run.accelerator.is_main_process:
        names, real = (
            [Path(s).name for s in paths] for paths in (recipe.data, [archive_of(s)[0] for s in recipe.real])
        )
        weights = Path(recipe.feature_weights).name
        about = asdict(replace(recipe, out="", data=names, real=real, feature_weights=weights))
        trained: dict[str, Any] = {"images_seen": run.progress.images, "recipe": about, "data": [*names, *real]}
        save_prior(path, average, trained)
    run.accelerator.wait_for_everyone()
    return path


def describe(recipe: Recipe) -> str:
    """Sizes of the networks that the recipe would train, without needing its data."""
    with torch.device("meta"):
        g, d, *_ = build_run(recipe)
    counts = [sum(p.numel() for p in m.parameters()) for m in (g, d)]
    return f"generator: {counts[0]:,} parameters\ndiscriminator: {counts[1]:,} parameters"
