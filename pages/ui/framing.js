// A photo with the square that is cut from it: dragged to move it, by a corner to size it, or by keys.

const LEAST = 0.1
const STEP = 0.02
const known = new WeakMap()

const within = (value, low, high) => Math.max(low, Math.min(high, value))

export default function (component) {
  const { data, parentElement, setStateValue } = component
  const frame = parentElement.querySelector(".frame")
  const square = frame.querySelector(".square")
  const photo = frame.querySelector("img")
  const { width, height, name } = data
  const largest = Math.min(width, height)
  const said = JSON.stringify(data.box)
  let own = known.get(frame)
  if (!own || own.name !== name || own.said !== said) {
    own = { name, said, box: { ...data.box } }
    known.set(frame, own)
  }
  photo.src = data.photo
  photo.alt = data.alt
  frame.style.aspectRatio = `${data.shown[0]} / ${data.shown[1]}`
  frame.style.maxWidth = `min(100%, ${data.shown[0]}px)`

  function draw() {
    const { size, across, down } = own.box
    const side = largest * size
    square.style.width = `${(100 * side) / width}%`
    square.style.height = `${(100 * side) / height}%`
    square.style.left = `${(100 * (width - side) * across) / width}%`
    square.style.top = `${(100 * (height - side) * down) / height}%`
    square.setAttribute("aria-valuetext",
      `size ${Math.round(100 * size)}%, ${Math.round(100 * across)}% to the right, ${Math.round(100 * down)}% down`)
  }
  // From pixels of the photo: the corner and the side.
  function put(left, top, side) {
    side = within(side, LEAST * largest, largest)
    const [spareX, spareY] = [width - side, height - side]
    own.box = {
      size: side / largest,
      across: spareX > 0 ? within(left, 0, spareX) / spareX : 0.5,
      down: spareY > 0 ? within(top, 0, spareY) / spareY : 0.5,
    }
    draw()
  }
  function place() {
    const side = largest * own.box.size
    return [(width - side) * own.box.across, (height - side) * own.box.down, side]
  }
  function tell() {
    own.said = JSON.stringify(own.box)
    setStateValue("box", { name, ...own.box })
  }

  function pressed(event) {
    if (event.button) return
    event.preventDefault()
    square.focus({ preventScroll: true })
    // Of a sliver the sides are not in proportion.
    const area = frame.getBoundingClientRect()
    const [scaleX, scaleY] = [width / area.width, height / area.height]
    const corner = event.target.dataset?.corner
    let [left, top, side] = place()
    const at = [event.clientX * scaleX, event.clientY * scaleY]
    if (!square.contains(event.target)) {
      // Beside the square: it comes to where was clicked.
      left = (event.clientX - area.left) * scaleX - side / 2
      top = (event.clientY - area.top) * scaleY - side / 2
      put(left, top, side)
      ;[left, top, side] = place()
    }
    function moved(next) {
      const [x, y] = [next.clientX * scaleX - at[0], next.clientY * scaleY - at[1]]
      if (!corner) return put(left + x, top + y, side)
      const [signX, signY] = [corner.includes("e") ? 1 : -1, corner.includes("s") ? 1 : -1]
      // No farther than the photo reaches from the corner that stays.
      const roomX = signX > 0 ? width - left : left + side
      const roomY = signY > 0 ? height - top : top + side
      const larger = within(side + Math.max(signX * x, signY * y), LEAST * largest, Math.min(roomX, roomY))
      put(signX > 0 ? left : left + side - larger, signY > 0 ? top : top + side - larger, larger)
    }
    function released() {
      frame.removeEventListener("pointermove", moved)
      frame.removeEventListener("pointerup", released)
      frame.removeEventListener("pointercancel", released)
      tell()
    }
    frame.setPointerCapture(event.pointerId)
    frame.addEventListener("pointermove", moved)
    frame.addEventListener("pointerup", released)
    frame.addEventListener("pointercancel", released)
  }
  function typed(event) {
    const [left, top, side] = place()
    const far = STEP * largest
    const moves = {
      ArrowLeft: [left - far, top, side], ArrowRight: [left + far, top, side],
      ArrowUp: [left, top - far, side], ArrowDown: [left, top + far, side],
      "+": [left - far / 2, top - far / 2, side + far], "=": [left - far / 2, top - far / 2, side + far],
      "-": [left + far / 2, top + far / 2, side - far],
    }
    if (!moves[event.key]) return
    event.preventDefault()
    put(...moves[event.key])
    clearTimeout(own.typed)
    own.typed = setTimeout(tell, 300)
  }
  frame.onpointerdown = pressed
  square.onkeydown = typed
  draw()
}
