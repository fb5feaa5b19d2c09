"""Celery, thin: a message carries a run id or a delivery id, the database carries the truth."""
