"""Rigid motions, cameras, geodesy and the depth contract; numpy only."""
