"""An embedding table in a tenth of its bytes: which method, the layer, the file, nearest rows."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from annvq import tables

rng = np.random.default_rng(0)
centers = rng.normal(size=(50, 32))
weight = centers[rng.integers(0, 50, 5_000)] + 0.3 * rng.normal(size=(5_000, 32))
trained = torch.nn.Embedding.from_pretrained(torch.from_numpy(weight).float())
frequencies = 1 / (1 + np.arange(5_000))  # how often each row is used

for proposal in tables.recommend(trained, ratio=10, frequencies=frequencies)[:3]:
    print(f"{proposal.method}: {proposal.nbytes:,} bytes, {proposal.error:.3f} of the variance lost")

layer = tables.compress(trained, "PQ", ratio=10, frequencies=frequencies, finetune_steps=100)
print(layer, layer(torch.tensor([[1, 2], [3, 4]])).shape)

with tempfile.TemporaryDirectory() as folder:
    layer.export(Path(folder) / "table.safetensors")
    rows = tables.open(Path(folder) / "table.safetensors")  # without torch from here on
    print(rows([3, 14]).shape, rows.bag([3, 14, 15], [0, 2], mode="mean").shape)

hits = layer.to_index("ip").search(weight[:1], k=3)
print("nearest rows of row 0:", hits.ids)
