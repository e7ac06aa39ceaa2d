// Texts and tables that scroll inside a page scroll by keyboard too (WCAG 2.1.1), and focus is kept.
(() => {
  const scrolls = (one) => {
    const wide = one.scrollWidth > one.clientWidth + 1, high = one.scrollHeight > one.clientHeight + 1;
    if (!wide && !high) return false;
    const { overflowX, overflowY } = getComputedStyle(one);
    return (wide && /auto|scroll/.test(overflowX)) || (high && /auto|scroll/.test(overflowY));
  };
  const show = () => {
    for (const one of document.querySelectorAll("main :is(div, pre, ul, ol, section, aside, figure)"))
      if (!one.hasAttribute("tabindex") && scrolls(one)) one.tabIndex = 0;
  };
  const here = () => {  // in the menu, which is a strip on a phone and may be longer than the screen
    const nav = document.querySelector(".side nav"), current = nav?.querySelector("[aria-current]");
    if (!current) return;
    const box = nav.getBoundingClientRect(), at = current.getBoundingClientRect();
    if (at.left < box.left || at.right > box.right) nav.scrollLeft += at.left - box.left - 24;
    if (at.top < box.top || at.bottom > box.bottom) nav.scrollTop += at.top - box.top - box.height / 2;
  };
  // Who asks for older rows by keyboard goes on at the first of them: the button they pressed is gone.
  let above = null;
  document.addEventListener("click", (event) => { above = event.target.closest?.("a[hx-get]")?.closest(".more")?.previousElementSibling; });
  document.addEventListener("htmx:after:swap", () => {
    const row = above?.nextElementSibling;
    if (!row || document.activeElement !== document.body) return;
    above = null;
    const first = row.querySelector("a, button, summary, input");
    if (!first) row.tabIndex = -1;
    (first || row).focus({ preventScroll: true });
  });
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("DOMContentLoaded", here);
  document.addEventListener("htmx:after:swap", show);
  document.addEventListener("toggle", show, true);
  addEventListener("resize", show);
})();
