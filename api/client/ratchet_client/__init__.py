"""Ratchet's client: report queries, lists, answers and feedback; search; ask what to serve."""

from ratchet_client.clients import AsyncRatchet, Ratchet
from ratchet_client.errors import ClientError, Refusal, Refused, RequestFailed, Unavailable
from ratchet_client.results import Exposure, Found, FoundDocument, Hit, Receipt, Sent, Serving
from ratchet_client.retrying import Retries

__all__ = [
    "AsyncRatchet",
    "ClientError",
    "Exposure",
    "Found",
    "FoundDocument",
    "Hit",
    "Ratchet",
    "Receipt",
    "Refusal",
    "Refused",
    "RequestFailed",
    "Retries",
    "Sent",
    "Serving",
    "Unavailable",
]
