"""Pictures of a `sim.scene.Scene` with OpenGL, on a GPU or on Mesa's software renderer; the only place that knows
moderngl.
"""
