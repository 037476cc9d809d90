// The source of exported cells can be folded on all pages at once; the choice is remembered.
document.addEventListener("DOMContentLoaded", () => {
  const sources = [...document.querySelectorAll("details.source[open]")];
  const made = document.querySelector("p.made");
  if (!sources.length || !made) return;
  const remember = (value) => { try { localStorage.setItem("sources", value); } catch {} };
  const button = made.appendChild(document.createElement("button"));
  const set = (open) => {
    sources.forEach((s) => (s.open = open));
    button.textContent = open ? "Fold the source" : "Show the source";
    button.setAttribute("aria-pressed", String(!open));
  };
  button.className = "sources";
  button.onclick = () => { const open = !sources.some((s) => s.open); set(open); remember(open ? "open" : "folded"); };
  let kept = null;
  try { kept = localStorage.getItem("sources"); } catch {}
  set(kept !== "folded");
});

// For readers who hear the page or move by keyboard: levels of captions, names of pictures, boxes that scroll.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[role=heading]:not([aria-level])").forEach((e) => e.setAttribute("aria-level", "2"));
  document.querySelectorAll("article img:not([alt])").forEach((e) => (e.alt = "picture drawn by the code above it"));
  const scrolls = (e) => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight;
  const mark = () => document.querySelectorAll("article pre, article .cell_output, article .table-wrapper")
    .forEach((e) => scrolls(e) ? e.setAttribute("tabindex", "0") : e.removeAttribute("tabindex"));
  mark();
  addEventListener("load", mark);
  addEventListener("resize", mark);
});
