// A one-time link carries its code behind the #, which browsers send to nobody. It is sent from here
// at once, unless somebody is signed in already: then a link of others must not make them another.
(() => {
  const take = () => {
    const code = new URLSearchParams(location.hash.slice(1)).get("code");
    const form = document.getElementById("code-form");
    if (!code || !form) return;
    history.replaceState(null, "", location.pathname + location.search);
    form.elements.code.value = code;
    form.closest("details").open = true;
    if ("submit" in form.dataset) form.requestSubmit();
    else form.elements.code.focus();
  };
  addEventListener("DOMContentLoaded", take);
  addEventListener("hashchange", take);
})();
