// What the page can do beyond being read: values under the pointer, baselines on and off, the table to the clipboard.
"use strict";
(() => {
  const say = (v) => v === null ? "–" : Math.abs(v) >= 1e7 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(2) : String(v);

  for (const panel of document.querySelectorAll(".panel")) {
    const source = panel.querySelector("script");
    if (!source) continue;
    const { box, x, log, name, lines } = JSON.parse(source.textContent), svg = panel.querySelector("svg");
    const reading = panel.closest(".panels").nextElementSibling, scale = log ? Math.log : (v) => v;
    const rule = document.createElementNS(svg.namespaceURI, "path");
    rule.setAttribute("class", "rule");
    svg.append(rule);
    const leave = () => { rule.removeAttribute("d"); reading.textContent = ""; };
    const move = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      if (at.x < box[0] || at.x > box[2] || at.y < box[1] || at.y > box[3]) return leave();
      const share = (at.x - box[0]) / (box[2] - box[0]), seen = [];
      const want = scale(x[0]) + share * (scale(x[1]) - scale(x[0]));
      let where = null;
      for (const [who, [xs, ys]] of Object.entries(lines)) {
        let best = -1, far = Infinity;
        xs.forEach((v, i) => { const d = Math.abs(scale(v) - want); if (d < far) { far = d; best = i; } });
        const step = Math.abs(scale(x[1]) - scale(x[0])) / 40;
        if (best < 0 || far > step) continue;
        where ??= xs[best];
        seen.push(`${who} ${say(ys[best])}`);
      }
      if (where === null) return leave();
      const left = box[0] + (scale(where) - scale(x[0])) / (scale(x[1]) - scale(x[0])) * (box[2] - box[0]);
      rule.setAttribute("d", `M${left} ${box[1]}V${box[3]}`);
      reading.textContent = `${name}: ${say(where)}   ${seen.join("   ")}`;
    };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointerleave", leave);
  }

  for (const bar of document.querySelectorAll(".switches")) {
    bar.hidden = false;
    for (const button of bar.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", on);
        for (const line of bar.parentElement.querySelectorAll(`[id^="${button.dataset.lines}"]`)) line.style.display = on ? "inline" : "none";
      });
    }
  }

  for (const bar of document.querySelectorAll(".copy")) {
    bar.hidden = false;
    bar.querySelector("button").addEventListener("click", async (event) => {
      const table = document.querySelector(event.target.dataset.copy);
      const cell = (c) => { const own = c.cloneNode(true); own.querySelectorAll("small").forEach((s) => s.remove()); return own.textContent.trim(); };
      const rows = [...table.rows].map((row) => [...row.cells].map(cell).join("\t")).join("\n");
      const status = bar.querySelector("[role=status]");
      try { await navigator.clipboard.writeText(rows); status.textContent = "copied"; }
      catch { getSelection().selectAllChildren(table); status.textContent = "selected: press Ctrl+C"; }
    });
  }
})();
