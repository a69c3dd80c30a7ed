"""How the watch looks: sizes in queries, and one budget of false alarms."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Share = Annotated[float, Meta(gt=0, lt=1)]


class WatchSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes and budgets of a watch.

    `alpha` bounds the chance of any alarm while nothing changes, over one watch life: however many queries
    come and however often they are looked at. `two_sample_share` of it goes to the two-sample tests, the rest
    to the bets.
    """

    #: The champion's first settled queries; they say what is normal.
    reference_queries: Annotated[int, Meta(ge=100)] = 400
    #: Queries of one window, which the two-sample tests compare with the reference.
    window_queries: Annotated[int, Meta(ge=50)] = 200
    #: A query counts this long after it was received, so that its clicks could come: at least as long as most
    #: clicks take. The stream worker's lag is waited for on top.
    settle_s: Annotated[float, Meta(ge=0)] = 30.0
    #: Chance of any false alarm over one watch life.
    alpha: Share = 0.05
    #: Part of alpha that the two-sample tests spend; the bets have the rest.
    two_sample_share: Share = 0.5
    #: Part of a bet's budget that pays for not knowing the reference's rate exactly.
    reference_share: Share = 0.25
    #: A top score is low below this quantile of the reference.
    low_score_quantile: Share = 0.1
    #: The two-sample process ends after this long without a question.
    tester_idle_s: Annotated[float, Meta(ge=1)] = 60.0
    #: One question to it, its start included (it imports for seconds), takes at most this long.
    tester_timeout_s: Annotated[float, Meta(gt=0)] = 120.0

    @property
    def two_sample_alpha(self) -> float:
        """The budget of all two-sample tests."""
        return self.alpha * self.two_sample_share

    @property
    def bet_alpha(self) -> float:
        """The budget of all bets, the doubt about the reference's rates included."""
        return self.alpha * (1 - self.two_sample_share)
