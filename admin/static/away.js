// What a page asks for by itself may fail: then it says so, keeps what it shows, and goes on asking.
(() => {
  const place = document.getElementById("away");
  if (!place) return;

  const say = (words) => {
    if (place.textContent !== words) place.textContent = words;
    place.hidden = !words;
  };

  const wordsOf = (page) => {
    const made = document.createElement("template");
    made.innerHTML = page ?? "";
    return made.content.querySelector(".problem > p:not(.code)")?.textContent.trim();
  };

  document.addEventListener("htmx:after:request", ({ detail }) => {
    if (detail.ctx.response.status < 400) say("");
  });
  document.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
    const why = wordsOf(ctx.text) ?? `The service answered with ${ctx.response.status}.`;
    say(ctx.response.status < 500 ? why : `${why} What you see may be old.`);
  });
  document.addEventListener("htmx:error", ({ detail }) => {
    if (detail.error instanceof TypeError) say("The service does not answer. What you see may be old.");
  });
})();
