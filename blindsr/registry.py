"""The registries of kernel estimators, upscalers and sources of kernels: a method is added here by one line.

Names map to "module:Class"; a module is imported when its method is first used. Other packages add methods by entry
points of the groups `blindsr.estimators` and `blindsr.upscalers` (docs/extending.md). Everything that lists methods is
derived from these registries: choices and tables of the command line, tables of run.toml, columns of an ablation, keys
of records and caches, and the tables of methods in the documentation.
"""

import ast
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from blindsr.errors import ConfigError

__all__ = ["ESTIMATORS", "UPSCALERS", "Registry", "check_minimum", "check_setting", "kernel_source", "source_digest"]

Method = TypeVar("Method")

# Folders whose code decides a result. Whole folders are hashed, so that no method can be forgotten.
_METHOD_FOLDERS = ("estimators", "image_io", "kernelgan", "kernels", "ops", "pipelines", "upscalers", "zssr")
_METHOD_SUFFIXES = (".py", ".safetensors", ".json", ".npz")


class Registry(Generic[Method]):
    """Methods by name, imported on first use.

    Args:
        kind: What the methods are, for messages: "estimator" or "upscaler".
        group: Entry-point group of other packages.
        built_in: "module:Class" by name.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self.kind, self._group, self._built_in = kind, group, dict(built_in)
        self._added: dict[str, type[Any]] = {}

    def names(self) -> tuple[str, ...]:
        """All names: those of this package in their order, then those of other packages."""
        return tuple(dict.fromkeys((*self._built_in, *sorted(_entry_points(self._group)), *self._added)))

    def is_foreign(self, name: str) -> bool:
        """Whether a method is that of another package, found by its entry point."""
        return name not in self._built_in and name in _entry_points(self._group)

    def check(self, *names: str) -> None:
        """Raise a ConfigError if there is no method of one of these names."""
        for name in names:
            if name not in self.names():
                raise ConfigError(f"the {self.kind} must be one of {', '.join(self.names())}, got {name!r}.")

    def get(self, name: str) -> type[Any]:
        """The class of a method.

        Raises:
            ConfigError: There is no method of this name, or its module cannot be imported.
        """
        if name in self._added:
            return self._added[name]
        self.check(name)
        target = self._built_in.get(name) or _entry_points(self._group)[name]
        try:
            loaded: type[Any] = _imported(target)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the {self.kind} {name!r} ({target}) cannot be imported: {error}.") from error
        return loaded

    def name_of(self, config: Any) -> str:
        """The method whose settings have the type of `config`.

        Raises:
            ConfigError: No method has settings of this type.
        """
        for name in self.names():
            if self.get(name).config_type is type(config):
                return name
        raise ConfigError(
            f"an {self.kind} is given by its name ({', '.join(self.names())}) or by its settings, "
            f"got {type(config).__name__}."
        )

    def create(self, name: str, config: Any | None = None, *, seed: int = 0) -> Method:
        """An instance of a method.

        Args:
            name: Name of the method.
            config: Its settings, of the class's `config_type`; None is the defaults.
            seed: Random seed, for methods whose settings have one.

        Raises:
            ConfigError: There is no method of this name, or `config` is of another type.
        """
        method = self.get(name)
        config = method.config_type() if config is None else config
        if not isinstance(config, method.config_type):
            raise ConfigError(
                f"the settings of the {self.kind} {name} must be {method.config_type.__name__}, "
                f"got {type(config).__name__}."
            )
        if any(field.name == "seed" for field in fields(config)):
            config = replace(config, seed=seed)
        instance: Method = method(config)
        return instance

    def describe(self, name: str) -> str:
        """The first line of a method's docstring; a method of this package is not imported for it."""
        if name in self._built_in:
            module, _, attribute = self._built_in[name].partition(":")
            path = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name == attribute:
                    return (ast.get_docstring(node) or "").partition("\n")[0]
        return (self.get(name).__doc__ or "").strip().partition("\n")[0]

    def register(self, name: str, method: type[Any]) -> None:
        """Add a method in this process, for notebooks and tests; packages use entry points.

        Raises:
            ConfigError: The name is taken.
        """
        if name in self.names():
            raise ConfigError(f"an {self.kind} named {name!r} exists already; choose another name.")
        self._added[name] = method

    def unregister(self, name: str) -> None:
        """Remove a method that `register` added."""
        self._added.pop(name, None)


def _imported(target: str) -> Any:
    """What "module:name" names."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


@cache
def _entry_points(group: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=group)}


ESTIMATORS: Registry[Any] = Registry(
    "estimator",
    "blindsr.estimators",
    {
        "auto": "blindsr.estimators.auto:AutomaticEstimator",
        "spectral": "blindsr.estimators.spectral:SpectralEstimator",
        "l0": "blindsr.estimators.blind_l0:BlindL0Estimator",
        "kernelgan": "blindsr.kernelgan.estimator:KernelGANEstimator",
        "kernelgan-fkp": "blindsr.kernelgan.prior:KernelGANFKPEstimator",
        "michaeli-irani": "blindsr.estimators.michaeli_irani:MichaeliIraniEstimator",
        "learned": "blindsr.estimators.learned.estimator:LearnedEstimator",
        "bicubic": "blindsr.estimators.base:BicubicKernel",
    },
)

UPSCALERS: Registry[Any] = Registry(
    "upscaler",
    "blindsr.upscalers",
    {
        "pretrained": "blindsr.upscalers.pretrained.upscaler:PretrainedUpscaler",
        "zssr": "blindsr.zssr.upscaler:PublishedZSSR",
        "bicubic": "blindsr.upscalers.interpolation:BicubicUpscaler",
        "nearest": "blindsr.upscalers.interpolation:NearestUpscaler",
        "bilinear": "blindsr.upscalers.interpolation:BilinearUpscaler",
        "lanczos": "blindsr.upscalers.interpolation:LanczosUpscaler",
        "checkpoint": "blindsr.upscalers.checkpoint:CheckpointUpscaler",
        "dip": "blindsr.upscalers.deep_prior.image_prior:DeepPriorUpscaler",
        "dkp": "blindsr.upscalers.deep_prior.dkp:DKPUpscaler",
        "dip-fkp": "blindsr.upscalers.deep_prior.dip_fkp:DIPFKPUpscaler",
        "dualsr": "blindsr.upscalers.dualsr:DualSRUpscaler",
        "mzsr": "blindsr.upscalers.mzsr.upscaler:MZSRUpscaler",
        "singan": "blindsr.upscalers.singan:SinGANUpscaler",
    },
)


# What makes kernels of something else than their weights. It builds on `blindsr.kernels`, which loads it from here.
_KERNEL_SOURCES = {
    "sensor": "blindsr.sensors.catalogue:kernel_from_sensor",
    "psf": "blindsr.sensors.measured:kernel_from_image",
}


def kernel_source(name: str) -> Callable[..., Any]:
    """The function that makes kernels of a "sensor" by its name, or of the image of a "psf"."""
    source: Callable[..., Any] = _imported(_KERNEL_SOURCES[name])
    return source


def _source_of(module: str) -> bytes:
    """The source of a module of another package, which may be edited in place; empty where there is none."""
    try:
        spec = find_spec(module)
        return b"" if spec is None or spec.origin is None else Path(spec.origin).read_bytes()
    except (ImportError, ValueError, OSError):
        return b""


@cache
def source_digest() -> str:
    """A digest of all code and weights that decide a result, for the keys of caches: 20 hexadecimal digits.

    It covers whole folders, and the modules that entry points name with the versions of their packages.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    paths = [path for folder in _METHOD_FOLDERS for path in sorted((root / folder).rglob("*"))]
    for path in (*paths, root / "settings.py", root / "runtime.py", root / "registry.py"):
        if path.suffix in _METHOD_SUFFIXES and path.is_file():
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    for group in ("blindsr.estimators", "blindsr.upscalers"):
        for point in sorted(entry_points(group=group), key=lambda p: p.name):
            version = point.dist.version if point.dist is not None else ""
            digest.update(f"{group} {point.name} {point.value} {version}".encode())
            digest.update(_source_of(point.module))
    return digest.hexdigest()[:20]


def check_minimum(config: object, table: str, minimum: int, *names: str) -> None:
    """Check the lower bound of some settings.

    Args:
        config: The settings.
        table: Their table in run.toml, for the message.
        minimum: The bound, which is allowed.
        *names: Fields of `config`.

    Raises:
        ConfigError: A field is below the bound; the message names it.
    """
    for name in names:
        if not getattr(config, name) >= minimum:  # NaN is neither
            raise ConfigError(f"{table}.{name} must be {minimum} or more, got {getattr(config, name)}.")


def check_setting(config: object, table: str, name: str, is_valid: bool, bounds: str) -> None:
    """Check one setting.

    Args:
        config: The settings.
        table: Their table in run.toml, for the message.
        name: Field of `config`.
        is_valid: Whether its value is allowed.
        bounds: What is allowed, as the end of "must be …".

    Raises:
        ConfigError: It is not allowed; the message names the field.
    """
    if not is_valid:
        raise ConfigError(f"{table}.{name} must be {bounds}, got {getattr(config, name)!r}.")
