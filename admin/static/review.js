// The review card by keys: each press is a click on the button that bears the key (data-key), each
// form is sent in the background and answered with the next card. Without this script the same
// forms work with pages. Nothing here decides anything, and nothing is stored but two switches.
(() => {
  const SAVE_AFTER_MS = 1200;
  const SETTLE_MS = 300; // nobody judges a card so soon: such a press was meant for the card before
  const RENEW_BELOW_MS = 5 * 60_000;
  const room = document.getElementById("review");
  const $ = (id) => document.getElementById(id);
  const card = () => $("card");
  const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const store = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private mode */ } };

  if (!room) return list();

  let busy = false;      // a request is under way: no key and no click counts
  let last = null;       // what was sent last, for "try again"
  let shownAt = 0;
  let dirty = false;     // something was typed since it was last saved
  let timer = 0;
  let activeAt = Date.now();
  const seen = [];       // addresses of the cards of this session, oldest first
  let place = -1;

  // ---- what is sent, and what comes back

  const isTyping = (node) => node instanceof Element
    && node.matches("input:not([type=checkbox]):not([type=hidden]), textarea, select, [contenteditable]");
  const filled = (form) => new URLSearchParams(new FormData(form));

  async function send(address, body, { quiet = false } = {}) {
    if (busy) return;
    busy = true;
    last = [address, body];
    clearTimeout(timer);
    card().setAttribute("aria-busy", "true");
    $("failed").hidden = true;
    try {
      const options = { headers: { "HX-Request": "true", "HX-Request-Type": "partial", "HX-Current-URL": location.href } };
      if (body) Object.assign(options, { method: "POST", body });
      const answer = await fetch(address, options);
      const away = answer.headers.get("HX-Redirect");
      const made = document.createElement("template");
      if (away) throw new Error("You are signed out. Sign in in another tab, then try again: what you typed stays here.");
      made.innerHTML = await answer.text();
      const next = made.content.querySelector("#card");
      if (!next) {
        const why = made.content.querySelector("main .problem p:not(.code)");
        throw new Error(why ? why.textContent : `The service answered with ${answer.status}.`);
      }
      show(next, quiet);
    } catch (error) {
      failed(error);
    } finally {
      busy = false;
      card().removeAttribute("aria-busy");
    }
  }

  function failed(error) {
    $("failed-why").textContent = error instanceof TypeError
      ? "Nothing was lost. Check the connection." : error.message;
    $("failed").hidden = false;
    $("retry").focus();
  }

  function show(next, quiet) {
    dirty = false;
    card().replaceWith(next);
    shownAt = performance.now();
    const address = next.dataset.address;
    if (address && address !== location.pathname + location.search && !quiet) {
      history.pushState(null, "", address);
    }
    document.title = `${next.dataset.title} · Flywheel`;
    document.dispatchEvent(new CustomEvent("htmx:after:swap"));
    begin();
    window.scrollTo(0, 0);
    const problem = $("problem");
    const heading = $("heading");
    heading.focus({ preventScroll: true });
    const notice = $("notice");
    const left = $("left");
    $("announce").textContent = [
      problem?.textContent, notice?.textContent, problem ? "" : `${heading.textContent}`,
      left && !problem ? `${left.textContent} left.` : "",
    ].filter(Boolean).join(" ");
    if (problem) for (const open of card().querySelectorAll("details.drawer[open]")) { into(open); break; }
  }

  // ---- a card that has just come

  function begin() {
    const now = card();
    const address = now.dataset.address;
    const known = seen.indexOf(address);
    if (known >= 0) place = known;
    else if (now.dataset.item) { seen.push(address); place = seen.length - 1; }
    const before = $("before");
    if (before) before.hidden = place <= 0;
    const focusing = $("focus-mode");
    if (focusing) {
      focusing.hidden = false;
      focusing.setAttribute("aria-pressed", String(document.body.classList.contains("focused")));
    }
    const see = $("see-diff");
    if (see) see.type = "button";
    tick();
    if ($("edit")?.open) compare();
  }

  // ---- drafts and the lease

  const form = () => $("say");

  async function save({ leaving = false } = {}) {
    const said = form();
    if (!said || busy || !(dirty || !leaving)) return;
    dirty = false;
    const body = filled(said);
    try {
      const answer = await fetch(said.dataset.draft, { method: "POST", body, keepalive: leaving && body.toString().length < 60_000, headers: { "HX-Request": "true" } });
      if (said !== form()) return;
      if (answer.ok) {
        const kept = await answer.json();
        if (kept.leased_until) card().dataset.leasedUntil = kept.leased_until;
        note("Draft kept");
      } else if (answer.status === 409 || answer.status === 404) {
        note("This card is no longer yours. What you typed stays here: copy it, then go on.");
      } else { dirty = true; note("The draft could not be kept"); }
    } catch { dirty = true; note("The draft could not be kept: no connection"); }
  }

  function note(words) {
    const place = $("saved");
    if (place) place.textContent = words;
  }

  function tick() {
    const until = Date.parse(card()?.dataset.leasedUntil ?? "");
    const shown = $("lease");
    if (Number.isNaN(until) || !shown) return;
    const left = until - Date.now();
    const minutes = Math.max(0, Math.floor(left / 60_000));
    const seconds = Math.max(0, Math.floor(left / 1000) % 60);
    shown.textContent = left > 0 ? `${minutes}:${String(seconds).padStart(2, "0")}` : "nobody else wanted it yet";
    if (left < RENEW_BELOW_MS && Date.now() - activeAt < 60_000 && !busy && form()) {
      activeAt = 0;
      save();
    }
  }
  setInterval(tick, 1000);

  // ---- the difference of an edit

  let comparing = 0;
  function compare() {
    clearTimeout(comparing);
    comparing = setTimeout(async () => {
      const said = form();
      if (!said || !$("edit")?.open) return;
      try {
        const answer = await fetch(said.dataset.diff, { method: "POST", body: filled(said), headers: { "HX-Request": "true", "HX-Request-Type": "partial" } });
        if (answer.ok && said === form()) $("edit-diff").innerHTML = await answer.text();
      } catch { /* the next key tries again */ }
    }, 350);
  }

  // ---- keys

  const keysAreOn = () => stored("review-keys") !== "off";
  const isFolded = (node) => { // what is in a closed drawer may still have a box
    const drawer = node.closest("details:not([open])");
    return drawer && drawer.querySelector(":scope > summary") !== node;
  };
  const isShown = (node) => !node.disabled && !isFolded(node) && node.getClientRects().length > 0;

  function into(panel) {
    const goal = panel.id === "edit" ? $("answer") : panel.id === "relabel" ? $("task_type") : panel.querySelector(".sheet-up");
    goal?.focus();
  }

  function open(panel, wanted) {
    for (const other of card().querySelectorAll("details.drawer.up[open]")) if (other !== panel) other.open = false;
    panel.open = wanted;
    if (wanted) { into(panel); if (panel.id === "edit") { panel.scrollIntoView({ block: "nearest" }); compare(); } }
    else $("heading").focus({ preventScroll: true });
  }

  function find(key) {
    const rejecting = document.querySelector("#reject[open]");
    if (rejecting && /^[0-9]$/.test(key)) return rejecting.querySelector(`[data-key="${key}"]`);
    return [...room.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)].find(isShown);
  }

  document.addEventListener("keydown", (event) => {
    activeAt = Date.now();
    const { key, target } = event;
    const dialog = document.querySelector("[popover]:popover-open");
    if (event.isComposing || dialog) return;
    if (key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const drawer = target.closest?.("details.drawer");
      const button = drawer && (drawer.id === "edit" ? $("save-edit") : drawer.querySelector(".choices button[name=action]"));
      if (button) { event.preventDefault(); press(button, event); }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "Escape") {
      const panel = target.closest?.("details.drawer[open]") ?? card().querySelector("details.drawer.up[open]");
      if (panel && panel.id !== "difference") { event.preventDefault(); open(panel, false); save(); }
      else if (isTyping(target)) target.blur();
      return;
    }
    if (target.id === "reason" && key === "Enter") {
      event.preventDefault();
      press($("save-reject"), event);
      return;
    }
    if (isTyping(target) || key.length !== 1 && !key.startsWith("Arrow")) return;
    if (!keysAreOn()) return;
    const rejecting = document.querySelector("#reject[open] .sheet-up:focus");
    if (rejecting && /^[^\d\s?]$/u.test(key)) { $("reason").focus(); return; }
    const at = { ArrowLeft: "k", ArrowRight: "j" }[key];
    if (at && target.closest?.("pre, .scroll, [role=region]")) return;
    const found = find(at ?? (key === "?" ? "?" : key.toLowerCase()));
    if (!found || event.shiftKey && key !== "?") return;
    event.preventDefault();
    press(found, event);
  });

  function press(button, event) {
    if (busy || event.repeat) return;
    if (button.matches("summary")) {
      const panel = button.parentElement;
      if (panel.classList.contains("drawer") && panel.id !== "difference") open(panel, !panel.open || !panel.contains(document.activeElement));
      else panel.open = !panel.open;
    } else if (button.id !== "before" && button.type === "submit" && performance.now() - shownAt < SETTLE_MS) {
      return;
    } else button.click();
  }

  // ---- the mouse, and what keys press

  document.addEventListener("submit", (event) => {
    const sent = event.target;
    if (!room.contains(sent)) return;
    event.preventDefault();
    if (busy || performance.now() - shownAt < SETTLE_MS) return;
    const button = event.submitter;
    const body = filled(sent);
    if (button?.name) body.append(button.name, button.value);
    if (sent.dataset.action === "next") {
      if (place < seen.length - 1) { turn(1); return; }
      for (const address of seen.slice(-90)) {
        const item = /items\/([0-9a-f-]{36})/.exec(address)?.[1];
        if (item && item !== body.get("leave")) body.append("besides", item);
      }
    }
    const address = sent.getAttribute("action"); // a button is called action, too
    if (dirty && sent.dataset.action) save().then(() => send(address, body));
    else send(address, body);
  });

  document.addEventListener("click", (event) => {
    const { target } = event;
    if (event.detail > 1 && target.closest?.("#say button[type=submit], .tools button[type=submit], [data-action] button")) {
      event.preventDefault(); // the second half of a double click
      return;
    }
    if (target.closest?.("#retry")) send(...last);
    else if (target.closest?.("#before")) turn(-1);
    else if (target.closest?.("#see-diff")) compare();
    else if (target.closest?.("#focus-mode")) focusMode(!document.body.classList.contains("focused"));
  });

  function turn(step) {
    const address = seen[place + step];
    if (!address || busy) return;
    if (dirty) save();
    place += step;
    history.pushState(null, "", address);
    send(address, null, { quiet: true });
  }

  function focusMode(on) {
    document.body.classList.toggle("focused", on);
    store("review-focus", on ? "on" : "off");
    $("focus-mode")?.setAttribute("aria-pressed", String(on));
  }

  room.addEventListener("input", (event) => {
    if (!event.target.closest("#say")) return;
    dirty = true;
    note("");
    clearTimeout(timer);
    timer = setTimeout(save, SAVE_AFTER_MS);
    if (event.target.id === "answer") compare();
  });
  room.addEventListener("toggle", (event) => {
    const panel = event.target;
    if (panel.matches?.("details.drawer.up") && panel.open) {
      for (const other of card().querySelectorAll("details.drawer.up[open]")) if (other !== panel) other.open = false;
    }
    if (panel.id === "edit" && panel.open) compare();
  }, true);
  room.addEventListener("pointerdown", () => { activeAt = Date.now(); });
  document.addEventListener("visibilitychange", () => { if (document.hidden && dirty) save({ leaving: true }); });
  window.addEventListener("pagehide", () => { if (dirty) save({ leaving: true }); });
  window.addEventListener("popstate", () => {
    if (location.pathname + location.search !== card().dataset.address) send(location.href, null, { quiet: true });
  }); // a link within the page, such as the one that skips the menu, leads to no other card

  $("use-keys").checked = keysAreOn();
  $("use-keys").addEventListener("change", (event) => {
    store("review-keys", event.target.checked ? "on" : "off");
    document.body.classList.toggle("no-keys", !event.target.checked);
  });
  document.body.classList.toggle("no-keys", !keysAreOn());
  if (stored("review-focus") === "on") document.body.classList.add("focused");
  begin();

  // ---- the list of items: tick all

  function list() {
    const show = () => { const all = $("all-items"); if (all) all.hidden = false; };
    show();
    document.addEventListener("htmx:after:swap", show);
    document.addEventListener("click", (event) => {
      if (!event.target.closest?.("#all-items")) return;
      const boxes = [...document.querySelectorAll("input[name=items]:not(:disabled)")];
      const wanted = boxes.some((box) => !box.checked);
      for (const box of boxes) box.checked = wanted;
    });
  }
})();
