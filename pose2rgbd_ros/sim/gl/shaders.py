"""The shaders. Lengths are metres, colours linear RGB; textures hold square roots of linear values (see textures.py).

Variants: MOVER (a mesh with a pose of its own), GROUND (the ground's texture in place of the array), SHADOWS, ROOT (colour is
written as its square root, for averaging, in place of sRGB; no depth).
"""

from __future__ import annotations

PLACE = """
uniform vec2 shear;             // metres a shadow travels sideways for each metre down
in vec3 position_m;

#ifdef MOVER
uniform mat4 T_map_mover;
vec3 in_map() { return (T_map_mover * vec4(position_m, 1.0)).xyz; }
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
uniform vec3 sun_direction;
uniform float lift_m;           // off the surface before its shadow is looked up, so that it does not shade itself

in vec3 normal;
in vec2 uv;
in float layer;
in vec3 tint;

out vec3 texture_at;
out vec3 tint_of;
out vec2 facing;                // cosines: to the sun, to the zenith
out vec3 shadow_at;

void main() {
    vec3 map_m = in_map();
#ifdef MOVER
    vec3 out_of = mat3(T_map_mover) * normal;
#else
    vec3 out_of = normal;
#endif
    texture_at = vec3(uv, layer);
    tint_of = tint;
    facing = vec2(dot(out_of, sun_direction), out_of.z);
#ifdef GROUND
    shadow_at = on_plane(map_m);    // the ground casts no shadow
#else
    shadow_at = on_plane(map_m + lift_m * out_of);
#endif
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
uniform vec3 static_scale, static_offset, mover_scale, mover_offset;    // of shadow_at, to the maps' coordinates
uniform bool movers_shade;
uniform vec3 sun_rgb, sky_rgb, ground_rgb, haze_rgb;
uniform float haze_per_m;
uniform vec4 ray_of_pixel;      // x/z, y/z = gl_FragCoord.xy * .xy + .zw

in vec3 texture_at;
in vec3 tint_of;
in vec2 facing;
in vec3 shadow_at;

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
    float sun = max(facing.x, 0.0), label = 0.0;
#ifdef SHADOWS
    if (sun > 0.0) sun *= texture(static_shadows, shadow_at * static_scale + static_offset);
    if (movers_shade && sun > 0.0) {
        float lit = texture(mover_shadows, shadow_at * mover_scale + mover_offset);
        label = lit < 1.0 ? 2.0 : 0.0;
        sun *= lit;
    }
#endif
#ifdef MOVER
    label = 1.0;
#endif
    float z_m = 1.0 / gl_FragCoord.w;
    vec3 light = sun * sun_rgb + mix(ground_rgb, sky_rgb, 0.5 * facing.y + 0.5);
    vec3 seen = root * root * tint_of * light;
    vec2 ray = gl_FragCoord.xy * ray_of_pixel.xy + ray_of_pixel.zw;
    float clear = exp(-haze_per_m * z_m * sqrt(1.0 + dot(ray, ray)));
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
