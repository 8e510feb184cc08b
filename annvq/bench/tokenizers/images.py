"""Images to tokenize: Fashion-MNIST's IDX files, CIFAR-10 as JPEG."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annvq.errors import DataFormatError, MissingExtraError

_IDX_IMAGES = 0x00000803  # of unsigned bytes, three axes
_MOST_JPEG = 1 << 20  # bytes of one file
_CIFAR_SIDE = 32


@dataclass(frozen=True)
class Images:
    """A data set of images.

    Parameters
    ----------
    name
        The name of its folder.
    train, test
        (n, channels, height, width) uint8.

    """

    name: str
    train: np.ndarray
    test: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Images:
        """Read a folder of Fashion-MNIST (``*-images-idx3-ubyte.gz``) or of CIFAR-10 as JPEG (``*.tar.gz``).

        Raises
        ------
        DataFormatError
            Neither of them is there, or a file is damaged.

        """
        name = folder.resolve().name
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            return cls(name, *(_idx(folder / f"{split}-images-idx3-ubyte.gz") for split in ("train", "t10k")))
        if (folder / "train.tar.gz").is_file():
            return cls(name, *(_jpegs(folder / f"{split}.tar.gz") for split in ("train", "test")))
        raise DataFormatError(f"{folder}: expected train-images-idx3-ubyte.gz or train.tar.gz in it")


def _idx(path: Path) -> np.ndarray:
    """Return images (n, 1, height, width) of an IDX file; its header is checked against its bytes."""
    try:
        with gzip.open(path) as opened:
            magic, n, height, width = np.frombuffer(opened.read(16), ">u4").tolist()
            pixels = np.frombuffer(opened.read(), np.uint8)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DataFormatError(f"{path.name}: {error}") from error
    if magic != _IDX_IMAGES or not n or n * height * width != len(pixels):
        raise DataFormatError(f"{path.name}: {len(pixels)} bytes are no {n} images of {height} x {width}")
    return pixels.reshape(n, 1, height, width)


def _jpegs(path: Path) -> np.ndarray:
    """Return images (n, 3, 32, 32) of a tar of JPEG files, in the order of their numbers."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingExtraError("pillow", "plot") from None
    try:
        found = sorted(_files(path))
        pixels = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for _, content in found]
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, UnidentifiedImageError) as error:
        raise DataFormatError(f"{path.name}: {error}") from error
    if not pixels or any(image.shape != (_CIFAR_SIDE, _CIFAR_SIDE, 3) for image in pixels):
        raise DataFormatError(f"{path.name}: expected JPEG images of {_CIFAR_SIDE} x {_CIFAR_SIDE}")
    return np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2))


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield number and content of each JPEG; in the order of numbers, classes are mixed."""
    with tarfile.open(path, "r:gz") as opened:
        for member in opened:
            if member.isfile() and member.name.endswith(".jpg"):
                if member.size > _MOST_JPEG:
                    raise DataFormatError(f"{path.name}: {member.name} of {member.size:,} bytes")
                content = opened.extractfile(member)
                assert content is not None
                yield f"{Path(member.name).stem}/{member.name}", content.read()
