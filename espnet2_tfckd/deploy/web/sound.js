// Runs where the browser handles sound: hands on what the microphone hears, plays what comes back.

class Exchange extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = [];
    this.port.onmessage = ({ data }) => this.queue.push(...data);
  }

  process([input], [output]) {
    if (input.length) this.port.postMessage(input[0].slice());
    const heard = output[0];
    const late = this.queue.length - sampleRate / 4; // what a hiccup left behind, else it would stay
    if (late > 0) this.queue.splice(0, late);
    for (let n = 0; n < heard.length; n++) heard[n] = this.queue[n] ?? 0;
    this.queue.splice(0, heard.length);
    return true;
  }
}

registerProcessor("exchange", Exchange);
