"""The rules by which a dataset is made from the log. They stand in its manifest and in its hash."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Share = Annotated[float, Meta(gt=0, lt=1)]


class FreezeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Groups and split, the label model, and how much feedback a training needs.

    A change of `group_cosine`, `salt` or a share gives questions other splits than before: versions that
    exist may then have trained on what becomes a judge question. Choose them once per stack.
    """

    #: Questions at least this similar are one group, and are never in train and judge at once.
    group_cosine: Share = 0.90
    #: Decides, with a group's leader, which split a group is in, for ever.
    salt: str = "ratchet"
    #: Share of groups to train on.
    train_share: Share = 0.70
    #: Share of groups to choose trials by; the judge has what is left.
    validation_share: Share = 0.15

    #: A question learns from at most this many others of its split, and from none less similar than
    #: `near_cosine`; another's evidence counts cosine ** `near_power`.
    neighbours: Annotated[int, Meta(ge=1)] = 40
    #: A less similar question says nothing about this one.
    near_cosine: Share = 0.5
    #: Another question's evidence counts cosine to this power.
    near_power: Annotated[float, Meta(gt=0)] = 4.0
    #: Before any evidence a document counts as if it had been expected to get `prior_clicks` clicks and had
    #: got `prior_lift` times as many.
    prior_clicks: Annotated[float, Meta(gt=0)] = 2.0
    #: Clicks per expected click before there is evidence.
    prior_lift: Annotated[float, Meta(gt=0)] = 0.5
    #: A judgement (thumb, stars, label) of full weight counts as much as this many expected clicks.
    judgement_clicks: Annotated[float, Meta(gt=0)] = 2.0

    #: From this lift on a document is a positive, at most below `negative_lift` a vetted negative. What lies
    #: between is neither. `negative_lift` below `prior_lift`: only looks without a click bring a document
    #: there.
    positive_lift: Annotated[float, Meta(gt=0)] = 0.8
    #: At most this lift makes a vetted negative.
    negative_lift: Annotated[float, Meta(gt=0)] = 0.4
    #: Most positives of one question.
    positives: Annotated[int, Meta(ge=1)] = 8
    #: Most vetted negatives of one question.
    negatives: Annotated[int, Meta(ge=0)] = 5
    #: In validation and judge a document has a label if at least this many clicks were expected of it.
    label_clicks: Annotated[float, Meta(gt=0)] = 0.1

    #: Below these a training is not worth its time, and a judge could not admit anything.
    minimum_train_questions: Annotated[int, Meta(ge=1)] = 200
    #: Groups that validation needs.
    minimum_validation_groups: Annotated[int, Meta(ge=1)] = 30
    #: Groups that the judge needs.
    minimum_judge_groups: Annotated[int, Meta(ge=1)] = 50
    #: Standard deviations by which similar questions' feedback agrees beyond chance (`relevance.agreement`):
    #: feedback that agrees less says nothing about relevance, and training on it would only add noise.
    minimum_agreement: float = 3.0
    #: The same of the judge's own questions, of which there are fewer.
    minimum_judge_agreement: float = 2.0

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of train, validation and judge. Raises ValueError if nothing is left for the judge."""
        judge = 1 - self.train_share - self.validation_share
        if judge <= 0:
            raise ValueError(
                f"train_share {self.train_share} and validation_share {self.validation_share} leave no group "
                "for the judge; lower one of them"
            )
        return (self.train_share, self.validation_share, judge)

    @property
    def rules(self) -> dict[str, str | int | float | bool]:
        """Name → value of every setting that changes the dataset's content."""
        fields: dict[str, str | int | float | bool] = msgspec.to_builtins(self)
        return {name: value for name, value in fields.items() if not name.startswith("minimum_")}
