"""A procedural city: streets, buildings, trees and traffic from a seed, as plain triangles and textures.

`City` in city.py puts it together; each module does one step, and hands the next one plain arrays:

    config      the settings, and a stream of random numbers for each purpose
    layout      the street grid, straight on a plan, and the warp that bends the plan into the map
    terrain     heights of the ground over the grid                                (layout -> Ground)
    plots       what stands on each block, as rectangles on the plan               (layout -> Plan)
    buildings   walls and roofs; roofscape: what stands on those                   (Plan -> faces)
    streets     roadways, pavements, fields                                        (Ground -> faces)
    greenery, lamps, traffic    what is set down many times; shapes: the models; placing: where and how
    ground_picture              the picture that lies on the land between streets  (Plan -> texture)
    textures    the layers of small textures; paint_walls, paint_surfaces and seasons draw and colour them
    solids      boxes and roofs over many rectangles at once; builder collects faces, and hands out meshes
    skyline     how high things reach, for flights

The warp stretches: a metre of the plan is 0.8 to 1.2 m in the map, most so at the corners of the city. Points called
`plan` are on the plan, points called `_m` in the map.
"""
