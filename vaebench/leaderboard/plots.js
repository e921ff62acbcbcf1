"use strict";
// The plots. Plotly is read when the first one is drawn. Names come from records: what it would read as markup is escaped.
const plots = (() => {
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const LEGEND = 10; // variants in colour; more would leave no room for the plot, and the pointer tells them
  const COLOURS = 8;
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const numbers = (values) => values.filter((v) => Number.isFinite(v));
  const parse = (id) => JSON.parse(document.getElementById(`data-${id}`).textContent);

  function plotly() {
    if (!window.Plotly) {
      const script = document.createElement("script");
      script.textContent = document.getElementById("plotly").textContent;
      document.head.append(script);
    }
    return window.Plotly;
  }

  // The colour that a name of page.css stands for in the theme of the moment.
  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  function css(name) {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  }
  // Variants that share a colour differ in their marks and lines.
  const colour = (index) => (index < 0 ? css("muted") : css(`c${index % COLOURS}`));
  const symbol = (index) => SYMBOLS[(index + Math.floor(index / COLOURS)) % SYMBOLS.length];
  const dash = (index) => DASHES[Math.floor(index / COLOURS) % DASHES.length];

  function axis(title) {
    return {
      title: { text: title, standoff: 8 }, gridcolor: css("rule"), linecolor: css("muted"), tickcolor: css("muted"),
      ticks: "outside", ticklen: 4, zeroline: false, showline: true, automargin: true, exponentformat: "none", nticks: 7,
    };
  }

  function layout(x, y) {
    const family = getComputedStyle(document.documentElement).getPropertyValue("--sans").trim();
    return {
      font: { family, size: 12, color: css("ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 12, t: 12, b: 44 }, xaxis: axis(x), yaxis: axis(y), hovermode: "closest", dragmode: "zoom",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemsizing: "constant" },
      hoverlabel: { bgcolor: css("paper"), bordercolor: css("muted"), font: { color: css("ink") } },
    };
  }

  const span = (values, pad) => {
    const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
    const margin = pad * (high - low || Math.abs(high) || 1);
    return [low - margin, high + margin];
  };

  // Lines of equal ELBO = −(rate + distortion), of slope −1, each labelled where it enters the frame at the left or the top.
  function isolines(plot, [x0, x1], [y0, y1]) {
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
    const step = steps.find((s) => (x1 + y1 - x0 - y0) / s <= 8) ?? 10000;
    const font = { size: 10, color: css("muted") }, line = { color: css("muted"), width: 1, dash: "dot" };
    plot.shapes = [];
    plot.annotations = [];
    for (let i = Math.ceil((x0 + y0) / step); i * step < x1 + y1; i++) {
      const sum = i * step, left = sum - x0 <= y1, x = left ? x0 : sum - y1, y = left ? sum - x0 : y1;
      plot.shapes.push({ type: "line", layer: "below", x0, x1, y0: sum - x0, y1: sum - x1, line });
      const text = `ELBO −${+sum.toFixed(1)}`, anchor = { xanchor: "left", yanchor: left ? "bottom" : "top" };
      if (x < x1 - 0.12 * (x1 - x0)) plot.annotations.push({ x, y, text, showarrow: false, font, ...anchor });
    }
  }

  // Every run that the filter keeps, with the name of its variant. In colour and in the legend are the variants of the two runs that are compared
  // and the first of the others; the rest is one grey trace, which the pointer tells apart.
  const kept = ({ id }) => !document.getElementById(id).hidden;
  const chosen = (id) => [...document.querySelectorAll(`.compare[data-board="${id}"] select`)].map((select) => select.value);
  function runs(board, id) {
    const two = chosen(id), left = board.variants.filter((variant) => variant.runs.some(kept));
    const first = left.filter((variant) => variant.runs.some((run) => two.includes(run.id)));
    const places = new Set([...first, ...left.filter((variant) => !first.includes(variant))].slice(0, LEGEND));
    const picked = left.filter((variant) => places.has(variant));
    return left.flatMap((variant) => {
      const { name, runs } = variant, colour = picked.indexOf(variant);
      const group = colour < 0 ? "the others" : `: ${name}`;
      return runs.filter(kept).map((run) => ({ ...run, name, colour, group, label: `${plain(name)}, seed ${plain(run.seed)}` }));
    });
  }

  const grouped = (items) => [...Map.groupBy(items, ({ group }) => group).values()];

  function plane(board, id) {
    const known = runs(board, id).filter((run) => Number.isFinite(run.rate) && Number.isFinite(run.distortion));
    const traces = grouped(known).sort(([a], [b]) => (b.colour < 0) - (a.colour < 0)).map((group) => ({
      type: "scatter", mode: "markers", name: group[0].colour < 0 ? "the others" : plain(group[0].name), x: group.map((run) => run.rate),
      y: group.map((run) => run.distortion), customdata: group.map((run) => run.id),
      text: group.map(({ label }) => label),
      marker: group[0].colour < 0 ? { color: colour(-1), symbol: "circle", size: 6, opacity: 0.45 }
        : { color: colour(group[0].colour), symbol: symbol(group[0].colour), size: 9, opacity: 0.9 },
      hovertemplate: "%{text}<br>rate %{x:.2f}<br>distortion %{y:.2f}<extra></extra>",
    }));
    const plot = layout("rate, nats", "distortion, nats");
    if (known.length) {
      plot.xaxis.range = span(known.map((run) => run.rate), 0.15);
      plot.yaxis.range = span(known.map((run) => run.distortion), 0.15);
      isolines(plot, plot.xaxis.range, plot.yaxis.range);
      traces.unshift({
        type: "scatter", mode: "lines", name: "Pareto front", x: board.front.map(([rate]) => rate),
        y: board.front.map(([, distortion]) => distortion), line: { color: css("ink"), width: 1.25 }, hoverinfo: "skip",
      });
    }
    return [traces, plot];
  }

  function curves(items, title, named) {
    const traces = grouped(items.filter(({ bound }) => bound)).map((group) => ({
      type: "scatter", mode: "lines", name: plain(group[0].name), showlegend: named, connectgaps: false,
      x: group.flatMap(({ bound }) => [...bound.step, null]), y: group.flatMap(({ bound }) => [...bound.value, null]),
      customdata: group.flatMap(({ bound, id }) => [...bound.step, null].map(() => id)),
      text: group.flatMap(({ bound, label }) => [...bound.step, null].map(() => label)),
      line: { color: colour(group[0].colour), dash: named ? dash(group[0].colour) : "solid", width: 1.5 },
      hovertemplate: "%{text}<br>step %{x}<br>%{y:.4~g}<extra></extra>",
    }));
    const plot = layout("step", title);
    const late = numbers(items.flatMap(({ bound }) =>
      bound ? bound.value.filter((_, i) => bound.step[i] >= 0.1 * bound.step.at(-1)) : []));
    if (late.length) plot.yaxis.range = span(late, 0.06);
    return [traces, plot];
  }

  function curve({ run, curve, colour, name }) {
    const { seed, curves: all } = parse(run);
    const title = curve === "val/elbo" ? "held-out ELBO, nats" : curve;
    const label = `${plain(name)}, seed ${plain(seed)}`;
    return curves([{ id: run, name, label, colour: Number(colour), group: run, bound: all[curve] }], title, false);
  }

  const bounds = (board, id) => curves(runs(board, id).filter((run) => run.colour >= 0), "held-out ELBO, nats", true);

  const FIGURES = {
    plane: ({ board }) => plane(parse(board), board),
    bounds: ({ board }) => bounds(parse(board), board),
    curve,
  };

  function draw(node) {
    const [traces, plot] = FIGURES[node.dataset.plot](node.dataset), again = node.classList.contains("js-plotly-plot");
    if (!traces.length && !again) {
      node.textContent = "Nothing to draw: no run has these figures.";
      node.classList.add("note", "empty");
      return;
    }
    plot.showlegend = traces.some((trace) => trace.showlegend !== false);
    plotly().react(node, traces, plot, { displayModeBar: false, responsive: true });
    document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true"); // an image of Plotly's without a name
    if (!again && node.dataset.plot !== "curve") node.on("plotly_click", ({ points }) => {
      location.hash = points[0].customdata;
      dispatchEvent(new Event("hashchange")); // also where it is the run that was opened last
    });
  }

  // What takes time is done when it comes near the screen.
  const waiting = new WeakMap();
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      setTimeout(waiting.get(target), 0, target); // one after another, so that each is seen when it is done
    }
  }, { rootMargin: "200px" });

  function whenNear(node, work) {
    waiting.set(node, work);
    near.observe(node);
  }
  const observe = (within) => within.querySelectorAll(".plot").forEach((node) => whenNear(node, draw));
  const again = () => document.querySelectorAll(".current .js-plotly-plot").forEach(draw);
  return { observe, again, parse, whenNear };
})();
