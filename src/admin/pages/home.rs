//! The page at `/`: made for reading, without scripts.

use std::fmt::{self, Display, Write};
use std::time::SystemTime;

use super::Written;
use super::config::origin;
use crate::control::{self, Control, InForce};
use crate::explain::{Explanation, jwt_origin};
use crate::telemetry::metrics::Family;

const STYLE: &str = "
:root{color-scheme:light dark;--line:light-dark(#d8dce2,#3a3f47);--dim:light-dark(#5b6470,#9aa3ae);
--good:light-dark(#14703c,#5fcf8e);--warn:light-dark(#8a5a00,#e5b454);--bad:light-dark(#a11b1b,#f08a8a)}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .7rem .35rem 0;
border-bottom:1px solid var(--line);vertical-align:top}th{font-weight:600;color:var(--dim)}
code,pre,textarea,input{font:13px/1.45 ui-monospace,monospace}pre{white-space:pre-wrap;overflow-wrap:anywhere;
padding:.8rem;border:1px solid var(--line);border-radius:6px}
.dim{color:var(--dim)}.strict{color:var(--good)}.optional{color:var(--warn)}.open,.bad{color:var(--bad)}
form{display:grid;grid-template-columns:6rem 1fr;gap:.5rem;align-items:start}
input,textarea,select,button{width:100%;box-sizing:border-box;padding:.4rem}button{grid-column:2;width:auto;
justify-self:start;padding:.4rem 1.2rem}.scroll{overflow-x:auto}";

/// Text that stands in HTML, between tags or in quotes, as nothing but text.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' => f.write_str("\n")?,
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The whole page.
pub(super) fn render(control: &Control, told: Option<&Result<Explanation, String>>, form: &Written) -> String {
    let mut out = String::with_capacity(16 << 10);
    // writing into a string does not fail
    let _ = page(&mut out, control, told, form);
    out
}

fn page(
    out: &mut String,
    control: &Control,
    told: Option<&Result<Explanation, String>>,
    form: &Written,
) -> fmt::Result {
    let in_force = control.in_force();
    write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Portcullis</title><style>{STYLE}</style><h1>Portcullis {}</h1>",
        env!("CARGO_PKG_VERSION")
    )?;
    state(out, control, &in_force)?;
    explanation(out, told, form)?;
    routes(out, &in_force)?;
    providers(out, &in_force)?;
    refusals(out, control)?;
    out.write_str("<p class=dim>For programs: <a href=/config>/config</a>, POST /explain, GET and PUT /loglevel, <a href=/debug/memory>/debug/memory</a>, <a href=/debug/tasks>/debug/tasks</a></p></html>\n")
}

fn state(out: &mut String, control: &Control, in_force: &InForce) -> fmt::Result {
    let (last, unready) = (control.last_attempt(), control.unready());
    let ago = SystemTime::now().duration_since(last.at).map_or(0, |ago| ago.as_secs());
    let generation = in_force.snapshot.generation;
    write!(out, "<p>Config <code>{}</code>, generation {generation}, ", Escaped(in_force.loaded.source.name()))?;
    match &last.error {
        None => write!(out, "loaded {ago} s ago. ")?,
        Some(_) => write!(out, "<b class=bad>the last reload was refused {ago} s ago</b>. ")?,
    }
    match unready.is_empty() {
        true => write!(out, "Ready.</p>")?,
        false => write!(out, "<b class=bad>Not ready</b>: {}.</p>", Escaped(unready.join("; ")))?,
    }
    if let Some(error) = &last.error {
        write!(out, "<pre>{}</pre>", Escaped(error))?;
    }
    if !last.changes.is_empty() {
        write!(out, "<details><summary>What the last reload changed</summary><ul>")?;
        for change in &last.changes {
            write!(out, "<li>{}", Escaped(change))?;
        }
        write!(out, "</ul></details>")?;
    }
    Ok(())
}

fn explanation(out: &mut String, told: Option<&Result<Explanation, String>>, form: &Written) -> fmt::Result {
    write!(
        out,
        "<h2>Explain a request</h2><form method=post action=/explain>\
         <label for=method>Method</label><input id=method name=method value=\"{}\">\
         <label for=url>URL</label><input id=url name=url value=\"{}\">\
         <label for=headers>Headers</label><textarea id=headers name=headers rows=2 placeholder=\"name: value\"></textarea>\
         <label for=token>Token</label><textarea id=token name=token rows=3 autocomplete=off spellcheck=false></textarea>\
         <button>Explain</button></form>",
        Escaped(form.method.as_deref().unwrap_or("GET")),
        Escaped(form.url.as_deref().unwrap_or("/"))
    )?;
    match told {
        None => Ok(()),
        Some(Ok(told)) => write!(out, "<pre id=told>{}</pre>", Escaped(told)),
        Some(Err(error)) => write!(out, "<p class=bad>{}</p>", Escaped(error)),
    }
}

fn routes(out: &mut String, in_force: &InForce) -> fmt::Result {
    for (bind, runs) in in_force.loaded.config.binds.iter().zip(&in_force.snapshot.binds) {
        for (listener, running) in bind.listeners.iter().zip(&runs.listeners) {
            let host = listener.hostname.as_ref().map_or_else(|| "any host".to_owned(), |host| host.value.to_string());
            write!(
                out,
                "<h2>{} on {} <span class=dim>{}, {}</span></h2><div class=scroll><table><tr><th>Route<th>Protection\
                 <th>Rules<th>Backends",
                Escaped(&listener.name),
                runs.address,
                Escaped(host),
                Escaped(origin(&listener.place))
            )?;
            for (route, runs) in listener.routes.iter().zip(&running.routes) {
                let levels = [&listener.gateway_policies, &listener.policies, &route.policies];
                let protection = runs.policies.protection().as_str();
                let from = jwt_origin(levels.into_iter()).unwrap_or_else(|| "no jwtAuth".to_owned());
                write!(
                    out,
                    "<tr><td>{} <span class=dim>{}</span><td><b class={protection}>{protection}</b> <span class=dim>{}\
                     </span><td>",
                    Escaped(&route.name),
                    Escaped(origin(&route.place)),
                    Escaped(from)
                )?;
                for set in runs.policies.rules.iter() {
                    let shadow = if set.mode == crate::authz::Mode::Shadow { ", shadow" } else { "" };
                    let (count, level) = (set.rules.len(), set.level.as_str());
                    write!(out, "{count} <span class=dim>{level}{shadow}, {}</span><br>", Escaped(&set.origin))?;
                }
                let backends: Vec<_> = runs.backends.endpoints().map(|endpoint| endpoint.label.to_string()).collect();
                write!(out, "<td>{}", Escaped(backends.join(", ")))?;
            }
            write!(out, "</table></div>")?;
        }
    }
    Ok(())
}

fn providers(out: &mut String, in_force: &InForce) -> fmt::Result {
    let providers = control::providers(&in_force.snapshot);
    if providers.is_empty() {
        return Ok(());
    }
    write!(out, "<h2>Providers</h2><div class=scroll><table><tr><th>Name<th>Issuer<th>Keys<th>Age<th>Last error")?;
    for provider in providers {
        let keys = provider.keys().current().as_ref().map_or(0, |keys| keys.len());
        let issuers: Vec<_> = provider.issuers().collect();
        write!(out, "<tr><td>{}<td>{}<td>{keys}<td>", Escaped(provider.name()), Escaped(issuers.join(", ")))?;
        match provider.keys().status() {
            None => write!(out, "local<td>")?,
            Some(status) => {
                match status.age {
                    Some(age) => write!(out, "{} s<td>", age.as_secs())?,
                    None => write!(out, "never fetched<td>")?,
                }
                write!(out, "{}", Escaped(status.last_error.unwrap_or_default()))?;
            }
        }
    }
    write!(out, "</table></div>")
}

/// Refusals since the start, by reason: the counters of the metrics, added up.
fn refusals(out: &mut String, control: &Control) -> fmt::Result {
    let mut counts: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let (name, _) = Family::Requests.describe();
    for line in control.metrics.render(&[]).lines().filter(|line| line.starts_with(name)) {
        let Some((labels, count)) = line.rsplit_once(' ') else { continue };
        let Some((_, rest)) = labels.rsplit_once("reason=\"") else { continue };
        let reason = rest.trim_end_matches(['"', '}']);
        if !reason.is_empty() {
            *counts.entry(reason.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
        }
    }
    if counts.is_empty() {
        return Ok(());
    }
    write!(out, "<h2>Refusals since the start</h2><table><tr><th>Reason<th>Requests")?;
    for (reason, count) in counts {
        write!(out, "<tr><td><code>{}</code><td>{count}", Escaped(reason))?;
    }
    write!(out, "</table>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_the_page() {
        let hostile = "<script>alert('1')</script>\" onload=x & \u{1b}[31m";
        let shown = Escaped(hostile).to_string();
        assert!(!shown.contains(['<', '>', '"', '\'', '\u{1b}']), "{shown}");
        assert_eq!(Escaped("a\nb").to_string(), "a\nb");
    }
}
