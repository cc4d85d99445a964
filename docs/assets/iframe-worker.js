// A page that is opened from the disk may not start a Worker, which the search runs in. This one runs the same script in
// a hidden frame. It is taken only where the page is a file.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.window = frame.contentWindow;
      this.ready = new Promise((resolve) => { frame.onload = resolve; });
      addEventListener("message", (event) => {
        if (event.source === this.window) this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      });
      const page = this.window.document;
      page.open();
      page.write(
        "<script>" +
          "postMessage = (data) => parent.dispatchEvent(new MessageEvent('message', { data, source: window }));" +
          "importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((resolve) => {" +
          "  const script = document.createElement('script');" +
          "  script.src = url; script.onload = resolve; document.body.append(script); })), Promise.resolve());" +
          "</" + "script><body><script src='" + encodeURI(url) + "'></" + "script></body>"
      );
      page.close();
    }
    postMessage(data) {
      this.ready.then(() => this.window.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {}
  };
}
