// A run that is looked at while it works: the server sends what is new, already as HTML.
(() => {
  const CHART_EVERY_MS = 2000;
  const AGAIN_MS = 10000;
  const MOST_LINES = 1000;

  const follow = (root) => {
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    const lines = part("lines"), level = part("level"), keepUp = part("follow");
    let source, last = root.dataset.after, chartAt = 0, chartTimer = 0;

    const toEnd = () => { if (lines && (!keepUp || keepUp.checked)) lines.scrollTop = lines.scrollHeight; };

    const drawChart = async () => {
      chartTimer = 0;
      const chart = part("curves");
      if (!chart || chart.querySelector("details[open]")) return; // somebody reads its table
      const answer = await fetch(chart.dataset.from, { headers: { "HX-Request-Type": "partial" } });
      if (!answer.ok) return;
      chart.innerHTML = await answer.text();
      chartAt = Date.now();
      document.dispatchEvent(new CustomEvent("htmx:after:swap"));
    };
    const measured = () => {
      chartTimer ||= setTimeout(drawChart, Math.max(0, chartAt + CHART_EVERY_MS - Date.now()));
    };

    const ended = async () => {
      source.close();
      clearTimeout(chartTimer);
      const answer = await fetch(location.href);
      if (!answer.ok || answer.redirected) { location.reload(); return; }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const made = page.getElementById(root.id);
      root.replaceWith(made);
      if (window.htmx) window.htmx.process(made);
      document.dispatchEvent(new CustomEvent("htmx:after:swap"));
      prepare(made);
    };

    const open = () => {
      const address = new URL(root.dataset.live, location.href);
      address.searchParams.set("after", last);
      source = new EventSource(address);
      const on = (name, does) => source.addEventListener(name, (event) => {
        last = event.lastEventId || last;
        does(event.data);
      });
      on("state", (html) => { part("state").innerHTML = html; });
      on("measures", measured);
      on("lines", (html) => {
        lines.insertAdjacentHTML("beforeend", html);
        while (lines.children.length > MOST_LINES) lines.firstElementChild.remove();
        document.dispatchEvent(new CustomEvent("htmx:after:swap"));
        toEnd();
      });
      on("end", ended);
      source.addEventListener("error", () => {
        // Where it only lost its connection the browser comes again by itself.
        if (source.readyState === EventSource.CLOSED && !document.hidden) setTimeout(open, AGAIN_MS);
      });
    };

    document.addEventListener("visibilitychange", () => {
      if (!root.isConnected) return;
      source.close();
      if (!document.hidden) open();
    });
    window.addEventListener("pagehide", () => source.close());
    open();
    if (keepUp) keepUp.addEventListener("change", toEnd);
  };

  const prepare = (root) => {
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    const lines = part("lines"), level = part("level");
    if (lines) {
      part("tools").hidden = false;
      level.addEventListener("change", () => { lines.dataset.level = level.value; });
      lines.scrollTop = lines.scrollHeight;
    }
    if (root.dataset.live) follow(root);
  };

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.getElementById("live");
    if (root) prepare(root);
  });
})();
