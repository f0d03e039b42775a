"""Warping of recorded RGB-D frames: no learning, the serious rival of every network.

Image-based rendering in the manner of Mark et al., "Post-rendering 3D warping" (1997), and Buehler et al.,
"Unstructured lumigraph rendering" (2001): the recorded depth images are meshes, the meshes seen from the new pose give
its depth, and the recorded colours found there are blended, those seen from nearly the same direction before all.
"""
