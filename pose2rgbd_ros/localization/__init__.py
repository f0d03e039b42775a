"""Image -> pose: the camera found from its picture alone, with covariance, rejection and refinement."""
