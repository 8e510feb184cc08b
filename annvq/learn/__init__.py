"""Codes learned for ranking: JPQ, RepCONC and Distill-VQ on one trainer (extra "train").

>>> rng = np.random.default_rng(0)
>>> documents, queries = rng.normal(size=(300, 32)), rng.normal(size=(60, 32))
>>> learned = annvq.learn.DistillVQ(recipe="OPQ8,PQ8x4", most_steps=5).fit(documents, queries)
>>> learned.index.search(learned.queries(queries), k=10).ids.shape
(60, 10)
"""

from annvq.learn.codes.health import CodeHealth
from annvq.learn.data import QuerySet, Relevance, Texts
from annvq.learn.learned import Learned
from annvq.learn.methods import JPQ, LEARNING_METHODS, DistillVQ, Method, RepCONC
from annvq.learn.parts.mirrors import CentroidsMirror, ProductMirror, ResidualMirror, RotationMirror
from annvq.learn.parts.start import Start
from annvq.learn.step.objectives import Clustering, Contrast, Distillation, Ranking
from annvq.learn.step.proposals import Proposals
from annvq.learn.training.trainer import Trainer
from annvq.renamed import former_names

__all__ = [
    "JPQ",
    "LEARNING_METHODS",
    "CentroidsMirror",
    "Clustering",
    "CodeHealth",
    "Contrast",
    "DistillVQ",
    "Distillation",
    "Learned",
    "Method",
    "ProductMirror",
    "Proposals",
    "QuerySet",
    "Ranking",
    "Relevance",
    "RepCONC",
    "ResidualMirror",
    "RotationMirror",
    "Start",
    "Texts",
    "Trainer",
]

__getattr__ = former_names(__name__, {"METHODS": "LEARNING_METHODS"})
