//! The status page: the picture of `/topology` as plain HTML for a person. No scripts, nothing fetched from elsewhere.
//!
//! Pure. Invariant: every text that came from outside (names, addresses, versions) is escaped.

use std::fmt::Write;

use super::{Picture, Shown};
use crate::metrics::Queue;
use crate::topology::{NodePicture, SetPicture};

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"2\"><title>redweir</title>\
<style>\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}\
h1,h2{margin:1.5rem 0 .3rem}p{margin:.3rem 0}table{border-collapse:collapse;width:100%;margin-top:.6rem}\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8885;white-space:nowrap}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#c22;font-weight:600}.out{opacity:.6}\
</style></head><body>";

pub(super) fn render(picture: &Picture) -> String {
    let mut html = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = write!(
        html,
        "<h1>redweir {}</h1><p>Up {} since {}, {} workers. <a href=\"/topology\">topology</a> \
         <a href=\"/metrics\">metrics</a> <a href=\"/readyz\">readiness</a></p>",
        escape(picture.version),
        humantime::format_duration(std::time::Duration::from_secs(picture.uptime_seconds)),
        escape(&picture.started),
        picture.workers,
    );
    for Shown { set, held } in &picture.sets {
        set_section(&mut html, set, *held);
    }
    html.push_str("</body></html>\n");
    html
}

fn set_section(html: &mut String, set: &SetPicture, held: Queue) {
    let class = if set.is_ready() { "" } else { " class=\"bad\"" };
    let _ = write!(html, "<h2>{}</h2><p{class}>{}.</p>", escape(&set.name), escape(&set.readiness()));
    if held.sessions > 0 {
        let Queue { sessions, bytes, oldest_seconds } = held;
        let _ = write!(html, "<p>{sessions} clients wait, {bytes} bytes, for {oldest_seconds:.1} s at most.</p>");
    }
    for shard in &set.shards {
        let _ = write!(
            html,
            "<p>Slots {}: writes {} (master {}), {} readers, {} lagging. Term {}, epoch {}, lineage {}.</p>",
            escape(&shard.slots),
            shard.writes,
            escape(shard.master.as_deref().unwrap_or("none")),
            shard.readers,
            shard.lagging,
            shard.term,
            set.epoch,
            escape(if shard.lineage.id.is_empty() { "unknown" } else { &shard.lineage.id }),
        );
        if let Some(switch) = &shard.last_switch {
            let class = if switch.lost_writes.unwrap_or(0) > 0 { " class=\"bad\"" } else { "" };
            let _ = write!(html, "<p{class}>{}.</p>", escape(&switch.line()));
        }
    }
    html.push_str(
        "<table><tr><th>node<th>role<th>state<th>in rotation<th class=\"n\">lag<th class=\"n\">lag bytes\
         <th class=\"n\">offset<th class=\"n\">weight<th>zone<th>version</tr>",
    );
    for node in &set.nodes {
        node_row(html, node);
    }
    html.push_str("</table>");
}

fn node_row(html: &mut String, node: &NodePicture) {
    let class = if node.in_rotation { "" } else { " class=\"out\"" };
    let _ = write!(
        html,
        "<tr{class}><td>{}<td>{}<td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
         <td>{}<td>{}</tr>",
        escape(&node.address),
        node.role,
        node.state,
        if node.in_rotation { "yes" } else { "no" },
        node.lag_seconds.map_or_else(String::new, |lag| format!("{lag:.3} s")),
        shown(node.lag_bytes),
        shown(node.offset),
        shown(node.weight),
        escape(node.zone.as_deref().unwrap_or_default()),
        escape(node.version.as_deref().unwrap_or_default()),
    );
}

/// The figure, or nothing when it is not known.
fn shown(figure: Option<impl ToString>) -> String {
    figure.map_or_else(String::new, |figure| figure.to_string())
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    #[test]
    fn names_from_outside_cannot_write_html() {
        let set = SetPicture::of("<script>&\"'", &Topology::empty());
        let picture = Picture {
            version: "1",
            started: String::new(),
            uptime_seconds: 61,
            workers: 2,
            sets: vec![Shown { set, held: Queue::default() }],
        };
        let html = render(&picture);
        assert!(html.contains("<h2>&lt;script&gt;&amp;&quot;&#39;</h2>"));
        assert!(html.contains("Up 1m 1s"));
        assert!(!html.contains("<script"));
    }
}
