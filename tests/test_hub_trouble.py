"""What goes wrong between azure-iot-device and the edge hub, one test for each known way, and what the module sees."""

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from edge import manifest
from hubs import IMPATIENT, LIMITS, OF_THE_SDK, bodies, call, desire, first, online, until_logged, until_reported
from ripeloop.errors import HubLost, Offline
from ripeloop.hub import open_hub
from ripeloop.mailbox import Mailbox

ALL = {"connack": None, "puback": True, "sign": "ok", "silent": False}


pytestmark = OF_THE_SDK


@asynccontextmanager
async def fault(edge, **switches):
    """The runtime with a fault, for a while."""
    await edge.control("PUT", "/faults", switches)
    try:
        yield
    finally:
        await edge.control("PUT", "/faults", {name: ALL[name] for name in switches})


async def until_sent(hub, body=b"{}", seconds=15.0):
    """Send until it succeeds; how often it was Offline before."""
    failures = 0
    async with asyncio.timeout(seconds):
        while True:
            try:
                await hub.send("summary", body)
            except Offline:
                failures += 1
                await asyncio.sleep(0.02)
            else:
                return failures


async def until_offline(hub, seconds=15.0):
    """Wait until the module knows that the hub is away."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await hub.send("nowhere", b"")
            except Offline:
                return
            await asyncio.sleep(0.02)


def said(caplog):
    """What our own code logged."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("ripeloop")]


async def all_arrived(edge, count):
    """The messages upstream, once there are `count` different ones."""
    async with asyncio.timeout(20):
        while True:
            arrived = await edge.arrived(count)
            if len({message["body"] for message in arrived}) == count:
                return arrived
            await asyncio.sleep(0.05)


# the hub is away


async def test_a_hub_that_starts_later_than_the_module_is_found(edge, opened, caplog):
    edge.stop()
    async with opened() as hub:
        with pytest.raises(Offline):
            await hub.send("summary", b"{}")
        await hub.post("summary", b"early")
        await hub.report({"early": 1})
        await asyncio.sleep(0.5)
        edge.start()
        assert (await edge.arrived(1))[0]["body"] == "early"
        await until_reported(edge, "classifier", {"early": 1})
        assert await first(hub.desired()) == {}
    assert caplog.text.count("offline, trying again") == 1


async def test_a_workload_api_without_an_edge_hub_is_only_a_hub_that_is_away(edge, tmp_path):
    environ = edge.environ("classifier") | {"IOTEDGE_GATEWAYHOSTNAME": "127.255.255.254"}
    async with open_hub(environ, mailbox=tmp_path / "box.db", limits=LIMITS) as hub:
        await asyncio.sleep(1)  # more tries than faults are allowed
        with pytest.raises(Offline):
            await hub.send("summary", b"{}")


async def test_a_dropped_connection_comes_back_and_is_logged_once(edge, opened, caplog):
    caplog.set_level(logging.INFO, "ripeloop")
    async with opened() as hub:
        await online(edge, "classifier")
        edge.kill()
        await until_offline(hub)
        await asyncio.sleep(0.5)
        edge.start()
        await until_sent(hub)
    assert [line.split(":")[0] for line in said(caplog)] == [
        "online",
        "offline, trying again until the edge hub is back",
        "online",
    ]


async def test_a_send_while_the_hub_is_away_is_offline_at_once(edge, opened):
    async with opened() as hub:
        await online(edge, "classifier")
        edge.kill()
        await until_offline(hub)
        start = time.monotonic()
        for _ in range(10):
            with pytest.raises(Offline):
                await hub.send("summary", b"{}")
        assert time.monotonic() - start < 0.5


async def test_posted_messages_outlive_kill_9_of_the_hub_in_the_middle(edge, opened):
    async with opened() as hub:
        await online(edge, "classifier")
        for n in range(200):
            await hub.post("summary", str(n).encode())
            if n == 100:
                edge.kill()
                edge.start()
        arrived = await all_arrived(edge, 200)
    ids = {}
    for message in arrived:
        ids.setdefault(message["body"], set()).add(message["system"]["messageId"])
    assert sorted(map(int, ids)) == list(range(200))
    assert all(len(same) == 1 for same in ids.values())  # a repetition can be told by its id


async def test_nothing_the_hub_acknowledged_is_lost_when_it_is_killed(edge, opened):
    acknowledged = []

    async def sender(hub, n):
        try:
            await hub.send("summary", str(n).encode())
        except Offline:
            return
        acknowledged.append(str(n))

    async with opened(limits=replace(LIMITS, request=1, close=1)) as hub:
        await online(edge, "classifier")
        sends = [asyncio.create_task(sender(hub, n)) for n in range(100)]
        await asyncio.sleep(0.02)
        edge.kill()
        await asyncio.wait(sends, timeout=15)
        assert all(send.done() for send in sends)
        edge.start()
        await until_sent(hub, b"last")
        arrived = {message["body"] for message in await edge.arrived(len(acknowledged) + 1)}
    assert set(acknowledged) <= arrived


async def test_connack_3_is_only_a_hub_that_is_away(edge, opened, caplog):
    async with opened() as hub:
        await online(edge, "classifier")
        async with fault(edge, connack=3):
            await edge.control("POST", "/drop", {"module": "classifier"})
            await until_offline(hub)
            await asyncio.sleep(1)  # more tries than faults are allowed
        await until_sent(hub)
    assert "fault" not in caplog.text


# the SDK gives up for good


@pytest.mark.parametrize("code", [4, 5])
async def test_one_refused_connect_is_not_the_end(edge, opened, caplog, code):
    async with opened(limits=replace(LIMITS, faults=50)) as hub:
        await online(edge, "classifier")
        async with fault(edge, connack=code):
            await edge.control("POST", "/drop", {"module": "classifier"})
            await until_offline(hub)
            await until_logged(caplog, "fault 1")
        await until_sent(hub)


async def test_credentials_refused_three_times_in_a_row_end_the_process(edge, opened):
    async def module():
        async with opened():
            await online(edge, "classifier")
            await edge.control("PUT", "/faults", {"connack": 5})
            await edge.control("POST", "/drop", {"module": "classifier"})
            await asyncio.sleep(30)

    with pytest.raises(HubLost, match="3 times in a row"):
        await module()


async def test_faults_with_a_good_time_between_them_never_end_the_process(edge, opened):
    async with opened(limits=replace(LIMITS, healthy=0.2, retry=1, retry_most=1)) as hub:
        for _ in range(4):
            await until_sent(hub)
            await asyncio.sleep(0.3)
            await edge.control("PUT", "/faults", {"connack": 5})
            await edge.control("POST", "/drop", {"module": "classifier"})
            await until_offline(hub)
            await edge.control("PUT", "/faults", {"connack": None})
        await until_sent(hub)


async def test_a_new_key_is_taken_up(edge, opened):
    async with opened() as hub:
        await until_sent(hub)
        await edge.control("POST", "/rekey", {"module": "classifier"})
        await until_sent(hub)
        await asyncio.sleep(0.5)
        await until_sent(hub)


async def test_a_token_is_renewed_without_anybody_noticing(edge, opened, caplog):
    caplog.set_level(logging.INFO, "ripeloop")
    async with opened(limits=replace(LIMITS, token=122)) as hub:  # renewed after 2 s
        await online(edge, "classifier")
        start = time.monotonic()
        while time.monotonic() - start < 3.5:
            await hub.send("summary", b"{}")
            await asyncio.sleep(0.05)
    assert said(caplog) == ["online: connected to the edge hub"]


async def test_a_token_that_cannot_be_signed_at_its_renewal_is_not_the_end(edge, opened, caplog):
    async with opened(limits=replace(LIMITS, token=122)) as hub:
        await online(edge, "classifier")
        async with fault(edge, sign="fail"):
            await until_logged(caplog, "the SDK has given up")
            await asyncio.sleep(0.5)
        await until_sent(hub)
    assert caplog.text.count("fault") == 1


async def test_a_workload_api_that_hangs_ends_the_process(edge, opened):
    async with fault(edge, sign="hang"):
        with pytest.raises(HubLost, match="workload API does not answer"):
            async with opened(limits=replace(LIMITS, create=0.3, close=0.2)):
                await asyncio.sleep(30)


# the hub does not answer


async def test_a_send_without_an_acknowledgement_ends_at_its_limit(edge, opened):
    async with opened(limits=IMPATIENT) as hub:
        await online(edge, "classifier")
        async with fault(edge, puback=False):
            start = time.monotonic()
            with pytest.raises(Offline, match=r"no answer within 0\.5 s"):
                await hub.send("summary", b"{}")
            assert 0.4 < time.monotonic() - start < 2
        await until_sent(hub)


async def test_two_sends_without_an_acknowledgement_get_a_new_connection(edge, opened, caplog):
    async with opened(limits=IMPATIENT) as hub:
        await online(edge, "classifier")
        async with fault(edge, puback=False):
            for _ in range(2):
                with pytest.raises(Offline):
                    await hub.send("summary", b"{}")
        await until_sent(hub)
    assert "2 requests in a row were not answered" in caplog.text


async def test_a_posted_message_arrives_when_the_hub_acknowledges_again(edge, opened, tmp_path):
    async with opened(limits=replace(IMPATIENT, request=0.2, healthy=0.1)) as hub:
        await online(edge, "classifier")
        async with fault(edge, puback=False):
            await hub.post("summary", b"late")
            await asyncio.sleep(1)
        mailbox = Mailbox(tmp_path / "classifier.db")
        async with asyncio.timeout(10):
            while True:
                if mailbox.counts().waiting == 0:
                    break
                await asyncio.sleep(0.05)
        mailbox.close()
        ids = {message["system"]["messageId"] for message in await edge.arrived(2)}
    assert len(ids) == 1  # it arrived more than once, and can be told to be the same


async def test_a_hub_that_never_acknowledges_ends_the_process_and_keeps_what_was_posted(edge, opened, tmp_path):
    async def module():
        async with opened(limits=replace(IMPATIENT, request=0.2, healthy=60)) as hub:
            await hub.post("summary", b"precious")
            await asyncio.sleep(30)

    await edge.control("PUT", "/faults", {"puback": False})
    with pytest.raises(HubLost, match="not answered"):
        await module()
    mailbox = Mailbox(tmp_path / "classifier.db")
    assert mailbox.counts().waiting == 1
    mailbox.close()


async def test_a_hub_that_hangs_never_stops_the_modules_loop(edge, opened):
    async with opened(limits=replace(IMPATIENT, close=0.5)) as hub:
        await online(edge, "classifier")
        longest = 0.0
        async with fault(edge, silent=True):
            end = time.monotonic() + 4  # time-outs, a rebuild and connects that get no answer
            while time.monotonic() < end:
                with pytest.raises(Offline):
                    await asyncio.wait_for(hub.send("summary", b"{}"), 2)
                before = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - before)
        assert longest < 0.5
        await until_sent(hub, seconds=30)


async def test_leaving_a_hub_that_hangs_takes_no_longer_than_its_limit(edge, opened):
    async with opened(limits=replace(IMPATIENT, close=0.5)):
        await online(edge, "classifier")
        await edge.control("PUT", "/faults", {"silent": True})
        start = time.monotonic()
    assert time.monotonic() - start < 2


# the hub forgets


async def test_a_session_the_hub_forgot_is_subscribed_again(edge, opened):
    async def status(payload):
        return 200, "here"

    async with opened("sampler", inputs=["uncertain"], methods={"status": status}) as hub:
        await online(edge, "sampler")
        await edge.control("POST", "/forget", {"module": "sampler"})
        await edge.until(lambda state: "sampler" not in state["connected"])
        await online(edge, "sampler")
        await edge.control("POST", "/input", {"module": "sampler", "input": "uncertain", "body": "heard"})
        assert await bodies(hub, "uncertain", 1) == ["heard"]
        assert await call(edge, "sampler", "status") == (200, "here")


async def test_a_session_forgotten_while_a_send_reconnects_by_itself_is_noticed(edge, opened):
    # a send right after the drop lets the SDK reconnect on its own, and then it is deaf: it never subscribes again
    async with opened("sampler", inputs=["uncertain"], limits=IMPATIENT) as hub:
        await online(edge, "sampler")
        await edge.control("POST", "/forget", {"module": "sampler"})
        await until_sent(hub)
        await online(edge, "sampler")
        await edge.control("POST", "/input", {"module": "sampler", "input": "uncertain", "body": "heard"})
        assert await bodies(hub, "uncertain", 1) == ["heard"]


async def test_what_the_hub_stored_for_a_module_that_was_away_arrives_in_order(edge, opened):
    async with opened("sampler", inputs=["uncertain"]):
        await online(edge, "sampler")  # from now on the hub keeps its session
    for n in range(100):
        await edge.control("POST", "/input", {"module": "sampler", "input": "uncertain", "body": str(n)})
    async with opened("sampler", inputs=["uncertain"]) as hub:
        assert await bodies(hub, "uncertain", 100) == [str(n) for n in range(100)]


async def test_desired_properties_changed_while_the_hub_was_away_are_seen(edge, opened):
    async with opened() as hub:
        desired = hub.desired()
        assert await first(desired) == {}
        edge.kill()
        await until_offline(hub)
        edge.deploy(manifest(desired={"classifier": {"sampling": {"margin_below": 0.4}}}))
        edge.start()
        async with asyncio.timeout(10):
            async for section in desired:
                if section:
                    break
    assert section == {"sampling": {"margin_below": 0.4}}


async def test_changes_that_arrive_out_of_turn_are_fetched(edge, opened):
    async with opened() as hub:
        desired = hub.desired()
        await first(desired)
        await desire(edge, "classifier", {"a": 1})
        assert await first(desired) == {"a": 1}
        hub.on_patch({"b": 2, "$version": 99})  # as if changes before it had been lost
        assert await first(desired) == {"a": 1}


async def test_reports_while_the_hub_is_away_are_merged_and_sent_later(edge, opened):
    async with opened() as hub:
        await until_sent(hub)
        edge.kill()
        await until_offline(hub)
        await hub.report({"n": 1, "kept": True})
        await hub.report({"n": 2})
        edge.start()
        await until_reported(edge, "classifier", {"n": 2, "kept": True})


# poison


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        pytest.param(b"x" * 300_000, {}, id="refused by the SDK"),
        pytest.param(b"x" * 261_000, {"spaces": " " * 600}, id="refused by the hub, which drops the connection"),
    ],
)
async def test_a_poison_message_is_dropped_and_never_holds_up_the_rest(
    edge, opened, tmp_path, caplog, body, properties
):
    path = tmp_path / "classifier.db"
    mailbox = Mailbox(path)
    mailbox.add("summary", body, properties)  # past the limits of post
    for n in range(12):
        mailbox.add("summary", str(n).encode())
    mailbox.close()
    async with opened(limits=replace(LIMITS, request=0.4, close=0.5, healthy=0.1)):
        assert [message["body"] for message in await edge.arrived(12, 30)] == [str(n) for n in range(12)]
    mailbox = Mailbox(path)
    counts = mailbox.counts()
    mailbox.close()
    assert counts.refused == 1
    assert counts.waiting <= 1  # the last may have arrived, and not yet be removed


async def test_a_mailbox_whose_disk_is_full_sends_each_message_once_and_goes_on(edge, opened, tmp_path, caplog):
    async with opened() as hub:
        await until_sent(hub)
        hub._mailbox._db.execute("ALTER TABLE letters RENAME TO hidden")  # cannot be read
        hub._posted.set()
        await until_logged(caplog, "the mailbox cannot be used now")
        hub._mailbox._db.execute("ALTER TABLE hidden RENAME TO letters")
        for n in range(3):
            await hub.post("summary", str(n).encode())
        hub._mailbox._db.execute("PRAGMA query_only = 1")  # cannot be changed
        await edge.arrived(4)
        await asyncio.sleep(0.5)
        hub._mailbox._db.execute("PRAGMA query_only = 0")
        await hub.post("summary", b"3")
        arrived = await edge.arrived(5)
    assert [message["body"] for message in arrived] == ["{}", "0", "1", "2", "3"]
    mailbox = Mailbox(tmp_path / "classifier.db")
    assert mailbox.counts().waiting <= 1
    mailbox.close()
