"""A method from outside the package, `toy:Toy`: an enlargement with seeded noise, made exact. See `method_class`."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from preimage.invert.finish import finish
from preimage.invert.method import Capabilities, Handle, Input, Method
from preimage.invert.settings import Settings, setting
from preimage.seeds import normal
from preimage.weights import load_prior


@dataclass(frozen=True)
class ToySettings(Settings):
    """Controls of the toy.

    Attributes:
        strength: of the noise, on [0, 1].
    """

    strength: float = setting(0.1, low=0, high=1)


class Toy(Method):
    """As large as a prior, whose pictures it never looks at."""

    name = "toy"
    capabilities = Capabilities(
        summary="noise on an enlargement",
        prior=True,
        inputs=(Input("like", "picture", help="a picture to mix in"),),
        handles=(Handle("noise", "reseed"),),
    )
    presets = {"default": ToySettings(), "loud": ToySettings(0.5)}  # noqa: RUF012

    def load(self, prior, weights):
        self._resolution = load_prior(prior).resolution

    @property
    def resolution(self):
        return self._resolution

    def sample(self, problem, seeds, settings=None, listener=None, at=None):
        side = self.resolution
        images = F.interpolate(problem.lr[None], (side, side), mode="bicubic")
        if "like" in problem.guides:
            images = (images + problem.guides["like"]) / 2
        noise = normal(seeds, (3, side, side), "toy")
        images = images + (settings or self.settings).strength * noise
        yield finish(images, problem, seeds, method=self.name, latents={"noise": noise})

    def _steer(self, candidate, changes, seeds):
        problem = self.pose(candidate.lr, candidate.degradation)
        (found,) = self.sample(problem, seeds)
        return found
