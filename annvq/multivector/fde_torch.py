"""Fixed dimensional encodings with torch, on the device that holds the vectors, which is mostly a GPU.

The steps are those of `annvq.kernels.documents.fde`, on all sets at once. Sums run in another order, so numbers agree
up to rounding, and a vector whose product with a hyperplane rounds to the other side of zero falls into another cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from annvq.multivector.fde import FixedDimensionalEncoder

_STEP = 1 << 40  # one bit of distance outweighs any place in a set
_FAR = 1 << 60


def encode(
    encoder: FixedDimensionalEncoder, vectors: torch.Tensor, offsets: torch.Tensor, of_documents: bool
) -> torch.Tensor:
    """Encode m sets of vectors on the device that they are on.

    Parameters
    ----------
    encoder
        The encoder whose parameters are used.
    vectors, offsets
        (n, d) of a float dtype; (m + 1,) int64 that rise from 0 to n, on the same device.
    of_documents
        Whether cells are averaged and filled, rather than summed.

    Returns
    -------
    torch.Tensor
        (m, output_dim) float32.

    """
    import torch

    repetitions, bits, device = encoder.repetitions, encoder.simhash_bits, vectors.device
    matrix = torch.from_numpy(encoder.matrix).to(device)
    products = vectors.float() @ matrix.T
    m, n, cells = len(offsets) - 1, len(vectors), 1 << bits
    planes = products[:, : repetitions * bits].reshape(n, repetitions, bits)
    projected = products[:, repetitions * bits :].reshape(n, repetitions, -1)
    places = torch.arange(n, device=device)
    owners = torch.repeat_interleave(torch.arange(m, device=device), offsets.diff())
    at = owners[:, None] * repetitions + torch.arange(repetitions, device=device)
    at = (at * cells + _cells(planes)).reshape(-1)
    width = projected.shape[2]
    sums = torch.zeros(m * repetitions * cells, width, device=device)
    sums.index_add_(0, at, projected.reshape(-1, width))
    if of_documents:
        sizes = torch.zeros(len(sums), device=device).index_add_(0, at, torch.ones(len(at), device=device))
        sums = sums / sizes.clamp(min=1)[:, None]
        if encoder.fill_empty and n:
            inside = (places - offsets[owners])[:, None].expand(n, repetitions).reshape(-1)
            nearest = torch.full((len(sums),), _FAR, device=device, dtype=torch.int64)
            nearest.scatter_reduce_(0, at, inside, "amin")
            nearest = _spread(nearest.reshape(-1, cells), bits).reshape(-1)
            empty = torch.nonzero((sizes == 0) & (nearest < _FAR)).reshape(-1)
            of_set = empty // (repetitions * cells)
            chosen = offsets[of_set] + nearest[empty] % _STEP
            sums[empty] = projected[chosen, empty // cells % repetitions]
    flat = sums.reshape(m, -1)
    if encoder.final_dim is None:
        return flat
    buckets, signs = (torch.from_numpy(part).to(device) for part in encoder.sketch)
    return torch.zeros(m, encoder.final_dim, device=device).index_add_(1, buckets, flat * signs)


def _cells(planes: torch.Tensor) -> torch.Tensor:
    """Return the cells (n, repetitions) int64 of products (n, repetitions, bits), numbered as Gray codes."""
    import torch

    cells = torch.zeros(planes.shape[:2], dtype=torch.int64, device=planes.device)
    for i in range(planes.shape[2]):
        cells = 2 * cells + ((planes[..., i] > 0).long() ^ (cells & 1))
    return cells


def _spread(nearest: torch.Tensor, bits: int) -> torch.Tensor:
    """Return every cell's nearest place in bits, plus that many times `_STEP`; both are (rows, cells) int64."""
    import torch

    cells = torch.arange(1 << bits, device=nearest.device)
    binary = cells ^ (cells >> 1)
    of_binary = torch.empty_like(cells)
    of_binary[binary] = cells
    for bit in range(bits):
        across = of_binary[binary ^ (1 << bit)]
        nearest = torch.minimum(nearest, nearest[:, across] + _STEP)
    return nearest
