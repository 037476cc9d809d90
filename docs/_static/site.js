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
