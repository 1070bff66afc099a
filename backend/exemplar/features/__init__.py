"""Data → vectors: images and texts as rows of a feature matrix."""
