"""config.json of an artifact: what it is in a few words, for the Hub, which counts a download when it is fetched.

Nothing reads it here: zoo.json says all of it and more. Artifacts from before there was one are as good.
"""

from __future__ import annotations

import json

from zoo.artifacts.manifest import MANIFEST_NAME, Manifest

#: What the Hub calls this library; see docs/internals/hub-library.md.
LIBRARY = "compression-zoo"


def config_text(manifest: Manifest) -> str:
    """Return the text of config.json."""
    content = {
        "library_name": LIBRARY,
        "architecture": manifest.architecture,
        "recipe": manifest.recipe,
        "task": manifest.task,
        "precision": manifest.precision,
        "manifest": MANIFEST_NAME,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
