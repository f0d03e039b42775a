"""PoseGAN: a generator that shows a pose and a discriminator that finds it, after Liu, Li and Qiu, "PoseGAN: A
Pose-to-Image Translation Framework for Camera Localization" (2020); PoseNet beside it, the regressor it is compared
with.

The paper gives the figure of the blocks, not their widths: docs/models.md says what is a reconstruction.
"""
