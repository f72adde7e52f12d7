// Follows the run: puts new results into the page without loading it again, and says how the run goes.
(function () {
  "use strict";
  const known = document.querySelector('meta[name="live-version"]');
  const main = document.querySelector("main");
  const bar = document.createElement("p");
  bar.className = "live";
  bar.setAttribute("role", "status");
  bar.style.cssText =
    "position:fixed;right:0;bottom:0;z-index:9;margin:0;padding:.4rem .8rem;max-width:100vw;box-sizing:border-box;" +
    "background:#1b1b1b;color:#fff;font:14px/1.4 system-ui,sans-serif;border-top-left-radius:6px;overflow-wrap:anywhere";
  document.body.append(bar);
  const style = document.createElement("style");
  style.textContent = "@media print { .live { display: none } }";
  document.head.append(style);
  let over = false;

  function say(state, text) {
    bar.dataset.state = state;
    bar.textContent = text;
  }

  // The part that is in view stays in view, whatever grows above it.
  function anchor() {
    const seen = [...main.querySelectorAll("[id]")].filter((element) => element.getBoundingClientRect().top <= 1);
    const last = seen[seen.length - 1];
    return last ? { id: last.id, top: last.getBoundingClientRect().top } : null;
  }

  function replace(html) {
    const place = anchor();
    const left = [...main.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
    main.innerHTML = html;
    window.mountReport();
    [...main.querySelectorAll(".scroll")].forEach((element, index) => { element.scrollLeft = left[index] || 0; });
    const now = place && document.getElementById(place.id);
    if (now) window.scrollBy({ top: now.getBoundingClientRect().top - place.top, behavior: "instant" });
  }

  const events = new EventSource("/events?from=" + encodeURIComponent(known ? known.content : ""));
  events.addEventListener("open", () => { if (!over) say("running", "running"); });
  events.addEventListener("report", (event) => replace(JSON.parse(event.data).main));
  events.addEventListener("progress", (event) => say("running", "running: " + JSON.parse(event.data).text));
  events.addEventListener("end", (event) => {
    const told = JSON.parse(event.data);
    over = true;
    say("finished", told.text);
    if (told.closes) events.close();
  });
  events.addEventListener("error", () => {
    if (!over) say("lost", "connection lost; this page shows what came before");
  });
  say("waiting", "the run begins");
})();
