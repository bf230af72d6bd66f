"""Networks that correct a linear autoregression, and how much of their correction is kept.

    y = A w + a + γ net(w, h)                                                                                     (1)
    γ = argmin  Σ_f log e_f(γ)           e_f: mean square error of free runs into the fold that was hidden from network f     (2)

Where most of what comes is noise, networks learn some of it, and how much of what they say will hold cannot be seen along the rows they
are fitted to. So each member of the ensemble is fitted with a fold of its own left out, and those rows decide: γ = 0 leaves the linear
autoregression alone (El Niño), 1 takes the networks at their word (sunspots). The autoregression of (1) is fitted to all rows;
while a member is trained, it corrects one that was fitted without the member's fold.

Paper    Breiman 1996, doi:10.1007/BF00117832 (shrinkage by errors out of fold); Krogh & Vedelsby 1995 (members that leave rows out);
         Barber et al. 2021, arXiv:1905.02928 (the same errors make the intervals).
Cost     free runs only: no network is fitted for it.
"""

from __future__ import annotations

from separatrix.training.ensemble import Ensemble
from separatrix.training.folds import log_errors
from separatrix.training.recipe import Recipe

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # γ


def share_kept(ensemble: Ensemble, recipe: Recipe) -> float:
    """(2), over free runs as long as those of the loss."""

    def score(share: float) -> float:
        return float(log_errors(ensemble.errors(share, recipe.context, recipe.horizon) / ensemble.model.scale).sum())

    return min(SHARES, key=score)
