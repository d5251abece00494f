"""The chat page in a real browser, against a small bot."""

import re
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Chromium is missing; run `scripts/setup tests`, which installs it.", pytrace=False)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        opened = await browser.new_page(viewport={"width": 1200, "height": 800})
        problems: list[str] = []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        yield opened
        await browser.close()
    assert problems == []


async def test_a_conversation(sim: Any, echo_bot: Any, page: Page) -> None:
    await page.goto(sim.url)
    await page.get_by_role("main").get_by_role("button", name="New person").click()
    column = page.locator(".column")
    await column.get_by_role("button", name="Start").click()
    await column.get_by_role("button", name="Press me").click()
    await expect(column.locator(".toast")).to_have_text("Well done")
    await expect(column.locator(".bot .text")).to_have_text("You pressed it")

    box = column.get_by_role("textbox")
    await box.fill("see <b>this</b>")
    await box.press("Shift+Enter")
    await box.press("Enter")
    await expect(column.locator(".own .text").last).to_have_text("see <b>this</b>")
    answer = column.locator(".message.bot:not(.typing):not(.draft)").last
    await expect(answer.locator("strong")).to_have_count(0)
    await expect(answer).to_contain_text("edited")


async def test_commands_files_reply_edit_and_block(sim: Any, echo_bot: Any, page: Page) -> None:
    person = await sim.client.new_user(first_name="Ada", last_name="Lovelace")
    await page.goto(f"{sim.url}/?user={person.id}")
    column = page.get_by_role("region", name="Chat of Ada Lovelace")
    box = column.get_by_role("textbox")
    await box.fill("/st")
    await expect(column.get_by_role("option")).to_have_text("/startBegin")
    await box.press("Enter")
    await expect(column.locator(".own .text")).to_have_text("/start")

    await column.locator("input[type=file]").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"}
    )
    await box.fill("My notes")
    await box.press("Enter")
    await expect(column.locator(".file-card")).to_contain_text("notes.txt")

    own = column.locator(".message.own").first
    await own.hover()
    await own.get_by_role("button", name="Edit").click()
    await box.fill("/start again")
    await box.press("Enter")
    await expect(own).to_contain_text("edited")

    await column.get_by_role("button", name="More").click()
    await column.get_by_role("menuitem", name="Block").click()
    await expect(column.get_by_role("button", name="Unblock")).to_be_visible()
    assert sim.simulator.people[person.id].blocked


async def test_the_timeline_and_a_second_person(sim: Any, page: Page) -> None:
    amina, leo = await sim.client.new_user(first_name="Ada"), await sim.client.new_user(first_name="Leo")
    await page.goto(f"{sim.url}/?user={amina.id}&user={leo.id}")
    await expect(page.locator(".column")).to_have_count(2)
    await expect(page.locator("#connection")).to_have_text("Connected")
    await sim.client.add_timeline(leo.id, "received", at=1000.0)
    await sim.client.add_timeline(leo.id, "first reply", "hello", at=1000.25)
    story = page.get_by_role("region", name="Chat of Leo").locator(".timeline .story")
    await expect(story).to_contain_text("+250 ms")
    await expect(page.get_by_role("region", name="Chat of Ada").locator(".timeline")).to_be_hidden()


async def test_falling_asleep_is_a_story_of_its_own(sim: Any, page: Page) -> None:
    ada = await sim.client.new_user(first_name="Ada")
    await page.goto(f"{sim.url}/?user={ada.id}")
    await expect(page.locator("#connection")).to_have_text("Connected")
    told = [("received", 1000.0), ("replied", 1000.5), ("sleeping", 1900.0), ("asleep", 1901.0), ("woken", 5000.0)]
    told += [("ready", 5000.25), ("stopped", 9000.0), ("received", 9500.0), ("started", 9501.0), ("replied", 9502.0)]
    for stage, at in told:
        await sim.client.add_timeline(ada.id, stage, at=at)
    stories = page.locator(".timeline .story")
    await expect(stories.locator(".story-head b")).to_have_text(["500 ms", "1000 ms", "250 ms", "0 ms", "2000 ms"])
    await expect(stories.locator("ol")).to_have_text(
        [
            re.compile("received.*replied"),
            re.compile("sleeping.*asleep"),
            re.compile("woken.*ready"),
            re.compile("stopped"),
            re.compile("received.*started.*replied"),
        ]
    )


async def test_the_page_survives_a_restart_of_the_simulator(page: Page) -> None:
    config = SimulatorConfig("1234567890:restart")
    async with running(create_app(config)) as url:
        await page.goto(url)
        await page.get_by_role("main").get_by_role("button", name="New person").click()
        box = page.locator(".column").get_by_role("textbox")
        await box.fill("before")
        await box.press("Enter")
        await expect(page.locator(".own .text")).to_have_text("before")
        name = await page.locator(".column h2").inner_text()
    await expect(page.locator("#connection")).to_have_text("Reconnecting…")
    async with running(create_app(config), port=int(url.rpartition(":")[2])), SimulatorClient(url) as client:
        await expect(page.locator("#connection")).to_have_text("Connected", timeout=20_000)
        await expect(page.locator(".own .text")).to_have_count(0)
        await box.fill("after")
        await box.press("Enter")
        await expect(page.locator(".own .text")).to_have_text("after")
        (person,) = await client.users()
        assert f"{person.first_name} {person.last_name}" == name
