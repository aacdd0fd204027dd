"""Packs `configs/` into the wheel as `resdet/presets/`; all else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = Path(__file__).resolve().parent / "configs"


class BuildWithPresets(build_py):
    """An editable installation uses `configs/` in place and gets no copy."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        # A build folder is used again: what was deleted from configs/ must not stay in it.
        shutil.rmtree(self._presets(), ignore_errors=True)
        for source, target in self._copies():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = list(super().get_outputs(include_bytecode))
        if self.editable_mode:
            return outputs
        return [*outputs, *(str(target) for _, target in self._copies())]

    def _presets(self) -> Path:
        return Path(self.build_lib) / "resdet" / "presets"

    def _copies(self) -> list[tuple[Path, Path]]:
        files = sorted(CONFIGS.rglob("*.yaml"))
        return [(file, self._presets() / file.relative_to(CONFIGS)) for file in files]


# The distribution reads pyproject.toml; this file is also what old tools call.
setup(cmdclass={"build_py": BuildWithPresets})
