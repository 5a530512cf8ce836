"""The audit says what is known, and never calls unknown what nobody looked up."""

from __future__ import annotations

import json
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import audit
import build_sbom as sbom
import pytest


def affected(events: list[dict[str, str]], versions: tuple[str, ...] = ()) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": "Some_Package"}
    return {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}], "versions": list(versions)}


@pytest.mark.parametrize(
    ("version", "hit"),
    [("0.9", False), ("1.0", True), ("1.5.2", True), ("2.0rc1", True), ("2.0", False), ("3.0", True), ("3.1", True),
     ("3.1.1", False), ("1!1.0", False)],
)  # fmt: skip
def test_versions_are_told_by_their_order_and_not_as_text(version: str, hit: bool) -> None:
    events = [{"introduced": "3.0"}, {"last_affected": "3.1"}, {"introduced": "1.0"}, {"fixed": "2.0"}]
    assert audit.is_affected(version, affected(events)) is hit


def test_versions_that_are_listed_count_as_they_stand() -> None:
    assert audit.is_affected("4.0", affected([], ("4.0",)))
    assert audit.is_affected("10.0", affected([{"introduced": "0"}]))
    assert not audit.is_affected("10.0", affected([{"introduced": "0"}, {"fixed": "9.0"}]))


def test_an_export_is_searched_by_name_however_it_is_written(tmp_path: Path) -> None:
    flaw = {"id": "PYSEC-1", "affected": [affected([{"introduced": "0"}, {"fixed": "2.0"}])]}
    gone = {**flaw, "id": "PYSEC-2", "withdrawn": "2024-01-01T00:00:00Z"}
    other = {
        "id": "GHSA-3",
        "affected": [{"package": {"ecosystem": "npm", "name": "some-package"}, "versions": ["1.0"]}],
    }
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for each in (flaw, gone, other):
            archive.writestr(f"{each['id']}.json", json.dumps(each))
    answer = audit.offline({"some-package": "1.0", "another": "1.0"}, tmp_path / "all.zip")
    assert [(found.name, found.id, found.fixed) for found in answer.found] == [("some-package", "PYSEC-1", "2.0")]
    assert audit.offline({"some-package": "2.0"}, tmp_path / "all.zip").found == ()


def test_events_that_move_no_edge_are_passed_over() -> None:
    events = [{"introduced": "1.0", "limit": "*"}, {"database_specific": "no version"}, {"fixed": "2.0"}]
    assert audit.is_affected("1.5", affected(events))
    assert not audit.is_affected("2.0", affected(events))


def test_an_advisory_that_cannot_be_read_is_not_looked_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lock = {"some-package": "1.0", "another": "1.0"}
    export = tmp_path / "osv"
    export.mkdir()
    good = {"id": "PYSEC-1", "affected": [affected([{"introduced": "0"}, {"fixed": "1.0"}])]}
    (export / "a.json").write_text(json.dumps(good))
    assert audit.offline(lock, export) == audit.Answer(f"{export} (1 advisories)", 2, ())
    odd = {"id": "PYSEC-2", "affected": [affected([{"introduced": "0"}, {"fixed": "no version"}])]}
    (export / "b.json").write_text(json.dumps(odd))
    answer = audit.offline(lock, export)
    assert (answer.looked_up, answer.unknown, answer.found) == (1, ("some-package",), ())
    (export / "b.json").unlink()
    for content in ('{"id": ', "[1]", '{"affected": [3]}', '{"affected": [{"package": {"name": 5}}]}', "\xff"):
        (export / "c.json").write_text(content, encoding="latin-1")
        assert audit.offline(lock, export).unknown == ("advisory c.json",)
    monkeypatch.setattr(audit, "locked", lambda text: lock)
    assert audit.main(["--advisories", str(export)]) == 3
    assert "not looked up: advisory c.json" in capsys.readouterr().out
    (tmp_path / "all.zip").write_bytes(b"PK no zip")
    for place in (tmp_path / "all.zip", tmp_path / "none.zip"):
        assert audit.main(["--advisories", str(place)]) == 3


def test_packages_that_a_database_does_not_know_are_not_called_safe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = {"name": "torch", "skip_reason": "not found"}
    assert audit.read_answer(json.dumps({"dependencies": [skipped]}), "x") is None
    assert audit.read_answer("no answer", "x") is None
    answer = audit.read_answer(json.dumps({"dependencies": [skipped, {"name": "a", "version": "1", "vulns": []}]}), "x")
    assert (answer.looked_up, answer.unknown) == (1, ("torch",))
    monkeypatch.setattr(audit, "asked", lambda: None)
    assert audit.main([]) == 3
    assert "not audited" in capsys.readouterr().out
    monkeypatch.setattr(audit, "asked", lambda: answer)
    assert audit.main([]) == 3


def test_what_is_known_is_told_until_it_is_accepted_and_after_that_day_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flaw = {"id": "CVE-9", "fix_versions": ["2"]}
    text = json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": [flaw]}]})
    monkeypatch.setattr(audit, "asked", lambda: audit.read_answer(text, "x"))
    assert audit.main([]) == 1
    assert "a 1: CVE-9, fixed in 2" in capsys.readouterr().out
    (tmp_path / "accepted.txt").write_text("# why\nCVE-9 9999-01-01 not reached from here\n")
    monkeypatch.setattr(audit, "ACCEPTED", tmp_path / "accepted.txt")
    assert audit.main([]) == 0
    assert audit.accepted_ids("CVE-9 2024-01-01 why", date(2024, 1, 1)) == {"CVE-9"}
    assert audit.accepted_ids("CVE-9 2024-01-01 why", date(2024, 1, 2)) == set()
    with pytest.raises(ValueError, match="unpack"):
        audit.accepted_ids("CVE-9", date(2024, 1, 1))


def test_every_locked_package_has_one_version() -> None:
    lock = audit.locked(audit.LOCK.read_text())
    lines = [line for line in audit.LOCK.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert len(lock) == len(lines)
    assert lock["pyspark"].startswith("4.0.")


def test_the_bill_of_materials_names_what_is_installed(tmp_path: Path) -> None:
    import pyspark

    assert sbom.main([str(tmp_path / "dist" / "sbom.json")]) == 0
    content = json.loads((tmp_path / "dist" / "sbom.json").read_text())
    urls = [each["purl"] for each in content["components"]]
    assert f"pkg:pypi/pyspark@{pyspark.__version__}" in urls
    assert len(urls) == len(set(urls)) == len({each["bom-ref"] for each in content["components"]})
    assert f"pkg:maven/org.apache.spark/spark-core_2.13@{pyspark.__version__}" in urls
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.5")
    assert sbom.sbom() == content
