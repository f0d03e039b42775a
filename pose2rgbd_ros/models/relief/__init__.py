"""A renderer that carries the geometry of the place: occupancy layers, features, a shader."""
