// The mathematics of the explorer, in plain JavaScript: the model, the bound, the E-step and the referee for one
// data case and K = 2. Names and numbers of equations are those of the Python files that each part speaks of.
//
// A vector is a Float64Array, a matrix one too, row after row. z and eta are pairs of numbers. A diagonal or a
// full Gaussian q is a row phi of numbers, as in Python: [m1, m2, log s1, log s2] or [m1, m2, log L11, L21, log L22].
"use strict";

const Mathematics = (() => {
  const LOG_2PI = Math.log(2 * Math.PI);

  // ---- arrays/special: functions that neither overflow nor lose digits

  const sigmoid = (t) => t >= 0 ? 1 / (1 + Math.exp(-t)) : Math.exp(t) / (1 + Math.exp(t));
  const softplus = (t) => Math.max(t, 0) + Math.log1p(Math.exp(-Math.abs(t)));
  const dot = (a, b) => { let sum = 0; for (let i = 0; i < a.length; i++) sum += a[i] * b[i]; return sum; };
  const norm = (v) => v.reduce((largest, entry) => Math.max(largest, Math.abs(entry)), 0);

  function logSumExp(values) {
    let top = -Infinity, sum = 0;
    for (const v of values) if (v > top) top = v;
    if (top === -Infinity) return top;
    for (const v of values) sum += Math.exp(v - top);
    return top + Math.log(sum);
  }

  // ---- networks/layers: each a forward and, below it, the backward

  const ACTIVATIONS = {                                            // y of x; and the slope, of x and y
    tanh: [Math.tanh, (x, y) => 1 - y * y],                        // (4.5), (4.6)
    relu: [(x) => Math.max(x, 0), (x) => (x > 0 ? 1 : 0)],         // (4.7), (4.8)
    sigmoid: [sigmoid, (x, y) => y * (1 - y)],                     // (4.9), (4.10)
    softplus: [softplus, sigmoid],                                 // (4.11), (4.12)
  };

  function linear({ W, b }, x) {                                   // y = x W + b            (4.1)
    const n = b.length, y = Float64Array.from(b);
    for (let i = 0; i < x.length; i++) {
      const xi = x[i], start = i * n;
      for (let j = 0; j < n; j++) y[j] += xi * W[start + j];
    }
    return y;
  }

  function linearBackward({ W, b }, dy) {                          // dx = dy Wᵀ             (4.2)
    const n = b.length, dx = new Float64Array(W.length / n);
    for (let i = 0; i < dx.length; i++) {
      let sum = 0;
      for (let j = 0, k = i * n; j < n; j++, k++) sum += dy[j] * W[k];
      dx[i] = sum;
    }
    return dx;
  }

  function activate(bend, x) {                                     // y = bend(x), entry by entry
    const y = new Float64Array(x.length);
    for (let i = 0; i < x.length; i++) y[i] = bend(x[i]);
    return y;
  }

  // What every layer of a network gives for one row x, the input first, the output last.
  function forward(layers, x) {
    const values = [Float64Array.from(x)];
    for (const layer of layers) {
      const input = values[values.length - 1];
      values.push(layer.W ? linear(layer, input) : activate(ACTIVATIONS[layer.name][0], input));
    }
    return values;                                                 //                       (4.13)
  }

  // dx from dy, the values being those of `forward`.
  function backward(layers, values, dy) {
    for (let l = layers.length - 1; l >= 0; l--) {
      if (layers[l].W) dy = linearBackward(layers[l], dy);
      else {
        const slope = ACTIVATIONS[layers[l].name][1];
        dy = dy.map((d, i) => d * slope(values[l][i], values[l + 1][i]));
      }
    }
    return dy;                                                     //                       (4.14)
  }

  // ---- likelihoods: log p(x|f) and its gradient in f
  //
  // On a lattice many points z meet many data cases x. There f(z) = h W + b, with h the last hidden layer, and
  // log p(x|z) falls into three: ofPoint(f), which no x enters, h · ofCase(x), and constant(x)   (5.11), (5.12).

  const gaussian = {
    logProb({ psi }, f, x) {
      let sum = 0;
      for (let d = 0; d < x.length; d++) sum += (x[d] - f[d]) ** 2 / psi[d] + Math.log(psi[d]) + LOG_2PI;
      return -0.5 * sum;                                           //                       (5.1)
    },
    gradient: ({ psi }, f, x) => f.map((fd, d) => (x[d] - fd) / psi[d]),  //                (5.2)
    mean: (f) => f,
    ofPoint({ psi, b }, f) {
      let sum = 0;
      for (let d = 0; d < f.length; d++) sum += (f[d] - b[d]) ** 2 / psi[d];
      return -0.5 * sum;
    },
    ofCase: ({ psi, b }, x) => x.map((xd, d) => (xd - b[d]) / psi[d]),
    constant(parameters, x) { return this.logProb(parameters, parameters.b, x); },
  };

  const bernoulli = {                                              // f are logits
    logProb(_, f, x) {
      let sum = 0;
      for (let d = 0; d < x.length; d++) sum += x[d] * f[d] - softplus(f[d]);
      return sum;                                                  //                       (5.7)
    },
    gradient: (_, f, x) => f.map((fd, d) => x[d] - sigmoid(fd)),   //                       (5.8)
    mean: (f) => f.map(sigmoid),
    ofPoint(_, f) { return -f.reduce((sum, fd) => sum + softplus(fd), 0); },
    ofCase: (_, x) => x,
    constant: ({ b }, x) => dot(b, x),
  };

  // ---- model: p(z), f_w(z), p(x|z) and p(x, z)

  class Model {
    // decoder, recognition  lists of layers {W, b} or {name}; recognition is a list of such lists, or null
    // likelihood            {name, psi}
    constructor({ decoder, likelihood, posterior, recognition = null, masked = false }) {
      Object.assign(this, { decoder, recognition, masked });
      this.last = decoder[decoder.length - 1];
      this.likelihood = { gaussian, bernoulli }[likelihood.name];
      this.parameters = { psi: likelihood.psi, b: this.last.b };
      this.family = FAMILIES[posterior];
    }

    f(z) { return forward(this.decoder, z).at(-1); }
    mean(z) { return this.likelihood.mean(this.f(z)); }            // E[x|z]
    logPrior(z) { return -0.5 * dot(z, z) - LOG_2PI; }             // K = 2                 (1.1)
    logLikelihood(x, z) { return this.likelihood.logProb(this.parameters, this.f(z), x); }

    // log p(x|z) and its gradient in z.
    logLikelihoodGradient(x, z) {
      const values = forward(this.decoder, z), f = values[values.length - 1];
      const df = this.likelihood.gradient(this.parameters, f, x);
      return [this.likelihood.logProb(this.parameters, f, x), backward(this.decoder, values, df)];  // (7.10)
    }

    // φ = g_v(x), what the recognition network names.
    encode(x) {
      const input = this.masked ? [...x, ...x.map(() => 1)] : x;   // [x | mask]
      return Float64Array.from(this.recognition.flatMap((branch) => [...forward(branch, input).at(-1)]));  // (1.17)
    }

    // A function from points z to log p(x, z) of one data case; of points of the model's lattice, which keeps
    // the part of the work that all cases share.
    logJointOf(x) {
      const { likelihood, parameters } = this;
      const c = linearBackward(this.last, likelihood.ofCase(parameters, x));
      const constant = likelihood.constant(parameters, x);
      return (point) => point.ofPoint + dot(point.h, c) + constant + this.logPrior(point.z);  // (1.2)
    }

    // What log p(x, z) needs of the point z, whatever x is.
    point(z) {
      const values = forward(this.decoder, z);
      return {
        z, h: values[values.length - 2], ofPoint: this.likelihood.ofPoint(this.parameters, values.at(-1)),
      };
    }

    // The lattice that all data cases share, made when it is first asked for; `*rows` makes it row by row, for who
    // has something else to do meanwhile.
    get lattice() {
      for (const _ of this.rows());
      return this.shared;
    }

    * rows() {
      const n = Math.round(RANGE / MESH);
      this.shared ??= new Map();
      for (let i = -n; i <= n; i++) {
        if (this.shared.has(key(i, n))) continue;
        for (let j = -n; j <= n; j++) this.shared.set(key(i, j), this.point([i * MESH, j * MESH]));
        yield i;
      }
    }
  }

  // ---- posteriors/diagonal and /full: q(z|φ) = N(m, L Lᵀ), L = [[l11, 0], [l21, l22]]

  const FAMILIES = {
    diagonal: {
      n_phi: 4,
      unpack: (phi) => ({ m: [phi[0], phi[1]], L: [Math.exp(phi[2]), 0, Math.exp(phi[3])] }),
      pack: (m, [l11, , l22]) => Float64Array.of(...m, Math.log(l11), Math.log(l22)),
      gradient: ([dm1, dm2], dL, L) => Float64Array.of(dm1, dm2, dL[0] * L[0], dL[2] * L[2]),
      naturalScale: (phi) => [Math.exp(2 * phi[2]), Math.exp(2 * phi[3]), 0.5, 0.5],     // (3.11)
    },
    full: {
      n_phi: 5,
      unpack: (phi) => ({ m: [phi[0], phi[1]], L: [Math.exp(phi[2]), phi[3], Math.exp(phi[4])] }),
      pack: (m, [l11, l21, l22]) => Float64Array.of(...m, Math.log(l11), l21, Math.log(l22)),
      gradient: ([dm1, dm2], dL, L) => Float64Array.of(dm1, dm2, dL[0] * L[0], dL[1], dL[2] * L[2]),  // (3.12)
      naturalScale(phi) {
        const [l11, l21, l22] = this.unpack(phi).L, second = l21 * l21 + l22 * l22;
        return [l11 * l11, second, 0.5, second, 0.5];              //                       (3.23)
      },
    },
  };

  const at = ({ m, L }, eta) => [m[0] + L[0] * eta[0], m[1] + L[1] * eta[0] + L[2] * eta[1]];  // (3.1), (3.13)

  // KL(q ‖ N(0, I)), in nats                                                             (3.4), (3.16)
  const kl = ({ m, L }) => 0.5 * (dot(m, m) + dot(L, L) - 2) - Math.log(L[0]) - Math.log(L[2]);

  // ---- posteriors/nodes

  // The product rule of two Gauss–Hermite rules [nodes, weights]: [{eta, weight}]         (1.15)
  function product([nodes, weights]) {
    return Array.from(nodes).flatMap((a, i) => Array.from(nodes, (b, j) => (
      { eta: [a, b], weight: weights[i] * weights[j] }
    )));
  }

  // ---- bound: Q and its gradient in φ

  // {Q, cost, kl, dphi}: Q = −E_q[log p(x|z)] + KL(q ‖ p(z)), cost the first of the two, over nodes or draws.
  function bound(model, family, phi, x, nodes, { gradient = true } = {}) {
    const q = family.unpack(phi), { m, L } = q;
    let cost = 0;
    const dm = [m[0], m[1]], dL = [L[0] - 1 / L[0], L[1], L[2] - 1 / L[2]];  // of the KL    (3.17), (3.18)
    for (const { eta, weight } of nodes) {
      const z = at(q, eta);
      if (!gradient) { cost -= weight * model.logLikelihood(x, z); continue; }
      const [logP, dz] = model.logLikelihoodGradient(x, z);
      cost -= weight * logP;
      for (let k = 0; k < 2; k++) dm[k] -= weight * dz[k];         //                       (3.2), (3.14)
      dL[0] -= weight * dz[0] * eta[0];                            //                       (3.3), (3.15)
      dL[1] -= weight * dz[1] * eta[0];
      dL[2] -= weight * dz[1] * eta[1];
    }
    const price = kl(q);
    return { Q: cost + price, cost, kl: price, dphi: gradient ? family.gradient(dm, dL, L) : null };  // (1.8), (1.12)
  }

  const ORDERS = [10, 14, 20, 28, 40, 56, 80];                     // as in inference/expectations
  const SETTLED = 1e-6, UNSETTLED = 3;

  // {Q, cost, kl, certificate, order}: by ever finer Gauss–Hermite rules                  (10.5)
  function quadrature(model, family, phi, x, rules, most = 80) {
    const values = [];
    let found, change = Infinity, order;
    for (order of ORDERS.filter((n) => n <= most)) {
      found = bound(model, family, phi, x, rules[order], { gradient: false });
      values.push(found.Q);
      if (values.length < 2) continue;
      change = Math.max(...values.slice(-3, -1).map((before) => Math.abs(found.Q - before)));
      if (change <= SETTLED) break;
    }
    return { ...found, order, certificate: change > SETTLED ? UNSETTLED * change : change };
  }

  // ---- inference/bfgs: quasi-Newton steps with backtracking

  // Yields {phi, Q, norm} at the start and after every step that was taken; the last is the least Q  (6.3).
  function* minimise(objective, phi, scale, { maxSteps = 200, tol = 1e-6 } = {}) {
    const P = phi.length;
    let { Q, dphi: g } = objective(phi), t = 1;
    let H = scale.map((s, i) => Array.from({ length: P }, (_, j) => (i === j ? s : 0)));
    const times = (v) => H.map((row) => dot(row, v));
    const direction = () => {                                      // p = −H g, no entry longer than 2
      const p = times(g).map((entry) => -entry), shorten = 2 / Math.max(norm(p), 2);
      return p.map((entry) => entry * shorten);
    };
    let p = direction();
    yield { phi, Q, norm: norm(g) };
    for (let step = 0; step < maxSteps && norm(g) >= tol && t > 1e-12; step++) {
      const s = p.map((entry) => t * entry);
      const next = phi.map((entry, i) => entry + s[i]);
      const { Q: Qnew, dphi: gnew } = objective(next);
      const fell = Qnew <= Q + 1e-4 * t * dot(g, p);               // Armijo
      const flat = Qnew <= Q + 1e-13 * (1 + Math.abs(Q)) && norm(gnew) < norm(g);
      if (!(fell || flat)) { t /= 2; continue; }
      const y = gnew.map((entry, i) => entry - g[i]), sy = dot(s, y);
      if (sy > 1e-12 * Math.sqrt(dot(s, s) * dot(y, y))) {         //                       (6.4)
        const rho = 1 / sy, Hy = times(y), half = 0.5 * (1 + rho * dot(y, Hy));
        const c = s.map((entry, i) => half * entry - Hy[i]);
        H = H.map((row, i) => row.map((h, j) => h + rho * (s[i] * c[j] + c[i] * s[j])));
      }
      [phi, Q, g, t] = [next, Qnew, gnew, 1];
      p = direction();
      yield { phi, Q, norm: norm(g) };
    }
  }

  // ---- inference/e_step: the φ that minimise Q

  const COARSE = 5, FINE = 14, NARROW = 1 / 20;

  // The steps of an E-step from phi, as `minimise` yields them.
  function steps(model, family, phi, x, nodes, options) {
    const objective = (at) => bound(model, family, at, x, nodes);
    return minimise(objective, phi, family.naturalScale(phi), options);
  }

  function eStep(...what) {
    let last;
    for (last of steps(...what));
    return last;
  }

  // {phi, Q, norm} of the lowest Q that E-steps from several starts lead to: sought on coarse nodes, judged on
  // fine ones, and finished there.
  function optimal(model, family, starts, x, rules) {
    const judge = (phi) => bound(model, family, phi, x, rules[FINE], { gradient: false }).Q;
    let best = { phi: starts[0], Q: judge(starts[0]) };
    for (const start of starts) {
      const { phi } = eStep(model, family, start, x, rules[COARSE], { maxSteps: 500, tol: 1e-2 });
      const Q = judge(phi);
      if (Q < best.Q) best = { phi, Q };
    }
    return eStep(model, family, best.phi, x, rules[FINE], { maxSteps: 500, tol: 1e-6 });
  }

  // ---- evaluation/grid: −log ∫ p(x, z) dz on a lattice

  const RANGE = 8, FIRST = 6, MESH = 0.1;                          // the shared lattice, and the first look
  const FLOOR = 30;                                                // nats below the top where it is refined no more
  const MOST = 100000;                                             // points of a refined lattice
  const WIDEST = 40;                                               // how far a lattice may grow, in units of z
  const key = (i, j) => (i + 16384) * 32768 + (j + 16384);
  const places = (k) => [Math.floor(k / 32768) - 16384, (k % 32768) - 16384];

  // {nlml, certificate, meshes, looks, top, mean, covariance, peaks} of one data case.
  // looks: [{range, mesh, nlml, points}], the first on ±6 with mesh 0.1, then ±8, then every other point of that.
  // Where the latter two differ by more than 1e-8, with half the mesh wherever the integrand is not below its top
  // by FLOOR nats, and so on until a halving moves the value by less than 1e-6, or has too many points. The
  // certificate is how far the last two meshes differ.                                   (7.3), (7.4)
  function nlml(model, x) {
    const logJoint = model.logJointOf(x), looks = [];
    let points = model.lattice, values = new Map(), top = -Infinity, mesh = MESH;
    for (const [k, point] of points) values.set(k, logJoint(point));
    for (const value of values.values()) top = Math.max(top, value);
    const integral = (entries) => -(logSumExp([...entries]) + 2 * Math.log(mesh));
    const inside = [];
    for (const [k, point] of points) {
      if (Math.max(...point.z.map(Math.abs)) <= FIRST + 1e-9) inside.push(values.get(k));
    }
    looks.push({ range: FIRST, mesh, nlml: integral(inside), points: inside.length });
    looks.push({ range: RANGE, mesh, nlml: integral(values.values()), points: values.size });

    const at = (i, j) => {
      const k = key(i, j);
      if (!values.has(k)) values.set(k, logJoint(model.point([i * mesh, j * mesh])));
      return values.get(k);
    };
    const neighbours = ([i, j]) => [-1, 0, 1].flatMap((a) => [-1, 0, 1].map((b) => [i + a, j + b]));
    const high = () => [...values.keys()].filter((k) => values.get(k) > top - FLOOR);
    let front = high(), edge = RANGE, kept, value = looks[1].nlml, certificate = Infinity;
    while (front.length) {                                         // it grows until nothing is left at its edge
      const fresh = front.flatMap((k) => neighbours(places(k))).filter(
        ([i, j]) => !values.has(key(i, j)) && Math.max(Math.abs(i), Math.abs(j)) * mesh <= WIDEST);
      front = [];
      for (const [i, j] of fresh) {
        if (values.has(key(i, j))) continue;
        edge = Math.max(edge, Math.abs(i) * mesh, Math.abs(j) * mesh);
        top = Math.max(top, at(i, j));
        if (at(i, j) > top - FLOOR) front.push(key(i, j));
      }
    }
    if (edge > RANGE) {
      value = integral(values.values());
      looks.push({ range: edge, mesh, nlml: value, points: values.size });
    }
    // Where every other point says the same, mesh 0.1 is fine enough: on a smooth integrand that dies out, plain
    // sums over a lattice converge faster than any power of the mesh.
    const sparse = [...values.keys()].filter((k) => places(k).every((i) => i % 2 === 0)).map((k) => values.get(k));
    const coarser = integral(sparse) - 2 * Math.log(2);
    looks.push({ range: edge, mesh: 2 * mesh, nlml: coarser, points: sparse.length });
    certificate = Math.abs(coarser - value);
    let meshes = [2 * mesh, mesh];
    const first = kept = high().map((k) => ({ z: places(k).map((i) => i * MESH), logP: values.get(k) }));
    for (let halving = 0; halving < 5 && certificate > SETTLED / 100; halving++) {
      const before = values, coarse = high();
      if (4 * coarse.length > MOST) break;                         // what is left is stated
      values = new Map();
      for (const [k, logP] of before) values.set(key(...places(k).map((i) => 2 * i)), logP);
      mesh /= 2;
      const wanted = new Set();
      for (const k of coarse) {
        const [i, j] = places(k);
        for (const [a, b] of neighbours([2 * i, 2 * j])) wanted.add(key(a, b));
      }
      const next = new Map();
      for (const k of wanted) next.set(k, at(...places(k)));
      values = next;
      for (const logP of values.values()) top = Math.max(top, logP);
      const finer = integral(values.values());
      certificate = Math.abs(finer - value);
      meshes = [2 * mesh, mesh];
      value = finer;
      if (certificate <= SETTLED) halving = 5;
      looks.push({ range: edge, mesh, nlml: value, points: values.size });
    }
    kept = [...values].map(([k, logP]) => ({ z: places(k).map((i) => i * mesh), logP }));
    return { nlml: value, certificate, meshes, looks, top, ...moments(kept, top), peaks: peaks(first, top) };
  }

  // Mean and covariance (c11, c21, c22) of the posterior on the points of a lattice.
  function moments(kept, top) {
    let mass = 0;
    const mean = [0, 0], c = [0, 0, 0];
    const each = (what) => kept.forEach(({ z, logP }) => what(z, Math.exp(logP - top)));
    each((z, p) => { mass += p; mean[0] += p * z[0]; mean[1] += p * z[1]; });
    mean.forEach((_, k) => { mean[k] /= mass; });
    each((z, p) => {
      const [u, v] = [z[0] - mean[0], z[1] - mean[1]];
      c[0] += p * u * u / mass; c[1] += p * u * v / mass; c[2] += p * v * v / mass;
    });
    return { mean, covariance: c };
  }

  // The highest points of a lattice, none beside a higher one, 30 nats below the top at the most.
  function peaks(kept, top) {
    const sorted = kept.filter(({ logP }) => logP > top - 30).sort((a, b) => b.logP - a.logP);
    const highest = new Map(sorted.map((point) => [key(...point.z.map((t) => Math.round(t / MESH))), point.logP]));
    const isPeak = ({ z, logP }) => {
      const [i, j] = z.map((t) => Math.round(t / MESH));
      for (let a = -1; a <= 1; a++) {
        for (let b = -1; b <= 1; b++) if ((highest.get(key(i + a, j + b)) ?? -Infinity) > logP) return false;
      }
      return true;
    };
    return sorted.filter(isPeak).slice(0, 8).map(({ z }) => z);
  }

  // ---- evaluation/gaps: the ledger

  const RETRY = 0.5;                                               // nats above NLML where all peaks are tried

  // {nlml, certificate, looks, qFull, qOptimal, phiOptimal, phiFull, …} of a data case; phi is what is in use,
  // or null where the E-step fills it in.                                                (10.1)–(10.4)
  function ledger(model, x, phi, rules) {
    const worth = nlml(model, x), { mean, covariance: [c11, c21, c22] } = worth;
    const l11 = Math.sqrt(c11), l21 = c21 / l11, l22 = Math.sqrt(Math.max(c22 - l21 * l21, 1e-12));
    const best = (family, starts) => {
      let found = optimal(model, family, starts, x, rules);
      if (found.Q - worth.nlml > RETRY) {
        const narrow = worth.peaks.map((z) => family.pack(z, [NARROW, 0, NARROW]));
        found = optimal(model, family, [found.phi, ...narrow], x, rules);
      }
      return found.phi;
    };
    const { family } = model, { diagonal, full } = FAMILIES;
    const spread = (one) => one.pack(mean, one === full ? [l11, l21, l22] : [l11, 0, Math.sqrt(c22)]);
    const peak = family.pack(worth.peaks[0] ?? mean, [NARROW, 0, NARROW]);
    const phiOptimal = best(family, [...(phi ? [phi] : []), family.pack([0, 0], [1, 0, 1]), peak, spread(family)]);
    const asFull = ({ m, L }) => full.pack(m, L);
    const phiFull = family === full ? phiOptimal : best(full, [asFull(diagonal.unpack(phiOptimal)), spread(full)]);
    return {
      ...worth, phiOptimal, phiFull, phiUsed: phi ?? phiOptimal,
      qOptimal: quadrature(model, family, phiOptimal, x, rules),
      qFull: quadrature(model, full, phiFull, x, rules),
    };
  }

  // ---- draws of η, from a seed

  // A function that gives standard normal numbers, the same for the same seed (mulberry32, Box and Muller).
  function normals(seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6D2B79F5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
    };
    return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  // S draws [{eta, weight}], each of weight 1/S.
  const draws = (normal, S) => Array.from({ length: S }, () => ({ eta: [normal(), normal()], weight: 1 / S }));

  // ---- the regions of a posterior that hold given shares of its mass, for the contours

  // {z1, z2, logP, levels}: log p(x, z) on n × n points around the posterior, and the log p above which lies
  // each of the shares of its mass.
  function region(model, x, { top }, shares = [0.5, 0.9, 0.99], n = 61) {
    const logJoint = model.logJointOf(x), low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (const point of model.lattice.values()) {
      if (logJoint(point) < top - 9) continue;
      point.z.forEach((t, k) => { low[k] = Math.min(low[k], t); high[k] = Math.max(high[k], t); });
    }
    if (low[0] > high[0]) return null;                             // all of it lies beyond the shared lattice
    const axis = (k) => Array.from({ length: n }, (_, i) => low[k] - MESH + (high[k] - low[k] + 2 * MESH) * i / (n - 1));
    const z1 = axis(0), z2 = axis(1), logP = new Float64Array(n * n);
    z1.forEach((a, i) => z2.forEach((b, j) => { logP[i * n + j] = logJoint(model.point([a, b])); }));
    const sorted = Array.from(logP).sort((a, b) => b - a), mass = sorted.map((v) => Math.exp(v - sorted[0]));
    const total = mass.reduce((a, b) => a + b);
    const levels = shares.map((share) => {
      let sum = 0, i = 0;
      while (i < mass.length - 1 && sum + mass[i] < share * total) sum += mass[i++];
      return sorted[i];
    });
    return { z1, z2, logP, levels };
  }

  return {
    Model, FAMILIES, FINE, at, bound, draws, eStep, kl, ledger, nlml, normals, optimal, product, quadrature,
    region, steps, forward, sigmoid,
  };
})();
if (typeof module !== "undefined") module.exports = Mathematics;   // for a look at it without a page
