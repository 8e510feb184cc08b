"""Contextual token embeddings of a data set's texts, cached as plain arrays.

A cache entry is three files: ``NAME.npy`` (t, d) float16, ``NAME.offsets.npy`` (n + 1,) int64, and
``NAME.json``, which says which model and texts it holds and is written last. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import string
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from annvq.arguments import as_path
from annvq.arrays import offsets_of
from annvq.evaluation.embeddings import Side, features_of, load_model, model_key, texts_digest
from annvq.io.replacing import replacing
from annvq.progress import Progress, listening

_BATCH = 64
_FORMAT = 1


def token_embeddings(
    model: Any, texts: list[str], side: Side, *, progress: bool | Progress = False, bfloat16: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the last hidden state of every token of every text, scaled to length one.

    Special tokens are left out and, for documents, tokens that are punctuation, as in ColBERT; a text of which nothing
    would be left keeps them.

    Parameters
    ----------
    model
        A sentence-transformers model (`annvq.evaluation.embeddings.load_model`).
    texts
        What to embed.
    side
        "document" or "query".
    progress
        True, or an `annvq.progress.Progress`, to show how far embedding is.
    bfloat16
        Whether to multiply in bfloat16 (torch.autocast), for which some CPUs and GPUs have instructions.

    Returns
    -------
    vectors, offsets
        (t, d) float16; (n + 1,) int64, text i's are ``vectors[offsets[i]:offsets[i + 1]]``.

    """
    import torch

    dropped = _dropped(model.tokenizer, side)
    parts: list[np.ndarray] = [np.empty((0, 0), np.float16)] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
    model.eval()
    device = next(model.parameters()).device.type
    autocast = torch.autocast(device, torch.bfloat16) if bfloat16 else nullcontext()
    with listening(progress) as report, torch.inference_mode(), autocast:
        report.begin(f"embedding tokens, one {side} after another", len(texts))
        for start in range(0, len(texts), _BATCH):
            places = order[start : start + _BATCH]
            out = model(features_of(model, [texts[i] for i in places], side))
            read = (out["token_embeddings"].float(), out["input_ids"], out["attention_mask"])
            columns = [part.cpu().numpy() for part in read]
            for i, states, names, mask in zip(places, *columns, strict=True):
                there = mask.astype(bool)
                kept = there & ~np.isin(names, dropped)
                vectors = states[kept if kept.any() else there]
                parts[i] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
            report.at(start + len(places))
    lengths = [len(part) for part in parts]
    return np.concatenate(parts), offsets_of(lengths)


def _dropped(tokenizer: Any, side: Side) -> np.ndarray:
    """Return the numbers of tokens that are left out."""
    special = list(tokenizer.all_special_ids)
    if side == "query":
        return np.array(special)
    marks = tokenizer.convert_tokens_to_ids(list(string.punctuation))
    return np.array(special + [mark for mark in marks if mark is not None and mark not in special])


def cached_tokens(
    folder: str | os.PathLike[str],
    model_name: str | os.PathLike[str],
    texts: dict[str, str],
    side: Side,
    *,
    progress: bool | Progress = False,
    bfloat16: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts' token embeddings, memory-mapped from the cache in ``folder``, or computed and kept there.

    Parameters are those of `annvq.evaluation.embeddings.cached_embeddings` and `token_embeddings`; the latter says what
    is returned.
    """
    folder, model = as_path(folder), model_key(model_name)
    if "model_sha256" in model:
        del model["model"]  # a folder that is renamed holds the same model
    key: dict[str, Any] = {**model, "side": side, "texts_sha256": texts_digest(texts), "tokens": _FORMAT}
    if bfloat16:
        key["bfloat16"] = True
    stem = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    found = _read(folder, stem, key, len(texts))
    if found is None:
        loaded = load_model(model_name)
        vectors, offsets = token_embeddings(loaded, list(texts.values()), side, progress=progress, bfloat16=bfloat16)
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in ((f"{stem}.npy", vectors), (f"{stem}.offsets.npy", offsets)):
            with replacing(folder / name) as path, path.open("wb") as opened:
                np.save(opened, array)
        entry = json.dumps({**key, "shape": list(vectors.shape)}, indent=1)
        with replacing(folder / f"{stem}.json") as path:
            path.write_text(entry)
        found = _read(folder, stem, key, len(texts))
        assert found is not None
    return found


def _read(folder: Path, stem: str, key: dict[str, Any], count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the entry, or None if it is absent, unfinished or not what its key says."""
    try:
        entry = json.loads((folder / f"{stem}.json").read_text())
        vectors = np.load(folder / f"{stem}.npy", mmap_mode="r", allow_pickle=False)
        offsets = np.load(folder / f"{stem}.offsets.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = entry == {**key, "shape": list(vectors.shape)} and len(offsets) == count + 1 and offsets[-1] == len(vectors)
    return (vectors, offsets) if fits else None
