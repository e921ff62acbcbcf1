"use strict";
// Charts in the colours of the page, a choice of theme, and a button that copies a command.
(() => {
  document.documentElement.classList.add("scripted");
  const theme = document.getElementById("theme"), THEME = "vaebench-theme";
  const data = JSON.parse(document.getElementById("data").textContent);

  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  const css = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const coloured = (value) => (Array.isArray(value) ? value.map(css) : css(value));

  function axis(title, log) {
    return {
      title: { text: title, standoff: 8 }, gridcolor: css("rule"), linecolor: css("muted"), tickcolor: css("muted"),
      ticks: "outside", ticklen: 4, zeroline: false, showline: true, automargin: true, nticks: 7,
      ...(log ? { type: "log", dtick: "D2" } : { exponentformat: "none" }),
    };
  }

  function draw(node) {
    const chart = data[node.id];
    const traces = chart.traces.map((trace) => ({
      ...trace,
      ...(trace.marker && { marker: { ...trace.marker, color: coloured(trace.marker.color) } }),
      ...(trace.line && { line: { ...trace.line, color: css(trace.line.color) } }),
    }));
    const family = getComputedStyle(document.documentElement).getPropertyValue("--sans").trim();
    const layout = {
      font: { family, size: 12, color: css("ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 12, t: 12, b: 44 }, xaxis: axis(chart.x, chart.log), yaxis: axis(chart.y, false),
      hovermode: "closest", showlegend: false,
      hoverlabel: { bgcolor: css("paper"), bordercolor: css("muted"), font: { color: css("ink") } },
    };
    Plotly.react(node, traces, layout, { displayModeBar: false, responsive: true });
    document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true"); // an image without a name
  }
  const drawAll = () => document.querySelectorAll(".plot").forEach(draw);

  function remembered(change) {
    try {
      return change(localStorage);
    } catch {
      return null; // a browser may forbid a file to remember
    }
  }
  theme.value = remembered((storage) => storage.getItem(THEME)) ?? "";
  const paint = () => {
    document.documentElement.dataset.theme = theme.value;
    drawAll();
  };
  theme.addEventListener("change", () => {
    remembered((storage) => storage.setItem(THEME, theme.value));
    paint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  paint();

  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent.trim());
      button.nextElementSibling.textContent = "copied";
    });
  }
})();
