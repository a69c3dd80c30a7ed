"""Any input → event: admission (tenant, schema, limits), then the log. Every door ends here."""
