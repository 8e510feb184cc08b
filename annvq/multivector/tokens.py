"""Rows that are documents of several vectors: how these are kept, packed and scored.

A segment of such an index has, beside what every segment has, sections of its own:

    tokens.offsets   (n + 1,) int64         row i's vectors are those from offsets[i] to offsets[i + 1]
    tokens.rows      (t, d)                 vectors as float32, float16 or 8-bit scalars, or
    tokens.codes.*   packed as scan4's one list, with
    tokens.labels    (t,) uint32            the vectors' centroids, or
    tokens.codes1, tokens.codes_ex, tokens.factors      RaBitQ's
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq.arrays import frozen, offsets_of
from annvq.codebooks import KMeans, ProductCodebook, RaBitQCodebook, ScalarCodebook
from annvq.errors import CorruptIndexError, NonFiniteError, ParameterError, RecipeError
from annvq.index.values import check_count, check_one_of
from annvq.kernels.clusters.assign import assign
from annvq.kernels.codes.rabitq import PreparedQueries
from annvq.kernels.documents import chamfer
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import scan4, scanbits
from annvq.kernels.scan.scanbits import BitCodes
from annvq.kernels.scan.topk import Candidates
from annvq.kernels.vectors import gemm
from annvq.kernels.vectors.dots import Store, padded, squared_norms
from annvq.multivector.token_bytes import Levels, QueryBytes

OFFSETS, LABELS, ROWS = "tokens.offsets", "tokens.labels", "tokens.rows"
CODES, OTHER_CODES = f"tokens.codes.{scan4.LAYOUT}", f"tokens.codes.{scan4.OTHER_LAYOUT}"
RABITQ = ("codes1", "codes_ex", "factors")
KINDS = {"fp32": np.float32, "fp16": np.float16, "sq8": np.uint8, "pq": None, "rabitq": None}
_BITS = (1, 2, 4)
_SAMPLE = 1 << 16  # vectors that codebooks learn from
_PER_CENTROID = 64
_LEAST_PER_CENTROID = 4
_MOST_CENTROIDS = 1024  # by default: every vector is compared with all of them when it is coded
_ITERATIONS = 5  # of their training: more gains nothing that residual codes do not make up for
_CODEBOOK_ROWS = 1 << 14  # vectors from which 16 entries per sub-quantizer are learned
_NO_FLOATS, _NO_LABELS = frozen(np.empty(0, np.float32)), frozen(np.empty(0, np.uint32))
_EVERYTHING = frozen(np.empty(0, np.uint8))
_NO_TABLE = frozen(np.empty((0, 0), np.float32))


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """How documents' vectors are kept.

    Parameters
    ----------
    kind
        "fp32", "fp16", "sq8"; "pq": residuals from centroids as 4-bit product codes; "rabitq".
    bits
        Bits per dimension: 1, 2 or 4 ("pq"; 2 if left out), 1 to 8 ("rabitq"; 1 if left out).
    ncentroids
        Number of centroids ("pq"), or "auto"; never more than a quarter of the vectors learned from.

    Raises
    ------
    RecipeError
        A value is not one that this kind allows.

    """

    kind: str = "pq"
    bits: int | None = None
    ncentroids: int | str | None = None

    def __post_init__(self) -> None:
        check_one_of("tokens.kind", self.kind, tuple(KINDS))
        if self.kind in ("pq", "rabitq"):
            bits = (2 if self.kind == "pq" else 1) if self.bits is None else self.bits
            check_one_of(f"tokens.bits of kind {self.kind!r}", bits, _BITS if self.kind == "pq" else tuple(range(1, 9)))
            object.__setattr__(self, "bits", bits)
        elif self.bits is not None:
            raise RecipeError(f"tokens.bits = {self.bits} means nothing for kind {self.kind!r}, only pq and rabitq")
        if self.kind != "pq" and self.ncentroids is not None:
            raise RecipeError(f"tokens.ncentroids = {self.ncentroids!r} means nothing for kind {self.kind!r}, only pq")
        if self.kind == "pq" and self.ncentroids is None:
            object.__setattr__(self, "ncentroids", "auto")
        if self.kind == "pq" and self.ncentroids != "auto":
            check_count("tokens.ncentroids", self.ncentroids, also="'auto'")


@dataclass(frozen=True)
class TokenRows:
    """Documents' vectors, coded and not yet packed: arrays (t, ...) by name, and where documents begin."""

    offsets: np.ndarray
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, documents: np.ndarray) -> TokenRows:
        """Return some documents (int64), in that order."""
        rows, offsets = rows_of(self.offsets, documents)
        return TokenRows(offsets, {name: array[rows] for name, array in self.arrays.items()})

    @classmethod
    def joined(cls, parts: Sequence[TokenRows]) -> TokenRows:
        """Concatenate the documents of several parts."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        names = parts[0].arrays
        return cls(_starts(lengths), {name: np.concatenate([part.arrays[name] for part in parts]) for name in names})


def rows_of(offsets: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of all vectors of some documents (int64), and where each begins among them."""
    lengths = offsets[documents + 1] - offsets[documents]
    starts = _starts(lengths)
    return np.repeat(offsets[documents] - starts[:-1], lengths) + np.arange(starts[-1]), starts


def _starts(lengths: np.ndarray) -> np.ndarray:
    return offsets_of(lengths)


@dataclass(frozen=True, eq=False)
class TokenStore:
    """What was learned from documents' vectors of dimension ``dim``.

    ``centroids (c, d) float32`` and a product codebook of their residuals; one centroid, their mean, and RaBitQ's
    codebook; or a scalar codebook; each is None if the kind has none. ``settings`` are plain values that say how
    rows' single vectors are made of documents' vectors. To the index of these, the store is a `RowExtension`.
    """

    spec: TokenSpec
    dim: int
    settings: dict[str, Any]
    centroids: np.ndarray | None = None
    codebook: ProductCodebook | RaBitQCodebook | ScalarCodebook | None = None

    name = "tokens"
    followed = (OFFSETS,)  # the kernel clips numbers of centroids
    refusal = "this index is of documents: open it with annvq.multivector.MultiVectorIndex"

    @classmethod
    def train(
        cls, spec: TokenSpec, sample: np.ndarray, settings: dict[str, Any], *, seed: int, threads: int
    ) -> TokenStore:
        """Learn from vectors (n, d) float32, n at least 1."""
        dim = sample.shape[1]
        if spec.kind in ("fp32", "fp16"):
            return cls(spec, dim, settings)
        if spec.kind == "sq8":
            return cls(spec, dim, settings, codebook=ScalarCodebook.train(sample, kind="sq8"))
        if spec.kind == "rabitq":
            mean = sample.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
            assert spec.bits is not None
            return cls(spec, dim, settings, frozen(mean), RaBitQCodebook.train(sample, nbits=spec.bits, seed=seed))
        wanted = spec.ncentroids
        if not isinstance(wanted, int):
            wanted = min(_MOST_CENTROIDS, 1 << int(np.log2(max(1, len(sample) // _PER_CENTROID))))
        wanted = min(wanted, max(1, len(sample) // _LEAST_PER_CENTROID))
        centroids = KMeans.train(sample, wanted, niter=_ITERATIONS, seed=seed, threads=threads).centroids
        rows = sample[:_CODEBOOK_ROWS]
        residuals = rows - centroids[assign(rows, centroids, metric="l2", threads=threads)[0]]
        assert spec.bits is not None
        codebook = ProductCodebook.train(residuals, M=-(-dim * spec.bits // 4), nbits=4, seed=seed, threads=threads)
        return cls(spec, dim, settings, frozen(centroids), codebook)

    @staticmethod
    def sample_size(spec: TokenSpec) -> int:
        """Return how many vectors training wants."""
        return max(_SAMPLE, _PER_CENTROID * spec.ncentroids) if isinstance(spec.ncentroids, int) else _SAMPLE

    # -- rows -----------------------------------------------------------------------------------

    def encode(self, vectors: np.ndarray, offsets: np.ndarray, threads: int) -> TokenRows:
        """Code documents: vectors (t, d) float32, offsets (n + 1,) int64.

        Raises
        ------
        NonFiniteError, ParameterError
            Values beyond float16's range; vectors so small that float16 keeps few of their digits, or none.

        """
        codebook = self.codebook
        if self.spec.kind == "fp32":
            return TokenRows(offsets, {ROWS: vectors})
        if self.spec.kind == "fp16":
            return TokenRows(offsets, {ROWS: _halves(vectors)})
        if isinstance(codebook, ScalarCodebook):
            return TokenRows(offsets, {ROWS: codebook.encode_trusted(vectors, threads=threads)})
        assert self.centroids is not None
        if isinstance(codebook, RaBitQCodebook):
            labels = np.zeros(len(vectors), np.int64)
            residuals = vectors - self.centroids
            arrays = codebook.encode_trusted(residuals, self.centroids, labels, "ip", threads=threads)
            return TokenRows(offsets, {f"tokens.{name}": arrays[name] for name in RABITQ})
        assert codebook is not None
        labels = assign(vectors, self.centroids, metric="l2", threads=threads)[0]
        codes = codebook.encode_trusted(vectors - self.centroids[labels], threads=threads)
        return TokenRows(offsets, {"codes": codes, LABELS: labels.astype(np.uint32)})

    def pack(self, rows: TokenRows) -> dict[str, np.ndarray]:
        """Return the sections of documents."""
        arrays = dict(rows.arrays)
        if self.spec.kind == "pq":
            arrays[CODES] = scan4.pack(arrays.pop("codes"), np.array([0, rows.offsets[-1]]))
        return {OFFSETS: rows.offsets, **arrays}

    def unpack(self, arrays: dict[str, np.ndarray], documents: np.ndarray) -> TokenRows:
        """Return some documents (int64) of a segment's sections."""
        rows, offsets = rows_of(arrays[OFFSETS], documents)
        if self.spec.kind == "pq":
            assert isinstance(self.codebook, ProductCodebook)
            codes = scan4.unpack(arrays[CODES], np.array([0, arrays[OFFSETS][-1]]), self.codebook.M, rows)
            return TokenRows(offsets, {"codes": codes, LABELS: arrays[LABELS][rows]})
        return TokenRows(offsets, {name: arrays[name][rows] for name in self._row_arrays()})

    def decode(self, rows: TokenRows) -> np.ndarray:
        """Return the vectors (t, d) float32 that coded documents stand for."""
        codebook = self.codebook
        if isinstance(codebook, ProductCodebook):
            assert self.centroids is not None
            decoded = codebook.decode_trusted(rows.arrays["codes"])
            return decoded + self.centroids.take(rows.arrays[LABELS], 0, mode="clip")
        if isinstance(codebook, RaBitQCodebook):
            arrays = {name: rows.arrays[f"tokens.{name}"] for name in RABITQ}
            return codebook.decode_trusted(arrays, "ip") + self.centroids
        if isinstance(codebook, ScalarCodebook):
            return codebook.decode_trusted(np.ascontiguousarray(rows.arrays[ROWS]))
        return rows.arrays[ROWS].astype(np.float32)

    def _row_arrays(self) -> dict[str, tuple[type, int]]:
        """Return dtype and columns of every section with one row per vector; -1 columns: one number without an axis."""
        if self.spec.kind == "pq":
            return {LABELS: (np.uint32, -1)}
        if isinstance(self.codebook, RaBitQCodebook):
            plane = self.codebook.padded_dim // 8
            return {
                "tokens.codes1": (np.uint8, plane),
                "tokens.codes_ex": (np.uint8, (self.codebook.nbits - 1) * plane),
                "tokens.factors": (np.float32, self.codebook.factor_columns),
            }
        dtype = KINDS[self.spec.kind]
        assert dtype is not None
        return {ROWS: (dtype, self.dim)}

    def layout(self, arrays: dict[str, np.ndarray], n: int) -> dict[str, tuple[type, tuple[int, ...]]]:
        """Return dtype and shape of sections of ``n`` documents (CorruptIndexError if offsets or labels are wrong)."""
        offsets = arrays.get(OFFSETS)
        if offsets is None or offsets.dtype != np.int64 or offsets.shape != (n + 1,):
            raise CorruptIndexError(f"section {OFFSETS} is missing or has not {n + 1} int64")
        if offsets[0] != 0 or (offsets[1:] <= offsets[:-1]).any() or offsets[-1] >= 1 << 40:
            raise CorruptIndexError(f"section {OFFSETS} does not rise from 0: no document is without vectors")
        total = int(offsets[-1])
        expected: dict[str, tuple[type, tuple[int, ...]]] = {OFFSETS: (np.int64, (n + 1,))}
        for name, (dtype, columns) in self._row_arrays().items():
            expected[name] = (dtype, (total,) if columns < 0 else (total, columns))
        if self.spec.kind == "pq":
            assert isinstance(self.codebook, ProductCodebook)
            assert self.centroids is not None
            expected[CODES] = (np.uint8, (-(-total // 32) * 64 * scan4.groups_for(self.codebook.M),))
            labels = arrays.get(LABELS)
            if labels is not None and labels.dtype == np.uint32 and labels.size and labels.max() >= len(self.centroids):
                raise CorruptIndexError(f"section {LABELS} names centroid {labels.max()} of {len(self.centroids)}")
        return expected

    @staticmethod
    def relaid(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a segment's arrays with the codes in this machine's layout."""
        packed = arrays.get(OTHER_CODES)
        if packed is None or packed.dtype != np.uint8 or packed.size % 64:
            return arrays
        rest = {name: array for name, array in arrays.items() if name != OTHER_CODES}
        return {**rest, CODES: frozen(scan4.relaid(packed))}

    @property
    def bytes_per_token(self) -> float:
        """The bytes per vector."""
        if isinstance(self.codebook, ProductCodebook):
            return 32 * scan4.groups_for(self.codebook.M) / 16 + 4
        return sum(np.dtype(dtype).itemsize * columns for dtype, columns in self._row_arrays().values())

    # -- scores ---------------------------------------------------------------------------------

    def prepare(self, query: np.ndarray) -> Prepared:
        """Return what scoring documents against a query's vectors (t, d) float32 needs."""
        return Prepared(self, query)

    def score(self, prepared: Prepared, arrays: dict[str, np.ndarray], documents: np.ndarray) -> np.ndarray:
        """Return the Chamfer similarity of a prepared query to some documents (int64) of a segment, float32.

        Of product codes as `annvq.multivector.token_bytes` rounds them, and the query.
        """
        scores = np.empty(len(documents), np.float32)
        offsets = arrays[OFFSETS]
        if self.spec.kind == "pq":
            query = prepared.bytes
            chamfer.chamfer_of_codes(
                query.values, query.starts, query.scales, query.biases, self.levels.levels, self.levels.components,
                arrays[CODES], arrays[LABELS], prepared.centroid_scores, offsets, documents, scores,
            )  # fmt: skip
        elif isinstance(self.codebook, RaBitQCodebook):
            self._score_rabitq(prepared, arrays, documents, scores)
        else:
            store = arrays[ROWS].view(np.uint16) if self.spec.kind == "fp16" else arrays[ROWS]
            chamfer.chamfer_of_rows(
                prepared.panels, np.array([0, len(prepared.query)]),
                Store(readonly(store.reshape(-1)), self.dim, *self._affine), offsets, documents, scores[None],
            )  # fmt: skip
        return scores

    def score_roughly(self, prepared: Prepared, arrays: dict[str, np.ndarray], documents: np.ndarray) -> np.ndarray:
        """Return scores from the vectors' centroids alone (kind "pq"), in a fraction of the time of `score`."""
        scores = np.empty(len(documents), np.float32)
        chamfer.chamfer_of_labels(prepared.centroid_scores, arrays[LABELS], arrays[OFFSETS], documents, scores)
        return scores

    def _score_rabitq(
        self, prepared: Prepared, arrays: dict[str, np.ndarray], documents: np.ndarray, scores: np.ndarray
    ) -> None:
        rows, starts = rows_of(arrays[OFFSETS], documents)
        tq = len(prepared.query)
        pooled = np.tile(rows, (tq, 1))
        estimates = np.empty(pooled.shape, np.float32)
        signs, others, factors = (arrays[f"tokens.{name}"] for name in RABITQ)
        codes = BitCodes(signs, others, factors, np.array([0, len(signs)]), _EVERYTHING, 0)
        pools = Candidates(estimates, pooled, np.full(tq, len(rows)), np.empty(0, np.float32))
        scanbits.rescore(codes, prepared.rabitq, *prepared.center, pools)
        scores[:] = -np.inf
        filled = np.flatnonzero(np.diff(starts))
        if len(filled):
            total = np.zeros(len(filled), np.float32)
            for best in np.maximum.reduceat(estimates, starts[filled], axis=1):  # a sum of one document is as of many
                total += best
            scores[filled] = total

    @cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.codebook, ScalarCodebook):
            return frozen(padded(self.codebook.minimum)), frozen(padded(self.codebook.step))
        return _NO_FLOATS, _NO_FLOATS

    @cached_property
    def levels(self) -> Levels:
        """The product codebook in bytes."""
        assert isinstance(self.codebook, ProductCodebook)
        return Levels.of(self.codebook)

    @cached_property
    def centroid_panels(self) -> np.ndarray:
        """The centroids as `annvq.kernels.vectors.gemm.pack` lays them out."""
        assert self.centroids is not None
        return gemm.pack(self.centroids)

    # -- keeping --------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Return what is not an array."""
        spec = {key: value for key, value in vars(self.spec).items() if value is not None}
        config: dict[str, Any] = {"spec": spec, "dim": self.dim, "settings": self.settings}
        if self.codebook is not None:
            config["codebook"] = self.codebook.config()
        return config

    def sections(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        sections = {} if self.codebook is None else {f"codebook.{k}": a for k, a in self.codebook.arrays().items()}
        if self.centroids is not None:
            sections["centroids"] = self.centroids
        return sections

    @classmethod
    def from_sections(cls, config: dict[str, Any], sections: dict[str, np.ndarray]) -> TokenStore:
        """Build from what `config` and `sections` returned; CorruptIndexError if that does not fit together."""
        spec, dim, settings = TokenSpec(**config["spec"]), config["dim"], config["settings"]
        if type(dim) is not int or dim < 1 or not isinstance(settings, dict):
            raise CorruptIndexError(f"the index's token store names dimension {dim!r} and settings {settings!r}")
        kind = {"pq": ProductCodebook, "rabitq": RaBitQCodebook, "sq8": ScalarCodebook}.get(spec.kind)
        codebook = None
        if kind is not None:
            arrays = {key.removeprefix("codebook."): a for key, a in sections.items() if key.startswith("codebook.")}
            codebook = kind.from_arrays(dict(config["codebook"]), arrays)
            if codebook.dim != dim:
                raise CorruptIndexError(f"the tokens' codebook has dimension {codebook.dim}, expected {dim}")
        if isinstance(codebook, ProductCodebook) and codebook.nbits != 4:
            raise CorruptIndexError(f"the tokens' codebook has codes of {codebook.nbits} bits, expected 4")
        centroids = sections.get("centroids")
        if (spec.kind in ("pq", "rabitq")) != (centroids is not None):
            raise CorruptIndexError("the tokens' centroids and kind disagree")
        if centroids is not None and (
            centroids.dtype != np.float32 or centroids.ndim != 2 or centroids.shape[1] != dim or len(centroids) < 1
        ):
            raise CorruptIndexError(f"tokens.centroids {centroids.dtype} {centroids.shape}, expected (c, {dim})")
        if spec.kind == "rabitq" and centroids is not None and len(centroids) != 1:
            raise CorruptIndexError(f"tokens.centroids are {len(centroids)}, expected the one that RaBitQ's codes have")
        return cls(spec, dim, settings, centroids, codebook)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A query's vectors (t, d) float32 and what scoring makes of them, each when it is first asked for."""

    store: TokenStore
    query: np.ndarray

    @cached_property
    def panels(self) -> np.ndarray:
        """The vectors as `annvq.kernels.vectors.gemm.pack` lays them out."""
        return gemm.pack(self.query)

    @cached_property
    def bytes(self) -> QueryBytes:
        """The vectors as the scan of product codes takes them."""
        return self.store.levels.query(self.query)

    @cached_property
    def centroid_scores(self) -> np.ndarray:
        """(centroids, t) float32."""
        assert self.store.centroids is not None
        products = gemm.products(self.query, self.store.centroid_panels, len(self.store.centroids))
        return np.ascontiguousarray(products.T)

    @cached_property
    def rabitq(self) -> PreparedQueries:
        """The vectors as the scan of RaBitQ's codes takes them."""
        assert isinstance(self.store.codebook, RaBitQCodebook)
        return self.store.codebook.prepare_trusted(self.query)

    @cached_property
    def center(self) -> tuple[np.ndarray, np.ndarray]:
        """Products with, and distances from, the one centroid: (t, 1) float32 each."""
        assert self.store.centroids is not None
        products = gemm.products(self.query, self.store.centroid_panels, 1)
        squares = squared_norms(self.query)[:, None] + squared_norms(self.store.centroids)[None]
        return products, np.sqrt(np.maximum(squares - np.float32(2) * products, np.float32(0)))


def _halves(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (t, d) as float16; errors as of `TokenStore.encode`."""
    largest = np.abs(vectors).max(axis=1, initial=0)
    if largest.max(initial=0) > np.finfo(np.float16).max:
        raise NonFiniteError(f"float16 holds values up to 65504, the largest given is {float(largest.max()):g}")
    small = (largest > 0) & (largest < np.finfo(np.float16).smallest_normal)
    if small.any():
        at = int(small.argmax())
        raise ParameterError(
            f"float16 keeps few digits of values below 6.1e-05, and vector {at} has none larger than "
            f"{float(largest[at]):g}: scale the vectors, or keep them as fp32"
        )
    return vectors.astype(np.float16)
