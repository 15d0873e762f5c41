"""The package map and the compiled kernels; everything else stands in pyproject.toml.

The repository root is the package `playfield`: `agents/` installs as `playfield.agents`.
"""

from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

#: The directories that ship. A new one is added here; tests/test_packaging.py sees a forgotten one.
ROOMS = (
    "_ext",
    "agents",
    "buffers",
    "commands",
    "envs",
    "evaluation",
    "generative",
    "nets",
    "training",
)


class BuildKernels(build_ext):
    """Optimised, but for any processor and without OpenMP: torch brings its own runtime of that."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.parallel = True  # as many compilers as cores

    def build_extensions(self) -> None:
        self.cython_c_in_temp = True  # not beside its source
        self.cython_include_dirs = ["_ext"]  # where kernels find the .pxd files that they share
        flags = ["/O2"] if self.compiler.compiler_type == "msvc" else ["-O3"]
        for extension in self.extensions:
            extension.extra_compile_args = flags
        super().build_extensions()


class CollectModules(build_py):
    """All modules but this file, which lies among those of the package."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if module[:2] != ("playfield", "setup")]


packages = ["playfield"]
for room in ROOMS:
    packages += [f"playfield.{room}", *(f"playfield.{room}.{sub}" for sub in find_packages(room))]

setup(
    package_dir={"playfield": "."},
    packages=packages,
    ext_modules=[
        Extension(f"playfield._ext.{path.stem}", [path.as_posix()])
        for path in sorted(Path("_ext").glob("*.pyx"))
    ],
    cmdclass={"build_ext": BuildKernels, "build_py": CollectModules},
)
