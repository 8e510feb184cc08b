"""The autoencoder that every quantizer is measured in: two strided convolutions down, two up, normalized."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annvq.learn.runtime import torch
from annvq.tokenizers import BSQ, FSQ, LFQ, BinaryQuantizer, LatentQuantizer, Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from annvq.tokenizers import Quantized

_GROUPS = 4


class Autoencoder(torch.nn.Module):
    """An autoencoder that turns images into a grid of vectors, quantizes these, and turns them back into images.

    Convolutions are followed by group normalization, as in VQGAN's encoder and decoder (Esser, Rombach and Ommer
    2021). Each dimension of the vectors is brought to mean 0 and to one variance over the batch (Lancucki et al. 2020,
    "Robust Training of Vector Quantized Bottleneck Models"), at which vectors are about as long as codes are at the
    start: 1 / dim, but 1 before linear maps to levels and bits of about 1, and 1/4 before scalars of 1/2. Without these
    normalizations, vectors soon spread along a single direction, far from where codebooks start, and the comparison
    would show how well a quantizer copes with that.

    Parameters
    ----------
    channels
        Channels of the images, whose sides are multiples of 4.
    dim, width
        Dimension of the vectors, and channels of the layers between, which are a multiple of 4.
    tokenizer
        The quantizer between encoder and decoder, or None.
    normalize
        Whether to normalize as described.

    """

    def __init__(
        self, channels: int, dim: int, width: int, tokenizer: Tokenizer | None, *, normalize: bool = True
    ) -> None:
        super().__init__()
        nn = torch.nn

        def active(width: int) -> list[torch.nn.Module]:
            return [nn.GroupNorm(_GROUPS, width), nn.GELU()] if normalize else [nn.GELU()]

        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            *active(width),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            *active(2 * width),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            *active(2 * width),
            nn.Conv2d(2 * width, dim, 1),
            nn.BatchNorm2d(dim, affine=False) if normalize else nn.Identity(),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, 2 * width, 3, 1, 1),
            *active(2 * width),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            *active(2 * width),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.GELU(),
            nn.ConvTranspose2d(width, channels, 4, 2, 1),
        )
        self.tokenizer = tokenizer
        self._scale = _deviation(tokenizer, dim) if normalize else 1.0

    def latents(self, images: Tensor) -> Tensor:
        """Return the vectors (n, height / 4, width / 4, dim) of images (n, channels, height, width) in 0 to 1."""
        return self.encoder(images - 0.5).movedim(1, -1) * self._scale

    def images(self, latents: Tensor) -> Tensor:
        """Return the images of vectors; their values are not clipped to 0 to 1."""
        return self.decoder(latents.movedim(-1, 1)) + 0.5

    def forward(self, images: Tensor) -> tuple[Tensor, Quantized | None]:
        """Return reconstructions, and what the quantizer returned."""
        latents = self.latents(images)
        if self.tokenizer is None:
            return self.images(latents), None
        found = self.tokenizer(latents)
        return self.images(found.z_q), found


def _deviation(tokenizer: Tokenizer | None, dim: int) -> float:
    """Return the standard deviation of each dimension of the vectors."""
    if isinstance(tokenizer, LatentQuantizer):
        return 0.5
    if isinstance(tokenizer, FSQ | LFQ | BinaryQuantizer) and not isinstance(tokenizer, BSQ):
        return 1.0
    return dim**-0.5
