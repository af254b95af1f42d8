"""List the checkpoints that can be pulled, pull one, verify it, and check what it computes. Needs no PyTorch.

python examples/pull_and_verify.py lighter-unet-int8 --out models/lighter
"""

from __future__ import annotations

import argparse
from pathlib import Path

import zoo
from zoo import plugins
from zoo.artifacts.golden import check_golden


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?", help="what to pull; without it, checkpoints are listed")
    parser.add_argument("--out", type=Path, help="folder to pull to; the cache if not given")
    given = parser.parse_args()

    if given.checkpoint is None:
        print("\n".join(zoo.list_checkpoints()))
        return

    # The folder appears whole, after every file was compared with its pinned sha256, or not at all.
    pulled = zoo.pull(given.checkpoint, given.out)
    print(f"{pulled.path}: {pulled.size / 1e6:.2f} MB, {'pulled' if pulled.fresh else 'there already'}")

    artifact = zoo.open_artifact(pulled.path)
    artifact.verify()  # reads every file again; raises IntegrityError naming the first that was altered
    print(f"verified: {', '.join(sorted(artifact.manifest.files))}")

    # The maker recorded a few inputs and outputs: does the engine on this machine compute the same?
    engine = plugins.engine("onnxruntime")
    session = engine.open(artifact.path / "model.onnx", threads=1)
    agreement = check_golden(session, artifact, engine.id)
    print(f"made with {artifact.manifest.recipe or 'no recipe'}; agrees with its maker to {agreement:.0f} dB")


if __name__ == "__main__":
    main()
