"use strict";
(() => {
  document.documentElement.classList.add("scripted");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Sorting: what is absent stays last in both directions.
  const FALLING_FIRST = ["log_likelihood", "elbo", "gap", "active_units", "value"];
  const value = (row, index) => row.cells[index].dataset.sort;
  const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b, "en") : a - b);

  function sort(header) {
    const table = header.closest("table"), body = table.tBodies[0], index = header.cellIndex;
    const first = FALLING_FIRST.some((key) => header.classList.contains(key)) ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.ariaSort === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    all("th", table.tHead).forEach((th) => (th.ariaSort = th === header ? order : "none"));
    const present = [], absent = [];
    for (const row of body.rows) (value(row, index) === undefined ? absent : present).push(row);
    present.sort((a, b) => sign * compare(value(a, index), value(b, index)));
    body.append(...present, ...absent);
  }
  all(".sortable thead button").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"))));

  // Filtering: rows of the tables, marks and lines of the plots, and runs that hold all words.
  const field = document.getElementById("filter"), shown = document.getElementById("shown");

  let pause = 0; // the plots follow when the reader stops typing

  function filter() {
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const items = all("[data-text]"), rows = all(".ranking tbody tr");
    items.forEach((item) => (item.hidden = !wanted.every((word) => item.dataset.text.toLowerCase().includes(word))));
    shown.textContent = wanted.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown` : "";
    clearTimeout(pause);
    pause = setTimeout(plots.again, 200);
  }
  field.addEventListener("input", filter);
  field.form.addEventListener("submit", (event) => event.preventDefault());

  // Colours: the system's unless the reader chose; a browser may forbid a file to remember it.
  const theme = document.getElementById("theme"), THEME = "vaebench-theme";

  function remembered(change) {
    try {
      return change(localStorage);
    } catch {
      return null;
    }
  }

  function paint() {
    document.documentElement.dataset.theme = theme.value;
    plots.again();
  }
  theme.value = remembered((storage) => storage.getItem(THEME)) ?? "";
  document.documentElement.dataset.theme = theme.value;
  theme.addEventListener("change", () => {
    remembered((storage) => storage.setItem(THEME, theme.value));
    paint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  if (field.value) filter();
  performance.mark("sortable");

  // What follows reads data that stands below the scripts.
  document.addEventListener("DOMContentLoaded", () => {
    all("details.run").forEach((run) => run.addEventListener("toggle", () => run.open && runs.open(run)));
    plots.observe(document);

    // A link to a run opens it.
    function follow() {
      const target = document.getElementById(location.hash.slice(1));
      if (!target?.matches("details.run")) return;
      if (target.hidden) {
        field.value = "";
        filter();
      }
      target.closest("details.runs").open = target.open = true;
      runs.open(target);
      target.scrollIntoView();
      target.querySelector("summary").focus({ preventScroll: true });
    }
    addEventListener("hashchange", follow);
    all(".ranking th.variant a").forEach((link) => link.addEventListener("click", () => link.hash === location.hash && follow()));
    follow();

    all("section.compare").forEach(beside);
  });

  // Side by side: drawn when it comes near the screen and whenever another run is chosen.
  function beside(section) {
    const [a, b] = all("select", section), found = section.querySelector(".comparison");
    const { variants, rows } = plots.parse(section.dataset.board);
    const options = () => variants.flatMap(({ name, runs: each }) =>
      each.map(({ id, seed }) => runs.element("option", { value: id }, `${name}, seed ${seed}`)));
    a.append(...options());
    b.append(...options());
    b.value = (variants[1]?.runs[0] ?? variants[0].runs[1]).id;
    let asked = 0;

    async function show() {
      const turn = ++asked;
      const parts = await runs.compare(a.value, b.value, rows);
      if (turn === asked) found.replaceChildren(...parts);
    }
    a.addEventListener("change", show);
    b.addEventListener("change", show);
    plots.whenNear(section, show);
  }
})();
