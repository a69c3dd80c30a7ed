"""Fine-tuning of an embedder on questions and the documents that helped: contrastive, within the batch.

Of a question's positives each must score above all documents of the batch that are neither positive nor
doubtful for that question (multiple negatives ranking; Henderson et al., "Efficient Natural Language Response
Suggestion for Smart Reply", 2017, section 4.4). A plain in-batch loss takes another question's positive for
a negative, which on a topic with many questions is the very document that users want.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from msgspec import Struct

from learners.pipeline.pipeline import render
from schemas.documents import DocumentStored
from schemas.versions import PipelineSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

#: Longer texts are cut for training (not for search): the cost of a pass grows with its longest text.
_MAX_TOKENS: Final = 128
_TEXTS_PER_PASS: Final = 16
_WARMUP_RATIO: Final = 0.1
_MAX_GRADIENT: Final = 1.0
#: Far below any score, and finite, so that a row without negatives has a gradient.
_NO_SCORE: Final = -1e4


class Example(Struct, frozen=True):
    """A question to learn from; documents by id.

    `positives`: (document, weight > 0), heaviest first. `doubtful`: never a negative of this question.
    `negatives`: vetted, brought into the batch on purpose.
    """

    text: str
    positives: tuple[tuple[str, float], ...]
    doubtful: frozenset[str] = frozenset()
    negatives: tuple[str, ...] = ()


class TrainingSettings(Struct, frozen=True, kw_only=True):
    """How to train. `scale` is 1 / temperature of the cosines."""

    learning_rate: float
    scale: float
    batch_size: int
    epochs: int = 1
    #: Of each question in one batch, drawn by weight.
    positives: int = 2
    negatives: int = 1


class _Batch(Struct, frozen=True):
    """`target`: [q, d] weight of each positive, rows sum to 1; `excluded`: [q, d] no negative of this row."""

    questions: list[str]
    documents: list[str]
    target: torch.Tensor
    excluded: torch.Tensor


def train_embedder(
    model: SentenceTransformer,
    pipeline: PipelineSettings,
    examples: Sequence[Example],
    documents: Sequence[DocumentStored],
    settings: TrainingSettings,
    *,
    seed: int,
) -> float:
    """Train `model` in place on the CPU and return the mean loss of the last quarter of the steps.

    Prompts and the document template are those of `pipeline`. Word embeddings stay as they are: they are half
    of a small model, hardly move in so few steps and cost most of an optimiser step. The same arguments,
    machine kind and number of threads give the same weights. Raises ValueError if nothing can be learned
    from: no example with a positive among `documents`.
    """
    texts = {
        d.document_id: pipeline.embedder.document_prompt + render(pipeline.document_template, d)
        for d in documents
    }
    usable = [example for example in examples if any(name in texts for name, _ in example.positives)]
    if len(usable) < 2:
        raise ValueError(f"expected examples with a positive that is there, got {len(usable)}")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    parameters = _prepare(model)
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.01)
    steps = settings.epochs * math.ceil(len(usable) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    kept_tokens = model.max_seq_length
    model.max_seq_length = min(kept_tokens or _MAX_TOKENS, _MAX_TOKENS)
    losses = []
    for batch in _batches(usable, texts, pipeline.embedder.query_prompt, settings, rng):
        loss = _loss(model, batch, settings.scale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
    model.max_seq_length = kept_tokens
    if not all(math.isfinite(loss) for loss in losses):
        raise ValueError(f"the training diverged: learning rate {settings.learning_rate:g} is too high")
    return float(np.mean(losses[-max(1, len(losses) // 4) :]))


def _prepare(model: SentenceTransformer) -> list[torch.nn.Parameter]:
    """What is trained. A model without a transformer inside is trained whole."""
    inner = getattr(model[0], "auto_model", None)
    if inner is not None:
        inner.get_input_embeddings().requires_grad_(False)
        # Fused attention loses on short texts: its backward pass took a third of a step.
        inner.set_attn_implementation("eager")
    # Without dropout: a step costs less, and one pass over the questions does not overfit.
    model.eval()
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then linearly to 0; as a factor of the learning rate."""
    warmup = max(1, round(steps * _WARMUP_RATIO))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def _batches(
    examples: Sequence[Example],
    texts: dict[str, str],
    query_prompt: str,
    settings: TrainingSettings,
    rng: np.random.Generator,
) -> Iterator[_Batch]:
    for _ in range(settings.epochs):
        order = rng.permutation(len(examples))
        for start in range(0, len(order), settings.batch_size):
            chosen = [examples[i] for i in order[start : start + settings.batch_size]]
            yield _make_batch(chosen, texts, query_prompt, settings, rng)


def _make_batch(
    examples: Sequence[Example],
    texts: dict[str, str],
    query_prompt: str,
    settings: TrainingSettings,
    rng: np.random.Generator,
) -> _Batch:
    drawn = [_draw_positives(example, texts, settings.positives, rng) for example in examples]
    names: dict[str, int] = {}  # document → column; each text goes through the model once
    for example, positives in zip(examples, drawn, strict=True):
        there = [name for name in example.negatives if name in texts]
        picked = rng.permutation(len(there))[: settings.negatives]
        for name in [*positives, *(there[i] for i in sorted(picked))]:
            names.setdefault(name, len(names))
    target = torch.zeros(len(examples), len(names))
    excluded = torch.zeros(len(examples), len(names), dtype=torch.bool)
    for row, (example, positives) in enumerate(zip(examples, drawn, strict=True)):
        for name, weight in positives.items():
            target[row, names[name]] = weight
        for name in (*example.doubtful, *(name for name, _ in example.positives)):
            if name in names:
                excluded[row, names[name]] = True
    target /= target.sum(dim=1, keepdim=True)
    return _Batch(
        questions=[query_prompt + example.text for example in examples],
        documents=[texts[name] for name in names],
        target=target,
        excluded=excluded,
    )


def _draw_positives(
    example: Example, texts: dict[str, str], count: int, rng: np.random.Generator
) -> dict[str, float]:
    there = [(name, weight) for name, weight in example.positives if name in texts]
    if len(there) <= count:
        return dict(there)
    weights = np.array([weight for _, weight in there])
    picked = rng.choice(len(there), count, replace=False, p=weights / weights.sum())
    return {there[i][0]: there[i][1] for i in picked}


def _loss(model: SentenceTransformer, batch: _Batch, scale: float) -> torch.Tensor:
    """Mean over questions of Σ_p target_p · −log(e^{s_p} / (e^{s_p} + Σ over negatives e^{s_n}))."""
    vectors = _encode(model, batch.questions + batch.documents)
    questions, documents = vectors[: len(batch.questions)], vectors[len(batch.questions) :]
    # One row a question, one column a document.
    scores = scale * questions @ documents.T
    # Per row: log-sum-exp of its negatives; next to nothing where there are none.
    negatives = scores.masked_fill(batch.excluded, _NO_SCORE).logsumexp(dim=1, keepdim=True)
    return (batch.target * (torch.logaddexp(scores, negatives) - scores)).sum(dim=1).mean()


def _encode(model: SentenceTransformer, texts: list[str]) -> torch.Tensor:
    """[n, dimension] float32, of length 1."""
    # Texts of like length share a pass, because a pass is as long as its longest text: without it two thirds
    # of the tokens of a batch of questions are padding.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = []
    # Opened for each step: autocast keeps its 16-bit copies of the weights until the block ends, and one
    # block around the loop would train on those of the first step.
    with torch.autocast("cpu", torch.bfloat16, enabled=_FAST_BF16):
        for start in range(0, len(order), _TEXTS_PER_PASS):
            features = model.preprocess([texts[i] for i in order[start : start + _TEXTS_PER_PASS]])
            parts.append(model(features)["sentence_embedding"].float())
    # Row order[i] of the result is row i of the parts.
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.nn.functional.normalize(torch.cat(parts)[back], dim=1)


#: Where the processor lacks the instructions, bfloat16 is emulated and slower than float32.
_FAST_BF16: Final = torch.ops.mkldnn._is_mkldnn_bf16_supported()
