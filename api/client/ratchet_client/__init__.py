"""Ratchet's client: report queries, lists, answers and feedback; search; ask what to serve."""

from ratchet_client.assigner import Assigner
from ratchet_client.assignment import assign
from ratchet_client.backlog import Limits
from ratchet_client.calls import AsyncCall, Call
from ratchet_client.clients import AsyncRatchet, Ratchet
from ratchet_client.errors import ClientError, OutboxFull, Refusal, Refused, RequestFailed, Unavailable
from ratchet_client.outbox import Figures, Outbox
from ratchet_client.results import Arm, Exposure, Found, FoundDocument, Hit, Receipt, Rule, Sent, Serving
from ratchet_client.retrying import Retries

__all__ = [
    "Arm",
    "Assigner",
    "AsyncCall",
    "AsyncRatchet",
    "Call",
    "ClientError",
    "Exposure",
    "Figures",
    "Found",
    "FoundDocument",
    "Hit",
    "Limits",
    "Outbox",
    "OutboxFull",
    "Ratchet",
    "Receipt",
    "Refusal",
    "Refused",
    "RequestFailed",
    "Retries",
    "Rule",
    "Sent",
    "Serving",
    "Unavailable",
    "assign",
]
