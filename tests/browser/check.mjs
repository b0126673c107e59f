// check.mjs URL...: opens each page in Chromium, light and dark, as wide as a phone and as a desk's screen, and prints what is wrong:
// what axe-core calls serious or critical, content wider than the screen, dialogs, and errors in the console. Ends with 1 if anything is.
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
await browser.close()
process.exit(wrong ? 1 : 0)
