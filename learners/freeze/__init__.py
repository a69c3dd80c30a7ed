"""Making a dataset: from a log folded up to given offsets to files that train, choose and judge versions.

- `settings`: the rules; they stand in the manifest and in the dataset's hash
- `questions`: episodes → questions with the evidence that still holds
- `groups`: near-identical questions stay together, each group in one split for ever
- `relevance`: the label model, across similar questions: clicks over expected clicks
- `labels`: estimates → positives, masks, negatives for training; grades for validation and judge
- `readiness`: is there enough feedback, and does it agree with itself
- `dataset`: the directory, written once, verified when opened
- `freeze`: all of it in order
"""
