"""The spool: what was put stays until it is taken, whole, whoever dies meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ripeloop.errors import BadRecord, NotFound, SpoolFull
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Limits, Spool

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)


def flagged(image):
    return Flagged(image_id(image), NOW, "low_confidence", (Prediction("ripe", 0.6),), "v1", "image/jpeg")


def test_what_was_put_comes_back_with_its_record(tmp_path):
    spool = Spool(tmp_path)
    image = b"\xff\xd8 an image \n with lines \n"
    assert spool.put(flagged(image), image)
    assert Spool(tmp_path).take(image_id(image)) == (flagged(image), image)


def test_the_same_image_waits_once(tmp_path):
    spool = Spool(tmp_path)
    assert spool.put(flagged(b"one"), b"one") is True
    assert spool.put(flagged(b"one"), b"one") is False
    assert spool.usage()[1] == 1


def test_the_longest_waiting_is_first(tmp_path):
    spool = Spool(tmp_path)
    for second, image in enumerate([b"c", b"a", b"b"]):
        spool.put(flagged(image), image)
        os.utime(tmp_path / f"{image_id(image)}.sample", (second, second))
    assert spool.ids() == [image_id(b"c"), image_id(b"a"), image_id(b"b")]


def test_a_removed_image_is_gone_and_removing_again_changes_nothing(tmp_path):
    spool = Spool(tmp_path)
    spool.put(flagged(b"one"), b"one")
    spool.remove(image_id(b"one"))
    spool.remove(image_id(b"one"))
    with pytest.raises(NotFound):
        spool.take(image_id(b"one"))


@pytest.mark.parametrize("limits", [Limits(bytes=1000), Limits(images=1)])
def test_a_full_spool_says_so_and_takes_again_once_there_is_room(tmp_path, limits):
    spool = Spool(tmp_path, limits)
    first, second = b"1" * 600, b"2" * 600
    spool.put(flagged(first), first)
    with pytest.raises(SpoolFull, match="is the sampler running"):
        spool.put(flagged(second), second)
    Spool(tmp_path).remove(image_id(first))
    assert spool.put(flagged(second), second)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data.replace(b'"reason"', b'"raisin"'),
        lambda data: b"{}\n" + data.partition(b"\n")[2],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    ],
)
def test_a_damaged_file_is_told_and_set_aside_not_lost(tmp_path, damage):
    spool, id_ = Spool(tmp_path), image_id(b"an image")
    spool.put(flagged(b"an image"), b"an image")
    path = tmp_path / f"{id_}.sample"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadRecord):
        spool.take(id_)
    assert spool.set_aside(id_).exists()
    assert spool.ids() == []


def test_a_file_or_a_record_beyond_all_bounds_is_refused_before_it_is_read(tmp_path):
    spool, id_ = Spool(tmp_path), image_id(b"an image")
    path = tmp_path / f"{id_}.sample"
    with path.open("wb") as file:
        file.truncate(20 * 2**30)  # takes no room
    with pytest.raises(BadRecord, match="are the most"):
        spool.take(id_)
    many = tuple(Prediction(f"{n}" + "x" * 1000, 0.1) for n in range(1000))
    path.unlink()
    spool.put(replace(flagged(b"an image"), predictions=many), b"an image")
    with pytest.raises(BadRecord):
        spool.take(id_)


def test_what_is_no_image_is_left_alone_and_counts_for_nothing(tmp_path):
    spool = Spool(tmp_path, Limits(images=1))
    odd = ["x.sample", "A" * 64 + ".sample", "a" * 63 + ".sample", "a" * 64 + ".sample.sample", "a" * 64 + "\n.sample"]
    for name in [*map(os.fsencode, odd), b"\xff.sample", b"notes.txt"]:
        (tmp_path / os.fsdecode(name)).write_bytes(b"odd")
    (tmp_path / ("b" * 64 + ".sample")).mkdir()
    os.mkfifo(tmp_path / ("c" * 64 + ".sample"))
    (tmp_path / ("d" * 64 + ".sample")).symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "old.tmp")
    assert spool.put(flagged(b"one"), b"one")
    assert Spool(tmp_path).ids() == [image_id(b"one")]
    assert spool.usage()[1] == 1
    assert spool.strangers() == {*odd, "\udcff.sample", *(letter * 64 + ".sample" for letter in "bcd")}


@pytest.mark.parametrize("aside", [Limits(images=2), Limits(bytes=250)])
def test_what_is_set_aside_has_its_bounds_and_the_oldest_go(tmp_path, aside, caplog):
    spool = Spool(tmp_path, aside=aside)
    ids = []
    for n in range(5):
        ids.append(image_id(str(n).encode()))
        path = tmp_path / f"{ids[-1]}.sample"
        path.write_bytes(b"x" * 100)
        os.utime(path, (9 - n, 9 - n))  # it is not the image's age that counts
        assert spool.set_aside(ids[-1]).exists()
        time.sleep(0.02)
    assert {path.stem for path in spool.aside.iterdir()} == set(ids[-2:])
    assert len(caplog.messages) == 3
    assert "the 3. since" in caplog.text


def test_two_writers_of_one_image_leave_one_whole_file(tmp_path):
    image = b"x" * 200_000
    results = []

    def put():
        results.append(Spool(tmp_path).put(flagged(image), image))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert Spool(tmp_path).take(image_id(image))[1] == image
    assert not list(tmp_path.glob("*.tmp"))


WRITER = """
import sys, itertools
from datetime import UTC, datetime
from pathlib import Path
from ripeloop.prediction import Flagged, image_id
from ripeloop.spool import Spool
spool = Spool(Path(sys.argv[1]))
for n in itertools.count():
    image = str(n).encode() * 30_000
    spool.put(Flagged(image_id(image), datetime.now(UTC), "audit", ()), image)
    sys.stdout.write(image_id(image) + "\\n"); sys.stdout.flush()
"""


def test_a_killed_writer_leaves_whole_files_and_every_one_it_told_of(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        told = [writer.stdout.readline().decode().strip() for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        told += [line.decode().strip() for line in writer.stdout if len(line) == 65]
    spool = Spool(tmp_path)
    waiting = spool.ids()
    assert set(told) <= set(waiting)
    for id_ in waiting:
        spool.take(id_)


def test_what_a_killed_writer_left_half_written_is_cleared_later(tmp_path):
    young, old = tmp_path / "a.1.1.tmp", tmp_path / "b.1.1.tmp"
    young.write_bytes(b"half")
    old.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    Spool(tmp_path)
    assert young.exists()
    assert not old.exists()


def test_sync_of_an_image_taken_meanwhile_is_fine(tmp_path):
    spool = Spool(tmp_path)
    spool.put(flagged(b"one"), b"one")
    spool.sync(image_id(b"one"))
    spool.remove(image_id(b"one"))
    spool.sync(image_id(b"one"))
