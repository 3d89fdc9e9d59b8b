"""The limits of containers and jobs, with the files of Linux made up."""

import pytest

from blindsr import control_groups


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The file that names the groups of this process; the groups themselves are in "fs" beside it."""
    monkeypatch.setattr(control_groups, "_MOUNTED", tmp_path / "fs")
    monkeypatch.setattr(control_groups, "_OWN", tmp_path / "cgroup")
    return tmp_path / "cgroup"


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def control_group(folder, limit, used, names, cached):
    write(folder, {names[0]: limit, names[1]: used, "memory.stat": f"anon 5\n{names[2]} {cached}"})


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_the_memory_of_a_job_is_found_in_any_parent_group(tmp_path, own):
    own.write_text("0::/slurm/job_7/step_0\n")
    ask = control_groups.free_memory
    assert ask() is None
    control_group(tmp_path / "fs/slurm/job_7/step_0", "max", 900, V2, 0)
    assert ask() is None
    control_group(tmp_path / "fs/slurm/job_7", 5000, 1500, V2, 400)  # cached files can be released at once
    assert ask() == 5000 - 1100
    control_group(tmp_path / "fs/slurm", 9000, 8500, V2, 0)
    assert ask() == 500
    control_group(tmp_path / "fs", 100, 300, V2, 0)
    assert ask() == 0


def test_the_memory_of_a_container_of_control_groups_1(tmp_path, own):
    own.write_text("5:devices:/a\n4:memory:/docker/a\n0::/\n")
    control_group(tmp_path / "fs/memory", 2**63 - 4096, 700, V1, 0)
    control_group(tmp_path / "fs/memory/docker/a", 4000, 2000, V1, 1000)
    assert control_groups.free_memory() == 3000


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000", None),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("6400000 100000", 64),
        ("0 100000", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_a_container_has_as_many_cores_as_its_limit(tmp_path, own, text, cores):
    assert control_groups.core_limit() is None
    write(tmp_path / "fs", {"cpu.max": text})
    assert control_groups.core_limit() == cores


@pytest.mark.parametrize(("quota", "period", "cores"), [(-1, 100000, None), (200000, 100000, 2), (200000, 0, None)])
def test_the_cores_of_a_container_of_control_groups_1(tmp_path, own, quota, period, cores):
    write(tmp_path / "fs/cpu", {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period})
    assert control_groups.core_limit() == cores


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_controllers_of_control_groups_1_may_share_a_folder(tmp_path, own, folder):
    own.write_text(f"4:{folder}:/job\n0::/\n")
    write(tmp_path / "fs" / folder / "job", {"cpu.cfs_quota_us": 300000, "cpu.cfs_period_us": 100000})
    write(tmp_path / "fs/cpuset/job", {"cpu.cfs_quota_us": 100000, "cpu.cfs_period_us": 100000})  # another one
    assert control_groups.core_limit() == 3


def test_the_cores_of_a_job_are_found_in_any_parent_group(tmp_path, own):
    own.write_text("4:cpu,cpuacct:/job\n0::/slurm/job_7/step_0\n")
    write(tmp_path / "fs/slurm/job_7/step_0", {"cpu.max": "max 100000"})
    assert control_groups.core_limit() is None
    write(tmp_path / "fs/slurm/job_7", {"cpu.max": "400000 100000"})
    assert control_groups.core_limit() == 4
    write(tmp_path / "fs/slurm", {"cpu.max": "800000 100000"})
    assert control_groups.core_limit() == 4
    write(tmp_path / "fs/cpu/job", {"cpu.cfs_quota_us": 300000, "cpu.cfs_period_us": 100000})
    assert control_groups.core_limit() == 3
