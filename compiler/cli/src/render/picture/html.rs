//! The picture as a page of its own: what is pointed at is shown with its calls, and a word finds services. It asks
//! nobody for anything.

use super::Picture;
use super::svg::{element, escaped};

const STYLE: &str = "
:root{color-scheme:light dark}
body{margin:0;font:14px/1.4 system-ui,sans-serif;background:#fff;color:#1b1f24}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}}
form{position:sticky;top:0;left:0;display:flex;gap:12px;align-items:center;padding:10px 24px;background:inherit;border-bottom:1px solid #8884}
input{font:inherit;padding:4px 8px;width:20em}
main{overflow:auto}
svg g.box{cursor:pointer}
svg.some g.box,svg.some g[data-from]{opacity:.13}
svg.some g.lit{opacity:1}
";

/// `callers` and `callees` are followed as far as they lead, so that one sees who is hit and by whom.
const SCRIPT: &str = "
'use strict';
const svg=document.querySelector('svg'),box=[...svg.querySelectorAll('g.box')],line=[...svg.querySelectorAll('g[data-from]')];
const find=document.querySelector('input'),count=document.querySelector('output');
let held=null;
function reach(start,from,to){const seen=new Set(start),wait=[...start];
  while(wait.length){const at=wait.pop();for(const l of line)if(l.dataset[from]===at&&!seen.has(l.dataset[to])){seen.add(l.dataset[to]);wait.push(l.dataset[to])}}
  return seen}
function show(start){svg.classList.toggle('some',start!==null);
  const down=start?reach(start,'from','to'):new Set(),up=start?reach(start,'to','from'):new Set();
  for(const b of box)b.classList.toggle('lit',down.has(b.dataset.box)||up.has(b.dataset.box));
  for(const l of line)l.classList.toggle('lit',down.has(l.dataset.from)&&down.has(l.dataset.to)||up.has(l.dataset.from)&&up.has(l.dataset.to))}
function found(){const word=find.value.trim().toLowerCase();
  if(!word){count.value='';return null}
  const hit=box.filter(b=>b.dataset.name.toLowerCase().includes(word)).map(b=>b.dataset.box);
  count.value=hit.length+' of '+box.length;return hit}
function again(){show(held!==null?[held]:found())}
find.addEventListener('input',()=>{held=null;again()});
document.querySelector('form').addEventListener('submit',e=>e.preventDefault());
for(const b of box){b.addEventListener('mouseenter',()=>{if(held===null&&!find.value)show([b.dataset.box])});
  b.addEventListener('mouseleave',()=>{if(held===null&&!find.value)show(null)});
  b.addEventListener('click',e=>{held=held===b.dataset.box?null:b.dataset.box;again();e.stopPropagation()})}
document.querySelector('main').addEventListener('click',()=>{held=null;again()});
";

/// `meshc graph --format html`
pub(crate) fn html(picture: &Picture) -> String {
    let title = escaped(&picture.name);
    let drawing = element(picture);
    format!(
        "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\"/>
<meta name=\"viewport\" content=\"width=device-width\"/>
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"/>
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<form><label>Find a service <input type=\"search\" autocomplete=\"off\"/></label><output></output><span>Point at a service to follow its calls; click to hold.</span></form>
<main>
{drawing}</main>
<script>/*<![CDATA[*/{SCRIPT}/*]]>*/</script>
</body>
</html>
"
    )
}

#[cfg(test)]
mod tests {
    use super::super::svg::tests::{check_well_formed, picture};
    use super::*;

    #[test]
    fn the_page_is_well_formed_and_asks_nobody() {
        let page = html(&picture(50));
        let (before, rest) = page.split_once("<script>").unwrap();
        let (_, after) = rest.split_once("</script>").unwrap();
        check_well_formed(&format!("{before}{after}"));
        let addresses = page.matches("://").count();
        assert_eq!(
            addresses,
            page.matches("http://www.w3.org/2000/svg").count()
        );
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("@import"));
        assert!(page.contains("service-&lt;1&gt;") && !page.contains("service-<1>"));
    }
}
