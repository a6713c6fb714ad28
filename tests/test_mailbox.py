"""The durable queue of messages to the hub, on real SQLite files."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from ripeloop.errors import Offline, SpoolFull
from ripeloop.mailbox import Counts, Letter, Mailbox, MailboxLimits

WRITER = """
import sys
from pathlib import Path
from ripeloop.mailbox import Mailbox
mailbox = Mailbox(Path(sys.argv[1]))
while True:
    print(mailbox.add("summary", b"x" * 2000, {"n": "1"}), flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mail" / "box.db"


def drain(mailbox: Mailbox) -> list[Letter]:
    letters = []
    while (letter := mailbox.next()) is not None:
        letters.append(letter)
        mailbox.remove(letter.number)
    return letters


def test_letters_come_out_in_the_order_they_went_in(path):
    mailbox = Mailbox(path)
    ids = [mailbox.add("summary", str(n).encode(), {"n": str(n)}) for n in range(5)]
    letters = drain(mailbox)
    mailbox.close()
    assert [letter.id for letter in letters] == ids
    assert [(letter.output, letter.body, letter.properties) for letter in letters] == [
        ("summary", str(n).encode(), {"n": str(n)}) for n in range(5)
    ]


def test_a_letter_stays_until_it_is_removed_and_keeps_its_id_over_a_restart(path):
    mailbox = Mailbox(path)
    id_ = mailbox.add("summary", b"body")
    before = mailbox.next()
    mailbox.close()
    mailbox = Mailbox(path)
    after = mailbox.next()
    mailbox.close()
    assert before == after
    assert after is not None
    assert after.id == id_


def test_every_letter_that_was_taken_survives_kill_9_of_the_writer(path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    taken = [writer.stdout.readline().strip() for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    taken += [line.strip() for line in writer.stdout if line.endswith("\n")]
    writer.stdout.close()
    writer.wait()
    mailbox = Mailbox(path)
    found = [letter.id for letter in drain(mailbox)]
    mailbox.close()
    assert found[: len(taken)] == taken
    assert len(found) <= len(taken) + 1  # one may have been on disk, but not yet printed


def test_too_many_letters_drop_the_oldest_and_count_them_for_ever(path):
    mailbox = Mailbox(path, MailboxLimits(letters=3))
    for n in range(5):
        mailbox.add("summary", str(n).encode())
    mailbox.close()
    mailbox = Mailbox(path, MailboxLimits(letters=3))
    counts = mailbox.counts()
    assert (counts.waiting, counts.dropped, counts.refused) == (3, 2, 0)
    assert [letter.body for letter in drain(mailbox)] == [b"2", b"3", b"4"]
    mailbox.close()


def test_too_many_bytes_drop_the_oldest_but_never_the_newest(path):
    mailbox = Mailbox(path, MailboxLimits(bytes=1000))
    for n in range(4):
        mailbox.add("summary", bytes([n]) * 400)
    assert [letter.body[:1] for letter in drain(mailbox)] == [b"\x02", b"\x03"]
    mailbox.add("summary", b"x" * 5000)
    assert mailbox.counts().waiting == 1
    mailbox.close()


def test_a_letter_refused_too_often_is_dropped_and_counted(path):
    mailbox = Mailbox(path, MailboxLimits(refusals=2))
    mailbox.add("summary", b"poison")
    mailbox.add("summary", b"good")
    poison = mailbox.next()
    assert poison is not None
    assert mailbox.refuse(poison.number) is False
    assert mailbox.refuse(poison.number) is True
    assert mailbox.refuse(poison.number) is False  # again changes nothing
    good = mailbox.next()
    assert good is not None
    assert good.body == b"good"
    assert mailbox.counts() == Counts(waiting=1, bytes=len(b"good") + len("{}"), dropped=0, refused=1)
    mailbox.close()


def test_a_doubtful_letter_lets_the_others_go_first(path):
    mailbox = Mailbox(path)
    mailbox.add("summary", b"doubtful")
    doubtful = mailbox.next()
    assert doubtful is not None
    assert mailbox.next([doubtful.number]) == doubtful  # there is no other
    mailbox.add("summary", b"other")
    other = mailbox.next([doubtful.number])
    mailbox.close()
    assert other is not None
    assert other.body == b"other"


def test_an_empty_mailbox_has_no_next_letter(path):
    mailbox = Mailbox(path)
    assert mailbox.next() is None
    mailbox.remove(7)
    mailbox.close()


def test_a_damaged_file_is_kept_aside_and_the_mailbox_starts_empty(path, caplog):
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    mailbox = Mailbox(path)
    mailbox.add("summary", b"body")
    assert mailbox.counts().waiting == 1
    mailbox.close()
    assert path.with_name("box.db.damaged").read_bytes().startswith(b"this is no")
    assert "damaged" in caplog.text


def test_a_disk_that_takes_no_more_is_said_so(path):
    mailbox = Mailbox(path)
    mailbox._db.execute("PRAGMA max_page_count = 1")  # SQLite's own full disk
    with pytest.raises(SpoolFull, match="disk full"):
        mailbox.add("summary", b"x" * 100_000)
    mailbox.close()


@contextmanager
def unwritable(mailbox):
    """As a disk that is full: nothing can be changed, everything can be read."""
    mailbox._db.execute("PRAGMA query_only = 1")
    yield
    mailbox._db.execute("PRAGMA query_only = 0")


def test_what_is_done_with_while_the_disk_is_full_does_not_come_again_and_goes_later(path, caplog):
    caplog.set_level("INFO")
    mailbox = Mailbox(path)
    for n in range(3):
        mailbox.add("summary", str(n).encode())
    with unwritable(mailbox):
        assert [letter.body for letter in drain(mailbox)] == [b"0", b"1", b"2"]
        assert mailbox.next([1]) is None
        with pytest.raises(SpoolFull):
            mailbox.add("summary", b"")
    assert mailbox.counts().waiting == 3
    assert mailbox.next() is None
    assert mailbox.counts().waiting == 0
    mailbox.close()
    assert [message for message in caplog.messages if "mailbox" in message] == [
        "the mailbox cannot be used now: attempt to write a readonly database",
        "the mailbox can be written again",
    ]


def test_a_letter_refused_too_often_is_dropped_even_while_the_disk_is_full(path):
    mailbox = Mailbox(path, MailboxLimits(refusals=2))
    mailbox.add("summary", b"poison")
    mailbox.add("summary", b"good")
    with unwritable(mailbox):
        assert [mailbox.refuse(1), mailbox.refuse(1)] == [False, True]
        letter = mailbox.next()
    mailbox.close()
    assert letter is not None
    assert letter.body == b"good"


def test_a_disk_that_cannot_be_read_now_is_told_as_offline(path):
    mailbox = Mailbox(path)
    mailbox.add("summary", b"body")
    mailbox._db.execute("ALTER TABLE letters RENAME TO hidden")
    with pytest.raises(Offline):
        mailbox.next()
    with pytest.raises(Offline):
        mailbox.counts()
    mailbox._db.execute("ALTER TABLE hidden RENAME TO letters")
    assert mailbox.next() is not None
    mailbox.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from ripeloop.errors import SpoolFull
from ripeloop.mailbox import Mailbox
mailbox = Mailbox(Path(sys.argv[1]))
for n in range(20):
    mailbox.add("summary", b"x" * 3000)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    mailbox.add("summary", b"y" * 9000)
except SpoolFull as error:
    print(error)
number = 0
while letter := mailbox.next():
    assert letter.number > number
    number = letter.number
    mailbox.remove(number)
print(number)
print(Mailbox(Path(sys.argv[2]) / "mail.db").add("summary", b"in memory"))
"""


def test_a_disk_that_fills_up_ends_no_program(path, tmp_path):
    """The real thing, as far as a limit on file sizes goes."""
    command = [sys.executable, "-c", FULL_DISK, str(path), str(tmp_path / "fresh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    full, number, _ = done.stdout.splitlines()
    assert "is the disk full?" in full
    assert number == "20"
    assert done.stderr.count("cannot be used now") == 1
    assert done.stderr.count("wait in memory alone") == 1


def test_a_mailbox_that_cannot_be_opened_is_kept_in_memory_and_said_once(tmp_path, caplog):
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "file").write_text("no folder")
    for place in (tmp_path / "folder.db", tmp_path / "file" / "box.db", Path("/proc/box.db")):
        caplog.clear()
        mailbox = Mailbox(place)
        mailbox.add("summary", b"body")
        assert [letter.body for letter in drain(mailbox)] == [b"body"]
        mailbox.close()
        assert len(caplog.messages) == 1
        assert "memory" in caplog.text


def test_a_file_damaged_while_it_is_in_use_is_set_aside_at_once(path, caplog):
    mailbox = Mailbox(path)
    for _ in range(50):
        mailbox.add("summary", b"x" * 3000)
    mailbox.close()
    data = path.read_bytes()
    path.write_bytes(data[: 4 * 4096] + b"rot!" * ((len(data) - 4 * 4096) // 4))
    mailbox = Mailbox(path)
    for _ in range(3):
        try:
            while letter := mailbox.next():
                mailbox.remove(letter.number)
        except Offline:
            continue
    mailbox.add("summary", b"new")
    assert [letter.body for letter in drain(mailbox)] == [b"new"]
    mailbox.close()
    assert path.with_name("box.db.damaged").exists()


def test_commits_wait_for_the_disk(path):
    mailbox = Mailbox(path)
    pragmas = [mailbox._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    mailbox.close()
    assert pragmas == ["wal", 2]
    assert Path(f"{path}-wal").exists() is False  # closed cleanly
