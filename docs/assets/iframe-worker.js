// A browser gives no worker to a page that is opened from a folder. Search has one: there it runs in a hidden frame.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = `<script src="${new URL(url, location)}"></script>`
      this.frame.addEventListener("load", () => this.start(), { once: true })
      document.documentElement.append(this.frame)
    }

    start() {
      const inner = this.frame.contentWindow
      inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      for (const data of this.waiting) this.tell(data)
      this.waiting = null
    }

    tell(data) {
      const inner = this.frame.contentWindow
      setTimeout(() => inner.dispatchEvent(new inner.MessageEvent("message", { data })))
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.tell(data)
    }

    terminate() {
      this.frame.remove()
    }
  }
}
