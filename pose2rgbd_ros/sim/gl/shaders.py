"""The shaders. Lengths are metres, colours linear RGB; textures hold square roots of linear values (see scene.py).

Variants: MOVER (a mesh with a pose of its own), GROUND (the ground's texture in place of the array), SHADOWS (of what
    stands still), MOVER_SHADOWS (those of movers, too), ROOT (colour is written as its square root, for averaging, in
    place of sRGB; no depth). In software every pixel's arithmetic counts, so light is worked out at the corners of
    triangles.
"""

from __future__ import annotations

import moderngl

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.scene import Light

PLACE = """
uniform vec2 shear;             // metres a shadow travels sideways for each metre down
in vec3 position_m;

#ifdef MOVER
in vec4 pose_x, pose_y, pose_z;      // rows of T_map_mover, of the mover that is drawn
vec3 in_map() { return vec4(position_m, 1.0) * mat3x4(pose_x, pose_y, pose_z); }
#else
vec3 in_map() { return position_m; }
#endif

// Along the sun's rays down to the plane z = 0; the height stays. Shadows are looked up there.
vec3 on_plane(vec3 map_m) { return vec3(map_m.xy - shear * map_m.z, map_m.z); }
"""

CAMERA = """
uniform mat4 clip_from_cam;
uniform mat3 R_cam_map;
uniform vec3 camera_m;          // in the map

// The difference first: it is small where millimetres count.
vec4 clip(vec3 map_m) { return clip_from_cam * vec4(R_cam_map * (map_m - camera_m), 1.0); }
"""

VERTEX = """
uniform vec3 sun_direction, sun_rgb, sky_rgb, ground_rgb;
uniform float lift_m;           // off the surface before its shadow is looked up, so that it does not shade itself
uniform vec3 static_scale, static_offset;       // from the plane to the map of shadows

in vec3 normal;
in vec2 uv;
in float layer;
in vec3 tint;

out vec3 texture_at;
out vec3 sunlit, skylit;        // what a white texture shows of the sun and of everything else
out vec3 shadow_at;             // in the map of static shadows

void main() {
    vec3 map_m = in_map();
#ifdef MOVER
    vec3 out_of = vec4(normal, 0.0) * mat3x4(pose_x, pose_y, pose_z);
#else
    vec3 out_of = normal;
#endif
    texture_at = vec3(uv, layer);
    sunlit = tint * sun_rgb * max(dot(out_of, sun_direction), 0.0);
    skylit = tint * mix(ground_rgb, sky_rgb, 0.5 * out_of.z + 0.5);
#ifdef GROUND
    vec3 lifted_m = map_m;      // the ground casts no shadow
#else
    vec3 lifted_m = map_m + lift_m * out_of;
#endif
    shadow_at = on_plane(lifted_m) * static_scale + static_offset;
    gl_Position = clip(map_m);
}
"""

COLOUR = """
vec4 finished(vec3 linear, float label) {
    linear = clamp(linear, 0.0, 1.0);
#ifdef ROOT
    return vec4(sqrt(linear), label / 255.0);
#else
    // 1.055 pow(linear, 1 / 2.4) - 0.055 to a fraction of one of 255 steps: powers are dear in software.
    vec3 root = sqrt(linear);
    vec3 above = ((((0.5173 * root - 1.623649) * root + 2.031564) * root - 1.402731) * root + 1.51795) * root - 0.04011;
    vec3 srgb = mix(12.92 * linear, above, step(0.0031308, linear));
    return vec4(srgb, label / 255.0);
#endif
}
"""

FRAGMENT = """
uniform sampler2DArray textures;
uniform sampler2D ground;
uniform sampler2DShadow static_shadows, mover_shadows;
uniform vec3 mover_scale, mover_offset;         // from the map of static shadows to that of the movers'
uniform vec3 haze_rgb;
uniform float haze_per_m;
uniform vec4 ray_of_pixel;      // x/z, y/z = gl_FragCoord.xy * .xy + .zw

in vec3 texture_at;
in vec3 sunlit, skylit;
in vec3 shadow_at;

// exp(-x) to 0.007, where a power would be dear; 0 far out.
float faded(float x) {
    float u = 0.25 * x;
    float quarter = max(((-0.1666667 * u + 0.5) * u - 1.0) * u + 1.0, 0.0);
    float half_way = quarter * quarter;
    return half_way * half_way;
}

layout(location = 0) out vec4 colour;
#ifndef ROOT
layout(location = 1) out float depth_m;
#endif

void main() {
#ifdef GROUND
    vec3 root = texture(ground, texture_at.xy).rgb;
#else
    vec3 root = texture(textures, texture_at).rgb;
#endif
    vec3 light = skylit;
    float label = 0.0;
    bool sunny = sunlit.r + sunlit.g + sunlit.b > 0.0;
    if (sunny) {
        float sun = 1.0;
#ifdef SHADOWS
        sun = texture(static_shadows, shadow_at);
#endif
#ifdef MOVER_SHADOWS
        if (sun > 0.0) {
            float lit = texture(mover_shadows, shadow_at * mover_scale + mover_offset);
            label = lit < 1.0 ? 2.0 : 0.0;
            sun *= lit;
        }
#endif
        light += sun * sunlit;
    }
#ifdef MOVER
    label = 1.0;
#endif
    float z_m = 1.0 / gl_FragCoord.w;
    vec3 seen = root * root * light;
    vec2 ray = gl_FragCoord.xy * ray_of_pixel.xy + ray_of_pixel.zw;
    float clear = faded(haze_per_m * z_m * sqrt(1.0 + dot(ray, ray)));
    colour = finished(mix(haze_rgb, seen, clear), label);
#ifndef ROOT
    depth_m = z_m;
#endif
}
"""

# Depth by itself, negative on movers.
DEPTH_VERTEX = """
void main() { gl_Position = clip(in_map()); }
"""

DEPTH_FRAGMENT = """
out float depth_m;
void main() {
#ifdef MOVER
    depth_m = -1.0 / gl_FragCoord.w;
#else
    depth_m = 1.0 / gl_FragCoord.w;
#endif
}
"""

# A map of the highest surface on each of the sun's rays.
SHADOW_VERTEX = """
uniform vec3 map_scale, map_offset;
void main() { gl_Position = vec4((on_plane(in_map()) * map_scale + map_offset) * 2.0 - 1.0, 1.0); }
"""

SHADOW_FRAGMENT = """
void main() {}
"""

WHOLE_PICTURE = """
void main() {                   // one triangle over the whole picture, behind everything
    vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0;
    gl_Position = vec4(corner, 1.0, 1.0);
}
"""

SKY_FRAGMENT = """
uniform mat3 R_cam_map;
uniform vec4 ray_of_pixel;
uniform vec3 sun_direction, sun_rgb, sky_rgb, haze_rgb;
layout(location = 0) out vec4 colour;
#ifndef ROOT
layout(location = 1) out float depth_m;
#endif

void main() {
    vec3 towards = normalize(vec3(gl_FragCoord.xy * ray_of_pixel.xy + ray_of_pixel.zw, 1.0) * R_cam_map);
    float up = max(towards.z, 0.0), sunward = max(dot(towards, sun_direction), 0.0);
    vec3 zenith = sky_rgb * sky_rgb * vec3(0.9, 1.1, 1.3);
    vec3 sky = mix(zenith, haze_rgb, exp(-4.0 * up));
    float glow = 0.25 * pow(sunward, 12.0) + 0.6 * pow(sunward, 400.0);
    colour = finished(sky + glow * smoothstep(0.0, 0.15, up) * sun_rgb, 0.0);
#ifndef ROOT
    depth_m = uintBitsToFloat(0x7fc00000u);     // NaN
#endif
}
"""

# The mean of the samples of each pixel, in linear light; what any of them shows is the pixel's label.
RESOLVE_FRAGMENT = """
uniform sampler2D samples;
uniform sampler2D signed_depth_m;
uniform int across;
out vec4 colour;

void main() {
    ivec2 pixel = ivec2(gl_FragCoord.xy);
    vec3 sum = vec3(0.0);
    bool mover = texelFetch(signed_depth_m, pixel, 0).r < 0.0, shadow = false;
    for (int y = 0; y < across; y++)
        for (int x = 0; x < across; x++) {
            vec4 one = texelFetch(samples, pixel * across + ivec2(x, y), 0);
            sum += one.rgb * one.rgb;
            mover = mover || abs(one.a * 255.0 - 1.0) < 0.5;
            shadow = shadow || abs(one.a * 255.0 - 2.0) < 0.5;
        }
    colour = finished(sum / float(across * across), mover ? 1.0 : shadow ? 2.0 : 0.0);
}
"""


def source(*parts: str, defines: tuple[str, ...] = ()) -> str:
    """One shader of some parts, in a variant."""
    return "".join(["#version 330\n", *(f"#define {name}\n" for name in defines), *parts])


# The shaders compiled: one set of programs for a scene.


TEXTURES, GROUND, STATIC_SHADOWS, MOVER_SHADOWS, SAMPLES, DEPTH = range(6)  # texture units
_UNITS = ("textures", "ground", "static_shadows", "mover_shadows", "samples", "signed_depth_m")


class Programs:
    """Programs by name; uniforms are set in all that have them.

    chunks, ground, mover, sky: colour, and depth where not `averaged`; shaded_chunks, shaded_ground: the same with the
    shadows of movers, a program of their own since a look at a second map is dear. resolve, depth, mover_depth: for
    averaged pictures. shadow, mover_shadow: heights seen from the sun.
    """

    def __init__(self, context: moderngl.Context, averaged: bool, shadows: bool) -> None:
        style = (*(("ROOT",) if averaged else ()), *(("SHADOWS",) if shadows else ()))

        def program(vertex: tuple[str, ...], fragment: tuple[str, ...], *defines: str) -> moderngl.Program:
            return context.program(source(*vertex, defines=defines), source(*fragment, defines=defines))

        lit = (PLACE, CAMERA, VERTEX), (COLOUR, FRAGMENT)
        depth = (PLACE, CAMERA, DEPTH_VERTEX), (DEPTH_FRAGMENT,)
        shadow = (PLACE, SHADOW_VERTEX), (SHADOW_FRAGMENT,)
        self.chunks = program(*lit, *style)
        self.ground = program(*lit, *style, "GROUND")
        moving = ("MOVER_SHADOWS",) if shadows else ()
        self.shaded_chunks = program(*lit, *style, *moving)
        self.shaded_ground = program(*lit, *style, *moving, "GROUND")
        self.mover = program(*lit, *style, *moving, "MOVER")
        self.sky = program((WHOLE_PICTURE,), (COLOUR, SKY_FRAGMENT), *style)
        self.resolve = program((WHOLE_PICTURE,), (COLOUR, RESOLVE_FRAGMENT))
        self.depth, self.mover_depth = program(*depth), program(*depth, "MOVER")
        self.shadow, self.mover_shadow = program(*shadow), program(*shadow, "MOVER")
        self._all = [value for value in vars(self).values() if isinstance(value, moderngl.Program)]
        for unit, name in enumerate(_UNITS):
            self.set(name, unit)

    def set(self, name: str, value: object) -> None:
        """Set a uniform in every program that uses it."""
        for program in self._all:
            if name in program:
                program[name].value = value  # type: ignore[union-attr]

    def set_light(self, light: Light) -> None:
        """Sun, sky and haze."""
        for name in ("sun_direction", "sun_rgb", "sky_rgb", "ground_rgb", "haze_rgb", "haze_per_m"):
            self.set(name, getattr(light, name))

    def set_samples(self, camera: Camera, across: int) -> None:
        """The pixels that are drawn: `across` x `across` to a pixel of `camera`."""
        fine = camera.resized(camera.width * across, camera.height * across)
        left, top = (fine.cx + 0.5) / fine.fx, (fine.cy + 0.5) / fine.fy
        self.set("ray_of_pixel", (1 / fine.fx, 1 / fine.fy, -left, -top))
        self.set("across", across)
