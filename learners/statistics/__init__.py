"""The one statistics kernel: judge, canary, experiments and drift use it, and it uses numpy and scipy only.

It knows arrays and sufficient statistics, no events and no database. Randomness comes in as a numpy
Generator.

- `findings`: what can be said (`Interval`) or not (`CannotSay`)
- `sufficient`: sums that describe an arm; monoids
- `sequential`: the always-valid interval, which decides
- `fixed`: Welch and two proportions, for one planned look, shown beside
- `experiment`: rows of units to arms, arms to results
- `sample_ratio`: did the arms get the shares they should
- `paired`: champion against challenger on the same questions
- `betting`: did a rate rise above its reference; the alarm of drift
- `spending`: one alpha over many tests
"""
