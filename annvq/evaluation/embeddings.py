"""Sentence embeddings of a data set's texts, cached as plain arrays.

A cache entry is three files: ``NAME.npy`` (n, d) float32, ``NAME.ids.json`` and ``NAME.json``, which
says which model and texts it holds and is written last. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from annvq.arguments import as_path
from annvq.errors import MissingExtraError, ParameterError
from annvq.io.replacing import replacing
from annvq.progress import Progress, listening

Side = Literal["document", "query"]
_BATCH = 64
_BATCHES_A_CALL = 16  # after which progress is reported
_PLURALS = {"query": "queries", "document": "documents"}
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}


def as_model_name(model: Any) -> str:
    """Return the name or folder of a model as text; ParameterError if it is neither str nor os.PathLike."""
    if not isinstance(model, str | os.PathLike):
        raise ParameterError(f"a model is given by its name or folder, not {model!r}")
    return str(as_path(model)) if isinstance(model, os.PathLike) else os.path.expanduser(model)


def load_model(name: str | os.PathLike[str]) -> Any:
    """Load a sentence-transformers model by name or folder.

    Raises
    ------
    MissingExtraError
        sentence-transformers is not installed (extra "text").
    ParameterError
        There is no such model, or it cannot be loaded.

    """
    name = as_model_name(name)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingExtraError("sentence-transformers", "text") from None
    try:
        return SentenceTransformer(name)
    except Exception as error:  # of any kind, by what is missing in the folder or on the way to the hub
        raise ParameterError(f"model {name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def model_key(name: str | os.PathLike[str]) -> dict[str, str]:
    """Identify a model without its path: its name and, for a folder, a digest of its files.

    A folder called "model", as in packages of weights, goes by the name of its parent.
    """
    name = as_model_name(name)
    folder = Path(name).resolve()
    if not folder.is_dir():
        return {"model": name}
    known_as = folder.parent.name if folder.name == "model" else folder.name
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(folder)).encode())
            with open(path, "rb") as opened:
                while chunk := opened.read(1 << 20):
                    digest.update(chunk)
    return {"model": known_as, "model_sha256": digest.hexdigest()}


def encode(model: Any, texts: list[str], side: Side, *, progress: bool | Progress = False) -> np.ndarray:
    """Embed texts as queries or documents, normalized.

    Models that distinguish the two sides (prompts, routers) are asked for the right one; models
    of sentence-transformers before 5 only know ``encode``.

    Returns
    -------
    vectors
        (n, d) float32 of unit length.

    """
    call = getattr(model, f"encode_{side}", None) or model.encode
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # batches of equal lengths need little padding
    parts = []
    with listening(progress) as report:
        report.begin(f"embedding {_PLURALS[side]}", len(texts))
        for start in range(0, max(1, len(texts)), _BATCH * _BATCHES_A_CALL):
            some = [texts[i] for i in order[start : start + _BATCH * _BATCHES_A_CALL]]
            parts.append(call(some, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False))
            report.at(start + len(some))
    sorted_vectors = np.concatenate([np.asarray(part, np.float32) for part in parts])
    vectors = np.empty_like(sorted_vectors)
    vectors[order] = sorted_vectors
    return vectors


def prompt_of(model: Any, side: Side) -> str:
    """Return the prompt before a text, chosen as the model's own encode_query and encode_document do."""
    prompts = getattr(model, "prompts", None) or {}
    default = getattr(model, "default_prompt_name", None)
    names = (*_PROMPTS[side], *([default] if default else []))
    return next((prompts[name] or "" for name in names if name in prompts), "")


def features_of(model: Any, texts: Sequence[str], side: Side) -> dict[str, Any]:
    """Return what the model's modules take for texts of one side, on the model's device."""
    prepare = getattr(model, "preprocess", None) or model.tokenize  # the name in older versions
    prompt, device = prompt_of(model, side), next(model.parameters()).device
    features = prepare([prompt + text for text in texts])
    return {name: value.to(device) if hasattr(value, "to") else value for name, value in features.items()}


def cached_embeddings(
    folder: str | os.PathLike[str],
    model_name: str | os.PathLike[str],
    texts: dict[str, str],
    side: Side,
    *,
    progress: bool | Progress = False,
) -> np.ndarray:
    """Return the texts' embeddings, from the cache in ``folder`` or computed and kept there.

    Parameters
    ----------
    folder
        Where entries are kept; it is made if it does not exist.
    model_name
        Name or folder of a sentence-transformers model.
    texts
        ``{id: text}``.
    side
        "document" or "query".
    progress
        True, or an `annvq.progress.Progress`, to show how far embedding is.

    Returns
    -------
    vectors
        (n, d) float32, rows in the order of ``texts``.

    """
    folder, model = as_path(folder), model_key(model_name)
    if "model_sha256" in model:
        del model["model"]  # a folder that is renamed holds the same model
    key = {**model, "side": side, "texts_sha256": texts_digest(texts)}
    stem = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    found = _read(folder, stem, key, len(texts))
    if found is not None:
        return found
    vectors = encode(load_model(model_name), list(texts.values()), side, progress=progress)
    _write(folder, stem, key, list(texts), vectors)
    return vectors


def texts_digest(texts: dict[str, str]) -> str:
    """Return a digest of named texts in their order."""
    digest = hashlib.sha256()
    for pair in texts.items():
        digest.update(json.dumps(pair).encode())
    return digest.hexdigest()


def _read(folder: Path, stem: str, key: dict[str, str], count: int) -> np.ndarray | None:
    """Return the entry, or None if it is absent, unfinished or not what its key says."""
    try:
        entry = json.loads((folder / f"{stem}.json").read_text())
        vectors = np.load(folder / f"{stem}.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    described = {**key, "shape": list(vectors.shape), "sha256": _array_digest(vectors)}
    return vectors if entry == described and len(vectors) == count else None


def _write(folder: Path, stem: str, key: dict[str, str], ids: list[str], vectors: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{stem}.npy") as partial, open(partial, "wb") as opened:
        np.save(opened, vectors)
    with replacing(folder / f"{stem}.ids.json") as partial:
        partial.write_text(json.dumps(ids))
    entry = {**key, "shape": list(vectors.shape), "sha256": _array_digest(vectors)}
    with replacing(folder / f"{stem}.json") as partial:
        partial.write_text(json.dumps(entry, indent=1))


def _array_digest(vectors: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest()
