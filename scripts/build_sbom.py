"""Write the software bill of materials of the installed environment: CycloneDX 1.5, as JSON, without a network.

`python scripts/build_sbom.py dist/sbom.cdx.json`: every installed Python distribution with its version, licence and
package URL, and every jar that pyspark brings, by the Maven coordinates that it states. The same environment gives the
same file. Tools such as Grype, Trivy and osv-scanner read it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from build_environment import packages_in

JAR = re.compile(r"(?P<name>.+?)-(?P<version>\d[\w.+-]*)\.jar")
Component = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Write the file that was named, or dist/sbom.cdx.json."""
    target = Path(arguments[0] if arguments else "dist/sbom.cdx.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    content = sbom()
    target.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{target}: {len(content['components'])} components")
    return 0


def sbom() -> dict[str, Any]:
    """The whole document."""
    components = sorted([*python_components(), *jar_components()], key=lambda each: each["bom-ref"])
    name = uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(each["bom-ref"] for each in components))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{name}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "recsys_spark", "bom-ref": "recsys_spark"}},
        "components": components,
    }


def python_components() -> Iterator[Component]:
    """The installed distributions, each once, without this project."""
    for name, found in packages_in(sys.path).items():
        if name != "recsys-spark":
            yield component(f"pkg:pypi/{name}@{found.version}", name, found.version, licence(found.metadata))


def licence(metadata: Any) -> str | None:
    """The licence, where it is told in a line."""
    told = metadata.get("License-Expression") or metadata.get("License") or ""
    classified = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if "License ::" in line]
    first = told.strip() if 0 < len(told.strip()) < 80 and "\n" not in told.strip() else ""
    return first or (classified[0] if classified else None)


def jar_components() -> Iterator[Component]:
    """The jars that the installed pyspark brings."""
    spark = importlib.metadata.distribution("pyspark").locate_file("pyspark/jars")
    for jar in sorted(Path(str(spark)).glob("*.jar")):
        group, name, version = coordinates(jar)
        kind = f"pkg:maven/{group}/{name}@{version}" if group else f"pkg:generic/{name}@{version}"
        yield component(kind, name, version, None)


def coordinates(jar: Path) -> tuple[str, str, str]:
    """Group (empty where the jar does not tell it), name and version."""
    plain = JAR.fullmatch(jar.name)
    name, version = (plain["name"], plain["version"]) if plain else (jar.stem, "")
    with zipfile.ZipFile(jar) as archive:
        for member in archive.namelist():
            if member.startswith("META-INF/maven/") and member.endswith(f"/{name}/pom.properties"):
                return member.split("/")[2], name, version
    return "", name, version


def component(url: str, name: str, version: str, licence_: str | None) -> Component:
    """A library."""
    told = {"licenses": [{"license": {"name": licence_}}]} if licence_ else {}
    return {"type": "library", "bom-ref": url, "purl": url, "name": name, "version": version, **told}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
