"""The autoencoder that every quantizer is measured in: two strided convolutions down, two up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.learn.runtime import torch

if TYPE_CHECKING:
    from torch import Tensor

    from annvq.tokenizers import Quantized, Tokenizer


class Autoencoder(torch.nn.Module):
    """Images to a grid of vectors, a quantizer, and images back.

    Parameters
    ----------
    channels
        Of the images, whose sides are multiples of 4.
    dim, width
        Dimension of the vectors, and channels between.
    tokenizer
        Between encoder and decoder; None for none.

    """

    def __init__(self, channels: int, dim: int, width: int, tokenizer: Tokenizer | None) -> None:
        super().__init__()
        nn = torch.nn
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            nn.GELU(),
            nn.Conv2d(2 * width, dim, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, 2 * width, 3, 1, 1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            nn.GELU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.GELU(),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),
        )
        self.tokenizer = tokenizer

    def latents(self, images: Tensor) -> Tensor:
        """Return the vectors (n, height / 4, width / 4, dim) of images (n, channels, height, width) in 0 to 1."""
        return self.encoder(images - 0.5).movedim(1, -1)

    def images(self, latents: Tensor) -> Tensor:
        """Return the images of vectors, not cut to 0 to 1."""
        return self.decoder(latents.movedim(-1, 1)) + 0.5

    def forward(self, images: Tensor) -> tuple[Tensor, Quantized | None]:
        """Return reconstructions, and what the quantizer gave."""
        latents = self.latents(images)
        if self.tokenizer is None:
            return self.images(latents), None
        found = self.tokenizer(latents)
        return self.images(found.z_q), found
