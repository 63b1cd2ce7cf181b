"""F7: frozen, versioned worlds that ship with the package, so that everyone measures against the same gold."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import synthetic_rm
from synthetic_rm.environments.reviews.environment import Reviews
from synthetic_rm.environments.reviews.ratings import DATA_SHA256
from synthetic_rm.environments.reviews.tokenizer import load_tokenizer, save_tokenizer
from synthetic_rm.errors import InputError, require
from synthetic_rm.provenance import digest, file_digest
from synthetic_rm.reading import is_plain_name, read_json
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
    """Write a world as a release: its files, and a manifest with their hashes, the metrics, and how it was made.

    Raises:
        InputError: the folder cannot be written, or the world is not of the shipped data.
    """
    data = settings.data or world.environment.data
    require(data is None, f"environment.data={str(data)!r}: releases are for the shipped data, allowed is null")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _write_files(world, settings, name, folder, made)
    except OSError as error:
        raise InputError(f"release {folder}: cannot be written ({error.strerror or error})") from error


def _write_files(world: World, settings: EnvironmentSettings, name: str, folder: Path, made: Mapping[str, Any]) -> Path:
    params = {REFERENCE: world.reference_params, GOLD: world.gold.params}
    params |= {backbone_name(size): trunk for size, trunk in world.backbones.items()}
    save_tokenizer(world.environment.tokenizer, folder / TOKENIZER)
    for file, arrays in params.items():
        save_params(folder / file, arrays)
    manifest = {
        "name": name,
        "data_sha256": DATA_SHA256,
        "vocab": settings.vocab,
        "prompt_tokens": settings.prompt_tokens,
        "response_tokens": settings.response_tokens,
        "build": asdict(settings.build),
        "metrics": world.facts,
        "files": {
            file: {"sha256": file_digest(folder / file), "bytes": (folder / file).stat().st_size}
            for file in (TOKENIZER, *params)
        },
        "made": dict(made),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return folder


def read_release_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a release, whole and every file's hash checked.

    Raises:
        InputError: one line naming the file that is missing or whose hash differs, and both hashes; or the settings
            of the build that the manifest does not tell: no default stands in for how a model was made.
    """
    try:
        manifest = read_json(folder / "manifest.json")
        files = {name: str(recorded["sha256"]) for name, recorded in manifest["files"].items()}
        for key in ("metrics", "vocab", "prompt_tokens", "response_tokens"):
            manifest[key]
        told, data = set(manifest["build"]), manifest["data_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"release {folder.name}: {folder / 'manifest.json'} is missing or damaged") from error
    known = {field.name for field in fields(BuildSettings)}
    for what, keys in (("lacks", known - told), ("has the unknown", told - known)):
        if keys:
            raise InputError(
                f"release {folder.name}: {folder / 'manifest.json'} {what} build.{', build.'.join(sorted(keys))}"
            )
    if data != DATA_SHA256:
        raise InputError(
            f"release {folder.name}: made from data of SHA-256 {str(data)[:16]}, here is {DATA_SHA256[:16]}"
        )
    for name, recorded in files.items():
        path = folder / name
        require(
            is_plain_name(name), f"release {folder.name}: {folder / 'manifest.json'} names {name!a}, not in its folder"
        )
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
    """The world of a release, every file checked against its hash.

    In the store it is known by its files and by what the manifest says of them (settings, metrics), not by who made it.
    """
    folder = root / name
    manifest = read_release_manifest(folder)
    build = _build_of(manifest)
    environment = Reviews(load_tokenizer(folder / TOKENIZER), manifest["prompt_tokens"], manifest["response_tokens"])
    return assemble(
        environment,
        build,
        folder / REFERENCE,
        folder / GOLD,
        {size: folder / backbone_name(size) for size in build.backbone_sizes},
        facts=manifest["metrics"],
        keys=(
            name,
            digest({key: value for key, value in manifest.items() if key not in ("files", "made")}),
            *(recorded["sha256"] for recorded in manifest["files"].values()),
        ),
        dtype=dtype,
    )


def release_build(name: str, *, root: Path = ROOT) -> BuildSettings:
    """How the models of a release were trained.

    Raises:
        InputError: as `read_release_manifest`.
    """
    return _build_of(read_release_manifest(root / name))


def _build_of(manifest: Mapping[str, Any]) -> BuildSettings:
    return BuildSettings(**manifest["build"])


def copy_license(folder: Path) -> None:
    """Put the data's licence beside the models made from it."""
    shutil.copy(
        Path(synthetic_rm.__file__).parent / "environments" / "reviews" / "data" / "LICENSE", folder / "LICENSE"
    )
