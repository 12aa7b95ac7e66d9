"""docs/operations.md, where a mistake costs more than a second try."""

import re
import subprocess

from command_lines import ROOT, lines_of

PAGE = ROOT / "docs" / "operations.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_a_backup_is_for_its_owner_alone(tmp_path):
    # prevents: private keys of all workers in a file that everybody on the machine can read
    (tmp_path / "farm").mkdir()
    [line] = [line for line in TEXT.splitlines() if "tar -C" in line and "-czf" in line]
    backup = tmp_path / "farm-state.tar.gz"
    command = line.removeprefix("sudo ").replace("/var/backups/farm-state.tar.gz", str(backup))
    subprocess.run(
        ["sh", "-c", f"umask 022; {command.replace('/var/lib', str(tmp_path))}"], check=True
    )
    assert backup.stat().st_mode & 0o077 == 0


def test_the_installation_puts_farm_where_the_pages_look_for_it():
    # prevents: "farm: command not found", or "no farm answers", at three in the morning
    assert ("ln", "-s", "/opt/farm/bin/farm", "/usr/local/bin/farm") in [
        line.words for line in lines_of(PAGE)
    ]
    assert "state_dir: /var/lib/farm\n" in TEXT
    for name in ("operations.md", "troubleshooting.md"):
        top = (ROOT / "docs" / name).read_text(encoding="utf-8").partition("\n## ")[0]
        assert "export FARM_CONFIG=/etc/farm/farm.yaml" in top
        assert "sudo -E -u farm farm" in top


def test_what_is_calibrated_by_hand_is_what_the_service_reads():
    # prevents: a measurement in a home directory, and a service that goes on with the slow runtime
    unit = (ROOT / "etc" / "farm.service").read_text(encoding="utf-8")
    [folder] = re.findall(r"^CacheDirectory=(.+)$", unit, re.MULTILINE)
    [line] = [line for line in TEXT.splitlines() if line.endswith("--calibrate")]
    assert f"-u farm env CACHE_DIRECTORY=/var/cache/{folder} " in line
