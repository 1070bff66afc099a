"""Images as vectors."""
