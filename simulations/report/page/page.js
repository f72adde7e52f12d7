// Replaces the drawings by interactive ones, and lets the reader choose a request. Without it the page shows everything.
(function () {
  "use strict";
  let chosen = "";
  let observer = null;
  let drawing = null;
  const opened = new Map();
  const narrow = window.matchMedia("(max-width: 760px)");
  document.documentElement.classList.add("scripted"); // drawings alone are too wide to stand side by side

  async function unpacked(script) {
    const bytes = Uint8Array.from(atob(script.textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  // The library that draws is unpacked when the first chart comes near.
  function library() {
    drawing = drawing || unpacked(document.getElementById("library")).then((code) => {
      const script = document.createElement("script");
      script.textContent = code;
      document.head.append(script);
      script.remove();
    });
    return drawing;
  }

  async function draw(figure) {
    try {
      await library();
      const specs = JSON.parse(await unpacked(figure.querySelector("script.spec")));
      const options = { actions: false, renderer: "svg", tooltip: { theme: "light" }, logLevel: 1 };
      await window.vegaEmbed(figure.querySelector(".interactive"), narrow.matches ? specs.narrow : specs.wide, options);
      // The drawing is hidden from now on, and its text with it.
      figure.querySelector(".interactive").setAttribute("aria-label", figure.querySelector("img").alt);
      figure.classList.add("mounted");
    } catch {
      figure.classList.remove("mounted"); // the drawing stays
    }
  }

  function watchFigures() {
    if (observer) observer.disconnect();
    observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        observer.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "400px" });
    document.querySelectorAll("figure.chart").forEach((figure) => observer.observe(figure));
  }

  function shows(element) {
    if (!chosen) return true;
    if (element.dataset.request !== undefined) return element.dataset.request === chosen;
    const requests = JSON.parse(element.dataset.requests);
    return requests.length === 0 || requests.includes(chosen);
  }

  function choose(id) {
    chosen = id;
    document.querySelectorAll("main [data-request], main [data-requests]").forEach((element) => {
      element.toggleAttribute("data-out", !shows(element));
    });
  }

  function fillFilter() {
    const filter = document.querySelector(".filter");
    const select = filter.querySelector("select");
    const requests = [...document.querySelectorAll("#summary [data-request]")];
    while (select.options.length > 1) select.remove(1);
    for (const item of requests) select.add(new Option(item.querySelector("h3").textContent, item.dataset.request));
    filter.hidden = requests.length < 2;
    if (!requests.some((item) => item.dataset.request === chosen)) chosen = "";
    select.value = chosen;
    select.onchange = () => choose(select.value);
    choose(chosen);
  }

  function keepOpen() {
    document.querySelectorAll("main details[id]").forEach((details) => {
      if (opened.has(details.id)) details.open = opened.get(details.id);
      details.addEventListener("toggle", () => opened.set(details.id, details.open));
    });
  }

  // Called once the page is there, and again after the content of <main> was replaced.
  window.mountReport = function () {
    keepOpen();
    fillFilter();
    watchFigures();
  };

  narrow.addEventListener("change", watchFigures);
  window.mountReport();
})();
