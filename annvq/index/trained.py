"""The result of training, which all segments share: rotation, centroids, codebook, refine codebook."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from annvq import vectors as door
from annvq.arrays import frozen
from annvq.codebooks import ProductCodebook, Rotation, ScalarCodebook
from annvq.codebooks.rotation import ByteRotation
from annvq.errors import CorruptIndexError
from annvq.index.codes.kind import Codes, Kind, Layout
from annvq.index.codes.kinds import KINDS
from annvq.index.codes.probes import NO_MATRIX, coarse_of
from annvq.index.codes.refine import REFINES, Refine
from annvq.index.recipe import Recipe
from annvq.index.rows.extension import EXTENSIONS, RowExtension, extension_class
from annvq.index.rows.segment import Segment
from annvq.index.search.params import SearchParams
from annvq.kernels.clusters.propose import ByteSites, byte_sites, labels_of
from annvq.kernels.registers.tiles import readonly
from annvq.kernels.scan import pipeline
from annvq.kernels.scan.coarse import Coarse
from annvq.kernels.vectors import bytematrix
from annvq.metrics import INDEX_METRICS, ZEROS

_NOTHING = frozen(np.empty(0, np.float32))
_NO_PANELS = frozen(np.empty((0, 0, 0), np.float32))
_LARGEST = 4 * door.LONGEST  # of numbers that are learned: sums of a few, and what codes stand for, are finite


@dataclass(frozen=True)
class Trained:
    """The learned parts of an index.

    Parameters
    ----------
    recipe
        Resolved: every number is given.
    metric
        "ip", "l2", "cosine" or "hamming"; vectors of a cosine index are stored with unit norm.
    dim
        Dimension d of the vectors; for "hamming" the number of bits, which are floats of 0 and 1 here.
    rotation
        Applied to vectors and queries before lists and codes, or None.
    centroids
        (nlist, d) float32, or None without lists.
    codebook
        None if rows are kept as fp32 or fp16.
    refine_codebook
        The refine store's 8-bit codebook if the store is "sq8".
    coarse_codebook
        A 4-bit codebook for the centroids if they are many, or None: see `annvq.kernels.scan.coarse.probe`.
    center
        (d,) float32, subtracted from rotated vectors and queries, or None. Distances stay the same, and codes of
        residuals do not depend on how far the vectors lie from the origin.
    extension
        How what rows have beside their vectors is kept, or None if they have nothing else.
    zero
        What becomes of vectors and queries that are zero under "cosine": "error" or "score-0".
    mean
        (d,) float32, the mean of the vectors that were learned from, or None. Where it is given, there is a refine
        store: queries are rotated and lists are chosen in bytes (`annvq.kernels.vectors.bytematrix`), because the store
        has the last word, and local rows are differences from the mean, so that bytes are spent on what differs. It is
        zero for integers, which local rows then keep without loss.

    """

    recipe: Recipe
    metric: str
    dim: int
    rotation: Rotation | None = None
    centroids: np.ndarray | None = None
    codebook: Any = None
    refine_codebook: ScalarCodebook | None = None
    coarse_codebook: ProductCodebook | None = None
    center: np.ndarray | None = None
    extension: RowExtension | None = None
    zero: str = "error"
    mean: np.ndarray | None = None

    @property
    def l2(self) -> bool:
        """Whether scores are minus squared distances; of bits, these are Hamming distances."""
        return self.metric in ("l2", "hamming")

    @property
    def score_metric(self) -> str:
        """Return "ip" or "l2": cosine is inner product of unit vectors."""
        return "l2" if self.l2 else "ip"

    @property
    def nlist(self) -> int:
        """Number of lists; 1 without centroids."""
        return 1 if self.centroids is None else len(self.centroids)

    @cached_property
    def coarse(self) -> Coarse | None:
        """The centroids prepared for choosing lists, or None without lists."""
        if self.centroids is None:
            return None
        return coarse_of(self.centroids, self.l2, self.coarse_codebook, in_bytes=self.mean is not None)

    @property
    def kind(self) -> Kind:
        """The kind of the codes."""
        return KINDS[self.recipe.codebook.kind]

    @cached_property
    def codes(self) -> Codes:
        """How rows are coded and scanned."""
        return self.kind.codes(
            self.recipe.codebook, self.codebook, self.coded_dim, self.score_metric, self.centroids, self.recipe.spill
        )

    @cached_property
    def refine(self) -> Refine | None:
        """How the refine store keeps rows, or None."""
        if self.recipe.refine is None:
            return None
        return REFINES[self.recipe.refine].store(self.dim, self.l2, self.refine_codebook, self.mean)

    @cached_property
    def layout(self) -> Layout:
        """The sections of codes, constants and refine store."""
        return self.recipe.layout(self.dim, self.metric, self.coded_dim)

    @property
    def coded_dim(self) -> int:
        """The dimension of rotated vectors."""
        return self.dim if self.rotation is None else self.rotation.dim_out

    @property
    def rescores(self) -> bool:
        """Whether a search scores its best candidates more precisely than codes can, by refine store or graph."""
        return self.refine is not None or self.kind.is_graph

    @property
    def bytes_per_vector(self) -> int:
        """Bytes that codes, constants and refine store take per vector, ids not counted."""
        return sum(section.bytes_per_row for section in self.layout.values())

    @property
    def default_depth(self) -> SearchParams:
        """How far a search goes by default, as the recipe says."""
        nprobe, rerank = self.recipe.search.nprobe, self.recipe.search.rerank
        return SearchParams(nprobe if isinstance(nprobe, int) else self.nlist, rerank if isinstance(rerank, int) else 0)

    def accept(self, vectors: Any, name: str = "vectors") -> np.ndarray:
        """Return vectors or queries that a user gives as the index takes them, (n, d) float32.

        They are checked by `annvq.vectors.as_indexed`, whose errors are raised.
        """
        return door.as_indexed(vectors, self.metric, dim=self.dim, name=name, zero=self.zero)

    def given_back(self, vectors: np.ndarray) -> np.ndarray:
        """Return decoded vectors (n, d) in the form in which users give them: packed bits for "hamming"."""
        return np.packbits(vectors > 0.5, axis=1) if self.metric == "hamming" else vectors

    def rotate(self, vectors: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return vectors (n, d) as lists and codes see them."""
        rotated = vectors if self.rotation is None else self.rotation.apply(vectors, threads=threads)
        return rotated if self.center is None else rotated - self.center

    def _turned(self, vectors: np.ndarray, threads: int) -> np.ndarray:
        """Return vectors (n, d) that are coded as lists and codes see them: in bytes where `turn` is."""
        if self.mean is None or self.rotation is None:
            return self.rotate(vectors, threads)
        rotated = self._in_bytes.apply(vectors, threads)
        if self.center is not None:
            rotated -= self.center
        return rotated

    @cached_property
    def _in_bytes(self) -> ByteRotation:
        assert self.rotation is not None
        assert self.mean is not None
        return ByteRotation(self.rotation, self.mean)

    @cached_property
    def turning(self) -> pipeline.Rotation:
        """What is done to queries before lists are chosen, as kernels take it."""
        center = _NOTHING if self.center is None else self.center
        if self.rotation is None:
            return pipeline.Rotation(_NO_PANELS, center, _NOTHING, NO_MATRIX)
        if self.mean is None:
            return pipeline.Rotation(self.rotation.panels, center, _NOTHING, NO_MATRIX)
        matrix = bytematrix.pack(np.ascontiguousarray(self.rotation.matrix.T), self.rotate(self.mean[None])[0])
        return pipeline.Rotation(_NO_PANELS, _NOTHING, self.mean, matrix)

    def turn(self, queries: np.ndarray) -> np.ndarray:
        """Return queries (nq, d) as lists and codes see them: `rotate`, in bytes if these are rescored."""
        if self.mean is None or self.rotation is None:
            return self.rotate(queries)
        return pipeline.turned(readonly(queries), self.turning, self.coded_dim)

    def labels(self, rotated: np.ndarray, threads: int) -> np.ndarray:
        """Return the list of every rotated vector, (n,) int64."""
        if self.centroids is None:
            return np.zeros(len(rotated), np.int64)
        return labels_of(rotated, self._sites, threads).astype(np.int64)

    @cached_property
    def _sites(self) -> ByteSites:
        assert self.centroids is not None
        return byte_sites(self.centroids)

    def encode(self, vectors: np.ndarray, threads: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the lists (n,) int64 and the unpacked rows of float32 vectors (n, d)."""
        rotated = self._turned(vectors, threads)
        labels = self.labels(rotated, threads)
        arrays = self.codes.encode(rotated, labels, threads)
        if self.refine is not None:
            arrays |= self.refine.encode(vectors, labels, threads)
        return labels, arrays

    def decode(self, segment: Segment, rows: np.ndarray) -> np.ndarray:
        """Return the best reconstruction of some rows (int64) of a segment, (len(rows), d) float32."""
        labels = np.searchsorted(segment.offsets, rows, side="right") - 1
        if self.refine is not None:
            return self.refine.decode(self.refine.unpack(segment, rows), labels)
        decoded = self.codes.decode(self.codes.unpack(segment, rows), labels)
        if self.center is not None:
            decoded = decoded + self.center
        return decoded if self.rotation is None else self.rotation.inverse(decoded)

    def unpack(self, segment: Segment, rows: np.ndarray) -> dict[str, Any]:
        """Return some rows (int64) of a segment as `encode` gave them, and what their extension has under its name."""
        arrays: dict[str, Any] = self.codes.unpack(segment, rows)
        if self.refine is not None:
            arrays |= self.refine.unpack(segment, rows)
        if self.extension is not None:
            arrays[self.extension.name] = self.extension.unpack(segment.arrays, rows)
        return arrays

    def pack(self, arrays: dict[str, Any], offsets: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Return the sections of unpacked rows in list order; list l's are ``offsets[l]:offsets[l + 1]``."""
        if self.extension is None:
            return self.codes.pack(arrays, offsets, threads)
        own = self.extension.name
        packed = self.codes.pack({name: array for name, array in arrays.items() if name != own}, offsets, threads)
        return {**packed, **self.extension.pack(arrays[own])}

    def sections(self) -> dict[str, np.ndarray]:
        """Return everything as named arrays; `from_sections` reads them back."""
        config: dict = {"recipe": self.recipe.to_dict(), "metric": self.metric, "dim": self.dim}
        sections: dict[str, np.ndarray] = {}
        for name in ("rotation", "codebook", "refine_codebook", "coarse_codebook"):
            part = getattr(self, name)
            if part is not None:
                config[name] = {"class": type(part).__name__, **part.config()}
                sections |= {f"{name}.{key}": array for key, array in part.arrays().items()}
        if self.centroids is not None:
            sections["centroids"] = self.centroids
        if self.center is not None:
            sections["center"] = self.center
        if self.mean is not None:
            config["in_bytes"] = True
            sections["mean"] = self.mean
        if self.extension is not None:
            own = self.extension.name
            config[own] = self.extension.config()
            sections |= {f"{own}.{key}": array for key, array in self.extension.sections().items()}
        if self.zero != "error":
            config["zero"] = self.zero
        config["centered"] = self.center is not None
        sections["config"] = np.frombuffer(json.dumps(config).encode(), np.uint8)
        return sections

    def __reduce__(self) -> tuple:
        """Pickle the arrays and the configuration, which are checked when they are read."""
        return Trained.from_sections, (self.sections(),)

    @classmethod
    def from_sections(cls, sections: dict[str, np.ndarray]) -> Trained:
        """Build from named arrays; CorruptIndexError is raised if they do not fit together."""
        for name, array in sections.items():
            if array.dtype.kind == "f" and array.size and not max(array.max(), -array.min()) <= _LARGEST:
                raise CorruptIndexError(f"section {name} holds NaN, or numbers beyond {_LARGEST:g}")
        try:
            config = _config(sections["config"])
            recipe, metric, dim = Recipe.from_dict(config["recipe"]), config["metric"], config["dim"]
            rotation = _part(Rotation, "rotation", config, sections)
            refine = _part(ScalarCodebook, "refine_codebook", config, sections)
            codebooks = {kind.codebook.__name__: kind.codebook for kind in KINDS.values() if kind.codebook is not None}
            kind = codebooks.get(str(_object(config.get("codebook", {})).get("class")), ScalarCodebook)
            codebook = _part(kind, "codebook", config, sections)
            coarse = _part(ProductCodebook, "coarse_codebook", config, sections)
            extension = _extension(config, sections)
        except CorruptIndexError:
            raise
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CorruptIndexError(f"the index's codebooks cannot be read: {error}") from error
        centroids, center = sections.get("centroids"), sections.get("center")
        if config.get("centered", False) is not (center is not None):
            raise CorruptIndexError("configuration and sections of the index disagree about a center")
        zero = config.get("zero", "error")
        mean = sections.get("mean")
        if config.get("in_bytes", False) is not (mean is not None):
            raise CorruptIndexError("configuration and sections of the index disagree about a mean")
        trained = cls(recipe, metric, dim, rotation, centroids, codebook, refine, coarse, center, extension, zero, mean)
        trained._check()
        return trained

    def _check(self) -> None:
        """Raise CorruptIndexError if parts that were read do not fit each other."""
        if self.metric not in INDEX_METRICS or type(self.dim) is not int or self.dim < 1:
            raise CorruptIndexError(f"the index names metric {self.metric!r} and dimension {self.dim!r}")
        if self.zero not in ZEROS:
            raise CorruptIndexError(f"the index makes {self.zero!r} of zero vectors, expected {' or '.join(ZEROS)}")
        inner = self.dim if self.rotation is None else self.rotation.dim_out
        for name, dim in (
            ("rotation", self.dim),
            ("codebook", inner),
            ("refine_codebook", self.dim),
            ("coarse_codebook", inner),
        ):
            part = getattr(self, name)
            if part is not None and part.dim != dim:
                raise CorruptIndexError(f"the {name} has dimension {part.dim}, expected {dim}")
        nlist = self.recipe.nlist
        if nlist is None and self.kind.needs_centre:
            nlist = 1  # its codes are of differences from one centre
        if (nlist is None) != (self.centroids is None):
            raise CorruptIndexError("centroids and recipe disagree about lists")
        centroids = self.centroids
        if centroids is not None and (centroids.dtype != np.float32 or centroids.shape != (nlist, inner)):
            wanted = f"expected float32 ({nlist}, {inner})"
            raise CorruptIndexError(f"centroids {centroids.dtype} {centroids.shape}, {wanted}")
        self._check_preparation(inner)
        kind = self.kind
        self._check_codes(kind)
        refined_with = None if self.refine_codebook is None else self.refine_codebook.kind
        if refined_with != ("sq8" if self.recipe.refine == "sq8" else None):
            raise CorruptIndexError("refine codebook and recipe disagree")
        wants_rotation = self.recipe.rotation is not None and not kind.rotates_itself
        if wants_rotation != (self.rotation is not None):
            raise CorruptIndexError("rotation and recipe disagree")

    def _check_codes(self, kind: Kind) -> None:
        """Raise CorruptIndexError if codebook or metric does not fit the kind of the codes."""
        if type(self.codebook) is not (kind.codebook or type(None)):
            raise CorruptIndexError(f"a recipe of kind {kind.name!r} with a {type(self.codebook).__name__}")
        if (kind.name == "bits") != (self.metric == "hamming") or (kind.name == "bits" and self.dim % 8):
            raise CorruptIndexError(f"codes of kind {kind.name!r} with metric {self.metric!r} and dimension {self.dim}")
        difference = kind.mismatch(self.recipe.codebook, self.codebook)
        if difference is not None:
            raise CorruptIndexError(f"a recipe {difference}")

    def _check_preparation(self, inner: int) -> None:
        """Raise CorruptIndexError if what is applied before lists are chosen does not fit dimension ``inner``."""
        if self.coarse_codebook is not None and (self.centroids is None or self.coarse_codebook.nbits != 4):
            raise CorruptIndexError("a codebook of centroids that are not there, or not of 4 bits")
        center = self.center
        if center is not None and (self.metric != "l2" or center.dtype != np.float32 or center.shape != (inner,)):
            raise CorruptIndexError(f"center {center.dtype} {center.shape}, expected float32 ({inner},) and l2")
        mean = self.mean
        if mean is None and self.recipe.refine is not None and REFINES[self.recipe.refine].needs_mean:
            raise CorruptIndexError(f"a refine store {self.recipe.refine!r} without a mean")
        if mean is not None and (mean.dtype != np.float32 or mean.shape != (self.dim,) or self.recipe.refine is None):
            raise CorruptIndexError(
                f"mean {mean.dtype} {mean.shape}, expected float32 ({self.dim},) and a refine store"
            )


def _config(section: np.ndarray) -> dict:
    if section.dtype != np.uint8 or section.ndim != 1:  # bytes() of a scalar would be that many zeros
        raise CorruptIndexError(f"section config is {section.dtype} {section.shape}, expected bytes")
    return _object(json.loads(section.tobytes()))


def _object(value: Any) -> dict:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} where an object should be")
    return value


def _extension(config: dict, sections: dict[str, np.ndarray]) -> RowExtension | None:
    for name in EXTENSIONS:
        if name in config:
            return extension_class(name).from_sections(_object(config[name]), _below(name, sections))
    return None


def _below(name: str, sections: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the sections of a learned part, under the names that the part gives them."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): array for key, array in sections.items() if key.startswith(prefix)}


def _part(cls: Any, name: str, config: dict, sections: dict[str, np.ndarray]) -> Any:
    """Return a learned part of class ``cls``, or None if the index has none."""
    if name not in config:
        return None
    values = dict(_object(config[name]))
    if values.pop("class") != cls.__name__:
        raise CorruptIndexError(f"{name} is a {config[name]['class']!r}, expected {cls.__name__}")
    return cls.from_arrays(values, _below(name, sections))
