// The epochs of a run, one at a time: everything there is to draw is in `data.story`, so that a step asks nobody.

const RIGHT = [0, 114, 178]
const WRONG = [213, 94, 0]
const STEP_MILLISECONDS = 350
const SETTLED_MILLISECONDS = 250
const known = new WeakMap()
// Where each was left for another view, and where it had begun: where it begins there once more, the server has not
// heard of it.
const left = new Map()

// An id begins with the run and the split; other images of these leave the slider where it is.
const of = (id) => id.split(" ", 2).join(" ")

const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)}%`)
// Of a network no class has exactly no probability, or all of it.
const sure = (share) => (share < 0.001 ? "<0.1%" : share > 0.999 ? ">99.9%" : percent(share))

function made(tag, parent, text, attributes = {}) {
  const element = document.createElement(tag)
  if (text !== undefined && text !== null) element.textContent = text
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  parent.append(element)
  return element
}

function drawn(tag, parent, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  parent.append(element)
  return element
}

// Relative luminance as in WCAG 2.2, to write in black or white, whichever has more contrast.
function ink(colour) {
  const [red, green, blue] = colour.map((value) => {
    const channel = value / 255
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff"
}

function ground(element) {
  const numbers = getComputedStyle(element).backgroundColor.match(/[\d.]+/g)
  return numbers ? numbers.slice(0, 3).map(Number) : [255, 255, 255]
}

// A picture out of the one that holds all of them side by side.
function picture(parent, story) {
  const figure = made("figure", parent)
  const image = made("div", figure, null, { role: "img", class: "picture" })
  if (story.sprite) image.style.backgroundImage = `url(${story.sprite})`
  image.style.backgroundSize = `${story.columns * 72}px`
  return { figure, image, caption: made("figcaption", figure) }
}

function show(part, story, place, alt, caption, right) {
  part.image.style.backgroundPosition = `${-72 * (place % story.columns)}px ${-72 * Math.floor(place / story.columns)}px`
  part.image.setAttribute("aria-label", alt)
  part.figure.className = (right ? "right" : "wrong") + (story.sprite ? "" : " wordy")
  part.caption.textContent = caption
}

function built(root, story) {
  root.replaceChildren()
  const parts = {}
  const controls = made("div", root, null, { class: "controls" })
  parts.play = made("button", controls, "▶ Play", { type: "button", class: "play" })
  const label = made("label", controls)
  parts.output = made("span", label, null, { class: "now" })
  parts.slider = made("input", label, null, {
    type: "range", min: 0, max: story.epochs.length - 1, step: 1, "aria-label": "Epoch",
  })
  parts.figures = made("p", root, null, { class: "figures" })

  // The way of the accuracy, with a mark at the epoch that is shown.
  const line = drawn("svg", root, { viewBox: "0 0 1000 60", preserveAspectRatio: "none", class: "line" })
  line.setAttribute("role", "img")
  line.setAttribute("aria-label", `Accuracy from epoch ${story.epochs[0]} to ${story.epochs.at(-1)}`)
  const [low, high] = [Math.min(...story.accuracy), Math.max(...story.accuracy)]
  const last = story.epochs.length - 1
  // By epoch: those in between may not be kept.
  const [first, end] = [story.epochs[0], story.epochs.at(-1)]
  const x = (i) => (last ? (1000 * (story.epochs[i] - first)) / (end - first) : 500)
  const y = (i) => 55 - (50 * (story.accuracy[i] - low)) / (high - low || 1)
  drawn("polyline", line, { points: story.epochs.map((_, i) => `${x(i)},${y(i)}`).join(" "), class: "way" })
  parts.mark = drawn("line", line, { y1: 0, y2: 60, class: "mark" })
  parts.x = x
  made("p", root, `Accuracy by epoch, from ${percent(low)} at its lowest to ${percent(high)} at its highest.`, { class: "note" })

  const grid = made("div", root, null, { class: "grid" })
  const left = made("section", grid)
  made("h4", left, "Confusion matrix")
  const table = made("table", left, null, { class: "matrix" })
  made("caption", table, "Rows are true classes, columns predicted ones. Blue is right, orange wrong; the stronger, the "
    + "greater the share of the true class. Click a cell for its images.")
  const head = made("tr", made("thead", table))
  made("td", head)
  for (const name of story.classes) made("span", made("th", head, null, { scope: "col" }), name)
  const body = made("tbody", table)
  parts.cells = story.classes.map((name, row) => {
    const line = made("tr", body)
    made("th", line, name, { scope: "row" })
    return story.classes.map((_, column) => {
      const cell = made("button", made("td", line), null, { type: "button" })
      cell.dataset.cell = `${row},${column}`
      return cell
    })
  })

  const side = made("div", grid)
  const middle = made("section", side)
  made("h4", middle, "By class")
  made("p", middle, "The bar is the recall, the share of the class that is predicted as it. Beside it: recall · precision · F1.", { class: "note" })
  parts.bars = story.classes.map((name) => {
    const row = made("div", middle, null, { class: "bar" })
    made("span", row, name, { class: "name" })
    const fill = made("span", made("span", row, null, { class: "track" }), null, { class: "fill" })
    return { fill, said: made("span", row, null, { class: "said" }) }
  })

  const right = made("section", side)
  made("h4", right, "Calibration")
  made("p", right, "Accuracy of the predictions by their confidence; on the dashed line both are equal. The wider a bar, "
    + "the more images.", { class: "note" })
  const chart = drawn("svg", right, { viewBox: "-50 -8 368 352", class: "calibration" })
  chart.setAttribute("role", "img")
  parts.calibration = chart
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    drawn("line", chart, { x1: 0, x2: 300, y1: 300 - 300 * tick, y2: 300 - 300 * tick, class: "rule" })
    drawn("text", chart, { x: -4, y: 304 - 300 * tick, "text-anchor": "end" }).textContent = `${100 * tick}%`
    drawn("text", chart, { x: 300 * tick, y: 316, "text-anchor": "middle" }).textContent = `${100 * tick}%`
  }
  drawn("text", chart, { x: 150, y: 338, "text-anchor": "middle" }).textContent = "Confidence"
  drawn("text", chart, { transform: "translate(-40 150) rotate(-90)", "text-anchor": "middle" }).textContent = "Accuracy"
  const bins = story.bins[0].length
  parts.bins = story.bins[0].map(() => drawn("rect", chart, { class: "bin" }))
  parts.gaps = story.bins[0].map(() => drawn("line", chart, { class: "gap" }))
  parts.binWidth = 300 / bins
  drawn("line", chart, { x1: 0, y1: 300, x2: 300, y2: 0, class: "equal" })

  made("h4", root, "Worst mistakes")
  parts.none = made("p", root, "Every image is predicted correctly.", { class: "note" })
  parts.some = made("p", root, "The images whose own class has the least probability: number, class → class predicted, each "
    + "class with its probability.", { class: "note" })
  const mistakes = made("div", root, null, { class: "pictures" })
  parts.worst = story.worst[0].map(() => picture(mistakes, story))
  made("h4", root, "The same images at each epoch")
  made("p", root, "✓ right or ✗ wrong, with the probability of the class predicted.", { class: "note" })
  const gallery = made("div", root, null, { class: "pictures" })
  parts.sample = story.sample.map(() => picture(gallery, story))
  return parts
}

function draw(root, story, parts, i) {
  const began = performance.now()
  const accuracy = percent(story.accuracy[i])
  parts.slider.value = i
  parts.slider.setAttribute("aria-valuetext", `Epoch ${story.epochs[i]}, accuracy ${accuracy}`)
  parts.output.textContent = `Epoch ${story.epochs[i]}`
  parts.figures.textContent = `Accuracy ${accuracy} · loss ${story.loss[i].toFixed(3)} · calibration error (ECE) `
    + `${percent(story.ece[i])} · after epoch ${story.epochs[i]} · ${story.scope}`
  parts.mark.setAttribute("x1", parts.x(i))
  parts.mark.setAttribute("x2", parts.x(i))
  const base = ground(root)
  story.confusion[i].forEach((counts, row) => {
    const total = story.images[row]
    counts.forEach((count, column) => {
      const cell = parts.cells[row][column]
      const share = total ? count / total : 0
      const strength = count ? 0.1 + 0.9 * Math.sqrt(share) : 0
      const colour = (row === column ? RIGHT : WRONG).map((part, k) => strength * part + (1 - strength) * base[k])
      cell.textContent = count || ""
      cell.style.backgroundColor = strength ? `rgb(${colour.map(Math.round)})` : "transparent"
      cell.style.color = ink(colour)
      cell.setAttribute("aria-label",
        `${story.classes[row]} predicted as ${story.classes[column]}: ${count} images, ${percent(share)} of the class`)
    })
  })
  story.report[i].forEach(([precision, recall, f1], place) => {
    const bar = parts.bars[place]
    bar.fill.style.transform = `scaleX(${recall})`
    bar.said.textContent = `${percent(recall)} · ${percent(precision)} · ${percent(f1)}`
  })
  const most = Math.max(...story.bins[i].map(([images]) => images))
  const width = parts.binWidth
  story.bins[i].forEach(([images, confidence, right], bin) => {
    const wide = images ? Math.max(2, (width - 2) * Math.sqrt(images / most)) : 0
    const middle = (bin + 0.5) * width
    const bar = parts.bins[bin]
    bar.setAttribute("x", middle - wide / 2)
    bar.setAttribute("width", wide)
    bar.setAttribute("y", 300 - 300 * (right ?? 0))
    bar.setAttribute("height", 300 * (right ?? 0))
    const gap = parts.gaps[bin]
    gap.style.display = images ? "" : "none"
    for (const [name, value] of [["x1", middle - width / 2], ["x2", middle + width / 2]]) gap.setAttribute(name, value)
    for (const name of ["y1", "y2"]) gap.setAttribute(name, 300 - 300 * (confidence ?? 0))
  })
  parts.calibration.setAttribute("aria-label",
    `Accuracy by confidence after epoch ${story.epochs[i]}; calibration error ${percent(story.ece[i])}`)
  parts.none.hidden = story.worst[i][0][0] >= 0
  parts.some.hidden = !parts.none.hidden
  story.worst[i].forEach(([place, label, said, own, other], k) => {
    const part = parts.worst[k]
    part.figure.hidden = place < 0
    if (place < 0) return
    const [true_, predicted] = [story.classNames[label], story.classNames[said]]
    show(part, story, place, `${story.noun} ${story.numbers[place]}: ${true_}, predicted as ${predicted}`,
      `#${story.numbers[place]} ${true_} ${sure(own)} → ${predicted} ${sure(other)}`, false)
  })
  story.sample.forEach(([place, label, said, sureness], k) => {
    const [true_, predicted] = [story.classNames[label], story.classNames[said[i]]]
    const right = label === said[i]
    show(parts.sample[k], story, place,
      `${story.noun} ${story.numbers[place]}: ${true_}, predicted as ${predicted}`,
      `${right ? "✓" : "✗"} ${right ? true_ : `${true_} → ${predicted}`} ${sure(sureness[i])}`, right)
  })
  root.dataset.epoch = story.epochs[i]
  root.dataset.drawMilliseconds = (performance.now() - began).toFixed(2)
}

export default function (component) {
  const { data, parentElement, setStateValue } = component
  const root = parentElement.querySelector(".machine")
  let own = known.get(root), unheard = false
  if (!own || own.raw !== data.story) {
    clearInterval(own?.timer)
    const story = JSON.parse(data.story)
    const same = own && of(own.story.id) === of(story.id)
    const before = left.get(of(story.id))
    unheard = !same && before !== undefined && before.began === data.epoch && before.shown !== data.epoch
    const shown = same ? own.story.epochs[own.i] : unheard ? before.shown : data.epoch
    const at = story.epochs.indexOf(shown)
    left.delete(of(story.id))
    own = { raw: data.story, began: data.epoch, story, parts: built(root, story), i: at < 0 ? story.epochs.length - 1 : at }
    known.set(root, own)
  }
  const { story, parts } = own
  const last = story.epochs.length - 1

  function told() {
    clearTimeout(own.settled)
    // Not at each step on the way, which would ask the server for what nobody looks at.
    own.settled = setTimeout(() => setStateValue("epoch", story.epochs[own.i]), SETTLED_MILLISECONDS)
  }
  function to(i) {
    own.i = Math.max(0, Math.min(last, i))
    draw(root, story, parts, own.i)
  }
  function rest() {
    clearInterval(own.timer)
    own.timer = null
    parts.play.textContent = "▶ Play"
    told()
  }
  parts.slider.oninput = () => {
    to(Number(parts.slider.value))
    if (!own.timer) told()
  }
  parts.play.disabled = last === 0
  parts.play.onclick = () => {
    if (own.timer) return rest()
    if (own.i === last) to(0)
    parts.play.textContent = "❚❚ Pause"
    own.timer = setInterval(() => (own.i === last ? rest() : to(own.i + 1)), STEP_MILLISECONDS)
  }
  root.onclick = (event) => {
    const cell = event.target.dataset?.cell
    if (!cell) return
    const [row, column] = cell.split(",").map(Number)
    clearTimeout(own.settled)
    setStateValue("epoch", story.epochs[own.i])
    setStateValue("cell", [story.classes[row], story.classes[column]])
  }
  draw(root, story, parts, own.i)
  if (unheard) told()
  return () => {
    clearInterval(own.timer)
    clearTimeout(own.settled)
    left.set(of(story.id), { began: own.began, shown: story.epochs[own.i] })
  }
}
