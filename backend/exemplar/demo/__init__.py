"""The demo: a Label Studio of its own, the backend, and 1 400 handwritten digits to annotate."""
