from setuptools import Extension, setup

PACKAGES = ["_ext", "agents", "buffers", "envs", "evaluation", "generative", "nets", "training"]

setup(
    package_dir={"playfield": "."},
    packages=["playfield", *(f"playfield.{name}" for name in PACKAGES)],
    ext_modules=[
        Extension("playfield._ext.gather", ["_ext/gather.pyx"]),
    ],
)
