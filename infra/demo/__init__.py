"""A customer of Ratchet: a bank's help search, its simulated users, and the report on what was learned."""
