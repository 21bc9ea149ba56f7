// Browsers start no worker from the file system, so that the search would find nothing there: a frame takes its place, in the same thread.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    onmessage = null;
    onerror = null;
    #frame = document.createElement("iframe");
    #waiting = [];
    #inside = null;

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const inside = this.#frame.contentWindow;
      inside.postMessage = (message) => {
        const data = structuredClone(message); // a worker has nothing in common with its page
        setTimeout(() => this.onmessage?.(new MessageEvent("message", { data })));
      };
      const script = inside.document.createElement("script");
      script.src = url;
      script.onload = () => {
        this.#inside = inside;
        for (const message of this.#waiting.splice(0)) this.postMessage(message);
      };
      script.onerror = () => this.onerror?.(new ErrorEvent("error"));
      inside.document.body.append(script);
    }
    postMessage(message) {
      const data = structuredClone(message);
      if (this.#inside === null) this.#waiting.push(data);
      else setTimeout(() => this.#inside?.dispatchEvent(new this.#inside.MessageEvent("message", { data })));
    }
    terminate() {
      this.#frame.remove();
      this.#inside = null;
    }
  };
}
