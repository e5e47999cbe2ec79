// Maps of images, drawn with WebGL. All there is to draw is in `data.story`; hovering, colouring, isolating, turning and
// scrubbing ask nobody. Selections are told to the page, which tells back what is selected.

const MOVE_MILLISECONDS = 450
const STEP_MILLISECONDS = 900
const SETTLED_MILLISECONDS = 800
const NEAR_PIXELS = 12
const PICTURE = 32
const SYMBOLS = [
  "circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star", "hexagon", "pentagon",
]
const known = new WeakMap()

const VERTEX = `#version 300 es
in vec3 place;
in float code;
in float mark;
uniform mat3 turn;
uniform vec3 centre;
uniform vec2 scale;
uniform float size;
uniform float pass;
uniform bool some;
uniform highp sampler2D looks;
out vec4 colour;
flat out int symbol;
void main() {
  vec4 look = texelFetch(looks, ivec2(int(code), 0), 0);
  bool shown = texelFetch(looks, ivec2(int(code), 1), 0).r > 0.5;
  vec3 at = turn * (place - centre);
  gl_Position = shown && mark == pass ? vec4(at.xy * scale, -at.z * 0.3, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = size * (mark > 0.5 ? 1.35 : 1.0) * (1.0 + 0.25 * at.z);
  colour = vec4(look.rgb, some && mark < 0.5 ? 0.18 : 0.88);
  symbol = int(look.a * 255.0 + 0.5);
}`

const FRAGMENT = `#version 300 es
precision highp float;
in vec4 colour;
flat in int symbol;
uniform bool solid;
out vec4 drawn;
float polygon(vec2 p, float sides, float turned) {
  float angle = atan(p.x, p.y) + turned, part = 6.2831853 / sides;
  return cos(floor(0.5 + angle / part) * part - angle) * length(p);
}
void main() {
  vec2 p = (gl_PointCoord - 0.5) * vec2(2.0, -2.0), q = abs(p);
  float d = length(p) - 0.82;
  if (symbol == 1) d = max(q.x, q.y) - 0.72;
  else if (symbol == 2) d = (q.x + q.y) * 0.75 - 0.7;
  else if (symbol == 3) d = min(max(q.x - 0.3, q.y - 0.92), max(q.y - 0.3, q.x - 0.92));
  else if (symbol == 4) { vec2 r = abs(vec2(p.x + p.y, p.x - p.y)) * 0.7071; d = min(max(r.x - 0.3, r.y - 0.95), max(r.y - 0.3, r.x - 0.95)); }
  else if (symbol == 5) d = polygon(p + vec2(0.0, 0.12), 3.0, 3.1415927) - 0.5;
  else if (symbol == 6) d = polygon(p - vec2(0.0, 0.12), 3.0, 0.0) - 0.5;
  else if (symbol == 7) {
    float part = 6.2831853 / 5.0, angle = mod(atan(p.x, p.y) + part / 2.0, part) - part / 2.0;
    d = length(p) * (abs(angle) / part * 1.7 + 0.75) - 0.75;
  }
  else if (symbol == 8) d = polygon(p, 6.0, 0.0) - 0.75;
  else if (symbol == 9) d = polygon(p, 5.0, 3.1415927) - 0.7;
  float edge = fwidth(d), alpha = colour.a * (1.0 - smoothstep(-edge, edge, d));
  if (alpha < 0.02 || (solid && alpha < colour.a * 0.5)) discard;
  drawn = vec4(colour.rgb * alpha, alpha);
}`

const ICONS = {
  circle: "M6 1a5 5 0 1 0 .01 0z", square: "M1.5 1.5h9v9h-9z", diamond: "M6 .5L11.5 6 6 11.5.5 6z",
  cross: "M4.3 .8h3.4v3.5h3.5v3.4H7.7v3.5H4.3V7.7H.8V4.3h3.5z",
  x: "M2.6.8L6 4.2 9.4.8l1.8 1.8L7.8 6l3.4 3.4-1.8 1.8L6 7.8l-3.4 3.4L.8 9.4 4.2 6 .8 2.6z",
  "triangle-up": "M6 1l5.5 9.5H.5z", "triangle-down": "M6 11L.5 1.5h11z",
  star: "M6 .3l1.7 3.7 4 .5-3 2.7.8 4L6 9.2l-3.5 2 .8-4-3-2.7 4-.5z",
  hexagon: "M3.2 1.2h5.6L11.6 6l-2.8 4.8H3.2L.4 6z", pentagon: "M6 .6l5.5 4-2.1 6.5H2.6L.5 4.6z",
}

function made(tag, parent, text, attributes = {}) {
  const element = document.createElement(tag)
  if (text !== undefined && text !== null) element.textContent = text
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  parent.append(element)
  return element
}

function numbers(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0))
  return new Kind(bytes.buffer)
}

function decoded(raw) {
  const story = JSON.parse(raw)
  const { count, dimensions } = story
  story.labels = numbers(story.labels, Uint16Array)
  story.numbers = numbers(story.numbers, Uint32Array)
  story.order = story.order ? numbers(story.order, Uint16Array) : null
  for (const pane of story.panes) {
    for (const frame of pane.frames) {
      const flat = numbers(frame.points, Uint16Array)
      frame.points = new Float32Array(3 * count)
      for (let i = 0; i < count; i++) {
        for (let k = 0; k < dimensions; k++) frame.points[3 * i + k] = flat[dimensions * i + k] / 32767.5 - 1
      }
      if (frame.predictions) frame.predictions = numbers(frame.predictions, Uint16Array)
      if (frame.confidences) frame.confidences = numbers(frame.confidences, Uint8Array)
      if (frame.neighbours) frame.neighbours = numbers(frame.neighbours, Uint16Array)
    }
  }
  for (const colouring of story.colourings) {
    colouring.codes = colouring.codes.map((frames) => frames.map((codes) => numbers(codes, Uint8Array)))
  }
  return story
}

function compiled(gl) {
  const program = gl.createProgram()
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind)
    gl.shaderSource(shader, source)
    gl.compileShader(shader)
    gl.attachShader(program, shader)
  }
  gl.linkProgram(program)
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program))
  return program
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16))
const percent = (share) => (share > 0.99 && share < 1 ? ">99%" : `${Math.round(100 * share)}%`)

class Pane {
  constructor(parent, atlas, place) {
    this.atlas = atlas
    this.place = place
    this.frame = 0
    const box = made("div", parent, null, { class: "pane" })
    this.title = made("h4", box)
    this.stage = made("div", box, null, { class: "stage" })
    this.canvas = made("canvas", this.stage, null, { "aria-hidden": "true" })
    this.over = made("canvas", this.stage, null, { tabindex: "0", role: "application" })
    this.note = made("p", box, null, { class: "note" })
    this.reset()
    this.gl = this.canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: false })
    if (!this.gl) {
      this.note.textContent = "This browser draws no WebGL, so the map cannot be shown."
      return
    }
    const gl = this.gl
    this.program = compiled(gl)
    gl.useProgram(this.program)
    this.at = (name) => gl.getUniformLocation(this.program, name)
    this.buffers = {}
    for (const [name, size, kind] of [["place", 3, gl.FLOAT], ["code", 1, gl.UNSIGNED_BYTE], ["mark", 1, gl.UNSIGNED_BYTE]]) {
      this.buffers[name] = gl.createBuffer()
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name])
      const location = gl.getAttribLocation(this.program, name)
      gl.enableVertexAttribArray(location)
      gl.vertexAttribPointer(location, size, kind, false, 0, 0)
    }
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture())
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST)
    gl.enable(gl.BLEND)
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA)
    this.listen()
  }

  reset() {
    this.view = { x: 0, y: 0, zoom: 1, yaw: 0.5, pitch: 0.35 }
  }

  get story() {
    return this.atlas.story
  }

  get data() {
    const frames = this.story.panes[this.place].frames
    return frames[Math.min(this.frame, frames.length - 1)]
  }

  fill(name, values) {
    const gl = this.gl
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name])
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW)
  }

  // Take over a frame; images that were there before move to their new places.
  take(frame, moving) {
    this.frame = frame
    const target = this.data.points
    this.title.textContent = this.story.panes[this.place].title
    this.title.hidden = !this.title.textContent
    this.note.textContent = this.data.note ?? ""
    this.over.setAttribute("aria-label", this.story.panes[this.place].alt)
    if (!this.gl) return
    cancelAnimationFrame(this.animation)
    const from = this.now
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches
    if (!moving || still || !from || from.length !== target.length) {
      this.now = target.slice()
      this.fill("place", this.now)
      this.recolour()
      return
    }
    const start = from.slice(), began = performance.now()
    this.now = start.slice()
    this.recolour()
    const step = () => {
      const t = Math.min((performance.now() - began) / MOVE_MILLISECONDS, 1), s = t * t * (3 - 2 * t)
      for (let i = 0; i < target.length; i++) this.now[i] = start[i] + s * (target[i] - start[i])
      this.fill("place", this.now)
      this.draw()
      if (t < 1) this.animation = requestAnimationFrame(step)
    }
    this.animation = requestAnimationFrame(step)
  }

  get codes() {
    const all = this.atlas.colouring.codes
    const frames = all[Math.min(this.place, all.length - 1)]
    return frames[Math.min(this.frame, frames.length - 1)]
  }

  recolour() {
    if (!this.gl) return
    const gl = this.gl, groups = this.atlas.colouring.groups, looks = new Uint8Array(256 * 2 * 4)
    groups.forEach((group, k) => {
      looks.set([...rgb(group.colour), SYMBOLS.indexOf(group.symbol)], 4 * k)
      looks[4 * (256 + k)] = this.atlas.shows(k) ? 255 : 0
    })
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 2, 0, gl.RGBA, gl.UNSIGNED_BYTE, looks)
    this.fill("code", this.codes)
    this.fill("mark", this.atlas.marks)
    this.draw()
  }

  // Pixels of CSS: size of the stage, and of a unit of the map.
  measure() {
    const width = this.stage.clientWidth, height = this.stage.clientHeight
    const extent = this.story.extent
    const flat = this.story.dimensions === 2
    const unit = flat ? Math.min(width / (2 * extent[0]), height / (2 * extent[1])) : Math.min(width, height) / 2.6
    return { width, height, unit: 0.95 * unit * this.view.zoom }
  }

  rotation() {
    if (this.story.dimensions === 2) return [1, 0, 0, 0, 1, 0, 0, 0, 1]
    const [c, s, d, t] = [Math.cos(this.view.yaw), Math.sin(this.view.yaw), Math.cos(this.view.pitch), Math.sin(this.view.pitch)]
    // Rows: right, up, towards the eye.
    return [c, 0, -s, s * t, d, c * t, s * d, -t, c * d]
  }

  draw() {
    const gl = this.gl
    if (!gl || !this.now) return
    const dots = window.devicePixelRatio || 1, { width, height, unit } = this.measure()
    if (!width || !height) return
    for (const canvas of [this.canvas, this.over]) {
      if (canvas.width !== Math.round(width * dots) || canvas.height !== Math.round(height * dots)) {
        canvas.width = Math.round(width * dots)
        canvas.height = Math.round(height * dots)
      }
    }
    gl.viewport(0, 0, this.canvas.width, this.canvas.height)
    gl.clearColor(0, 0, 0, 0)
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT)
    const count = this.story.count, solid = this.story.dimensions === 3
    solid ? gl.enable(gl.DEPTH_TEST) : gl.disable(gl.DEPTH_TEST)
    gl.uniformMatrix3fv(this.at("turn"), true, this.rotation())
    gl.uniform3f(this.at("centre"), this.view.x, this.view.y, 0)
    gl.uniform2f(this.at("scale"), (2 * unit) / width, (2 * unit) / height)
    const size = count <= 1000 ? 9 : count <= 3000 ? 7.5 : count <= 12000 ? 6 : 4.5
    gl.uniform1f(this.at("size"), size * dots * Math.min(Math.max(this.view.zoom, 1) ** 0.4, 3))
    gl.uniform1i(this.at("some"), this.atlas.some ? 1 : 0)
    gl.uniform1i(this.at("solid"), solid ? 1 : 0)
    for (const pass of this.atlas.some ? [0, 1] : [0]) {
      gl.uniform1f(this.at("pass"), pass)
      gl.drawArrays(gl.POINTS, 0, count)
    }
    this.lines()
  }

  // Where an image is on the stage, in CSS pixels.
  spots() {
    const { width, height, unit } = this.measure(), r = this.rotation(), view = this.view, now = this.now
    return (i) => {
      const x = now[3 * i] - view.x, y = now[3 * i + 1] - view.y, z = now[3 * i + 2]
      return [width / 2 + unit * (r[0] * x + r[1] * y + r[2] * z), height / 2 - unit * (r[3] * x + r[4] * y + r[5] * z)]
    }
  }

  nearest(x, y) {
    const spot = this.spots(), codes = this.codes
    let best = -1, least = NEAR_PIXELS ** 2
    for (let i = 0; i < this.story.count; i++) {
      if (!this.atlas.shows(codes[i])) continue
      const [a, b] = spot(i), d = (a - x) ** 2 + (b - y) ** 2
      if (d < least) [best, least] = [i, d]
    }
    return best
  }

  // Of the true neighbours of an image, which are among as many nearest ones on this map.
  found(i) {
    const { neighbours } = this.data, k = this.story.neighbours, now = this.now
    const far = (j) => (now[3 * i] - now[3 * j]) ** 2 + (now[3 * i + 1] - now[3 * j + 1]) ** 2 + (now[3 * i + 2] - now[3 * j + 2]) ** 2
    return Array.from(neighbours.subarray(k * i, k * i + k), (j) => {
      const limit = far(j)
      let nearer = 0
      for (let o = 0; o < this.story.count && nearer < k; o++) if (o !== i && o !== j && far(o) < limit) nearer++
      return { image: j, kept: nearer < k }
    })
  }

  lines() {
    const dots = window.devicePixelRatio || 1, pen = this.over.getContext("2d")
    pen.setTransform(dots, 0, 0, dots, 0, 0)
    pen.clearRect(0, 0, this.over.width, this.over.height)
    const ink = getComputedStyle(this.stage).color, hand = this.atlas.hand
    pen.strokeStyle = ink
    if (hand >= 0 && hand < this.story.count) {
      const spot = this.spots(), [x, y] = spot(hand)
      if (this.data.neighbours) {
        for (const { image, kept } of this.found(hand)) {
          const [a, b] = spot(image)
          pen.setLineDash(kept ? [] : [4, 3])
          pen.lineWidth = 1.2
          pen.globalAlpha = 0.75
          pen.beginPath()
          pen.moveTo(x, y)
          pen.lineTo(a, b)
          pen.stroke()
        }
      }
      pen.setLineDash([])
      pen.globalAlpha = 1
      pen.lineWidth = 2
      pen.beginPath()
      pen.arc(x, y, 7, 0, 7)
      pen.stroke()
    }
    if (this.lasso?.length > 1) {
      pen.setLineDash([5, 3])
      pen.lineWidth = 1.5
      pen.beginPath()
      this.lasso.forEach(([a, b], n) => (n ? pen.lineTo(a, b) : pen.moveTo(a, b)))
      pen.closePath()
      pen.stroke()
      pen.globalAlpha = 0.08
      pen.fillStyle = ink
      pen.fill()
      pen.globalAlpha = 1
      pen.setLineDash([])
    }
  }

  inside() {
    const spot = this.spots(), shape = this.lasso, codes = this.codes, found = []
    for (let i = 0; i < this.story.count; i++) {
      if (!this.atlas.shows(codes[i])) continue
      const [x, y] = spot(i)
      let within = false
      for (let n = 0, m = shape.length - 1; n < shape.length; m = n++) {
        const [a, b] = shape[n], [c, d] = shape[m]
        if (b > y !== d > y && x < ((c - a) * (y - b)) / (d - b) + a) within = !within
      }
      if (within) found.push(i)
    }
    return found
  }

  listen() {
    const canvas = this.over, atlas = this.atlas
    const where = (event) => {
      const box = canvas.getBoundingClientRect()
      return [event.clientX - box.left, event.clientY - box.top]
    }
    const way = (event) => (event.altKey ? "minus" : event.shiftKey || event.ctrlKey || event.metaKey ? "or" : "new")
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId)
      this.down = { at: where(event), view: { ...this.view }, far: 0 }
      if (atlas.mode === "lasso") this.lasso = [this.down.at]
    }
    canvas.onpointermove = (event) => {
      const at = where(event)
      if (!this.down) return atlas.take(this.nearest(...at))
      const [dx, dy] = [at[0] - this.down.at[0], at[1] - this.down.at[1]]
      this.down.far = Math.max(this.down.far, Math.hypot(dx, dy))
      if (this.lasso) {
        this.lasso.push(at)
        this.lines()
      } else if (this.down.far > 3) {
        const { unit } = this.measure(), { view } = this.down
        if (this.story.dimensions === 3) {
          this.view.yaw = view.yaw + dx * 0.01
          this.view.pitch = Math.min(Math.max(view.pitch + dy * 0.01, -1.57), 1.57)
        } else {
          this.view.x = view.x - dx / unit
          this.view.y = view.y + dy / unit
        }
        atlas.follow(this)
      }
    }
    canvas.onpointerup = (event) => {
      const { down } = this
      this.down = null
      if (!down) return
      if (down.far <= 3) {
        this.lasso = null
        const picked = this.nearest(...where(event))
        atlas.take(picked)
        if (picked >= 0) atlas.pick([picked], way(event))
        this.lines()
      } else if (this.lasso) {
        const found = this.inside()
        this.lasso = null
        this.lines()
        if (found.length) atlas.pick(found, way(event))
      }
    }
    canvas.onpointercancel = () => {
      this.down = this.lasso = null
      this.lines()
    }
    canvas.onwheel = (event) => {
      // Those who only pass by want to scroll the page.
      const here = canvas.getRootNode().activeElement === canvas
      if (!here && !event.ctrlKey && !event.metaKey) return
      event.preventDefault()
      this.zoom(Math.exp(-event.deltaY * 0.0015), where(event))
    }
    canvas.ondblclick = () => {
      this.reset()
      atlas.follow(this)
    }
    canvas.onkeydown = (event) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key]
      if (step) {
        event.preventDefault()
        atlas.take(this.towards(...step))
      } else if (event.key === "Enter" && atlas.hand >= 0) atlas.pick([atlas.hand], way(event))
      else if (event.key === "Escape") atlas.pick([], "none")
      else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 1.25 : 0.8)
      else if (event.key === "s" || event.key === "g") atlas.choose(event.key === "s" ? "lasso" : "move")
    }
  }

  zoom(factor, at) {
    const { width, height, unit } = this.measure(), before = this.view.zoom
    this.view.zoom = Math.min(Math.max(before * factor, 0.5), 60)
    if (at && this.story.dimensions === 2) {
      const grown = 1 - before / this.view.zoom
      this.view.x += ((at[0] - width / 2) / unit) * grown
      this.view.y -= ((at[1] - height / 2) / unit) * grown
    }
    this.atlas.follow(this)
  }

  // The next image in a direction, for those who come by keyboard.
  towards(right, down) {
    const spot = this.spots(), codes = this.codes, hand = this.atlas.hand, { width, height } = this.measure()
    const [x, y] = hand >= 0 ? spot(hand) : [width / 2, height / 2]
    let best = hand, least = Infinity
    for (let i = 0; i < this.story.count; i++) {
      if (i === hand || !this.atlas.shows(codes[i])) continue
      const [a, b] = spot(i), along = (a - x) * right + (b - y) * down, aside = Math.abs((a - x) * down) + Math.abs((b - y) * right)
      const cost = along + 2 * aside
      if ((hand < 0 || along > 1) && cost < least) [best, least] = [i, hand < 0 ? Math.hypot(a - x, b - y) : cost]
    }
    return best
  }
}

class Atlas {
  constructor(root) {
    this.root = root
    this.hand = -1
    this.frame = 0
    this.mode = "lasso"
    this.alone = new Set()
    this.pictures = new Map()
    root.replaceChildren()
    this.controls = made("div", root, null, { class: "controls" })
    this.scrubber = made("div", root, null, { class: "controls" })
    const body = made("div", root, null, { class: "body" })
    const left = made("div", body)
    this.grid = made("div", left, null, { class: "panes" })
    this.legend = made("div", left, null, { class: "legend", role: "group", "aria-label": "Legend" })
    this.side = made("div", body, null, { class: "hand" })
    this.live = made("div", root, null, { class: "unseen", "aria-live": "polite" })
    this.panes = []
    this.watcher = new ResizeObserver(() => this.resize())
    this.watcher.observe(root)
    // Fonts and colours come after the first drawing, and change with the theme.
    this.theme = new MutationObserver(() => this.panes.forEach((pane) => pane.lines()))
    this.theme.observe(document.documentElement, { attributes: true, attributeFilter: ["style", "class"] })
  }

  end() {
    this.watcher.disconnect()
    this.theme.disconnect()
    clearInterval(this.timer)
    clearTimeout(this.told)
    for (const pane of this.panes) pane.gl?.getExtension("WEBGL_lose_context")?.loseContext()
  }

  shows(group) {
    return !this.alone.size || this.alone.has(group)
  }

  update(data, tell) {
    this.tell = tell
    this.sheets = data.sheets
    if (this.raw !== data.story) {
      const before = this.story
      this.raw = data.story
      this.story = decoded(data.story)
      const same = before && before.family === this.story.family && before.count === this.story.count
      if (!same) {
        this.hand = -1
        this.frame = this.story.panes[0].frames.length - 1
        this.pictures.clear()
        this.alone.clear()
      }
      this.frame = Math.min(this.frame, Math.max(...this.story.panes.map((pane) => pane.frames.length)) - 1)
      this.marks = new Uint8Array(this.story.count)
      if (this.panes.length !== this.story.panes.length || !same) {
        for (const pane of this.panes) pane.gl?.getExtension("WEBGL_lose_context")?.loseContext()
        this.grid.replaceChildren()
        this.panes = this.story.panes.map((_, place) => new Pane(this.grid, this, place))
      }
      this.root.style.setProperty("--panes", this.panes.length)
      const wanted = this.colouring?.name ?? data.colouring
      this.colouring = this.story.colourings.find(({ name }) => name === wanted) ?? this.story.colourings[0]
      this.tools()
      this.scrub()
      this.mark(data.selected)
      this.resize(false)
      for (const pane of this.panes) pane.take(this.frame, same)
    } else this.mark(data.selected)
    this.title()
    this.show()
  }

  mark(text) {
    const bytes = text ? numbers(text, Uint8Array) : null
    for (let i = 0; i < this.story.count; i++) this.marks[i] = bytes ? (bytes[i >> 3] >> (7 - (i & 7))) & 1 : 0
    this.some = this.marks.some(Boolean)
    this.panes.forEach((pane) => pane.now && pane.recolour())
  }

  pick(places, way) {
    if (this.story.forming) return
    const old = this.marks
    this.marks = new Uint8Array(this.story.count)
    if (way === "or" || way === "minus") this.marks.set(old)
    for (const i of places) this.marks[i] = way === "minus" ? 0 : 1
    this.some = this.marks.some(Boolean)
    this.panes.forEach((pane) => pane.recolour())
    this.tell("picked", { id: this.story.id, way, places })
  }

  choose(mode) {
    this.mode = mode
    this.tools()
  }

  tools() {
    this.controls.replaceChildren()
    const button = (text, pressed, click, title) => {
      const element = made("button", this.controls, text, { type: "button", title: title ?? "" })
      if (pressed !== null) element.setAttribute("aria-pressed", pressed)
      element.onclick = click
    }
    if (this.story.colourings.length > 1) {
      made("span", this.controls, "Colour by")
      for (const colouring of this.story.colourings) {
        button(colouring.name, colouring === this.colouring, () => this.colour(colouring), colouring.help)
      }
      made("span", this.controls, null, { class: "gap" })
    }
    if (!this.story.forming) button("Lasso", this.mode === "lasso", () => this.choose("lasso"), "Drag around images to select them (key s)")
    const turns = this.story.dimensions === 3
    button(turns ? "Turn" : "Move", this.mode === "move", () => this.choose("move"), turns ? "Drag to turn the map (key g)" : "Drag to move the map (key g)")
    button("+", null, () => this.panes[0].zoom(1.4), "Zoom in (key +)")
    button("−", null, () => this.panes[0].zoom(1 / 1.4), "Zoom out (key -)")
    button("Whole map", null, () => {
      this.panes[0].reset()
      this.follow(this.panes[0])
    })
    this.title()
  }

  colour(colouring) {
    const began = performance.now()
    this.colouring = colouring
    this.alone.clear()
    this.tools()
    this.panes.forEach((pane) => pane.recolour())
    this.panes[0].gl?.finish()
    this.root.dataset.redrawMilliseconds = (performance.now() - began).toFixed(2)
    // Only where one stays; the page is drawn anew for it.
    clearTimeout(this.told)
    this.told = setTimeout(() => this.tell("coloured", { id: this.story.id, name: colouring.name }), SETTLED_MILLISECONDS)
  }

  title() {
    this.legend.replaceChildren()
    const counts = new Map()
    for (const code of this.panes[0].codes) counts.set(code, (counts.get(code) ?? 0) + 1)
    this.colouring.groups.forEach((group, k) => {
      if (!counts.get(k)) return
      const item = made("button", this.legend, null, { type: "button", "aria-pressed": this.alone.has(k) })
      item.className = this.shows(k) ? "" : "off"
      item.title = "Show these alone; with Shift, these too"
      item.innerHTML = `<svg viewBox="0 0 12 12" aria-hidden="true"><path d="${ICONS[group.symbol]}" fill="${group.colour}"/></svg>`
      item.append(`${group.label} (${counts.get(k).toLocaleString("en")})`)
      item.onclick = (event) => {
        const more = event.shiftKey || event.ctrlKey || event.metaKey
        const had = this.alone.has(k)
        if (!more) this.alone.clear()
        if (had) this.alone.delete(k)
        else this.alone.add(k)
        this.panes.forEach((pane) => pane.recolour())
        this.title()
      }
    })
    if (this.alone.size) {
      const all = made("button", this.legend, "Show all", { type: "button" })
      all.onclick = () => {
        this.alone.clear()
        this.panes.forEach((pane) => pane.recolour())
        this.title()
      }
    }
  }

  scrub() {
    this.scrubber.replaceChildren()
    clearInterval(this.timer)
    this.timer = null
    const longest = this.story.panes.reduce((one, other) => (other.frames.length > one.frames.length ? other : one))
    this.last = longest.frames.length - 1
    this.scrubber.hidden = this.last < 1
    if (this.last < 1) return
    const play = made("button", this.scrubber, "▶ Play", { type: "button" })
    const label = made("label", this.scrubber, null, { style: "display:flex;flex:1;gap:8px;align-items:center" })
    const said = made("span", label)
    const slider = made("input", label, null, { type: "range", min: 0, max: this.last, step: 1, "aria-label": "Epoch" })
    const to = (frame) => {
      this.frame = frame
      slider.value = frame
      said.textContent = longest.frames[frame].title
      slider.setAttribute("aria-valuetext", longest.frames[frame].title)
      if (this.panes.length && this.panes[0].now) {
        this.panes.forEach((pane) => pane.take(frame, true))
        this.title()
        this.show()
      }
    }
    slider.oninput = () => to(Number(slider.value))
    play.onclick = () => {
      if (this.timer) {
        clearInterval(this.timer)
        this.timer = null
        play.textContent = "▶ Play"
        return
      }
      play.textContent = "❚❚ Pause"
      if (this.frame === this.last) to(0)
      this.timer = setInterval(() => (this.frame === this.last ? play.onclick() : to(this.frame + 1)), STEP_MILLISECONDS)
    }
    slider.value = this.frame
    said.textContent = longest.frames[this.frame].title
  }

  follow(moved) {
    for (const pane of this.panes) {
      pane.view = { ...moved.view }
      pane.draw()
    }
  }

  resize(draw = true) {
    if (!this.story) return
    const [wide, high] = this.story.dimensions === 3 ? [1, 0.9] : this.story.extent
    for (const pane of this.panes) {
      const height = Math.min(Math.max((pane.stage.clientWidth * high) / wide, 320), 600)
      pane.stage.style.height = `${Math.round(height)}px`
      if (draw) pane.draw()
    }
  }

  take(image) {
    // The last one stays in hand, so that one can go and look at it.
    if (image < 0 || image === this.hand) return
    this.hand = image
    this.panes.forEach((pane) => pane.now && pane.lines())
    this.show()
  }

  // The picture of an image on a canvas, as soon as the sheet that holds it is there.
  paint(canvas, image) {
    canvas.width = canvas.height = PICTURE
    if (!this.story.order || !this.sheets.length) return
    const place = this.story.order[image], sheet = Math.floor(place / this.story.per), at = place % this.story.per
    let picture = this.pictures.get(sheet)
    if (!picture) {
      picture = new Image()
      picture.src = new URL(this.sheets[sheet], document.baseURI)
      this.pictures.set(sheet, picture)
    }
    const [column, row] = [at % this.story.columns, Math.floor(at / this.story.columns)]
    const draw = () => canvas.getContext("2d").drawImage(picture, column * PICTURE, row * PICTURE, PICTURE, PICTURE, 0, 0, PICTURE, PICTURE)
    picture.complete && picture.naturalWidth ? draw() : picture.addEventListener("load", draw)
  }

  name(image) {
    return this.story.classes[this.story.labels[image]]
  }

  show() {
    const { story, hand, side } = this
    side.replaceChildren()
    const large = made("canvas", side, null, { class: "large", role: "img", width: PICTURE, height: PICTURE })
    const text = made("div", side)
    if (hand < 0 || hand >= story.count) {
      large.setAttribute("aria-label", "No image in hand")
      made("p", text, `Point at an image to ${story.order ? "see it" : "read about it"} here.`, { class: "small" })
      return
    }
    const about = `${story.noun} ${story.numbers[hand].toLocaleString("en")}`
    large.setAttribute("aria-label", `${about}, ${this.name(hand)}`)
    if (story.order) this.paint(large, hand)
    else large.remove()
    const said = [this.name(hand)]
    made("p", text, `${about}: ${this.name(hand)}`, { class: "said" })
    for (const pane of this.panes) {
      const { predictions, confidences } = pane.data
      if (!predictions) continue
      const answer = story.classes[predictions[hand]], right = predictions[hand] === story.labels[hand]
      const title = this.panes.length > 1 ? ["Left: ", "Right: "][pane.place] : ""
      made("p", text, `${title}${right ? "✓" : "✗"} predicted ${answer}, ${percent(confidences[hand] / 255)}`)
      said.push(`predicted ${answer}`)
    }
    for (const colouring of story.colourings) {
      if (!colouring.tells) continue
      const codes = colouring.codes[0], code = codes[Math.min(this.frame, codes.length - 1)][hand]
      made("p", text, `${colouring.name}: ${colouring.groups[code].label}`)
    }
    if (this.panes[0].data.neighbours && this.panes[0].now) {
      const near = this.panes[0].found(hand), kept = near.filter((one) => one.kept).length
      made("p", text, `Its ${near.length} true neighbours, nearest first: ${kept} are among its ${near.length} nearest on the map${this.panes.length > 1 ? " on the left" : ""} (✓, solid lines); framed: of another class.`, { class: "small" })
      const row = made("div", side, null, { class: "near" })
      for (const { image, kept } of near) {
        const item = made("button", row, null, { type: "button", title: `${story.noun} ${story.numbers[image]}, ${this.name(image)}` })
        item.setAttribute("aria-label", item.title)
        if (story.labels[image] !== story.labels[hand]) item.className = "other"
        if (story.order) this.paint(made("canvas", item), image)
        made("span", item, `${kept ? "✓ " : ""}${this.name(image)}`)
        item.onclick = () => this.take(image)
      }
    }
    this.root.dataset.hand = story.numbers[hand]
    this.live.textContent = `${about}, ${said.join(", ")}`
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".atlas")
  let atlas = known.get(root)
  if (!atlas) {
    atlas = new Atlas(root)
    known.set(root, atlas)
  }
  atlas.update(data, setTriggerValue)
  return () => {
    // Called before each update too; only what has left the page is let go of.
    requestAnimationFrame(() => {
      if (root.isConnected) return
      atlas.end()
      known.delete(root)
    })
  }
}
