"""The flows: Exemplar's real server and refresh against a small Label Studio that keeps real state."""
