"""One executable claim per paper: `separatrix reproduce SLUG`.

`claims/<slug with underscores>.py` states a paper's headline in one sentence and what counts as holding, runs method and baseline side by
side, and returns what was measured. "Does not hold here" is a result like the other one.
"""

from separatrix.claims.claim import Claim, Statement, statement_of

__all__ = ["Claim", "Statement", "statement_of"]
