"""The wheel has configs/ and sweeps/ inside the package; see vaebench/configuration/shipped.py."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """The package with the configurations that stand beside it in a checkout."""

    def run(self) -> None:
        super().run()
        for folder in () if self.editable_mode else ("configs", "sweeps"):
            copytree(folder, Path(self.build_lib, "vaebench", folder), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
