"""`ratchet chaos`: break a scratch stack under load, in every way we know, then count.

Imports `infra.local` only: to the stack it is one more operator, and several customers.
"""
