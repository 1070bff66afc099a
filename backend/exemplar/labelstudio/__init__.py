"""Label Studio from outside: its API, its label configs, its tasks and predictions."""
