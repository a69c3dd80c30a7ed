"""TensorZero's own client: metrics, a comment, a demonstration, a dry run; then a metric that is a text."""

import os

from interaction import COMMENT, CORRECTION, EPISODE_ID, INFERENCE_ID, RATING, RATING_VALUE, THUMB
from tensorzero import TensorZeroGateway

url, key = os.environ["RATCHET_URL"], os.environ["RATCHET_KEY"]
with TensorZeroGateway.build_http(gateway_url=url, api_key=key) as client:
    assert client.feedback(metric_name=THUMB, value=True, episode_id=EPISODE_ID).feedback_id
    assert client.feedback(metric_name=RATING, value=RATING_VALUE, inference_id=INFERENCE_ID).feedback_id
    tagged = client.feedback(
        metric_name="task_success", value=False, episode_id=EPISODE_ID, tags={"page": "2"}
    )
    assert tagged.feedback_id
    assert client.feedback(metric_name="comment", value=COMMENT, inference_id=INFERENCE_ID).feedback_id
    assert client.feedback(
        metric_name="demonstration", value=CORRECTION, inference_id=INFERENCE_ID
    ).feedback_id
    assert client.feedback(metric_name=RATING, value=0.5, inference_id=INFERENCE_ID, dryrun=True).feedback_id
    try:
        client.feedback(metric_name=RATING, value="good", inference_id=INFERENCE_ID)
    except Exception as error:
        print("of a metric that is a text it says:", error)
    else:
        raise AssertionError("a metric that is a text must be refused")
