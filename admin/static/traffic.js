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

  document.addEventListener("htmx:before:morph:attr", (event) => {
    const { attrName } = event.detail;
    if (attrName === "open" && event.target.matches?.("details")) event.preventDefault();
  });
})();
