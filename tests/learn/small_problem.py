"""A small retrieval problem whose codes are coarse enough that learning has something to win."""

import numpy as np


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made_problem(n=1000, d=32, queries=600):
    """Return documents (n, d) whose loudest dimensions no query looks at, queries, pairs."""
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(n, d))
    documents[:, : d // 2] *= 3.0
    documents = unit(documents)
    targets = rng.integers(0, n, queries)
    asked = documents[targets] + 0.12 * rng.normal(size=(queries, d))
    asked[:, : d // 2] *= 0.1  # what counts is in the quiet half
    return documents, unit(asked), np.column_stack([np.arange(queries), targets])
