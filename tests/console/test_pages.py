"""The console's pages in a real browser, over services that really run."""

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from playwright.async_api import Page, expect

from cliffracer import App, Conflict
from tests.console.support import console, many
from tests.support.browser import browsing, overflows, readable

HOSTILE = "<img src=x onerror=document.title='hacked'><b>bold</b>"
users, mail = App("user_service", version="1.4.0", description="Who our customers are"), App("mail_service")
sent: list[str] = []
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


class User(msgspec.Struct):
    """Somebody."""

    name: Annotated[str, Meta(min_length=2, description="full name")]
    email: str
    plan: Literal["free", "team"] = "free"
    friends: list["User"] = []


@users.rpc
async def create_user(user: User) -> User:
    """Make a user."""
    if user.plan == "team":
        raise Conflict("teams are full")
    await users.emit("user.created", user)
    return user


@users.every("1h")
async def purge() -> None: ...


@mail.on("user.created", retry=())
async def welcome(user: User) -> None:
    """Welcome a new user."""
    if "@" not in user.email:
        raise ValueError(f"no address: {user.email}")
    sent.append(user.email)


@mail.health_check("smtp", critical=False)
async def smtp() -> bool:
    return False


async def _call(page: Page, **given: str) -> Any:
    card = page.locator("details.card", has_text="create_user")
    if await card.get_attribute("open") is None:
        await card.locator("summary").click()
    for name, value in given.items():
        field = card.get_by_label(name, exact=False).first
        await (field.select_option(label=value) if name == "plan" else field.fill(value))
    await card.get_by_role("button", name="Call", exact=True).click()
    return card


async def test_a_method_is_called_and_its_trace_is_followed() -> None:
    """From the list to a service, its schema as a form, refused input at its field, an error by name, a result, and its trace."""
    async with console(users, mail) as c, browsing() as (context, seen):
        page = context.pages[0]
        await c.enter(page)
        await expect(page.locator("tbody tr")).to_have_count(2)
        await page.get_by_label("Find a service").fill("customers")
        await page.get_by_role("link", name="user_service").click()
        await expect(page).to_have_title("user_service · console")
        await expect(page.get_by_role("heading", level=1)).to_be_focused()
        await expect(page.locator(".notice", has_text="smtp: failed")).to_be_visible()
        card = await _call(page)
        await expect(card.locator("[data-path='user.name'] > .why")).to_contain_text("at least 2")
        await expect(card.locator("[aria-invalid=true]")).to_be_focused()
        card = await _call(page, name="Ada", email="ada", plan="team")
        await expect(card.get_by_role("alert").last).to_contain_text("Conflict: teams are full")
        card = await _call(page, name=HOSTILE, email="ada@x.org", plan="free")
        await expect(card.locator(".answer pre")).to_contain_text('"name": "<img src=x')
        await card.get_by_role("link", name="its trace").click()
        await expect(page.locator(".fall")).to_contain_text("mail_service.welcome event")
        await c.go(page, "map")
        await expect(page.locator(".graph svg a", has_text="mail_service")).to_be_visible()
        await expect(page.locator("tbody tr", has_text="welcome")).to_contain_text("user_service")
        await c.go(page, "traces")
        await expect(page.locator("tbody tr").first).to_contain_text("user_service.create_user")
        await c.go(page, "timers")
        await expect(page.locator("tbody tr")).to_contain_text("every 1h")
        await expect(page.locator("tbody tr")).to_contain_text(re.compile(r"\d+ (min|s)"))
        seen.forgive("422", "409")


TIP = """() => {
  const wire = [...document.querySelectorAll(".graph path.wire")].find((one) => one.textContent.startsWith("pong → ping"));
  const at = (found) => { const spot = found.getBoundingClientRect(); return [spot.left, spot.right]; };
  const box = (name) => at(document.querySelector(`.graph a[href$="/${name}"] rect`));
  const [left, right] = at(wire.nextElementSibling);
  return [box("ping")[1], (left + right) / 2, box("pong")[0]];
}"""


async def test_a_line_that_runs_back_ends_at_whom_it_calls() -> None:
    """Of two services that call each other, the second line leads from the second box to the first, with its tip between them."""
    ping, pong = App("ping"), App("pong")

    @ping.rpc
    async def serve(again: bool = True) -> None:
        if again:
            await ping.service("pong").reply()

    @pong.rpc
    async def reply() -> None:
        await pong.service("ping").serve(again=False)

    async with console(ping, pong) as c, browsing() as (context, _):
        page = context.pages[0]
        await c.t.call("ping.serve")
        await c.enter(page, "map")
        await expect(page.locator(".graph svg a", has_text="pong")).to_be_visible()
        places = await page.evaluate(TIP)
        assert places == sorted(places)


async def test_events_are_seen_and_a_dead_letter_is_mended() -> None:
    """Events come as they happen, older ones on request; what failed is shown with its error, edited, and handed over again."""
    sent.clear()
    async with console(users, mail) as c, browsing() as (context, seen):
        page = context.pages[0]
        await c.t.emit("user.created", {"name": "Old", "email": "old@x.org"})
        await c.enter(page, "events")
        await expect(page.get_by_text("Listening", exact=True)).to_be_visible()
        await page.get_by_text("Emit an event").click()
        await page.get_by_label("Subject", exact=True).fill("user.created")
        await page.get_by_label("Data, as JSON").fill('{"name": "%s", "email": "nowhere"}' % HOSTILE.replace('"', ""))  # noqa: UP031
        await page.get_by_role("button", name="Emit", exact=True).click()
        await expect(page.locator("details.entry")).to_have_count(1)
        await expect(page.locator("details.entry")).to_contain_text("<img src=x")
        await page.get_by_label("Since when").select_option("1h")
        await expect(page.locator("details.entry")).to_have_count(2)
        await page.locator("details.entry summary").first.click()
        await expect(page.locator("details.entry dl").first).to_contain_text("ce-id")
        await page.get_by_label("Subject or pattern").fill("a b")
        await page.get_by_label("Subject or pattern").press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("is no subject pattern")
        await expect(page.locator("#places .chip")).to_have_text("1")
        await c.go(page, "dead")
        await page.locator("tbody tr").click()  # anywhere in it
        await expect(page.locator(".notice.bad").first).to_have_text("ValueError: no address: nowhere")
        await expect(page.get_by_label("Traceback")).to_contain_text("in welcome")
        await page.get_by_label("Data").fill('{"name": "Ada", "email": ')
        await page.get_by_role("button", name="Replay with these data").click()
        await expect(page.get_by_role("alert")).to_contain_text("no JSON")
        await page.get_by_label("Data").fill('{"name": "Ada", "email": "mended@x.org"}')
        await page.get_by_role("button", name="Replay with these data").click()
        await expect(page.get_by_role("status").last).to_contain_text("Handed to mail_service.welcome again")
        await c.t.settled()
        assert "mended@x.org" in sent
        await c.t.emit("user.created", {"name": "Bea", "email": "bad"})
        await c.t.settled()
        await c.go(page, "dead")
        await page.get_by_role("button", name="Discard all").click()
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.get_by_role("button", name="Discard all").click()
        await page.get_by_role("dialog").get_by_role("button", name="Discard").click()
        await expect(page.get_by_text("No dead letters")).to_be_visible()
        await c.go(page, "streams")
        await expect(page.get_by_role("region", name="EVENTS")).to_contain_text("mail_service-welcome")
        seen.forgive("422", "EventSource")


async def test_in_production_pages_offer_nothing_that_acts() -> None:
    """Wherever the console runs: it says whose production it looks at, and has no button that the door would refuse."""
    async with console(users, env="production", at="development") as c, browsing() as (context, _):
        page = context.pages[0]
        await c.enter(page, "services/user_service")
        await expect(page.locator("#foot")).to_contain_text("It is production for user_service; --write lets it act.")
        await page.locator("details.card summary", has_text="create_user").click()
        await expect(page.get_by_text("This console only reads: it is production for user_service")).to_be_visible()
        await expect(page.get_by_role("button", name="Call", exact=True)).to_have_count(0)
        await c.go(page, "events")
        await expect(page.get_by_text("Listening", exact=True)).to_be_visible()
        await expect(page.get_by_text("Emit an event")).to_have_count(0)


async def test_every_page_is_legible_in_every_window() -> None:
    """Controls have names, text has contrast by day and night, one main heading, nothing is wider than the window: empty pages, too."""
    async with console(users, mail) as c, browsing() as (context, _):
        page = context.pages[0]
        await c.enter(page)
        places = {"services": "tbody tr", "services/user_service": "details.card", "map": ".empty", "traces": "main", "events": ".empty"}
        places |= {"dead": ".empty", "streams": ".stream", "timers": "tbody tr", "health": "tbody tr"}
        for place, there in places.items():
            await c.go(page, place)
            await expect(page.locator(there).first).to_be_visible()
            for scheme in SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                assert await readable(page) == [], (place, scheme)
            for width in (1280, 700, 360):
                await page.set_viewport_size({"width": width, "height": 800})
                assert not await overflows(page), (place, width)


async def test_five_hundred_services_are_one_page() -> None:
    """Services of others appear, too; 500 with 20 methods each are listed, found by name and sorted, and stay quick to use."""
    async with console(users) as c, many(c, 500, 20), browsing() as (context, _):
        page = context.pages[0]
        await c.enter(page)
        await expect(page.locator("tbody tr")).to_have_count(501)
        await expect(page.locator(".sums")).to_contain_text("501 services")
        await page.get_by_role("button", name="95 %").click()
        await expect(page.locator("tbody tr").first).to_contain_text("service_499")
        await page.get_by_label("Find a service").fill("service_042")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.get_by_label("Find a service").fill("nobody has this name")
        await expect(page.get_by_text("No service fits")).to_be_visible()


async def test_who_is_not_there_is_said() -> None:
    """No services, a service that went away, a console that ended: each page says so, and what to do."""
    async with browsing() as (context, seen):
        page = context.pages[0]
        async with console(App("quiet")) as c:
            await c.enter(page, "services/gone")
            await expect(page.get_by_role("alert")).to_contain_text("No service gone is running.")
            await page.goto(f"{c.url}/?token=wrong")
            await expect(page.get_by_role("heading")).to_have_text("This door is closed")
            await page.goto(c.url)
            await expect(page.locator("tbody tr")).to_have_count(1)
            await c.t.up.services[0].drain(1)
            await expect(page.get_by_text("No service is running")).to_be_visible()
        await expect(page.locator("#foot")).to_contain_text("the console is gone")
        seen.forgive("404", "401", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE", "ERR_EMPTY", "ERR_CONNECTION_RESET")
