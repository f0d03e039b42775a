"""A procedural city: streets, buildings, trees and traffic from a seed, as plain triangles and textures.

`City` in city.py puts it together; each module does one step, and hands the next one plain arrays:

    config      the settings, and a stream of random numbers for each purpose
    layout      the street grid, straight on a plan, the warp that bends the plan into the map, heights of the ground
    buildings   what stands on each block, as rectangles on the plan (layout -> Plan), walls and roofs (Plan -> faces)
    streets     roadways, pavements, fields                                        (Ground -> faces)
    greenery, traffic           what is set down many times
    ground      the picture that lies on the land between streets                  (Plan -> texture)
    surfaces    the layers of small textures
    shapes      collects faces and hands out meshes; the models, and solids over many rectangles at once

The warp stretches: a metre of the plan is 0.8 to 1.2 m in the map, most so at the corners of the city. Points called
`plan` are on the plan, points called `_m` in the map.
"""
