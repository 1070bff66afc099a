"""A running backend beside the in-memory Label Studio, and what may become of its files and processes."""
