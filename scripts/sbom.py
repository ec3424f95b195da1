"""Write a software bill of materials of the runtime: CycloneDX 1.6 (cyclonedx.org), as JSON, from the
hash-pinned lock alone: ``scripts/sbom.py > sbom.json``. The same lock gives the same bytes."""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))

from xairouter import __version__  # noqa: E402 -- found beside this script


def components(lock: str) -> list[dict[str, Any]]:
    """Every package of a lock: name, version, address of kind ``purl``, hashes of its files."""
    found = []
    for match in re.finditer(
        r"^([a-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(.*?)(?=^[a-z0-9]|\Z)", lock, re.M | re.S
    ):
        name, version, rest = match.groups()
        purl = f"pkg:pypi/{name}@{version}"
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
                "hashes": [
                    {"alg": "SHA-256", "content": digest}
                    for digest in re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)
                ],
            }
        )
    return found


def document() -> dict[str, Any]:
    parts = components((ROOT / "requirements" / "runtime.txt").read_text())
    own = f"pkg:pypi/xairouter@{__version__}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "xairouter",
                "version": __version__,
                "purl": own,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": parts,
        "dependencies": [{"ref": own, "dependsOn": sorted(one["bom-ref"] for one in parts)}],
    }


if __name__ == "__main__":
    print(json.dumps(document(), indent=1))
