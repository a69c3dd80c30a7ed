"""MLflow's own client: feedback of a person and a model, an expectation; then feedback without a value."""

import os

os.environ["MLFLOW_TRACKING_TOKEN"] = os.environ["RATCHET_KEY"]

import mlflow
from interaction import ANSWER_SPAN_ID, COMMENT, CORRECTION, OUTPUT, THUMB, TRACE_ID
from mlflow.entities import AssessmentError, AssessmentSource
from mlflow.exceptions import MlflowException

mlflow.set_tracking_uri(os.environ["RATCHET_URL"])
trace_id = f"tr-{TRACE_ID}"
person = AssessmentSource(source_type="HUMAN")
judge = AssessmentSource(source_type="LLM_JUDGE", source_id="judge-1")
assert mlflow.log_feedback(trace_id=trace_id, name=THUMB, value=True, source=person).assessment_id
expected = mlflow.log_expectation(trace_id=trace_id, name=OUTPUT, value=CORRECTION, source=person)
assert expected.assessment_id
judged = mlflow.log_feedback(
    trace_id=trace_id,
    name="faithfulness",
    value=0.75,
    source=judge,
    span_id=ANSWER_SPAN_ID,
    rationale=COMMENT,
    metadata={"page": "2"},
)
assert judged.assessment_id
try:
    error = AssessmentError(error_code="TIMEOUT", error_message="the judge did not answer")
    mlflow.log_feedback(trace_id=trace_id, name="faithfulness", error=error, source=judge)
except MlflowException as refused:
    print("of a judge that failed it says:", refused)
else:
    raise AssertionError("feedback without a value must be refused")
