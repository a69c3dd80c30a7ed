"""OpenTelemetry traces (OTLP, protobuf and JSON): OpenInference and GenAI spans as our events.

Every span is read by itself, whatever else its trace or its request holds: so the spans of a trace may come
in any order and in many requests. query_id is the trace id in hex; a retrieval_id or answer_id the span id.

span                            events
root with an input              `query.asked` (a chain, an agent, a model call, a search, or of no known kind)
RETRIEVER, AGENT, LLM below it  `query.asked`, inferred: it gives way to the root's; so does what is the
                                first span of its process
RETRIEVER, RERANKER             `retrieval.served`
LLM                             `answer.given`; `query.named` of `answer:<gen_ai.response.id>`
all of these, CHAIN             `query.named` of `span:<span id>`, for feedback that knows only that
any                             `feedback.given` of annotations, evaluations, and `gen_ai.evaluation.result`

A search or an answer happened when its span ended: so of two lists of a trace the one that was ready last is
the one that was shown. The output of a chain is no answer, the model's is. What says nothing is counted.
Ids are derived from trace id, span id and role; the source is `urn:ratchet:otlp:<service.name>`.
"""
