"""The cores a container really has, from the kernel's own files."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest

from classifier.models.cores import cores, quota, whole

V2 = "30 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
DOCKER = "/docker/0f5a"
V1_IN_A_CONTAINER = f"740 735 0:29 {DOCKER} /sys/fs/cgroup/cpu ro,nosuid - cgroup cgroup rw,cpu\n"
V1_LINES = "12:pids:/\n8:cpuset:/\n4:cpu,cpuacct:{0}\n1:name=systemd:/\n0::/\n"


def limit(memberships: str, mounts: str, files: Mapping[str, str]) -> float:
    return quota(memberships, mounts, lambda path: files.get(str(path)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", math.inf),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("400000 100000", 4),
        ("", math.inf),
    ],
)
def test_a_container_of_cgroup_v2_sees_its_own_limit(text: str, expected: float) -> None:
    assert limit("0::/\n", V2, {"/sys/fs/cgroup/cpu.max": text}) == expected


def test_the_tightest_of_nested_groups_counts_and_none_above_the_mount() -> None:
    lines = "0::/kubepods/pod1/abc\n"
    folder = "/sys/fs/cgroup/kubepods"
    files = {
        f"{folder}/pod1/abc/cpu.max": "max 100000",
        f"{folder}/pod1/cpu.max": "200000 100000",
        f"{folder}/cpu.max": "350000 100000",
        "/sys/fs/cpu.max": "1000 100000",
    }
    assert limit(lines, V2, files) == 2
    assert limit(lines, V2, files | {f"{folder}/pod1/abc/cpu.max": "50000 50000"}) == 1


def test_cgroup_v1_says_it_in_two_files() -> None:
    cpu = "/sys/fs/cgroup/cpu,cpuacct"
    here = {f"{cpu}/box/cpu.cfs_quota_us": "250000\n", f"{cpu}/box/cpu.cfs_period_us": "100000\n"}
    above = {f"{cpu}/cpu.cfs_quota_us": "-1\n", f"{cpu}/cpu.cfs_period_us": "100000\n"}
    assert limit(V1_LINES.format("/box"), V1, here | above) == 2.5
    assert limit(V1_LINES.format("/"), V1, here | above) == math.inf


@pytest.mark.parametrize("path", [DOCKER, "/", "/../0f5a", "/elsewhere/0f5a"])
def test_a_container_that_sees_the_hosts_paths_still_finds_its_limit(path: str) -> None:
    cpu = "/sys/fs/cgroup/cpu"
    files = {f"{cpu}/cpu.cfs_quota_us": "300000", f"{cpu}/cpu.cfs_period_us": "100000"}
    assert limit(V1_LINES.format(path), V1_IN_A_CONTAINER, files) == 3


@pytest.mark.parametrize(
    ("memberships", "mounts"),
    [("", ""), ("0::/\n", ""), ("nonsense\n::\n0:", "x\n- cgroup2\n1 2 3 / /a - cgroup2 b"), ("0::/\n", V1)],
)
def test_a_system_that_tells_nothing_sets_no_limit(memberships: str, mounts: str) -> None:
    assert limit(memberships, mounts, {}) == math.inf


@pytest.mark.parametrize("text", ["max", "0 100000", "100000 0", "-1 100000", "1.5 cpus", "100000"])
def test_what_is_no_limit_sets_none(text: str) -> None:
    assert limit("0::/\n", V2, {"/sys/fs/cgroup/cpu.max": text}) == math.inf


def test_a_mount_point_with_a_space_is_found() -> None:
    mounts = V2.replace("/sys/fs/cgroup ", r"/sys/fs/c\040group ")
    assert quota("0::/\n", mounts, {PurePosixPath("/sys/fs/c group/cpu.max"): "100000 100000"}.get) == 1


@pytest.mark.parametrize(
    ("allowed", "limit", "expected"),
    [(8, math.inf, 8), (8, 2, 2), (8, 1.5, 1), (8, 0.5, 1), (1, 4, 1), (2, 2.99, 2)],
)
def test_a_part_of_a_core_is_left_to_the_event_loop(allowed: int, limit: float, expected: int) -> None:
    assert whole(allowed, limit) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_process_kept_to_one_core_has_one() -> None:
    one = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, [{one}]); from classifier.models.cores import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
