"""Search among some rows only: by attribute, by id, by mask. The k best that pass always come back."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import annvq

rng = np.random.default_rng(0)
n, d = 10_000, 64
vectors = rng.normal(size=(n, d)).astype(np.float32)
years = rng.integers(1990, 2026, size=n)
attributes = pa.table({"year": years, "language": rng.choice(["de", "en", "fr"], size=n)})

index = annvq.build(vectors, recipe="IVF100,SQ8", attributes=attributes, metric="l2")
query = vectors[:1]

everything = index.search(query, k=5)
recent = index.search(query, k=5, filter=(pc.field("year") >= 2020) & (pc.field("language") == "de"))
chosen = index.search(query, k=5, filter=np.array([3, 14, 15, 92, 653]))  # ids
masked = index.search(query, k=5, filter=years % 2 == 0)  # in the order of insertion

# Where one filter is used in many searches: made ready once.
recent_german = index.prepare_filter((pc.field("year") >= 2020) & (pc.field("language") == "de"))
again = index.search(query, k=5, filter=recent_german)

print("all         ", everything.ids[0])
print("recent, de  ", recent.ids[0], years[recent.ids[0]])
print("made ready  ", again.ids[0], f"among {recent_german.count} rows")
print("these ids   ", chosen.ids[0])
print("even years  ", masked.ids[0], years[masked.ids[0]])

# A filter that three rows pass, and an id that is not in the index: three hits, then id -1 with score -inf.
rare = index.search(query, k=5, filter=np.array([7, 8, 9, 123456]))
print("three rows  ", rare.ids[0], rare.scores[0])
