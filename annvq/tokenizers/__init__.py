"""Vector quantizers of generative tokenizers, composed of small parts (extra "train").

>>> import torch
>>> from annvq.tokenizers import KMeansStart, Learning, Revival, VectorQuantizer
>>> tokenizer = VectorQuantizer(64, 256, Learning(start=KMeansStart(), revival=Revival()))
>>> z_q, codes, loss, stats = tokenizer(torch.randn(2, 200, 64))
>>> codes.shape
torch.Size([2, 200])
"""

from annvq.tokenizers.choosing.choices import Balanced, Nearest, Stochastic
from annvq.tokenizers.codes.arrow import codes_from_arrow, codes_to_arrow, read_codes, write_codes
from annvq.tokenizers.codes.index import to_index
from annvq.tokenizers.quantized import MASKED, Quantized
from annvq.tokenizers.quantizers.binary import BinaryQuantizer
from annvq.tokenizers.quantizers.bsq import BSQ
from annvq.tokenizers.quantizers.factorized import FactorizedVQ
from annvq.tokenizers.quantizers.frozen import KMeansTokenizer
from annvq.tokenizers.quantizers.fsq import FSQ
from annvq.tokenizers.quantizers.grouped import GroupedResidualVQ
from annvq.tokenizers.quantizers.hierarchical import HierarchicalVQ
from annvq.tokenizers.quantizers.ibq import IBQ
from annvq.tokenizers.quantizers.latent import LatentQuantizer
from annvq.tokenizers.quantizers.lfq import LFQ
from annvq.tokenizers.quantizers.lowrank import LowRankVQ
from annvq.tokenizers.quantizers.mixture import GaussianMixtureVQ
from annvq.tokenizers.quantizers.product import ProductVQ
from annvq.tokenizers.quantizers.residual import ResidualVQ
from annvq.tokenizers.quantizers.shrink import Shrunk, shrink_codebook
from annvq.tokenizers.quantizers.sim import SimVQ
from annvq.tokenizers.quantizers.vector import VectorQuantizer
from annvq.tokenizers.tokenizer import Tokenizer, mask_of_lengths
from annvq.tokenizers.training.estimators import rotation_trick, straight_through
from annvq.tokenizers.training.learning import Learning
from annvq.tokenizers.training.losses import Entropy
from annvq.tokenizers.training.revival import Revival
from annvq.tokenizers.training.start import KMeansStart
from annvq.tokenizers.training.updates import EMA, Gradient
from annvq.tokenizers.weights import load_weights, save_weights

__all__ = [
    "BSQ",
    "EMA",
    "FSQ",
    "IBQ",
    "LFQ",
    "MASKED",
    "Balanced",
    "BinaryQuantizer",
    "Entropy",
    "FactorizedVQ",
    "GaussianMixtureVQ",
    "Gradient",
    "GroupedResidualVQ",
    "HierarchicalVQ",
    "KMeansStart",
    "KMeansTokenizer",
    "LatentQuantizer",
    "Learning",
    "LowRankVQ",
    "Nearest",
    "ProductVQ",
    "Quantized",
    "ResidualVQ",
    "Revival",
    "Shrunk",
    "SimVQ",
    "Stochastic",
    "Tokenizer",
    "VectorQuantizer",
    "codes_from_arrow",
    "codes_to_arrow",
    "load_weights",
    "mask_of_lengths",
    "read_codes",
    "rotation_trick",
    "save_weights",
    "shrink_codebook",
    "straight_through",
    "to_index",
    "write_codes",
]
