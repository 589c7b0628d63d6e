"""What made a result: the code that its numbers depend on, and the versions of the libraries."""

import hashlib
import importlib.metadata
import importlib.util
import pathlib


def code_revision() -> str:
    """Returns a digest of the source of `theory` and `sims`, the same in a checkout and a wheel."""
    digest = hashlib.sha256()
    for package in ("sims", "theory"):
        spec = importlib.util.find_spec(package)
        root = pathlib.Path(spec.submodule_search_locations[0])  # type: ignore[union-attr, index]
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> str:
    """Returns the versions of the numerical libraries, for the record."""
    names = ("jax", "jaxlib", "numpy", "scipy")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
