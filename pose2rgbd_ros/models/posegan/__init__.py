"""PoseGAN: a generator that shows a pose and a discriminator that finds it, after Liu, Li and Qiu, "PoseGAN: A
Pose-to-Image Translation Framework for Camera Localization" (2020); PoseNet beside it, the regressor it is compared
with.

The paper gives the blocks, not their widths: docs/decisions/0012-posegan.md says what is a reconstruction.
"""
