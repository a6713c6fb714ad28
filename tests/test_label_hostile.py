"""The page before strangers: forged answers are refused, and names of tags, devices and people are never markup."""

import pytest

from desks import fill

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_forged_answer_is_refused(label_server, browsers):
    server = await label_server(4)
    desk = await browsers.desk(server)
    key = await desk.shows_image()
    statuses = await desk.page.evaluate(
        """async (key) => {
          const body = JSON.stringify({ id: "forged-forged", key, kind: "junk", tags: [], mode: "label" });
          const tries = [{}, { "X-CSRF-Token": "0".repeat(64) }].map((headers) => fetch("/api/answer",
            { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body }));
          return (await Promise.all(tries)).map((reply) => reply.status);
        }""",
        key,
    )
    assert statuses == [403, 403]
    form = f'<form method="post" action="{server.url}/sign-out"><button id="lure">Win a banana</button></form>'
    await desk.page.route("http://127.0.0.9:9/", lambda route: route.fulfill(body=form, content_type="text/html"))
    await desk.page.goto("http://127.0.0.9:9/")
    await desk.page.click("#lure")
    await desk.page.wait_for_load_state()
    await desk.open()
    assert await desk.shows_image()
    assert await server.labels() == []


async def test_names_are_never_markup(label_server, browsers, tmp_path):
    hostile = '<img src=x onerror="window.pwned=1">'
    await fill(tmp_path, 4, start=100, device=hostile)
    server = await label_server(
        0, tags=(hostile, "</script><script>window.pwned=2</script>", "{{7*7}}", "' onclick='x")
    )
    desk = await browsers.desk(server, "<b onmouseover=window.pwned=3>Kari")
    await desk.press("1")
    await desk.shows_image()
    names = await desk.page.locator(".tag .name").all_inner_texts()
    assert names[:4] == [
        hostile, "</script><script>window.pwned=2</script>", "{{7*7}}", "' onclick='x",
    ]  # fmt: skip
    await desk.press("t")
    await desk.page.fill("#naming-name", "<svg onload=window.pwned=4>")
    await desk.page.keyboard.press("Enter")
    await desk.page.wait_for_selector("text=<svg onload")
    await server.answer_as("<i>Per</i>", await desk.shows_image(), "<u>x</u>")
    await desk.press("2")
    await desk.page.locator(".note").wait_for()
    await desk.page.keyboard.press("?")
    for path in ("/grid", "/review", "/progress", "/label?device=%3Cscript%3Ewindow.pwned=5%3C/script%3E&order=%22%3E"):
        await desk.page.goto(server.url + path)
        await desk.page.wait_for_load_state()
        assert await desk.page.evaluate("() => window.pwned") is None
        assert await desk.page.locator("main img[src=x], main svg[onload], b[onmouseover], u, main script").count() == 0
