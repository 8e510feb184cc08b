"""Convert indexes and codebooks to and from Faiss (extra "faiss"); codes are kept, nothing is trained again.

>>> import annvq.interop.faiss
>>> index = annvq.build(np.eye(4), "flat", metric="l2")
>>> faiss_index = annvq.interop.faiss.to_faiss(index)
>>> annvq.interop.faiss.from_faiss(faiss_index)
Index(n=4, dim=4, metric='l2', recipe='from-faiss')
"""

from annvq.interop.faiss_codebooks import (
    from_centroid_index,
    from_product_quantizer,
    from_rotation_transform,
    from_scalar_quantizer,
    pack_codes,
    to_centroid_index,
    to_product_quantizer,
    to_rotation_transform,
    to_scalar_quantizer,
    unpack_codes,
)
from annvq.interop.faiss_export import to_faiss
from annvq.interop.faiss_import import from_faiss

__all__ = [
    "from_centroid_index",
    "from_faiss",
    "from_product_quantizer",
    "from_rotation_transform",
    "from_scalar_quantizer",
    "pack_codes",
    "to_centroid_index",
    "to_faiss",
    "to_product_quantizer",
    "to_rotation_transform",
    "to_scalar_quantizer",
    "unpack_codes",
]
