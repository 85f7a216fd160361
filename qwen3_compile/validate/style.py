"""How the page of a report looks: light and dark, wide and narrow."""

from __future__ import annotations

from qwen3_compile.drawing import palette

STYLE = (
    palette()
    + """:root { --soft: #f3f3f6; --good: #136f3a; --mark: #ffe58a }
@media (prefers-color-scheme: dark) { :root { --soft: #212228; --good: #62c98c; --mark: #6b5a12 } }
body { font: 15px/1.5 system-ui, sans-serif; background: var(--paper); color: var(--ink); max-width: 64rem;
  margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.2rem; margin-top: 2.2rem }
h3 { font-size: 1rem; margin: 0 0 .3rem } h4 { font-size: .85rem; margin: .2rem 0; color: var(--ink); opacity: .75 }
.wide { overflow-x: auto } table { border-collapse: collapse; overflow-wrap: normal }
td, th { padding: .2rem .7rem; border-bottom: 1px solid var(--faint); text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; font-weight: normal }
th:first-child, td.text { text-align: left } tr:first-child th { font-weight: 600 } td.text { white-space: normal }
.pass { color: var(--good); font-weight: 600 } .fail { color: var(--bad); font-weight: 600 }
section, details { border: 1px solid var(--faint); border-radius: .4rem; padding: .6rem .8rem; margin: .7rem 0 }
summary { cursor: pointer; font-weight: 600 }
.said { background: var(--soft); padding: .4rem .6rem; border-radius: .3rem; margin: .4rem 0;
  white-space: pre-wrap; unicode-bidi: plaintext; font: 13px/1.5 ui-monospace, monospace }
code { white-space: pre-wrap; font: 13px/1.4 ui-monospace, monospace; background: var(--soft) }
mark { background: var(--mark); color: inherit; border-radius: .15rem } .break { opacity: .5 }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: 0 1.2rem }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { font-weight: 600; font-size: .9rem } svg { width: 100%; height: auto }
svg text { font-family: system-ui, sans-serif !important }
small { display: block; opacity: .75 }
@media (max-width: 30rem) { td, th { padding: .2rem .35rem } body { padding: 0 .7rem } }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .2rem 1rem } dd { margin: 0 }
"""
)
