"""The quantizers that are compared, by name."""

from __future__ import annotations

from collections.abc import Callable

from annvq import tokenizers as tk

_KMEANS, _REVIVAL = tk.KMeansStart(), tk.Revival()
_WITH_BOTH = tk.Learning(start=_KMEANS, revival=_REVIVAL)
SIZES = {"256": 1 << 8, "1k": 1 << 10, "8k": 1 << 13, "65k": 1 << 16, "262k": 1 << 18}

Maker = Callable[[int], tk.Tokenizer]


def _vq(size: str, learning: tk.Learning) -> Maker:
    return lambda dim: tk.VectorQuantizer(dim, SIZES[size], learning)


QUANTIZERS: dict[str, Maker] = {
    # one codebook, and the parts that improve it one at a time
    "vq-1k": _vq("1k", tk.Learning()),
    "vq-gradient-1k": _vq("1k", tk.Learning(update=tk.Gradient())),
    "vq-k-means-1k": _vq("1k", tk.Learning(start=_KMEANS)),
    "vq-revival-1k": _vq("1k", tk.Learning(revival=_REVIVAL)),
    "vq-balanced-1k": _vq("1k", tk.Learning(choice=tk.Balanced())),
    "vq-entropy-1k": _vq("1k", tk.Learning(update=tk.Gradient(), entropy=tk.Entropy(temperature=1.0))),
    "vq-cosine-1k": _vq("1k", tk.Learning(cosine=True)),
    "vq-rotation-1k": _vq("1k", tk.Learning(estimator=tk.rotation_trick)),
    "vq-stochastic-1k": _vq("1k", tk.Learning(choice=tk.Stochastic(0.1))),
    "vq-all-1k": _vq("1k", _WITH_BOTH),
    "vq-projected-1k": lambda dim: tk.VectorQuantizer(dim, 1 << 10, _WITH_BOTH, code_dim=8),
    # one codebook of any size
    **{f"vq-{size}": _vq(size, tk.Learning()) for size in ("256", "8k", "65k", "262k")},
    **{f"sim-{size}": (lambda dim, k=k: tk.SimVQ(dim, k)) for size, k in SIZES.items()},
    **{f"sim-start-{size}": (lambda dim, k=k: tk.SimVQ(dim, k, start=True)) for size, k in SIZES.items()},
    "ibq-1k": lambda dim: tk.IBQ(dim, 1 << 10),
    "gumbel-1k": lambda dim: tk.IBQ(dim, 1 << 10, gumbel=True),
    "low-rank-1k": lambda dim: tk.LowRankVQ(dim, 1 << 10, 8, _WITH_BOTH),
    "k-means-1k": lambda dim: tk.KMeansTokenizer(dim, 1 << 10),
    # scalars and bits
    "fsq-1k": lambda dim: tk.FSQ(dim, 1 << 10),
    "fsq-65k": lambda dim: tk.FSQ(dim, 1 << 16),
    "lfq-1k": lambda dim: tk.LFQ(dim, 1 << 10),
    "bsq-1k": lambda dim: tk.BSQ(dim, 1 << 10),
    "bsq-65k": lambda dim: tk.BSQ(dim, 1 << 16),
    "lfq-plain-1k": lambda dim: tk.LFQ(dim, 1 << 10, entropy=None, commitment=0),  # show what the losses cost
    "bsq-plain-1k": lambda dim: tk.BSQ(dim, 1 << 10, entropy=None, commitment=0),
    "binary-1k": lambda dim: tk.BinaryQuantizer(dim, 1 << 10),
    "latent-2": lambda dim: tk.LatentQuantizer(dim, 2),
    # several codebooks: 16 and 32 bits per vector
    "factorized-2x256": lambda dim: tk.FactorizedVQ(dim, 256, 2, _WITH_BOTH),
    "vq-all-65k": _vq("65k", _WITH_BOTH),
    "product-4x256": lambda dim: tk.ProductVQ(dim, 256, 4, _WITH_BOTH),
    "heads-4x256": lambda dim: tk.ProductVQ(dim, 256, 4, _WITH_BOTH, shared=True),
    "mixture-4x256": lambda dim: tk.GaussianMixtureVQ(dim, 256, 4),
    "residual-4x256": lambda dim: tk.ResidualVQ(dim, 256, 4, _WITH_BOTH),
    "residual-dropout-4x256": lambda dim: tk.ResidualVQ(dim, 256, 4, _WITH_BOTH, quantizer_dropout=0.5),
    "grouped-2x2x256": lambda dim: tk.GroupedResidualVQ(dim, 256, 2, 2, _WITH_BOTH),
    "hierarchical-1k": lambda dim: tk.HierarchicalVQ(dim, 1 << 10, _WITH_BOTH),
}

DEFAULT = (
    "vq-1k",
    "vq-revival-1k",
    "vq-balanced-1k",
    "sim-1k",
    "vq-8k",
    "sim-8k",
    "ibq-1k",
    "low-rank-1k",
    "k-means-1k",
    "fsq-1k",
    "lfq-1k",
    "bsq-1k",
    "binary-1k",
    "latent-2",
    "factorized-2x256",
    "product-4x256",
    "mixture-4x256",
    "residual-4x256",
    "grouped-2x2x256",
    "hierarchical-1k",
)
