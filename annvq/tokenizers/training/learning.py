"""How one codebook is learned: the parts that a quantizer with a codebook is composed of."""

from __future__ import annotations

from dataclasses import dataclass

from annvq.arguments import as_weight
from annvq.tokenizers.choosing.choices import Balanced, Choice, Nearest, Stochastic
from annvq.tokenizers.kinds import check_estimator, check_kind
from annvq.tokenizers.training.estimators import Estimator, straight_through
from annvq.tokenizers.training.losses import Entropy
from annvq.tokenizers.training.revival import Revival
from annvq.tokenizers.training.start import KMeansStart
from annvq.tokenizers.training.updates import EMA, Gradient

_EMA, _NEAREST = EMA(), Nearest()


@dataclass(frozen=True)
class Learning:
    """The parts that say how a codebook is learned; each may be chosen independently.

    Parameters
    ----------
    update
        `EMA` or `Gradient`.
    commitment
        Weight of mean |z - sg(e)|^2, at least 0.
    estimator
        `straight_through` or `rotation_trick`, or another function of (z, q) that returns q with gradients.
    choice
        Which code is chosen in training: `Nearest`, `Stochastic` or `Balanced`. In eval mode it is the nearest.
    start
        `KMeansStart`, or None: codes drawn from a normal distribution of variance 1 / dimension.
    revival
        `Revival` of unused codes, or None.
    entropy
        `Entropy` as a loss, or None. It moves z, and with `Gradient` the codes.
    cosine
        Whether rows, codes and z_q are scaled to norm 1 (Yu et al. 2022 (ViT-VQGAN)).
    exact
        Whether all codes are compared, see `annvq.tokenizers.choosing.nearest.CodeSearch`.

    Raises
    ------
    ParameterError
        A part is of another kind, or a number is outside its range.

    """

    update: EMA | Gradient = _EMA
    commitment: float = 0.25
    estimator: Estimator = straight_through
    choice: Choice = _NEAREST
    start: KMeansStart | None = None
    revival: Revival | None = None
    entropy: Entropy | None = None
    cosine: bool = False
    exact: bool | None = None

    def __post_init__(self) -> None:
        as_weight("commitment", self.commitment)
        wanted = {
            "update": (EMA, Gradient),
            "choice": (Nearest, Stochastic, Balanced),
            "start": (KMeansStart, type(None)),
            "revival": (Revival, type(None)),
            "entropy": (Entropy, type(None)),
            "cosine": (bool,),
            "exact": (bool, type(None)),
        }
        for name, kinds in wanted.items():
            check_kind(name, getattr(self, name), *kinds)
        check_estimator(self.estimator)


PLAIN = Learning()  # moving averages and nothing else
