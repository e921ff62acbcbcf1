"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const boards = JSON.parse(document.getElementById("plots").textContent);

  // Sorting: what is absent stays last in both directions.
  const FALLING_FIRST = ["log_likelihood", "elbo", "gap", "active_units"];
  const value = (row, index) => row.children[index].dataset.sort;
  const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);

  function sort(header) {
    const table = header.closest("table"), body = table.tBodies[0], index = header.cellIndex;
    const first = FALLING_FIRST.some((key) => header.classList.contains(key)) ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    all("th", table.tHead).forEach((th) => th.setAttribute("aria-sort", th === header ? order : "none"));
    const present = [], absent = [];
    for (const row of body.rows) (value(row, index) === undefined ? absent : present).push(row);
    present.sort((a, b) => sign * compare(value(a, index), value(b, index)));
    body.append(...present, ...absent);
  }
  all("table.ranking thead button").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"))));

  // Filtering: rows of the tables and runs below them.
  const field = document.getElementById("filter"), shown = document.getElementById("shown");

  function filter() {
    const wanted = field.value.trim().toLowerCase();
    all("[data-text]").forEach((item) => (item.hidden = !item.dataset.text.toLowerCase().includes(wanted)));
    const rows = all("table.ranking tbody tr");
    shown.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown` : "";
  }
  field.addEventListener("input", filter);
  field.form.addEventListener("submit", (event) => event.preventDefault());
  filter();

  // A link to a run opens it.
  function open() {
    const target = document.getElementById(location.hash.slice(1));
    if (target?.matches("details")) target.open = true;
  }
  window.addEventListener("hashchange", open);

  // Plots. Names come from records: what Plotly would read as markup is taken out of them.
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down"];
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const colour = (index) => css(`c${index % 8}`);
  const numbers = (values) => values.filter((v) => Number.isFinite(v));

  function axis(title) {
    return {
      title: { text: title, standoff: 8 }, gridcolor: css("rule"), linecolor: css("muted"), tickcolor: css("muted"),
      ticks: "outside", ticklen: 4, zeroline: false, showline: true, automargin: true, exponentformat: "none",
    };
  }

  function layout(x, y) {
    return {
      font: { family: css("sans"), size: 12, color: css("ink") }, paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 12, t: 12, b: 44 }, xaxis: axis(x), yaxis: axis(y),
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemsizing: "constant" }, hovermode: "closest",
      hoverlabel: { bgcolor: css("paper"), bordercolor: css("muted"), font: { color: css("ink") } },
    };
  }

  const span = (values, pad) => {
    const low = Math.min(...values), high = Math.max(...values), margin = pad * (high - low || Math.abs(high) || 1);
    return [low - margin, high + margin];
  };

  // Lines of equal ELBO = −(rate + distortion), each labelled where it enters the frame at the left or the top.
  function isolines(plot, [x0, x1], [y0, y1]) {
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((s) => (x1 + y1 - x0 - y0) / s <= 8) ?? 10000;
    plot.shapes = [];
    plot.annotations = [];
    for (let sum = Math.ceil((x0 + y0) / step) * step; sum < x1 + y1; sum += step) {
      const line = { color: css("muted"), width: 1, dash: "dot" };
      plot.shapes.push({ type: "line", layer: "below", x0, x1, y0: sum - x0, y1: sum - x1, line });
      const left = sum - x0 <= y1, font = { size: 10, color: css("muted") };
      const x = left ? x0 : sum - y1, y = left ? sum - x0 : y1;
      if (x < x1) plot.annotations.push({ x, y, text: `ELBO −${sum}`, showarrow: false, font, xanchor: "left", yanchor: left ? "bottom" : "top" });
    }
  }

  function plane(board) {
    const points = board.variants.map((variant) => {
      const runs = variant.runs.filter((run) => Number.isFinite(run.rate) && Number.isFinite(run.distortion));
      return {
        type: "scatter", mode: "markers", name: plain(variant.name), x: runs.map((run) => run.rate),
        y: runs.map((run) => run.distortion), customdata: runs.map((run) => run.id),
        text: runs.map((run) => `${plain(variant.name)}, seed ${plain(run.seed)}`),
        marker: { color: colour(variant.colour), symbol: SYMBOLS[variant.colour % 8], size: 9, opacity: 0.85 },
        hovertemplate: "%{text}<br>rate %{x:.2f}<br>distortion %{y:.2f}<extra></extra>",
      };
    }).filter((trace) => trace.x.length);
    const plot = layout("rate, nats", "distortion, nats");
    if (points.length) {
      plot.xaxis.range = span(points.flatMap((trace) => trace.x), 0.15);
      plot.yaxis.range = span(points.flatMap((trace) => trace.y), 0.15);
      isolines(plot, plot.xaxis.range, plot.yaxis.range);
    }
    return [points, plot];
  }

  function curves(chosen) {
    const traces = chosen.filter(({ run }) => run.bound).map(({ name, colour: index, run, first }) => ({
      type: "scatter", mode: "lines", name: plain(name), legendgroup: String(index), showlegend: first,
      x: run.bound.step, y: run.bound.value, line: { color: colour(index), width: 1.5 }, customdata: run.bound.step.map(() => run.id),
      hovertemplate: `${plain(name)}, seed ${plain(run.seed)}<br>step %{x}<br>%{y:.2f} nats<extra></extra>`,
    }));
    const plot = layout("step", "held-out ELBO, nats");
    const late = traces.flatMap((t) => t.y.filter((_, i) => t.x[i] >= 0.1 * t.x[t.x.length - 1]));
    if (numbers(late).length) plot.yaxis.range = span(numbers(late), 0.06);
    return [traces, plot];
  }

  const runs = (board) => board.variants.flatMap(({ name, colour, runs }) => runs.map((run, i) => ({ name, colour, run, first: !i })));
  const everyRun = new Map(boards.flatMap((board) => runs(board).map((item) => [item.run.id, item])));

  const FIGURES = {
    plane: (node) => plane(boards[node.dataset.board]),
    bounds: (node) => curves(runs(boards[node.dataset.board])),
    bound: (node) => curves([{ ...everyRun.get(node.dataset.run), first: false }]),
  };

  function draw(node) {
    const [traces, plot] = FIGURES[node.dataset.plot](node);
    if (!traces.length) {
      node.textContent = "Nothing to draw: no run has these figures.";
      node.classList.add("note");
      return;
    }
    const named = traces.filter((trace) => trace.showlegend !== false).length;
    plot.showlegend = named > 0 && named <= 16; // more would leave no room for the plot; the pointer names them
    const again = node.classList.contains("js-plotly-plot");
    Plotly.react(node, traces, plot, { displayModeBar: false, responsive: true });
    if (!again) node.on("plotly_click", ({ points }) => (location.hash = points[0].customdata));
  }

  // Drawn when it comes near the screen, and a run's when it is opened.
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      draw(target);
    }
  }, { rootMargin: "600px" });
  all(".plot").forEach((node) => near.observe(node));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => all(".js-plotly-plot").forEach(draw));
  open();
})();
