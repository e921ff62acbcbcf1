"use strict";
(() => {
  document.documentElement.classList.add("scripted");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const minus = (text) => text.replace("-", "\u2212");

  // State: which view, and of a board what is sorted by, shown and chosen. All of it stands in the address.
  const KEYS = ["metric", "sort", "cols", "a", "b", "filter"];
  const state = { view: "index" };

  function write() {
    const query = new URLSearchParams(KEYS.filter((key) => state[key]).map((key) => [key, state[key]]));
    history.replaceState(null, "", `#${state.view}${query.size ? `?${query}` : ""}`);
  }

  // Sorting: what is absent stays last in both directions.
  const FALLING_FIRST = ["log_likelihood", "elbo", "gap", "active_units", "value"];
  const value = (row, index) => row.cells[index].dataset.sort;
  const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b, "en") : a - b);

  function order(header, to) {
    const table = header.closest("table"), body = table.tBodies[0], index = header.cellIndex, sign = to === "ascending" ? 1 : -1;
    all("th", table.tHead).forEach((th) => (th.ariaSort = th === header ? to : "none"));
    const present = [], absent = [];
    for (const row of body.rows) (value(row, index) === undefined ? absent : present).push(row);
    present.sort((a, b) => sign * compare(value(a, index), value(b, index)));
    body.append(...present, ...absent);
  }

  function sort(header) {
    const first = FALLING_FIRST.some((key) => header.classList.contains(key)) ? "descending" : "ascending";
    const to = header.ariaSort === first ? (first === "ascending" ? "descending" : "ascending") : first;
    order(header, to);
    if (!header.dataset.key) return;
    state.sort = `${to === "descending" ? "-" : ""}${header.dataset.key}`;
    write();
  }
  all(".sortable thead button").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"))));

  // Filtering: cards, rows of the tables, marks and lines of the plots, and runs that hold all words.
  const field = document.getElementById("filter"), shown = document.getElementById("shown");
  let pause = 0; // the plots follow when the reader stops typing

  function filter() {
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    all("[data-text]").forEach((item) => (item.hidden = !wanted.every((word) => item.dataset.text.toLowerCase().includes(word))));
    count();
    clearTimeout(pause);
    pause = setTimeout(plots.again, 200);
  }

  function count() {
    const rows = all(".current .ranking tbody tr, .current .card");
    shown.textContent = field.value.trim() ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown` : "";
  }
  field.addEventListener("input", () => {
    state.filter = field.value.trim();
    filter();
    write();
  });
  field.form.addEventListener("submit", (event) => event.preventDefault());

  // Columns: those that the reader chose, or as many as fit; the score and who has it are always there.
  const sheets = new Map();

  function columns(board) {
    const table = board.querySelector(".ranking"), frame = table.closest(".scroll"), heads = all("thead th", table);
    const sheet = sheets.get(board) ?? document.head.appendChild(document.createElement("style"));
    sheets.set(board, sheet);
    const show = (keep) => {
      const out = heads.filter((th) => !keep(th)).map((th) => `#${board.id} .ranking .${CSS.escape(th.dataset.key)}`);
      sheet.textContent = out.length ? `${out.join()} { display: none; }` : "";
      all(".chooser input", board).forEach((box) => (box.checked = keep(heads.find((th) => th.dataset.key === box.value))));
    };
    if (state.cols) {
      const chosen = state.cols.split("~");
      show((th) => th.dataset.level === "1" || chosen.includes(th.dataset.key));
      return;
    }
    for (let level = 4; level >= 1; level--) {
      show((th) => Number(th.dataset.level) <= level);
      if (frame.scrollWidth <= frame.clientWidth) return;
    }
  }

  function choose(board) {
    state.cols = all(".chooser input:checked", board).map((box) => box.value).join("~") || "-";
    columns(board);
    write();
  }
  all(".chooser input").forEach((box) => box.addEventListener("change", () => choose(box.closest(".board"))));
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => all(".board.current").forEach(columns), 100);
  });

  // Menus close by Escape, and by a click elsewhere.
  const menus = all(".chooser, .copier");
  document.addEventListener("click", ({ target }) => menus.forEach((menu) => menu.contains(target) || (menu.open = false)));
  document.addEventListener("keydown", ({ key, target }) => {
    const open = key === "Escape" && menus.find((menu) => menu.open && menu.contains(target));
    if (!open) return;
    open.open = false;
    open.querySelector("summary").focus();
  });

  async function copy(button) {
    const text = JSON.parse(document.getElementById(`copy-${button.dataset.copy}`).textContent);
    const said = button.closest(".tools").querySelector(".copied");
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a browser that lets no file write there
      const area = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.closest("details").open = false;
    said.textContent = `${button.textContent} copied`;
    setTimeout(() => (said.textContent = ""), 3000);
  }
  all("[data-copy]").forEach((button) => button.addEventListener("click", () => copy(button)));

  // The forest plot by another figure: means and the interval of each, without a verdict, which is that of the board's own figure alone.
  const forests = new WeakMap();

  function forest(board, key) {
    const figure = board.querySelector(".forest-figure");
    if (!figure) return;
    const marks = figure.querySelector(".marks"), scale = figure.querySelector(".scale .track"), axis = figure.querySelector(".axis");
    if (!forests.has(board)) forests.set(board, [[...marks.children], scale.innerHTML, axis.textContent]);
    const [items, ticks, words] = forests.get(board);
    figure.querySelector(".metric").value = key;
    const own = key === board.dataset.score;
    if (own) {
      marks.replaceChildren(...items);
      scale.innerHTML = ticks;
      axis.textContent = words;
      filter();
      return;
    }
    const { variants, directions } = plots.parse(board.id), sign = directions[key];
    const found = variants.filter(({ figures }) => figures[key]).map(({ name, kind, figures, runs: each }) =>
      ({ name, kind, id: each[0]?.id, alone: each.length === 1, mean: figures[key][0], half: 1.96 * (figures[key][1] ?? 0) }));
    found.sort((a, b) => sign * (b.mean - a.mean));
    found.forEach((one) => (one.difference = one.mean - found[0].mean));
    const reach = found.map((one) => Math.abs(one.difference) + one.half).sort((a, b) => a - b);
    const kept = reach[Math.min(reach.length - 1, Math.floor(0.6 * reach.length))] || reach.at(-1) || 1;
    const far = reach.at(-1) <= 2 * kept ? reach.at(-1) || 1 : kept;
    const [low, high] = sign > 0 ? [-1.05 * far, Math.max(0.06 * far, found[0].half)] : [-Math.max(0.06 * far, found[0].half), 1.05 * far];
    const at = (number) => (100 * (Math.min(Math.max(number, low), high) - low)) / (high - low);
    const texts = new Map(items.map((item) => [item.dataset.variant, item.dataset.text]));
    const bar = (kind, start, end) => Object.assign(document.createElement("i"), { className: kind, style: `left:${start}%;width:${end - start}%` });
    marks.replaceChildren(...found.map((one) => {
      const track = runs.element("span", { className: `track k-${one.kind}`, ariaHidden: "true" });
      if (one.half && one.difference - one.half < high && one.difference + one.half > low)
        track.append(bar("both", at(one.difference - one.half), at(one.difference + one.half)));
      const off = one.difference < low || one.difference > high;
      track.append(runs.element("i", { className: `dot${one.alone ? " hollow" : ""}${off ? " off" : ""}`, style: `left:${at(one.difference)}%` }));
      const item = runs.element("li", { className: "mark" }, runs.element("a", { className: "who", href: `#${one.id}` }, one.name), track,
        runs.element("span", { className: "value" }, minus(String(+one.mean.toPrecision(5)))));
      Object.assign(item.dataset, { text: texts.get(one.name) ?? one.name, variant: one.name });
      return item;
    }));
    scale.replaceChildren();
    const name = figure.querySelector(`option[value="${CSS.escape(key)}"]`).textContent;
    axis.textContent = `${name}: the mean of each and its own 95 % interval, without a verdict. ` +
      `For verdicts by this figure, run vaebench leaderboard with --metric ${key}`;
    filter();
  }
  all(".metric").forEach((select) => select.addEventListener("change", () => {
    state.metric = select.value === select.closest(".board").dataset.score ? "" : select.value;
    forest(select.closest(".board"), select.value);
    write();
  }));

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

  // What an address says: a view with its state, or a run or a footnote in one.
  function follow() {
    const [name, query = ""] = location.hash.slice(1).split("?");
    const target = document.getElementById(name) ?? document.getElementById("index"), view = target.closest(".view");
    if (!view) return; // such as the boards, to which one skips
    const given = new URLSearchParams(query), changed = view.id !== state.view || query;
    if (changed) {
      for (const key of KEYS) if (key !== "filter" || given.has(key)) state[key] = given.get(key) ?? "";
      state.view = view.id;
      if (given.has("filter")) field.value = state.filter;
    }
    all(".view").forEach((one) => one.classList.toggle("current", one === view));
    all("nav a").forEach((link) => (link.ariaCurrent = link.hash === `#${view.id}` ? "page" : null));
    if (changed && view.matches(".board")) restore(view);
    filter();
    if (target.matches("details.run")) opened(target);
    else if (target.id === "index") scrollTo(0, 0);
    else if (changed || target !== view) target.scrollIntoView();
  }

  function restore(board) {
    columns(board);
    forest(board, state.metric && board.querySelector(`.metric option[value="${CSS.escape(state.metric)}"]`) ? state.metric : board.dataset.score);
    const header = all(".ranking thead th", board).find((th) => th.dataset.key === (state.sort || "rank").replace("-", ""));
    if (header) order(header, state.sort?.startsWith("-") ? "descending" : "ascending");
    const chosen = board.querySelector(".compare");
    if (chosen) beside(chosen);
  }

  // A link to a run opens it.
  function opened(run) {
    if (run.hidden) {
      field.value = state.filter = "";
      filter();
    }
    run.closest("details.runs").open = run.open = true;
    runs.open(run);
    run.scrollIntoView();
    run.querySelector("summary").focus({ preventScroll: true });
  }
  performance.mark("sortable");

  // What follows reads data that stands below the scripts.
  document.addEventListener("DOMContentLoaded", () => {
    all("details.run").forEach((run) => run.addEventListener("toggle", () => run.open && runs.open(run)));
    plots.observe(document);
    addEventListener("hashchange", follow);
    document.addEventListener("click", ({ target }) => {
      const link = target.closest('a[href^="#run-"]');
      if (link && link.hash === location.hash) follow();
    });
    follow();
  });

  // Side by side: drawn when it comes near the screen and whenever another run is chosen.
  const pairs = new WeakMap();

  function beside(section) {
    const [a, b] = all("select", section), found = section.querySelector(".comparison"), board = plots.parse(section.dataset.board);
    const { variants } = board;
    if (!pairs.has(section)) {
      const options = () => variants.flatMap(({ name, runs: each }) =>
        each.map(({ id, seed }) => runs.element("option", { value: id }, `${name}, seed ${seed}`)));
      a.append(...options());
      b.append(...options());
      let asked = 0;
      const show = async () => {
        const turn = ++asked;
        const parts = await runs.compare(a.value, b.value, board);
        if (turn === asked) found.replaceChildren(...parts);
      };
      pairs.set(section, show);
      for (const [key, select] of [["a", a], ["b", b]]) select.addEventListener("change", () => {
        state[key] = select.value;
        write();
        show();
        plots.again();
      });
      plots.whenNear(section, show);
    }
    const known = new Set([...a.options].map((option) => option.value));
    const other = variants.find((variant, i) => i && variant.runs.length)?.runs[0] ?? variants[0].runs[1];
    const before = `${a.value} ${b.value}`;
    a.value = known.has(state.a) ? state.a : a.options[0].value;
    b.value = known.has(state.b) ? state.b : other.id;
    if (found.children.length && before !== `${a.value} ${b.value}`) pairs.get(section)();
  }
})();
