"""Plain NumPy float64 versions of what the kernels do."""

import numpy as np


def gray(bits):
    """Return the number of the cell whose signs are given, as the reference implementation appends them."""
    code = 0
    for bit in bits:
        code = (code << 1) + (int(bit) ^ (code & 1))
    return code


def encode(encoder, sets, of_documents):
    k, repetitions = encoder.simhash_bits, encoder.repetitions
    width = encoder.dim if encoder.projection_dim is None else encoder.projection_dim
    matrix = encoder.matrix.astype(np.float64)
    every = []
    for vectors in sets:
        products = np.asarray(vectors, np.float64) @ matrix.T
        out = np.zeros((repetitions, 2**k, width))
        for r in range(repetitions):
            signs = products[:, r * k : (r + 1) * k] > 0
            column = repetitions * k + r * width
            projected = products[:, column : column + width]
            cells = np.array([gray(row) for row in signs], int)
            for cell in range(2**k):
                inside = cells == cell
                if inside.any():
                    out[r, cell] = projected[inside].mean(axis=0) if of_documents else projected[inside].sum(axis=0)
                elif of_documents and encoder.fill_empty and len(vectors):
                    binary = cell ^ (cell >> 1)
                    wanted = np.array([(binary >> (k - 1 - i)) & 1 for i in range(k)], bool)
                    out[r, cell] = projected[np.argmin((signs != wanted).sum(axis=1))]
        flat = out.ravel()
        if encoder.final_dim is not None:
            places, signs = encoder.sketch
            final = np.zeros(encoder.final_dim)
            np.add.at(final, places, signs * flat)
            flat = final
        every.append(flat)
    return np.array(every)


def chamfer(queries, documents):
    scores = np.zeros((len(queries), len(documents)))
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            products = np.asarray(query, np.float64) @ np.asarray(document, np.float64).T
            best = products.max(axis=1) if len(document) else np.full(len(query), -np.inf)
            scores[i, j] = best.sum()
    return scores


def sets(lengths, dim, seed=0):
    """Random sets of unit vectors."""
    rng = np.random.default_rng(seed)
    found = [rng.normal(size=(length, dim)).astype(np.float32) for length in lengths]
    return [one / np.linalg.norm(one, axis=1, keepdims=True) for one in found]


def topical(n, dim, seed=0, topics=24):
    """Sets of unit vectors around topics of their own, as documents' tokens are."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(topics, dim))
    made = []
    for _ in range(n):
        about = centers[rng.choice(topics, 3, replace=False)]
        vectors = about[rng.integers(0, 3, rng.integers(3, 30))] + 0.9 * rng.normal(size=(1, dim))
        vectors = vectors + 0.7 * rng.normal(size=vectors.shape)
        made.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return made
