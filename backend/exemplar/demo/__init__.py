"""The demo: a Label Studio of its own, the backend, and digits, messages or pictures to annotate."""
