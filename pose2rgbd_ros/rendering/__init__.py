"""A checkpoint turned into images: Renderer, its fast path and the trained volume."""
