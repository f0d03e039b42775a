"""A procedural city: streets, buildings, trees and traffic from a seed, as plain triangles and textures."""
