"""F7: frozen, versioned worlds that ship with the package, so that everyone measures against the same gold."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import synthetic_rm
from synthetic_rm.environments.reviews.environment import Reviews
from synthetic_rm.environments.reviews.ratings import DATA_SHA256
from synthetic_rm.environments.reviews.tokenizer import load_tokenizer, save_tokenizer
from synthetic_rm.errors import InputError
from synthetic_rm.provenance import file_digest
from synthetic_rm.settings import BuildSettings, EnvironmentSettings
from synthetic_rm.weights import save_params
from synthetic_rm.world import World, assemble

ROOT = Path(synthetic_rm.__file__).parent / "environments" / "reviews" / "releases"
TOKENIZER, REFERENCE, GOLD = "tokenizer.json", "reference.safetensors", "gold.safetensors"


def backbone_name(size: int) -> str:
    """File of the backbone of a parameter budget."""
    return f"backbone-{size}.safetensors"


def write_release(
    world: World, settings: EnvironmentSettings, name: str, folder: Path, made: Mapping[str, Any]
) -> Path:
    """Write a world as a release: its files, and a manifest with their hashes, the metrics, and how it was made."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(world.environment.tokenizer, folder / TOKENIZER)
    save_params(folder / REFERENCE, world.reference_params)
    save_params(folder / GOLD, world.gold.params)
    for size, params in world.backbones.items():
        save_params(folder / backbone_name(size), params)
    names = [TOKENIZER, REFERENCE, GOLD, *(backbone_name(size) for size in world.backbones)]
    manifest = {
        "name": name,
        "data_sha256": DATA_SHA256,
        "vocab": settings.vocab,
        "prompt_tokens": settings.prompt_tokens,
        "response_tokens": settings.response_tokens,
        "build": asdict(settings.build),
        "metrics": world.facts,
        "files": {n: {"sha256": file_digest(folder / n), "bytes": (folder / n).stat().st_size} for n in names},
        "made": dict(made),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return folder


def read_release_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a release, every file's hash checked.

    Raises:
        InputError: one line naming the file that is missing or whose hash differs, and both hashes.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        files = {name: str(recorded["sha256"]) for name, recorded in manifest["files"].items()}
        for key in ("build", "metrics", "vocab", "prompt_tokens", "response_tokens"):
            manifest[key]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"release {folder.name}: {folder / 'manifest.json'} is missing or damaged") from error
    for name, recorded in files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"release {folder.name}: file {path} is missing")
        found = file_digest(path)
        if found != recorded:
            raise InputError(
                f"release {folder.name}: file {path} has SHA-256 {found[:16]}, its manifest says {recorded[:16]}"
            )
    return dict(manifest)


def check_release(settings: EnvironmentSettings, proxy_sizes: list[int], init: str) -> None:
    """Fail early where the settings ask for something the release does not have."""
    if settings.release is None:
        return
    manifest = read_release_manifest(ROOT / settings.release)
    for key in ("vocab", "prompt_tokens", "response_tokens"):
        if getattr(settings, key) != manifest[key]:
            raise InputError(
                f"environment.{key}={getattr(settings, key)}: release {settings.release} has {manifest[key]}; "
                "set environment.release=null to train another"
            )
    sizes = manifest["build"]["backbone_sizes"]
    missing = [size for size in proxy_sizes if size not in sizes]
    if init == "backbone" and missing:
        raise InputError(
            f"proxy.sizes={missing}: proxy.init=backbone needs a backbone of release {settings.release}: {sizes}"
        )


def load_release(name: str, *, root: Path = ROOT, dtype: str = "float32") -> World:
    """The world of a release, every file checked against its hash."""
    folder = root / name
    manifest = read_release_manifest(folder)
    build = BuildSettings(**manifest["build"])
    environment = Reviews(load_tokenizer(folder / TOKENIZER), manifest["prompt_tokens"], manifest["response_tokens"])
    return assemble(
        environment,
        build,
        folder / REFERENCE,
        folder / GOLD,
        {size: folder / backbone_name(size) for size in build.backbone_sizes},
        facts=manifest["metrics"],
        keys=(name, *(recorded["sha256"] for recorded in manifest["files"].values())),
        dtype=dtype,
    )


def copy_license(folder: Path) -> None:
    """Put the data's licence beside the models made from it."""
    shutil.copy(
        Path(synthetic_rm.__file__).parent / "environments" / "reviews" / "data" / "LICENSE", folder / "LICENSE"
    )
