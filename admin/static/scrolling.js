// Texts and tables that scroll inside a page scroll by keyboard too (WCAG 2.1.1).
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
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("htmx:after:swap", show);
  document.addEventListener("toggle", show, true);
  addEventListener("resize", show);
})();
