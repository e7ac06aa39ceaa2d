// What refreshes itself waits while somebody is about to use it, and leaves open what was opened.
(() => {
  const busy = (live) =>
    live.querySelector("a:hover, button:hover, summary:hover, input:focus, textarea:focus, select:focus") ||
    document.querySelector("[popover]:popover-open") ||
    !(document.getSelection()?.isCollapsed ?? true);

  document.addEventListener("htmx:before:request", (event) => {
    const live = event.target.closest?.(".calm");
    if (live === event.target && busy(live)) event.preventDefault();
  });

  // A page that is morphed keeps each <details> as it is: whoever looks has opened or closed it.
  htmx.config.morphIgnore = [...(htmx.config.morphIgnore ?? []), "open"];
})();
