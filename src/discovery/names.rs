//! The master's own COMMAND as the command room wants it described. Pure; what a name may do is judged there.

use crate::command::Described;
use crate::upstream::control::Reply;

/// The entries of a COMMAND reply; what is malformed is left out.
pub fn entries(reply: &Reply) -> Vec<Described> {
    let texts = |r: Option<&Reply>| -> Vec<String> {
        r.map(|r| r.items().iter().filter_map(|t| t.text().map(str::to_owned)).collect()).unwrap_or_default()
    };
    let entry = |r: &Reply| {
        let items = r.items();
        let name = items.first()?.bytes()?.to_ascii_lowercase();
        Some(Described { name, flags: texts(items.get(2)), tips: texts(items.get(7)) })
    };
    reply.items().iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn bulk(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn command(name: &'static str, flags: &[&'static str]) -> Reply {
        let flags = flags.iter().map(|f| Reply::Status(Bytes::from_static(f.as_bytes()))).collect();
        let mut items = vec![bulk(name), Reply::Integer(2), Reply::Array(flags)];
        items.extend([Reply::Integer(1), Reply::Integer(1), Reply::Integer(1), Reply::Array(vec![])]);
        items.push(Reply::Array(vec![bulk("nondeterministic_output")]));
        Reply::Array(items)
    }

    #[test]
    fn entries_are_described_and_nonsense_is_left_out() {
        let reply = Reply::Array(vec![
            command("JSON.GET", &["readonly"]),
            command("mod.admin", &["admin", "readonly"]),
            Reply::Nil,
            Reply::Array(vec![]),
        ]);
        let entries = entries(&reply);
        let expected = [("json.get", vec!["readonly"]), ("mod.admin", vec!["admin", "readonly"])];
        let tips = vec!["nondeterministic_output".to_owned()];
        let described = expected.map(|(name, flags)| Described {
            name: name.into(),
            flags: flags.into_iter().map(str::to_owned).collect(),
            tips: tips.clone(),
        });
        assert_eq!(entries, described);
    }
}
