"""docs/distributed.md: the script for Slurm gives each task a TF_CONFIG that is understood."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from keras_lm.settings.cluster import Cluster

DOCUMENT = Path(__file__).parents[1] / "docs" / "distributed.md"
PROGRAMS = {  # that stand in for Slurm's and for Python
    "srun": 'exec "$@"',
    "scontrol": r'printf "node1\nnode2\nnode3\n"',
    "python": 'printf "%s\n%s" "$TF_CONFIG" "$*"',
}


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_the_script_for_slurm_starts_or_resumes_each_task(tmp_path, begun):
    [script] = re.findall(r"<!-- slurm -->\n```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "job.sh").write_text(script)
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    if begun:
        (tmp_path / "runs" / "mine").mkdir(parents=True)
        (tmp_path / "runs" / "mine" / "config.json").write_text("{}")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_PROCID": "2"}
    shown = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    variable, _, words = shown.stdout.partition("\n")
    found = Cluster.from_environment({"TF_CONFIG": variable})
    assert found.addresses == ("node1:4001", "node2:4001", "node3:4001") and found.rank == 2
    assert words.startswith(f"-m keras_lm {'resume' if begun else 'train'} ")
