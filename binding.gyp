# Builds what ships: build/Release/ostraka.node. The source lists are native/sources.json, shared with CMakeLists.txt;
# the third-party libraries come from scripts/vendor.mjs. Run by scripts/native.mjs (npm run build).
{
  "variables": {
    "out": "<(module_root_dir)/native/vendor/out",
  },
  "target_defaults": {
    "defines": [
      "NAPI_VERSION=9",
      "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS",
      "NODE_ADDON_API_DISABLE_DEPRECATED",
      "NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS",
      # Without it a throw while a worker is being terminated ends the process.
      "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
      # External buffers are silently copied when they are transferred to a worker.
      "NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED",
    ],
    "include_dirs": ["<(module_root_dir)"],
    "cflags": ["-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"],
    # System headers: their warnings are not ours.
    "cflags_cc!": ["-std=gnu++17"],
    "cflags_cc": ["-std=gnu++20", "-isystem<(out)/include", "-isystem<!(node scripts/sources.mjs headers)"],
  },
  "targets": [
    {
      "target_name": "ostraka",
      "sources": ["<!@(node scripts/sources.mjs core)", "<!@(node scripts/sources.mjs addon)"],
      "libraries": ["<(out)/lib/libisal.a", "<(out)/lib/libzstd.a", "<(out)/lib/libxxhash.a"],
      "ldflags": [
        "-Wl,--version-script=<(module_root_dir)/native/addon/exports.map",
        "-Wl,-z,noexecstack",
        "<!@(node scripts/sources.mjs flags_link)",
      ],
      "conditions": [
        ["target_arch=='x64'", {"dependencies": ["pclmul", "ssse3", "avx2", "gfni256", "avx512"]}],
        # NEON is part of every 64-bit ARM, so its files need no flags.
        ["target_arch=='arm64'", {"sources": ["<!@(node scripts/sources.mjs kernels_neon)"]}],
      ],
    },
  ],
  "conditions": [
    ["target_arch=='x64'", {
      # One static library for each instruction set, since flags cannot be given to single files.
      "targets": [
        {
          "target_name": "pclmul",
          "type": "static_library",
          "sources": ["<!@(node scripts/sources.mjs kernels_pclmul)"],
          "cflags": ["<!@(node scripts/sources.mjs flags_pclmul)"],
        },
        {
          "target_name": "ssse3",
          "type": "static_library",
          "sources": ["<!@(node scripts/sources.mjs kernels_ssse3)"],
          "cflags": ["<!@(node scripts/sources.mjs flags_ssse3)"],
        },
        {
          "target_name": "avx2",
          "type": "static_library",
          "sources": ["<!@(node scripts/sources.mjs kernels_avx2)"],
          "cflags": ["<!@(node scripts/sources.mjs flags_avx2)"],
        },
        {
          "target_name": "gfni256",
          "type": "static_library",
          "sources": ["<!@(node scripts/sources.mjs kernels_gfni256)"],
          "cflags": ["<!@(node scripts/sources.mjs flags_gfni256)"],
        },
        {
          "target_name": "avx512",
          "type": "static_library",
          "sources": ["<!@(node scripts/sources.mjs kernels_avx512)"],
          "cflags": ["<!@(node scripts/sources.mjs flags_avx512)"],
        },
      ],
    }],
  ],
}
