"""How the page looks: on a telephone, on a desk, in the dark and on paper. Its colours keep WCAG's AA contrast."""

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--card:#f5f6f8;--ink:#1b1f24;--soft:#535c66;--line:#d5dae0;
--good:#1a7f37;--bad:#c11f2b;--warn:#8a5a00;--active:#6b7580;--candidate:#0a60c4;--shade:10,96,196}
@media (prefers-color-scheme:dark){:root{--paper:#12161b;--card:#1b2128;--ink:#e8edf2;--soft:#a3adb8;--line:#39424d;
--good:#4cc263;--bad:#ff7b72;--warn:#e0a93b;--active:#a0abb6;--candidate:#69a9ff;--shade:56,130,230}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:980px;margin:0 auto;padding:32px 16px 64px}
h1{font-size:clamp(28px,6vw,42px);line-height:1.15;margin:0 0 12px;letter-spacing:-.02em}
h2{font-size:22px;line-height:1.25;margin:0 0 4px;letter-spacing:-.01em}
h3{font-size:17px;margin:24px 0 2px}
p{margin:0 0 8px;max-width:68ch}
section{margin-top:48px}
.over{color:var(--soft);max-width:none;font-size:14px;margin-bottom:8px;overflow-wrap:anywhere}
.verdict{border-left:6px solid var(--tone);padding:4px 0 4px 18px}
.verdict h1{color:var(--tone)}
.better{--tone:var(--good)}.worse{--tone:var(--bad)}.same,.unsure{--tone:var(--warn)}
.lead{color:var(--soft);margin-bottom:16px}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin-top:24px}
@media (max-width:900px){.cards{grid-template-columns:1fr 1fr}}
@media (max-width:440px){.cards{grid-template-columns:1fr}}
.card{background:var(--card);border-radius:10px;padding:14px 16px}
.card h2{font-size:14px;font-weight:600;color:var(--soft);letter-spacing:0;margin:0 0 6px}
.card .big{font-size:26px;font-weight:650;line-height:1.2;font-variant-numeric:tabular-nums;white-space:nowrap}
.card .big .was{color:var(--soft);font-weight:400;font-size:17px}
.card p{font-size:14px;color:var(--soft);margin:4px 0 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:15px}
.wide{width:100%;table-layout:fixed}.wide thead th:first-child{width:28%}
th,td{text-align:left;padding:8px 12px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{font-size:13px;color:var(--soft);font-weight:600}
tbody th{font-weight:600;overflow-wrap:anywhere;min-width:72px}
td small,th small,.range{color:var(--soft);font-size:13px;font-weight:400;white-space:nowrap}
.range{display:inline-block}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:24px}
.two h3{margin-top:0}
.key{display:inline-block;width:10px;height:10px;border-radius:5px;margin-right:6px}
.key.active{background:var(--active)}.key.candidate{background:var(--candidate)}
.confusion{font-size:14px}
.confusion th,.confusion td{border:0;padding:6px 8px;text-align:center}
.confusion tbody th{text-align:right;min-width:96px;max-width:190px;overflow-wrap:break-word}
.confusion thead th{font-weight:600;color:var(--ink);overflow-wrap:break-word;vertical-align:bottom}
.confusion td,.confusion th{vertical-align:middle}
.confusion td{min-width:60px;border:2px solid var(--paper);border-radius:6px;background:rgba(var(--shade),var(--part))}
.many td{min-width:38px}.many tbody th{text-align:left}.many i{font-style:normal;color:var(--soft);font-weight:400}
.confusion td.full{background:var(--candidate);color:var(--paper)}
.confusion td.right{font-weight:700}
.confusion td.none{color:var(--soft)}
.confusion caption{caption-side:top;text-align:left;color:var(--soft);font-size:13px;padding-bottom:4px}
.flips+.lead{margin-top:12px}
.flips{display:grid;grid-template-columns:repeat(auto-fill,minmax(146px,1fr));gap:14px}
figure{margin:0;background:var(--card);border-radius:10px;overflow:hidden;border-top:4px solid var(--tone,var(--line))}
figure img,.gone{display:block;width:100%;aspect-ratio:4/3;object-fit:cover;background:var(--line)}
.gone{display:grid;place-items:center;color:var(--ink);font-size:13px}
figcaption{padding:8px 10px 10px;font-size:13px;line-height:1.4;overflow-wrap:anywhere}
figcaption b{font-size:14px}
figcaption span,figcaption small{display:block}
figcaption small{color:var(--soft);font-size:12px;margin-top:4px}
i.ok,i.no{font-style:normal;font-weight:700}i.ok{color:var(--good)}i.no{color:var(--bad)}
svg text{fill:var(--soft);font-size:12px;font-family:inherit}
.plot{display:block;width:100%;max-width:440px;height:auto}
.both{display:flex;gap:4px 14px;align-items:center}
.both>div{flex:none;min-width:138px}
.bars{display:block;flex:1 1 120px;min-width:0;max-width:190px;height:auto}
.axis{font-size:13px}.end{text-anchor:end}.mid{text-anchor:middle}
.grid{stroke:var(--line);fill:none}.ideal{stroke:var(--soft);stroke-dasharray:5 4;fill:none}
.err{stroke-width:2;fill:none}.err.active{stroke:var(--active)}.err.candidate{stroke:var(--candidate)}
.dot.active{fill:var(--active)}.dot.candidate{fill:var(--candidate)}
.line{stroke:var(--candidate);stroke-width:2;fill:none}.ahead{stroke:var(--candidate);stroke-width:2;
stroke-dasharray:5 4}
.open{fill:var(--paper);stroke:var(--candidate);stroke-width:2}
ol,ul{padding-left:22px;margin:0}li{margin-bottom:8px;max-width:68ch}li.hit{font-weight:600}
.out li{overflow-wrap:anywhere;margin-bottom:4px;font-size:14px}
@media (max-width:560px){.wide,.wide tbody{display:block}.wide thead{display:none}
.wide tr{display:grid;grid-template-columns:1fr 1fr;gap:2px 14px;padding:12px 0;border-bottom:1px solid var(--line)}
.wide th,.wide td{border:0;padding:0}.wide th{grid-column:1/-1}.wide th br{display:none}.wide th small{margin-left:8px}
.both{flex-wrap:wrap}.wide td::before{content:attr(data-name);display:block;color:var(--soft);font-size:13px}}
@media print{:root{color-scheme:light;--paper:#fff;--card:#f5f6f8;--ink:#000;--soft:#444c55;--line:#c8ced5;
--good:#1a7f37;--bad:#b3202b;--warn:#7a5000;--active:#6b7580;--candidate:#0a60c4;--shade:10,96,196}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{max-width:none;padding:0}section{margin-top:28px}figure,.card,tr,.two>div{break-inside:avoid}h2,h3{break-after:avoid}
.scroll{overflow:visible}}
@page{margin:14mm}
"""
