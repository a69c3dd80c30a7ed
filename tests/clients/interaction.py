"""What every client says of one question. Standard library only: clients read it in their environments, too.

Each client says first, in these words, as much of this as it can; then what only it can say.
"""

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
RETRIEVAL_SPAN_ID = "b7ad6b7169203331"
ANSWER_SPAN_ID = "00f067aa0ba902b7"
SESSION_ID = "s-1"
#: Where a query and an answer are named by UUIDs.
EPISODE_ID = "019cade2-11c1-7101-8101-010101010101"
INFERENCE_ID = "019cade2-11c3-7303-8303-030303030303"

QUESTION, ANSWER = "how do I pay", "At the desk."
#: A thumb up on the query.
THUMB = "thumbs_up"
#: A score of the answer.
RATING, RATING_VALUE = "rating", 0.75
#: A relevance label of 1 on the second document of the list.
RELEVANCE, RELEVANT_POSITION = "relevance", 1
NOTE, COMMENT = "note", "clear and short"
OUTPUT, CORRECTION = "output", "Pay by card at the desk."
