"""Alerts evaluated inside: expressions over what was scraped, what is raised, who is told."""
