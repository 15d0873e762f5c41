from pathlib import Path

from setuptools import Extension, setup

PACKAGES = [
    "_ext", "agents", "buffers", "commands", "envs", "evaluation", "generative", "nets", "training",
]

setup(
    package_dir={"playfield": "."},
    packages=["playfield", *(f"playfield.{name}" for name in PACKAGES)],
    ext_modules=[
        Extension(f"playfield._ext.{path.stem}", [f"_ext/{path.name}"])
        for path in sorted(Path("_ext").glob("*.pyx"))
    ],
)
