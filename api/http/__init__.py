"""The HTTP doors: events, shortcuts, serving, schemas, health."""
