"""The protocol that Label Studio speaks to a model, over FastAPI."""
