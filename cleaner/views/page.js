"use strict";
{
  const byId = (id) => document.getElementById(id);
  const sections = [...document.querySelectorAll("article")].map((article) => ({
    article,
    details: article.querySelector("details"),
    rows: [...article.querySelectorAll("tbody tr")].map((row) => ({
      row,
      plan: row.className,
      // A title has the whole of what the cell cuts.
      text: [row.textContent, ...[...row.querySelectorAll("[title]")].map((one) => one.title)].join(" ").toLowerCase(),
    })),
  }));
  const total = sections.reduce((sum, section) => sum + section.rows.length, 0);
  // What a search has opened is closed again after it.
  const opened = new Set();

  function apply() {
    const plan = document.querySelector("[name=plan]:checked").value;
    const words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { article, details, rows } of sections) {
      let matches = 0;
      for (const one of rows) {
        const isShown = (!plan || one.plan === plan) && words.every((word) => one.text.includes(word));
        one.row.hidden = !isShown;
        matches += isShown;
      }
      shown += matches;
      article.hidden = matches === 0 && Boolean(plan || words.length);
      if (!details) continue;
      if (words.length && matches && !details.open) {
        details.open = true;
        opened.add(details);
      } else if (!words.length && opened.delete(details)) {
        details.open = false;
      }
    }
    byId("shown").value = `${shown.toLocaleString("en")} of ${total.toLocaleString("en")} shown`;
    byId("none").hidden = shown > 0 || total === 0;
  }

  byId("filter").addEventListener("input", apply);
  // For browsers that do not print what is folded, whatever the stylesheet says.
  addEventListener("beforeprint", () => sections.forEach(({ details }) => details && (details.open = true)));
  byId("filter").hidden = total === 0;
  document.documentElement.classList.add("scripted");
  // A browser may have restored what was typed before a reload.
  apply();
}
