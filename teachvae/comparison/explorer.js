// The page of the explorer: it draws what `Mathematics` computes, and nothing here computes anything of its own.
//
// `state` is all that there is to know of what is shown, and the address of the page holds it. A control changes
// it by `change`, which draws anew; what takes long, the ledger and the noise, follows when the hand rests.
"use strict";

(() => {
  const M = Mathematics, root = document.querySelector(".explorer");
  const find = (selector) => root.querySelector(selector);
  const canvasOf = (name) => find(`[data-canvas="${name}"]`), place = (name) => find(`[data-place="${name}"]`);
  const say = (name, text) => { const at = find(`[data-text="${name}"]`); if (at.textContent !== text) at.textContent = text; };
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // ---- what the page was handed

  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const unpacked = (text) => new Float64Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const layer = (l) => (l.W ? { W: unpacked(l.W), b: unpacked(l.b) } : l);
  const rules = Object.fromEntries(
    Object.entries(data.rules).map(([order, parts]) => [order, M.product(parts.map(unpacked))]));
  const cases = unpacked(data.x), N = data.rows.length, D = cases.length / N;
  const [low, high] = data.limits, [height, width] = data.shape ?? [1, D];
  const names = data.columns ?? Array.from({ length: D }, (_, d) => `x${d}`);

  const models = data.models.map((given) => {
    const model = new M.Model({
      ...given, decoder: given.decoder.map(layer), recognition: given.recognition?.map((branch) => branch.map(layer)),
      likelihood: { ...given.likelihood, psi: given.likelihood.psi && unpacked(given.likelihood.psi) },
    });
    const kept = Array.from({ length: D }, (_, d) => d).filter((d) => !(d in given.dropped));
    return Object.assign(model, {
      title: given.title, route: given.route, phi: unpacked(given.phi), binary: given.likelihood.name === "bernoulli",
      own: (x) => Float64Array.from(kept, (d) => x[d]),            // the columns that the model sees
      whole(values) {                                              // and back, constant columns put in again
        const x = new Float64Array(D);
        kept.forEach((d, i) => { x[d] = values[i]; });
        for (const d in given.dropped) x[d] = given.dropped[d];
        return x;
      },
    });
  });
  const ROUTES = {
    "closed form": "Factor analysis: the posterior is normal, and φ its mean and widths, by a closed form.",
    table: "Variational EM: φ of every data case is sought by an E-step of its own.",
    network: "Variational autoencoder: a recognition network names φ, one pass and no search.",
  };

  // ---- the state

  const PARTS = [...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part.dataset.title]);
  const LAYERS = [["marks", "the other cases' marks"], ["posterior", "the posterior"], ["best", "the best q"]];
  const state = {
    model: 0, case: 0, from: 0, z: null, phi: null, S: 1, eta: "frozen", seed: 1, hide: new Set(), view: null, drawn: null,
  };
  const blank = () => new Uint8Array(D);                           // ink of a drawn case, from 0 to 15

  const model = () => models[state.model];
  const drawn = () => state.case === "drawn";
  const title = () => (drawn() ? "the drawn case" : `data case ${state.case}`);

  function x() {
    if (!drawn()) return cases.subarray(state.case * D, (state.case + 1) * D);
    return Float64Array.from(state.drawn, (ink) => {
      if (model().binary) return ink > 7 ? 1 : 0;
      const t = data.levels ? (Math.round((ink / 15) * (data.levels - 1)) + 0.5) / data.levels : ink / 15;
      return low + t * (high - low);
    });
  }
  const own = () => model().own(x());

  // φ in use: what the model says; null for a drawn case of a model that has no network, until the E-step is done.
  function used() {
    const { n_phi } = model().family;
    if (!drawn()) return model().phi.subarray(state.case * n_phi, (state.case + 1) * n_phi);
    if (model().recognition) return model().encode(own());
    return found()?.phiUsed ?? null;
  }
  const phi = () => state.phi ?? used() ?? model().family.pack([0, 0], [1, 0, 1]);
  const q = () => model().family.unpack(phi());
  const z = () => state.z ?? q().m;

  // ---- the ledger of each model and case, kept once it is known

  const ledgers = new Map(), regions = new Map();
  const ledgerKey = () => `${state.model} ${drawn() ? state.drawn.join() : state.case}`;
  const found = () => ledgers.get(ledgerKey());

  function measure() {
    const k = ledgerKey();
    if (ledgers.has(k)) return;
    const start = drawn() && !model().recognition ? null : used();
    ledgers.set(k, M.ledger(model(), own(), start, rules));
    regions.set(k, M.region(model(), own(), ledgers.get(k)));
  }

  const bounds = { key: null };
  function bound(most = 80) {                                      // of q as it stands
    const k = `${ledgerKey()} ${[...phi()].join()} ${most}`;
    if (bounds.key !== k) {
      Object.assign(bounds, { key: k, value: M.quadrature(model(), model().family, phi(), own(), rules, most) });
    }
    return bounds.value;
  }

  // ---- change, and draw

  let waiting = null, resting = null, moving = 0, shown = 0;

  // The lattice of a model takes a second on a slow machine: it is made in pieces, and the page stays awake.
  async function latticeOf(one) {
    let since = performance.now();
    for (const _ of one.rows()) {
      if (performance.now() - since < 30) continue;
      await new Promise((next) => setTimeout(next, 0));
      since = performance.now();
    }
  }

  function change(what, { coarse = false } = {}) {
    moving++;                                                      // an E-step that is under way ends
    say("steps", "");                                              // what was said of the last one too
    Object.assign(state, what);
    show(coarse);
  }

  function show(coarse = false) {
    draw(coarse ? 28 : 80);
    clearTimeout(waiting);
    clearTimeout(resting);
    const mine = ++shown;
    if (!found()) say("status", `NLML and the ledger of ${title()} are being computed …`);
    waiting = setTimeout(async () => {
      const known = found();
      if (!known) {
        await latticeOf(model());
        if (mine !== shown) return;                                // something else is shown by now
        measure();
      }
      if (!known || coarse) draw(80);
      say("status", "");
      resting = setTimeout(drawNoise, 120);
      remember();
    }, coarse ? 150 : 20);
  }

  function draw(most) {
    drawControls();
    drawPlane();
    drawImages();
    drawNumbers(most);
    drawPad();
  }

  const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const number = (value, digits = 4) => (
    Number.isFinite(value) ? value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−") : "–");
  const small = (value) => (value === 0 ? "0" : value.toExponential(1).replace("-", "−"));
  const hidden = (name) => state.hide.has(name);

  // A canvas with as many pixels as its screen has, in units of its own width and height.
  function context(canvas) {
    const ratio = window.devicePixelRatio || 1, { clientWidth: w, clientHeight: h } = canvas;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, w, h);
    ctx.font = "12px system-ui, sans-serif";
    return [ctx, w, h];
  }

  // ---- controls

  function slider(where, name, label, min, max, step, put) {
    const output = element("output"), input = element("input", { type: "range", min, max, step });
    input.dataset.input = name;
    input.addEventListener("input", () => put(Number(input.value)));
    input.addEventListener("change", () => show());
    const text = element("span");
    text.innerHTML = label;
    place(where).append(element("label", {}, text, input, output));
    return (value, shown) => {
      if (document.activeElement !== input || Math.abs(Number(input.value) - value) > step) input.value = value;
      output.textContent = shown;
      input.setAttribute("aria-valuetext", shown);
    };
  }

  const RANGE = 8;
  const sliders = {};
  function makeControls() {
    models.forEach((one, i) => {
      const tab = element("button", { type: "button", textContent: one.title });
      tab.setAttribute("role", "tab");
      tab.addEventListener("click", () => change({ model: i, phi: null, z: null, view: null }));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const next = (i + step + models.length) % models.length;
        place("tabs").children[next].focus();
        change({ model: next, phi: null, z: null, view: null });
      });
      place("tabs").append(tab);
    });
    for (const [name, words] of [...PARTS, ...LAYERS]) {
      const box = element("input", { type: "checkbox" });
      box.dataset.hide = name;
      box.addEventListener("change", () => {
        state.hide[box.checked ? "delete" : "add"](name);
        change({});
      });
      place("parts").append(element("label", {}, box, ` ${words}`));
    }
    for (let k = 0; k < 2; k++) {
      sliders[`z${k}`] = slider("z", `z${k + 1}`, `z<sub>${k + 1}</sub>`, -RANGE, RANGE, 0.01, (value) => {
        const to = [...z()];
        to[k] = value;
        change({ z: to }, { coarse: true });
      });
    }
    for (let k = 0; k < 2; k++) {
      sliders[`m${k}`] = slider("phi", `m${k + 1}`, `m<sub>${k + 1}</sub>`, -RANGE, RANGE, 0.01, (value) => setPhi(k, value));
    }
    for (let k = 0; k < 2; k++) {                                  // on a logarithmic scale, as the model learns it
      sliders[`s${k}`] = slider("phi", `s${k + 1}`, `s<sub>${k + 1}</sub>`, -5, 1, 0.02, (value) => {
        setPhi(model().family === M.FAMILIES.full ? 2 + 2 * k : 2 + k, value);
      });
    }
    sliders.l21 = slider("phi", "l21", "L<sub>21</sub>", -2, 2, 0.01, (value) => setPhi(3, value));

    find('[data-input="case"]').max = N - 1;
    find('[data-input="case"]').addEventListener("change", ({ target }) => take(Number(target.value)));
    find('[data-input="S"]').addEventListener("input", ({ target }) => change({ S: 2 ** Number(target.value) }));
    root.querySelectorAll('[data-input="eta"]').forEach((radio) => {
      radio.addEventListener("change", () => change({ eta: radio.value }));
    });
    root.querySelectorAll("[data-do]").forEach((button) => {
      button.addEventListener("click", () => actions[button.dataset.do]());
    });
  }

  function setPhi(i, value) {
    const to = Float64Array.from(phi());
    to[i] = value;
    change({ phi: to }, { coarse: true });
  }

  function take(n) {
    const at = Math.min(Math.max(Math.round(n) || 0, 0), N - 1);
    change({ case: at, from: at, phi: null, z: null });
  }

  const actions = {
    previous: () => take(drawn() ? state.from : state.case - 1),
    next: () => take(drawn() ? state.from : state.case + 1),
    used: () => change({ phi: null, z: null }),
    prior: () => change({ phi: model().family.pack([0, 0], [1, 0, 1]) }),
    estep: () => animate(),
    refine: () => animate(),
    step: () => animate(1),
    out: () => zoom(1.5),
    in: () => zoom(1 / 1.5),
    whole: () => change({ view: null }),
    close: () => {
      const ledger = found();
      if (!ledger) return;
      const [c11, , c22] = ledger.covariance, { m, L } = q();     // q as it stands is to be seen, too
      const reach = (k) => Math.abs(m[k] - ledger.mean[k]) + 3 * L[2 * k];
      change({ view: { c: [...ledger.mean], r: Math.max(5 * Math.sqrt(c11), 5 * Math.sqrt(c22), reach(0), reach(1)) } });
    },
    copy: () => {
      const from = cases.subarray(state.from * D, (state.from + 1) * D);
      const ink = Uint8Array.from(from, (v) => Math.round(15 * Math.min(Math.max((v - low) / (high - low), 0), 1)));
      change({ drawn: ink, case: "drawn", phi: null, z: null });
    },
    clear: () => change({ drawn: blank(), case: "drawn", phi: null, z: null }),
    redraw: () => change({ seed: state.seed + 1 }),
  };

  // The E-step, step by step, on 14 × 14 nodes, as `refine` takes them.
  async function animate(most = 200) {
    const mine = ++moving, still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    let taken = -1, norm;
    for (const step of M.steps(model(), model().family, phi(), own(), rules[M.FINE], { maxSteps: 200, tol: 1e-6 })) {
      taken++;
      norm = step.norm;
      if (taken === 0) continue;
      Object.assign(state, { phi: step.phi, z: null });
      if (!still) {
        draw(28);
        await new Promise((next) => setTimeout(next, 130));
        if (mine !== moving) return;                               // somebody has moved something else
      }
      say("steps", `Step ${taken}: the largest entry of the gradient is ${small(norm)} nats.`);
      if (taken === most) break;
    }
    if (taken < 1) say("steps", `Nothing to gain: the largest entry of the gradient is ${small(norm)} nats.`);
    else if (most > 1) say("steps", `The E-step ended after ${taken} steps; the largest entry of the gradient is ${small(norm)} nats.`);
    show();
  }

  function drawControls() {
    [...place("tabs").children].forEach((tab, i) => {
      tab.setAttribute("aria-selected", i === state.model);
      tab.tabIndex = i === state.model ? 0 : -1;
    });
    const input = find('[data-input="case"]');
    if (document.activeElement !== input || drawn()) input.value = drawn() ? "" : state.case;
    say("label", drawn() ? "your drawing" :
      `of 0 to ${N - 1}, row ${data.rows[state.case]}${data.labels ? `, class ${data.labels[state.case]}` : ""}`);
    say("route", ROUTES[model().route]);
    for (const [name] of PARTS) {
      const part = find(`[data-part="${name}"]`);
      part.hidden = hidden(name) || (name === "draw" && !data.shape);
    }
    root.querySelectorAll("[data-hide]").forEach((box) => { box.checked = !hidden(box.dataset.hide); });
    const { m, L } = q(), full = model().family === M.FAMILIES.full;
    for (let k = 0; k < 2; k++) {
      sliders[`z${k}`](z()[k], number(z()[k], 3));
      sliders[`m${k}`](m[k], number(m[k], 3));
      sliders[`s${k}`](Math.log(L[2 * k]), number(L[2 * k], 4));
    }
    sliders.l21(L[1], number(L[1], 4));
    find('[data-input="l21"]').parentElement.style.display = full ? "" : "none";
    find('[data-input="s1"]').previousElementSibling.innerHTML = full ? "L<sub>11</sub>" : "s<sub>1</sub>";
    find('[data-input="s2"]').previousElementSibling.innerHTML = full ? "L<sub>22</sub>" : "s<sub>2</sub>";
    find('[data-input="S"]').value = Math.log2(state.S);
    say("S", String(state.S));
    root.querySelectorAll('[data-input="eta"]').forEach((radio) => { radio.checked = radio.value === state.eta; });
  }

  // ---- the latent plane

  const NINETY = Math.sqrt(-2 * Math.log(0.1));                    // the radius that holds 90 % of N(0, I)
  const classes = data.labels ? [...new Set(data.labels)].sort((a, b) => (a - b) || (a < b ? -1 : 1)) : [];
  const written = classes.length > 0 && classes.every((c) => c.length <= 2);
  const shapes = ["disc", "up", "square", "down"];

  function marks() {                                               // where the model puts the cases, [[z1, z2], …]
    const one = model(), { n_phi } = one.family;
    one.marks ??= Array.from({ length: N }, (_, n) => [one.phi[n * n_phi], one.phi[n * n_phi + 1]]);
    return one.marks;
  }

  function view() {
    if (state.view) return state.view;
    const far = marks().flat().map(Math.abs).sort((a, b) => a - b);
    return { c: [0, 0], r: Math.max(3, 1.08 * far[Math.floor(0.998 * (far.length - 1))]) };
  }
  const zoom = (factor) => {
    const { c, r } = view();
    change({ view: { c, r: Math.min(Math.max(r * factor, 0.01), 40) } });
  };

  function scales(w, h) {
    const { c, r } = view(), unit = Math.min(w, h) / (2 * r);
    return {
      unit, toPlane: ([a, b]) => [w / 2 + (a - c[0]) * unit, h / 2 - (b - c[1]) * unit],
      toZ: ([px, py]) => [c[0] + (px - w / 2) / unit, c[1] - (py - h / 2) / unit],
    };
  }

  // A class's colour; on a dark page a third nearer to white, so that blue is read there too.
  function colourOf(i, dark) {
    const colour = data.colours[Math.max(i, 0) % data.colours.length];
    if (!dark) return colour;
    const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return colour === "#000000" ? css("ink") : `rgb(${parts.map((part) => Math.round(part + (255 - part) / 3)).join()})`;
  }

  function mark(ctx, [px, py], c, dark) {
    const i = classes.indexOf(c);
    ctx.fillStyle = ctx.strokeStyle = colourOf(i, dark);
    if (written) {
      ctx.fillText(c, px, py);
      return;
    }
    const r = 3.4, shape = shapes[(i + Math.floor(i / 8)) % 4] ?? "disc";
    ctx.beginPath();
    if (shape === "disc") ctx.arc(px, py, r, 0, 7);
    else if (shape === "square") ctx.rect(px - r, py - r, 2 * r, 2 * r);
    else {
      const up = shape === "up" ? -1 : 1;
      ctx.moveTo(px, py + up * 1.3 * r);
      ctx.lineTo(px - 1.2 * r, py - up * 0.9 * r);
      ctx.lineTo(px + 1.2 * r, py - up * 0.9 * r);
    }
    ctx.fill();
  }

  function ticks(from, to) {
    const rough = (to - from) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough);
    const first = Math.ceil(from / step);
    return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, i) => {
      const at = (first + i) * step;
      return [at, number(at, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))];
    });
  }

  // The cells of a grid above a level, each a polygon, in one path.
  function above({ z1, z2, logP }, level, toPlane) {
    const path = new Path2D(), n = z2.length;
    for (let i = 0; i < z1.length - 1; i++) {
      for (let j = 0; j < n - 1; j++) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]].map(([a, b]) => [z1[a], z2[b], logP[a * n + b]]);
        if (corners.every((corner) => corner[2] < level)) continue;
        const polygon = [];
        corners.forEach((here, k) => {
          const next = corners[(k + 1) % 4];
          if (here[2] >= level) polygon.push(here);
          if ((here[2] >= level) !== (next[2] >= level)) {
            const t = (level - here[2]) / (next[2] - here[2]);
            polygon.push([here[0] + t * (next[0] - here[0]), here[1] + t * (next[1] - here[1])]);
          }
        });
        polygon.forEach(([a, b], k) => path[k ? "lineTo" : "moveTo"](...toPlane([a, b])));
        path.closePath();
      }
    }
    return path;
  }

  function ellipse(ctx, { m, L }, toPlane) {
    ctx.beginPath();
    for (let i = 0; i <= 96; i++) {
      const angle = (2 * Math.PI * i) / 96;
      ctx[i ? "lineTo" : "moveTo"](...toPlane(M.at({ m, L }, [NINETY * Math.cos(angle), NINETY * Math.sin(angle)])));
    }
    ctx.stroke();
  }

  const near = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by);

  // Where the handles are, in z: those of the widths only where they can be told from the mean on the screen.
  function handles({ toPlane }) {
    const now = q(), found_ = { m: now.m, z: z() };
    for (const [name, eta] of [["s1", [NINETY, 0]], ["s2", [0, NINETY]]]) {
      const at = M.at(now, eta);
      if (near(toPlane(at), toPlane(now.m)) > 15) found_[name] = at;
    }
    return found_;
  }

  // The handle under a place on the screen, or none; q's come first, for z lies on its mean to begin with.
  function handleAt(here, reach) {
    const canvas = canvasOf("plane"), scale = scales(canvas.clientWidth, canvas.clientHeight), places = handles(scale);
    const under = (name) => places[name] && near(scale.toPlane(places[name]), here) < reach;
    if (state.z && under("z")) return "z";
    return ["s1", "s2", "m", "z"].find(under);
  }

  function drawPlane() {
    if (hidden("plane")) return;
    const canvas = canvasOf("plane"), [ctx, w, h] = context(canvas), { toPlane, toZ, unit } = scales(w, h);
    ctx.fillStyle = css("paper");
    ctx.fillRect(0, 0, w, h);
    const [left, top] = toZ([0, 0]), [right, bottom] = toZ([w, h]);
    ctx.lineWidth = 1;
    ctx.textBaseline = "middle";
    for (const [at, text] of ticks(left, right)) {
      const [px] = toPlane([at, 0]);
      ctx.strokeStyle = css("line");
      ctx.beginPath(); ctx.moveTo(px, 0); ctx.lineTo(px, h); ctx.stroke();
      ctx.fillStyle = css("soft"); ctx.textAlign = "center";
      if (px > 30 && px < w - 30) ctx.fillText(text, px, h - 9);
    }
    for (const [at, text] of ticks(bottom, top)) {
      const [, py] = toPlane([0, at]);
      ctx.strokeStyle = css("line");
      ctx.beginPath(); ctx.moveTo(0, py); ctx.lineTo(w, py); ctx.stroke();
      ctx.fillStyle = css("soft"); ctx.textAlign = "left";
      if (py > 20 && py < h - 24) ctx.fillText(text, 4, py);
    }
    ctx.font = "italic 14px serif";
    ctx.textAlign = "right"; ctx.fillText("z₁", w - 6, h - 10);
    ctx.textAlign = "left"; ctx.fillText("z₂", 5, 12);
    ctx.strokeStyle = css("soft");
    ctx.setLineDash([2, 4]);
    ctx.beginPath(); ctx.arc(...toPlane([0, 0]), NINETY * unit, 0, 7); ctx.stroke();   // 90 % of p(z)
    ctx.setLineDash([]);

    ctx.font = "12px system-ui, sans-serif";
    ctx.textAlign = "center";
    if (!hidden("marks")) {
      const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
      ctx.globalAlpha = 0.85;
      marks().forEach((at, n) => mark(ctx, toPlane(at), data.labels?.[n], dark));
      ctx.globalAlpha = 1;
    }
    const ledger = found(), region = regions.get(ledgerKey());
    if (region && !hidden("posterior")) {
      [...region.levels].reverse().forEach((level, i) => {
        const path = above(region, level, toPlane);
        ctx.fillStyle = `rgba(${css("posterior")}, ${[0.28, 0.36, 0.5][i]})`;
        ctx.fill(path);
      });
    }
    if (ledger && !hidden("best")) {
      ctx.lineWidth = 2;
      [["best", model().family, ledger.phiOptimal, [7, 4]], ["full", M.FAMILIES.full, ledger.phiFull, [2, 3]]]
        .forEach(([name, family, at, dashes]) => {
          ctx.strokeStyle = css(name);
          ctx.setLineDash(dashes);
          ellipse(ctx, family.unpack(at), toPlane);
        });
      ctx.setLineDash([]);
    }
    ctx.strokeStyle = ctx.fillStyle = css("q");
    ctx.lineWidth = 2.5;
    ellipse(ctx, q(), toPlane);
    const places = handles({ toPlane }), [mx, my] = toPlane(places.m);
    ctx.fillRect(mx - 5, my - 5, 10, 10);
    for (const name of ["s1", "s2"].filter((one) => places[one])) {
      const [px, py] = toPlane(places[name]);
      ctx.beginPath();
      ctx.moveTo(px, py - 7); ctx.lineTo(px + 6, py); ctx.lineTo(px, py + 7); ctx.lineTo(px - 6, py);
      ctx.closePath(); ctx.fill();
    }
    if (!drawn() && !hidden("marks")) {                            // where the model puts this case
      ctx.strokeStyle = css("soft"); ctx.lineWidth = 1.5;
      ctx.beginPath(); ctx.arc(...toPlane(marks()[state.case]), 12, 0, 7); ctx.stroke();
    }
    ctx.strokeStyle = css("paper"); ctx.lineWidth = 6;
    ctx.beginPath(); ctx.arc(...toPlane(places.z), 8, 0, 7); ctx.stroke();
    ctx.strokeStyle = css("z"); ctx.lineWidth = 3;
    ctx.beginPath(); ctx.arc(...toPlane(places.z), 8, 0, 7); ctx.stroke();

    const words = `The latent plane. z is at ${number(places.z[0], 2)}, ${number(places.z[1], 2)}; q has mean ` +
      `${number(places.m[0], 2)}, ${number(places.m[1], 2)} and widths ${number(q().L[0], 3)}, ${number(q().L[2], 3)}.`;
    canvas.setAttribute("aria-label", words);
    say("legend", `${classes.length ? (written ? "A digit or letter is the class of a data case, at the mean of its q; "
      : `${classes.map((c, i) => `${{ disc: "●", up: "▲", square: "■", down: "▼" }[shapes[(i + Math.floor(i / 8)) % 4]]} ${c}`).join("  ")}; `) : ""}` +
      "the dotted circle holds 90 % of p(z).");
  }

  function listenToPlane() {
    const canvas = canvasOf("plane");
    let held = null, from = null, moved = false;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const toZ = (here) => scales(canvas.clientWidth, canvas.clientHeight).toZ(here);
    const put = (name, [a, b]) => {
      if (name === "z") return change({ z: [a, b] }, { coarse: true });
      const { m, L } = q(), full = model().family === M.FAMILIES.full;
      if (name === "m") m.splice(0, 2, a, b);
      if (name === "s1") { L[0] = Math.max((a - m[0]) / NINETY, 0.005); if (full) L[1] = (b - m[1]) / NINETY; }
      if (name === "s2") L[2] = Math.max((b - m[1]) / NINETY, 0.005);
      return change({ phi: model().family.pack(m, L) }, { coarse: true });
    };
    // A finger on a handle drags it; elsewhere it scrolls the page, and a tap is a click.
    canvas.addEventListener("touchstart", (event) => {
      if (event.touches.length === 1 && handleAt(at(event.touches[0]), 24)) event.preventDefault();
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      const touch = event.pointerType === "touch";
      [from, moved] = [at(event), false];
      held = handleAt(from, touch ? 24 : 13) ?? (touch ? "tap" : "free");
      if (held === "tap") return;
      canvas.setPointerCapture(event.pointerId);
      if (held === "free") put("z", toZ(from));
      event.preventDefault();
      canvas.focus({ preventScroll: true });
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!held) return;
      const here = at(event);
      moved ||= near(here, from) > 4;
      if (moved && held !== "tap") put(held === "free" ? "z" : held, toZ(here));
    });
    canvas.addEventListener("pointerup", (event) => {
      const here = at(event), { toPlane } = scales(canvas.clientWidth, canvas.clientHeight);
      if (["free", "tap"].includes(held) && !moved) {              // a click near a mark takes that case
        const far = marks().map((one) => near(toPlane(one), here)), n = far.indexOf(Math.min(...far));
        if (far[n] < 9 && !hidden("marks")) take(n);
        else if (held === "tap") put("z", toZ(here));
      }
      if (moved) show();
      held = null;
    });
    canvas.addEventListener("pointercancel", () => { held = null; });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const stride = view().r / 50, name = event.shiftKey ? "m" : "z", now = name === "m" ? q().m : z();
      put(name, [now[0] + step[0] * stride, now[1] + step[1] * stride]);
    });
  }

  // ---- pictures of data cases

  // What is painted is the number on the scale of the data, to the nearest of 256 greys.
  function paint(canvas, values) {
    canvas.width = width;
    canvas.height = height;
    const ctx = canvas.getContext("2d"), image = ctx.createImageData(width, height);
    values.forEach((value, i) => {
      const t = Math.min(Math.max((value - low) / (high - low), 0), 1), grey = Math.round(255 * (data.ink ? 1 - t : t));
      image.data.set([grey, grey, grey, 255], 4 * i);
    });
    ctx.putImageData(image, 0, 0);
  }

  // Where a case is no image: a point for each variable, from its least to its greatest value in the data.
  const extent = Array.from({ length: data.shape ? 0 : D }, (_, d) => {
    const column = Array.from({ length: N }, (__, n) => cases[n * D + d]);
    return [Math.min(...column), Math.max(...column)];
  });
  function plot(canvas, values) {
    canvas.style.height = `${Math.max(90, Math.min(D, 40) * 18 + 8)}px`;
    const [ctx, w] = context(canvas), step = (canvas.clientHeight - 8) / D, label = step > 12 ? 110 : 8, real = x();
    ctx.textBaseline = "middle";
    values.forEach((value, d) => {
      const y = 4 + (d + 0.5) * step, [least, most] = extent[d];
      const at = (v) => label + 8 + (w - label - 20) * Math.min(Math.max((v - least) / (most - least || 1), -0.04), 1.04);
      ctx.strokeStyle = css("line");
      ctx.beginPath(); ctx.moveTo(label + 8, y); ctx.lineTo(w - 12, y); ctx.stroke();
      ctx.strokeStyle = css("soft"); ctx.lineWidth = 1.5;
      ctx.beginPath(); ctx.arc(at(real[d]), y, Math.min(5, step / 2.5), 0, 7); ctx.stroke();
      ctx.fillStyle = css("accent");
      ctx.beginPath(); ctx.arc(at(value), y, Math.min(3.5, step / 3), 0, 7); ctx.fill();
      ctx.fillStyle = css("ink");
      if (step > 12) ctx.fillText(names[d], 4, y, label - 4);
    });
  }

  function drawImages() {
    if (hidden("images")) return;
    const one = model(), picture = data.shape ? paint : plot;
    place("panel").querySelector(".explorer-images").classList.toggle("bars", !data.shape);
    const shown = { x: x(), decoded: one.whole(one.mean(z())), mean: one.whole(one.mean(q().m)) };
    for (const name in shown) picture(canvasOf(name), shown[name]);
    const rmse = (name) => Math.sqrt(shown[name].reduce((sum, v, d) => sum + (v - shown.x[d]) ** 2, 0) / D);
    canvasOf("x").setAttribute("aria-label", `${title()}${!drawn() && data.labels ? `, of class ${data.labels[state.case]}` : ""}`);
    for (const [name, words] of [["decoded", "the point z"], ["mean", "the mean of q"]]) {
      canvasOf(name).setAttribute("aria-label", `E[x|z] at ${words}, root mean squared distance from x ${number(rmse(name), 3)}`);
    }
    say("decoded", `Root mean squared distance from x: ${number(rmse("decoded"), 4)} at z, ${number(rmse("mean"), 4)} at the ` +
      `mean of q. log p(x|z) at z: ${number(one.logLikelihood(own(), z()), 3)} nats.${data.shape ? "" : " Ring: x. Dot: E[x|z]."}`);
  }

  // ---- numbers

  function rows(where, lines) {
    place(where).replaceChildren(...lines.map(([label, value, kind, colour]) => {
      const head = element("th", { scope: "row" });
      if (colour) head.append(element("i", { className: colour }));
      head.append(label);
      return element("tr", { className: kind ?? "" }, head, element("td", {}, value));
    }));
  }

  function drawNumbers(most) {
    const { Q, cost, kl, certificate, order } = bound(most), ledger = found();
    const worth = ledger ? number(ledger.nlml) : "…", gap = ledger ? number(Q - ledger.nlml) : "…";
    rows("bound", [
      ["−E_q[log p(x|z)]", number(cost)], ["+ KL(q ‖ p(z))", number(kl)], ["= Q", number(Q), "sum"],
      ["NLML = −log p(x)", worth], ["Q − NLML = KL(q ‖ p(z|x))", gap],
    ]);
    if (certificate > 1e-4) say("steps", `Q by ${order} × ${order} nodes: it may be off by ${small(certificate)} nats.`);
    else if (find('[data-text="steps"]').textContent.startsWith("Q by")) say("steps", "");
    place("looks").parentElement.classList.toggle("stale", !ledger);
    if (!ledger) {                                                 // nothing moves: a hand may be drawing below
      rows("shares", [
        ["NLML", "…"], ["+ not Gaussian", "…", "", "not-gaussian"], ["+ diagonal", "…", "", "diagonal"],
        ["+ amortisation", "…", "", "amortisation"], ["= Q", number(Q), "sum"],
      ]);
      place("ledger").replaceChildren();
      place("ledger").setAttribute("aria-label", "The ledger is being computed");
      return;
    }
    const last = state.phi ? "amortisation, of q as it stands" : "amortisation";
    const shares = [
      ["not-gaussian", "+ not Gaussian", ledger.qFull.Q - ledger.nlml],
      ["diagonal", "+ diagonal", ledger.qOptimal.Q - ledger.qFull.Q],
      ["amortisation", `+ ${last}`, Q - ledger.qOptimal.Q],
    ];
    rows("shares", [
      ["NLML", number(ledger.nlml)], ...shares.map(([colour, label, value]) => [label, number(value), "", colour]),
      ["= Q", number(Q), "sum"],
    ]);
    ledger.scale = Math.max(ledger.scale ?? 0, Q - ledger.nlml, 1e-9);
    place("ledger").replaceChildren(...shares.map(([colour, , value]) => {
      const bar = element("i", { className: colour });
      bar.style.width = `${100 * Math.max(value, 0) / ledger.scale}%`;
      return bar;
    }));
    place("ledger").setAttribute("aria-label", `Q − NLML is ${number(Q - ledger.nlml)} nats: ` +
      `${shares.map(([, label, value]) => `${label.slice(2)} ${number(value)}`).join(", ")}. The whole bar is ${number(ledger.scale)} nats.`);
    place("looks").replaceChildren(...ledger.looks.map((look) => element("tr", {},
      ...[`±${number(look.range, 1)}`, String(look.mesh), String(look.points), number(look.nlml, 9)].map((text) => element("td", {}, text)))));
    const [narrow, wide] = ledger.looks, range = Math.abs(narrow.nlml - wide.nlml), end = ledger.looks.at(-1);
    say("certificate",
      `Two meshes, ${ledger.meshes.join(" and ")}, differ by ${small(ledger.certificate)} nats: this certificate says how far the ` +
      "finer one may be off, at the most; it says nothing about what lies beyond the lattice. " +
      (range > 1e-6 ? `Here the range matters: ±6 alone would miss ${small(range)} nats. ` : "Here ±6 was wide enough. ") +
      (end.range > 8 ? `The lattice was widened to ±${number(end.range, 1)}, until nothing was left at its edge. ` : "") +
      (ledger.certificate > 1e-6 ? "That is not settled to a millionth: a decoder with kinks, or a mode too narrow. " : "") +
      "Halved meshes hold only points where the integrand is not e³⁰ times below its top. " +
      `Q at the best q: by ${ledger.qOptimal.order} × ${ledger.qOptimal.order} nodes, to ${small(ledger.qOptimal.certificate)} nats.`);
  }

  // ---- a case of one's own

  const cursor = { at: [0, 0], seen: false };
  function drawPad() {
    if (hidden("draw") || !data.shape) return;
    const canvas = canvasOf("draw"), size = Math.max(1, Math.floor(176 / Math.max(width, height)));
    [canvas.width, canvas.height] = [width * size, height * size];
    canvas.style.aspectRatio = `${width} / ${height}`;
    const ctx = canvas.getContext("2d"), ink = state.drawn ?? blank();
    ink.forEach((value, i) => {
      const t = value / 15, grey = Math.round(255 * (data.ink ? 1 - t : t));
      ctx.fillStyle = `rgb(${grey},${grey},${grey})`;
      ctx.fillRect((i % width) * size, Math.floor(i / width) * size, size, size);
    });
    if (cursor.seen) {
      ctx.strokeStyle = css("q");
      ctx.lineWidth = 2;
      ctx.strokeRect(cursor.at[0] * size + 1, cursor.at[1] * size + 1, size - 2, size - 2);
    }
    canvas.setAttribute("aria-label", `Drawing of ${width} × ${height} pixels; cursor in column ${cursor.at[0] + 1}, row ` +
      `${cursor.at[1] + 1}, ink ${ink[cursor.at[1] * width + cursor.at[0]]} of 15`);
    find('[data-do="refine"]').disabled = !drawn();
    if (!drawn()) say("drawn", "Draw, and your drawing becomes the data case.");
    else {
      const gap = found() && bound().Q - found().qOptimal.Q;
      const refined = state.phi !== null, named = model().recognition && !refined;
      say("drawn", (named ? "The network has named φ. Refine it by E-steps, and the amortisation gap closes: it is"
        : "φ is an E-step's: the amortisation gap is") + (found() ? ` ${number(gap)} nats.` : " …"));
    }
  }

  function dab([a, b], most = 15) {                                // ink around (a, b), in pixels, or none
    const ink = Uint8Array.from(state.drawn ?? blank()), radius = Math.max(width, height) / 8;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const far = Math.hypot(column + 0.5 - a, row + 0.5 - b) / radius;
        const to = Math.round(15 * Math.min(Math.max(1.5 - far, 0), 1)), i = row * width + column;
        ink[i] = most ? Math.max(ink[i], to) : Math.min(ink[i], 15 - to);
      }
    }
    change({ drawn: ink, case: "drawn", phi: null, z: null }, { coarse: true });
  }

  function listenToPad() {
    const canvas = canvasOf("draw");
    let held = false, before = null;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
    };
    canvas.addEventListener("pointerdown", (event) => {
      held = true;
      before = at(event);
      canvas.setPointerCapture(event.pointerId);
      cursor.seen = false;
      dab(before);
      event.preventDefault();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!held) return;
      const here = at(event), steps = Math.ceil(2 * Math.hypot(here[0] - before[0], here[1] - before[1])) || 1;
      for (let i = 1; i <= steps; i++) dab(before.map((from, k) => from + (here[k] - from) * i / steps));
      before = here;
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = false; });
    canvas.addEventListener("focus", () => { cursor.seen = canvas.matches(":focus-visible"); drawPad(); });
    canvas.addEventListener("blur", () => { cursor.seen = false; drawPad(); });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const [a, b] = cursor.at, here = [a + 0.5, b + 0.5];
      if (step) {
        cursor.at = [Math.min(Math.max(a + step[0], 0), width - 1), Math.min(Math.max(b + step[1], 0), height - 1)];
      } else if (event.key === " ") dab(here);
      else if (event.key === "Delete" || event.key === "Backspace") dab(here, 0);
      else return;
      event.preventDefault();
      cursor.seen = true;
      drawPad();
    });
  }

  // ---- the noise of S draws

  function drawNoise() {
    if (hidden("noise")) return;
    const one = model(), { family } = one, at = phi(), data_ = own();
    const seed = state.seed * 7919, fresh = state.eta === "redrawn";
    const { m, L } = q(), reach = Math.max(3 * L[0], 0.05), n = 41;
    const normal = M.normals(seed), frozen = M.draws(normal, state.S);
    const along = Array.from({ length: n }, (_, i) => {
      const moved = Float64Array.from(at), place_ = m[0] + reach * (2 * i / (n - 1) - 1);
      moved[0] = place_;
      const nodes = fresh ? M.draws(normal, state.S) : frozen;
      return [place_, ...[rules[10], nodes].map((each) => M.bound(one, family, moved, data_, each, { gradient: false }).Q)];
    });
    const exact = M.bound(one, family, at, data_, rules[M.FINE]).dphi, others = M.normals(seed + 1);
    const estimates = Array.from({ length: 100 }, () => M.bound(one, family, at, data_, M.draws(others, state.S)).dphi);
    const spread = [0, 1].map((k) => Math.sqrt(estimates.reduce((sum, g) => sum + (g[k] - exact[k]) ** 2, 0) / 100));

    const lowest = Math.min(...along.flatMap((p) => p.slice(1))), highest = Math.max(...along.flatMap((p) => p.slice(1)));
    axes(canvasOf("curve"), [along[0][0], along[n - 1][0]], [lowest, highest], "m₁", "Q, nats", (ctx, to) => {
      [[1, css("ink"), 3], [2, css("q"), 1.5]].forEach(([column, colour, thick]) => {
        ctx.strokeStyle = colour;
        ctx.lineWidth = thick;
        ctx.beginPath();
        along.forEach((p, i) => ctx[i ? "lineTo" : "moveTo"](...to([p[0], p[column]])));
        ctx.stroke();
      });
      ctx.setLineDash([3, 3]); ctx.strokeStyle = css("soft"); ctx.lineWidth = 1;
      ctx.beginPath(); ctx.moveTo(...to([m[0], lowest])); ctx.lineTo(...to([m[0], highest])); ctx.stroke();
      ctx.setLineDash([]);
    });
    const around = (k) => {
      const far = Math.max(...estimates.map((g) => Math.abs(g[k] - exact[k])), 1e-9) * 1.05;
      return [exact[k] - far, exact[k] + far];
    };
    axes(canvasOf("cloud"), around(0), around(1), "∂Q/∂m₁", "∂Q/∂m₂", (ctx, to) => {
      ctx.fillStyle = css("q");
      ctx.globalAlpha = 0.6;
      for (const g of estimates) { ctx.beginPath(); ctx.arc(...to([g[0], g[1]]), 2.6, 0, 7); ctx.fill(); }
      ctx.globalAlpha = 1;
      const [px, py] = to([exact[0], exact[1]]);
      ctx.strokeStyle = css("ink"); ctx.lineWidth = 3;
      ctx.beginPath(); ctx.moveTo(px - 8, py); ctx.lineTo(px + 8, py); ctx.moveTo(px, py - 8); ctx.lineTo(px, py + 8); ctx.stroke();
    });
    canvasOf("curve").setAttribute("aria-label", `Q along m1, exact and from ${state.S} draws of η that are ${state.eta}`);
    canvasOf("cloud").setAttribute("aria-label", `100 estimates of the gradient around ${number(exact[0], 2)}, ${number(exact[1], 2)}`);
    say("noise", `Exact ∂Q/∂m: ${number(exact[0], 3)}, ${number(exact[1], 3)}. Standard deviation of an estimate from ` +
      `S = ${state.S}: ${number(spread[0], 3)}, ${number(spread[1], 3)}; it falls as 1/√S. ` +
      (fresh ? "η is drawn anew for every m₁: the estimate jumps, and has no slope."
        : "η is the same for every m₁: the estimate is a smooth function of φ, beside the exact one, and has a gradient."));
  }

  function axes(canvas, [x0, x1], [y0, y1], xlabel, ylabel, inside) {
    const [ctx, w, h] = context(canvas), left = 52, below = 34, pad = 0.06 * (y1 - y0) || 1;
    const [from, to_] = [y0 - pad, y1 + pad];
    const to = ([a, b]) => [left + (w - left - 8) * (a - x0) / (x1 - x0), h - below - (h - below - 18) * (b - from) / (to_ - from)];
    ctx.textBaseline = "middle";
    ctx.lineWidth = 1;
    ctx.strokeStyle = css("line"); ctx.fillStyle = css("soft"); ctx.font = "11px system-ui, sans-serif";
    for (const [at, text] of ticks(x0, x1)) {
      const [px] = to([at, from]);
      ctx.beginPath(); ctx.moveTo(px, 18); ctx.lineTo(px, h - below); ctx.stroke();
      ctx.textAlign = "center"; ctx.fillText(text, px, h - below + 10);
    }
    for (const [at, text] of ticks(from, to_)) {
      const [, py] = to([x0, at]);
      ctx.beginPath(); ctx.moveTo(left, py); ctx.lineTo(w - 8, py); ctx.stroke();
      ctx.textAlign = "right"; ctx.fillText(text, left - 5, py);
    }
    ctx.fillStyle = css("ink");
    ctx.textAlign = "center"; ctx.fillText(xlabel, (left + w) / 2, h - 8);
    ctx.textAlign = "left"; ctx.fillText(ylabel, 4, 8);
    inside(ctx, to);
  }

  // ---- the address of the page

  let written_ = "";
  function remember() {
    if (!moving && !location.hash.startsWith("#explorer?")) return; // nothing was touched: the address is another's
    const parts = { model: model().title, case: state.case };
    const list = (values) => [...values].map((v) => Number(v.toPrecision(6))).join(",");
    if (state.z) parts.z = list(state.z);
    if (state.phi) parts.phi = list(state.phi);
    if (state.view) parts.view = list([...state.view.c, state.view.r]);
    if (state.S !== 1) parts.S = state.S;
    if (state.eta !== "frozen") parts.eta = state.eta;
    if (state.hide.size) parts.hide = [...state.hide].join();
    if (drawn()) parts.drawn = [...state.drawn].map((ink) => ink.toString(16)).join("");
    written_ = `#explorer?${new URLSearchParams(parts)}`;
    try {
      history.replaceState(null, "", written_);
    } catch { /* a page inside a frame may have no address of its own */ }
  }

  function recall() {
    if (!location.hash.startsWith("#explorer?")) return;
    const parts = new URLSearchParams(location.hash.slice("#explorer?".length));
    const list = (name, length) => {
      const values = (parts.get(name) ?? "").split(",").map(Number);
      return values.length === length && values.every(Number.isFinite) && parts.get(name) ? values : null;
    };
    const known = models.findIndex((one) => one.title === parts.get("model"));
    if (known >= 0) state.model = known;
    const ink = parts.get("drawn");
    if (parts.get("case") === "drawn" && data.shape && ink?.length === D && /^[0-9a-f]+$/.test(ink)) {
      state.drawn = Uint8Array.from(ink, (digit) => parseInt(digit, 16));
      state.case = "drawn";
    } else state.case = state.from = Math.min(Math.max(Math.round(Number(parts.get("case"))) || 0, 0), N - 1);
    state.z = list("z", 2);
    const numbers = list("phi", model().family.n_phi), view_ = list("view", 3);
    state.phi = numbers && Float64Array.from(numbers);
    state.view = view_ && view_[2] > 0 ? { c: view_.slice(0, 2), r: view_[2] } : null;
    const S = Number(parts.get("S"));
    state.S = [1, 2, 4, 8, 16, 32, 64].includes(S) ? S : 1;
    state.eta = parts.get("eta") === "redrawn" ? "redrawn" : "frozen";
    const known_ = [...PARTS, ...LAYERS].map(([name]) => name);
    state.hide = new Set((parts.get("hide") ?? "").split(",").filter((name) => known_.includes(name)));
  }

  // ---- the beginning: where the page is in view for the first time

  function start() {
    state.drawn ??= data.shape ? blank() : null;
    makeControls();
    listenToPlane();
    listenToPad();
    recall();
    show();
    let size = root.clientWidth;
    new ResizeObserver(() => { if (root.clientWidth !== size) { size = root.clientWidth; show(); } }).observe(root);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show());
    window.addEventListener("hashchange", () => {
      if (location.hash === written_ || !location.hash.startsWith("#explorer?")) return;
      recall();
      show();
    });
    // For a look from outside: what is shown, and what it is made of.
    root.explorer = {
      state, change, models, rules, M, x: own, phi, bound, ledger: () => { measure(); return found(); },
      cases: (from, to) => Array.from({ length: to - from }, (_, n) => from + n),
    };
  }

  const watch = new IntersectionObserver((seen) => {
    if (!seen.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    start();
  }, { rootMargin: "200px" });
  watch.observe(root);
})();
