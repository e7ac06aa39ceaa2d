// The log: times are chosen in the viewer's zone and asked for in UTC; j and k walk an episode.
(() => {
  const pairs = (root) => [...root.querySelectorAll("input[data-utc]")].map(
    (field) => [field, field.parentElement.querySelector(`input[name="${field.dataset.utc}"]`)],
  );
  const local = (iso) => {
    const moment = new Date(iso);
    if (Number.isNaN(moment.valueOf())) return "";
    return new Date(moment - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  };
  const fill = () => {
    for (const [field, hidden] of pairs(document)) {
      if (hidden.value && !field.value) field.value = local(hidden.value);
    }
  };
  // Before the form is read: captured on the way down.
  document.addEventListener("change", (event) => {
    if (!event.target.matches("input[data-utc]")) return;
    const hidden = event.target.parentElement.querySelector(`input[name="${event.target.dataset.utc}"]`);
    const moment = new Date(event.target.value);
    hidden.value = Number.isNaN(moment.valueOf()) ? "" : moment.toISOString().replace(":00.000Z", "Z");
  }, true);
  document.addEventListener("DOMContentLoaded", fill);
  document.addEventListener("htmx:after:swap", fill);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [popover]:popover-open")) return;
    const rel = { j: "next", k: "prev" }[event.key];
    const link = rel && document.querySelector(`a[data-step="${rel}"]`);
    if (link) link.click();
  });
})();
