// Runs the operations that lower.py writes, in float32 with sums in float64, and the steps that plan.py writes.
"use strict";

const erf = (x) => { // Abramowitz and Stegun 7.1.5 for small x, 7.1.14 as a continued fraction for others
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a, sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) sum += (term *= (-a * a) / n) / (2 * n + 1);
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let f = a;
  for (let k = 40; k > 0; k--) f = a + k / 2 / f;
  return Math.sign(x) * (1 - Math.exp(-a * a) / (f * Math.sqrt(Math.PI)));
};

const UNARY = {
  sin: Math.sin, cos: Math.cos, tanh: Math.tanh, exp: Math.exp, sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x), relu: (x) => Math.max(x, 0), neg: (x) => -x,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)), silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};
const BINARY = {
  add: (out, o, a, i, da, b, j, db, n) => { for (let k = 0; k < n; k++, i += da, j += db) out[o + k] = a[i] + b[j]; },
  sub: (out, o, a, i, da, b, j, db, n) => { for (let k = 0; k < n; k++, i += da, j += db) out[o + k] = a[i] - b[j]; },
  mul: (out, o, a, i, da, b, j, db, n) => { for (let k = 0; k < n; k++, i += da, j += db) out[o + k] = a[i] * b[j]; },
  div: (out, o, a, i, da, b, j, db, n) => { for (let k = 0; k < n; k++, i += da, j += db) out[o + k] = a[i] / b[j]; },
};

// Calls inner(position of each operand) for every index but the last one
function outer(shape, offsets, strides, inner) {
  const index = new Array(shape.length).fill(0), at = [...offsets];
  for (;;) {
    inner(at);
    let d = shape.length - 2;
    for (; d >= 0; d--) {
      at.forEach((_, k) => (at[k] += strides[k][d]));
      if (++index[d] < shape[d]) break;
      at.forEach((_, k) => (at[k] -= strides[k][d] * shape[d]));
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

// out (m, n) = a (m, k) b (k, n) + bias, per column or per row
function matmul(out, o, a, ai, b, bi, m, k, n, bias, perRow) {
  for (let i = 0; i < m; i += 4) {
    const rows = Math.min(4, m - i);
    const a0 = ai + i * k, a1 = a0 + (rows > 1 ? k : 0), a2 = a0 + (rows > 2 ? 2 * k : 0), a3 = a0 + (rows > 3 ? 3 * k : 0);
    for (let j = 0; j < n; j += 4) {
      const cols = Math.min(4, n - j);
      let c00 = 0, c01 = 0, c02 = 0, c03 = 0, c10 = 0, c11 = 0, c12 = 0, c13 = 0;
      let c20 = 0, c21 = 0, c22 = 0, c23 = 0, c30 = 0, c31 = 0, c32 = 0, c33 = 0;
      if (cols === 4) {
        for (let p = 0, q = bi + j; p < k; p++, q += n) {
          const b0 = b[q], b1 = b[q + 1], b2 = b[q + 2], b3 = b[q + 3];
          const x0 = a[a0 + p], x1 = a[a1 + p], x2 = a[a2 + p], x3 = a[a3 + p];
          c00 += x0 * b0; c01 += x0 * b1; c02 += x0 * b2; c03 += x0 * b3;
          c10 += x1 * b0; c11 += x1 * b1; c12 += x1 * b2; c13 += x1 * b3;
          c20 += x2 * b0; c21 += x2 * b1; c22 += x2 * b2; c23 += x2 * b3;
          c30 += x3 * b0; c31 += x3 * b1; c32 += x3 * b2; c33 += x3 * b3;
        }
      } else {
        const d1 = cols > 1 ? 1 : 0, d2 = cols > 2 ? 2 : 0;
        for (let p = 0, q = bi + j; p < k; p++, q += n) {
          const b0 = b[q], b1 = b[q + d1], b2 = b[q + d2];
          const x0 = a[a0 + p], x1 = a[a1 + p], x2 = a[a2 + p], x3 = a[a3 + p];
          c00 += x0 * b0; c01 += x0 * b1; c02 += x0 * b2;
          c10 += x1 * b0; c11 += x1 * b1; c12 += x1 * b2;
          c20 += x2 * b0; c21 += x2 * b1; c22 += x2 * b2;
          c30 += x3 * b0; c31 += x3 * b1; c32 += x3 * b2;
        }
      }
      const tile = [c00, c01, c02, c03, c10, c11, c12, c13, c20, c21, c22, c23, c30, c31, c32, c33];
      for (let r = 0; r < rows; r++)
        for (let c = 0; c < cols; c++)
          out[o + (i + r) * n + j + c] = tile[4 * r + c] + (bias ? bias[perRow ? i + r : j + c] : 0);
    }
  }
}

let scratch = new Float32Array(0);
// The values under each tap of the kernel: rows are (channel, tap), columns are output positions
function columns(input, at, c, [h, w, kh, kw, sh, sw, ph, pw, oh, ow]) {
  if (scratch.length < c * kh * kw * oh * ow) scratch = new Float32Array(c * kh * kw * oh * ow);
  let to = 0;
  for (let ch = 0; ch < c; ch++)
    for (let u = 0; u < kh; u++)
      for (let v = 0; v < kw; v++)
        for (let y = 0; y < oh; y++) {
          const row = y * sh + u - ph, from = at + (ch * h + row) * w + v - pw;
          const inside = row >= 0 && row < h;
          for (let x = 0; x < ow; x++) {
            const column = x * sw + v - pw;
            scratch[to++] = inside && column >= 0 && column < w ? input[from + x * sw] : 0;
          }
        }
  return scratch;
}

const OPS = {
  copy(get, out, shape, from, offset, strides, outOffset, outStrides) {
    const input = get(from), last = shape.length - 1;
    if (last < 0) { out[outOffset] = input[offset]; return; }
    const n = shape[last], d = strides[last], e = outStrides[last];
    outer(shape, [offset, outOffset], [strides, outStrides], ([i, o]) => {
      for (let k = 0; k < n; k++, i += d, o += e) out[o] = input[i];
    });
  },
  matmul(get, out, one, other, bias, batch, m, k, n) {
    for (let i = 0; i < batch; i++)
      matmul(out, i * m * n, get(one), i * m * k, get(other), i * k * n, m, k, n, bias < 0 ? null : get(bias), false);
  },
  convolution(get, out, from, weight, bias, [c, h, w, cOut, kh, kw, sh, sw, ph, pw, oh, ow, groups]) {
    const input = get(from), kernel = get(weight), shifts = bias < 0 ? null : get(bias);
    const cIn = c / groups, each = cOut / groups, k = cIn * kh * kw, n = oh * ow;
    for (let g = 0; g < groups; g++) {
      const cols = columns(input, g * cIn * h * w, cIn, [h, w, kh, kw, sh, sw, ph, pw, oh, ow]);
      const own = shifts && shifts.subarray(g * each, (g + 1) * each);
      matmul(out, g * each * n, kernel, g * each * k, cols, 0, each, k, n, own, true);
    }
  },
  group_norm(get, out, from, weight, bias, groups, channels, positions, eps) {
    const input = get(from), scale = get(weight), shift = get(bias), each = channels / groups, n = each * positions;
    for (let g = 0; g < groups; g++) {
      const [mean, inverse] = moments(input, g * n, n, eps);
      for (let c = g * each; c < (g + 1) * each; c++) {
        const a = inverse * scale[c], b = shift[c] - mean * a;
        for (let i = c * positions; i < (c + 1) * positions; i++) out[i] = a * input[i] + b;
      }
    }
  },
  layer_norm(get, out, from, weight, bias, width, eps) {
    const input = get(from), scale = get(weight), shift = get(bias);
    for (let at = 0; at < out.length; at += width) {
      const [mean, inverse] = moments(input, at, width, eps);
      for (let i = 0; i < width; i++) out[at + i] = (input[at + i] - mean) * inverse * scale[i] + shift[i];
    }
  },
  mean(get, out, from, width) {
    const input = get(from);
    for (let r = 0; r < out.length; r++) {
      let sum = 0;
      for (let i = r * width; i < (r + 1) * width; i++) sum += input[i];
      out[r] = sum / width;
    }
  },
  softmax(get, out, from, width) {
    const input = get(from);
    for (let at = 0; at < out.length; at += width) {
      let most = -Infinity, sum = 0;
      for (let i = at; i < at + width; i++) most = Math.max(most, input[i]);
      for (let i = at; i < at + width; i++) sum += out[i] = Math.exp(input[i] - most);
      for (let i = at; i < at + width; i++) out[i] /= sum;
    }
  },
  row(get, out, table, index) {
    const at = get(index)[0] * out.length;
    out.set(get(table).subarray(at, at + out.length));
  },
};
for (const [name, f] of Object.entries(UNARY))
  OPS[name] = (get, out, from) => { const input = get(from); for (let i = 0; i < out.length; i++) out[i] = f(input[i]); };
for (const [name, f] of Object.entries(BINARY))
  OPS[name] = (get, out, shape, one, offset, strides, other, otherOffset, otherStrides) => {
    const a = get(one), b = get(other), last = shape.length - 1, n = last < 0 ? 1 : shape[last];
    let o = 0;
    outer(shape, [offset, otherOffset], [strides, otherStrides], ([i, j]) => {
      f(out, o, a, i, last < 0 ? 0 : strides[last], b, j, last < 0 ? 0 : otherStrides[last], n);
      o += n;
    });
  };

function moments(input, at, n, eps) {
  let sum = 0, squares = 0;
  for (let i = at; i < at + n; i++) sum += input[i];
  const mean = sum / n;
  for (let i = at; i < at + n; i++) squares += (input[i] - mean) ** 2;
  return [mean, 1 / Math.sqrt(squares / n + eps)];
}

// Weights are stored as the upper three bytes of float32, one plane of bytes after the other
function unpack(bytes) {
  const n = bytes.length / 3, words = new Uint32Array(n);
  for (let i = 0; i < n; i++) words[i] = (bytes[i] << 24) | (bytes[n + i] << 16) | (bytes[2 * n + i] << 8);
  return new Float32Array(words.buffer);
}

class Network {
  constructor(program, weights, at) {
    this.program = program;
    this.buffers = program.sizes.map((size, k) =>
      k in program.weights ? weights.subarray(at + program.weights[k], at + program.weights[k] + size) : new Float32Array(size));
  }

  run(z, t, cond) {
    const { inputs, ops, output } = this.program;
    this.buffers[inputs[0]].set(z);
    this.buffers[inputs[1]][0] = t;
    if (inputs.length > 2) this.buffers[inputs[2]][0] = cond;
    const get = (k) => this.buffers[k];
    for (const [name, out, ...rest] of ops) OPS[name](get, this.buffers[out], ...rest);
    return this.buffers[output];
  }
}

class Model {
  constructor(facts, weights) {
    this.facts = facts;
    this.size = facts.shape.reduce((a, b) => a * b);
    this.network = new Network(facts.program, weights, 0);
    this.weaker = facts.guidance === null ? null : new Network(facts.program, weights, facts.num_weights);
  }

  // The estimate of x: from the prediction, guided by the early weights, clamped
  estimate(z, step, cond) {
    const x = new Float32Array(this.size), { guidance, clip } = this.facts;
    let prediction = this.network.run(z, step.t, cond);
    if (step.guided && this.weaker) {
      const theirs = this.weaker.run(z, step.t, cond);
      prediction = prediction.map((ours, i) => theirs[i] + Math.fround(guidance * Math.fround(ours - theirs[i])));
    }
    for (let i = 0; i < this.size; i++) {
      const value = Math.fround(step.from_z * z[i]) + Math.fround(step.from_output * prediction[i]);
      x[i] = clip ? Math.min(Math.max(value, clip[0]), clip[1]) : value;
    }
    return x;
  }

  drawClass(stream) {
    const ends = this.facts.class_ends;
    const u = stream.double() * ends[ends.length - 1];
    return ends.findIndex((end) => end > u);
  }

  // Steps of sample `index` of `seed`: {z, x, cond} before each step; the last one has x alone as its result
  *steps(seed, index, count, cond = null) {
    const stream = new Stream(seed, index), known = [], plan = this.facts.plans[count];
    if (this.facts.class_ends && cond === null) cond = this.drawClass(stream);
    let z = stream.normal(this.size);
    for (const step of plan) {
      const x = this.estimate(z, step, cond);
      yield { z, x, cond, step };
      known.unshift(x);
      const next = step.z ? z.map((value) => step.z * value) : new Float32Array(this.size);
      step.x.forEach((weight, k) => { for (let i = 0; weight && i < this.size; i++) next[i] += weight * known[k][i]; });
      if (step.noise) {
        const fresh = stream.normal(this.size);
        for (let i = 0; i < this.size; i++) next[i] += step.noise * fresh[i];
      }
      z = next;
    }
    yield { z, x: z, cond, step: null };
  }

  sample(seed, index, count, cond = null) {
    let last;
    for (const one of this.steps(seed, index, count, cond)) last = one.x;
    return last;
  }

  pixels(x) {
    const [low, high] = this.facts.range;
    return Uint8ClampedArray.from(x, (v) => {
      const p = Math.fround(Math.fround((Math.fround(v) - low) / (high - low)) * 255), down = Math.floor(p);
      const up = p - down > 0.5 || (p - down === 0.5 && down % 2 === 1); // halves go to the even number, as in torch
      return Math.min(Math.max(down + up, 0), 255);
    });
  }
}

async function inflate(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i); // Uint8Array.from with a function takes 20 times as long
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const loaded = async (facts, text) => new Model(facts, unpack(await inflate(text)));
