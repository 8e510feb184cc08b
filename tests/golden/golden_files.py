"""Files of every kind and what they answer. As a program it writes those that this version has not written yet:

    python tests/golden/golden_files.py

What was written is never made anew: every later version reads it, and answers the same.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

import annvq
from annvq import codebooks
from annvq.codebooks import KMeans, ProductCodebook, RaBitQCodebook, ResidualCodebook, Rotation, ScalarCodebook
from annvq.index import recipe as recipes
from annvq.index.recipe import CodebookSpec, Recipe
from annvq.multivector import MultiVectorIndex
from annvq.multivector.recipe import EncoderSpec, MultiVectorRecipe
from annvq.multivector.tokens import TokenSpec

FOLDER = Path(__file__).parent
N, D, K = 160, 16, 6
SPILL = Recipe(nlist=8, codebook=CodebookSpec(kind="pq", M=8, nbits=4, residual=True), refine="sq8", spill=True)
INDEXES = {
    "flat": ("Flat", "l2"),
    "lists-fp16": ("IVF8,SQfp16", "cosine"),
    "lists-sq8": ("IVF8,SQ8", "l2"),
    "lists-sq4-refine": ("IVF8,SQ4,Refine(SQfp16)", "ip"),
    "product": ("OPQ4,PQ4x4", "ip"),
    "lists-residual-fastscan": ("IVF8,PQ8x4fsr,Refine(SQ8)", "l2"),
    "residual-stages": ("IVF8,RQ3x4", "ip"),
    "rabitq": ("IVF8,RaBitQ4,Refine(Flat)", "l2"),
    "spill": (SPILL, "ip"),
    "lists-local-8-bits": ("IVF8,PQ8x4fsr,Refine(LVQ8)", "cosine"),
    "pca-local-16-bits": ("PCA12,IVF8,PQ6x4fsr,Refine(LVQ8x8)", "l2"),
    "graph": ("QG32x8", "l2"),
    "graph-sq8": ("QG32x8SQ8", "ip"),
}
FLAT_INDEX = recipes.load("Flat")
MULTIVECTOR = {
    "encoding": MultiVectorRecipe(
        encoder=EncoderSpec(repetitions=2, simhash_bits=2, projection_dim=4), candidates=20,
        index=replace(recipes.load("IVF4,PQ4x4fs"), name="", summary=""), tokens=TokenSpec(kind="fp16"),
    ),
    "centroids": MultiVectorRecipe(
        encoder=EncoderSpec(repetitions=1, simhash_bits=0, projection_dim=None), candidates=20,
        index=FLAT_INDEX, tokens=TokenSpec(kind="pq", bits=4, ncentroids=16), candidates_by="centroids",
    ),
    "tokens": MultiVectorRecipe(
        encoder=EncoderSpec(repetitions=1, simhash_bits=0, projection_dim=None), candidates=20,
        index=FLAT_INDEX, tokens=TokenSpec(kind="sq8"), candidates_by="tokens",
    ),
}  # fmt: skip
ROWS, WIDTH = 48, 8
RATIO = {"DHE": 0.1, "PQ": 0.5, "RVQ": 0.5, "DPQ": 0.1, "MGQE": 0.1, "RaBitQ": 0.5, "FP16": 2, "INT16": 1.5}


def vectors(n=N, seed=0):
    """Return rows (n, D) about eight centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(8, D))
    return (centres[rng.integers(0, 8, n)] + 0.5 * rng.normal(size=(n, D))).astype(np.float32)


def documents():
    """Return forty sets of two to five vectors."""
    lengths = np.random.default_rng(3).integers(2, 6, 40)
    return np.split(vectors(int(lengths.sum()), 4), np.cumsum(lengths)[:-1])


def named(name, answers):
    """Return answers under the name of what gives them."""
    return {f"{name}/{key}": value for key, value in answers.items()}


def hits_of(index):
    """Return ids, as text, and scores of five queries, all lists probed and a filter."""
    found = index.search(vectors(5, 1), K)
    deep = index.search(vectors(5, 1), K, filter=pc.field("even"))
    return {
        "ids": found.ids.astype(str), "scores": found.scores,
        "filtered_ids": deep.ids.astype(str), "filtered_scores": deep.scores,
    }  # fmt: skip


def write_indexes(folder):
    """Write an index of every kind of codes that is not there: two segments, rows that were removed, attributes."""
    answers = {}
    for number, (name, (recipe, metric)) in enumerate(INDEXES.items()):
        if (folder / name).exists():
            continue
        ids = [f"größe {row}" for row in range(N)] if number % 2 else list(range(1000, 1000 + N))
        rows = [{"even": row % 2 == 0, "tag": f"t{row % 3}"} for row in range(N)]
        index = annvq.build(vectors()[:120], recipe, metric=metric, ids=ids[:120], attributes=rows[:120], threads=1)
        index.save(folder / name)
        with annvq.open(folder / name, mode="rw") as opened:
            opened.add(vectors()[120:], ids=ids[120:], attributes=rows[120:])
            opened.remove(ids[5:25])
        with annvq.open(folder / name) as opened:
            answers |= named(name, hits_of(opened))
    return answers


def multivector_hits(index):
    """Return ids and scores of four queries of three vectors."""
    found = index.search(np.split(vectors(12, 5), 4), K)
    return {"ids": found.ids, "scores": found.scores}


def write_multivector(folder):
    """Write an index of every way to keep and to find documents' vectors."""
    answers = {}
    for name, recipe in MULTIVECTOR.items():
        index = MultiVectorIndex.build(documents(), recipe, threads=1)
        index.save(folder / name)
        with MultiVectorIndex.open(folder / name) as opened:
            answers |= named(name, multivector_hits(opened))
    return answers


def trained_codebooks():
    """Return a codebook of every class."""
    rows = vectors()
    return {
        "kmeans": KMeans.train(rows, 8, threads=1),
        "product": ProductCodebook.train(rows, M=4, nbits=4, threads=1),
        "product-8-bits": ProductCodebook.train(vectors(300), M=2, nbits=8, threads=1),
        "residual": ResidualCodebook.train(rows, M=3, nbits=4, threads=1),
        "rabitq": RaBitQCodebook.train(rows, nbits=3),
        "rotation": Rotation.random(D),
        **{kind: ScalarCodebook.train(rows, kind=kind) for kind in ("sq8", "sq4", "fp16")},
    }


def codebook_answers(codebook):
    """Return codes of some vectors and what they stand for."""
    rows = vectors(20, 2)
    if isinstance(codebook, Rotation):
        return {"rotated": codebook.apply(rows, threads=1)}
    if isinstance(codebook, KMeans):
        return {"codes": codebook.assign(rows, threads=1)[0]}
    codes = codebook.encode(rows, threads=1)
    named = codes if isinstance(codes, dict) else {"codes": codes}
    return {**named, "decoded": codebook.decode(codes)}


def write_codebooks(folder):
    """Write a codebook of every class."""
    answers = {}
    for name, codebook in trained_codebooks().items():
        codebooks.save(folder / f"{name}.annvq", codebook)
        answers |= named(name, codebook_answers(codebooks.open(folder / f"{name}.annvq")))
    return answers


def made_table(method):
    """Return a table of a method as a user makes it."""
    from annvq import tables

    cls = tables.METHODS[method]
    more = {"frequencies": np.arange(ROWS)[::-1] + 1.0} if cls.uses_frequencies else {}
    more |= {"num_hashes": 8} if method == "DHE" else {}
    return cls(ROWS, WIDTH, ratio=RATIO.get(method, 1.5), padding_idx=3, **more)


def write_tables(folder):
    """Write a file and a state of every method, which are all kinds of forms."""
    answers = {}
    import torch
    from safetensors.torch import save_file

    from annvq import tables

    for method in tables.METHODS:
        torch.manual_seed(0)
        table = made_table(method).finish().eval()
        table.export(folder / f"{method}.table")
        save_file(table.state_dict(), folder / f"{method}.state")
        answers |= named(method, {"rows": table.freeze()(np.arange(ROWS))})
    return answers


def tokenizer_makers():
    """Return tokenizers of every class by name, as users make them."""
    from annvq import tokenizers as t

    return {
        "vector": lambda: t.VectorQuantizer(WIDTH, 16),
        "vector-gradient": lambda: t.VectorQuantizer(WIDTH, 16, t.Learning(update=t.Gradient(), cosine=True)),
        "fsq": lambda: t.FSQ(WIDTH, 256),
        "lfq": lambda: t.LFQ(WIDTH, 1 << WIDTH),
        "bsq": lambda: t.BSQ(WIDTH, 1 << 5),
        "binary": lambda: t.BinaryQuantizer(WIDTH, 1 << 5),
        "sim": lambda: t.SimVQ(WIDTH, 16),
        "product": lambda: t.ProductVQ(WIDTH, 16, 4),
        "residual": lambda: t.ResidualVQ(WIDTH, 16, 3),
        "grouped": lambda: t.GroupedResidualVQ(WIDTH, 16, num_quantizers=2, groups=2),
        "factorized": lambda: t.FactorizedVQ(WIDTH, 16, 2),
        "low-rank": lambda: t.LowRankVQ(WIDTH, 16, 3),
        "ibq": lambda: t.IBQ(WIDTH, 16),
        "mixture": lambda: t.GaussianMixtureVQ(WIDTH, 16, 2),
        "k-means": lambda: t.KMeansTokenizer(WIDTH, 16),
        "latent": lambda: t.LatentQuantizer(WIDTH, 5),
    }


def inputs():
    """Return vectors (2, 15, WIDTH) for tokenizers."""
    import torch

    return torch.from_numpy(np.random.default_rng(9).normal(size=(2, 15, WIDTH)).astype(np.float32))


def token_answers(tokenizer):
    """Return codes and what they stand for."""
    import torch

    with torch.no_grad():
        codes = tokenizer.encode(inputs())
        return {"codes": codes.numpy(), "decoded": tokenizer.decode(codes).numpy()}


def some_codes(size, masked):
    """Return codes (2, 7, 3) below a size, some perhaps masked."""
    import torch

    codes = torch.from_numpy(np.random.default_rng(1).integers(0, size, (2, 7, 3)))
    codes[1, 2] = -1 if masked else 0
    return codes


def write_tokenizers(folder):
    """Write weights of every tokenizer, and codes as Arrow and packed."""
    answers = {}
    import torch

    from annvq.tokenizers import save_weights, write_codes

    for name, make in tokenizer_makers().items():
        torch.manual_seed(0)
        tokenizer = make()
        if name == "k-means":
            tokenizer.fit(np.random.default_rng(0).normal(size=(200, WIDTH)))
        else:
            tokenizer.train()(inputs())
        save_weights(folder / f"{name}.safetensors", tokenizer.eval())
        answers |= named(name, token_answers(tokenizer))
    for packed in (False, True):
        write_codes(
            folder / f"codes-{'packed' if packed else 'plain'}.arrow",
            [some_codes(300, not packed)] * 2,
            300,
            packed=packed,
        )
    return answers


KINDS = {
    "indexes": write_indexes,
    "multivector": write_multivector,
    "codebooks": write_codebooks,
    "tables": write_tables,
    "tokenizers": write_tokenizers,
}

if __name__ == "__main__":
    version = FOLDER / annvq.__version__
    for kind, write in KINDS.items():
        stored = version / kind / "answers.npz"
        answers = dict(np.load(stored)) if stored.exists() else {}
        if answers and kind != "indexes":
            continue
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(stored, **answers, **write(stored.parent))
