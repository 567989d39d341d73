"""A prior of your own: here the decoder of a variational autoencoder, tiny and with random weights. Put yours in its place.

preimage upsample face.png -o out --method pulse --prior own_prior:TinyDecoder     # run in the folder of this file
"""

import torch
from torch import nn

import preimage
from preimage.seeds import normal


class TinyDecoder(nn.Module):
    name = "tiny-decoder"
    resolution = 32
    latent_shape = (1, 64)  # a VAE has one row of latents; a generator with W+ has many
    spaces = ("Z",)  # latents are drawn from a normal distribution; the search walks on its sphere
    noise_sizes = ()

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [nn.Linear(64, 512), nn.Unflatten(1, (32, 4, 4)), nn.LeakyReLU(0.2)]
            for width in (16, 8):
                layers += [nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            self.decoder = nn.Sequential(*layers, nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1))
        self.register_buffer("mean", torch.zeros(64))  # buffers move to the GPU with the network
        self.register_buffer("deviation", torch.ones(64))

    @property
    def mean_latent(self):
        return self.mean

    @property
    def gaussian_fit(self):
        return self.mean, self.deviation

    def synthesize(self, latents, noise=None):
        return self.decoder(3 * latents[:, 0]).sigmoid()

    @torch.no_grad()
    def sample(self, seeds, truncation=1.0):
        latents = normal(seeds, (1, 64), "z").to(self.mean.device)  # a seed always gives the same latent
        return self.synthesize(truncation * latents)


if __name__ == "__main__":
    prior = TinyDecoder()
    small = preimage.make_operator("bicubic", hr_size=32, scale=4)(prior.sample([7]))[0]
    candidates = preimage.upsample(small.clamp(0, 1), seeds="0-3", method="pulse", prior=prior, steps=60)
    print(
        f"exact: {candidates.exact.tolist()}; grey levels missed by the search alone: {candidates.error_before.tolist()}"
    )
