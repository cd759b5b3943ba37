//! INFO: the master's own, and behind it a section on what stands between.
//!
//! Must not change a field of the node's. Invariant: the reply keeps the type the node gave it, and its length is right.

use super::Session;
use super::level::Level;
use crate::metrics::{Cell, Kind as Label, Reason};
use crate::resp::Args;
use crate::route::Want;
use crate::topology::SetPicture;

/// First word of every field.
const OWN: &str = "redweir";

impl Session {
    /// INFO [section ...].
    pub(super) async fn info(&self, request: &[u8]) -> bool {
        let lane = self.state.borrow().lane;
        let reply = match self.ask(Want::Master, request).await {
            Ok((reply, lease)) => {
                self.front.cells.routed(lease.target.node, Label::MasterRead, Reason::Master, 1);
                self.front.pool.give_back(lane, lease);
                let ours = self.front.listener.commands.redweir && asks_for_ours(request);
                if ours { with_section(&reply, &self.section()) } else { reply }
            }
            Err(text) => text,
        };
        self.reply(&reply);
        true
    }

    /// The section, as INFO writes them.
    fn section(&self) -> String {
        let place = &self.front.shared.place;
        let set = SetPicture::of(&place.set, &self.front.topology());
        let shard = set.shards.first();
        let sum = |cell: fn(&crate::metrics::Cells) -> &Cell| place.cells.iter().map(|c| cell(c).get()).sum::<u64>();
        let listener = &self.front.listener;
        let behind = set.nodes.iter().filter(|node| node.in_rotation).filter_map(|node| node.lag_seconds);
        let fields: [(&str, String); 16] = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("listener", place.address.to_string()),
            ("workers", place.cells.len().to_string()),
            ("set", set.name.clone()),
            ("epoch", set.epoch.to_string()),
            ("term", shard.map_or(0, |s| s.term).to_string()),
            ("master", shard.and_then(|s| s.master.clone()).unwrap_or_default()),
            ("writes", shard.map_or("held", |s| s.writes).to_owned()),
            ("replicas_in_rotation", shard.map_or(0, |s| s.readers).to_string()),
            ("replicas_lagging", shard.map_or(0, |s| s.lagging).to_string()),
            ("replicas_lag_most_seconds", format!("{:.3}", behind.fold(0.0, f64::max))),
            ("consistency", Level { consistency: listener.consistency, staleness: listener.reads.staleness }.label()),
            ("strict", if listener.reads.strict { "on" } else { "off" }.to_owned()),
            ("clients", sum(|c| &c.sessions).to_string()),
            ("pinned", sum(|c| &c.pinned).to_string()),
            ("held", sum(|c| &c.holding).to_string()),
        ];
        let lines: String = fields.iter().map(|(name, value)| format!("{OWN}_{name}:{value}\r\n")).collect();
        format!("# Redweir\r\n{lines}")
    }
}

/// Whether the sections asked for include ours.
fn asks_for_ours(request: &[u8]) -> bool {
    let mut sections = Args::new(request).skip(1).peekable();
    let all = ["default", "all", "everything", OWN];
    sections.peek().is_none() || sections.any(|section| all.iter().any(|w| section.eq_ignore_ascii_case(w.as_bytes())))
}

/// `reply` (a bulk or verbatim string) with `section` at its end; an error stays what it is.
fn with_section(reply: &[u8], section: &str) -> Vec<u8> {
    let Some((kind, text)) = text_of(reply) else { return reply.to_vec() };
    let head = text.strip_prefix(b"txt:").map_or(0, |_| if kind == b'=' { 4 } else { 0 });
    // Sections are parted by an empty line.
    let gap: &[u8] = if text.len() > head { b"\r\n" } else { b"" };
    let mut out = vec![kind];
    out.extend_from_slice((text.len() + gap.len() + section.len()).to_string().as_bytes());
    for part in [b"\r\n", text, gap, section.as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    out
}

/// Kind and content of a `$` or `=` reply.
fn text_of(reply: &[u8]) -> Option<(u8, &[u8])> {
    let (&kind, rest) = reply.split_first()?;
    let end = rest.iter().position(|b| *b == b'\r')?;
    let len: usize = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
    let text = rest.get(end + 2..)?.get(..len)?;
    matches!(kind, b'$' | b'=').then_some((kind, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode;

    #[test]
    fn the_section_is_part_of_what_stands_for_many() {
        for (line, expected) in [
            ("INFO", true),
            ("INFO redweir", true),
            ("info server REDWEIR", true),
            ("INFO Everything", true),
            ("INFO all", true),
            ("INFO default", true),
            ("INFO server", false),
            ("INFO server clients", false),
        ] {
            let mut request = Vec::new();
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            encode::request(&mut request, words.into_iter());
            assert_eq!(asks_for_ours(&request), expected, "{line}");
        }
    }

    #[test]
    fn a_reply_keeps_its_type_and_gets_its_length() {
        let table: [(&[u8], &[u8]); 7] = [
            (b"$6\r\n# A\r\nb\r\n", b"$11\r\n# A\r\nb\r\n# C\r\n"),
            (b"$0\r\n\r\n", b"$3\r\n# C\r\n"),
            (b"=10\r\ntxt:# A\r\nb\r\n", b"=15\r\ntxt:# A\r\nb\r\n# C\r\n"),
            (b"=4\r\ntxt:\r\n", b"=7\r\ntxt:# C\r\n"),
            (b"-NOAUTH Authentication required.\r\n", b"-NOAUTH Authentication required.\r\n"),
            (b"$-1\r\n", b"$-1\r\n"),
            (b"", b""),
        ];
        for (reply, expected) in table {
            let got = with_section(reply, "# C");
            assert_eq!(got, expected, "{}: {}", reply.escape_ascii(), got.escape_ascii());
        }
    }
}
