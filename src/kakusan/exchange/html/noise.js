// Random numbers of torch's CPU generator: MT19937, uniform numbers, Box-Muller in blocks of 16.
// Sample i of a seed is the stream of SHA-256("(seed, 'sample', i)"), as in kakusan.noise.
"use strict";

const K256 = (() => {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const bits = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
  return { h: primes.slice(0, 8).map((p) => bits(Math.sqrt(p))), k: primes.map((p) => bits(Math.cbrt(p))) };
})();

function sha256Words(text) {
  const bytes = [...new TextEncoder().encode(text), 0x80];
  const length = (bytes.length - 1) * 8;
  while (bytes.length % 64 !== 56) bytes.push(0);
  for (let k = 7; k >= 0; k--) bytes.push(k > 3 ? 0 : (length >>> (8 * k)) & 255);
  const h = [...K256.h];
  const w = new Int32Array(64);
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  for (let at = 0; at < bytes.length; at += 64) {
    for (let i = 0; i < 16; i++) {
      const b = at + 4 * i;
      w[i] = (bytes[b] << 24) | (bytes[b + 1] << 16) | (bytes[b + 2] << 8) | bytes[b + 3];
    }
    for (let i = 16; i < 64; i++) {
      const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, hh] = h;
    for (let i = 0; i < 64; i++) {
      const t1 = (hh + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K256.k[i] + w[i]) | 0;
      const t2 = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [hh, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, hh].forEach((v, i) => (h[i] = (h[i] + v) | 0));
  }
  return h;
}

class Stream {
  constructor(seed, index) {
    const first = sha256Words(`(${seed}, 'sample', ${index})`)[0]; // big-endian; the seed is its bytes reversed
    this.state = new Uint32Array(624);
    this.state[0] = ((first & 255) << 24) | ((first & 0xff00) << 8) | ((first >>> 8) & 0xff00) | (first >>> 24);
    for (let i = 1; i < 624; i++) {
      const x = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(x, 1812433253) + i;
    }
    this.place = 624;
    this.kept = null;
  }

  bits() {
    const s = this.state;
    if (this.place === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
        s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.place = 0;
    }
    let y = s[this.place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  double() {
    const high = this.bits() & 0x1fffff; // 53 of 64 bits
    return (high * 2 ** 32 + this.bits()) * 2 ** -53;
  }

  float() {
    return (this.bits() & 0xffffff) * 2 ** -24;
  }

  normal(size) {
    const out = new Float32Array(size);
    if (size < 16) {
      for (let i = 0; i < size; i++) out[i] = this.oneNormal();
      return out;
    }
    for (let i = 0; i < size; i++) out[i] = this.float();
    for (let i = 0; i + 16 <= size; i += 16) this.boxMuller(out, i);
    if (size % 16) {
      for (let i = size - 16; i < size; i++) out[i] = this.float();
      this.boxMuller(out, size - 16);
    }
    return out;
  }

  boxMuller(out, at) {
    for (let i = at; i < at + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - out[i]));
      const angle = 2 * Math.PI * out[i + 8];
      out[i] = radius * Math.cos(angle);
      out[i + 8] = radius * Math.sin(angle);
    }
  }

  oneNormal() {
    if (this.kept !== null) {
      const kept = this.kept;
      this.kept = null;
      return kept;
    }
    const angle = 2 * Math.PI * this.double();
    const radius = Math.sqrt(-2 * Math.log1p(-this.double()));
    this.kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }
}
