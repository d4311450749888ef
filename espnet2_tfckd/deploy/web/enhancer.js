// An exported streaming network in the browser: what meta.json says, frame by frame, by onnxruntime-web.
// The counterpart in Python is FrameByFrame in enhance.py; deploy/README.md describes the contract.

const size = (shape) => shape.reduce((product, n) => product * n, 1);

/** A causal network and all that it remembers of earlier frames. */
export class Network {
  /**
   * @param ort The module onnxruntime-web.
   * @param session Its session of the streaming network.
   * @param model The entry models.streaming of meta.json.
   */
  constructor(ort, session, model) {
    Object.assign(this, { ort, session, model, inputs: model.inputs });
    this.history = model.history ?? [];
    this.attention = model.attention ?? [];
    const reads = this.history.flatMap((entry) => entry.reads);
    this.period = Math.max(1, ...reads.map((read) => read.frames_ago));
    this.reset();
  }

  /** Forget what was enhanced before. */
  reset() {
    this.feeds = {};
    for (const [name, shape] of Object.entries(this.inputs)) {
      this.feeds[name] = this.tensor(new Float32Array(size(shape)), shape);
    }
    this.feeds.attention_mask?.data.fill(-Infinity); // nothing is there yet to attend to
    this.frames = Object.fromEntries(this.history.map((entry) => [entry.name, []]));
    this.count = 0;
  }

  tensor(data, shape) {
    return new this.ort.Tensor("float32", data, shape);
  }

  /** Enhance the frame that lies in feeds.mixture: real parts, then imaginary parts. */
  async step() {
    const feeds = this.feeds;
    if (feeds.inverse_count) feeds.inverse_count.data[0] = 1 / (this.count + 1);
    for (const { name, shape, reads } of this.history) {
      for (const read of reads) {
        const frame = this.frames[name][this.count - read.frames_ago];
        if (!frame) continue; // before the first frame there were zeros
        const start = (shape[1] - read.shape[1]) * size(shape.slice(2)); // its last channels
        feeds[read.name] = this.tensor(frame.subarray(start), read.shape);
      }
    }
    const outputs = await this.session.run(feeds);
    for (const { name } of this.model.states) feeds[name] = outputs[`next_${name}`];
    for (const { name } of this.history) {
      this.frames[name][this.count] = outputs[name].data;
      delete this.frames[name][this.count - this.period];
    }
    for (const { name, input, axis } of this.attention) {
      const shape = this.inputs[input];
      const inner = size(shape.slice(axis + 1));
      const place = this.count % shape[axis]; // that of the oldest
      const kept = feeds[input].data;
      const added = outputs[name].data;
      for (let outer = 0; outer < size(shape.slice(0, axis)); outer++) {
        const from = added.subarray(outer * inner, (outer + 1) * inner);
        kept.set(from, (outer * shape[axis] + place) * inner);
      }
      const places = shape[axis];
      const mask = feeds.attention_mask.data;
      for (let row = 0; row < mask.length; row += places) mask[row + place] = 0;
    }
    this.count++;
    return outputs.estimate.data;
  }
}

/** Fourier transform of a power of two many samples, in place. */
export class Fourier {
  constructor(length) {
    if (length & (length - 1)) throw new Error(`n_fft is ${length}, not a power of two`);
    this.length = length;
    this.cos = Float64Array.from({ length: length / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / length));
    this.sin = Float64Array.from({ length: length / 2 }, (_, k) => Math.sin((2 * Math.PI * k) / length));
  }

  /** sign -1: forward; 1: backward, without the division by the length. */
  transform(re, im, sign) {
    const n = this.length;
    for (let i = 1, j = 0; i < n; i++) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) {
        [re[i], re[j]] = [re[j], re[i]];
        [im[i], im[j]] = [im[j], im[i]];
      }
    }
    for (let half = 1; half < n; half <<= 1) {
      const stride = n / (2 * half);
      for (let start = 0; start < n; start += 2 * half) {
        for (let k = 0; k < half; k++) {
          const wr = this.cos[k * stride];
          const wi = sign * this.sin[k * stride];
          const [a, b] = [start + k, start + k + half];
          const xr = re[b] * wr - im[b] * wi;
          const xi = re[b] * wi + im[b] * wr;
          [re[b], im[b]] = [re[a] - xr, im[a] - xi];
          [re[a], im[a]] = [re[a] + xr, im[a] + xi];
        }
      }
    }
  }
}

/** The network with its STFT, for signals of one channel. */
export class Enhancer {
  /** Load the folder that holds meta.json and the network. */
  static async load(ort, folder) {
    const answer = await fetch(`${folder}/meta.json`);
    if (!answer.ok) throw new Error(`${folder}/meta.json: ${answer.status} ${answer.statusText}`);
    const meta = await answer.json();
    const model = meta.models.streaming;
    if (!model) throw new Error("the model is not causal, so that it cannot run frame by frame");
    if (meta.microphones > 1) throw new Error(`the model needs ${meta.microphones} microphones`);
    const options = { executionProviders: ["wasm"] };
    const session = await ort.InferenceSession.create(`${folder}/${model.file}`, options);
    return new Enhancer(meta, new Network(ort, session, model));
  }

  constructor(meta, network) {
    Object.assign(this, { meta, network, size: meta.n_fft, hop: meta.hop_length });
    this.fourier = new Fourier(this.size);
    this.window = Float64Array.from(
      { length: this.size },
      (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / this.size),
    );
  }

  reset() {
    this.network.reset();
  }

  /** A frame of n_fft samples to the same of its estimate, which is to be overlapped and added. */
  async frame(samples) {
    const { size, fourier, window } = this;
    const bins = size / 2 + 1;
    const re = Float64Array.from(samples, (x, n) => x * window[n]);
    const im = new Float64Array(size);
    fourier.transform(re, im, -1);
    const mixture = this.network.feeds.mixture.data;
    mixture.set(re.subarray(0, bins), 0);
    mixture.set(im.subarray(0, bins), bins);
    const estimate = await this.network.step();
    for (let k = 0; k < bins; k++) {
      [re[k], im[k]] = [estimate[k], k % (size / 2) ? estimate[bins + k] : 0];
      if (k % (size / 2)) [re[size - k], im[size - k]] = [re[k], -im[k]];
    }
    fourier.transform(re, im, 1);
    return re.map((x, n) => (x / size) * window[n]);
  }

  /** Enhance a whole signal as ESPnet does; progress is called with the part that is done. */
  async enhance(signal, progress = () => {}) {
    const { size, hop, window } = this;
    this.reset();
    const hops = Math.max(Math.ceil(signal.length / hop), Math.floor(size / 2 / hop) + 1);
    const whole = reflected(signal, 0, hops * hop - signal.length);
    const padded = reflected(whole, size / 2, size / 2);
    const [output, weight] = [new Float64Array(padded.length), new Float64Array(padded.length)];
    for (let start = 0; start + size <= padded.length; start += hop) {
      const estimate = await this.frame(padded.subarray(start, start + size));
      for (let n = 0; n < size; n++) {
        output[start + n] += estimate[n];
        weight[start + n] += window[n] ** 2;
      }
      progress(start / padded.length);
    }
    const kept = output.map((x, n) => x / Math.max(weight[n], 1e-11));
    return Float32Array.from(kept.subarray(size / 2, size / 2 + signal.length));
  }
}

/** A signal that comes and goes in blocks: n_fft samples after one came in, its estimate is known. */
export class Stream {
  constructor(enhancer) {
    const { size, hop, window } = enhancer;
    this.enhancer = enhancer;
    enhancer.reset();
    this.recent = new Float64Array(size);
    this.sum = new Float64Array(size);
    this.weight = Float64Array.from({ length: hop }, (_, n) => {
      let total = 0;
      for (let at = n; at < size; at += hop) total += window[at] ** 2;
      return total;
    });
  }

  /** The next hop_length samples to as many of the estimate. */
  async push(samples) {
    const { size, hop } = this.enhancer;
    this.recent.copyWithin(0, hop);
    this.recent.set(samples, size - hop);
    const estimate = await this.enhancer.frame(this.recent);
    for (let n = 0; n < size; n++) this.sum[n] += estimate[n];
    const ready = Float32Array.from(this.weight, (weight, n) => this.sum[n] / weight);
    this.sum.copyWithin(0, hop);
    this.sum.fill(0, size - hop);
    return ready;
  }
}

/** A signal continued by its mirror image on both sides. */
function reflected(signal, before, after) {
  const last = signal.length - 1;
  return Float64Array.from({ length: before + signal.length + after }, (_, n) => {
    if (last === 0) return signal[0];
    const place = (((n - before) % (2 * last)) + 2 * last) % (2 * last);
    return signal[place <= last ? place : 2 * last - place];
  });
}
