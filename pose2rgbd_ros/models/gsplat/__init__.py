"""Gaussian splats by the gsplat package, for comparison; trained on a CUDA GPU."""
