"""The shaders. Lengths are metres, colours linear RGB; textures hold square roots of linear values (see textures.py)."""

from __future__ import annotations

VERSION = "#version 330\n"

VERTEX = """
uniform mat4 clip_from_cam;
uniform mat3 R_cam_map;
uniform vec3 camera_m;          // in the map
uniform vec3 sun_direction;

in vec3 position_m;
in vec3 normal;
in vec2 uv;
in float layer;
in vec3 tint;

out vec3 texture_at;
out vec3 tint_of;
out vec2 facing;                // cosines: to the sun, to the zenith

void main() {
    texture_at = vec3(uv, layer);
    tint_of = tint;
    facing = vec2(dot(normal, sun_direction), normal.z);
    // The difference first: it is small where millimetres count.
    gl_Position = clip_from_cam * vec4(R_cam_map * (position_m - camera_m), 1.0);
}
"""

SRGB = """
vec3 srgb(vec3 linear) {
    linear = clamp(linear, 0.0, 1.0);
    return mix(12.92 * linear, 1.055 * pow(linear, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, linear));
}
"""

FRAGMENT = """
uniform sampler2DArray textures;
uniform sampler2D ground;
uniform vec3 sun_rgb, sky_rgb, ground_rgb, haze_rgb;
uniform float haze_per_m;
uniform vec4 ray_of_pixel;      // x/z, y/z = gl_FragCoord.xy * .xy + .zw

in vec3 texture_at;
in vec3 tint_of;
in vec2 facing;

layout(location = 0) out vec4 colour;
layout(location = 1) out float depth_m;

void main() {
#ifdef GROUND
    vec3 root = texture(ground, texture_at.xy).rgb;
#else
    vec3 root = texture(textures, texture_at).rgb;
#endif
    depth_m = 1.0 / gl_FragCoord.w;
    vec3 light = max(facing.x, 0.0) * sun_rgb + mix(ground_rgb, sky_rgb, 0.5 * facing.y + 0.5);
    vec3 seen = root * root * tint_of * light;
    vec2 ray = gl_FragCoord.xy * ray_of_pixel.xy + ray_of_pixel.zw;
    float clear = exp(-haze_per_m * depth_m * sqrt(1.0 + dot(ray, ray)));
    colour = vec4(srgb(mix(haze_rgb, seen, clear)), 0.0);
}
"""

SKY_VERTEX = """
void main() {                   // one triangle over the whole picture, behind everything
    vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0;
    gl_Position = vec4(corner, 1.0, 1.0);
}
"""

SKY_FRAGMENT = """
uniform vec3 haze_rgb;
layout(location = 0) out vec4 colour;
layout(location = 1) out float depth_m;

void main() {
    depth_m = uintBitsToFloat(0x7fc00000u);
    colour = vec4(srgb(haze_rgb), 0.0);
}
"""
