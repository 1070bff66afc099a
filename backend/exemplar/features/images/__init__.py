"""Images as vectors: the bytes of a file → a picture → what each embedder of images sees in it."""

from exemplar.features.images.picture import Picture, decode

__all__ = ["Picture", "decode"]
