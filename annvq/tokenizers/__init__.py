"""Vector quantizers of generative tokenizers, composed of small parts (extra "train").

>>> tokenizer = annvq.tokenizers.VectorQuantizer(64, 1024, Learning(start=KMeansStart(), revival=Revival()))
>>> z_q, codes, loss, stats = tokenizer(z)
"""

from annvq.tokenizers.arrow import codes_from_arrow, codes_to_arrow, read_codes, write_codes
from annvq.tokenizers.binary import BinaryQuantizer
from annvq.tokenizers.bsq import BSQ
from annvq.tokenizers.choices import Balanced, Nearest, Stochastic
from annvq.tokenizers.estimators import rotation_trick, straight_through
from annvq.tokenizers.factorized import FactorizedVQ
from annvq.tokenizers.frozen import KMeansTokenizer
from annvq.tokenizers.fsq import FSQ
from annvq.tokenizers.grouped import GroupedResidualVQ
from annvq.tokenizers.hierarchical import HierarchicalVQ
from annvq.tokenizers.ibq import IBQ
from annvq.tokenizers.index import to_index
from annvq.tokenizers.latent import LatentQuantizer
from annvq.tokenizers.learning import Learning
from annvq.tokenizers.lfq import LFQ
from annvq.tokenizers.losses import Entropy
from annvq.tokenizers.lowrank import LowRankVQ
from annvq.tokenizers.mixture import GaussianMixtureVQ
from annvq.tokenizers.product import ProductVQ
from annvq.tokenizers.quantized import MASKED, Quantized
from annvq.tokenizers.residual import ResidualVQ
from annvq.tokenizers.revival import Revival
from annvq.tokenizers.shrink import Shrunk, shrink_codebook
from annvq.tokenizers.sim import SimVQ
from annvq.tokenizers.start import KMeansStart
from annvq.tokenizers.tokenizer import Tokenizer, mask_of_lengths
from annvq.tokenizers.updates import EMA, Gradient
from annvq.tokenizers.vector import VectorQuantizer
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
