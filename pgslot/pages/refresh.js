// Fetches the page again at an interval and changes only what differs: focus, scrolling, selections and opened details stay.
// A screen reader hears of a change only in elements with role=status.
(() => {
  const main = document.querySelector('main')
  const header = document.querySelector('header')
  const button = header.querySelector('button')
  const state = header.querySelector('[role=status]')
  const interval = 1000 * Number(header.dataset.seconds)
  const every = `Refreshes every ${header.dataset.seconds} s.`
  let paused = false

  const say = text => { if (state.textContent !== text) state.textContent = text }
  const keyOf = node => node.nodeType === Node.ELEMENT_NODE ? node.id : ''
  const selecting = () => !(getSelection()?.isCollapsed ?? true)

  function patch (before, after) {
    if (before.isEqualNode(after)) return
    if (before.nodeType !== Node.ELEMENT_NODE) {
      before.nodeValue = after.nodeValue
      return
    }
    // Whether details are open is the reader's choice.
    for (const { name } of [...before.attributes]) if (name !== 'open' && !after.hasAttribute(name)) before.removeAttribute(name)
    for (const { name, value } of after.attributes) if (name !== 'open' && before.getAttribute(name) !== value) before.setAttribute(name, value)
    const kept = new Map([...before.children].filter(keyOf).map(child => [child.id, child]))
    let next = before.firstChild
    for (const child of after.childNodes) {
      const same = keyOf(child) ? kept.get(child.id) : next
      if (!same || same.nodeName !== child.nodeName || keyOf(same) !== keyOf(child)) {
        before.insertBefore(document.importNode(child, true), next)
        continue
      }
      if (same === next) next = next.nextSibling
      else before.insertBefore(same, next)
      patch(same, child)
    }
    while (next) {
      const gone = next
      next = next.nextSibling
      gone.remove()
    }
  }

  async function refresh () {
    try {
      const answer = await fetch(location.href, { cache: 'no-store', signal: AbortSignal.timeout(30000) })
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
      const fresh = page.querySelector('main')
      // A slot that is gone has a page that says so.
      if (!fresh || !(answer.ok || answer.status === 404)) throw new Error(`it answered ${answer.status}`)
      const focused = document.activeElement
      patch(main, fresh)
      document.title = page.title
      if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true })
      say('')
    } catch (error) {
      say(`This page is old: ${error.name === 'Error' ? error.message : 'the program does not answer'}.`)
    }
  }

  async function run () {
    if (!paused && !document.hidden && !selecting()) await refresh()
    setTimeout(run, interval)
  }

  button.addEventListener('click', () => {
    paused = !paused
    button.textContent = paused ? 'Refresh again' : 'Stop refreshing'
    header.querySelector('span').textContent = paused ? 'Does not refresh.' : every
  })
  document.addEventListener('visibilitychange', () => { if (!document.hidden && !paused) refresh() })
  header.hidden = false
  setTimeout(run, interval)
})()
