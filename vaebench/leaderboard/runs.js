"use strict";
// What is shown of one run when it is opened, and of two side by side. Texts of records are set as text, never as markup.
const runs = (() => {
  const TILES = 10, MOST = 6; // test images in a row of a picture, and those that are shown where two runs differ most
  const element = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const image = ({ name, src, width, height }, whose) =>
    element("img", { src, width, height, alt: `${name} of ${whose}`, decoding: "async", loading: "lazy" });
  const cell = (kind, text) => element("td", { className: kind }, text);
  const heading = (text) => element("th", { className: "words", scope: "row" }, text);
  const pairs = (list, entries) =>
    list.append(...Object.entries(entries).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));

  function figures({ name, value, error, unit, remark }) {
    const absent = element("td", { className: "words absent", colSpan: 3 }, remark);
    return element("tr", {}, heading(name), ...(remark ? [absent] : [cell("figure", value), cell("figure", error), cell("words", unit)]));
  }

  function plot(run, name, curve, colour) {
    const node = element("div", { className: "plot small", role: "img", ariaLabel: `${curve} during training` });
    Object.assign(node.dataset, { plot: "curve", run, curve, colour, name });
    return element("figure", {}, node, element("figcaption", {}, curve === "val/elbo" ? "val/elbo, the held-out bound" : curve));
  }

  // Fills a run's section the first time it is opened.
  function open(section) {
    if (section.querySelector(".details")) return;
    const run = plots.parse(section.id), whose = `${run.variant}, seed ${run.seed}`;
    const view = document.getElementById("run-template").content.cloneNode(true), find = (selector) => view.querySelector(selector);
    find(".pictures").append(...run.pictures.map((picture) =>
      element("figure", {}, image(picture, whose), element("figcaption", {}, picture.name))));
    find(".scroll").ariaLabel = `Metrics of ${whose}`;
    find(".metrics tbody").append(...run.metrics.map(figures));
    pairs(find(".facts-of-run"), run.facts);
    pairs(find(".hashes"), run.hashes);
    for (const name of ["command", "config", "collapse", "verdict"]) find(`.${name}`).textContent = run[name];
    find(".config-needed").hidden = !run.config_needed;
    find(".warnings").hidden = !run.warnings.length;
    find(".warnings ul").append(...run.warnings.map((warning) => element("li", {}, warning)));
    const names = Object.keys(run.curves).sort((a, b) => (b === "val/elbo") - (a === "val/elbo") || a.localeCompare(b));
    find(".curves").append(...names.map((name) => plot(section.id, run.variant, name, section.dataset.colour)));
    if (!names.length) find(".curves").append(element("p", { className: "note" }, "No curve was recorded."));
    section.append(view);
    plots.observe(section);
  }

  // Side by side --------------------------------------------------------------------------------------------------

  async function decoded(picture) {
    const image = element("img", { src: picture.src });
    await image.decode();
    return image;
  }

  // One row of tiles of a picture that has so many.
  function strip(image, row, rows, label) {
    const height = (image.naturalHeight - 2) / rows, width = image.naturalWidth;
    const canvas = element("canvas", { width, height: height + 2, role: "img", ariaLabel: label });
    canvas.getContext("2d").drawImage(image, 0, row * height, width, height + 2, 0, 0, width, height + 2);
    return canvas;
  }

  // Rows of test images, each over what A and B make of it.
  function triples(pictures, rows, names) {
    const groups = [];
    for (let row = 0; row < rows; row += 2) {
      const images = strip(pictures[0], row, rows, "test images");
      const made = pictures.map((image, i) => strip(image, row + 1, rows, `reconstructions by ${names[i]}`));
      groups.push(element("div", { className: "triple" }, letter("image"), images, letter("A"), made[0], letter("B"), made[1]));
    }
    return groups;
  }

  const letter = (text) => element("span", { className: "letter", ariaHidden: "true" }, text);

  // One tile of a picture, enlarged.
  function tile(image, index, row, rows, label) {
    const height = (image.naturalHeight - 2) / rows, width = (image.naturalWidth - 2) / TILES;
    const [wide, high] = [width - 2, height - 2], from = [2 + (index % TILES) * width, 2 + row * height]; // without the frame
    const canvas = element("canvas", { width: 2 * wide, height: 2 * high, role: "img", ariaLabel: label });
    const drawing = canvas.getContext("2d");
    drawing.imageSmoothingEnabled = false;
    drawing.drawImage(image, ...from, wide, high, 0, 0, 2 * wide, 2 * high);
    return canvas;
  }

  // The test images on which the two differ most, among those that are pictured: image, A, B and the difference of the score.
  function most(pictures, found, rows, names, { sign, decimals, unit }) {
    const [a, b] = found.map(({ scores }) => scores);
    const order = a.map((_, i) => i).filter((i) => i < b.length).sort((i, j) => Math.abs(a[j] - b[j]) - Math.abs(a[i] - b[i]));
    return order.slice(0, MOST).map((i) => {
      const row = 2 * Math.floor(i / TILES), difference = a[i] - b[i];
      const better = difference * sign > 0 ? "A" : "B", amount = Math.abs(difference).toFixed(decimals);
      return element("figure", { className: "most" },
        element("div", {}, tile(pictures[0], i, row, rows, `test image ${i}`),
          ...pictures.map((picture, which) => tile(picture, i, row + 1, rows, `test image ${i} by ${names[which]}`))),
        element("figcaption", {}, `image ${i}, A and B: ${better} is better by ${amount} ${unit}`));
    });
  }

  // The whole pictures of one name, A's and B's.
  function couple(name, pictures, names) {
    const shown = pictures.map((picture, i) => element("figure", {},
      picture ? image(picture, names[i]) : element("p", { className: "note" }, `${names[i]} has no such picture.`),
      element("figcaption", {}, `${"AB"[i]}: ${names[i]}`)));
    return [element("h4", {}, name), element("div", { className: "couple" }, ...shown)];
  }

  function both(a, b, names) {
    const [first, second] = [a, b].map(({ metrics }) => new Map(metrics.map((metric) => [metric.name, metric])));
    const shown = [...first.keys()].filter((name) => first.get(name).value !== "–" && second.get(name)?.value !== "–" && second.has(name));
    const rows = shown.map((name) => element("tr", {}, heading(name), cell("figure", first.get(name).value),
      cell("figure", second.get(name).value), cell("words", first.get(name).unit)));
    const head = ["metric", "A", "B", "unit"].map((text, i) =>
      element("th", { scope: "col", className: i % 3 ? "figure" : "words" }, text));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
    return element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: `Figures of ${names.join(" and ")}` }, table);
  }

  // Everything of two runs, given by their ids, that can stand side by side.
  async function compare(first, second, board) {
    const found = [first, second].map(plots.parse), names = found.map(({ variant, seed }) => `${variant}, seed ${seed}`);
    const pictures = found.map((run) => new Map(run.pictures.map((picture) => [picture.name, picture])));
    const same = found[0].shown !== null && found[0].shown === found[1].shown, shown = [];
    for (const name of new Set(pictures.flatMap((of) => [...of.keys()]))) {
      const pair = pictures.map((of) => of.get(name)), both = name === "reconstructions" && pair.every(Boolean);
      if (both && same) {
        const images = await Promise.all(pair.map(decoded)), differ = most(images, found, board.rows, names, board);
        if (differ.length) shown.push(element("h4", {}, "where they differ most, of the images that are pictured"),
          element("div", { className: "mosts" }, ...differ));
        shown.push(element("h4", {}, "reconstructions"), element("div", { className: "triples" }, ...triples(images, board.rows, names)));
        continue;
      }
      shown.push(...couple(name, pair, names));
      if (both) shown.push(element("p", { className: "note" },
        "These two pictures do not show the same test images, so they stand as they were recorded."));
    }
    if (!shown.length) shown.push(element("p", { className: "note" }, "Neither run recorded a picture."));
    return [...shown, element("h4", {}, "figures on all test images"), both(...found, names)];
  }

  return { open, compare, element };
})();
