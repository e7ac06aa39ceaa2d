"""What people do in the admin view, done in a real browser and looked up in the database."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.addresses import ADDRESSES, filled


def act(page: Page, button: str | re.Pattern[str], submit: str, reason: str | None = None) -> None:
    """Open what a button asks, give the reason, and send it."""
    page.get_by_role("button", name=button, exact=isinstance(button, str)).first.click()
    dialog = page.locator("form:popover-open")
    if reason is not None:
        dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=submit).click()
    page.wait_for_load_state("load")


# -- signing in and out, users, keys


def test_a_user_is_created_and_signs_in_by_the_link_and_out_again(wheel, sign_in) -> None:
    admin = sign_in("admin")
    page = admin.page("/users")
    page.get_by_text("New user").click()
    page.get_by_label("Name", exact=False).first.fill("nora")
    page.locator("form.act select[name=role]").first.select_option("operator")
    page.get_by_role("button", name="Make the user and a one-time link").click()
    link = page.locator("#secret").inner_text()
    assert wheel.sql("SELECT role FROM admin_user WHERE name = 'nora'") == [("operator",)]
    assert wheel.sql("SELECT count(*) FROM audit_entry WHERE action LIKE 'user.%%'"
                     " AND after->>'name' = 'nora'") == [(1,)]  # fmt: skip

    nora = sign_in(None)
    page = nora.page()
    page.goto(link)
    if page.get_by_role("button", name="Sign in").count():
        page.get_by_role("button", name="Sign in").last.click()
    page.wait_for_load_state("load")
    expect(page.locator(".me")).to_contain_text("nora")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(re.compile("/login"))
    nora.go(page, "/runs")
    assert "/login" in page.url, "a session that was ended opens nothing"
    assert wheel.sql(
        "SELECT count(*) FROM admin_session JOIN admin_user ON admin_user.id = user_id"
        " WHERE name = 'nora'"
    ) == [(0,)]


def test_a_password_is_set_and_opens_the_page_that_was_asked_for(wheel, sign_in) -> None:
    reviewer = sign_in("operator")
    page = reviewer.page("/me")
    page.get_by_label("New password").fill("a long walk over the hills")
    page.get_by_label("The same again").fill("a long walk over the hills")
    page.get_by_role("button", name="Set it").click()
    expect(page.get_by_role("status")).to_contain_text("password was changed")

    stranger = sign_in(None)
    stranger.expected = ("401", "403", "400", "429")
    page = stranger.page("/decisions?role=coder")
    page.get_by_label("Name").fill("olga")
    page.get_by_role("textbox", name="Password").fill("a short walk")
    page.get_by_role("button", name="Sign in", exact=True).first.click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_role("textbox", name="Password").fill("a long walk over the hills")
    page.get_by_role("button", name="Sign in", exact=True).first.click()
    page.wait_for_url(re.compile(r"/decisions\?role=coder"))
    expect(page.locator(".me")).to_contain_text("olga")


def test_a_key_is_shown_once(wheel, sign_in) -> None:
    watched = sign_in("admin")
    page = watched.page("/keys")
    page.get_by_text("New key", exact=True).click()
    page.get_by_label("Name", exact=True).fill("night-build")
    page.get_by_role("button", name="Make the key and show it").click()
    secret = page.locator("#secret").inner_text()
    assert len(secret) > 20
    [(prefix, digest)] = wheel.sql(
        "SELECT prefix, key_hash FROM gateway_key WHERE name = 'night-build'"
    )
    assert secret.startswith(prefix)
    assert secret not in digest
    watched.go(page, "/keys")
    assert secret not in page.content()
    assert "night-build" in page.content()


def test_a_viewer_sees_every_page_and_no_button_that_changes_anything(wheel, sign_in) -> None:
    watched = sign_in("viewer")
    page = watched.page()
    watched.expected = ("403",)
    seen = 0
    for name, addresses in ADDRESSES.items():
        if name in ("sign_in", "me"):
            continue
        answer = watched.go(page, filled(addresses[0], wheel.ids))
        assert answer is not None
        forms = page.eval_on_selector_all(
            "form[method=post]:has(button:enabled)",
            "found => found.map((form) => form.getAttribute('action'))",
        )
        writes = page.eval_on_selector_all(
            "[hx-post], [hx-put], [hx-patch], [hx-delete]",
            "found => found.map((one) => one.outerHTML.slice(0, 100))",
        )
        left = [form for form in forms if not form.endswith("/sign-out")]
        assert (left, writes) == ([], []), name
        seen += answer.status == 200
    assert seen > 20


# -- who serves


def test_an_experiment_is_started_and_stopped(wheel, sign_in) -> None:
    page = sign_in("operator").page("/experiments/new")
    choice = page.locator("select[name=version]")
    wanted = choice.locator("option", has_text="researcher-external-1").get_attribute("value")
    choice.select_option(wanted)
    expect(page.locator("#preview")).to_contain_text("What it could show")
    page.get_by_role("button", name="Start…").wait_for()
    act(page, "Start…", "Start it", "The larger model may find more.")
    page.wait_for_url(re.compile("/experiments/[0-9a-f-]{36}"))
    [(identifier, status)] = wheel.sql(
        "SELECT id::text, status FROM experiment WHERE role = 'researcher'"
    )
    assert status == "running"
    assert identifier in page.url
    act(page, "Stop…", "Stop", "Enough was seen.")
    assert wheel.sql("SELECT status FROM experiment WHERE id = %s", identifier) == [("stopped",)]
    assert wheel.sql(
        "SELECT actor, reason FROM audit_entry WHERE action = 'experiment.stop'"
        " AND subject_id = %s", identifier
    ) == [("olga", "Enough was seen.")]  # fmt: skip


def test_a_version_is_promoted_and_rolled_back(wheel, sign_in) -> None:
    def serving() -> str:
        [(name,)] = wheel.sql(
            "SELECT name FROM role_serving JOIN model_version ON model_version.id ="
            " model_version_id WHERE role_serving.role = 'coordinator'"
        )
        return str(name)

    before = serving()
    page = sign_in("operator").page("/roles/coordinator")
    act(page, "Promote…", "Promote", "The plans of the larger one are better.")
    after = serving()
    assert after != before
    expect(page.locator("main")).to_contain_text(after)
    act(page, "Roll back…", f"Roll back to {before}", "Its plans are too long.")
    assert serving() == before
    assert wheel.sql("SELECT stage FROM model_version WHERE name = %s", after) == [("quarantined",)]


def test_an_emergency_is_stopped_and_resumed(wheel, sign_in) -> None:
    def since() -> object:
        return wheel.sql("SELECT emergency_since FROM role_policy WHERE role = 'tester'")[0][0]

    watched = sign_in("operator")
    page = watched.page("/emergency")
    page.get_by_label("only tester").check()
    page.locator("form", has=page.get_by_role("button", name="Stop now")).get_by_label(
        "Reason"
    ).fill("It answers with errors.")
    page.get_by_role("button", name="Stop now").click()
    page.wait_for_load_state("load")
    assert since() is not None
    watched.go(page, "/runs")
    expect(page.locator("#emergency")).to_contain_text("tester")
    watched.go(page, "/emergency")
    form = page.locator("form", has=page.get_by_role("button", name="Resume", exact=True))
    form.get_by_label("Reason").fill("It answers again.")
    page.get_by_role("button", name="Resume", exact=True).click()
    page.wait_for_load_state("load")
    assert since() is None


# -- jobs


def test_a_job_is_cancelled_and_another_is_tried_again(wheel, sign_in) -> None:
    def status(name: str) -> str:
        return str(wheel.sql("SELECT status FROM run WHERE id = %s", wheel.ids[name])[0][0])

    watched = sign_in("operator")
    page = watched.page(f"/runs/{wheel.ids['run/queued']}")
    act(page, "Cancel…", "Cancel the run", "It was asked for twice.")
    assert status("run/queued") == "cancelled"
    watched.go(page, f"/runs/{wheel.ids['run/broken']}")
    act(page, "Retry…", "Queue again", "The database is back.")
    assert status("run/broken") == "queued"


# -- lists


@pytest.mark.parametrize(
    "address",
    ["/interactions?role=coder", "/decisions", "/runs", "/users", "/models"],
)
def test_a_list_sorts_by_its_heads_and_keeps_its_address(address: str, wheel, sign_in) -> None:
    watched = sign_in("admin")
    page = watched.page(address)
    head = page.locator("th[aria-sort] a").first
    head.click()
    page.wait_for_url(re.compile("[?&]sort="))
    first = rows(page)
    assert page.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1
    again = watched.page(page.url.removeprefix(wheel.address))
    assert rows(again) == first
    assert len(first) > 1


def rows(page: Page) -> list[str]:
    """Return what tells the rows of a list apart: where they lead, or their first words."""
    found: list[str] = page.eval_on_selector_all(
        "tbody tr",
        "rows => rows.map((row) => row.querySelector('a')?.href ?? row.cells[0].innerText)",
    )
    return found


@pytest.mark.parametrize("name", ["interactions", "decisions", "runs", "audit"])
def test_a_list_is_downloaded(name: str, sign_in, tmp_path: Path) -> None:
    page = sign_in("admin").page(f"/{name}")
    with page.expect_download() as told:
        page.get_by_role("link", name="CSV").first.click()
    file = tmp_path / "rows.csv"
    told.value.save_as(file)
    assert told.value.suggested_filename.endswith(".csv")
    assert len(file.read_text().splitlines()) > 2


def test_focus_stays_in_a_list_that_is_sorted_and_goes_on_in_older_rows(sign_in) -> None:
    page = sign_in("viewer").page("/interactions")
    page.locator("th a.sort", has_text="Cost").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=*cost*")
    expect(page.locator("th a.sort", has_text="Cost")).to_be_focused()
    shown = page.locator("#list tbody tr:not(.more)").count()
    page.locator("tr.more a").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#list tbody tr:not(.more)").nth(shown).locator("a").first).to_be_focused()
