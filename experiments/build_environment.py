"""Rebuild the shipped environment release from the human ratings: python experiments/build_environment.py

Trains reference policy, gold and backbones (about 15 minutes on 2 CPU cores) through the store and writes the
release. The shipped files were made so; on another machine the weights agree in all but their last digits. An older
release (--name) is trained as its manifest says, by today's code.
"""

import argparse
import sys
from pathlib import Path

import jax

from synthetic_rm.build import Builder, data_sha256
from synthetic_rm.entry import Parser, guarded, traceback_kept
from synthetic_rm.files import make_folder
from synthetic_rm.progress import Reporter
from synthetic_rm.provenance import describe
from synthetic_rm.release import ROOT, copy_license, read_release_manifest, write_release
from synthetic_rm.runtime import prepare
from synthetic_rm.settings import RELEASES, BuildSettings, EnvironmentSettings
from synthetic_rm.store import Store


def build_settings(name: str) -> BuildSettings:
    """How a release is built: the newest as the defaults say, an older one as its manifest does."""
    if name == RELEASES[-1]:
        return BuildSettings()
    return BuildSettings(**read_release_manifest(ROOT / name)["build"])


def main() -> int:
    """The command, with its exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", choices=RELEASES, default=RELEASES[-1], help="release (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder to write (default: results/releases/NAME)")
    parser.add_argument("--store", type=Path, default=Path("results/store"), help="folder of finished stages")
    parser.add_argument(
        "--install", action="store_true", help="write into the package, in place of the shipped release"
    )
    options = parser.parse_args()
    return guarded(lambda: build(options))


def build(options: argparse.Namespace) -> None:
    """Train what the release is made of and write it.

    Raises:
        InputError: a folder cannot be written, or the older release's manifest cannot be read.
    """
    folder = ROOT / options.name if options.install else options.output or Path("results/releases") / options.name
    make_folder("--output", folder)
    make_folder("--store", options.store)
    settings = EnvironmentSettings(release=None, build=build_settings(options.name))
    prepare()
    device = jax.devices()[0]
    origin = describe(f"{device.platform}: {device.device_kind}") | {"data_sha256": data_sha256(settings)}
    reporter = Reporter()
    with traceback_kept(folder):
        world = Builder(settings, Store(options.store, origin, reporter), reporter).world()
        write_release(world, settings, options.name, folder, origin)
        copy_license(folder)
    gold = world.facts["gold"]
    reporter.say(f"gold agrees with single raters on {gold['agreement']['rater']:.1%} of held-out pairs")
    reporter.say(f"release written to {folder}")


if __name__ == "__main__":
    sys.exit(main())
