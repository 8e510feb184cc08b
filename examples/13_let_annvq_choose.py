"""Say what matters most, speed, memory or the time to build, and let annvq choose the recipe within a budget."""

import numpy as np

import annvq

rng = np.random.default_rng(0)
topics = rng.normal(size=(100, 128))
vectors = (topics[rng.integers(100, size=5_000)] + 0.5 * rng.normal(size=(5_000, 128))).astype(np.float32)
queries = (topics[rng.integers(100, size=100)] + 0.5 * rng.normal(size=(100, 128))).astype(np.float32)

for prefer in ("speed", "memory", "build"):
    index = annvq.build(vectors, metric="l2", prefer=prefer)
    hits = index.search(queries, k=10)
    told = index.stats()
    print(f"{prefer:6} {told['recipe']:10} {told['bytes_per_vector']} bytes per vector, best: {hits.scores[0, 0]:.1f}")
    print(f"       {told['use_when']}")

# A budget goes with each wish, and the choice can be asked for without any vectors.
within = annvq.build(vectors, metric="l2", prefer="speed", bytes_per_vector=200)
print("within 200 bytes:", within.recipe.name, within.stats()["bytes_per_vector"])
for n in (1_000, 100_000, 10_000_000):
    print(f"{n:10,} vectors:", annvq.recipes.choose(n, 128, "l2", prefer="speed").name)
