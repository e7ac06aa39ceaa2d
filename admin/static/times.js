// Times in the zone of who looks: pages carry UTC, which is also what stands there without a script.
(() => {
  const full = new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "short", day: "numeric",
    hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
  });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
  const seconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const ofWeek = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });
  const zone = full.formatToParts(new Date()).find((part) => part.type === "timeZoneName").value;
  const show = (root) => {
    for (const tick of root.querySelectorAll("text[data-time]:not([data-local])")) {
      const moment = new Date(tick.dataset.time);
      if (Number.isNaN(moment.valueOf())) continue;
      tick.dataset.local = "";
      tick.textContent = (tick.textContent.includes(" ") ? ofWeek : clock).format(moment);
    }
    for (const name of root.querySelectorAll("[data-zone]")) name.textContent = zone;
    for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.valueOf())) continue;
      time.dataset.local = "";
      time.title = full.format(moment);
      if (time.classList.contains("full")) time.textContent = full.format(moment);
      if (time.classList.contains("clock")) time.textContent = seconds.format(moment);
    }
  };
  document.addEventListener("DOMContentLoaded", () => show(document));
  document.addEventListener("htmx:after:swap", () => show(document));
})();
