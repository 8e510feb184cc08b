"""One cell of the comparison: an autoencoder trained with one quantizer and one seed, and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annvq.bench.tokenizers.autoencoder import Autoencoder
from annvq.bench.tokenizers.images import Images
from annvq.bench.tokenizers.quantizers import QUANTIZERS
from annvq.bench.tokenizers.search import SearchFigures, measure_search
from annvq.learn.runtime import torch
from annvq.tokenizers import KMeansTokenizer, Tokenizer
from annvq.tokenizers.quantized import usage_of

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 8  # the number of test images whose reconstructions are kept
_BATCH = 500  # the number of images that are measured at a time
_KMEANS_SAMPLE = 256  # vectors per code
_FAINT = 1e-10  # a mean squared error whose PSNR is 100 dB


@dataclass(frozen=True)
class Setting:
    """What all cells have in common.

    Parameters
    ----------
    steps, batch
        Training steps, and images of each.
    dim, width
        Dimension of the vectors, and width of the convolutions.
    learning_rate
        The learning rate of Adam.
    normalize
        Whether the autoencoder normalizes, see `Autoencoder`.
    usage_images
        Training images, at most, over whose codes utilization and perplexity are counted.
    test_images
        Test images, at most, over which errors are measured.

    """

    steps: int = 1000
    batch: int = 64
    dim: int = 32
    width: int = 32
    learning_rate: float = 1e-3
    normalize: bool = True
    usage_images: int = 10_000
    test_images: int = 10_000


@dataclass(frozen=True)
class Cell:
    """The figures of one cell.

    Parameters
    ----------
    quantizer, seed
        Which cell it is.
    codebook_size
        Codes of a codebook.
    bits, bits_per_image
        Bits of the codes of one vector and of one image.
    mse, psnr
        Means over the test images: squared error of pixels in 0 to 1, and peak signal-to-noise ratio in dB.
    utilization, perplexity
        Share of the codes that `tokens` vectors use, and exponential of their entropy; means over codebooks.
    tokens
        Number of vectors over which these are counted.
    train_s
        Seconds of training.
    search
        Figures of search by codes alone, if they were asked for and the codes can be scanned.

    """

    quantizer: str
    seed: int
    codebook_size: int
    bits: float
    bits_per_image: float
    mse: float
    psnr: float
    utilization: float
    perplexity: float
    tokens: int
    train_s: float
    search: SearchFigures | None = None


def train(images: Images, quantizer: str, seed: int, setting: Setting, advance: Callable[[], None]) -> Autoencoder:
    """Return an autoencoder trained with a quantizer; ``advance`` is called after every step.

    `KMeansTokenizer` is fitted to the vectors of training images after a training without a quantizer.
    """
    torch.manual_seed(seed)
    channels = images.train.shape[1]
    tokenizer = QUANTIZERS[quantizer](setting.dim)
    fitted = isinstance(tokenizer, KMeansTokenizer)
    torch.manual_seed(seed)  # the autoencoder starts from the same weights, whatever the quantizer drew
    between = None if fitted else tokenizer
    model = Autoencoder(channels, setting.dim, setting.width, between, normalize=setting.normalize).train()
    optimizer = torch.optim.Adam(model.parameters(), setting.learning_rate)
    for rows in _orders(len(images.train), setting, seed):
        batch = as_floats(images.train[rows])
        made, found = model(batch)
        loss = (made - batch).square().mean()
        if found is not None:
            loss = loss + found.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        advance()
    model.eval()
    if fitted:
        mixed = np.random.default_rng(seed).permutation(images.train)
        model.tokenizer = tokenizer.fit(
            _latents(model, mixed, tokenizer.codebook_size * _KMEANS_SAMPLE), seed=seed
        ).eval()
    return model


def measure(
    model: Autoencoder, images: Images, quantizer: str, seed: int, train_s: float, setting: Setting, search: bool
) -> tuple[Cell, np.ndarray]:
    """Return a trained autoencoder's figures, and its reconstructions (`SHOWN`, ...) uint8 of the first test images."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    errors, shown = [], None
    with torch.no_grad():
        for batch in _batches(images.test[: setting.test_images]):
            made = model(batch)[0].clamp(0, 1)
            errors.append((made - batch).square().mean((1, 2, 3)))
            if shown is None:
                shown = (made[:SHOWN] * 255).round().byte().numpy()
        codes = _codes(model, images.train[: setting.usage_images])
    mse = torch.cat(errors).double()
    places = codes.shape[1] * codes.shape[2]
    usage = usage_of(codes.flatten(0, 2), tokenizer.codebook_size)
    assert shown is not None
    cell = Cell(
        quantizer=quantizer,
        seed=seed,
        codebook_size=tokenizer.codebook_size,
        bits=tokenizer.bits_per_vector,
        bits_per_image=tokenizer.bits_per_vector * places,
        mse=float(mse.mean()),
        psnr=float((-10 * mse.clamp_min(_FAINT).log10()).mean()),
        utilization=float(usage["utilization"]),
        perplexity=float(usage["perplexity"]),
        tokens=len(codes) * places,
        train_s=train_s,
        search=_search(model, tokenizer, images) if search else None,
    )
    return cell, shown


def run_cell(
    images: Images, quantizer: str, seed: int, setting: Setting, search: bool, advance: Callable[[], None]
) -> tuple[Cell, np.ndarray]:
    """Train and measure a cell; the parameters are those of `train` and `measure`."""
    begin = time.perf_counter()
    model = train(images, quantizer, seed, setting, advance)
    return measure(model, images, quantizer, seed, time.perf_counter() - begin, setting, search)


def as_floats(pixels: np.ndarray) -> Tensor:
    """Return images (n, ...) uint8 as float32 in 0 to 1."""
    return torch.from_numpy(pixels.astype(np.float32) / 255)


def _orders(n: int, setting: Setting, seed: int) -> Iterator[np.ndarray]:
    """Yield the images of each step: all images in one random order, then all in another, and so on."""
    rng = np.random.default_rng(seed)
    waiting = np.empty(0, np.int64)
    for _ in range(setting.steps):
        while len(waiting) < setting.batch:
            waiting = np.concatenate([waiting, rng.permutation(n)])
        yield waiting[: setting.batch]
        waiting = waiting[setting.batch :]


def _batches(pixels: np.ndarray) -> Iterator[Tensor]:
    return (as_floats(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH))


@torch.no_grad()
def _latents(model: Autoencoder, pixels: np.ndarray, wanted: int) -> np.ndarray:
    """Return the first vectors (at most ``wanted``, dim) of images."""
    found, count = [], 0
    for batch in _batches(pixels):
        found.append(model.latents(batch).flatten(0, 2).numpy())
        count += len(found[-1])
        if count >= wanted:
            break
    return np.concatenate(found)[:wanted]


def _codes(model: Autoencoder, pixels: np.ndarray) -> Tensor:
    assert model.tokenizer is not None
    with torch.no_grad():
        return torch.cat([model.tokenizer.encode(model.latents(batch)) for batch in _batches(pixels)])


def _search(model: Autoencoder, tokenizer: Tokenizer, images: Images) -> SearchFigures | None:
    with torch.no_grad():
        items, queries = (
            torch.cat([model.latents(batch) for batch in _batches(pixels)]) for pixels in (images.train, images.test)
        )
    return measure_search(tokenizer, items, queries)


def figures_of(cells: list[Cell], name: str) -> dict[str, Any]:
    """Return mean and spread (standard deviation, if there are several) of a figure over seeds."""
    values = [getattr(cell, name) for cell in cells]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {name: float(np.mean(values)), f"{name}_spread": spread}
