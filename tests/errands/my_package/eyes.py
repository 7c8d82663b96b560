"""Two presets, one registered and one to be named by its path."""

from dataclasses import replace

from distill.envs.presets import Preset, register_preset

mine = register_preset(Preset(name="my-eyes", gray="max-then-gray", frame_skip=3, luma="bt709"))
slow = replace(mine, name="slow", frame_skip=6)
