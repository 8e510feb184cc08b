"""Codebooks, which turn vectors into codes and back and make the lookup tables of a query."""

from annvq.codebooks.kmeans import KMeans
from annvq.codebooks.persistence import open_codebook as open
from annvq.codebooks.persistence import save
from annvq.codebooks.product import ProductCodebook
from annvq.codebooks.rabitq import RaBitQCodebook
from annvq.codebooks.residual import ResidualCodebook
from annvq.codebooks.rotation import Rotation
from annvq.codebooks.scalar import ScalarCodebook
from annvq.renamed import former_names

__all__ = [
    "KMeans",
    "ProductCodebook",
    "RaBitQCodebook",
    "ResidualCodebook",
    "Rotation",
    "ScalarCodebook",
    "open",
    "save",
]

__getattr__ = former_names(__name__, {"load": "open"})
