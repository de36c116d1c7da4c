// The controls of the page. Everything that is shown is a function of (seed, index, class, number of steps).
"use strict";

const at = (id) => document.getElementById(id);
const state = { model: null, drawn: [], chosen: 0, job: 0 };

function show(canvas, x) {
  const [channels, height, width] = state.model.facts.shape, pixels = state.model.pixels(x), n = height * width;
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < n; i++)
    for (let c = 0; c < 4; c++)
      image.data[4 * i + c] = c === 3 ? (channels === 4 ? pixels[3 * n + i] : 255) : pixels[(channels > 2 ? c : 0) * n + i];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function showStep() {
  const path = state.drawn[state.chosen];
  if (!path || !path.length) return;
  at("place").max = path.length - 1;
  const { z, x, step, cond } = path[at("place").value];
  show(at("latent"), z);
  show(at("estimate"), x);
  const where = step ? `t = ${step.t}, log SNR ${step.log_snr.toFixed(2)}` : "t = 0, the sample";
  const drawn = cond === null ? "" : `; ${state.model.facts.class_word} ${state.model.facts.class_names[cond] ?? cond}`;
  at("level").value = `Sample ${state.chosen}: step ${at("place").value} of ${path.length - 1}, ${where}${drawn}`;
}

function choose(index) {
  state.chosen = index;
  [...at("samples").children].forEach((one, k) => one.setAttribute("aria-pressed", String(k === index)));
  const path = state.drawn[index];
  if (path) {
    at("place").max = path.length - 1;
    at("place").value = path.length - 1;
    showStep();
  }
}

function frames(number) {
  at("samples").replaceChildren(...Array.from({ length: number }, (_, k) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    button.type = "button";
    button.setAttribute("aria-label", `Sample ${k}`);
    [, canvas.height, canvas.width] = state.model.facts.shape;
    button.append(canvas);
    button.addEventListener("click", () => choose(k));
    return button;
  }));
}

async function draw() {
  const job = ++state.job, seed = Number(at("seed").value), count = Number(at("steps").value);
  if (!at("seed").value || !Number.isSafeInteger(seed)) {
    at("status").textContent = "The seed must be a whole number.";
    return;
  }
  const number = Number(at("number").value), cond = at("class") && at("class").value !== "" ? Number(at("class").value) : null;
  const begun = performance.now();
  state.drawn = [];
  frames(number);
  choose(0);
  document.body.dataset.state = "busy";
  for (let index = 0; index < number; index++) {
    const path = [];
    for (const one of state.model.steps(seed, index, count, cond)) {
      path.push(one);
      await new Promise((resume) => setTimeout(resume)); // lets the page answer
      if (job !== state.job) return;
    }
    state.drawn[index] = path;
    show(at("samples").children[index].firstChild, path.at(-1).x);
    if (index === state.chosen) choose(index);
    at("status").textContent = `${index + 1} of ${number} samples of seed ${seed}, ${((performance.now() - begun) / 1000 / (index + 1)).toFixed(2)} s each`;
    if (index === 0) document.body.dataset.first = String(performance.now());
  }
  document.body.dataset.state = "ready";
}

(async () => {
  try {
    state.model = await loaded(JSON.parse(at("model").textContent), at("weights").textContent);
  } catch (error) {
    at("status").textContent = `The model cannot be read: ${error.message}`;
    throw error;
  }
  at("weights").remove();
  at("form").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  for (const id of ["seed", "number", "class", "steps"]) at(id)?.addEventListener("change", draw);
  at("new").addEventListener("click", () => { at("seed").value = Number(at("seed").value) + 1; draw(); });
  at("place").addEventListener("input", showStep);
  draw();
})();
