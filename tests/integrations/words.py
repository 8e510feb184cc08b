"""A small collection with judgements, and an encoder that needs no weights: every word has a vector of its own.

It depends a little on the text around the word. All vectors share a direction, as those of real encoders do, so that
similarities are positive, and libraries that pad documents with zeros compute MaxSim. Numbers have few bits, so that
inner products are exact, whoever computes them.
"""

import os
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

DIM = 24


def word_vectors(text):
    """Return one vector per word, (t, d) float32, of about unit length."""
    around = np.random.default_rng(zlib.crc32(text.encode()))
    rows = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM) for word in text.split() or ["<none>"]]
    rows = np.array(rows) + 0.3 * around.normal(size=(len(rows), DIM)) + 1.5
    return _in_few_bits(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def text_vectors(texts):
    """Return the mean of the words' vectors per text, (n, d) float32."""
    return _in_few_bits(np.array([word_vectors(text).mean(axis=0) for text in texts]).reshape(-1, DIM))


def _in_few_bits(vectors):
    return (np.round(vectors * 256) / 256).astype(np.float32)


@dataclass(frozen=True)
class Judged:
    corpus: dict
    queries: dict
    qrels: dict


@cache
def judged_texts():
    """300 documents of some of 400 words; the judged documents of a query share words with it, and one is the query."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(400)]
    corpus, queries, qrels = {}, {}, {}
    for number in range(300):
        chosen = rng.choice(words, size=rng.integers(1, 40))
        corpus[f"d{number}"] = {"title": str(chosen[0]), "text": " ".join(chosen[1:])}
    for number in range(40):
        source = rng.integers(0, 300, size=3)
        texts = [corpus[f"d{one}"]["title"] + " " + corpus[f"d{one}"]["text"] for one in source]
        name = f"d{source[0]}" if number % 8 == 0 else f"q{number}"  # some have the id of a document, as in ArguAna
        queries[name] = " ".join(rng.choice(" ".join(texts).split(), size=6))
        qrels[name] = {f"d{one}": int(grade) for one, grade in zip(source, (2, 1, 1), strict=True)}
    return Judged(corpus, queries, qrels)


def real_data(name):
    """Return the folder of a data set; the test is skipped where it is missing."""
    folder = Path(os.environ.get("ANNVQ_DATA", "nowhere")) / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}: ANNVQ_DATA names the folder of data sets")
    return folder
