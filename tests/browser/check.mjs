// check.mjs URL...: opens each page in Chromium, light and dark, as wide as a phone and as a desk's screen, and prints what is wrong:
// what axe-core calls serious or critical, content wider than the screen, dialogs, and errors in the console. Of a page that refreshes
// itself also what a refresh disturbs, and whether the Content-Security-Policy holds. Ends with 1 if anything is wrong.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import puppeteer from 'puppeteer-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // No request leaves this machine.
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1']
})
let wrong = 0

// A refresh must change the text, and leave alone where the reader is. Here it also turns the order of the rows around.
async function disturbances (url) {
  const page = await browser.newPage()
  const found = []
  let requests = 0
  await page.setViewport({ width: 1280, height: 500 })
  await page.goto(url, { waitUntil: 'load' })
  if (!await page.$('header[data-seconds]')) {
    await page.close()
    return null
  }
  const html = await page.evaluate(async () => {
    const text = await (await fetch(location.href)).text()
    const copy = new DOMParser().parseFromString(text, 'text/html')
    copy.querySelector('h1').textContent += ', changed'
    const rows = copy.querySelector('tbody')
    if (rows) rows.replaceChildren(...[...rows.children].reverse())
    return `<!doctype html>${copy.documentElement.outerHTML}`
  })
  await page.setRequestInterception(true)
  page.on('request', request => {
    if (request.url() === url) requests += 1
    if (request.url() === url && requests === 1) request.respond({ status: 200, contentType: 'text/html; charset=utf-8', body: html })
    else request.continue()
  })
  const before = await page.evaluate(() => {
    // Closed details would take the focus from a link in them, without any refresh.
    const link = document.querySelector('tbody tr a') ?? [...document.querySelectorAll('main a')].findLast(link => !link.closest('details'))
    link.focus()
    link.mark = document.querySelector('h1').mark = true
    const details = document.querySelector('details')
    if (details) details.open = !details.open
    scrollTo(0, 200)
    return { scroll: scrollY, open: details?.open }
  })
  await page.waitForFunction(() => document.querySelector('h1').textContent.endsWith(', changed'), { timeout: 60000 })
  const after = await page.evaluate(() => ({ scroll: scrollY, open: document.querySelector('details')?.open, focus: document.activeElement.mark, kept: document.querySelector('h1').mark }))
  if (!after.kept) found.push('a refresh replaces what has not changed')
  if (!after.focus) found.push('a refresh takes the focus away')
  if (after.scroll !== before.scroll) found.push(`a refresh scrolls from ${before.scroll} to ${after.scroll}`)
  if (after.open !== before.open) found.push('a refresh opens or closes details')
  await page.click('header button')
  const stopped = requests
  await new Promise(resolve => setTimeout(resolve, 12000))
  if (requests !== stopped) found.push('it refreshes although its reader has stopped that')
  const ran = await page.evaluate(() => {
    const script = document.createElement('script')
    script.textContent = 'window.injected = true'
    document.body.append(script)
    const styled = document.createElement('p')
    styled.setAttribute('style', 'position: fixed')
    document.body.append(styled)
    return { script: window.injected === true, style: getComputedStyle(styled).position === 'fixed' }
  })
  if (ran.script || ran.style) found.push(`the Content-Security-Policy lets another script or style in: ${JSON.stringify(ran)}`)
  await page.close()
  return found
}

for (const url of process.argv.slice(2)) {
  for (const width of [390, 1280]) {
    for (const scheme of ['light', 'dark']) {
      // Runbooks differ in their text alone.
      if (url.includes('/runbooks/') && (width === 390) !== (scheme === 'dark')) continue
      const page = await browser.newPage()
      const found = []
      page.on('dialog', dialog => { found.push(`a dialog: ${dialog.message()}`); dialog.dismiss() })
      page.on('console', message => { if (message.type() === 'error') found.push(`console: ${message.text()}`) })
      page.on('request', request => { if (request.url() !== url && !request.url().endsWith('/favicon.ico')) found.push(`asks for ${request.url()}`) })
      await page.setViewport({ width, height: 800 })
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
      const answer = await page.goto(url, { waitUntil: 'load' })
      if (answer.status() !== 200) found.push(`status ${answer.status()}`)
      await page.evaluate(() => document.querySelectorAll('details').forEach(details => { details.open = true }))
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
      if (overflow > 0) found.push(`${overflow} px wider than the screen`)
      await page.evaluate(axe)
      const { violations } = await page.evaluate(() => window.axe.run())
      for (const { id, impact, nodes } of violations) {
        if (impact === 'serious' || impact === 'critical') found.push(`${id}, ${impact}, ${nodes.length} times: ${nodes[0].html.slice(0, 120)}`)
      }
      const others = violations.filter(({ impact }) => impact !== 'serious' && impact !== 'critical').map(({ id }) => id)
      console.log(`${found.length ? 'FAIL' : 'ok'}  ${url.replace(/^http:..127.0.0.1:\d+/, '')} ${width} px, ${scheme}${others.length ? `; minor: ${others}` : ''}`)
      for (const line of found) console.log(`      ${line}`)
      wrong += found.length
      await page.close()
    }
  }
}
for (const url of process.argv.slice(2)) {
  const found = url.includes('/runbooks/') ? null : await disturbances(url)
  if (found === null) continue
  console.log(`${found.length ? 'FAIL' : 'ok'}  ${url.replace(/^http:..127.0.0.1:\d+/, '')} refreshes`)
  for (const line of found) console.log(`      ${line}`)
  wrong += found.length
}
await browser.close()
process.exit(wrong ? 1 : 0)
