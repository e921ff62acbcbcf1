"use strict";
(async () => {
  document.documentElement.classList.add("scripted");
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const [channels, height, width] = facts.shape;
  const canvas = document.getElementById("image"), how = document.getElementById("how");
  const sliders = facts.units.map((unit) => document.getElementById(`unit-${unit.number}`));
  const starts = [...document.querySelectorAll(".start")], labels = [...document.querySelectorAll(".label")];
  const pen = canvas.getContext("2d");
  [canvas.width, canvas.height] = [width, height];
  let start = 0, moved = 0, label = null;

  function say(slider) {
    slider.nextElementSibling.value = Number(slider.value).toFixed(2).replace("-", "\u2212");
  }

  /** Decodes with a label from now on. */
  function choose(chosen) {
    label = chosen;
    labels.forEach((button) => (button.ariaPressed = String(Number(button.value) === label)));
  }

  /** Puts all sliders where the code of the starting image is, and takes its label. */
  function reset() {
    choose(facts.labels?.[start] ?? null);
    starts.forEach((button, i) => (button.ariaPressed = String(i === start)));
    sliders.forEach((slider, i) => {
      slider.value = facts.starts[start][facts.units[i].number];
      say(slider);
    });
  }

  async function unpacked(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** A function that decodes the code that the sliders show, by onnxruntime-web. */
  async function decoding() {
    const script = await unpacked(RUNTIME["ort.wasm.bundle.min.mjs"]);
    const ort = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await unpacked(RUNTIME["ort-wasm-simd-threaded.wasm"]);
    const session = await ort.InferenceSession.create(await unpacked(DECODER));
    return async () => {
      const z = Float32Array.from(facts.starts[start]);
      sliders.forEach((slider, i) => (z[facts.units[i].number] = Number(slider.value)));
      const inputs = { z: new ort.Tensor("float32", z, [1, ...facts.latent]) };
      if (label !== null) inputs.y = new ort.Tensor("int64", [BigInt(label)], [1]);
      const { x } = await session.run(inputs);
      const image = pen.createImageData(width, height), area = width * height;
      for (let i = 0; i < area; i++) {
        for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round(255 * x.data[(channels === 3 ? c : 0) * area + i]);
        image.data[4 * i + 3] = 255;
      }
      pen.putImageData(image, 0, 0);
    };
  }

  /** A function that shows the nearest frame of the unit that was moved last; all others go back. */
  async function leafing() {
    document.getElementById("labels")?.remove(); // frames have the labels of their images
    const strips = await Promise.all(facts.units.map(async (unit) => {
      const strip = new Image();
      strip.src = `unit-${unit.number}.png`;
      await strip.decode();
      return strip;
    }));
    return async () => {
      const { number, centre, sd } = facts.units[moved], value = Number(sliders[moved].value);
      reset();
      sliders[moved].value = value;
      say(sliders[moved]);
      const stop = Math.round(((value - centre) / sd / facts.reach + 1) / 2 * (facts.stops - 1));
      const left = Math.min(Math.max(stop, 0), facts.stops - 1) * width;
      pen.drawImage(strips[moved], left, start * height, width, height, 0, 0, width, height);
    };
  }

  let draw;
  try {
    draw = await decoding();
    how.textContent = "Decoded in this page by onnxruntime-web.";
  } catch (error) {
    draw = await leafing();
    const why = typeof RUNTIME === "undefined" ? "" : ` (onnxruntime-web: ${error.message})`;
    how.textContent = `One unit at a time, as the nearest of ${facts.stops} images that were decoded before${why}.`;
  }

  let busy = false, again = false;
  async function show() {
    if (busy) return void (again = true);
    busy = true;
    do {
      again = false;
      await draw();
    } while (again);
    busy = false;
    document.documentElement.dataset.shown = Number(document.documentElement.dataset.shown ?? 0) + 1;
  }

  sliders.forEach((slider, i) => slider.addEventListener("input", () => {
    moved = i;
    say(slider);
    show();
  }));
  starts.forEach((button, i) => button.addEventListener("click", () => {
    start = i;
    reset();
    show();
  }));
  labels.forEach((button) => button.addEventListener("click", () => {
    choose(Number(button.value));
    show();
  }));
  reset();
  await show();
})();
